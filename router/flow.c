/* The part of a session's machine that says when to read, so that neither peer is waited for
 * without end nor fills our memory. */
#include "router/session_parts.h"

enum { QUEUED_MESSAGE_BYTES = 128 }; /* besides its payload: empty ones fill memory too */

static uint64_t queued(const struct rtmp_link *l)
{
    return l->out.queued_bytes + (uint64_t)l->out.count * QUEUED_MESSAGE_BYTES;
}

/* Beyond what relaying fills, even with one more message: answers, statuses, commands that the peer
 * does not read. */
static bool overfull(const struct session *s, const struct rtmp_link *l)
{
    return queued(l) >= 2 * s->env->relay->buffer_bytes + s->env->node_limits.message_bytes;
}

static bool overfull_to(const struct session *s, int link)
{
    return link >= 0 && overfull(s, &s->links[link].link);
}

/* Full at relay.buffer, free again at half of it. Whoever takes an eighth of the buffer within
 * relay.stall_timeout is slow, not stalled, also where as much comes as it takes. taken: bytes, in
 * all; 0: not known. */
static void watch_queue(struct session *s, bool *paused, uint64_t bytes, uint64_t taken,
                        uint64_t now_ms)
{
    const uint64_t high = s->env->relay->buffer_bytes;
    if (!*paused && bytes < high)
        return;
    if (*paused && bytes <= high / 2) {
        *paused = false;
        s->stall_deadline_ms = 0;
        s->heard_ms = now_ms;
        return;
    }
    if (!*paused || bytes + high / 8 <= s->stall_mark || taken >= s->stall_taken + high / 8) {
        s->stall_mark = bytes;
        s->stall_taken = taken;
        s->stall_deadline_ms = now_ms + s->env->relay->stall_timeout_ms;
    }
    *paused = true;
}

void flow_update(struct session *s, uint64_t now_ms)
{
    const struct node_link *n = session_link_in_use(s);
    if (s->state != SESS_RELAY || (!n && !s->seat.share))
        return;
    if (n && s->kind == SESSION_PUBLISH)
        watch_queue(s, &s->client_paused, queued(&n->link), 0, now_ms);
    else
        watch_queue(s, &s->node_paused, queued(&s->client.link), s->bytes_out, now_ms);
}

bool session_reads_client(const struct session *s)
{
    if (s->client_gone || overfull(s, &s->client.link))
        return false;
    switch (s->state) {
    case SESS_HANDSHAKE:
    case SESS_COMMAND:
    case SESS_CLOSING:
        return true;
    case SESS_PLACE:
        return s->pending.bytes < s->env->relay->buffer_bytes;
    case SESS_RELAY:
        return !s->client_paused && !overfull_to(s, s->current);
    case SESS_REHOME: /* what it sends is kept, within failover.gop_bytes, and goes to those nodes
                         of the two that have caught up; one that hangs is soon given up */
        return !overfull_to(s, s->current) && !overfull_to(s, s->rehome.link);
    }
    return true;
}

/* What a link brings until then is little, and a node that is not read would seem to be at fault.
 */
static bool is_set_up(const struct session *s, int link)
{
    if (link == s->current)
        return s->links[link].state == NODE_LIVE;
    return s->kind == SESSION_PLAY && s->rehome.phase == RH_OVERLAP;
}

/* What a node could not send is lost if it dies, and some drop it anyway: a slow player's node is
 * read on into the player's queue, as far as that may grow (rehoming-notes 14). */
bool session_reads_node(const struct session *s, int link)
{
    if (overfull(s, &s->client.link))
        return !is_set_up(s, link);
    return link != s->current || !s->node_paused || rehome_enabled(s);
}
