#include "router/session_parts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rtmp/handshake.h"

enum {
    RELEASE_WAIT_MS = 500, /* the old publisher's worker closes its link within this */
    GHOST_FOR_MS = 1000,   /* how long BadName is taken for a ghost on the node */
    GHOST_EVERY_MS = 100,
    PLAY_START_MS = 1000, /* then a player gets the router's own Play.Start */
    CLOSING_MS = 5000,
    LINGER_MS = 1000,
    ENDS_AGAIN_MS = 500,
    ENDS_HELD_MAX = 8,      /* nodes say it with two or three messages */
    HELD_DOUBLINGS_MAX = 3, /* of the time before a held player asks for a node again */
    STATUS_TEXT_MAX = 160,
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
    };
    assert((unsigned)f < NODE_FAIL_COUNT);
    return names[f];
}

/* A player whose stream is found elsewhere waits for a node as in a move. */
static bool plays_already(const struct session *s)
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
        return plays_already(s) ? env->failover->give_up_ms : env->router->setup_timeout_ms;
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
    s->stream->ended =
        (struct session_ended){.key = s->key, .epoch = s->claim_epoch, .keep_hint = keep_hint};
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

static void abort_link(struct session *s)
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

/* ---- placing ---- */

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

void session_look_up(struct session *s)
{
    s->phase = PHASE_LOOKUP;
    s->phase_deadline_ms = 0;
    s->actions |= ACT_PLACE;
}

static void dial(struct session *s, enum place_phase phase, uint64_t now_ms)
{
    const int i = s->links[0].state == NODE_OFF ? 0 : 1;
    node_link_open(&s->links[i], s->env->pool, &s->env->node_limits,
                   phase == PHASE_CHECK ? NULL : s->command);
    memcpy(s->link_nodes[i], s->node, sizeof s->node);
    splice_feed_reset(&s->stream->feeds[i], FEED_LIVE, false);
    if (s->kind == SESSION_PLAY)
        rehome_join(s, i);
    s->current = i;
    s->phase = phase;
    s->phase_deadline_ms = now_ms + s->env->router->dial_timeout_ms;
    s->play_start_ms = 0;
    s->media_seen = false;
}

/* No node takes it. True: it waits, twice as long each time, and begins anew with the first. There
 * may be thousands of them, which no set-up limit spaces. */
static bool hold_player(struct session *s, uint64_t now_ms)
{
    if (!plays_already(s))
        return false;
    const uint32_t doublings =
        s->rehome.rounds < HELD_DOUBLINGS_MAX ? s->rehome.rounds : HELD_DOUBLINGS_MAX;
    s->excluded_count = s->tries = 0;
    s->rehome.rounds++;
    s->phase = PHASE_HELD;
    s->phase_deadline_ms = now_ms + ((uint64_t)REHOME_AGAIN_MS << doublings);
    return true;
}

/* This node is out of the question; the next one. */
static void give_up_node(struct session *s, enum node_fail fail, uint64_t now_ms)
{
    abort_link(s);
    s->last_fail = fail;
    s->ghost_until_ms = 0;
    s->refusal[0] = '\0'; /* it was that node's */
    if (s->excluded_count < SESSION_EXCLUDED_MAX)
        memcpy(s->stream->excluded[s->excluded_count++], s->node, sizeof s->node);
    memcpy(s->failed_node, s->node, sizeof s->failed_node);
    s->actions |= ACT_NODE_FAILED;
    if (s->tries++ >= s->env->router->retries) {
        if (!hold_player(s, now_ms))
            session_refuse(s, WHY_NO_NODE, session_failed_code(s),
                           "no media node could take the stream", now_ms);
        return;
    }
    session_look_up(s);
}

/* The node's own verdict: passed on, and no other node is asked. */
void session_refused_by_node(struct session *s, uint64_t now_ms)
{
    char text[STATUS_TEXT_MAX];
    snprintf(text, sizeof text, "refused by the media node%s%s", s->refusal[0] ? ": " : "",
             s->refusal);
    const char *code =
        s->kind == SESSION_PUBLISH ? "NetStream.Publish.Denied" : "NetStream.Play.Failed";
    session_refuse(s, WHY_NODE_REFUSED, s->refusal[0] ? s->refusal : code, text, now_ms);
}

