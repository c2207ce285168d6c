#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/api.h"
#include "admin/assets.h"
#include "admin/census.h"
#include "admin/metrics.h"

/* ---- look-up ---- */

struct lookup {
    struct stream_key key;
    enum place_kind kind;
};

static struct view view_of(const char *s)
{
    return (struct view){.p = (const uint8_t *)s, .len = s ? strlen(s) : 0};
}

static bool read_lookup(struct api *a, const struct http_request *req, struct lookup *l,
                        struct http_reply *reply)
{
    const char *app = http_param(req->target, "app"), *name = http_param(req->target, "name"),
               *kind = http_param(req->target, "kind"), *vhost = http_param(req->target, "vhost");
    l->kind = kind && strcmp(kind, "play") == 0 ? PLACE_PLAY : PLACE_PUBLISH;
    if (kind && strcmp(kind, "play") != 0 && strcmp(kind, "publish") != 0) {
        http_reply_problem(reply, 400, "kind: publish or play is allowed");
        return false;
    }
    const struct view host = view_of(a->config->placement.vhost ? vhost : NULL);
    if (app && name && stream_key_make(view_of(app), view_of(name), host, &l->key) == ERR_OK)
        return true;
    http_reply_problem(reply, 400,
                       "app and name of a stream are needed, as in ?app=live&name=cam1");
    return false;
}

static json_t *view_lookup(const struct lookup *l, const struct place_result *r,
                           const struct place_candidate *list)
{
    char hash[10];
    json_t *candidates = json_array();
    for (uint32_t i = 0; i < r->candidate_count; i++) {
        if (json_array_append_new(candidates, view_candidate(&list[i])) != 0) {
            json_decref(candidates);
            return NULL;
        }
    }
    stream_key_short(&l->key, hash);
    return json_pack("{s:o, s:s, s:s, s:s?, s:s, s:b, s:o}", "key", view_text(l->key.text), "hash",
                     hash, "kind", l->kind == PLACE_PLAY ? "play" : "publish", "node",
                     r->node ? r->node->conf.id : NULL, "reason", place_reason_name(r->reason),
                     "panic", (int)r->panic, "candidates", candidates);
}

/* The facts that a router has, and the function it asks. */
static enum err look_up(struct api *a, const struct lookup *l, struct node_table *nodes,
                        struct http_reply *reply)
{
    const enum err e = store_nodes_read(a->store, nodes, a->now_ms);
    const struct api_claim c = api_claim_of(a, &l->key);
    if (e != ERR_OK || (c.e != ERR_OK && c.e != ERR_NOT_FOUND))
        return e != ERR_OK ? e : c.e;
    const bool known = c.e == ERR_OK;
    const bool is_hint = known && (c.claim.state == CLAIM_HINT ||
                                   (c.claim.state == CLAIM_FOUND && l->kind == PLACE_PLAY));
    const struct place_request req = {
        .key = &l->key,
        .kind = l->kind,
        .owner = known && c.claim.state == CLAIM_LIVE ? claim_serving(&c.claim) : NULL,
        .hint = is_hint ? c.claim.node : NULL,
        .now_wall_ms = a->now_ms,
        .now_mono_ms = a->mono_ms,
    };
    struct place_candidate *list = calloc(nodes->count + 1u, sizeof *list);
    if (!list)
        return ERR_NO_MEMORY;
    struct place_result r;
    place(nodes, &a->config->placement, &req, list, &r);
    http_reply_json(reply, 200, view_lookup(l, &r, list));
    free(list);
    return ERR_OK;
}

void api_lookup(struct api *a, const struct http_request *req, struct api_call *call,
                struct http_reply *reply)
{
    (void)call;
    struct lookup l;
    struct node_table *nodes = NULL;
    if (!read_lookup(a, req, &l, reply))
        return;
    enum err e = node_table_create(a->config->cluster_name, &nodes);
    if (e == ERR_OK)
        e = look_up(a, &l, nodes, reply);
    if (e != ERR_OK)
        api_store_failed(reply, e);
    node_table_destroy(nodes);
}

/* ---- processes ---- */

void api_worker_list(struct api *a, const struct http_request *req, struct api_call *call,
                     struct http_reply *reply)
{
    (void)req;
    (void)call;
    struct process_record *list = NULL;
    uint32_t count = 0;
    const enum err e = census_processes(a->store, &list, &count);
    if (e != ERR_OK) {
        api_store_failed(reply, e);
        return;
    }
    json_t *items = json_array();
    bool good = true;
    for (uint32_t i = 0; good && i < count; i++) {
        const bool left = census_stands_by(&list[i]) && !census_alive(&list[i], a->now_ms);
        good = left || json_array_append_new(items, view_process(&list[i], a->now_ms)) == 0;
    }
    http_reply_json(reply, 200, good ? view_list(items, NULL) : NULL);
    if (!good)
        json_decref(items);
    free(list);
}

/* ---- the cluster ---- */

static json_t *number(uint64_t v)
{
    return json_integer((json_int_t)v);
}

/* Different versions among the living: an upgrade is under way, or was forgotten. */
static json_t *versions_of(const struct process_record *list, uint32_t count, uint64_t now_ms)
{
    json_t *versions = json_object(), *array = json_array();
    const char *version;
    json_t *unused;
    bool whole = true;
    for (uint32_t i = 0; i < count && whole; i++) {
        if (census_alive(&list[i], now_ms))
            whole = json_object_set_new(versions, list[i].version, json_true()) == 0;
    }
    json_object_foreach(versions, version, unused) whole =
        whole && json_array_append_new(array, json_string(version)) == 0;
    json_decref(versions);
    if (whole)
        return array;
    json_decref(array);
    return NULL;
}

