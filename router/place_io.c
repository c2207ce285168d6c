#define _GNU_SOURCE
#include "router/place_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock_io.h"
#include "router/audience_io.h"
#include "router/changes_io.h"
#include "router/record_io.h"
#include "router/share_io.h"

enum {
    PLACE_ROUNDS_MAX = 8,       /* somebody else was faster, or the node filled up: decide again */
    DIAL_FAILED_EVERY_MS = 250, /* healthd is told of a node at most so often */
};

/* A store call on its way: answers to older ones are stale. */
struct place_call {
    struct session_conn *c;
    uint32_t serial;
    struct stream_key key;
    enum place_reason reason;
    char node[NODE_ID_MAX];
    bool takes_over;
};

static void look_up(struct session_conn *c);

static bool stale(const struct place_call *call)
{
    const struct session *s = &call->c->s;
    const bool awaited = s->state == SESS_REHOME
                             ? s->rehome.phase == RH_LOOKUP
                             : s->state == SESS_PLACE && s->phase == PHASE_LOOKUP;
    return call->c->dead || call->serial != call->c->place_serial || !awaited;
}

static struct place_call *call_alloc(struct session_conn *c)
{
    struct place_call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->c = c;
    call->serial = c->place_serial;
    call->key = c->s.key;
    c->place_waiting++;
    return call;
}

static struct place_call *call_create(struct session_conn *c)
{
    struct place_call *call = call_alloc(c);
    if (!call)
        session_post(c, &(struct session_event){.kind = SE_CLOSE, .why = WHY_LIMIT_MEMORY});
    return call;
}

static struct session_conn *call_end(struct place_call *call)
{
    struct session_conn *c = call->c;
    c->place_waiting--;
    free(call);
    return c;
}

/* The one we took over from, and waiting players, may be this worker's own. */
static void tell_claim(struct worker *w, const struct claim *claim, bool took_over)
{
    const bool here = took_over && strcmp(claim->previous.router, w->id.router) == 0;
    audience_ring(w, &claim->key, here ? UINT64_C(1) << claim->previous.slot : 0);
    changes_read(w);
}

static void placed(struct session_conn *c, const char *node, enum place_reason reason,
                   const struct claim *claim, bool took_over)
{
    struct worker *w = c->w;
    char id[NODE_ID_MAX];
    memcpy(id, node, sizeof id);
    const bool wait = claim && took_over && !claim->released && claim->previous_epoch != 0;
    memcpy(c->s.node, id, sizeof id);
    if (!claim) /* else it is there. First: a publisher elsewhere, which counts on its audience,
                   must see this player */
        record_put(c);
    c->placed_us = clock_mono_us();
    process_histogram_add(&w->process.setup[SETUP_LOOKUP], c->placed_us - c->asked_us);
    c->told_epoch = c->found_live ? c->s.stream->found.epoch : 0;
    c->mover = c->found_live ? c->s.stream->found.worker : (struct worker_id){0};
    session_post(c, &(struct session_event){.kind = SE_PLACED,
                                            .node = id,
                                            .reason = reason,
                                            .epoch = claim ? claim->epoch : 0,
                                            .publication =
                                                c->found_live ? c->s.stream->found.publication : 0,
                                            .took_over = took_over,
                                            .wait_release = wait});
    if (claim)
        tell_claim(w, claim, took_over);
}

static void log_panic(struct worker *w, bool panic)
{
    if (panic == w->panic)
        return;
    w->panic = panic;
    LOG(&w->log, LOG_WARN, panic ? EV_PANIC_ENTERED : EV_PANIC_LEFT,
        log_text(K_DETAIL, panic ? "too few nodes are up: streams are placed on all enabled ones"
                                 : "enough nodes are up again"));
}

static void nowhere(struct session_conn *c)
{
    session_post(c, &(struct session_event){.kind = SE_UNPLACED, .why = WHY_NO_NODE});
}

void place_count_stream(struct worker *w, const char *node, bool more)
{
    struct node *n = node_table_find(w->nodes, node);
    if (n && more)
        n->streams++;
    else if (n && n->streams > 0)
        n->streams--;
}

