/* The part of a session's machine that finds out whether the node link in use is alive. */
#include "router/session_parts.h"

enum {
    LINK_PINGS_MAX = 16, /* unanswered ones on a node link */
    /* Until so long after a node has taken a stream we may hear that it was being reloaded then,
     * and that players have its old process (move_io.c). */
    RELOAD_HEARD_MS = 5000,
};

/* The node link in use: a ping every quarter of failover.stall, or less often where it takes turns
 * with others; a node that leaves one without an answer is asked on all of them. A node that has
 * never answered one is judged by TCP alone. A player's link is given longer: the publisher's
 * decides, also one that is on its way to another node. */
void link_watch_begin(struct session *s, uint64_t now_ms)
{
    const struct node_link *n = session_link_in_use(s);
    s->link_heard_ms = s->link_bytes_ms = now_ms;
    s->link_asked_ms = 0;
    s->link_suspected = false;
    s->link_pings = n ? n->link.pings_answered : 0;
    s->link_ping_ms = rehome_enabled(s) ? now_ms + s->env->failover->stall_ms / 4 : 0;
}

/* The node has been asked and has not been heard since. */
static bool is_owed(const struct session *s)
{
    return s->link_asked_ms != 0 && s->link_heard_ms < s->link_asked_ms;
}

static bool answers_pings(const struct node_link *n)
{
    return n->answers_pings || n->link.pings_answered > 0;
}

bool link_watch_judges(const struct session *s)
{
    return s->current >= 0 && is_owed(s) && answers_pings(&s->links[s->current]);
}

/* Since when the link is silent, last heard at `heard_ms`: before its ping it was not asked. */
static uint64_t silent_ms_since(const struct session *s, uint64_t heard_ms, uint64_t quarter,
                                uint64_t now_ms)
{
    const bool asked_soon = heard_ms + quarter >= s->link_asked_ms;
    return asked_soon ? now_ms - heard_ms : now_ms - s->link_asked_ms + quarter;
}

static uint64_t link_silent_ms(const struct session *s, uint64_t quarter, uint64_t now_ms)
{
    return is_owed(s) ? silent_ms_since(s, s->link_heard_ms, quarter, now_ms) : 0;
}

/* Nothing kept is given up at first, if there is room; nor from half of failover.stall on until
 * there are bytes, whoever was late; nor after a move, until the new node has answered: it may hang
 * with the replay in its hands. Of one that never answers nothing can be told by that: after a move
 * it has failover.stall. */
static bool must_hold(const struct session *s, uint64_t quarter, bool answers, uint64_t now_ms)
{
    const bool held = s->rehome.keep.held;
    if (s->link_asked_ms == 0)
        return held;
    if (now_ms - s->node_started_ms < RELOAD_HEARD_MS &&
        s->rehome.keep.bytes < s->env->failover->gop_bytes / 2)
        return true;
    if (s->link_bytes_ms >= s->link_asked_ms)
        return false;
    const uint64_t silent_ms = silent_ms_since(s, s->link_bytes_ms, quarter, now_ms);
    return answers ? held || silent_ms > 2 * quarter : held && silent_ms <= 4 * quarter;
}

/* Every link has a time of its own within the space: those that began together, as all do after a
 * restart, would be asked together, and a node that hangs be noticed as late. */
static uint64_t turn_after(const struct session *s, uint64_t after_ms)
{
    const uint64_t space = s->link_space_ms;
    const uint64_t turn = session_part_of(s, space);
    return after_ms + (turn + space - after_ms % space) % space;
}

/* When it has to be asked next; a player's media are answer enough. 0: now. */
static uint64_t link_ask_at(const struct session *s, uint64_t quarter, bool answers,
                            uint64_t now_ms)
{
    uint64_t at = 0, next = s->link_asked_ms + quarter;
    if (is_owed(s))
        return 0;
    if (s->link_space_ms > quarter)
        next = turn_after(s, s->link_asked_ms + quarter / 2);
    if (s->kind == SESSION_PLAY && answers)
        at = s->link_heard_ms + quarter - session_part_of(s, quarter / 4);
    if (s->link_asked_ms != 0 && next > at)
        at = next;
    return at > now_ms ? at : 0;
}

/* Where the next ping is far off, what is held would grow until then. */
static uint64_t look_again_at(const struct session *s, uint64_t ask_at, uint64_t quarter,
                              uint64_t now_ms)
{
    const uint64_t heard_ms = s->node_started_ms + RELOAD_HEARD_MS;
    const uint64_t again_ms = heard_ms > now_ms ? heard_ms : now_ms + quarter;
    return s->rehome.keep.held && again_ms < ask_at ? again_ms : ask_at;
}

void link_watch_due(struct session *s, uint64_t now_ms)
{
    struct node_link *n = session_link_in_use(s);
    const uint64_t stall = s->env->failover->stall_ms, quarter = stall / 4;
    const uint64_t patience = s->kind == SESSION_PUBLISH ? stall : stall + stall / 2 + 500;
    const uint64_t due_ms = s->link_ping_ms;
    s->link_ping_ms = now_ms + quarter;
    const bool leaving = s->state == SESS_REHOME && s->kind == SESSION_PUBLISH;
    if ((s->state != SESS_RELAY && !leaving) || !n || n->state != NODE_LIVE)
        return;
    const bool late = now_ms - due_ms > quarter || !session_reads_node(s, s->current);
    const bool answers = answers_pings(n);
    s->rehome.keep.held = late || leaving || must_hold(s, quarter, answers, now_ms);
    if (late) { /* it was us who heard nothing: give it time */
        s->link_heard_ms = now_ms;
        s->link_asked_ms = 0;
    }
    const uint64_t silent_ms = link_silent_ms(s, quarter, now_ms);
    if (answers && silent_ms >= patience) {
        rehome_link_lost(s, REHOME_SILENT, now_ms);
        return;
    }
    const uint64_t ask_at = link_ask_at(s, quarter, answers, now_ms);
    if (ask_at != 0) {
        s->link_suspected = false;
        s->link_ping_ms = look_again_at(s, ask_at, quarter, now_ms);
        return;
    }
    if (!is_owed(s))
        s->link_asked_ms = now_ms;
    else if (answers && !s->link_suspected && s->link_space_ms > quarter &&
             now_ms - s->link_asked_ms < 2 * quarter)
        s->actions |= ACT_SUSPECT; /* once */
    if ((int32_t)(s->link_pings - n->link.pings_answered) > LINK_PINGS_MAX)
        return; /* it answers none, or the queue does not move */
    s->link_pings++;
    if (rtmp_link_send_user(&n->link, RTMP_PING_REQUEST, (uint32_t)now_ms, 0) != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
}

/* Asked out of turn, though not all at the same moment. */
void link_watch_suspect(struct session *s, uint64_t now_ms)
{
    const uint64_t spread = s->env->failover->stall_ms / 16;
    if (s->link_ping_ms == 0)
        return;
    s->link_suspected = true; /* also if it has been asked: one says it for all */
    if (is_owed(s))
        return;
    const uint64_t at = now_ms + session_part_of(s, spread + 1);
    s->link_asked_ms = 0;
    if (at < s->link_ping_ms)
        s->link_ping_ms = at;
}
