/* The part of a session's machine that attaches a live stream to another node (DESIGN 6.3). The
 * order of a move: the publisher publishes on the new node; then the claim says so, and players
 * attach there; a ping behind their play shows that the node has them; then what was kept is
 * replayed, paced, and the live stream goes on behind it. */
#include <stdio.h>
#include <string.h>

#include "router/session_parts.h"

enum {
    AGAIN_MS = 200,        /* before a player asks for its node again, or a publisher for any */
    AUDIENCE_EVERY_MS = 4, /* how often the audience is looked at */
    BATCH_EVERY_MS = 2,    /* of the replay (rehoming-notes 12) */
    BATCH_BYTES = 64 * 1024,
    BATCH_MESSAGES = 100,
    BATCH_ANSWER_MS = 50, /* a node that is not known to answer pings has read a batch by then */
    ASK_EVERY_MS = 50,    /* the new node, while players are waited for: does it hang? */
    REFUSED_AGAIN_MS = 10000, /* a second end within this is a refusal, if the node is well */
    MOVES_WINDOW_MS = 60000,
    RELOAD_TRY_MS = 3000,   /* an old process has stopped listening by then */
    LIVE_BEHIND_MS = 30000, /* a stream that is live on a node is no further behind a player */
};

bool rehome_enabled(const struct session *s)
{
    return s->env->failover && s->env->failover->max_moves > 0;
}

static struct node_link *fresh_link(struct session *s)
{
    return s->rehome.link < 0 ? NULL : &s->links[s->rehome.link];
}

static void close_fresh(struct session *s)
{
    struct node_link *n = fresh_link(s);
    if (n)
        node_link_close(n);
    s->rehome.link = -1;
    s->rehome.level = false;
}

static void close_current(struct session *s)
{
    if (s->current >= 0)
        node_link_close(&s->links[s->current]);
    s->current = -1;
}

static void enter_phase(struct session *s, enum rehome_phase phase, uint64_t deadline_ms)
{
    s->rehome.phase = phase;
    s->phase_deadline_ms = deadline_ms;
}