/* A claim that was won too late. */
static void give_back(struct session_conn *c, const struct stream_key *key, uint64_t epoch)
{
    struct worker *w = c->w;
    const struct claim_end end = {.key = key,
                                  .epoch = epoch,
                                  .session = c->recorded ? 0 : c->s.id,
                                  .now_ms = clock_wall_ms()};
    c->record_stale = c->recorded; /* it was written for this claim last */
    (void)worker_store_ok(w, store_claim_release(w->store, &end), "claim");
}

static void on_claim_taken(void *arg, enum err e, const struct claim *claim)
{
    struct place_call *call = arg;
    const bool is_stale = stale(call);
    struct place_call was = *call;
    struct session_conn *c = call_end(call);
    struct worker *w = c->w;
    if (is_stale) {
        if (e == ERR_OK) /* won for a publication that is no more */
            give_back(c, &was.key, claim->epoch);
        return;
    }
    if (e == ERR_OK) {
        record_note_written(c, true);
        if (c->found_live)
            place_count_stream(w, c->s.stream->found.node, false);
        place_count_stream(w, was.node, true);
        placed(c, was.node, was.reason, claim, was.takes_over);
    } else if ((e == ERR_CONFLICT || e == ERR_FULL) && c->place_rounds < PLACE_ROUNDS_MAX) {
        if (e == ERR_FULL &&
            !worker_store_ok(w, store_loads_read(w->store, w->nodes, clock_wall_ms()), "loads"))
            c->place_rounds = PLACE_ROUNDS_MAX;
        look_up(c);
    } else if (e == ERR_CONFLICT || e == ERR_FULL) {
        nowhere(c);
    } else { /* the store is away: the hash alone decides, and reconcile() takes the claim */
        (void)worker_store_ok(w, e, "claim");
        placed(c, was.node, was.reason, NULL, false);
    }
}

/* For the session's key and call->node, in place of the live claim that was found, if any. */
static void ask_claim(struct place_call *call, uint32_t bound, uint64_t now_wall_ms,
                      store_claim_cb *cb)
{
    struct session_conn *c = call->c;
    const struct session_record record = record_of(c, call->node);
    struct claim_request req = {
        .key = &call->key,
        .node = call->node,
        .bound = bound,
        .worker = c->w->id,
        .session = c->s.id,
        .expect_epoch = c->found_live ? c->s.stream->found.epoch : 0,
        .now_ms = now_wall_ms,
        .hold_ms = c->w->config->placement.hold_ms,
        .args_hash = c->s.args_hash,
        .record = &record,
    };
    if (c->addr_own)
        memcpy(req.client_addr, c->addr, sizeof req.client_addr);
    store_claim_take(c->w->store, &req, cb, call);
}

static void take_claim(struct session_conn *c, const struct place_result *r, uint64_t now_wall_ms)
{
    struct place_call *call = call_create(c);
    if (!call)
        return;
    const bool own = c->found_live && c->s.stream->found.session == c->s.id;
    call->reason = r->reason;
    call->takes_over = c->found_live && !own;
    memcpy(call->node, r->node->conf.id, sizeof call->node);
    ask_claim(call, r->reason == PLACED_CLAIM ? UINT32_MAX : r->bound, now_wall_ms, on_claim_taken);
}

static void on_missed_claim_taken(void *arg, enum err e, const struct claim *claim)
{
    struct place_call *call = arg;
    const struct place_call was = *call;
    struct session_conn *c = call_end(call);
    struct worker *w = c->w;
    const bool is_stale = c->dead || was.serial != c->place_serial || !place_misses_claim(c);
    if (is_stale && e == ERR_OK)
        give_back(c, &was.key, claim->epoch);
    if (is_stale)
        return;
    if (e == ERR_CONFLICT) { /* whoever has it is the publisher for everybody else */
        session_post(c, &(struct session_event){.kind = SE_TAKEN_OVER});
        return;
    }
    if (!worker_store_ok(w, e, "claim"))
        return;
    c->s.claim_epoch = claim->epoch;
    record_note_written(c, true);
    place_count_stream(w, was.node, true);
    tell_claim(w, claim, was.takes_over);
}

