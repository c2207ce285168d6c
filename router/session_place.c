#include "router/session_parts.h"

#include <stdio.h>
#include <string.h>

/* Finding the node of a publication or play, up to the moment from which it is relayed. */

enum {
    RELEASE_WAIT_MS = 500, /* the old publisher's worker closes its link within this */
    GHOST_FOR_MS = 1000,   /* how long BadName is taken for a ghost on the node */
    GHOST_EVERY_MS = 100,
    HELD_DOUBLINGS_MAX = 3, /* of the time before a held player asks for a node again */
    PLAY_START_MS = 1000,   /* then a player gets the router's own Play.Start */
    STATUS_TEXT_MAX = 160,
};

void session_look_up(struct session *s)
{
    s->phase = PHASE_LOOKUP;
    s->phase_deadline_ms = 0;
    s->actions |= ACT_PLACE;
}

void session_dial(struct session *s, enum place_phase phase, uint64_t now_ms)
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
 * may be thousands of them, and each look into the store is work. */
static bool hold_player(struct session *s, uint64_t now_ms)
{
    if (!session_plays_already(s))
        return false;
    const uint32_t doublings =
        s->rehome.rounds < HELD_DOUBLINGS_MAX ? s->rehome.rounds : HELD_DOUBLINGS_MAX;
    s->rehome.rounds++;
    s->phase = PHASE_HELD;
    s->phase_deadline_ms = now_ms + ((uint64_t)REHOME_AGAIN_MS << doublings);
    return true;
}

void session_give_up_node(struct session *s, enum node_fail fail, uint64_t now_ms)
{
    session_abort_link(s);
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
void session_retry_ghost(struct session *s, uint64_t now_ms)
{
    if (s->ghost_until_ms == 0)
        s->ghost_until_ms = now_ms + GHOST_FOR_MS;
    if (now_ms >= s->ghost_until_ms) {
        session_give_up_node(s, FAIL_GHOST, now_ms);
        return;
    }
    session_abort_link(s);
    s->phase = PHASE_PAUSE;
    s->phase_deadline_ms = now_ms + GHOST_EVERY_MS;
}

void session_on_placed(struct session *s, const struct session_event *ev, uint64_t now_ms)
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
    session_dial(s, PHASE_LINK, now_ms);
}

void session_on_unplaced(struct session *s, const struct session_event *ev, uint64_t now_ms)
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

/* ---- the node's link ---- */

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

/* Its time begins anew: what it had left may be next to nothing. */
void session_on_node_dialled(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (s->links[ev->link].state != NODE_DIAL)
        return;
    if (ev->link == s->rehome.link)
        rehome_node_dialled(s, now_ms);
    else if (ev->link == s->current)
        s->phase_deadline_ms = now_ms + s->env->router->dial_timeout_ms;
}

void session_on_node_connected(struct session *s, const struct session_event *ev, uint64_t now_ms)
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

void session_on_node_alive(struct session *s, uint64_t now_ms)
{
    if (s->state != SESS_PLACE)
        return;
    if (s->phase == PHASE_CHECK) { /* it closed on us and is well: it meant us */
        session_abort_link(s);
        if (s->took_over)
            session_retry_ghost(s, now_ms); /* some nodes close on a name that is still taken */
        else
            session_refused_by_node(s, now_ms);
        return;
    }
    s->phase_deadline_ms = now_ms + s->env->router->answer_timeout_ms;
    if (s->kind == SESSION_PLAY)
        s->play_start_ms = now_ms + PLAY_START_MS;
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

void session_node_started(struct session *s, uint64_t now_ms)
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

/* ---- time ---- */

void session_on_phase_deadline(struct session *s, uint64_t now_ms)
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
        session_dial(s, PHASE_LINK, now_ms);
        break;
    case PHASE_HELD:
        s->excluded_count = s->tries = 0;
        session_look_up(s);
        break;
    case PHASE_LINK:
        session_give_up_node(
            s, n && n->state == NODE_COMMAND ? FAIL_ANSWER_TIMEOUT : FAIL_DIAL_TIMEOUT, now_ms);
        break;
    case PHASE_CHECK:
        session_give_up_node(s, FAIL_DIED, now_ms);
        break;
    }
}

/* With play_restart a node sends no Play.Start until somebody publishes: the client gets ours,
 * unless it has had one from another node, and waits. */
void session_on_play_start_due(struct session *s, uint64_t now_ms)
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
        session_node_started(s, now_ms);
}