/* Our claim is the only valid one, so whoever publishes this name on the node is a ghost that the
 * node will find out about. */
static void retry_ghost(struct session *s, uint64_t now_ms)
{
    if (s->ghost_until_ms == 0)
        s->ghost_until_ms = now_ms + GHOST_FOR_MS;
    if (now_ms >= s->ghost_until_ms) {
        give_up_node(s, FAIL_GHOST, now_ms);
        return;
    }
    abort_link(s);
    s->phase = PHASE_PAUSE;
    s->phase_deadline_ms = now_ms + GHOST_EVERY_MS;
}

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

static void on_placed(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (s->state == SESS_REHOME)
        rehome_placed(s, ev, now_ms);
    if (s->state != SESS_PLACE || s->phase != PHASE_LOOKUP)
        return;
    if (s->kind == SESSION_PLAY)
        session_note_publication(s, ev->publication);
    snprintf(s->node, sizeof s->node, "%s", ev->node);
    if (ev->epoch != 0) /* without a store this time: the claim for an earlier node is still ours */
        s->claim_epoch = ev->epoch;
    s->placed = true;
    s->placed_by = ev->reason;
    s->took_over = s->took_over || ev->took_over;
    if (ev->wait_release) {
        s->phase = PHASE_WAIT_RELEASE;
        s->phase_deadline_ms = now_ms + RELEASE_WAIT_MS;
        return;
    }
    dial(s, PHASE_LINK, now_ms);
}

static void on_unplaced(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (s->state == SESS_REHOME)
        rehome_unplaced(s, now_ms);
    if (s->state != SESS_PLACE)
        return;
    if (ev->why == WHY_DUPLICATE)
        session_refuse(s, WHY_DUPLICATE, "NetStream.Publish.BadName",
                       "the stream is already being published", now_ms);
    else if (!hold_player(s, now_ms))
        session_refuse(s, ev->why, session_failed_code(s), "no media node can take the stream now",
                       now_ms);
}

/* The list stays: it is needed again if this node fails before it answers. */
static enum err replay_pending(struct session *s)
{
    struct node_link *n = session_link_in_use(s);
    enum err e = ERR_OK;
    for (uint32_t i = 0; i < s->pending.count && e == ERR_OK; i++)
        e = node_link_send(n, s->pending.items[i]);
    return e;
}

/* tcUrl for a node when the client gave none: MediaMTX and SRS want one. */
static void default_tc_url(const struct session *s, const char *address, char *buf, size_t cap)
{
    const struct view app = s->client.info.app;
    snprintf(buf, cap, "rtmp://%s/%.*s", address ? address : "localhost", (int)app.len,
             (const char *)app.p);
}

enum err session_send_hello(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    char tc_url[HOST_MAX + APP_MAX + 16];
    default_tc_url(s, ev->node, tc_url, sizeof tc_url);
    const struct node_hello hello = {
        .proxy = ev->proxy,
        .proxy_len = ev->proxy_len,
        .noise = s->env->noise,
        .connect = s->client.connect,
        .connect_len = s->client.connect_len,
        .tc_url = tc_url,
        .without = s->token ? access_args : NULL,
        .now_ms = (uint32_t)now_ms,
    };
    return node_link_connected(&s->links[ev->link], &hello);
}

static void on_node_connected(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (s->links[ev->link].state != NODE_DIAL)
        return;
    s->links[ev->link].answers_pings = ev->answers_pings;
    if (ev->link == s->rehome.link)
        rehome_node_connected(s, ev, now_ms);
    if (ev->link != s->current)
        return;
    enum err e = session_send_hello(s, ev, now_ms);
    /* A player's SetBufferLength follows its play at once; a publisher's media waits for the node's
     * answer */
    if (e == ERR_OK && s->kind == SESSION_PLAY && s->phase == PHASE_LINK)
        e = replay_pending(s);
    if (e != ERR_OK)
        session_close(s, e == ERR_NO_MEMORY ? WHY_LIMIT_MEMORY : WHY_COMMAND_BAD, now_ms);
}

