#define _GNU_SOURCE
#include "router/place_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock_io.h"
#include "router/share_io.h"

enum {
    PLACE_ROUNDS_MAX = 8,       /* somebody else was faster, or the node filled up: decide again */
    DIAL_FAILED_EVERY_MS = 250, /* healthd is told of a node at most so often */
    REFRESH_EVERY_MS = 5000,    /* how often a session's counters are written */
    REFRESH_AT_ONCE = 40, /* of more than 4,000 sessions each is written less often than that */
    REFRESH_FEW = 8,      /* so few wait for those of the next turns: one commit for all */
    REFRESH_TURNS = 5,
    TELL_WITHIN_US = 4000, /* in a turn of the loop sessions are told of changes */
    TELL_AT_ONCE = 32,
    ASTRAY_MS = 8000, /* at most, before a player tries again the node that its stream is on */
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

void place_ring(struct worker *w, const struct stream_key *key, uint64_t more_slots)
{
    uint64_t slots = 0;
    uint32_t players;
    if (store_audience(w->store, key, w->id.router, &slots, &players) != ERR_OK)
        slots = 0;
    worker_ring(w, slots | more_slots);
}

/* ---- records ---- */

/* A node that has answered a ping once is judged by its answers from its next connection's first
 * moment on. */
void place_note_pings(const struct session_conn *c)
{
    const struct session *s = &c->s;
    const bool answered = s->current >= 0 && s->links[s->current].link.pings_answered > 0;
    struct node *n = answered ? node_table_find(c->w->nodes, s->node) : NULL;
    if (n)
        n->notes.answers_pings = true;
}

struct session_record place_record_of(struct session_conn *c, const char *node)
{
    const struct session *s = &c->s;
    if (!c->recorded)
        c->stream_began_ms = clock_wall_ms();
    struct session_record r = {.id = s->id,
                               .kind = s->kind,
                               .worker = c->w->id,
                               .key = s->key,
                               .started_ms = c->stream_began_ms,
                               .bytes_in = s->client.bytes_in,
                               .bytes_out = s->bytes_out,
                               .rehomes = s->rehome.count};
    memcpy(r.client, c->client, sizeof r.client);
    memcpy(r.node, node, strlen(node) + 1);
    return r;
}

void place_note_recorded(struct session_conn *c, bool written)
{
    c->record_stale = !written;
    c->recorded = c->recorded || written;
    c->refresh_bytes = c->s.client.bytes_in + c->s.bytes_out;
    c->refresh_ms = clock_mono_ms();
}

void place_put_record(struct session_conn *c)
{
    struct worker *w = c->w;
    place_note_pings(c);
    if (c->s.leads) {
        share_put_records(c);
        return;
    }
    if (!w->store)
        return;
    const struct session_record r = place_record_of(c, c->s.node);
    place_note_recorded(c, worker_store_ok(w, store_session_put(w->store, &r), "session record"));
}

/* The id under which there is a record to be deleted; 0: none. */
static uint64_t forget_record(struct session_conn *c)
{
    const bool there = c->recorded && c->w->store;
    c->record_stale = false;
    if (there)
        c->recorded = false;
    return there ? c->s.id : 0;
}

static void delete_record(struct session_conn *c)
{
    const uint64_t id = forget_record(c);
    const enum err e = id ? store_session_delete(c->w->store, id) : ERR_NOT_FOUND;
    if (e != ERR_NOT_FOUND)
        (void)worker_store_ok(c->w, e, "session record");
}

void place_refresh_records(struct worker *w)
{
    struct session_record r[REFRESH_AT_ONCE];
    const uint32_t turns = REFRESH_EVERY_MS / STORE_POLL_MS;
    uint32_t want = w->conn_count / turns + 1, count = 0;
    if (!w->store)
        return;
    if (want <= REFRESH_FEW) {
        if (++w->refresh_waits < REFRESH_TURNS)
            return;
        w->refresh_waits = 0;
        want *= REFRESH_TURNS;
    }
    if (want > REFRESH_AT_ONCE)
        want = REFRESH_AT_ONCE;
    const uint64_t now = clock_mono_ms();
    for (uint32_t seen = 0; seen < want; seen++) {
        struct session_conn *c = w->refresh_at ? w->refresh_at : w->conns;
        if (!c)
            break;
        w->refresh_at = c->next;
        if (c->record_stale)
            place_put_record(c);
        if (!c->recorded || now - c->refresh_ms < REFRESH_EVERY_MS / 2)
            continue;
        place_note_pings(c);
        const uint64_t bytes = c->s.client.bytes_in + c->s.bytes_out;
        r[count++] = (struct session_record){
            .id = c->s.id,
            .bytes_in = c->s.client.bytes_in,
            .bytes_out = c->s.bytes_out,
            .bitrate = (bytes - c->refresh_bytes) * 8000 / (now - c->refresh_ms),
            .rehomes = c->s.rehome.count,
        };
        c->refresh_bytes = bytes;
        c->refresh_ms = now;
    }
    if (count > 0)
        (void)worker_store_ok(w, store_sessions_refresh(w->store, r, count), "session counters");
}

/* ---- who has followed a move ---- */

/* The claim that the player has followed. One that came when the stream was on its way is where
 * that will be once its node has answered. */
static uint64_t epoch_followed(const struct session_conn *c)
{
    const uint64_t followed = c->s.rehome.followed_epoch;
    return followed == 0 && c->s.state == SESS_RELAY ? c->told_epoch : followed;
}

static struct session_conn *conn_of(struct stream_member *m)
{
    return (struct session_conn *)((char *)m - offsetof(struct session_conn, member));
}

/* Says in the store how far this worker's players of the stream are. */
static void mark_audience(struct worker *w, struct stream_member *first)
{
    uint64_t epoch = 0;
    bool cut = true;
    struct worker_id mover = {0};
    for (struct stream_member *m = first; m; m = stream_index_next(m)) {
        const struct session_conn *c = conn_of(m);
        const struct session_rehome *r = &c->s.rehome;
        const uint64_t followed = epoch_followed(c);
        if (c->dead || c->s.kind != SESSION_PLAY || followed == 0)
            continue;
        if (c->s.state == SESS_REHOME && r->phase != RH_OVERLAP && !r->denied)
            return; /* not there yet */
        cut = cut && (c->s.state != SESS_REHOME || r->level);
        if (followed > epoch) {
            epoch = followed;
            mover = c->mover;
        }
    }
    if (epoch == 0 || !w->store)
        return;
    const enum err e = store_audience_mark(w->store, first->key, &w->id, epoch, cut);
    if (e != ERR_NOT_FOUND)
        (void)worker_store_ok(w, e, "audience");
    if (strcmp(mover.router, w->id.router) == 0 && mover.slot < WORKERS_MAX)
        worker_ring(w, UINT64_C(1) << mover.slot);
}

void place_audience_changed(struct worker *w, const struct stream_key *key)
{
    stream_index_want(&w->streams, STREAM_AUDIENCE, key);
}

/* Players that do not know of the move yet have not followed it: their stream waits until they do.
 */
void place_mark_audiences(struct worker *w)
{
    struct stream_member *m;
    while ((m = stream_index_take(&w->streams, STREAM_AUDIENCE)))
        if (!stream_index_wanted(&w->streams, STREAM_TELL, m->key))
            mark_audience(w, m);
}

void place_started(struct session_conn *c)
{
    const struct stream_key key = c->s.key;
    if (c->s.kind != SESSION_PLAY || !c->found_live || c->s.stream->found.next[0] == '\0')
        return;
    place_read_changes(
        c->w); /* it asked; others of this worker may not have heard of the move yet */
    place_audience_changed(c->w, &key);
}

/* ---- placing ---- */

/* The one we took over from, and waiting players, may be this worker's own. */
static void tell_claim(struct worker *w, const struct claim *claim, bool took_over)
{
    const bool here = took_over && strcmp(claim->previous.router, w->id.router) == 0;
    place_ring(w, &claim->key, here ? UINT64_C(1) << claim->previous.slot : 0);
    place_read_changes(w);
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
        place_put_record(c);
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
        place_note_recorded(c, true);
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
    const struct session_record record = place_record_of(c, call->node);
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
    place_note_recorded(c, true);
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
        .now_wall_ms = now_wall_ms,
        .now_mono_ms = clock_mono_ms(),
    };
    struct place_result r;
    place(w->nodes, &w->config->placement, &req, NULL, &r);
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
        .kind = PLACE_PUBLISH,
        .exclude = &c->s.node,
        .exclude_count = 1,
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

/* What this machine has too little of is not the node's fault. */
static bool is_our_fault(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
           error == EADDRNOTAVAIL;
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
    struct node *n = dial && !is_our_fault(error) ? node_table_find(w->nodes, id) : NULL;
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
        delete_record(c);
        share_left(c);
        if (c->s.kind == SESSION_PLAY) /* others may have been waiting for this one only */
            place_audience_changed(w, &ended->key);
        return;
    }
    place_count_stream(w, c->s.node, false);
    const struct claim_end end = {.key = &ended->key,
                                  .epoch = ended->epoch,
                                  .keep = ended->keep_hint,
                                  .session = forget_record(c),
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
    delete_record(c);
    w->process.taken_over++;
    LOG(&w->log, LOG_INFO, EV_STREAM_TAKEN_OVER, log_u64(K_SID, c->s.id),
        log_text(K_CLIENT, c->client),
        log_text(K_STREAM, worker_stream_text(w, &ended->key, stream)), log_text(K_NODE, c->s.node),
        log_u64(K_EPOCH, ended->epoch));
    if (!w->store || ended->epoch == 0)
        return;
    const enum err e = store_claim_handed_over(w->store, &ended->key, ended->epoch);
    if (e != ERR_CONFLICT && e != ERR_NOT_FOUND)
        (void)worker_store_ok(w, e, "claim");
    worker_ring(w, UINT64_MAX); /* whoever took it over waits; its slot is not in our hands */
}

/* ---- changes ---- */

/* The node that has its stream did not take it, or the claim seemed to lag, and where it went
 * instead it has had nothing. It is sent back after as long as it has gone on so. */
static bool is_stranded(const struct session_conn *c)
{
    const struct session *s = &c->s;
    const uint64_t frames_ms = s->rehome.frames_ms;
    if (!c->astray || c->dead || s->state != SESS_RELAY || frames_ms >= s->node_started_ms)
        return false;
    const uint64_t since_ms = frames_ms > s->started_ms ? frames_ms : s->started_ms;
    const uint64_t so_far_ms = s->node_started_ms - since_ms;
    const uint64_t pause_ms = so_far_ms < ASTRAY_MS ? so_far_ms : ASTRAY_MS;
    return worker_now_ms(c->w) >= s->node_started_ms + pause_ms;
}

static bool concerns_player(const struct session_conn *c, const struct claim *claim,
                            struct session_event *ev)
{
    const struct session *s = &c->s;
    const bool moving = claim->next[0] != '\0';
    const bool elsewhere = strcmp(s->node, claim->node) != 0;
    if (!s->placed)
        return false;
    if (claim->epoch <= c->told_epoch && !(is_stranded(c) && elsewhere && !moving)) {
        *ev = (struct session_event){.kind = SE_STREAM_SETTLED};
        return claim->epoch == s->rehome.followed_epoch && !moving && s->state == SESS_REHOME &&
               s->current >= 0;
    }
    *ev = (struct session_event){.kind = SE_STREAM_MOVED,
                                 .node = claim_serving(claim),
                                 .epoch = claim->epoch,
                                 .publication = claim->publication,
                                 .follow = moving,
                                 .planned = moving && claim->planned,
                                 .stays = claim->stays,
                                 .time = claim->replay_time};
    const bool known = s->rehome.publication == claim->publication;
    const bool missed = c->told_epoch != 0 && !claim->stays; /* it was published there anew */
    return moving || elsewhere || !known || missed || s->state == SESS_REHOME;
}

/* What a claim as it is now means for one session. True: *ev is for it. */
static bool concerns(const struct session_conn *c, const struct claim *claim,
                     struct session_event *ev)
{
    const struct session *s = &c->s;
    if (c->dead || claim->state != CLAIM_LIVE)
        return false;
    if (s->kind == SESSION_PLAY)
        return concerns_player(c, claim, ev);
    if (claim->session == s->id) {
        *ev = (struct session_event){.kind = SE_RELEASED};
        return claim->released && s->state == SESS_PLACE && s->phase == PHASE_WAIT_RELEASE;
    }
    *ev = (struct session_event){.kind = SE_TAKEN_OVER};
    return s->claim_epoch != 0 && claim->epoch > s->claim_epoch;
}

static void log_player_moved(struct session_conn *c, const struct claim *claim)
{
    char stream[STREAM_KEY_MAX];
    c->w->process.players_moved++;
    LOG(&c->w->log, c->said.failed ? LOG_DEBUG : LOG_INFO, EV_PLAYER_MOVED, log_u64(K_SID, c->s.id),
        log_text(K_CLIENT, c->client),
        log_text(K_STREAM, worker_stream_text(c->w, &claim->key, stream)),
        log_text(K_NODE, claim->node), log_u64(K_EPOCH, claim->epoch));
}

static bool is_late(const struct worker *w)
{
    return clock_mono_us() >= w->tell_until_us;
}

static void tell_session(struct session_conn *c, const struct claim *claim)
{
    struct session_event ev;
    if (!concerns(c, claim, &ev))
        return;
    c->mover = claim->worker;
    if (claim->epoch > c->told_epoch)
        c->said.failed = c->said.astray = false;
    if (ev.kind == SE_STREAM_MOVED && !ev.follow && strcmp(c->s.node, ev.node) != 0)
        log_player_moved(c, claim);
    c->told_epoch = claim->epoch;
    session_post(c, &ev);
}

static uint32_t collect_concerned(const struct worker *w, const struct claim *claim,
                                  struct session_conn *some[TELL_AT_ONCE])
{
    uint32_t count = 0;
    struct session_event ev;
    for (struct stream_member *m = stream_index_first(&w->streams, &claim->key);
         m && count < TELL_AT_ONCE; m = stream_index_next(m))
        if (concerns(conn_of(m), claim, &ev))
            some[count++] = conn_of(m);
    return count;
}

/* The index changes while sessions act on the news: who has acted is no longer concerned. Of
 * thousands the last ones are told in later turns of the loop. */
static void tell_sessions(struct worker *w, const struct claim *claim)
{
    struct session_conn *some[TELL_AT_ONCE];
    uint32_t count;
    while ((count = collect_concerned(w, claim, some)) > 0) {
        for (uint32_t i = 0; i < count; i++)
            if (some[i]->member.key && strcmp(some[i]->s.key.text, claim->key.text) == 0)
                tell_session(some[i], claim);
        if (is_late(w)) {
            stream_index_want(&w->streams, STREAM_TELL, &claim->key);
            return;
        }
    }
}

struct change_batch {
    uint32_t count;
    struct claim claims[STORE_WRITE_RECORDS];
};

static void collect(void *arg, const struct store_change *change)
{
    struct change_batch *b =
        arg; /* acted on after the call: sessions write to the store themselves */
    if (b->count < STORE_WRITE_RECORDS)
        b->claims[b->count++] = change->claim;
}

static bool is_placed(const struct session_conn *c)
{
    return c->s.placed;
}

/* The claims of those sessions' streams are to be asked for. */
static void recheck_those(struct worker *w, bool (*which)(const struct session_conn *c))
{
    for (const struct session_conn *c = w->conns; c; c = c->next)
        if (which(c))
            stream_index_want(&w->streams, STREAM_TELL, &c->s.key);
}

/* False: nothing more to read. */
static bool read_batch(struct worker *w)
{
    struct change_batch batch = {0};
    bool lost = false;
    if (!worker_store_ok(w, store_changes_read(w->store, &w->change_seq, &lost, collect, &batch),
                         "changes"))
        return false;
    if (lost) /* we fell behind the change log */
        recheck_those(w, is_placed);
    for (uint32_t i = 0; i < batch.count; i++) {
        if (is_late(w))
            stream_index_want(&w->streams, STREAM_TELL, &batch.claims[i].key);
        else
            tell_sessions(w, &batch.claims[i]);
    }
    return batch.count > 0;
}

void place_read_changes(struct worker *w)
{
    if (!w->store ||
        w->reading_changes) /* what a session does about a change is read by the loop below */
        return;
    w->reading_changes = true;
    w->tell_until_us = clock_mono_us() + TELL_WITHIN_US;
    while (read_batch(w))
        ;
    w->reading_changes = false;
}

static void on_claim_again(void *arg, enum err e, const struct claim *claim)
{
    struct worker *w = arg;
    if (e == ERR_NOT_FOUND)
        return;
    if (!worker_store_ok(w, e, "claim")) {
        w->recheck_due = true;
        return;
    }
    stream_index_want(&w->streams, STREAM_AUDIENCE, &claim->key);
    tell_sessions(w, claim);
}

void place_tell_more(struct worker *w)
{
    struct stream_member *m;
    if (!w->store || w->reading_changes)
        return;
    w->reading_changes = true;
    w->tell_until_us = clock_mono_us() + TELL_WITHIN_US;
    do {
        m = stream_index_take(&w->streams, STREAM_TELL);
        if (!m)
            break;
        const struct stream_key key = *m->key;
        store_claim_get(w->store, &key, w->config->placement.hold_ms, worker_claims_ms(w),
                        on_claim_again, w);
    } while (!is_late(w));
    w->reading_changes = false;
    place_read_changes(w); /* what they did about it */
}

void place_look_again(struct worker *w)
{
    recheck_those(w, w->recheck_due ? is_placed : is_stranded);
    w->recheck_due = false;
}