bool place_misses_claim(const struct session_conn *c)
{
    const struct session *s = &c->s;
    return s->kind == SESSION_PUBLISH && s->placed && s->claim_epoch == 0 && s->state == SESS_RELAY;
}

void place_take_missed_claim(struct session_conn *c)
{
    struct place_call *call = call_alloc(c);
    if (!call) {
        (void)worker_store_ok(c->w, ERR_NO_MEMORY, "claim");
        return;
    }
    call->takes_over = c->found_live && c->s.stream->found.session != c->s.id;
    memcpy(call->node, c->s.node, sizeof call->node);
    ask_claim(call, UINT32_MAX, clock_wall_ms(), on_missed_claim_taken);
}

static bool same_client(const struct session_conn *c, const struct claim *live)
{
    static const uint8_t nobody[16];
    if (c->s.args_hash != 0 && c->s.args_hash == live->args_hash)
        return true;
    return c->addr_own && memcmp(live->client_addr, nobody, 16) != 0 &&
           memcmp(live->client_addr, c->addr, 16) == 0;
}

static bool may_take_over(const struct session_conn *c)
{
    switch (c->w->config->placement.duplicate_publish) {
    case DUPLICATE_TAKEOVER:
        return true;
    case DUPLICATE_REJECT:
        return false;
    case DUPLICATE_TAKEOVER_SAME_CLIENT:
        return same_client(c, &c->s.stream->found);
    }
    return false;
}

/* For a live session: its records follow when it is there, and a publisher's claim when the node
 * has the stream. */
static void placed_anew(struct session_conn *c, const char *node)
{
    char id[NODE_ID_MAX];
    const bool follow = c->found_live && c->s.kind == SESSION_PLAY && c->s.stream->found.next[0] &&
                        strcmp(c->s.stream->found.next, node) == 0;
    const bool stays = c->found_live && c->s.kind == SESSION_PLAY && c->s.stream->found.stays &&
                       strcmp(claim_serving(&c->s.stream->found), node) == 0;
    memcpy(id, node, sizeof id);
    if (c->found_live && c->s.kind == SESSION_PLAY) {
        c->told_epoch = c->s.stream->found.epoch;
        c->mover = c->s.stream->found.worker;
    }
    session_post(c, &(struct session_event){
                        .kind = SE_PLACED,
                        .node = id,
                        .follow = follow,
                        .planned = follow && c->s.stream->found.planned,
                        .stays = stays,
                        .epoch = follow || stays ? c->s.stream->found.epoch : 0,
                        .time = follow ? c->s.stream->found.replay_time : 0,
                        .publication = c->found_live ? c->s.stream->found.publication : 0});
}

/* The player's node is lost, and where the stream went from there may not have been written: it is
 * looked for where it would go. */
static bool claim_may_lag(const struct session_conn *c, const char *owner)
{
    const struct session *s = &c->s;
    return s->state == SESS_REHOME && s->kind == SESSION_PLAY && c->w->store_missed &&
           s->last_fail != FAIL_NONE && strcmp(s->failed_node, owner) == 0;
}

