/* The part of a session's machine that attaches a live stream to another node (DESIGN 6.3). The
 * order of a move: the publisher publishes on the new node; then the claim says so, and players
 * attach there; a ping behind their play shows that the node has them; then what was kept is
 * replayed, paced, and the live stream goes on behind it. */
#include <stdio.h>
#include <string.h>

#include "router/rehome_parts.h"

enum {
    REFUSED_AGAIN_MS = 10000, /* a second end within this is a refusal, if the node is well */
    MOVES_WINDOW_MS = 60000,
    RELOAD_TRY_MS = 3000, /* an old process has stopped listening by then */
    HOOK_ASKED_MS = 500,  /* a node that is well has answered a ping by then */
};

bool rehome_enabled(const struct session *s)
{
    return s->env->failover && s->env->failover->max_moves > 0;
}

struct node_link *rehome_fresh_link(struct session *s)
{
    return s->rehome.link < 0 ? NULL : &s->links[s->rehome.link];
}

void rehome_close_fresh(struct session *s)
{
    struct node_link *n = rehome_fresh_link(s);
    if (n)
        node_link_close(n);
    s->rehome.link = -1;
    s->rehome.level = false;
}

void rehome_close_current(struct session *s)
{
    if (s->current >= 0)
        node_link_close(&s->links[s->current]);
    s->current = -1;
}

void rehome_enter(struct session *s, enum rehome_phase phase, uint64_t deadline_ms)
{
    s->rehome.phase = phase;
    s->phase_deadline_ms = deadline_ms;
}

void rehome_abandon(struct session *s)
{
    struct session_rehome *r = &s->rehome;
    rehome_close_fresh(s);
    for (int i = 0; s->stream && i < SESSION_LINKS; i++)
        splice_feed_reset(&s->stream->feeds[i], FEED_LIVE, false);
    pending_clear(&r->ends);
    r->ends_due_ms = 0;
    r->phase = RH_NONE;
    r->planned = r->replaying = r->waiting = false;
    r->keep.held = false;
}

void rehome_forget(struct session *s)
{
    struct session_rehome *r = &s->rehome;
    const uint32_t count = r->count;
    const uint64_t cuts = r->cuts;
    rehome_abandon(s);
    stream_keep_clear(&r->keep);
    for (int i = 0; i < SESSION_CONTROLS_MAX; i++)
        rtmp_msg_unref(r->controls[i]);
    *r = (struct session_rehome){.link = -1, .count = count, .cuts = cuts};
    s->link_ping_ms = 0;
}

/* ---- what is kept ---- */

void rehome_keep(struct session *s, struct rtmp_msg *m, uint64_t now_ms)
{
    if (!rehome_enabled(s))
        return;
    struct session_rehome *r = &s->rehome;
    struct keep_policy p = {.reach_ms = s->env->failover->reach_ms,
                            .max_bytes = s->env->failover->gop_bytes};
    if (block_pool_is_short(s->env->pool->blocks) && r->keep.bytes < p.max_bytes)
        p.max_bytes = r->keep.bytes; /* it takes no more than it has */
    const uint64_t dropped = r->keep.dropped_messages, groups = r->keep.dropped_groups;
    stream_keep_push(&r->keep, m, &p, now_ms);
    if (r->keep.dropped_groups > groups)
        r->cuts += r->keep.dropped_groups - groups;
    if (s->state == SESS_REHOME && r->keep.dropped_messages > dropped)
        r->kept_dropped += r->keep.dropped_messages - dropped;
}

/* ---- links ---- */

static uint64_t patience_ms(const struct session *s)
{
    const uint64_t dial = s->env->router->dial_timeout_ms;
    return dial < s->env->failover->stall_ms ? dial : s->env->failover->stall_ms;
}

void rehome_dial(struct session *s, const char *node, enum rehome_phase phase, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    rehome_close_fresh(s);
    const int i = s->current == 0 ? 1 : 0;
    node_link_close(&s->links[i]);
    node_link_open(&s->links[i], s->env->pool, &s->env->node_limits,
                   phase == RH_CHECK ? NULL : s->command);
    snprintf(s->link_nodes[i], sizeof s->link_nodes[i], "%s", node);
    snprintf(r->node, sizeof r->node, "%s", node);
    r->link = i;
    r->waiting = r->replaying = r->caught_up = r->states_sent = false;
    r->pings_due = 0;
    splice_feed_reset(&s->stream->feeds[i], r->planned ? FEED_SHARED : FEED_JOINING, r->planned);
    rehome_enter(s, phase, now_ms + patience_ms(s));
}

