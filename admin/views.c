#include "admin/views.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "admin/census.h"
#include "admin/http.h"
#include "config/json_text.h"

/* ---- values ---- */

void view_time_text(uint64_t ms, char buf[VIEW_TIME_MAX])
{
    const time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm)) {
        buf[0] = '\0';
        return;
    }
    const size_t n = strftime(buf, VIEW_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(buf + n, VIEW_TIME_MAX - n, ".%03uZ", (unsigned)(ms % 1000));
}

json_t *view_time(uint64_t ms)
{
    char buf[VIEW_TIME_MAX];
    if (ms == 0)
        return json_null();
    view_time_text(ms, buf);
    return json_string(buf);
}

json_t *view_text(const char *s)
{
    return json_text_string(s);
}

json_t *view_text_or_null(const char *s)
{
    return s[0] ? view_text(s) : json_null();
}

void view_worker_text(const struct worker_id *w, char buf[VIEW_WORKER_MAX])
{
    (void)snprintf(buf, VIEW_WORKER_MAX, "%s/%u", w->router, (unsigned)w->slot);
}

void view_session_id(uint64_t id, char buf[VIEW_ID_MAX])
{
    (void)snprintf(buf, VIEW_ID_MAX, "%" PRIu64, id);
}

enum err view_session_id_parse(const char *text, uint64_t *id)
{
    const size_t len = strlen(text);
    uint64_t v = 0;
    if (len == 0 || len > 19 || strspn(text, "0123456789") != len)
        return ERR_INVALID;
    for (; *text; text++)
        v = v * 10 + (uint64_t)(*text - '0');
    *id = v;
    return ERR_OK;
}

