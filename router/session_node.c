#include "router/session_parts.h"

#include <stdio.h>

/* What the node in use says, and what of it the client gets. */

enum {
    ENDS_AGAIN_MS = 500,
    ENDS_HELD_MAX = 8, /* nodes say it with two or three messages */
};

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

static void on_node_start(struct session *s, struct node_event *ev, uint64_t now_ms)
{
    if (!s->told_start && !s->leads) /* its players are told one by one */
        to_client(s, ev->msg, CLIENT_MSID, now_ms);
    s->told_start = true;
    if (s->state == SESS_PLACE)
        session_node_started(s, now_ms);
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
        session_retry_ghost(s, now_ms);
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
            session_node_started(s, now_ms);
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

void session_pass_ends(struct session *s, bool to_the_client, uint64_t now_ms)
{
    for (uint32_t i = 0; i < s->rehome.ends.count && to_the_client; i++) {
        struct rtmp_msg *m = s->rehome.ends.items[i];
        to_client(s, m, m->type == RTMP_USER_CONTROL ? 0 : CLIENT_MSID, now_ms);
    }
    if (s->leads && to_the_client)
        share_forget(s->leads);
    else if (to_the_client && s->rehome.ends.count > 0)
        s->told_start = false; /* if it begins again, the client is told again */
    pending_clear(&s->rehome.ends);
    s->rehome.ends_due_ms = 0;
}

/* The node may know of the end before we do: asked twice. */
void session_on_publisher(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (s->rehome.ends.count == 0)
        return;
    if (ev->ready && s->rehome.ends_due_ms == 0)
        s->rehome.ends_due_ms = now_ms + ENDS_AGAIN_MS;
    else
        session_pass_ends(s, !ev->ready, now_ms);
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
        session_on_node_alive(s, now_ms);
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
        session_give_up_node(s, FAIL_BAD, now_ms);
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

void session_on_node_bytes(struct session *s, const struct session_event *ev, uint64_t now_ms)
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

void session_on_node_failed(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (ev->link == s->rehome.link)
        rehome_node_failed(s, s->rehome.phase == RH_CHECK ? FAIL_DIED : FAIL_DIAL, now_ms);
    else if (ev->link == s->current && s->state == SESS_PLACE)
        session_give_up_node(s, s->phase == PHASE_CHECK ? FAIL_DIED : FAIL_DIAL, now_ms);
    else
        node_link_close(&s->links[ev->link]);
}

void session_on_node_ended(struct session *s, const struct session_event *ev, uint64_t now_ms)
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
    session_abort_link(s);
    if (s->state == SESS_PLACE && s->phase == PHASE_LINK && answered)
        session_dial(s, PHASE_CHECK, now_ms);
    else if (s->state == SESS_PLACE)
        session_give_up_node(s, FAIL_DIED, now_ms);
    else if (s->state == SESS_RELAY && now_ms - s->node_started_ms < REFUSED_WITHIN_MS)
        session_refused_by_node(s, now_ms);
    else
        session_close(s, WHY_NODE_LOST, now_ms);
}