void rehome_take_over_link(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    rehome_close_current(s);
    s->current = r->link;
    r->link = -1;
    r->level = false;
    r->again_here = strcmp(s->node, r->node) == 0;
    memcpy(s->node, r->node, sizeof s->node);
    s->links[s->current].state = NODE_LIVE;
    s->node_started_ms = now_ms;
    splice_feed_alone(&s->stream->feeds[s->current]);
    r->phase = RH_NONE;
    r->planned = false;
    s->excluded_count = 0;
    s->last_fail = FAIL_NONE;
    session_enter(s, SESS_RELAY, now_ms);
    link_watch_begin(s, now_ms);
}

void rehome_look_up(struct session *s)
{
    rehome_enter(s, RH_LOOKUP, 0);
    s->actions |= ACT_PLACE;
}

static void exclude(struct session *s, const char *node)
{
    if (s->excluded_count < SESSION_EXCLUDED_MAX)
        snprintf(s->stream->excluded[s->excluded_count++], NODE_ID_MAX, "%s", node);
}

/* ---- a move begins ---- */

/* One more; true: too many within a minute. */
static bool count_loss(const struct session *s, struct rehome_losses *l, uint64_t now_ms)
{
    if (l->count == 0 || now_ms - l->since_ms > MOVES_WINDOW_MS)
        *l = (struct rehome_losses){.since_ms = now_ms};
    return l->count++ >= s->env->failover->max_moves;
}

bool rehome_may_plan(const struct session *s, uint64_t now_ms)
{
    const struct rehome_losses *l = &s->rehome.called_off;
    return l->count <= s->env->failover->max_moves || now_ms - l->since_ms > MOVES_WINDOW_MS;
}

static void end_moves(struct session *s, uint64_t now_ms)
{
    session_refuse(s, WHY_MAX_MOVES, "NetStream.Publish.Failed",
                   "the stream has lost too many media nodes", now_ms);
}

void rehome_begin(struct session *s, enum rehome_cause cause, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    r->cause = cause;
    r->keep.held = true;
    r->replayed = r->kept_dropped = 0;
    r->claimed = r->returned = false;
    r->rounds = 0;
    r->began_ms = now_ms;
    s->excluded_count = 0;
    s->refusal[0] = '\0';
    session_enter(s, SESS_REHOME, now_ms);
}

bool rehome_may_be_refusal(const struct session *s, enum rehome_cause cause, uint64_t now_ms)
{
    const struct session_rehome *r = &s->rehome;
    const bool again = r->again_ms != 0 && now_ms - r->again_ms < REFUSED_AGAIN_MS;
    const bool early = (r->count == 0 || again) && now_ms - s->node_started_ms < REFUSED_WITHIN_MS;
    return cause == REHOME_ENDED && (early || (again && r->again_here));
}

/* It came back to the node and was ended again, and so were others: the node has crashed, or was
 * restarted once more. */
static bool is_ended_with_others(const struct session *s, uint64_t now_ms)
{
    return s->rehome.count > 0 && link_ends_with_others(s->env->ends, s->node, s->id, now_ms);
}

static void publisher_lost(struct session *s, enum rehome_cause cause, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    if (count_loss(s, &r->lost, now_ms)) {
        end_moves(s, now_ms);
        return;
    }
    const bool refusal = rehome_may_be_refusal(s, cause, now_ms);
    rehome_begin(s, cause, now_ms);
    r->again_ms = cause == REHOME_ENDED ? now_ms : 0;
    if (refusal) {
        rehome_dial(s, s->node, RH_CHECK, now_ms);
        return;
    }
    s->actions |= ACT_REHOMING;
    if (cause == REHOME_ENDED) {
        rehome_dial(s, s->node, RH_LINK, now_ms);
    } else { /* it may hang for ever */
        exclude(s, s->node);
        rehome_look_up(s);
    }
}

void rehome_link_lost(struct session *s, enum rehome_cause cause, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    rehome_close_current(s);
    if (cause == REHOME_ENDED)
        link_ends_note(s->env->ends, s->node, s->id, now_ms);
    if (s->state == SESS_REHOME && s->kind == SESSION_PLAY && r->phase == RH_OVERLAP) {
        rehome_cut_over(s, now_ms);
        return;
    }
    if (s->state == SESS_REHOME) { /* the old one of two: the new one has to do */
        r->planned = false;
        if (r->link >= 0 && s->kind == SESSION_PLAY)
            splice_feed_alone(&s->stream->feeds[r->link]);
        return;
    }
    if (s->kind == SESSION_PUBLISH)
        publisher_lost(s, cause, now_ms);
    else
        rehome_player_lost(s, cause, now_ms);
}

