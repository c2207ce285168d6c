#define _GNU_SOURCE
#include "router/move_io.h"

#include <string.h>

#include "base/clock_io.h"
#include "router/audience_io.h"
#include "router/changes_io.h"
#include "router/place_io.h"
#include "router/record_io.h"

enum {
    MOVES_LOOK_MS = 60000,   /* after a change of the nodes, or the last session found */
    MOVES_REST_MS = 500,     /* after a look that found none */
    MOVES_LOOKS_PER_MS = 4,  /* sessions: and longer where there are many of them */
    MOVE_AGAIN_MS = 1000,    /* before a stream that could not be moved is tried again, */
    MOVE_DOUBLINGS_MAX = 4,  /* twice as long each time: its hooks are asked each time, too */
    LEAVING_TRIES = 128,     /* in a look; if those find nowhere to go, nor do the others */
    MOVES_WITHIN_US = 2000,  /* in a look; the others are tried in the next one */
    RELOAD_SETTLE_MS = 1000, /* new connections may reach the old process for a moment */
};

/* ---- moving live streams ---- */

static enum log_level level_of(enum rehome_cause cause)
{
    switch (cause) {
    case REHOME_ENDED:
    case REHOME_SILENT:
    case REHOME_BAD:
        return LOG_WARN;
    case REHOME_DRAIN:
    case REHOME_RELOAD:
    case REHOME_COMMAND:
        break; /* the operator's wish */
    }
    return LOG_INFO;
}

void move_log_begun(struct session_conn *c)
{
    const struct session *s = &c->s;
    char stream[STREAM_KEY_MAX];
    LOG(&c->w->log, level_of(s->rehome.cause), EV_STREAM_MOVING, log_u64(K_SID, s->id),
        log_text(K_CLIENT, c->client),
        log_text(K_STREAM, worker_stream_text(c->w, &s->key, stream)), log_text(K_NODE, s->node),
        log_text(K_REASON, rehome_cause_name(s->rehome.cause)));
}

struct holder {
    uint64_t session;
    bool known;
};

static void note_holder(void *arg, enum err e, const struct claim *claim)
{
    struct holder *h = arg;
    h->known = e == ERR_OK || e == ERR_NOT_FOUND;
    h->session = e == ERR_OK && claim->state == CLAIM_LIVE ? claim->session : 0;
}

/* Somebody else has the claim that is no longer ours. */
static bool is_taken_over(struct session_conn *c)
{
    struct worker *w = c->w;
    struct holder h = {0};
    store_claim_get(w->store, &c->s.key, w->config->placement.hold_ms, worker_claims_ms(w),
                    note_holder, &h);
    return !h.known || (h.session != 0 && h.session != c->s.id);
}

static void on_claim_moved(void *arg, enum err e, const struct claim *claim)
{
    struct session_conn *c = arg;
    struct worker *w = c->w;
    c->place_waiting--;
    if (c->dead)
        return;
    if (e == ERR_CONFLICT && is_taken_over(c)) {
        session_post(c, &(struct session_event){.kind = SE_TAKEN_OVER});
        return;
    }
    if (e == ERR_CONFLICT) { /* we were taken for dead: reconcile() takes it anew */
        c->s.claim_epoch = 0;
        w->store_missed = true;
        session_post(c, &(struct session_event){.kind = SE_CLAIM_MOVED});
        return;
    }
    if (e == ERR_FULL) {
        (void)worker_store_ok(w, store_loads_read(w->store, w->nodes, clock_wall_ms()), "loads");
        session_post(c, &(struct session_event){.kind = SE_CLAIM_MOVED, .full = true});
        return;
    }
    (void)worker_store_ok(w, e, "claim");
    session_post(c, &(struct session_event){.kind = SE_CLAIM_MOVED,
                                            .epoch = e == ERR_OK ? claim->epoch : 0});
    if (e != ERR_OK)
        return;
    const struct stream_key key = claim->key;
    if (strcmp(claim->next, claim->node) != 0)
        place_count_stream(w, claim->next, true);
    audience_ring(w, &key, 0);
    changes_read(w); /* players of our own */
}