void session_tell_start(struct session *s, uint64_t now_ms)
{
    const bool pub = s->kind == SESSION_PUBLISH;
    if (!s->leads && client_side_status(&s->client, "status",
                                        pub ? "NetStream.Publish.Start" : "NetStream.Play.Start",
                                        pub ? "Start publishing" : "Start live") != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
    s->told_start = true;
}

/* The node has taken the publication or play. */
static void node_started(struct session *s, uint64_t now_ms)
{
    struct node_link *n = session_link_in_use(s);
    n->state = NODE_LIVE;
    s->node_started_ms = now_ms;
    s->phase_deadline_ms = s->play_start_ms = 0;
    if (s->started_ms == 0)
        s->started_ms = now_ms;
    if (s->kind == SESSION_PUBLISH && replay_pending(s) != ERR_OK) {
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
        return;
    }
    pending_clear(&s->pending);
    if (s->state == SESS_PLACE)
        session_enter(s, SESS_RELAY, now_ms);
    link_watch_begin(s, now_ms);
    s->actions |= ACT_STARTED;
}

/* ---- what the client says ---- */

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
    session_look_up(s);
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
    if (s->kind == SESSION_PLAY && s->state != SESS_COMMAND)
        rehome_remember(s, m);
    if (s->kind == SESSION_PLAY && m->type == RTMP_COMMAND_AMF0)
        shared_play_leave(s, now_ms);
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

/* ---- what the node says ---- */

void session_to_client(struct session *s, struct rtmp_msg *m, uint32_t msid, uint32_t timestamp,
                       uint64_t now_ms)
{
    if (s->leads)
        share_push(s->leads, m, msid, timestamp, now_ms);
    else if (s->state != SESS_CLOSING &&
             rtmp_link_send(&s->client.link, m, msid, timestamp) != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
}

static void to_client(struct session *s, struct rtmp_msg *m, uint32_t msid, uint64_t now_ms)
{
    session_to_client(s, m, msid, m->timestamp, now_ms);
}

static void on_node_alive(struct session *s, uint64_t now_ms)
{
    if (s->state != SESS_PLACE)
        return;
    if (s->phase == PHASE_CHECK) { /* it closed on us and is well: it meant us */
        abort_link(s);
        if (s->took_over)
            retry_ghost(s, now_ms); /* some nodes close on a name that is still taken */
        else
            session_refused_by_node(s, now_ms);
        return;
    }
    s->phase_deadline_ms = now_ms + s->env->router->answer_timeout_ms;
    if (s->kind == SESSION_PLAY)
        s->play_start_ms = now_ms + PLAY_START_MS;
}

static void on_node_start(struct session *s, struct node_event *ev, uint64_t now_ms)
{
    if (!s->told_start && !s->leads) /* its players are told one by one */
        to_client(s, ev->msg, CLIENT_MSID, now_ms);
    s->told_start = true;
    if (s->state == SESS_PLACE)
        node_started(s, now_ms);
}

static void on_node_refused(struct session *s, struct node_event *ev, uint64_t now_ms)
{
    snprintf(s->refusal, sizeof s->refusal, "%.*s",
             (int)(ev->status.code.len < sizeof s->refusal ? ev->status.code.len
                                                           : sizeof s->refusal - 1),
             ev->status.code.len ? (const char *)ev->status.code.p : "");
    const bool bad_name =
        s->kind == SESSION_PUBLISH && view_is(ev->status.code, "NetStream.Publish.BadName");
    if (s->state == SESS_PLACE && bad_name) {
        retry_ghost(s, now_ms);
    } else if (s->state == SESS_PLACE) {
        session_refused_by_node(s, now_ms);
    } else if (s->state == SESS_RELAY) {
        to_client(s, ev->msg, CLIENT_MSID, now_ms);
        if (bad_name) { /* nginx-rtmp stays open and swallows the media */
            s->last_words = true;
            session_close(s, WHY_NODE_REFUSED, now_ms);
        }
    }
}

static void on_node_media(struct session *s, struct rtmp_msg *m, uint64_t now_ms)
{
    if (s->kind != SESSION_PLAY)
        return;
    if (m->type != RTMP_DATA_AMF0) {
        if (!s->told_start)
            session_tell_start(s, now_ms);
        if (s->state == SESS_PLACE)
            node_started(s, now_ms);
        s->media_seen = true;
    }
    if (s->current >= 0) /* else there was no memory to tell the client that it plays */
        rehome_player_media(s, s->current, m, now_ms);
}

/* What a node says of the end of a stream is held back while the stream has its publisher: the node
 * has lost it, the stream goes on elsewhere. */
static bool says_end(const struct node_event *ev)
{
    static const char *const codes[] = {"NetStream.Play.Stop", "NetStream.Play.UnpublishNotify",
                                        "NetStream.Play.Complete", "NetStream.Play.StreamNotFound"};
    uint8_t user[2];
    if (ev->kind == NODE_EV_USER)
        return rtmp_msg_peek(ev->msg, user, 2) == 2 && (user[0] << 8 | user[1]) == RTMP_STREAM_EOF;
    if (ev->kind != NODE_EV_STATUS && ev->kind != NODE_EV_REFUSED)
        return false;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (view_is(ev->status.code, codes[i]))
            return true;
    return false;
}

static bool hold_end(struct session *s, const struct node_event *ev, uint64_t now_ms)
{
    if (!rehome_enabled(s) || s->kind != SESSION_PLAY || s->state == SESS_PLACE || !says_end(ev))
        return false;
    if (s->rehome.ends.count >= ENDS_HELD_MAX)
        return true;
    if (pending_push(&s->rehome.ends, ev->msg) != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
    else if (s->rehome.ends_due_ms == 0)
        s->actions |= ACT_ENDS;
    return true;
}

static void pass_ends(struct session *s, bool to_the_client, uint64_t now_ms)
{
    for (uint32_t i = 0; i < s->rehome.ends.count && to_the_client; i++) {
        struct rtmp_msg *m = s->rehome.ends.items[i];
        to_client(s, m, m->type == RTMP_USER_CONTROL ? 0 : CLIENT_MSID, now_ms);
    }
    if (s->leads && to_the_client)
        share_forget(s->leads);
    pending_clear(&s->rehome.ends);
    s->rehome.ends_due_ms = 0;
}

/* The node may know of the end before we do: asked twice. */
static void on_publisher(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (s->rehome.ends.count == 0)
        return;
    if (ev->ready && s->rehome.ends_due_ms == 0)
        s->rehome.ends_due_ms = now_ms + ENDS_AGAIN_MS;
    else
        pass_ends(s, !ev->ready, now_ms);
}

static void on_node_event(struct session *s, struct node_event *ev, uint64_t now_ms)
{
    if (hold_end(s, ev, now_ms)) {
        rtmp_msg_unref(ev->msg);
        return;
    }
    if (s->leads && says_end(ev))
        share_forget(s->leads);
    switch (ev->kind) {
    case NODE_EV_ALIVE:
        on_node_alive(s, now_ms);
        break;
    case NODE_EV_STARTED:
        on_node_start(s, ev, now_ms);
        break;
    case NODE_EV_REFUSED:
        on_node_refused(s, ev, now_ms);
        break;
    case NODE_EV_STATUS:
        to_client(s, ev->msg, CLIENT_MSID, now_ms);
        break;
    case NODE_EV_MEDIA:
        on_node_media(s, ev->msg, now_ms);
        break;
    case NODE_EV_USER:
        if (s->kind == SESSION_PLAY)
            to_client(s, ev->msg, 0, now_ms);
        break;
    }
    rtmp_msg_unref(ev->msg);
}

/* What we sent was RTMP, so bytes that are not speak against the node. */
static void on_node_bad(struct session *s, const struct node_link *n, uint64_t now_ms)
{
    if (n->no_memory)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
    else if (n == (s->rehome.link < 0 ? NULL : &s->links[s->rehome.link]))
        rehome_node_failed(s, FAIL_BAD, now_ms);
    else if (s->state == SESS_PLACE)
        give_up_node(s, FAIL_BAD, now_ms);
    else if (rehome_enabled(s))
        rehome_link_lost(s, REHOME_BAD, now_ms);
    else
        session_close(s, WHY_NODE_BAD, now_ms);
}

static bool link_speaks(const struct session *s, int link, uint32_t generation)
{
    const struct node_link *n = &s->links[link];
    return (link == s->current || link == s->rehome.link) && n->generation == generation &&
           s->state != SESS_CLOSING &&
           (n->state == NODE_HANDSHAKE || n->state == NODE_COMMAND || n->state == NODE_LIVE);
}

static void on_node_bytes(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    struct node_link *n = &s->links[ev->link];
    const uint32_t generation = n->generation;
    if (ev->link == s->current)
        s->link_heard_ms = s->link_bytes_ms = now_ms;
    while (link_speaks(s, ev->link, generation)) {
        struct node_event out;
        const enum parse_result r = node_link_next(n, ev->bytes, &out);
        if (r == PARSE_NEED_MORE)
            break;
        if (r == PARSE_BAD) {
            on_node_bad(s, n, now_ms);
            return;
        }
        if (ev->link != s->rehome.link) {
            on_node_event(s, &out, now_ms);
            continue;
        }
        rehome_node_event(s, &out, now_ms);
        rtmp_msg_unref(out.msg);
    }
    if (ev->link == s->rehome.link && n->generation == generation)
        rehome_node_heard(s, now_ms);
}

static void on_node_failed(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (ev->link == s->rehome.link)
        rehome_node_failed(s, s->rehome.phase == RH_CHECK ? FAIL_DIED : FAIL_DIAL, now_ms);
    else if (ev->link == s->current && s->state == SESS_PLACE)
        give_up_node(s, s->phase == PHASE_CHECK ? FAIL_DIED : FAIL_DIAL, now_ms);
    else
        node_link_close(&s->links[ev->link]);
}

static void on_node_ended(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    struct node_link *n = &s->links[ev->link];
    if (ev->link == s->rehome.link) {
        rehome_node_failed(s, FAIL_DIED, now_ms);
        return;
    }
    if (ev->link != s->current) {
        node_link_close(n);
        return;
    }
    if (s->state == SESS_REHOME) {
        rehome_link_lost(s, REHOME_ENDED, now_ms);
        return;
    }
    const bool answered = n->state == NODE_COMMAND;
    if (s->state == SESS_RELAY && rehome_enabled(s)) {
        rehome_link_lost(s, REHOME_ENDED, now_ms);
        return;
    }
    abort_link(s);
    if (s->state == SESS_PLACE && s->phase == PHASE_LINK && answered)
        dial(s, PHASE_CHECK, now_ms);
    else if (s->state == SESS_PLACE)
        give_up_node(s, FAIL_DIED, now_ms);
    else if (s->state == SESS_RELAY && now_ms - s->node_started_ms < REFUSED_WITHIN_MS)
        session_refused_by_node(s, now_ms);
    else
        session_close(s, WHY_NODE_LOST, now_ms);
}

/* ---- what the cluster says ---- */

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
    pass_ends(s, false, now_ms); /* the stream is live */
    rehome_abandon(s);
    abort_link(s);
    s->excluded_count = s->tries = s->rehome.rounds = 0;
    session_enter(s, SESS_PLACE, now_ms);
    session_look_up(s);
}

static void on_taken_over(struct session *s, uint64_t now_ms)
{
    if (s->kind != SESSION_PUBLISH ||
        (s->state != SESS_RELAY && s->state != SESS_PLACE && s->state != SESS_REHOME))
        return;
    rehome_abandon(s);
    abort_link(s);
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

static void on_phase_deadline(struct session *s, uint64_t now_ms)
{
    const struct node_link *n = session_link_in_use(s);
    if (s->state == SESS_REHOME) {
        rehome_phase_deadline(s, now_ms);
        return;
    }
    switch (s->phase) {
    case PHASE_LOOKUP:
    case PHASE_SHARE:
        break;
    case PHASE_WAIT_RELEASE:
    case PHASE_PAUSE:
        dial(s, PHASE_LINK, now_ms);
        break;
    case PHASE_HELD:
        session_look_up(s);
        break;
    case PHASE_LINK:
        give_up_node(s, n && n->state == NODE_COMMAND ? FAIL_ANSWER_TIMEOUT : FAIL_DIAL_TIMEOUT,
                     now_ms);
        break;
    case PHASE_CHECK:
        give_up_node(s, FAIL_DIED, now_ms);
        break;
    }
}

/* With play_restart a node sends no Play.Start until somebody publishes: the client gets ours,
 * unless it has had one from another node, and waits. */
static void on_play_start_due(struct session *s, uint64_t now_ms)
{
    struct node_link *n = session_link_in_use(s);
    s->play_start_ms = 0;
    if (s->state != SESS_PLACE || !n || n->state != NODE_COMMAND)
        return;
    if (!n->connected) {
        s->play_start_ms = now_ms + PLAY_START_MS / 10;
        return;
    }
    if (!s->told_start)
        session_tell_start(s, now_ms);
    if (s->state == SESS_PLACE)
        node_started(s, now_ms);
}

/* While a queue is full the stall deadline watches instead: we do not read the publisher then, and
 * the player has our ping behind all that waits for it. */
static uint64_t ping_due(const struct session *s)
{
    if (s->state != SESS_RELAY || s->client_paused || s->node_paused || s->client_gone)
        return UINT64_MAX;
    return s->pinged_ms ? s->heard_ms + s->env->router->ping_timeout_ms
                        : s->heard_ms + s->env->router->ping_interval_ms;
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
        on_phase_deadline(s, now_ms);
    }
    if (due(s->play_start_ms, now_ms))
        on_play_start_due(s, now_ms);
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

bool session_judges(const struct session *s, uint64_t now_ms)
{
    const struct session_rehome *r = &s->rehome;
    const bool hangs = r->link >= 0 && due(r->batch_ms, now_ms) &&
                       now_ms - r->batch_ms > s->env->failover->stall_ms;
    const bool answer_awaited = s->state == SESS_REHOME
                                    ? r->phase == RH_LINK || r->phase == RH_CHECK || hangs
                                    : s->phase == PHASE_LINK || s->phase == PHASE_CHECK;
    return due(s->state_deadline_ms, now_ms) || due(s->stall_deadline_ms, now_ms) ||
           due(s->flush_deadline_ms, now_ms) || (s->pinged_ms != 0 && ping_due(s) <= now_ms) ||
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

unsigned session_step(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    s->actions = 0;
    switch (ev->kind) {
    case SE_CLIENT_BYTES:
        on_client_bytes(s, ev->bytes, now_ms);
        break;
    case SE_CLIENT_ENDED:
        on_client_ended(s, ev, now_ms);
        break;
    case SE_PLACED:
        on_placed(s, ev, now_ms);
        break;
    case SE_UNPLACED:
        on_unplaced(s, ev, now_ms);
        break;
    case SE_SHARED:
        shared_play_seated(s, ev);
        break;
    case SE_SHARE_STARTED:
        shared_play_started(s, ev, now_ms);
        break;
    case SE_SHARE_ENDED:
        shared_play_ended(s, ev, now_ms);
        break;
    case SE_RELEASED:
        if (s->state == SESS_PLACE && s->phase == PHASE_WAIT_RELEASE)
            dial(s, PHASE_LINK, now_ms);
        break;
    case SE_NODE_CONNECTED:
        on_node_connected(s, ev, now_ms);
        break;
    case SE_NODE_FAILED:
        on_node_failed(s, ev, now_ms);
        break;
    case SE_NODE_BYTES:
        on_node_bytes(s, ev, now_ms);
        break;
    case SE_NODE_ENDED:
        on_node_ended(s, ev, now_ms);
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
        on_publisher(s, ev, now_ms);
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
