#include "router/session_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "rtmp/handshake.h"

enum {
    CLOSING_MS = 5000,
    LINGER_MS = 1000,
    /* A client that begins more streams than that waits before each. */
    HASTY_STREAMS = 50,
    HASTY_WITHIN_MS = 10000,
    HASTY_WAIT_MS = 1000,
};

static const struct {
    const char *name;
    unsigned may_enter;
} state_info[SESS_STATE_COUNT] = {
    [SESS_HANDSHAKE] = {"handshake", 1u << SESS_COMMAND | 1u << SESS_CLOSING},
    [SESS_COMMAND] = {"command", 1u << SESS_PLACE | 1u << SESS_CLOSING},
    [SESS_PLACE] = {"place",
                    1u << SESS_COMMAND | 1u << SESS_PLACE | 1u << SESS_RELAY | 1u << SESS_CLOSING},
    [SESS_RELAY] = {"relay",
                    1u << SESS_COMMAND | 1u << SESS_PLACE | 1u << SESS_REHOME | 1u << SESS_CLOSING},
    [SESS_REHOME] = {"rehome",
                     1u << SESS_COMMAND | 1u << SESS_PLACE | 1u << SESS_RELAY | 1u << SESS_CLOSING},
    [SESS_CLOSING] = {"closing", 0},
};

const char *session_state_name(enum session_state s)
{
    assert((unsigned)s < SESS_STATE_COUNT);
    return state_info[s].name;
}

const char *node_fail_name(enum node_fail f)
{
    static const char *const names[NODE_FAIL_COUNT] = {
        [FAIL_NONE] = "none",
        [FAIL_DIAL] = "dial_failed",
        [FAIL_DIAL_TIMEOUT] = "dial_timeout",
        [FAIL_ANSWER_TIMEOUT] = "answer_timeout",
        [FAIL_DIED] = "died",
        [FAIL_GHOST] = "ghost",
        [FAIL_BAD] = "bad_bytes",
        [FAIL_REFUSED] = "refused",
        [FAIL_FULL] = "full",
    };
    assert((unsigned)f < NODE_FAIL_COUNT);
    return names[f];
}

bool session_plays_already(const struct session *s)
{
    return s->kind == SESSION_PLAY && s->started_ms != 0 && rehome_enabled(s);
}

static uint64_t state_limit_ms(const struct session *s, enum session_state state)
{
    const struct session_env *env = s->env;
    switch (state) {
    case SESS_HANDSHAKE:
        return env->router->handshake_timeout_ms;
    case SESS_COMMAND:
        return env->router->idle_timeout_ms;
    case SESS_PLACE:
        return session_plays_already(s) ? env->failover->give_up_ms : env->router->setup_timeout_ms;
    case SESS_RELAY:
        return 0; /* bounded by router.ping_timeout of silence instead */
    case SESS_REHOME:
        return env->failover->give_up_ms;
    case SESS_CLOSING:
        return CLOSING_MS;
    }
    return CLOSING_MS;
}

/* The only writer of s->state. */
void session_enter(struct session *s, enum session_state next, uint64_t now_ms)
{
    assert(state_info[s->state].may_enter & 1u << next);
    const uint64_t limit = state_limit_ms(s, next);
    const bool first = s->state == SESS_HANDSHAKE;
    s->state = next;
    s->state_deadline_ms = limit ? now_ms + limit : 0;
    s->phase_deadline_ms = 0;
    s->client_paused = s->node_paused = false; /* full queues are watched while relaying only */
    s->stall_deadline_ms = 0;
    if (next == SESS_COMMAND) {
        s->client.link.in.limits = &s->env->unrouted_limits;
        s->unrouted_base = first ? RTMP_C0C1_BYTES + RTMP_HANDSHAKE_BYTES : s->client.bytes_in;
    } else if (next == SESS_PLACE) {
        s->client.link.in.limits = &s->env->client_limits;
    } else if (next == SESS_RELAY) { /* its silence counts from here: it was not asked meanwhile */
        s->heard_ms = now_ms;
        s->pinged_ms = 0;
    }
}