static enum claim_way way_of(const struct session *s)
{
    if (s->rehome.returned)
        return CLAIM_WAY_BACK;
    return s->rehome.planned ? CLAIM_WAY_PLANNED : CLAIM_WAY_LOST;
}

static void move_to(struct session_conn *c, const char *node, uint32_t bound, enum claim_way way,
                    store_claim_cb *cb)
{
    const struct session *s = &c->s;
    const struct claim_move move = {.key = &s->key,
                                    .epoch = s->claim_epoch,
                                    .next = node,
                                    .bound = bound,
                                    .way = way,
                                    .replay_time = session_replay_time(s),
                                    .now_ms = clock_wall_ms()};
    c->place_waiting++;
    store_claim_move(c->w->store, &move, cb, c);
}

void move_claim(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session *s = &c->s;
    if (!w->store || s->claim_epoch == 0) {
        session_post(c, &(struct session_event){.kind = SE_CLAIM_MOVED});
        return;
    }
    const bool was_there = strcmp(s->rehome.node, s->node) == 0;
    const uint32_t limit = node_streams_limit(node_table_get(w->nodes, s->rehome.node));
    move_to(c, s->rehome.node, was_there ? UINT32_MAX : limit, way_of(s), on_claim_moved);
}

void move_ask_audience(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session *s = &c->s;
    uint32_t behind = 0;
    if (w->store && s->claim_epoch != 0 &&
        !worker_store_ok(w,
                         store_audience_behind(w->store, &s->key, s->claim_epoch,
                                               s->rehome.phase == RH_OVERLAP, worker_claims_ms(w),
                                               &behind),
                         "audience"))
        behind = 0;
    session_post(c, &(struct session_event){.kind = SE_AUDIENCE, .ready = behind == 0});
}

void move_attached(struct session_conn *c)
{
    const struct stream_key key = c->s.key;
    if (c->s.state != SESS_REHOME) /* else it is on its node still */
        record_put(c);
    changes_read(c->w); /* others of this worker may not have heard of the move yet */
    audience_changed(c->w, &key);
}

static void count_move(const struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session *s = &c->s;
    const struct session_rehome *r = &s->rehome;
    char stream[STREAM_KEY_MAX];
    w->process.rehomed[r->cause]++;
    w->process.rehome_dropped += r->kept_dropped;
    LOG(&w->log, LOG_INFO, EV_STREAM_MOVED, log_u64(K_SID, s->id), log_text(K_CLIENT, c->client),
        log_text(K_STREAM, worker_stream_text(w, &s->key, stream)), log_text(K_NODE, s->node),
        log_text(K_REASON, rehome_cause_name(r->cause)), log_u64(K_REHOMES, r->count),
        log_u64(K_COUNT, r->replayed), log_u64(K_EPOCH, s->claim_epoch), log_u64(K_MS, r->gap_ms));
}

static void write_arrived(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct stream_key key = c->s.key;
    const struct session_record record = record_of(c, c->s.node);
    const enum err e =
        store_claim_arrived(w->store, &key, c->s.claim_epoch, &record, clock_wall_ms());
    record_note_written(c, e == ERR_CONFLICT || worker_store_ok(w, e, "claim"));
    audience_ring(w, &key, 0);
    changes_read(w);
}

void move_arrived(struct session_conn *c)
{
    c->move_tries = 0;
    record_note_pings(c);
    if (!c->s.rehome.returned)
        count_move(c);
    if (c->w->store && c->s.claim_epoch != 0)
        write_arrived(c);
    else
        record_put(c);
}

static void on_claim_written(void *arg, enum err e, const struct claim *claim)
{
    struct session_conn *c = arg;
    c->place_waiting--;
    if (c->dead || e == ERR_CONFLICT || !worker_store_ok(c->w, e, "claim"))
        return;
    c->s.claim_epoch = claim->epoch;
    write_arrived(c);
}