static json_t *view_cluster(const struct api *a, enum token_scope scope, const struct census *c,
                            const struct process_record *list, uint32_t count)
{
    json_t *nodes = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "total", number(c->nodes),
                              "enabled", number(c->nodes_enabled), "drain", number(c->nodes_drain),
                              "disabled", number(c->nodes_disabled), "leaving",
                              number(c->nodes_leaving), "up", number(c->nodes_up), "down",
                              number(c->nodes_down), "unknown", number(c->nodes_unknown));
    json_t *sessions = json_pack("{s:o, s:o, s:o}", "total", number(c->sessions), "publishers",
                                 number(c->publishers), "players", number(c->players));
    json_t *processes =
        json_pack("{s:o, s:o, s:o, s:o, s:o}", "routers", number(c->routers), "workers",
                  number(c->workers), "workers_behind", number(c->workers_behind), "healthds",
                  number(c->healthds), "admins", number(c->admins));
    return json_pack("{s:s, s:s, s:o, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}",
                     "name", a->config->cluster_name, "version", WEIR_VERSION, "time",
                     view_time(a->now_ms), "panic", (int)c->panic, "moves_streams",
                     a->config->failover.max_moves > 0, "nodes_version", number(c->nodes_version),
                     "nodes", nodes, "streams", number(c->streams), "sessions", sessions,
                     "processes", processes, "bandwidth_in_bps", number(c->bandwidth_in),
                     "bandwidth_out_bps", number(c->bandwidth_out), "versions",
                     versions_of(list, count, a->now_ms), "scope", token_scope_name(scope));
}

/* What both /cluster and /metrics are made of. */
struct overview {
    struct facts facts;
    struct process_record *processes;
    uint32_t process_count;
    struct census census;
};

static enum err overview_read(struct api *a, struct overview *o)
{
    *o = (struct overview){0};
    enum err e = facts_read(a->store, a->config->cluster_name, a->now_ms, &o->facts);
    if (e != ERR_OK)
        return e;
    uint64_t streams = 0;
    e = census_streams(a->store, &streams);
    if (e == ERR_OK)
        e = census_processes(a->store, &o->processes, &o->process_count);
    if (e != ERR_OK)
        facts_clear(&o->facts);
    else
        census_take(&o->facts, o->processes, o->process_count, streams, &a->config->placement,
                    a->now_ms, &o->census);
    return e;
}

static void overview_clear(struct overview *o)
{
    facts_clear(&o->facts);
    free(o->processes);
}

void api_cluster_get(struct api *a, const struct http_request *req, struct api_call *call,
                     struct http_reply *reply)
{
    (void)req;
    struct overview o;
    const enum err e = overview_read(a, &o);
    if (e != ERR_OK) {
        api_store_failed(reply, e);
        return;
    }
    http_reply_json(reply, 200,
                    view_cluster(a, call->scope, &o.census, o.processes, o.process_count));
    overview_clear(&o);
}

void api_metrics(struct api *a, const struct http_request *req, struct api_call *call,
                 struct http_reply *reply)
{
    (void)req;
    (void)call;
    struct overview o = {0};
    const bool store_up = overview_read(a, &o) == ERR_OK;
    const struct metrics_facts f = {
        .facts = store_up ? &o.facts : NULL,
        .processes = o.processes,
        .process_count = o.process_count,
        .now_ms = a->now_ms,
        .cluster = {.census = o.census,
                    .store_up = store_up,
                    .panic = o.census.panic,
                    .requests = a->requests_recorded,
                    .connections = a->connections,
                    .event_streams = a->event_streams},
    };
    char *text = metrics_write(&f, &reply->len);
    if (store_up)
        overview_clear(&o);
    if (!text) {
        http_reply_problem(reply, 500, "out of memory");
        return;
    }
    reply->status = 200;
    reply->content_type = "text/plain; version=0.0.4; charset=utf-8";
    reply->cache_control = "no-store";
    reply->body = text;
}

/* ---- the rest ---- */

void api_config_get(struct api *a, const struct http_request *req, struct api_call *call,
                    struct http_reply *reply)
{
    (void)req;
    (void)call;
    FILE *out = open_memstream(&reply->body, &reply->len);
    if (out)
        config_print(a->config, out); /* the file of tokens by its name, never a token */
    if (!out || fclose(out) != 0) {
        http_reply_problem(reply, 500, "out of memory");
        return;
    }
    reply->status = 200;
    reply->content_type = "application/yaml";
    reply->cache_control = "no-store";
}

void api_healthz(struct api *a, const struct http_request *req, struct api_call *call,
                 struct http_reply *reply)
{
    (void)a;
    (void)req;
    (void)call;
    http_reply_json(reply, 200, json_pack("{s:s, s:s}", "status", "ok", "version", WEIR_VERSION));
}

void api_readyz(struct api *a, const struct http_request *req, struct api_call *call,
                struct http_reply *reply)
{
    (void)req;
    (void)call;
    uint64_t version;
    const enum err e = store_nodes_version(a->store, &version);
    if (e == ERR_OK)
        http_reply_json(reply, 200, json_pack("{s:s}", "status", "ready"));
    else
        api_store_failed(reply, e);
}

void api_openapi(struct api *a, const struct http_request *req, struct api_call *call,
                 struct http_reply *reply)
{
    (void)a;
    (void)call;
    asset_reply(&asset_openapi, "application/json", req->if_none_match, reply);
}

void api_dashboard(struct api *a, const struct http_request *req, struct api_call *call,
                   struct http_reply *reply)
{
    static const char type[] = "text/html; charset=utf-8";
    (void)a;
    (void)call;
    asset_reply(&asset_dashboard, type, req->if_none_match, reply);
    asset_policy(&asset_dashboard, reply->policy);
}
