/* The part of a session's machine that gives a publisher's new node what was kept (DESIGN 6.3):
 * when the claim says where the stream is going, and the audience is there, the replay, paced; then
 * the live stream goes on behind it. */
#include <string.h>

#include "router/rehome_parts.h"

enum {
    AUDIENCE_EVERY_MS = 4, /* how often the audience is looked at */
    BATCH_EVERY_MS = 2,    /* of the replay (rehoming-notes 12) */
    BATCH_BYTES = 64 * 1024,
    BATCH_MESSAGES = 100,
    BATCH_ANSWER_MS = 50, /* a node that is not known to answer pings has read a batch by then */
    ASK_EVERY_MS = 50,    /* the new node, while players are waited for: does it hang? */
};

/* ---- the claim, the audience ---- */

/* The publisher's new node: it has read what was sent before this once it has answered. */
void rehome_ask_new_node(struct session *s, uint64_t now_ms)
{
    s->rehome.batch_ms = now_ms;
    s->rehome.pings_due++;
    if (rtmp_link_send_user(&rehome_fresh_link(s)->link, RTMP_PING_REQUEST, (uint32_t)now_ms, 0) !=
        ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
}

static bool new_node_answers(const struct session *s)
{
    const struct node_link *n = &s->links[s->rehome.link];
    return n->answers_pings || n->link.pings_answered > 0;
}

bool rehome_new_node_has_read(const struct session *s)
{
    const uint32_t answered = s->links[s->rehome.link].link.pings_answered;
    return (int32_t)(answered - s->rehome.pings_due) >= 0;
}

static bool new_node_hangs(const struct session *s, uint64_t now_ms)
{
    return new_node_answers(s) && !rehome_new_node_has_read(s) &&
           now_ms - s->rehome.batch_ms > s->env->failover->stall_ms;
}

/* The stream is published anew on the node that it was on, and the claim that tells its players
 * could not be written: those that are there still would have all of the replay once more. It is
 * tried again for as long as players are waited for. */
static bool claim_can_wait(const struct session *s, uint64_t now_ms)
{
    return s->claim_epoch != 0 && strcmp(s->rehome.node, s->node) == 0 &&
           now_ms < s->rehome.grace_until_ms;
}

void rehome_claim_moved(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    if (s->state != SESS_REHOME || r->phase != RH_CLAIM)
        return;
    if (ev->epoch != 0)
        s->claim_epoch = ev->epoch;
    if (!rehome_fresh_link(s) && s->current >= 0) { /* taken back */
        rehome_stay(s, now_ms);
        if (ev->epoch != 0) /* else it says still that the stream leaves */
            s->actions |= ACT_ARRIVED;
        return;
    }
    if (!rehome_fresh_link(s)) { /* and then the old node was lost, too */
        rehome_look_up(s);
        return;
    }
    if (ev->full) {
        rehome_node_failed(s, FAIL_FULL, now_ms);
        return;
    }
    if (ev->epoch == 0 && s->claim_epoch != 0 && s->current >= 0) {
        rehome_stay(s, now_ms); /* players would not hear of it, and their node is well */
        return;
    }
    if (ev->epoch == 0 && claim_can_wait(s, now_ms)) {
        rehome_enter(s, RH_CLAIM, now_ms + REHOME_AGAIN_MS);
        return;
    }
    r->claimed = ev->epoch != 0;
    r->grace_until_ms = now_ms + s->env->failover->grace_ms;
    rehome_enter(s, RH_AUDIENCE, now_ms);
    rehome_ask_new_node(s, now_ms);
}

void rehome_ask_audience(struct session *s)
{
    if (!s->rehome.waiting)
        s->actions |= ACT_AUDIENCE;
    s->rehome.waiting = true;
}

/* ---- the replay ---- */

/* Of the first frame kept: headers and data may be stamped with anything. With none, where the
 * stream has come to. */
static uint32_t kept_time(const struct session_rehome *r, uint32_t otherwise)
{
    const struct stream_keep *k = &r->keep;
    for (uint64_t n = k->first; n < stream_keep_end(k); n++) {
        const struct kept *e = stream_keep_at(k, n);
        if (e->info.class != CLASS_DATA && e->info.kind != MEDIA_STATE)
            return e->timestamp;
    }
    for (int class = CLASS_DATA - 1; class >= 0; class --)
        if (k->timed[class])
            return k->times[class];
    return k->count > 0 ? stream_keep_at(k, k->first)->timestamp : otherwise;
}

uint32_t session_replay_time(const struct session *s)
{
    return kept_time(&s->rehome, 0);
}

static enum err send_states(struct session *s)
{
    struct session_rehome *r = &s->rehome;
    struct node_link *n = rehome_fresh_link(s);
    enum err e = ERR_OK;
    for (uint32_t i = 0; i < r->keep.state_count && e == ERR_OK; i++)
        e = rtmp_link_send(&n->link, r->keep.states[i], n->msid,
                           kept_time(r, r->keep.states[i]->timestamp));
    r->states_sent = true;
    return e;
}

/* True: nothing is left. */
static bool replay_some(struct session *s, uint32_t max_bytes, uint32_t max_messages,
                        uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    uint32_t bytes = 0, messages = 0;
    enum err e = r->states_sent ? ERR_OK : send_states(s);
    if (r->replay_at < r->keep.first)
        r->replay_at = r->keep.first; /* the budget has taken some */
    while (e == ERR_OK && r->replay_at < stream_keep_end(&r->keep) && bytes < max_bytes &&
           messages < max_messages) {
        struct rtmp_msg *m = stream_keep_at(&r->keep, r->replay_at)->msg;
        e = node_link_send(rehome_fresh_link(s), m);
        bytes += m->len;
        messages++;
        r->replay_at++;
    }
    r->replayed += messages;
    if (e != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
    return e == ERR_OK && r->replay_at == stream_keep_end(&r->keep);
}

static void publisher_done(struct session *s, uint64_t now_ms)
{
    s->rehome.count++;
    s->rehome.gap_ms = now_ms - s->rehome.began_ms;
    rehome_take_over_link(s, now_ms);
    s->actions |= ACT_ARRIVED;
}

static void replayed_all(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    r->caught_up = true;
    r->replaying = false;
    if (s->current < 0) {
        publisher_done(s, now_ms);
        return;
    }
    r->grace_until_ms = now_ms + s->env->failover->grace_ms;
    rehome_enter(s, RH_OVERLAP, 0);
    rehome_ask_new_node(s, now_ms);
    if (s->state == SESS_REHOME)
        rehome_ask_audience(s);
}

static void send_batch(struct session *s, uint64_t now_ms)
{
    const bool done = replay_some(s, BATCH_BYTES, BATCH_MESSAGES, now_ms);
    if (s->state != SESS_REHOME)
        return;
    if (done)
        replayed_all(s, now_ms);
    else
        rehome_ask_new_node(s, now_ms);
}

void rehome_replay_batch(struct session *s, uint64_t now_ms)
{
    const uint64_t ms = now_ms - s->rehome.batch_ms;
    const bool read = rehome_new_node_has_read(s) || (!new_node_answers(s) && ms > BATCH_ANSWER_MS);
    rehome_enter(s, RH_REPLAY, now_ms + BATCH_EVERY_MS);
    if (rtmp_chunk_writer_empty(&rehome_fresh_link(s)->link.out) && read)
        send_batch(s, now_ms);
    else if (ms > s->env->failover->stall_ms) /* it hangs */
        rehome_node_failed(s, FAIL_ANSWER_TIMEOUT, now_ms);
}

static void start_replay(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    r->replaying = true;
    r->replay_at = r->keep.first;
    r->batch_ms = now_ms;
    rehome_enter(s, RH_REPLAY, now_ms + BATCH_EVERY_MS);
    send_batch(s, now_ms);
}

/* Players are waited for as long as failover.grace. On a machine that is too busy for that it takes
 * longer, and they must not come after the replay: of a node that answers pings, and so those
 * behind their play, it is known that it will say when they are there. Of a move that could not be
 * written nobody has heard. */
static uint64_t audience_until_ms(const struct session *s)
{
    const struct session_rehome *r = &s->rehome;
    const struct config_failover *f = s->env->failover;
    const uint64_t longest_ms = r->grace_until_ms + 2 * f->stall_ms;
    const uint64_t held_ms = s->state_deadline_ms - f->give_up_ms / 2; /* its client */
    if (r->phase != RH_AUDIENCE || !r->claimed || !new_node_answers(s) ||
        held_ms < r->grace_until_ms)
        return r->grace_until_ms;
    return longest_ms < held_ms ? longest_ms : held_ms;
}

/* A node that hangs meanwhile is not given the stream, neither to players that are not known to be
 * there nor alone: it would be read to them when it goes on, or not at all. */
void rehome_audience(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    r->waiting = false;
    if (s->state != SESS_REHOME || (r->phase != RH_AUDIENCE && r->phase != RH_OVERLAP) ||
        !rehome_fresh_link(s))
        return;
    const bool alive = !new_node_answers(s) || rehome_new_node_has_read(s);
    const bool enough = ev->ready || now_ms >= audience_until_ms(s);
    const bool go_on = (ev->ready && r->phase == RH_AUDIENCE) || (enough && alive);
    if (!go_on && rehome_new_node_has_read(s) && now_ms - r->batch_ms > ASK_EVERY_MS)
        rehome_ask_new_node(s, now_ms);
    if (s->state != SESS_REHOME)
        return;
    if (new_node_hangs(s, now_ms))
        rehome_node_failed(s, FAIL_ANSWER_TIMEOUT, now_ms);
    else if (!go_on)
        s->phase_deadline_ms = now_ms + AUDIENCE_EVERY_MS;
    else if (r->phase == RH_AUDIENCE)
        start_replay(s, now_ms);
    else
        publisher_done(s, now_ms);
}

void rehome_publisher_media(struct session *s, struct rtmp_msg *m, uint64_t now_ms)
{
    struct node_link *n = rehome_fresh_link(s);
    if (s->state == SESS_REHOME && s->rehome.caught_up && n && node_link_send(n, m) != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
}