void session_init(struct session *s, const struct session_env *env, uint64_t id, uint64_t now_ms)
{
    memset(s, 0, sizeof *s);
    s->env = env;
    s->id = id;
    s->current = s->rehome.link = -1;
    s->heard_ms = now_ms;
    s->state_deadline_ms = now_ms + env->router->handshake_timeout_ms;
    client_side_init(&s->client, env->pool, &env->unrouted_limits);
}

void session_deinit(struct session *s)
{
    share_leave_seat(&s->seat);
    admission_leave_app(s->env->admission, &s->app);
    for (int i = 0; i < SESSION_LINKS; i++)
        node_link_close(&s->links[i]);
    pending_clear(&s->pending);
    rehome_forget(s);
    rtmp_msg_unref(s->command);
    free(s->stream);
    client_side_deinit(&s->client);
}

/* ---- endings ---- */

/* What is not to be done any more for a stream that has ended. */
enum {
    ACT_OF_STREAM = ACT_REHOMING | ACT_PLACE | ACT_MOVE | ACT_AUDIENCE | ACT_ATTACHED |
                    ACT_STARTED | ACT_ARRIVED | ACT_RESUMED | ACT_ENDS | ACT_SUSPECT
};

static void note_ended(struct session *s, bool keep_hint, enum session_action action)
{
    admission_leave_app(s->env->admission, &s->app);
    if (!s->placed)
        return;
    s->stream->ended = (struct session_ended){
        .key = s->key, .kind = s->kind, .epoch = s->claim_epoch, .keep_hint = keep_hint};
    memcpy(s->stream->ended.node, s->node, sizeof s->node);
    s->placed = false;
    s->claim_epoch = 0;
    s->actions |= action;
}

/* The node link's queue still leaves, if the node takes it in time; then it closes. An older one
 * that is still at it gives way, so that there is always a link for the next stream. */
static void finish_link(struct session *s, uint64_t now_ms)
{
    struct node_link *n = session_link_in_use(s);
    if (n)
        node_link_finish(n);
    if (n && n->state == NODE_CLOSING) {
        node_link_close(&s->links[!s->current]);
        s->flush_deadline_ms = now_ms + CLOSING_MS;
    }
    s->current = -1;
}

static void close_flushing_links(struct session *s, bool only_flushed)
{
    for (int i = 0; i < SESSION_LINKS; i++) {
        struct node_link *n = &s->links[i];
        if (n->state == NODE_CLOSING && (!only_flushed || rtmp_chunk_writer_empty(&n->link.out)))
            node_link_close(n);
    }
}

void session_abort_link(struct session *s)
{
    struct node_link *n = session_link_in_use(s);
    if (n)
        node_link_close(n);
    s->current = -1;
}

void session_close(struct session *s, enum close_why why, uint64_t now_ms)
{
    if (s->state == SESS_CLOSING)
        return;
    s->why = why;
    share_leave_seat(&s->seat);
    /* A node's own verdict on this publisher pins no node for its name */
    note_ended(s, s->node_started_ms != 0 && why != WHY_NODE_REFUSED, ACT_RELEASE);
    rehome_abandon(s);
    finish_link(s, now_ms);
    pending_clear(&s->pending);
    session_enter(s, SESS_CLOSING, now_ms);
    s->actions &= ~(unsigned)ACT_OF_STREAM;
    s->play_start_ms = s->link_ping_ms = 0;
}

/* Tells the client in the protocol's own words, then closes. */
void session_refuse(struct session *s, enum close_why why, const char *code, const char *text,
                    uint64_t now_ms)
{
    if (s->state == SESS_CLOSING)
        return;
    s->last_words = client_side_status(&s->client, "error", code, text) == ERR_OK;
    session_close(s, why, now_ms);
}

const char *session_failed_code(const struct session *s)
{
    return s->kind == SESSION_PUBLISH ? "NetStream.Publish.Failed" : "NetStream.Play.Failed";
}

/* What is held of the stream; what is known of it stays for the log. */
static void release_stream(struct session *s)
{
    rtmp_msg_unref(s->command);
    s->command = NULL;
    pending_clear(&s->pending);
    rehome_forget(s);
}

static void forget_stream(struct session *s)
{
    release_stream(s);
    s->node[0] = '\0';
    s->took_over = s->told_start = s->media_seen = s->alone = false;
    s->excluded_count = s->tries = 0;
    s->last_fail = FAIL_NONE;
    s->refusal[0] = '\0';
    s->started_ms = s->node_started_ms = s->play_start_ms = s->ghost_until_ms = 0;
}

