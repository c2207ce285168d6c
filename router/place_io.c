#define _GNU_SOURCE
#include "router/place_io.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock_io.h"

enum {
    PLACE_ROUNDS_MAX = 8,       /* somebody else was faster, or the node filled up: decide again */
    DIAL_FAILED_EVERY_MS = 250, /* healthd is told of a node at most so often */
    MOVES_AT_ONCE = 64,         /* planned ones of a worker that are under way */
    MOVES_LOOK_MS = 60000,      /* after a change of the nodes */
    MOVE_AGAIN_MS = 1000,       /* before a stream that could not be moved is tried again */
    RELOAD_SETTLE_MS = 1000,    /* new connections may reach the old process for a moment */
    REFRESH_EVERY_MS = 5000,    /* how often a session's counters are written */
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

static struct place_call *call_create(struct session_conn *c)
{
    struct place_call *call = calloc(1, sizeof *call);
    if (!call) {
        session_post(c, &(struct session_event){.kind = SE_CLOSE, .why = WHY_LIMIT_MEMORY});
        return NULL;
    }
    call->c = c;
    call->serial = c->place_serial;
    call->key = c->s.key;
    c->place_waiting++;
    return call;
}

static struct session_conn *call_end(struct place_call *call)
{
    struct session_conn *c = call->c;
    c->place_waiting--;
    free(call);
    return c;
}

static void ring(struct worker *w, const struct stream_key *key, uint64_t more_slots)
{
    uint64_t slots = 0;
    uint32_t players;
    if (store_audience(w->store, key, w->id.router, &slots, &players) != ERR_OK)
        slots = 0;
    worker_ring(w, slots | more_slots);
}

/* ---- records ---- */

static void put_record(struct session_conn *c)
{
    struct worker *w = c->w;
    struct session *s = &c->s;
    if (!w->store)
        return;
    if (!c->recorded)
        c->stream_began_ms = clock_wall_ms();
    struct session_record r = {.id = s->id,
                               .kind = s->kind,
                               .worker = w->id,
                               .key = s->key,
                               .started_ms = c->stream_began_ms};
    memcpy(r.client, c->client, sizeof r.client);
    memcpy(r.node, s->node, sizeof r.node);
    r.bytes_in = s->client.bytes_in;
    r.bytes_out = s->bytes_out;
    r.rehomes = s->rehome.count;
    c->recorded = worker_store_ok(w, store_session_put(w->store, &r), "session record");
    c->refresh_bytes = r.bytes_in + r.bytes_out;
    c->refresh_ms = clock_mono_ms();
}

static void delete_record(struct session_conn *c)
{
    if (!c->recorded || !c->w->store)
        return;
    c->recorded = false;
    const enum err e = store_session_delete(c->w->store, c->s.id);
    if (e != ERR_NOT_FOUND)
        (void)worker_store_ok(c->w, e, "session record");
}

void place_refresh_records(struct worker *w)
{
    struct session_record r[STORE_WRITE_RECORDS];
    const uint32_t turns = REFRESH_EVERY_MS / STORE_POLL_MS;
    uint32_t want = w->conn_count / turns + 1, count = 0;
    if (!w->store)
        return;
    if (want > STORE_WRITE_RECORDS)
        want = STORE_WRITE_RECORDS;
    const uint64_t now = clock_mono_ms();
    for (uint32_t seen = 0; seen < want; seen++) {
        struct session_conn *c = w->refresh_at ? w->refresh_at : w->conns;
        if (!c)
            break;
        w->refresh_at = c->next;
        if (!c->recorded || now - c->refresh_ms < REFRESH_EVERY_MS / 2)
            continue;
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

/* Says in the store how far this worker's players of the stream are. */
static void mark_audience(struct worker *w, const struct stream_key *key)
{
    uint64_t epoch = 0;
    bool cut = true;
    struct worker_id mover = {0};
    for (struct stream_member *m = stream_index_first(&w->streams, key); m;
         m = stream_index_next(m)) {
        const struct session_conn *c =
            (struct session_conn *)((char *)m - offsetof(struct session_conn, member));
        const struct session_rehome *r = &c->s.rehome;
        if (c->dead || c->s.kind != SESSION_PLAY || r->followed_epoch == 0)
            continue;
        if (c->s.state == SESS_REHOME && r->phase != RH_OVERLAP)
            return; /* not there yet */
        cut = cut && c->s.state != SESS_REHOME;
        if (r->followed_epoch > epoch) {
            epoch = r->followed_epoch;
            mover = c->mover;
        }
    }
    if (epoch == 0 || !w->store)
        return;
    const enum err e = store_audience_mark(w->store, key, &w->id, epoch, cut);
    if (e != ERR_NOT_FOUND)
        (void)worker_store_ok(w, e, "audience");
    if (strcmp(mover.router, w->id.router) == 0 && mover.slot < WORKERS_MAX)
        worker_ring(w, UINT64_C(1) << mover.slot);
}

/* ---- placing ---- */

static void placed(struct session_conn *c, const char *node, enum place_reason reason,
                   const struct claim *claim, bool took_over)
{
    struct worker *w = c->w;
    char id[NODE_ID_MAX];
    memcpy(id, node, sizeof id);
    const bool wait = claim && took_over && !claim->released && claim->previous_epoch != 0;
    /* The record first: a publisher elsewhere must see this player before it counts on its audience
     */
    memcpy(c->s.node, id, sizeof id);
    put_record(c);
    c->placed_us = clock_mono_us();
    process_histogram_add(&w->process.setup[SETUP_LOOKUP], c->placed_us - c->asked_us);
    c->told_epoch = c->found_live ? c->found.epoch : 0;
    session_post(c, &(struct session_event){.kind = SE_PLACED,
                                            .node = id,
                                            .reason = reason,
                                            .epoch = claim ? claim->epoch : 0,
                                            .publication = c->found_live ? c->found.publication : 0,
                                            .took_over = took_over,
                                            .wait_release = wait});
    if (!claim)
        return;
    const bool here = took_over && strcmp(claim->previous.router, w->id.router) == 0;
    ring(w, &claim->key, here ? UINT64_C(1) << claim->previous.slot : 0);
    place_read_changes(
        w); /* the one we took over from, and waiting players, may be this worker's own */
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

/* Until the loads are read again: placements of the meantime must see the ones before them. */
static void count_stream(struct worker *w, const char *node, bool more)
{
    struct node *n = node_table_find(w->nodes, node);
    if (n && more)
        n->streams++;
    else if (n && n->streams > 0)
        n->streams--;
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
            (void)worker_store_ok(
                w, store_claim_release(w->store, &was.key, claim->epoch, false, clock_wall_ms()),
                "claim");
        return;
    }
    if (e == ERR_OK) {
        if (c->found_live)
            count_stream(w, c->found.node, false);
        count_stream(w, was.node, true);
        placed(c, was.node, was.reason, claim, was.takes_over);
    } else if ((e == ERR_CONFLICT || e == ERR_FULL) && c->place_rounds < PLACE_ROUNDS_MAX) {
        if (e == ERR_FULL && !worker_store_ok(w, store_loads_read(w->store, w->nodes), "loads"))
            c->place_rounds = PLACE_ROUNDS_MAX;
        look_up(c);
    } else if (e == ERR_CONFLICT || e == ERR_FULL) {
        nowhere(c);
    } else { /* the store is away: the hash alone decides, and the claim is missed until the next
                publication */
        (void)worker_store_ok(w, e, "claim");
        placed(c, was.node, was.reason, NULL, false);
    }
}

static void take_claim(struct session_conn *c, const struct place_result *r, uint64_t now_wall_ms)
{
    struct place_call *call = call_create(c);
    if (!call)
        return;
    const bool own = c->found_live && c->found.session == c->s.id;
    call->reason = r->reason;
    call->takes_over = c->found_live && !own;
    memcpy(call->node, r->node->conf.id, sizeof call->node);
    struct claim_request req = {
        .key = &call->key,
        .node = call->node,
        .bound = r->reason == PLACED_CLAIM ? UINT32_MAX : r->bound,
        .worker = c->w->id,
        .session = c->s.id,
        .expect_epoch = c->found_live ? c->found.epoch : 0,
        .now_ms = now_wall_ms,
        .hold_ms = c->w->config->placement.hold_ms,
        .args_hash = c->s.args_hash,
    };
    if (c->addr_own)
        memcpy(req.client_addr, c->addr, sizeof req.client_addr);
    store_claim_take(c->w->store, &req, on_claim_taken, call);
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
        return same_client(c, &c->found);
    }
    return false;
}

/* For a live session: its records follow when it is there, and a publisher's claim when the node
 * has the stream. */
static void placed_anew(struct session_conn *c, const char *node)
{
    char id[NODE_ID_MAX];
    const bool follow = c->found_live && c->s.kind == SESSION_PLAY && c->found.next[0];
    memcpy(id, node, sizeof id);
    if (c->found_live && c->s.kind == SESSION_PLAY) {
        c->told_epoch = c->found.epoch;
        c->mover = c->found.worker;
    }
    session_post(c,
                 &(struct session_event){.kind = SE_PLACED,
                                         .node = id,
                                         .follow = follow,
                                         .epoch = follow ? c->found.epoch : 0,
                                         .time = follow ? c->found.replay_time : 0,
                                         .publication = c->found_live ? c->found.publication : 0});
}

static void decide(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session *s = &c->s;
    const bool publisher = s->kind == SESSION_PUBLISH;
    const bool own = c->found_live && c->found.session == s->id;
    const bool rehome = s->state == SESS_REHOME;
    if (publisher && s->placed && c->found_live && !own && c->found.epoch > s->claim_epoch) {
        session_post(c,
                     &(struct session_event){.kind = SE_TAKEN_OVER}); /* while we were retrying */
        return;
    }
    if (publisher && c->found_live && !own && !may_take_over(c)) {
        session_post(c, &(struct session_event){.kind = SE_UNPLACED, .why = WHY_DUPLICATE});
        return;
    }
    const uint64_t now_wall_ms = clock_wall_ms();
    const struct place_request req = {
        .key = &s->key,
        .kind = publisher ? PLACE_PUBLISH : PLACE_PLAY,
        .owner = c->found_live && !own ? claim_serving(&c->found) : NULL,
        .hint = c->found_hint ? c->found.node : NULL,
        .exclude = s->excluded,
        .exclude_count = s->excluded_count,
        .now_wall_ms = now_wall_ms,
        .now_mono_ms = clock_mono_ms(),
    };
    struct place_result r;
    place(w->nodes, &w->config->placement, &req, NULL, &r);
    log_panic(w, r.panic);
    if (!r.node)
        nowhere(c);
    else if (rehome)
        placed_anew(c, r.node->conf.id);
    else if (publisher && w->store)
        take_claim(c, &r, now_wall_ms);
    else
        placed(c, r.node->conf.id, r.reason, NULL, false);
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
        c->found = *claim;
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
    struct node *n = node_table_find(w->nodes, id);
    if (n && (s->last_fail == FAIL_DIAL || s->last_fail == FAIL_DIAL_TIMEOUT ||
              s->last_fail == FAIL_DIED)) {
        const uint64_t now = clock_mono_ms();
        const bool told = n->dial_failed_ms != 0 && now - n->dial_failed_ms < DIAL_FAILED_EVERY_MS;
        n->dial_failed_ms = now;
        w->process.failed_dials++;
        if (w->store && !told)
            (void)worker_store_ok(w, store_dial_failed(w->store, id, clock_wall_ms()),
                                  "dial failure");
    }
    if (s->state == SESS_REHOME && (s->kind == SESSION_PLAY || s->rehome.rounds > 0))
        return; /* a line per try would be many */
    LOG(&w->log, LOG_WARN, EV_STREAM_RETRIED, log_u64(K_SID, s->id), log_text(K_CLIENT, c->client),
        log_text(K_KIND, s->kind == SESSION_PUBLISH ? "publish" : "play"),
        log_text(K_STREAM, worker_stream_text(w, &s->key, stream)), log_text(K_NODE, id),
        log_text(K_REASON, node_fail_name(s->last_fail)), log_u64(K_TRIES, s->tries));
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
        store_claim_get(w->store, &call->key, w->config->placement.hold_ms, clock_wall_ms(),
                        on_claim_read, call);
}

void place_session(struct session_conn *c)
{
    struct worker *w = c->w;
    c->place_serial++;
    c->place_rounds = 0;
    if (c->asked_us == 0)
        c->asked_us = clock_mono_us();
    stream_index_remove(&w->streams, &c->member);
    stream_index_add(&w->streams, &c->member, &c->s.key);
    look_up(c);
}

void place_release(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session_ended *ended = &c->s.ended;
    c->place_serial++;
    stream_index_remove(&w->streams, &c->member);
    delete_record(c);
    if (c->s.kind == SESSION_PLAY) /* others may have been waiting for this one only */
        mark_audience(w, &ended->key);
    if (ended->epoch == 0 || !w->store)
        return;
    count_stream(w, c->s.node, false);
    const enum err e =
        store_claim_release(w->store, &ended->key, ended->epoch, ended->keep_hint, clock_wall_ms());
    if (e != ERR_CONFLICT && e != ERR_NOT_FOUND)
        (void)worker_store_ok(w, e, "claim");
}

void place_handed_over(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session_ended *ended = &c->s.ended;
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

static bool concerns_player(const struct session_conn *c, const struct claim *claim,
                            struct session_event *ev)
{
    const struct session *s = &c->s;
    const bool moving = claim->next[0] != '\0';
    if (!s->placed)
        return false;
    if (claim->epoch <= c->told_epoch) {
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
                                 .time = claim->replay_time};
    return moving || strcmp(s->node, claim->node) != 0 ||
           s->rehome.publication != claim->publication;
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
    LOG(&c->w->log, LOG_INFO, EV_PLAYER_MOVED, log_u64(K_SID, c->s.id),
        log_text(K_CLIENT, c->client),
        log_text(K_STREAM, worker_stream_text(c->w, &claim->key, stream)),
        log_text(K_NODE, claim->node), log_u64(K_EPOCH, claim->epoch));
}

/* The index changes while sessions act on the news, so the search begins anew after each: what has
 * acted is no longer concerned. */
static void tell_sessions(struct worker *w, const struct claim *claim)
{
    bool told = true;
    while (told) {
        told = false;
        for (struct stream_member *m = stream_index_first(&w->streams, &claim->key); m;
             m = stream_index_next(m)) {
            struct session_conn *c =
                (struct session_conn *)((char *)m - offsetof(struct session_conn, member));
            struct session_event ev;
            if (!concerns(c, claim, &ev))
                continue;
            c->mover = claim->worker;
            if (ev.kind == SE_STREAM_MOVED && !ev.follow && strcmp(c->s.node, ev.node) != 0)
                log_player_moved(c, claim);
            c->told_epoch = claim->epoch;
            session_post(c, &ev);
            told = true;
            break;
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

struct recheck {
    struct worker *w;
    struct stream_key key;
};

static void recheck(void *arg, enum err e, const struct claim *claim)
{
    struct recheck *r = arg;
    if (e == ERR_OK)
        tell_sessions(r->w, claim);
    free(r);
}

/* We fell behind the change log: asks for the claim of every stream that we carry. Acting on an
 * answer changes the list of sessions, so the streams are noted first. */
static void recheck_all(struct worker *w)
{
    struct recheck **all = calloc(w->conn_count + 1, sizeof(struct recheck *));
    uint32_t count = 0;
    if (!all)
        return; /* the next change of each stream will tell */
    for (const struct session_conn *c = w->conns; c; c = c->next) {
        if (!c->s.placed || !(all[count] = malloc(sizeof **all)))
            continue;
        *all[count++] = (struct recheck){.w = w, .key = c->s.key};
    }
    for (uint32_t i = 0; i < count; i++)
        store_claim_get(w->store, &all[i]->key, w->config->placement.hold_ms, clock_wall_ms(),
                        recheck, all[i]);
    free(all);
}

/* False: nothing more to read. */
static bool read_batch(struct worker *w)
{
    struct change_batch batch = {0};
    bool lost = false;
    if (!worker_store_ok(w, store_changes_read(w->store, &w->change_seq, &lost, collect, &batch),
                         "changes"))
        return false;
    if (lost)
        recheck_all(w);
    for (uint32_t i = 0; i < batch.count; i++)
        tell_sessions(w, &batch.claims[i]);
    return batch.count > 0;
}

void place_read_changes(struct worker *w)
{
    if (!w->store ||
        w->reading_changes) /* what a session does about a change is read by the loop below */
        return;
    w->reading_changes = true;
    while (read_batch(w))
        ;
    w->reading_changes = false;
}

/* ---- moving live streams ---- */

void place_rehoming(struct session_conn *c)
{
    const struct session *s = &c->s;
    char stream[STREAM_KEY_MAX];
    LOG(&c->w->log, LOG_WARN, EV_STREAM_MOVING, log_u64(K_SID, s->id),
        log_text(K_CLIENT, c->client),
        log_text(K_STREAM, worker_stream_text(c->w, &s->key, stream)), log_text(K_NODE, s->node),
        log_text(K_REASON, rehome_cause_name(s->rehome.cause)));
}

static void on_claim_moved(void *arg, enum err e, const struct claim *claim)
{
    struct session_conn *c = arg;
    struct worker *w = c->w;
    c->place_waiting--;
    if (c->dead)
        return;
    if (e == ERR_CONFLICT) {
        session_post(c, &(struct session_event){.kind = SE_TAKEN_OVER});
        return;
    }
    (void)worker_store_ok(w, e, "claim");
    session_post(c, &(struct session_event){.kind = SE_CLAIM_MOVED,
                                            .epoch = e == ERR_OK ? claim->epoch : 0});
    if (e != ERR_OK)
        return;
    const struct stream_key key = claim->key;
    ring(w, &key, 0);
    place_read_changes(w); /* players of our own */
}

void place_move(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session *s = &c->s;
    if (!w->store || s->claim_epoch == 0) {
        session_post(c, &(struct session_event){.kind = SE_CLAIM_MOVED});
        return;
    }
    c->place_waiting++;
    store_claim_move(w->store, &s->key, s->claim_epoch, s->rehome.node, s->rehome.planned,
                     session_replay_time(s), clock_wall_ms(), on_claim_moved, c);
}

void place_audience(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session *s = &c->s;
    uint32_t behind = 0;
    if (w->store && s->claim_epoch != 0 &&
        !worker_store_ok(w,
                         store_audience_behind(w->store, &s->key, s->claim_epoch,
                                               s->rehome.phase == RH_OVERLAP, clock_wall_ms(),
                                               &behind),
                         "audience"))
        behind = 0;
    session_post(c, &(struct session_event){.kind = SE_AUDIENCE, .ready = behind == 0});
}

void place_attached(struct session_conn *c)
{
    const struct stream_key key = c->s.key;
    put_record(c);
    mark_audience(c->w, &key);
}

void place_arrived(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session *s = &c->s;
    const struct session_rehome *r = &s->rehome;
    char stream[STREAM_KEY_MAX];
    put_record(c);
    w->process.rehomed[r->cause]++;
    w->process.rehome_dropped += r->kept_dropped;
    LOG(&w->log, LOG_INFO, EV_STREAM_MOVED, log_u64(K_SID, s->id), log_text(K_CLIENT, c->client),
        log_text(K_STREAM, worker_stream_text(w, &s->key, stream)), log_text(K_NODE, s->node),
        log_text(K_REASON, rehome_cause_name(r->cause)), log_u64(K_REHOMES, r->count),
        log_u64(K_COUNT, r->replayed), log_u64(K_EPOCH, s->claim_epoch), log_u64(K_MS, r->gap_ms));
    if (!w->store || s->claim_epoch == 0)
        return;
    const struct stream_key key = s->key;
    const enum err e = store_claim_arrived(w->store, &key, s->claim_epoch, clock_wall_ms());
    if (e != ERR_CONFLICT)
        (void)worker_store_ok(w, e, "claim");
    ring(w, &key, 0);
    place_read_changes(w);
}

void place_resumed(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session_rehome *r = &c->s.rehome;
    w->process.rehomed_players++;
    process_histogram_add(&w->process.rehome_gap, r->gap_ms * 1000);
    LOG(&w->log, LOG_INFO, EV_PLAYER_REHOMED, log_u64(K_SID, c->s.id),
        log_text(K_CLIENT, c->client), log_text(K_NODE, c->s.node),
        log_u64(K_EPOCH, r->followed_epoch), log_u64(K_MS, r->gap_ms));
}

static void on_ends(void *arg, enum err e, const struct claim *claim)
{
    struct session_conn *c = arg;
    c->place_waiting--;
    session_post(c, &(struct session_event){.kind = SE_PUBLISHER,
                                            .ready = e == ERR_OK && claim->state == CLAIM_LIVE});
}

void place_ends(struct session_conn *c)
{
    struct worker *w = c->w;
    if (!w->store) {
        session_post(c, &(struct session_event){.kind = SE_PUBLISHER});
        return;
    }
    c->place_waiting++;
    const struct stream_key key = c->s.key;
    store_claim_get(w->store, &key, w->config->placement.hold_ms, clock_wall_ms(), on_ends, c);
}

/* ---- planned moves ---- */

static struct node_generation *generation_of(struct worker *w, const char *id)
{
    for (uint32_t i = 0; i < w->generation_count; i++)
        if (strcmp(w->generations[i].id, id) == 0)
            return &w->generations[i];
    return NULL;
}

static bool note_generation(void *arg, const struct node_status *st)
{
    struct worker *w = arg;
    struct node_generation *g = generation_of(w, st->id);
    if (!g && w->generation_count < NODES_MAX) {
        g = &w->generations[w->generation_count++];
        *g = (struct node_generation){.generations = st->generations};
        memcpy(g->id, st->id, sizeof g->id);
    } else if (g && g->generations != st->generations) {
        if (g->generations != 0 && st->generations > g->generations)
            w->moves_until_ms = (g->changed_ms = clock_mono_ms()) + MOVES_LOOK_MS;
        g->generations = st->generations;
    }
    return true;
}

void place_read_generations(struct worker *w)
{
    (void)worker_store_ok(w, store_status_list(w->store, note_generation, w), "node status");
}

static bool leaves_streams(const struct worker *w, const char *id)
{
    const struct node *n = node_table_get(w->nodes, id);
    return !n || n->admin != NODE_ENABLED || n->leaving;
}

/* The stream began on a process of the node that new players do not reach any more. */
static bool is_outdated(struct worker *w, const struct session *s, uint64_t now_ms)
{
    const struct node_generation *g = generation_of(w, s->node);
    return g && g->changed_ms != 0 && s->node_started_ms < g->changed_ms &&
           now_ms >= g->changed_ms + RELOAD_SETTLE_MS;
}

static void leave_if_waiting(void *arg, enum err e, const struct claim *claim)
{
    struct session_conn *c = arg;
    c->place_waiting--;
    if (e == ERR_NOT_FOUND || (e == ERR_OK && claim->state == CLAIM_HINT))
        session_post(c, &(struct session_event){.kind = SE_STREAM_MOVED, .node = ""});
}

/* A player follows its stream; one that waits for a stream goes where that would go now. */
static void move_waiting_player(struct session_conn *c)
{
    const struct stream_key key = c->s.key;
    c->place_waiting++;
    store_claim_get(c->w->store, &key, c->w->config->placement.hold_ms, clock_wall_ms(),
                    leave_if_waiting, c);
}

/* True: a move has begun. */
static bool move_one(struct session_conn *c, uint64_t now_ms)
{
    struct worker *w = c->w;
    const struct session *s = &c->s;
    if (c->dead || s->state != SESS_RELAY || now_ms < c->move_after_ms)
        return false;
    const bool leave = leaves_streams(w, s->node);
    if (!leave && !is_outdated(w, s, now_ms))
        return false;
    c->move_after_ms = now_ms + MOVE_AGAIN_MS;
    if (s->kind == SESSION_PLAY && leave && w->store)
        move_waiting_player(c);
    if (s->kind == SESSION_PLAY)
        return false;
    session_post(c, &(struct session_event){.kind = SE_MOVE,
                                            .cause = leave ? REHOME_DRAIN : REHOME_RELOAD,
                                            .node = ""});
    return true;
}

/* Sessions are only looked through when there may be any to move. */
static bool moves_wanted(struct worker *w, uint64_t now_ms)
{
    if (w->moves_version != w->nodes->version)
        w->moves_until_ms = now_ms + MOVES_LOOK_MS;
    w->moves_version = w->nodes->version;
    if (now_ms < w->moves_until_ms)
        return true;
    for (uint32_t i = 0; i < w->nodes->count; i++) {
        const struct node *n = &w->nodes->nodes[i];
        if (n->sessions > 0 && (n->admin != NODE_ENABLED || n->leaving))
            return true;
    }
    return false;
}

void place_move_planned(struct worker *w)
{
    const double per_turn = w->config->failover.moves_per_second * (STORE_POLL_MS / 1000.0);
    const uint64_t now_ms = clock_mono_ms();
    uint32_t under_way = 0;
    if (w->config->failover.max_moves == 0 || !moves_wanted(w, now_ms))
        return;
    w->moves_allowed += per_turn;
    if (w->moves_allowed > per_turn + 1)
        w->moves_allowed = per_turn + 1;
    for (const struct session_conn *c = w->conns; c; c = c->next)
        under_way += c->s.state == SESS_REHOME && c->s.kind == SESSION_PUBLISH;
    for (struct session_conn *c = w->conns, *next; c; c = next) {
        next = c->next;
        if (w->moves_allowed < 1 || under_way >= MOVES_AT_ONCE)
            return;
        if (!move_one(c, now_ms))
            continue;
        w->moves_allowed--;
        under_way++;
    }
}

/* ---- commands ---- */

static bool can_move_to(const struct session_conn *c, const char *node)
{
    return node[0] == '\0' || (node_table_get(c->w->nodes, node) && strcmp(node, c->s.node) != 0 &&
                               !leaves_streams(c->w, node));
}

/* What came of it, for people. NULL: nothing, *failed says why. */
static const char *carry_out_for(struct session_conn *c, const struct store_command *cmd,
                                 const char **failed)
{
    switch (cmd->kind) {
    case COMMAND_KICK:
        session_post(c, &(struct session_event){.kind = SE_CLOSE, .why = WHY_KICKED});
        return "closed";
    case COMMAND_MOVE:
        *failed = "not a live publisher";
        if (c->s.kind != SESSION_PUBLISH || c->s.state != SESS_RELAY)
            return NULL;
        *failed = "not a node it can move to";
        if (!can_move_to(c, cmd->node))
            return NULL;
        session_post(c, &(struct session_event){
                            .kind = SE_MOVE, .cause = REHOME_COMMAND, .node = cmd->node});
        return "moving";
    }
    return NULL;
}

static bool carry_out(void *arg, const struct store_command *cmd)
{
    struct worker *w = arg;
    const char *failed = "no such session", *done = NULL;
    struct session_conn *c = w->conns;
    while (c && c->s.id != cmd->session)
        c = c->next;
    if (c)
        done = carry_out_for(c, cmd, &failed);
    const enum err e = store_command_finish(w->store, cmd->id, done ? COMMAND_DONE : COMMAND_FAILED,
                                            done ? done : failed);
    if (e != ERR_NOT_FOUND && e != ERR_CONFLICT) /* else it was withdrawn */
        (void)worker_store_ok(w, e, "command");
    return true;
}

void place_run_commands(struct worker *w)
{
    if (w->store)
        (void)worker_store_ok(
            w, store_commands_pending(w->store, &w->id, clock_wall_ms(), carry_out, w), "commands");
}