static void decide(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session *s = &c->s;
    const bool publisher = s->kind == SESSION_PUBLISH;
    const bool own = c->found_live && c->s.stream->found.session == s->id;
    const bool rehome = s->state == SESS_REHOME;
    if (publisher && s->placed && c->found_live && !own &&
        c->s.stream->found.epoch > s->claim_epoch) {
        session_post(c,
                     &(struct session_event){.kind = SE_TAKEN_OVER}); /* while we were retrying */
        return;
    }
    if (publisher && c->found_live && !own && !may_take_over(c)) {
        session_post(c, &(struct session_event){.kind = SE_UNPLACED, .why = WHY_DUPLICATE});
        return;
    }
    const uint64_t now_wall_ms = clock_wall_ms();
    const bool leaves_well = publisher && rehome && s->rehome.planned;
    const char *owner = c->found_live && !own ? claim_serving(&c->s.stream->found) : NULL;
    const bool lags = owner && claim_may_lag(c, owner);
    const uint32_t shared = s->leads ? s->leads->count : 0; /* whose players have the records */
    const struct place_request req = {
        .key = &s->key,
        .kind = publisher ? PLACE_PUBLISH : PLACE_PLAY,
        .owner = lags ? NULL : owner,
        .hint = c->found_hint ? c->s.stream->found.node : NULL,
        .here = c->recorded || shared > 0 ? s->node : NULL,
        .here_sessions = shared,
        .next = own ? c->s.stream->found.next : NULL,
        .exclude = lags ? &s->failed_node : s->stream->excluded,
        .exclude_count = lags ? 1 : s->excluded_count,
        .calm = leaves_well,
        .now_wall_ms = now_wall_ms,
        .now_mono_ms = clock_mono_ms(),
    };
    struct place_result r;
    place(w->nodes, &w->config->placement, &req, NULL, &r);
    if (!leaves_well)
        log_panic(w, r.panic);
    c->astray = !publisher && r.node && owner && strcmp(owner, r.node->conf.id) != 0;
    if (!r.node)
        nowhere(c);
    else if (rehome)
        placed_anew(c, r.node->conf.id);
    else if (publisher && w->store)
        take_claim(c, &r, now_wall_ms);
    else
        placed(c, r.node->conf.id, r.reason, NULL, false);
}

bool place_finds_another(const struct session_conn *c)
{
    struct worker *w = c->w;
    const struct place_request req = {
        .key = &c->s.key,
        .kind = c->s.kind == SESSION_PUBLISH ? PLACE_PUBLISH : PLACE_PLAY,
        .exclude = &c->s.node,
        .exclude_count = 1,
        .calm = true,
        .now_wall_ms = clock_wall_ms(),
        .now_mono_ms = clock_mono_ms(),
    };
    struct place_result r;
    place(w->nodes, &w->config->placement, &req, NULL, &r);
    return r.node != NULL;
}

static void on_claim_read(void *arg, enum err e, const struct claim *claim)
{
    struct place_call *call = arg;
    const bool is_stale = stale(call);
    struct session_conn *c = call_end(call);
    if (is_stale)
        return;
    c->found_live = e == ERR_OK && claim->state == CLAIM_LIVE;
    /* What healthd found on a node may be a ghost: good for players, nothing to a publisher */
    const bool found = e == ERR_OK && claim->state == CLAIM_FOUND;
    c->found_hint =
        e == ERR_OK && (claim->state == CLAIM_HINT || (found && c->s.kind == SESSION_PLAY));
    if (e == ERR_OK)
        c->s.stream->found = *claim;
    else if (e != ERR_NOT_FOUND)
        (void)worker_store_ok(c->w, e, "claim");
    decide(c);
}

/* Others of this worker try the node last for a second; healthd hears of it and looks for itself.
 */
void place_node_failed(struct session_conn *c)
{
    const struct session *s = &c->s;
    struct worker *w = c->w;
    const char *id = s->failed_node;
    char stream[STREAM_KEY_MAX];
    w->process.retried++;
    const bool dial =
        !c->undialled && (s->last_fail == FAIL_DIAL || s->last_fail == FAIL_DIAL_TIMEOUT ||
                          s->last_fail == FAIL_DIED);
    const int error = dial ? c->dial_error : 0;
    struct node *n = dial && !socket_error_is_ours(error) ? node_table_find(w->nodes, id) : NULL;
    w->process.failed_dials += dial;
    if (n) {
        const uint64_t now = clock_mono_ms();
        n->notes.dial_failed_ms = now;
        if (w->store &&
            (n->notes.dial_told_ms == 0 || now - n->notes.dial_told_ms >= DIAL_FAILED_EVERY_MS)) {
            n->notes.dial_told_ms = now;
            (void)worker_store_ok(w, store_dial_failed(w->store, id, clock_wall_ms()),
                                  "dial failure");
        }
    }
    if (s->state == SESS_REHOME && (s->kind == SESSION_PLAY || s->rehome.rounds > 0))
        return; /* a line per try would be many */
    c->said.failed = true;
    c->said.more += c->said.again;
    LOG(&w->log, c->said.again ? LOG_DEBUG : LOG_WARN, EV_STREAM_RETRIED, log_u64(K_SID, s->id),
        log_text(K_CLIENT, c->client),
        log_text(K_KIND, s->kind == SESSION_PUBLISH ? "publish" : "play"),
        log_text(K_STREAM, worker_stream_text(w, &s->key, stream)), log_text(K_NODE, id),
        log_text(K_REASON, node_fail_name(s->last_fail)), log_u64(K_TRIES, s->tries),
        log_text(K_DETAIL, c->undialled ? "its turn did not come"
                           : error      ? strerror(error)
                                        : ""));
}