void rehome_planned(struct session *s, enum rehome_cause cause, const char *node, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    if (!rehome_enabled(s) || s->state != SESS_RELAY || s->kind != SESSION_PUBLISH)
        return;
    if (!rehome_may_plan(s, now_ms))
        return;
    rehome_begin(s, cause, now_ms);
    s->actions |= ACT_REHOMING;
    r->planned = true;
    r->named = cause != REHOME_RELOAD && node[0] != '\0';
    if (cause == REHOME_RELOAD) {
        rehome_dial(s, s->node, RH_LINK, now_ms);
        return;
    }
    exclude(s, s->node);
    if (node[0])
        rehome_dial(s, node, RH_LINK, now_ms);
    else
        rehome_look_up(s);
}

/* Players have been sent after a stream that does not come: they are called back. */
static void take_back_claim(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    memcpy(r->node, s->node, sizeof r->node);
    r->claimed = false;
    r->returned = true;
    s->state_deadline_ms = now_ms + s->env->failover->give_up_ms;
    rehome_enter(s, RH_CLAIM, 0);
    s->actions |= ACT_MOVE;
}

void rehome_stay(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    rehome_close_fresh(s);
    s->actions &= ~(unsigned)ACT_PLACE;
    if (r->claimed) {
        take_back_claim(s, now_ms);
        return;
    }
    splice_feed_alone(&s->stream->feeds[s->current]);
    r->phase = RH_NONE;
    r->planned = false; /* what is kept is held on: the node may have hung all the while */
    session_enter(s, SESS_RELAY, now_ms);
    if (s->kind == SESSION_PLAY) /* a publisher's link has been watched on: it is judged first */
        link_watch_begin(s, now_ms);
}

/* ---- finding the node ---- */

static void leave_old_node(struct session *s)
{
    rehome_close_current(s);
    s->rehome.planned = false;
}

void rehome_placed(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (s->rehome.phase != RH_LOOKUP)
        return;
    if (s->kind == SESSION_PLAY) {
        session_note_publication(s, ev->publication);
        s->rehome.again = strcmp(ev->node, s->node) == 0 && !ev->follow;
        if (ev->follow)
            s->rehome.followed_epoch = ev->epoch;
        if (rehome_called_back(s, ev, now_ms))
            return;
        if (s->rehome.again && s->current >= 0 && strcmp(s->rehome.node, s->node) != 0) {
            rehome_stay(s, now_ms); /* it did not leave after all */
            return;
        }
        if (s->rehome.again) /* a reloaded node: it is on the new process */
            leave_old_node(s);
    }
    rehome_dial(s, ev->node, RH_LINK, now_ms);
    if (s->kind == SESSION_PLAY)
        splice_feed_expect(&s->stream->feeds[s->rehome.link],
                           ev->follow ? ev->time : s->rehome.splice.last_time - LIVE_BEHIND_MS);
}

/* All that there are were tried, or none is up: again from the first. */
void rehome_unplaced(struct session *s, uint64_t now_ms)
{
    if (s->rehome.phase != RH_LOOKUP)
        return;
    if (s->rehome.planned && s->kind == SESSION_PUBLISH) {
        rehome_stay(s, now_ms);
        return;
    }
    s->excluded_count = 0;
    s->rehome.rounds++;
    if (s->rehome.planned) { /* a player: nobody is to wait for it */
        s->rehome.denied = true;
        s->actions |= ACT_ATTACHED;
    }
    rehome_enter(s, RH_WAIT, now_ms + REHOME_AGAIN_MS);
}

/* ---- the link being set up ---- */

void rehome_node_dialled(struct session *s, uint64_t now_ms)
{
    s->phase_deadline_ms = now_ms + patience_ms(s);
}

