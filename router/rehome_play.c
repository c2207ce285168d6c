/* The part of a session's machine that takes a player after its stream to another node
 * (DESIGN 6.3): it has both links of a planned move until the publisher has left the old node. */
#include <string.h>

#include "router/rehome_parts.h"

/* ---- what nodes have to hear again ---- */

/* The last of each kind counts. They are copied: for as long as the player stays they would hold
 * the block that they have come in. */
void rehome_remember(struct session *s, struct rtmp_msg *m)
{
    const uint8_t *payload;
    struct rtmp_command cmd;
    int kind = 0; /* user control: the buffer length */
    if (rtmp_msg_flatten(m, &payload) != ERR_OK)
        return;
    if (m->type == RTMP_COMMAND_AMF0) {
        if (rtmp_command_parse(payload, m->len, &cmd) != PARSE_OK)
            return;
        kind = cmd.kind == RTMP_CMD_PAUSE           ? 1
               : cmd.kind == RTMP_CMD_RECEIVE_AUDIO ? 2
               : cmd.kind == RTMP_CMD_RECEIVE_VIDEO ? 3
                                                    : -1;
    }
    if (kind < 0)
        return;
    struct rtmp_msg *own =
        rtmp_msg_from_bytes(m->pool, m->type, m->msid, m->timestamp, payload, m->len);
    rtmp_msg_unref(s->rehome.controls[kind]);
    s->rehome.controls[kind] = own ? own : rtmp_msg_ref(m);
}

void rehome_ask_again(struct session *s, uint64_t now_ms)
{
    enum err e = ERR_OK;
    for (int i = 0; i < SESSION_CONTROLS_MAX && e == ERR_OK; i++)
        if (s->rehome.controls[i])
            e = pending_push(&s->pending, s->rehome.controls[i]);
    if (e != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
}

enum err rehome_send_controls(struct session *s)
{
    enum err e = ERR_OK;
    for (int i = 0; i < SESSION_CONTROLS_MAX && e == ERR_OK; i++)
        if (s->rehome.controls[i])
            e = node_link_send(rehome_fresh_link(s), s->rehome.controls[i]);
    return e;
}

/* What came before its hello it is told behind that. */
enum err rehome_pass(struct session *s, struct rtmp_msg *m)
{
    struct node_link *n = rehome_fresh_link(s);
    const bool listens = n && n->state >= NODE_HANDSHAKE && n->state <= NODE_LIVE;
    return listens && s->rehome.phase != RH_CHECK ? node_link_send(n, m) : ERR_OK;
}

/* ---- the node is lost, or left ---- */

void rehome_player_lost(struct session *s, enum rehome_cause cause, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    const bool early = r->count == 0;
    r->suspect = rehome_may_be_refusal(s, cause, now_ms);
    rehome_begin(s, cause, now_ms);
    r->again_ms = 0;
    if (r->suspect && early)
        rehome_dial(s, s->node, RH_CHECK, now_ms);
    else
        rehome_enter(s, RH_WAIT, now_ms + REHOME_AGAIN_MS);
}

/* The node's name does not say it: a reloaded node's two processes have one, and a stream that has
 * left may come again. */
bool rehome_called_back(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (!ev->stays || s->current < 0 || strcmp(ev->node, s->node) != 0)
        return false;
    s->rehome.followed_epoch = ev->epoch;
    if (s->state == SESS_REHOME)
        rehome_stay(s, now_ms);
    s->actions |= ACT_ATTACHED;
    return true;
}

void rehome_attached(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    rehome_fresh_link(s)->state = NODE_LIVE;
    if (s->current >= 0) {
        rehome_enter(s, RH_OVERLAP, 0);
    } else {
        r->resuming = r->media_ms != 0;
        r->again_ms = r->again ? now_ms : 0;
        r->count++;
        rehome_take_over_link(s, now_ms);
    }
    s->actions |= ACT_ATTACHED;
}

/* ---- media ---- */

/* What the player has may come once more: of a node that begins with its last group of pictures,
 * or in a replay. */
void rehome_join(struct session *s, int link)
{
    const struct splice *has = &s->rehome.splice;
    struct splice_feed *f = &s->stream->feeds[link];
    if (!has->passed[CLASS_AUDIO].seen && !has->passed[CLASS_VIDEO].seen)
        return;
    splice_feed_reset(f, FEED_JOINING, false);
    splice_feed_expect(f, has->last_time - LIVE_BEHIND_MS);
}

void rehome_cut_over(struct session *s, uint64_t now_ms)
{
    rehome_take_over_link(s, now_ms);
    s->rehome.count++;
    s->rehome.gap_ms = 0;
    s->actions |= ACT_ATTACHED | ACT_RESUMED;
}

static void note_resumed(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    r->resuming = false;
    r->gap_ms = now_ms - r->media_ms;
    s->actions |= ACT_RESUMED;
}

/* The old node may go. Until the publisher has left it, the player stays there too: the move may
 * still be called back, and nothing is to be missing then. Of two links with clocks of their own it
 * cannot be told what both have brought. */
static void note_level(struct session *s, uint64_t now_ms)
{
    const struct splice_feed *f = s->stream->feeds;
    if (f[0].mode != FEED_SHARED || f[1].mode != FEED_SHARED) {
        rehome_cut_over(s, now_ms);
        return;
    }
    s->rehome.level = true;
    s->actions |= ACT_ATTACHED;
}

void rehome_player_media(struct session *s, int link, struct rtmp_msg *m, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    struct splice_feed *f = &s->stream->feeds[link];
    if (splice_passes(&r->splice, f, m)) {
        struct rtmp_msg *state;
        while ((state = splice_next_state(&r->splice, f, m))) {
            session_to_client(s, state, CLIENT_MSID, splice_time(f, m), now_ms);
            rtmp_msg_unref(state);
        }
        if (r->resuming)
            note_resumed(s, now_ms);
        r->media_ms = now_ms;
        if (m->type != RTMP_DATA_AMF0)
            r->frames_ms = now_ms;
        session_to_client(s, m, CLIENT_MSID, splice_time(f, m), now_ms);
    }
    if (s->state == SESS_REHOME && r->phase == RH_OVERLAP && link == r->link && !r->level &&
        splice_caught_up(&r->splice, f))
        note_level(s, now_ms);
}

void rehome_follow(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    rehome_close_fresh(s);
    if (!ev->planned)
        rehome_close_current(s);
    if (s->state != SESS_REHOME)
        rehome_begin(s, r->cause, now_ms);
    s->actions &= ~(unsigned)ACT_PLACE;
    r->followed_epoch = ev->epoch;
    r->planned = s->current >= 0;
    if (r->planned)
        splice_feed_share(&s->stream->feeds[s->current]);
    r->suspect = r->again = r->denied = false;
    s->state_deadline_ms = now_ms + s->env->failover->give_up_ms;
    pending_clear(&r->ends);
    r->ends_due_ms = 0;
    rehome_dial(s, ev->node, RH_LINK, now_ms);
    splice_feed_expect(&s->stream->feeds[r->link], ev->time);
}

/* The publisher has left the old node: nothing more will come from there. */
void rehome_settled(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    if (s->kind != SESSION_PLAY || s->state != SESS_REHOME || s->current < 0)
        return;
    if (r->phase == RH_OVERLAP) {
        rehome_cut_over(s, now_ms);
        return;
    }
    rehome_close_current(s);
    r->planned = false;
    if (r->link >= 0)
        splice_feed_alone(&s->stream->feeds[r->link]);
}