static void look_up(struct session_conn *c)
{
    struct worker *w = c->w;
    c->place_rounds++;
    c->found_live = c->found_hint = false;
    if (!w->store) {
        decide(c);
        return;
    }
    struct place_call *call = call_create(c);
    if (call)
        store_claim_get(w->store, &call->key, w->config->placement.hold_ms, worker_claims_ms(w),
                        on_claim_read, call);
}

/* To be placed is measured from the first try on, and anew when a held player tries again. A live
 * session's move has its own measure. */
static void note_asked(struct session_conn *c)
{
    const struct session *s = &c->s;
    if (s->state == SESS_REHOME)
        c->asked_us = 0;
    else if (c->asked_us == 0 || (s->rehome.rounds > 0 && s->tries == 0))
        c->asked_us = clock_mono_us();
}

/* Players may be thousands that begin anew every second. */
static void note_again(struct session_conn *c)
{
    const struct session *s = &c->s;
    if (s->state == SESS_REHOME || s->tries > 0)
        return;
    if (s->started_ms == 0) /* another stream on the connection */
        memset(&c->said, 0, sizeof c->said);
    c->said.again = c->said.failed;
}

void place_session(struct session_conn *c)
{
    struct worker *w = c->w;
    c->place_serial++;
    c->place_rounds = 0;
    c->astray = false;
    note_asked(c);
    note_again(c);
    stream_index_remove(&w->streams, &c->member);
    share_left(c);
    if (share_place(c))
        return;
    stream_index_add(&w->streams, &c->member, &c->s.key);
    look_up(c);
}

void place_release(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session_ended *ended = &c->s.stream->ended;
    c->place_serial++;
    c->asked_us = 0;
    stream_index_remove(&w->streams, &c->member);
    if (ended->epoch == 0 || !w->store) {
        record_delete(c);
        share_left(c);
        if (ended->kind == SESSION_PLAY) /* others may have been waiting for this one only */
            audience_changed(w, &ended->key);
        return;
    }
    place_count_stream(w, ended->node, false);
    const struct claim_end end = {.key = &ended->key,
                                  .epoch = ended->epoch,
                                  .keep = ended->keep_hint,
                                  .session = record_forget(c),
                                  .now_ms = clock_wall_ms()};
    const enum err e = store_claim_release(w->store, &end);
    if (e != ERR_CONFLICT && e != ERR_NOT_FOUND)
        (void)worker_store_ok(w, e, "claim");
}

void place_handed_over(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session_ended *ended = &c->s.stream->ended;
    char stream[STREAM_KEY_MAX];
    c->place_serial++;
    stream_index_remove(&w->streams, &c->member);
    record_delete(c);
    w->process.taken_over++;
    LOG(&w->log, LOG_INFO, EV_STREAM_TAKEN_OVER, log_u64(K_SID, c->s.id),
        log_text(K_CLIENT, c->client),
        log_text(K_STREAM, worker_stream_text(w, &ended->key, stream)),
        log_text(K_NODE, ended->node), log_u64(K_EPOCH, ended->epoch));
    if (!w->store || ended->epoch == 0)
        return;
    const enum err e = store_claim_handed_over(w->store, &ended->key, ended->epoch);
    if (e != ERR_CONFLICT && e != ERR_NOT_FOUND)
        (void)worker_store_ok(w, e, "claim");
    worker_ring(w, UINT64_MAX); /* whoever took it over waits; its slot is not in our hands */
}