void rehome_node_connected(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    struct node_link *n = rehome_fresh_link(s);
    enum err e = session_send_hello(s, ev, now_ms);
    if (e == ERR_OK && s->kind == SESSION_PLAY && s->rehome.phase == RH_LINK)
        e = rehome_send_controls(s);
    /* its answer says that the node has our play (rehoming-notes 2) */
    if (e == ERR_OK && s->kind == SESSION_PLAY && s->rehome.phase == RH_LINK)
        e = rtmp_link_send_user(&n->link, RTMP_PING_REQUEST, (uint32_t)now_ms, 0);
    s->rehome.linked_ms = now_ms;
    if (e != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
}

static void move_claim(struct session *s, uint64_t now_ms)
{
    const struct config_failover *f = s->env->failover;
    const uint64_t longest_ms = f->grace_ms + 2 * f->stall_ms, half_ms = f->give_up_ms / 2;
    rehome_fresh_link(s)->state = NODE_LIVE;
    s->rehome.returned = false;
    s->rehome.grace_until_ms = now_ms + (longest_ms < half_ms ? longest_ms : half_ms);
    rehome_enter(s, RH_CLAIM, 0);
    s->actions |= ACT_MOVE;
}

static void go_on_elsewhere(struct session *s, uint64_t now_ms)
{
    rehome_close_fresh(s);
    s->rehome.suspect = false;
    if (s->kind == SESSION_PLAY) {
        rehome_enter(s, RH_WAIT, now_ms + REHOME_AGAIN_MS);
        return;
    }
    s->actions |= ACT_REHOMING;
    exclude(s, s->node);
    rehome_look_up(s);
}

void rehome_node_event(struct session *s, const struct node_event *ev, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    struct node_link *n = rehome_fresh_link(s);
    switch (ev->kind) {
    case NODE_EV_ALIVE:
        if (r->phase == RH_CHECK && is_ended_with_others(s, now_ms)) {
            go_on_elsewhere(s, now_ms);
        } else if (r->phase == RH_CHECK) { /* it closed on us twice and is well: it meant us */
            rehome_close_fresh(s);
            session_refused_by_node(s, now_ms);
        } else {
            s->phase_deadline_ms = now_ms + s->env->failover->stall_ms;
        }
        break;
    case NODE_EV_STARTED:
        n->state = NODE_LIVE;
        if (s->kind == SESSION_PUBLISH && r->phase == RH_LINK)
            move_claim(s, now_ms);
        break;
    case NODE_EV_REFUSED:
        r->name_taken = view_is(ev->status.code, "NetStream.Publish.BadName");
        rehome_node_failed(s, FAIL_REFUSED, now_ms);
        break;
    case NODE_EV_MEDIA:
        if (s->kind != SESSION_PLAY)
            break;
        if (r->phase == RH_LINK)
            rehome_attached(s, now_ms); /* r->link is the current one then, or both are used */
        rehome_player_media(s, r->link >= 0 ? r->link : s->current, ev->msg, now_ms);
        break;
    case NODE_EV_STATUS:
    case NODE_EV_USER:
        break; /* of a node that comes or goes: not the player's business */
    }
}

void rehome_node_heard(struct session *s, uint64_t now_ms)
{
    struct node_link *n = rehome_fresh_link(s);
    if (s->kind == SESSION_PLAY && n && s->rehome.phase == RH_LINK && n->link.pings_answered > 0)
        rehome_attached(s, now_ms);
}

/* An old process may still take connections: another try. When it no longer does, the name is taken
 * because the stream is on the new process already: it came between that process's start and our
 * hearing of it. Players that came then may have the old one, so the stream is published anew, and
 * they follow. Not so where the new one has had it from us and lost it: that is still to be done.
 */
static void reload_refused(struct session *s, bool name_taken, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    if (now_ms - r->began_ms < RELOAD_TRY_MS) {
        rehome_enter(s, RH_WAIT, now_ms + REHOME_AGAIN_MS);
        return;
    }
    if (!name_taken || r->claimed) {
        rehome_stay(s, now_ms);
        return;
    }
    leave_old_node(s);
    rehome_dial(s, s->node, RH_LINK, now_ms);
}

void rehome_node_failed(struct session *s, enum node_fail fail, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    const bool known_stream = s->kind == SESSION_PUBLISH || r->publication != 0;
    const struct node_link *n = rehome_fresh_link(s);
    const bool denied = fail == FAIL_REFUSED || (fail == FAIL_DIED && n && n->connected);
    const bool began = n && n->state == NODE_LIVE;
    rehome_close_fresh(s);
    r->suspect = false;
    s->last_fail = denied && !began ? FAIL_REFUSED : fail; /* a hook says no by closing, too */
    const bool lost = s->kind == SESSION_PUBLISH && began && fail != FAIL_FULL;
    const bool too_many = lost && count_loss(s, r->planned ? &r->called_off : &r->lost, now_ms);
    if (fail == FAIL_REFUSED && !known_stream) {
        session_refused_by_node(s, now_ms);
        return;
    }
    if (r->planned && r->cause == REHOME_RELOAD && s->kind == SESSION_PUBLISH && !too_many) {
        reload_refused(s, fail == FAIL_REFUSED && r->name_taken, now_ms);
        return;
    }
    if (s->kind == SESSION_PUBLISH && r->phase == RH_CHECK)
        s->actions |= ACT_REHOMING;
    exclude(s, r->node);
    memcpy(s->failed_node, r->node, sizeof s->failed_node);
    s->actions |= ACT_NODE_FAILED;
    if (r->planned && s->kind == SESSION_PUBLISH && (too_many || r->named)) {
        rehome_stay(s, now_ms); /* it was sent to that node, and nowhere else */
        return;
    }
    if (too_many) {
        end_moves(s, now_ms);
        return;
    }
    if (s->kind == SESSION_PLAY) {
        if (r->publication != 0) /* the claim says where it is */
            s->excluded_count = 0;
        if (denied && r->followed_epoch != 0) { /* nobody is to wait for it */
            r->denied = true;
            s->actions |= ACT_ATTACHED;
        }
        rehome_enter(s, RH_WAIT, now_ms + REHOME_AGAIN_MS);
        return;
    }
    if (s->excluded_count < SESSION_EXCLUDED_MAX) {
        rehome_look_up(s);
        return;
    }
    rehome_enter(s, RH_LOOKUP, 0); /* one more could not be noted, and would be asked without end */
    rehome_unplaced(s, now_ms);
}

/* ---- time ---- */

/* The publisher's new node has not answered yet. Its hook may take long: the node is asked whether
 * it is well itself, and then has as long as for a stream that begins. True: it is waited for. */
static bool wait_for_hook(struct session *s, uint64_t now_ms)
{
    const struct node_link *n = rehome_fresh_link(s);
    if (s->kind != SESSION_PUBLISH || s->rehome.phase != RH_LINK || !n || n->state != NODE_COMMAND)
        return false;
    const bool asked = s->rehome.pings_due > 0;
    if (asked && (!rehome_new_node_has_read(s) ||
                  now_ms - s->rehome.linked_ms >= s->env->router->answer_timeout_ms))
        return false;
    s->phase_deadline_ms = now_ms + (asked ? s->env->failover->stall_ms : HOOK_ASKED_MS);
    rehome_ask_new_node(s, now_ms);
    return true;
}

void rehome_phase_deadline(struct session *s, uint64_t now_ms)
{
    switch (s->rehome.phase) {
    case RH_NONE:
    case RH_LOOKUP:
        break;
    case RH_CLAIM:
        s->actions |= ACT_MOVE;
        break;
    case RH_WAIT:
        if (s->kind == SESSION_PUBLISH && s->rehome.planned && s->rehome.cause == REHOME_RELOAD)
            rehome_dial(s, s->node, RH_LINK, now_ms);
        else if (s->rehome.suspect)
            rehome_dial(s, s->node, RH_CHECK, now_ms);
        else
            rehome_look_up(s);
        break;
    case RH_LINK:
    case RH_CHECK: {
        const struct node_link *n = rehome_fresh_link(s);
        if (wait_for_hook(s, now_ms))
            break;
        rehome_node_failed(
            s, n && n->state == NODE_COMMAND ? FAIL_ANSWER_TIMEOUT : FAIL_DIAL_TIMEOUT, now_ms);
        break;
    }
    case RH_AUDIENCE:
        rehome_ask_audience(s);
        break;
    case RH_OVERLAP:
        if (s->kind == SESSION_PUBLISH)
            rehome_ask_audience(s);
        break;
    case RH_REPLAY:
        rehome_replay_batch(s, now_ms);
        break;
    }
}

void rehome_state_deadline(struct session *s, uint64_t now_ms)
{
    if (s->rehome.phase == RH_OVERLAP && s->rehome.level) {
        rehome_cut_over(s, now_ms);
        return;
    }
    if (s->current >= 0) {
        rehome_stay(s, now_ms);
        return;
    }
    session_refuse(s, WHY_NO_NODE, session_failed_code(s), "no media node can take the stream now",
                   now_ms);
}