void move_write_claim(struct session_conn *c, bool on_its_way)
{
    const struct session *s = &c->s;
    if (on_its_way) {
        write_arrived(c);
        return;
    }
    move_to(c, s->node, UINT32_MAX, s->rehome.returned ? CLAIM_WAY_BACK : CLAIM_WAY_LOST,
            on_claim_written);
}

void move_resumed(struct session_conn *c)
{
    struct worker *w = c->w;
    const struct session_rehome *r = &c->s.rehome;
    memset(&c->said, 0, sizeof c->said);
    w->process.rehomed_players++;
    process_histogram_add_gap(&w->process.rehome_gap, r->gap_ms * 1000);
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

void move_ask_publisher(struct session_conn *c)
{
    struct worker *w = c->w;
    if (!w->store) {
        session_post(c, &(struct session_event){.kind = SE_PUBLISHER});
        return;
    }
    c->place_waiting++;
    const struct stream_key key = c->s.key;
    store_claim_get(w->store, &key, w->config->placement.hold_ms, worker_claims_ms(w), on_ends, c);
}

/* ---- planned moves ---- */

static bool note_generation(void *arg, const struct node_status *st)
{
    struct worker *w = arg;
    struct node *n = node_table_find(w->nodes, st->id);
    if (!n || n->notes.generations == st->generations)
        return true;
    if (n->notes.generations != 0 && st->generations > n->notes.generations) {
        n->notes.reloaded_ms = clock_mono_ms();
        w->moves_until_ms = n->notes.reloaded_ms + MOVES_LOOK_MS;
    }
    n->notes.generations = st->generations;
    return true;
}

void move_read_generations(struct worker *w)
{
    (void)worker_store_ok(w, store_status_list(w->store, note_generation, w), "node status");
}

static bool must_leave(const struct node *n) /* NULL: it is in the list no more */
{
    return !n || n->admin != NODE_ENABLED || n->leaving;
}

/* It may have a process of the node that nobody reaches any more, or the node is at another address
 * now. One that was dialled between a reload and our hearing of it may have the new process. */
static bool is_outdated(const struct session_conn *c, const struct node *n, uint64_t now_ms)
{
    const struct session *s = &c->s;
    if (!n || s->current < 0)
        return false;
    const struct node_socket *link = &c->nodes[s->current];
    if (n->addr.ss_family != 0 && node_address_hash(&n->addr) != link->address)
        return true;
    return n->notes.reloaded_ms != 0 && link->dialled_ms < n->notes.reloaded_ms &&
           now_ms >= n->notes.reloaded_ms + RELOAD_SETTLE_MS;
}

/* The stream is on the player's node, and yet the player has had nothing of it: it came when the
 * node had been reloaded, so it is in the new process. */
static bool is_beside(const struct session_conn *c, const struct claim *claim)
{
    return claim->state == CLAIM_LIVE && claim->next[0] == '\0' &&
           strcmp(claim->node, c->s.node) == 0 && !c->s.rehome.splice.any &&
           is_outdated(c, node_table_get(c->w->nodes, c->s.node), clock_mono_ms());
}

static void leave_if_waiting(void *arg, enum err e, const struct claim *claim)
{
    struct session_conn *c = arg;
    c->place_waiting--;
    if (e == ERR_NOT_FOUND || (e == ERR_OK && (claim->state == CLAIM_HINT || is_beside(c, claim))))
        session_post(c, &(struct session_event){.kind = SE_STREAM_MOVED, .node = ""});
}

/* A player follows its stream; one that waits for a stream goes where that would go now, if only to
 * the node's new process. */
static void move_waiting_player(struct session_conn *c)
{
    const struct stream_key key = c->s.key;
    c->place_waiting++;
    store_claim_get(c->w->store, &key, c->w->config->placement.hold_ms, worker_claims_ms(c->w),
                    leave_if_waiting, c);
}

static bool may_try(const struct session_conn *c, uint64_t now_ms)
{
    return !c->dead && c->s.state == SESS_RELAY && now_ms >= c->move_after_ms;
}

/* One that should move. True: a move has begun. One that has nowhere to go is let alone: it takes
 * no turn of others, and its client is watched as ever. */
static bool move_one(struct session_conn *c, uint64_t now_ms)
{
    struct worker *w = c->w;
    const struct session *s = &c->s;
    const bool leave = must_leave(node_table_get(w->nodes, s->node));
    c->move_after_ms = now_ms + ((uint64_t)MOVE_AGAIN_MS << c->move_tries);
    if (leave && !place_finds_another(c))
        return false;
    if (s->kind == SESSION_PLAY && w->store)
        move_waiting_player(c);
    if (s->kind == SESSION_PLAY || !rehome_may_plan(s, worker_now_ms(w)))
        return false;
    if (c->move_tries < MOVE_DOUBLINGS_MAX)
        c->move_tries++;
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

/* Now, or when it may. */
static bool should_move(const struct session_conn *c, const struct node *n, uint64_t now_ms)
{
    return c->s.node[0] != '\0' && !c->s.seat.share && (must_leave(n) || is_outdated(c, n, now_ms));
}

/* One that was told may have taken the next one with it: then from the first again. */
static struct session_conn *go_on(const struct worker *w, struct session_conn *next)
{
    return next && next->dead ? w->conns : next;
}

/* False: there is nobody who should and may. */
static bool move_publishers(struct worker *w, uint64_t now_ms)
{
    bool any = false;
    uint32_t leaving = 0;
    for (struct session_conn *c = w->conns, *next; c; c = go_on(w, next)) {
        next = c->next;
        const struct node *n = node_table_get(w->nodes, c->s.node);
        if (!should_move(c, n, now_ms) || !may_try(c, now_ms))
            continue;
        any = true;
        if (w->moves_allowed < 1)
            break;
        if (c->s.kind != SESSION_PUBLISH)
            continue;
        if (must_leave(n) && leaving++ >= LEAVING_TRIES)
            continue;
        if (move_one(c, now_ms))
            w->moves_allowed--;
    }
    return any;
}

/* Those that wait at such a node may be thousands: some at a time, and next time the ones behind
 * them. */
static void move_players(struct worker *w, uint64_t now_ms)
{
    uint64_t until_us = 0;
    struct session_conn *c = w->moves_at ? w->moves_at : w->conns;
    for (w->moves_at = NULL; c; c = w->moves_at) {
        w->moves_at = c->next;
        if (c->s.kind != SESSION_PLAY || !may_try(c, now_ms) ||
            !should_move(c, node_table_get(w->nodes, c->s.node), now_ms))
            continue;
        (void)move_one(c, now_ms);
        const uint64_t now_us = clock_mono_us();
        if (until_us == 0)
            until_us = now_us + MOVES_WITHIN_US;
        else if (now_us >= until_us)
            return;
    }
}

void move_planned(struct worker *w)
{
    const double per_turn = w->config->failover.moves_per_second * (STORE_POLL_MS / 1000.0);
    const uint64_t now_ms = clock_mono_ms();
    const bool rests = w->moves_version == w->nodes->version && now_ms < w->moves_rest_until_ms;
    if (w->config->failover.max_moves == 0 || rests || !moves_wanted(w, now_ms))
        return;
    w->moves_allowed += per_turn;
    if (w->moves_allowed > per_turn + 1)
        w->moves_allowed = per_turn + 1;
    if (move_publishers(w, now_ms)) {
        w->moves_until_ms = now_ms + MOVES_LOOK_MS; /* there may be more than a minute's worth */
        move_players(w, now_ms);
    } else {
        w->moves_rest_until_ms = now_ms + MOVES_REST_MS + w->conn_count / MOVES_LOOKS_PER_MS;
    }
}

/* ---- commands ---- */

/* node "": wherever it fits. NULL: it can go there. */
static const char *why_not_to(const struct session_conn *c, const char *node)
{
    if (node[0] == '\0')
        return NULL;
    if (strcmp(node, c->s.node) == 0)
        return "the stream is on that node already";
    const struct node *n = node_table_get(c->w->nodes, node);
    if (!n)
        return "that node is not known here yet";
    if (n->streams >= node_streams_limit(n))
        return "that node has its max_streams";
    return must_leave(n) ? "that node is being drained, or is disabled" : NULL;
}

/* What will have come of it, for people. NULL: it cannot be done, *failed says why. */
static const char *outcome_of(const struct session_conn *c, const struct store_command *cmd,
                              const char **failed)
{
    switch (cmd->kind) {
    case COMMAND_KICK:
        return "closed";
    case COMMAND_MOVE:
        *failed = c->s.state == SESS_REHOME ? "the stream is being moved already"
                                            : "not a live publisher";
        if (c->s.kind != SESSION_PUBLISH || c->s.state != SESS_RELAY)
            return NULL;
        *failed = "failover.max_moves is 0: streams are not moved";
        if (c->w->env.failover->max_moves == 0)
            return NULL;
        *failed = "the stream has lost too many nodes on its way within a minute";
        if (!rehome_may_plan(&c->s, worker_now_ms(c->w)))
            return NULL;
        *failed = why_not_to(c, cmd->node);
        return *failed ? NULL : "moving";
    }
    return NULL;
}

static void carry_out(struct session_conn *c, const struct store_command *cmd)
{
    struct session_event ev = {.kind = SE_CLOSE, .why = WHY_KICKED};
    if (cmd->kind == COMMAND_MOVE)
        ev = (struct session_event){.kind = SE_MOVE, .cause = REHOME_COMMAND, .node = cmd->node};
    session_post(c, &ev);
}

/* What is answered is written first: a command that was withdrawn meanwhile, or whose answer cannot
 * be written, is not carried out. */
static bool run_command(void *arg, const struct store_command *cmd)
{
    struct worker *w = arg;
    const char *failed = "no such session", *done = NULL;
    struct session_conn *c = w->conns;
    while (c && c->s.id != cmd->session)
        c = c->next;
    if (c)
        done = outcome_of(c, cmd, &failed);
    const enum err e = store_command_finish(w->store, cmd->id, done ? COMMAND_DONE : COMMAND_FAILED,
                                            done ? done : failed);
    if (e != ERR_NOT_FOUND && e != ERR_CONFLICT) /* else it was withdrawn */
        (void)worker_store_ok(w, e, "command");
    if (done && e == ERR_OK)
        carry_out(c, cmd);
    return true;
}

void move_run_commands(struct worker *w)
{
    if (w->store)
        (void)worker_store_ok(
            w, store_commands_pending(w->store, &w->id, clock_wall_ms(), run_command, w),
            "commands");
}

/* ---- pings ---- */

enum { NODE_PINGS_PER_S = 25 }; /* a node is asked so often, however many links there are */

void move_suspect(struct session_conn *c)
{
    for (struct session_conn *other = c->w->conns, *next; other; other = go_on(c->w, next)) {
        next = other->next;
        if (other != c && strcmp(other->s.node, c->s.node) == 0)
            session_post(other, &(struct session_event){.kind = SE_SUSPECT});
    }
}

static const struct node *linked_node(const struct session_conn *c)
{
    return c->s.current < 0 ? NULL : node_table_get(c->w->nodes, c->s.link_nodes[c->s.current]);
}

/* A link whose next ping is far off as things are now is asked at once. */
static void space_pings(struct session_conn *c, uint64_t space_ms)
{
    const uint64_t before_ms = c->s.link_space_ms;
    if (space_ms <= before_ms && space_ms >= before_ms / 2)
        return;
    c->s.link_space_ms = space_ms;
    if (space_ms < before_ms)
        session_post(c, &(struct session_event){.kind = SE_SUSPECT});
}

void move_space_pings(struct worker *w)
{
    uint32_t links[NODES_MAX] = {0};
    const struct node *n;
    for (const struct session_conn *c = w->conns; c; c = c->next)
        if ((n = linked_node(c)))
            links[n - w->nodes->nodes]++;
    for (struct session_conn *c = w->conns, *next; c; c = go_on(w, next)) {
        next = c->next;
        if ((n = linked_node(c)))
            space_pings(c, links[n - w->nodes->nodes] * UINT64_C(1000) / NODE_PINGS_PER_S);
    }
}