/* The publication or play is over, the connection goes on. */
static void end_stream(struct session *s, uint64_t now_ms)
{
    if (s->state != SESS_RELAY && s->state != SESS_PLACE && s->state != SESS_REHOME)
        return;
    const bool publisher_told = s->kind == SESSION_PUBLISH && s->told_start;
    share_leave_seat(&s->seat);
    note_ended(s, s->node_started_ms != 0, ACT_RELEASE);
    rehome_abandon(s);
    finish_link(s, now_ms);
    session_enter(s, SESS_COMMAND, now_ms);
    s->actions &= ~(unsigned)ACT_OF_STREAM;
    s->play_start_ms = 0;
    release_stream(s);
    if (publisher_told && client_side_status(&s->client, "status", "NetStream.Unpublish.Success",
                                             "Stop publishing") != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
}

/* ---- what the client says ---- */

/* Each stream is a connection to a node, and those that are closed keep their ports for a minute.
 */
static bool is_hasty(struct session *s, uint64_t now_ms)
{
    if (now_ms - s->begun_since_ms >= HASTY_WITHIN_MS) {
        s->begun_since_ms = now_ms;
        s->begun = 0;
    }
    return ++s->begun > HASTY_STREAMS;
}

/* A second publish or play on the connection ends the first: a new node link. */
static void begin_stream(struct session *s, const struct client_event *ev, uint64_t now_ms)
{
    const struct amf0_value *arg = &ev->cmd.arg[0];
    end_stream(s, now_ms);
    if (s->state != SESS_COMMAND ||
        (arg->type == AMF0_BOOLEAN && !arg->boolean)) /* publish(false) only ends */
        return;
    forget_stream(s);
    s->kind = ev->kind == CLIENT_PUBLISH ? SESSION_PUBLISH : SESSION_PLAY;
    s->asked_ms = now_ms;
    if (!entry_take(s, ev, now_ms))
        return;
    session_enter(s, SESS_PLACE, now_ms);
    if (is_hasty(s, now_ms)) {
        s->phase = PHASE_HELD;
        s->phase_deadline_ms = now_ms + HASTY_WAIT_MS;
    } else {
        session_look_up(s);
    }
}

/* Media and commands that belong to the node: sent on, or kept until there is one. */
static void pass_to_node(struct session *s, struct rtmp_msg *m, uint64_t now_ms)
{
    struct node_link *n = session_link_in_use(s);
    enum err e = ERR_OK;
    if (s->state == SESS_PLACE) {
        e = pending_push(&s->pending, m);
        const bool node_listens = n && (n->state == NODE_HANDSHAKE || n->state == NODE_COMMAND);
        if (e == ERR_OK && s->kind == SESSION_PLAY && s->phase == PHASE_LINK && node_listens)
            e = node_link_send(n, m);
    } else if ((s->state == SESS_RELAY || s->state == SESS_REHOME) && n) {
        e = node_link_send(n, m);
    }
    if (e == ERR_OK && s->kind == SESSION_PLAY)
        e = rehome_pass(s, m);
    if (e != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
}

static void on_client_media(struct session *s, struct rtmp_msg *m, uint64_t now_ms)
{
    if (s->kind != SESSION_PUBLISH || s->state == SESS_COMMAND)
        return;
    rehome_keep(s, m, now_ms);
    pass_to_node(s, m, now_ms);
    if (s->state == SESS_REHOME)
        rehome_publisher_media(s, m, now_ms);
}

/* Messages for the node. FCUnpublish names the stream once more, token and all. */
static void on_client_pass(struct session *s, struct rtmp_msg *m, uint64_t now_ms)
{
    struct rtmp_msg *copy = NULL;
    if (s->token && m->type == RTMP_COMMAND_AMF0) {
        m = copy = entry_command(s, m);
        if (!copy) {
            session_close(s, WHY_LIMIT_MEMORY, now_ms);
            return;
        }
    }
    if (s->kind == SESSION_PLAY && m->type == RTMP_COMMAND_AMF0)
        shared_play_leave(s, now_ms);
    if (s->kind == SESSION_PLAY && s->state != SESS_COMMAND)
        rehome_remember(s, m);
    pass_to_node(s, m, now_ms);
    rtmp_msg_unref(copy);
}

static void on_client_event(struct session *s, struct client_event *ev, uint64_t now_ms)
{
    switch (ev->kind) {
    case CLIENT_PUBLISH:
    case CLIENT_PLAY:
        begin_stream(s, ev, now_ms);
        break;
    case CLIENT_MEDIA:
        on_client_media(s, ev->msg, now_ms);
        break;
    case CLIENT_PASS:
        on_client_pass(s, ev->msg, now_ms);
        break;
    case CLIENT_END:
        end_stream(s, now_ms);
        break;
    }
    rtmp_msg_unref(ev->msg);
}

static void on_client_bytes(struct session *s, struct slice *in, uint64_t now_ms)
{
    s->heard_ms = now_ms;
    s->pinged_ms = 0;
    while (s->state != SESS_CLOSING) {
        struct client_event ev;
        const enum parse_result r =
            client_side_next(&s->client, in, s->env->noise, (uint32_t)now_ms, &ev);
        if (s->state == SESS_HANDSHAKE && s->client.phase == CLIENT_MESSAGES)
            session_enter(s, SESS_COMMAND, now_ms);
        if (r == PARSE_BAD) {
            session_close(s, s->client.why, now_ms);
            return;
        }
        if (r == PARSE_NEED_MORE)
            break;
        on_client_event(s, &ev, now_ms);
    }
    if (s->state == SESS_COMMAND && s->client.bytes_in - s->unrouted_base > s->env->unrouted_bytes)
        session_close(s, WHY_UNROUTED_BYTES, now_ms);
}

/* ---- what the cluster says ---- */

static void forget_publication(struct session *s)
{
    splice_forget(&s->rehome.splice);
    if (s->leads)
        share_forget(s->leads);
}

void session_note_publication(struct session *s, uint64_t publication)
{
    if (publication != 0 && publication != s->rehome.publication)
        forget_publication(s);
    s->rehome.publication = publication;
}

/* A player whose stream is live on another node, or was published on its own anew without its
 * hearing of that: nothing more will come over this link. */
static void on_stream_moved(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (s->kind != SESSION_PLAY ||
        (s->state != SESS_RELAY && s->state != SESS_PLACE && s->state != SESS_REHOME))
        return;
    const bool known = s->rehome.publication == ev->publication;
    const bool anew = known && ev->publication != 0 && !ev->follow;
    if (!known)
        forget_publication(s);
    s->rehome.publication = ev->publication;
    if (s->state != SESS_PLACE && rehome_called_back(s, ev, now_ms))
        return;
    if (ev->follow && s->state != SESS_PLACE) {
        rehome_follow(s, ev, now_ms);
        return;
    }
    const bool held = s->state == SESS_PLACE && s->phase == PHASE_HELD;
    if (s->state != SESS_REHOME && strcmp(s->node, ev->node) == 0 && !anew && !held)
        return;
    session_pass_ends(s, false, now_ms); /* the stream is live */
    rehome_abandon(s);
    session_abort_link(s);
    s->excluded_count = s->tries = s->rehome.rounds = 0;
    const bool waits = s->state == SESS_PLACE; /* and what it has asked for, too */
    session_enter(s, SESS_PLACE, now_ms);
    if (!waits)
        rehome_ask_again(s, now_ms);
    if (s->state == SESS_PLACE)
        session_look_up(s);
}

static void on_taken_over(struct session *s, uint64_t now_ms)
{
    if (s->kind != SESSION_PUBLISH ||
        (s->state != SESS_RELAY && s->state != SESS_PLACE && s->state != SESS_REHOME))
        return;
    rehome_abandon(s);
    session_abort_link(s);
    note_ended(s, false, ACT_HANDED_OVER);
    session_refuse(s, WHY_TAKEN_OVER, "NetStream.Publish.BadName",
                   "the stream is published by another connection now", now_ms);
}

/* ---- time ---- */

static void on_state_deadline(struct session *s, uint64_t now_ms)
{
    switch (s->state) {
    case SESS_HANDSHAKE:
        session_close(s, WHY_HANDSHAKE_TIMEOUT, now_ms);
        break;
    case SESS_COMMAND:
        session_close(s, WHY_IDLE_TIMEOUT, now_ms);
        break;
    case SESS_PLACE:
        session_refuse(s, WHY_NO_NODE, session_failed_code(s), "no media node answered in time",
                       now_ms);
        break;
    case SESS_RELAY:
        break;
    case SESS_REHOME:
        rehome_state_deadline(s, now_ms);
        break;
    case SESS_CLOSING:
        s->actions |= ACT_FREE;
        break;
    }
}

/* While a queue is full the stall deadline watches instead: we do not read the publisher then, and
 * the player has our ping behind all that waits for it. */
static uint64_t ping_due(const struct session *s)
{
    if (s->state != SESS_RELAY || s->client_paused || s->node_paused || s->client_gone)
        return UINT64_MAX;
    const uint64_t interval_ms = s->env->router->ping_interval_ms;
    return s->pinged_ms ? s->heard_ms + s->env->router->ping_timeout_ms
                        : s->heard_ms + interval_ms - session_part_of(s, interval_ms / 4);
}

static void on_ping_due(struct session *s, uint64_t now_ms)
{
    if (s->pinged_ms) {
        session_close(s, WHY_CLIENT_SILENT, now_ms);
        return;
    }
    s->pinged_ms = now_ms;
    if (rtmp_link_send_user(&s->client.link, RTMP_PING_REQUEST, (uint32_t)now_ms, 0) != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
}

static bool due(uint64_t at_ms, uint64_t now_ms)
{
    return at_ms != 0 && now_ms >= at_ms;
}

/* Some clients answer nothing: that they take what they are sent says as much. */
static void on_client_takes(struct session *s, uint64_t now_ms)
{
    s->heard_ms = now_ms;
    s->pinged_ms = 0;
}

static void on_stalled(struct session *s, uint64_t now_ms)
{
    if (s->kind == SESSION_PLAY)
        session_close(s, WHY_STALLED, now_ms);
    else if (rehome_enabled(s))
        rehome_link_lost(s, REHOME_SILENT, now_ms);
    else
        session_close(s, WHY_NODE_STALLED, now_ms);
}

static void on_tick(struct session *s, uint64_t now_ms)
{
    if (due(s->flush_deadline_ms, now_ms)) {
        s->flush_deadline_ms = 0;
        close_flushing_links(s, false);
    }
    if (due(s->state_deadline_ms, now_ms)) {
        on_state_deadline(s, now_ms);
        if (s->state == SESS_CLOSING)
            return;
    }
    if (due(s->phase_deadline_ms, now_ms)) {
        s->phase_deadline_ms = 0;
        session_on_phase_deadline(s, now_ms);
    }
    if (due(s->play_start_ms, now_ms))
        session_on_play_start_due(s, now_ms);
    if (due(s->rehome.ends_due_ms, now_ms)) {
        s->rehome.ends_due_ms = UINT64_MAX; /* being asked for the last time */
        s->actions |= ACT_ENDS;
    }
    if (due(s->link_ping_ms, now_ms))
        link_watch_due(s, now_ms);
    if (due(s->stall_deadline_ms, now_ms) && s->state == SESS_RELAY)
        on_stalled(s, now_ms);
    if (ping_due(s) <= now_ms)
        on_ping_due(s, now_ms);
}

uint64_t session_deadline(const struct session *s)
{
    const uint64_t all[] = {s->state_deadline_ms, s->phase_deadline_ms, s->play_start_ms,
                            s->stall_deadline_ms, s->flush_deadline_ms, s->link_ping_ms,
                            s->rehome.ends_due_ms};
    uint64_t first = ping_due(s);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] != 0 && all[i] < first)
            first = all[i];
    return first;
}

bool session_judges_client(const struct session *s, uint64_t now_ms)
{
    return s->pinged_ms != 0 && ping_due(s) <= now_ms;
}

bool session_judges(const struct session *s, uint64_t now_ms)
{
    const struct session_rehome *r = &s->rehome;
    const bool hangs = r->link >= 0 && due(r->batch_ms, now_ms) &&
                       now_ms - r->batch_ms > s->env->failover->stall_ms;
    const bool answer_awaited = s->state == SESS_REHOME
                                    ? r->phase == RH_LINK || r->phase == RH_CHECK || hangs
                                    : s->phase == PHASE_LINK || s->phase == PHASE_CHECK;
    return due(s->state_deadline_ms, now_ms) || due(s->stall_deadline_ms, now_ms) ||
           due(s->flush_deadline_ms, now_ms) || session_judges_client(s, now_ms) ||
           (due(s->link_ping_ms, now_ms) && link_watch_judges(s)) ||
           (answer_awaited && due(s->phase_deadline_ms, now_ms));
}

/* ---- the machine ---- */

static void advance_closing(struct session *s, uint64_t now_ms)
{
    const bool client_done = s->client_gone || rtmp_chunk_writer_empty(&s->client.link.out);
    if (!client_done || s->links[0].state != NODE_OFF || s->links[1].state != NODE_OFF)
        return;
    if (s->client_gone || !s->last_words) {
        s->actions |= ACT_FREE;
    } else {
        s->last_words =
            false; /* hear the client out for a moment, or a reset would take our words back */
        s->actions |= ACT_SHUTDOWN;
        s->state_deadline_ms = now_ms + LINGER_MS;
        s->lingering = true;
    }
}

static void on_client_ended(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    s->client_gone = true;
    if (s->lingering)
        s->actions |= ACT_FREE;
    else
        session_close(s, ev->why, now_ms);
}

static void on_node_socket(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (ev->kind == SE_NODE_DIALLED)
        session_on_node_dialled(s, ev, now_ms);
    else if (ev->kind == SE_NODE_CONNECTED)
        session_on_node_connected(s, ev, now_ms);
    else if (ev->kind == SE_NODE_FAILED)
        session_on_node_failed(s, ev, now_ms);
    else if (ev->kind == SE_NODE_BYTES)
        session_on_node_bytes(s, ev, now_ms);
    else
        session_on_node_ended(s, ev, now_ms);
}

unsigned session_step(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    s->actions = 0;
    switch (ev->kind) {
    case SE_CLIENT_BYTES:
        on_client_bytes(s, ev->bytes, now_ms);
        break;
    case SE_CLIENT_TAKES:
        on_client_takes(s, now_ms);
        break;
    case SE_CLIENT_ENDED:
        on_client_ended(s, ev, now_ms);
        break;
    case SE_PLACED:
        session_on_placed(s, ev, now_ms);
        break;
    case SE_UNPLACED:
        session_on_unplaced(s, ev, now_ms);
        break;
    case SE_SHARED:
        shared_play_seated(s, ev, now_ms);
        break;
    case SE_SHARE_STARTED:
        shared_play_started(s, ev, now_ms);
        break;
    case SE_SHARE_ENDED:
        shared_play_ended(s, ev, now_ms);
        break;
    case SE_RELEASED:
        if (s->state == SESS_PLACE && s->phase == PHASE_WAIT_RELEASE)
            session_dial(s, PHASE_LINK, now_ms);
        break;
    case SE_NODE_DIALLED:
    case SE_NODE_CONNECTED:
    case SE_NODE_FAILED:
    case SE_NODE_BYTES:
    case SE_NODE_ENDED:
        on_node_socket(s, ev, now_ms);
        break;
    case SE_STREAM_MOVED:
        on_stream_moved(s, ev, now_ms);
        break;
    case SE_STREAM_SETTLED:
        rehome_settled(s, now_ms);
        break;
    case SE_CLAIM_MOVED:
        rehome_claim_moved(s, ev, now_ms);
        break;
    case SE_AUDIENCE:
        rehome_audience(s, ev, now_ms);
        break;
    case SE_PUBLISHER:
        session_on_publisher(s, ev, now_ms);
        break;
    case SE_SUSPECT:
        link_watch_suspect(s, now_ms);
        break;
    case SE_MOVE:
        rehome_planned(s, ev->cause, ev->node, now_ms);
        break;
    case SE_TAKEN_OVER:
        on_taken_over(s, now_ms);
        break;
    case SE_FLUSHED:
        close_flushing_links(s, true);
        break;
    case SE_CLOSE:
        session_close(s, ev->why, now_ms);
        break;
    case SE_TICK:
        on_tick(s, now_ms);
        break;
    }
    flow_update(s, now_ms);
    if (s->state == SESS_CLOSING && !s->lingering)
        advance_closing(s, now_ms);
    return s->actions;
}