void rehome_abandon(struct session *s)
{
    struct session_rehome *r = &s->rehome;
    close_fresh(s);
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

/* Sessions must be able to go on receiving: what is kept goes first. */
static bool memory_is_short(const struct session *s)
{
    const struct block_pool *b = s->env->pool->blocks;
    return b->max_bytes != 0 && b->live_bytes > b->max_bytes / 4 * 3;
}

void rehome_keep(struct session *s, struct rtmp_msg *m, uint64_t now_ms)
{
    if (!rehome_enabled(s))
        return;
    struct session_rehome *r = &s->rehome;
    struct keep_policy p = {.reach_ms = s->env->failover->reach_ms,
                            .max_bytes = s->env->failover->gop_bytes};
    if (memory_is_short(s) && r->keep.bytes < p.max_bytes)
        p.max_bytes = r->keep.bytes; /* it takes no more than it has */
    const uint64_t dropped = r->keep.dropped_messages, groups = r->keep.dropped_groups;
    stream_keep_push(&r->keep, m, &p, now_ms);
    if (r->keep.dropped_groups > groups)
        r->cuts += r->keep.dropped_groups - groups;
    if (s->state == SESS_REHOME && r->keep.dropped_messages > dropped)
        r->kept_dropped += r->keep.dropped_messages - dropped;
}

/* The last of each kind counts. */
void rehome_remember(struct session *s, struct rtmp_msg *m)
{
    const uint8_t *payload;
    struct rtmp_command cmd;
    int kind = 0; /* user control: the buffer length */
    if (m->type == RTMP_COMMAND_AMF0) {
        if (rtmp_msg_flatten(m, &payload) != ERR_OK ||
            rtmp_command_parse(payload, m->len, &cmd) != PARSE_OK)
            return;
        kind = cmd.kind == RTMP_CMD_PAUSE           ? 1
               : cmd.kind == RTMP_CMD_RECEIVE_AUDIO ? 2
               : cmd.kind == RTMP_CMD_RECEIVE_VIDEO ? 3
                                                    : -1;
    }
    if (kind < 0)
        return;
    rtmp_msg_unref(s->rehome.controls[kind]);
    s->rehome.controls[kind] = rtmp_msg_ref(m);
}

/* ---- links ---- */

static uint64_t patience_ms(const struct session *s)
{
    const uint64_t dial = s->env->router->dial_timeout_ms;
    return dial < s->env->failover->stall_ms ? dial : s->env->failover->stall_ms;
}

/* A link of its own beside the current one; an older one that is still being flushed gives way. */
static void dial(struct session *s, const char *node, enum rehome_phase phase, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    close_fresh(s);
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
    enter_phase(s, phase, now_ms + patience_ms(s));
}

/* The new link is the current one. */
static void take_over_link(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    close_current(s);
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

/* The player leaves the old one of two links: its node has been left by the publisher. */
static void cut_over(struct session *s, uint64_t now_ms)
{
    take_over_link(s, now_ms);
    s->rehome.count++;
    s->rehome.gap_ms = 0;
    s->actions |= ACT_ATTACHED | ACT_RESUMED;
}

static void look_up(struct session *s)
{
    enter_phase(s, RH_LOOKUP, 0);
    s->actions |= ACT_PLACE;
}

static void exclude(struct session *s, const char *node)
{
    if (s->excluded_count < SESSION_EXCLUDED_MAX)
        snprintf(s->stream->excluded[s->excluded_count++], NODE_ID_MAX, "%s", node);
}

/* ---- a move begins ---- */

static bool too_many_moves(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    if (r->moves == 0 || now_ms - r->moves_since_ms > MOVES_WINDOW_MS) {
        r->moves = 0;
        r->moves_since_ms = now_ms;
    }
    return r->moves++ >= s->env->failover->max_moves;
}

static void begin(struct session *s, enum rehome_cause cause, uint64_t now_ms)
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

/* The node closed right after it had taken the stream, or twice in a row: if it is well, it means
 * us. */
static bool may_be_refusal(const struct session *s, enum rehome_cause cause, uint64_t now_ms)
{
    const struct session_rehome *r = &s->rehome;
    const bool again = r->again_ms != 0 && now_ms - r->again_ms < REFUSED_AGAIN_MS;
    const bool early = (r->count == 0 || again) && now_ms - s->node_started_ms < REFUSED_WITHIN_MS;
    return cause == REHOME_ENDED && (early || (again && r->again_here));
}

static void publisher_lost(struct session *s, enum rehome_cause cause, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    if (too_many_moves(s, now_ms)) {
        session_refuse(s, WHY_MAX_MOVES, "NetStream.Publish.Failed",
                       "the stream has lost too many media nodes", now_ms);
        return;
    }
    const bool refusal = may_be_refusal(s, cause, now_ms);
    begin(s, cause, now_ms);
    r->again_ms = cause == REHOME_ENDED ? now_ms : 0;
    if (refusal) {
        dial(s, s->node, RH_CHECK, now_ms);
        return;
    }
    s->actions |= ACT_REHOMING;
    if (cause == REHOME_ENDED) {
        dial(s, s->node, RH_LINK, now_ms);
    } else { /* it may hang for ever */
        exclude(s, s->node);
        look_up(s);
    }
}

/* The publisher's worker judges the node, and the claim will tell; only without it we ask again. */
static void player_lost(struct session *s, enum rehome_cause cause, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    const bool early = r->count == 0;
    r->suspect = may_be_refusal(s, cause, now_ms);
    begin(s, cause, now_ms);
    r->again_ms = 0;
    if (r->suspect && early)
        dial(s, s->node, RH_CHECK, now_ms);
    else
        enter_phase(s, RH_WAIT, now_ms + AGAIN_MS);
}

void rehome_link_lost(struct session *s, enum rehome_cause cause, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    close_current(s);
    if (s->state == SESS_REHOME && s->kind == SESSION_PLAY && r->phase == RH_OVERLAP) {
        cut_over(s, now_ms);
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
        player_lost(s, cause, now_ms);
}

void rehome_planned(struct session *s, enum rehome_cause cause, const char *node, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    if (!rehome_enabled(s) || s->state != SESS_RELAY || s->kind != SESSION_PUBLISH)
        return;
    begin(s, cause, now_ms);
    s->actions |= ACT_REHOMING;
    r->planned = true;
    if (cause == REHOME_RELOAD) {
        dial(s, s->node, RH_LINK, now_ms);
        return;
    }
    exclude(s, s->node);
    if (node[0])
        dial(s, node, RH_LINK, now_ms);
    else
        look_up(s);
}

/* Players have been sent after a stream that does not come: they are called back. */
static void take_back_claim(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    memcpy(r->node, s->node, sizeof r->node);
    r->claimed = false;
    r->returned = true;
    s->state_deadline_ms = now_ms + s->env->failover->give_up_ms;
    enter_phase(s, RH_CLAIM, 0);
    s->actions |= ACT_MOVE;
}

/* A planned move that comes to nothing: the stream stays where it is. */
static void stay(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    close_fresh(s);
    s->actions &= ~(unsigned)ACT_PLACE;
    if (r->claimed) {
        take_back_claim(s, now_ms);
        return;
    }
    splice_feed_alone(&s->stream->feeds[s->current]);
    r->phase = RH_NONE;
    r->planned = false; /* what is kept is held on: the node may have hung all the while */
    session_enter(s, SESS_RELAY, now_ms);
    link_watch_begin(s, now_ms);
}

/* The player's stream does not leave after all, and the player has not left either. */
static bool called_back(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    const bool leaving = s->state == SESS_REHOME && strcmp(s->rehome.node, s->node) != 0;
    if (!leaving || !ev->planned || s->current < 0 || strcmp(ev->node, s->node) != 0)
        return false;
    s->rehome.followed_epoch = ev->epoch;
    stay(s, now_ms);
    s->actions |= ACT_ATTACHED;
    return true;
}

/* ---- finding the node ---- */

void rehome_placed(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (s->rehome.phase != RH_LOOKUP)
        return;
    if (s->kind == SESSION_PLAY) {
        s->rehome.publication = ev->publication;
        s->rehome.again = strcmp(ev->node, s->node) == 0 && !ev->follow;
        if (ev->follow)
            s->rehome.followed_epoch = ev->epoch;
        if (s->rehome.again && s->current >= 0) { /* it did not leave after all */
            stay(s, now_ms);
            return;
        }
        if (called_back(s, ev, now_ms))
            return;
    }
    dial(s, ev->node, RH_LINK, now_ms);
    if (s->kind == SESSION_PLAY)
        splice_feed_expect(&s->stream->feeds[s->rehome.link],
                           ev->follow ? ev->time : s->rehome.splice.last_time - LIVE_BEHIND_MS);
}

/* All that there are were tried, or none is up: again from the first. */
void rehome_unplaced(struct session *s, uint64_t now_ms)
{
    if (s->rehome.phase != RH_LOOKUP)
        return;
    if (s->rehome.planned) {
        stay(s, now_ms);
        return;
    }
    s->excluded_count = 0;
    s->rehome.rounds++;
    enter_phase(s, RH_WAIT, now_ms + AGAIN_MS);
}

/* ---- the link being set up ---- */

static enum err send_controls(struct session *s)
{
    enum err e = ERR_OK;
    for (int i = 0; i < SESSION_CONTROLS_MAX && e == ERR_OK; i++)
        if (s->rehome.controls[i])
            e = node_link_send(fresh_link(s), s->rehome.controls[i]);
    return e;
}

void rehome_node_connected(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    struct node_link *n = fresh_link(s);
    enum err e = session_send_hello(s, ev, now_ms);
    if (e == ERR_OK && s->kind == SESSION_PLAY && s->rehome.phase == RH_LINK)
        e = send_controls(s);
    /* its answer says that the node has our play (rehoming-notes 2) */
    if (e == ERR_OK && s->kind == SESSION_PLAY && s->rehome.phase == RH_LINK)
        e = rtmp_link_send_user(&n->link, RTMP_PING_REQUEST, (uint32_t)now_ms, 0);
    if (e != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
}

/* What came before its hello it is told behind that. */
enum err rehome_pass(struct session *s, struct rtmp_msg *m)
{
    struct node_link *n = fresh_link(s);
    const bool listens = n && n->state >= NODE_HANDSHAKE && n->state <= NODE_LIVE;
    return listens && s->rehome.phase != RH_CHECK ? node_link_send(n, m) : ERR_OK;
}

static void move_claim(struct session *s)
{
    fresh_link(s)->state = NODE_LIVE;
    enter_phase(s, RH_CLAIM, 0);
    s->actions |= ACT_MOVE;
}

/* The player's new link is where the replay will reach it. */
static void attached(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    fresh_link(s)->state = NODE_LIVE;
    if (s->current >= 0) {
        enter_phase(s, RH_OVERLAP, 0);
    } else {
        r->resuming = r->media_ms != 0;
        r->again_ms = r->again ? now_ms : 0;
        r->count++;
        take_over_link(s, now_ms);
    }
    s->actions |= ACT_ATTACHED;
}

void rehome_node_event(struct session *s, const struct node_event *ev, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    struct node_link *n = fresh_link(s);
    switch (ev->kind) {
    case NODE_EV_ALIVE:
        if (r->phase == RH_CHECK) { /* it closed on us twice and is well: it meant us */
            close_fresh(s);
            session_refused_by_node(s, now_ms);
        } else {
            s->phase_deadline_ms = now_ms + s->env->failover->stall_ms;
        }
        break;
    case NODE_EV_STARTED:
        n->state = NODE_LIVE;
        if (s->kind == SESSION_PUBLISH && r->phase == RH_LINK)
            move_claim(s);
        break;
    case NODE_EV_REFUSED:
        r->name_taken = view_is(ev->status.code, "NetStream.Publish.BadName");
        rehome_node_failed(s, FAIL_REFUSED, now_ms);
        break;
    case NODE_EV_MEDIA:
        if (s->kind != SESSION_PLAY)
            break;
        if (r->phase == RH_LINK)
            attached(s, now_ms); /* r->link is the current one then, or both are used */
        rehome_player_media(s, r->link >= 0 ? r->link : s->current, ev->msg, now_ms);
        break;
    case NODE_EV_STATUS:
    case NODE_EV_USER:
        break; /* of a node that comes or goes: not the player's business */
    }
}

void rehome_node_heard(struct session *s, uint64_t now_ms)
{
    struct node_link *n = fresh_link(s);
    if (s->kind == SESSION_PLAY && n && s->rehome.phase == RH_LINK && n->link.pings_answered > 0)
        attached(s, now_ms);
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
        enter_phase(s, RH_WAIT, now_ms + AGAIN_MS);
        return;
    }
    if (!name_taken || r->claimed) {
        stay(s, now_ms);
        return;
    }
    close_current(s);
    r->planned = false;
    dial(s, s->node, RH_LINK, now_ms);
}

void rehome_node_failed(struct session *s, enum node_fail fail, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    const bool known_stream = s->kind == SESSION_PUBLISH || r->publication != 0;
    const struct node_link *n = fresh_link(s);
    const bool denied = fail == FAIL_REFUSED || (fail == FAIL_DIED && n && n->connected);
    close_fresh(s);
    r->suspect = false;
    s->last_fail = fail;
    if (fail == FAIL_REFUSED && !known_stream) {
        session_refused_by_node(s, now_ms);
        return;
    }
    if (r->planned && r->cause == REHOME_RELOAD && s->kind == SESSION_PUBLISH) {
        reload_refused(s, fail == FAIL_REFUSED && r->name_taken, now_ms);
        return;
    }
    if (s->kind == SESSION_PUBLISH && r->phase == RH_CHECK)
        s->actions |= ACT_REHOMING;
    exclude(s, r->node);
    memcpy(s->failed_node, r->node, sizeof s->failed_node);
    s->actions |= ACT_NODE_FAILED;
    if (s->kind == SESSION_PLAY) {
        if (r->publication != 0) /* the claim says where it is */
            s->excluded_count = 0;
        if (denied && r->followed_epoch != 0) { /* nobody is to wait for it */
            r->denied = true;
            s->actions |= ACT_ATTACHED;
        }
        enter_phase(s, RH_WAIT, now_ms + AGAIN_MS);
        return;
    }
    look_up(s);
}

/* ---- the claim, the audience ---- */

/* The publisher's new node: it has read what was sent before this once it has answered. */
static void ask_new_node(struct session *s, uint64_t now_ms)
{
    s->rehome.batch_ms = now_ms;
    s->rehome.pings_due++;
    if (rtmp_link_send_user(&fresh_link(s)->link, RTMP_PING_REQUEST, (uint32_t)now_ms, 0) != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
}

static bool new_node_answers(const struct session *s)
{
    const struct node_link *n = &s->links[s->rehome.link];
    return n->answers_pings || n->link.pings_answered > 0;
}

static bool new_node_has_read(const struct session *s)
{
    const uint32_t answered = s->links[s->rehome.link].link.pings_answered;
    return (int32_t)(answered - s->rehome.pings_due) >= 0;
}

static bool new_node_hangs(const struct session *s, uint64_t now_ms)
{
    return new_node_answers(s) && !new_node_has_read(s) &&
           now_ms - s->rehome.batch_ms > s->env->failover->stall_ms;
}

void rehome_claim_moved(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    if (s->state != SESS_REHOME || r->phase != RH_CLAIM)
        return;
    if (ev->epoch != 0)
        s->claim_epoch = ev->epoch;
    if (!fresh_link(s) && s->current >= 0) { /* taken back */
        stay(s, now_ms);
        s->actions |= ACT_ARRIVED;
        return;
    }
    if (!fresh_link(s)) { /* and then the old node was lost, too */
        look_up(s);
        return;
    }
    if (ev->epoch == 0 && s->claim_epoch != 0 && s->current >= 0) {
        stay(s, now_ms); /* players would not hear of it, and their node is well */
        return;
    }
    r->claimed = ev->epoch != 0;
    r->grace_until_ms = now_ms + s->env->failover->grace_ms;
    enter_phase(s, RH_AUDIENCE, now_ms);
    ask_new_node(s, now_ms);
}

static void ask_audience(struct session *s)
{
    if (!s->rehome.waiting)
        s->actions |= ACT_AUDIENCE;
    s->rehome.waiting = true;
}

/* ---- the replay ---- */

static uint32_t kept_time(const struct session_rehome *r, uint32_t otherwise)
{
    return r->keep.count ? stream_keep_at(&r->keep, r->keep.first)->msg->timestamp : otherwise;
}

uint32_t session_replay_time(const struct session *s)
{
    return kept_time(&s->rehome, 0);
}

static enum err send_states(struct session *s)
{
    struct session_rehome *r = &s->rehome;
    struct node_link *n = fresh_link(s);
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
        e = node_link_send(fresh_link(s), m);
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
    take_over_link(s, now_ms);
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
    enter_phase(s, RH_OVERLAP, 0);
    ask_new_node(s, now_ms);
    if (s->state == SESS_REHOME)
        ask_audience(s);
}

static void send_batch(struct session *s, uint64_t now_ms)
{
    const bool done = replay_some(s, BATCH_BYTES, BATCH_MESSAGES, now_ms);
    if (s->state != SESS_REHOME)
        return;
    if (done)
        replayed_all(s, now_ms);
    else
        ask_new_node(s, now_ms);
}

static void replay_batch(struct session *s, uint64_t now_ms)
{
    const uint64_t ms = now_ms - s->rehome.batch_ms;
    const bool read = new_node_has_read(s) || (!new_node_answers(s) && ms > BATCH_ANSWER_MS);
    enter_phase(s, RH_REPLAY, now_ms + BATCH_EVERY_MS);
    if (rtmp_chunk_writer_empty(&fresh_link(s)->link.out) && read)
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
    enter_phase(s, RH_REPLAY, now_ms + BATCH_EVERY_MS);
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
        !fresh_link(s))
        return;
    const bool alive = !new_node_answers(s) || new_node_has_read(s);
    const bool enough = ev->ready || now_ms >= audience_until_ms(s);
    const bool go_on = (ev->ready && r->phase == RH_AUDIENCE) || (enough && alive);
    if (!go_on && new_node_has_read(s) && now_ms - r->batch_ms > ASK_EVERY_MS)
        ask_new_node(s, now_ms);
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
    struct node_link *n = fresh_link(s);
    if (s->state == SESS_REHOME && s->rehome.caught_up && n && node_link_send(n, m) != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
}

/* ---- players ---- */

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
        cut_over(s, now_ms);
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
        session_to_client(s, m, CLIENT_MSID, splice_time(f, m), now_ms);
    }
    if (s->state == SESS_REHOME && r->phase == RH_OVERLAP && link == r->link && !r->level &&
        splice_caught_up(&r->splice, f))
        note_level(s, now_ms);
}

void rehome_follow(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    if (called_back(s, ev, now_ms))
        return;
    close_fresh(s);
    if (!ev->planned)
        close_current(s);
    if (s->state != SESS_REHOME)
        begin(s, r->cause, now_ms);
    s->actions &= ~(unsigned)ACT_PLACE;
    r->followed_epoch = ev->epoch;
    r->planned = s->current >= 0;
    if (r->planned)
        splice_feed_share(&s->stream->feeds[s->current]);
    r->suspect = r->again = r->denied = false;
    s->state_deadline_ms = now_ms + s->env->failover->give_up_ms;
    pending_clear(&r->ends);
    r->ends_due_ms = 0;
    dial(s, ev->node, RH_LINK, now_ms);
    splice_feed_expect(&s->stream->feeds[r->link], ev->time);
}

/* The publisher has left the old node: nothing more will come from there. */
void rehome_settled(struct session *s, uint64_t now_ms)
{
    struct session_rehome *r = &s->rehome;
    if (s->kind != SESSION_PLAY || s->state != SESS_REHOME || s->current < 0)
        return;
    if (r->phase == RH_OVERLAP) {
        cut_over(s, now_ms);
        return;
    }
    close_current(s);
    r->planned = false;
    if (r->link >= 0)
        splice_feed_alone(&s->stream->feeds[r->link]);
}

/* ---- time ---- */

void rehome_phase_deadline(struct session *s, uint64_t now_ms)
{
    switch (s->rehome.phase) {
    case RH_NONE:
    case RH_LOOKUP:
    case RH_CLAIM:
        break;
    case RH_WAIT:
        if (s->kind == SESSION_PUBLISH && s->rehome.planned && s->rehome.cause == REHOME_RELOAD)
            dial(s, s->node, RH_LINK, now_ms);
        else if (s->rehome.suspect)
            dial(s, s->node, RH_CHECK, now_ms);
        else
            look_up(s);
        break;
    case RH_LINK:
    case RH_CHECK: {
        const struct node_link *n = fresh_link(s);
        rehome_node_failed(
            s, n && n->state == NODE_COMMAND ? FAIL_ANSWER_TIMEOUT : FAIL_DIAL_TIMEOUT, now_ms);
        break;
    }
    case RH_AUDIENCE:
        ask_audience(s);
        break;
    case RH_OVERLAP:
        if (s->kind == SESSION_PUBLISH)
            ask_audience(s);
        break;
    case RH_REPLAY:
        replay_batch(s, now_ms);
        break;
    }
}

void rehome_state_deadline(struct session *s, uint64_t now_ms)
{
    if (s->rehome.phase == RH_OVERLAP && s->rehome.level) {
        cut_over(s, now_ms);
        return;
    }
    if (s->current >= 0) {
        stay(s, now_ms);
        return;
    }
    session_refuse(s, WHY_NO_NODE, session_failed_code(s), "no media node can take the stream now",
                   now_ms);
}