static json_t *number(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static json_t *worker(const struct worker_id *w)
{
    char text[VIEW_WORKER_MAX];
    view_worker_text(w, text);
    return w->router[0] ? json_string(text) : json_null();
}

static json_t *session_id(uint64_t id)
{
    char text[VIEW_ID_MAX];
    view_session_id(id, text);
    return id ? json_string(text) : json_null();
}

static json_t *stream_hash(const struct stream_key *k)
{
    char text[10];
    stream_key_short(k, text);
    return json_string(text);
}

/* A member that takes over value. False when memory is short, then or before. */
static bool put(json_t *o, const char *name, json_t *value)
{
    return json_object_set_new(o, name, value) == 0;
}

/* ---- nodes ---- */

static json_t *resolved_address(const struct sockaddr_storage *a)
{
    char host[INET6_ADDRSTRLEN], port[8], text[ADDRESS_TEXT_MAX];
    const socklen_t len =
        a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (a->ss_family == AF_UNSPEC ||
        getnameinfo((const struct sockaddr *)a, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return json_null();
    (void)snprintf(text, sizeof text, a->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return json_string(text);
}

static const char *send_proxy_name(enum send_proxy p)
{
    return p == SEND_PROXY_V1 ? "v1" : p == SEND_PROXY_V2 ? "v2" : "off";
}

static bool put_status(json_t *o, const struct view_node *v)
{
    static const struct node_status none;
    const struct node_status *s = v->status ? v->status : &none;
    /* an old verdict does not count once nobody renews it */
    const bool stale = v->node->health == NODE_UNKNOWN && s->health != NODE_UNKNOWN;
    return put(o, "reason", view_text_or_null(stale ? "healthd is not running" : s->reason)) &&
           put(o, "checked_at", view_time(s->checked_ms)) &&
           put(o, "latency_us", s->latency_us ? number(s->latency_us) : json_null()) &&
           put(o, "bandwidth_in_bps", number(s->bandwidth_in)) &&
           put(o, "bandwidth_out_bps", number(s->bandwidth_out)) &&
           put(o, "clients", number(s->clients)) && put(o, "publishers", number(s->publishers)) &&
           put(o, "version", view_text_or_null(s->version)) &&
           put(o, "pid", s->pid ? number(s->pid) : json_null()) &&
           put(o, "process_started_at", view_time(s->process_started_ms)) &&
           put(o, "generations", number(s->generations)) &&
           put(o, "skewed", json_boolean(s->skewed)) && put(o, "stuck", json_boolean(s->stuck)) &&
           put(o, "flapping", json_boolean(s->flapping)) && put(o, "checks", number(s->checks)) &&
           put(o, "check_failures", number(s->failures)) &&
           put(o, "transitions", number(s->transitions)) &&
           put(o, "dial_failures", number(v->failed ? v->failed->count : 0)) &&
           put(o, "dial_failed_at", view_time(v->failed ? v->failed->last_ms : 0));
}

json_t *view_node(const struct view_node *v)
{
    const struct node *n = v->node;
    const struct config_node *c = &n->conf;
    json_t *o = json_object();
    const bool good =
        put(o, "id", json_string(c->id)) && put(o, "rtmp", json_string(c->rtmp)) &&
        put(o, "address", resolved_address(&n->addr)) &&
        put(o, "stat", view_text_or_null(c->stat)) && put(o, "weight", number(c->weight)) &&
        put(o, "max_streams", number(c->max_streams)) &&
        put(o, "max_sessions", number(c->max_sessions)) &&
        put(o, "max_bandwidth_bps", number(c->max_bandwidth)) &&
        put(o, "send_proxy", json_string(send_proxy_name(c->send_proxy))) &&
        put(o, "state", json_string(node_admin_name(n->admin))) &&
        put(o, "source", json_string(n->source == NODE_FROM_API ? "api" : "config")) &&
        put(o, "leaving", json_boolean(n->leaving)) &&
        put(o, "health", json_string(node_health_name(n->health))) &&
        put(o, "health_since", view_time(n->health_since_ms)) &&
        put(o, "streams", number(n->streams)) && put(o, "sessions", number(n->sessions)) &&
        put_status(o, v);
    if (good)
        return o;
    json_decref(o);
    return NULL;
}

/* ---- streams and sessions ---- */

static const char *claim_state_name(enum claim_state s)
{
    static const char *const names[] = {
        [CLAIM_LIVE] = "live", [CLAIM_HINT] = "held", [CLAIM_FOUND] = "found"};
    return names[s];
}

static json_t *stream_href(const struct stream_key *k)
{
    char text[3 * STREAM_KEY_MAX + 32] = "/api/v1/streams/";
    const size_t n = strlen(text);
    return http_percent_encode(k->text, text + n, sizeof text - n) == ERR_OK ? json_string(text)
                                                                             : NULL;
}

json_t *view_stream(const struct view_stream *v)
{
    const struct claim *c = &v->claim;
    const bool live = c->state == CLAIM_LIVE;
    const struct session_record *p = &v->publisher;
    return json_pack(
        "{s:o, s:o, s:o, s:s, s:s, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "key",
        view_text(c->key.text), "hash", stream_hash(&c->key), "href", stream_href(&c->key), "state",
        claim_state_name(c->state), "node", c->node, "moving_to", view_text_or_null(c->next),
        "movable", (int)(v->movable && live && !c->next[0]), "home", view_text_or_null(v->home),
        "worker", live ? worker(&c->worker) : json_null(), "publisher",
        live ? session_id(c->session) : json_null(), "client", view_text_or_null(p->client),
        "since", view_time(c->since_ms), "epoch", number(c->epoch), "players", number(v->players),
        "bytes_in", number(p->bytes_in), "bitrate_bps", number(p->bitrate));
}

json_t *view_session(const struct session_record *r)
{
    return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id",
                     session_id(r->id), "kind", r->kind == SESSION_PUBLISH ? "publish" : "play",
                     "stream", view_text(r->key.text), "stream_hash", stream_hash(&r->key),
                     "client", view_text(r->client), "node", view_text_or_null(r->node), "worker",
                     worker(&r->worker), "started_at", view_time(r->started_ms), "bytes_in",
                     number(r->bytes_in), "bytes_out", number(r->bytes_out), "bitrate_bps",
                     number(r->bitrate), "rehomes", number(r->rehomes));
}

/* ---- processes ---- */

static json_t *closed_by_reason(const struct process_record *p)
{
    json_t *o = json_object();
    for (unsigned why = WHY_NONE + 1; why < WHY_COUNT; why++) {
        if (p->closed[why] &&
            !put(o, close_why_name((enum close_why)why), number(p->closed[why]))) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

static bool put_router(json_t *o, const struct process_record *p)
{
    return put(o, "sessions", number(p->sessions)) && put(o, "publishers", number(p->publishers)) &&
           put(o, "players", number(p->players)) && put(o, "accepted", number(p->accepted)) &&
           put(o, "refused", number(p->refused)) && put(o, "placed", number(p->placed)) &&
           put(o, "retried", number(p->retried)) &&
           put(o, "failed_dials", number(p->failed_dials)) &&
           put(o, "taken_over", number(p->taken_over)) &&
           put(o, "players_moved", number(p->players_moved)) &&
           put(o, "store_errors", number(p->store_errors)) &&
           put(o, "bytes_in", number(p->bytes_in)) && put(o, "bytes_out", number(p->bytes_out)) &&
           put(o, "closed", closed_by_reason(p)) &&
           put(o, "memory_bytes", number(p->memory_bytes)) &&
           put(o, "loop_turn_max_us", number(p->loop_turn_max_us)) &&
           put(o, "nodes_version", number(p->nodes_version));
}

json_t *view_process(const struct process_record *p, uint64_t now_ms)
{
    static const char *const kinds[] = {
        [PROCESS_ROUTER] = "router", [PROCESS_HEALTHD] = "healthd", [PROCESS_ADMIN] = "admin"};
    const bool alive = census_alive(p, now_ms);
    json_t *o = json_pack("{s:s, s:o, s:b, s:i, s:o, s:o, s:o}", "kind", kinds[p->kind], "worker",
                          worker(&p->id), "alive", alive, "pid", (int)p->pid, "version",
                          view_text(p->version), "started_at", view_time(p->started_ms), "beat_at",
                          view_time(p->beat_ms));
    const bool is_router = p->kind == PROCESS_ROUTER;
    if (!o || (is_router && !put_router(o, p)) ||
        (p->kind == PROCESS_HEALTHD && !(put(o, "standby", json_boolean(census_stands_by(p))) &&
                                         put(o, "checks", number(p->checks)) &&
                                         put(o, "check_failures", number(p->check_failures)) &&
                                         put(o, "transitions", number(p->transitions)))) ||
        (p->kind == PROCESS_ADMIN && !put(o, "requests", number(p->requests)))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* ---- look-up, events, lists ---- */

json_t *view_candidate(const struct place_candidate *c)
{
    return json_pack("{s:s, s:o, s:b, s:s, s:s, s:s, s:o, s:o}", "id", c->node->conf.id, "score",
                     isfinite(c->score) ? json_real(c->score) : json_null(), "eligible",
                     c->why == PLACE_OK, "why", place_why_name(c->why), "state",
                     node_admin_name(c->node->admin), "health", node_health_name(c->node->health),
                     "streams", number(c->node->streams), "bound",
                     c->bound == UINT32_MAX ? json_null() : number(c->bound));
}

json_t *view_event(const struct store_event *e)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "id", number(e->id), "time",
                     view_time(e->time_ms), "kind", view_text(e->kind), "subject",
                     view_text(e->subject), "node", view_text_or_null(e->node));
}

json_t *view_list(json_t *items, const char *next)
{
    return json_pack("{s:o, s:s?}", "items", items, "next", next);
}
