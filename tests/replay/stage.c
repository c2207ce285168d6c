#include "tests/replay/stage.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rtmp/handshake.h"
#include "tests/alloc/alloc_fail.h"

enum {
    UNROUTED_BYTES = 32 * 1024,
    /* of those whose own part of an interval is next to nothing */
    STAGE_ID = 10946,
    STAGE_LEAD_ID = 28657,
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

static struct stage *root_of(struct stage *t)
{
    return t->player ? t->player : t;
}

PRINTF_LIKE(2, 3) static void note(struct stage *t, const char *fmt, ...)
{
    struct stage *root = root_of(t);
    char *at = root->trace + root->trace_len;
    const size_t room = sizeof root->trace - root->trace_len;
    const char *prefix = t->player ? "lead " : "";
    const size_t n = strlen(prefix);
    va_list args;
    require(n < room);
    memcpy(at, prefix, n);
    va_start(args, fmt);
    const int len = vsnprintf(at + n, room - n, fmt, args);
    va_end(args);
    require(len >= 0 && n + (size_t)len + 1 < room);
    root->trace_len += n + (size_t)len;
    root->trace[root->trace_len++] = '\n';
    root->trace[root->trace_len] = '\0';
}

const char *stage_take(struct stage *t, char out[STAGE_TRACE_MAX])
{
    memcpy(out, t->trace, t->trace_len + 1);
    t->trace_len = 0;
    t->trace[0] = '\0';
    return out;
}

/* ---- the beginning and the end ---- */

static void peer_open(struct stage *t, struct stage_peer *p)
{
    rtmp_chunk_reader_init(&p->in, &t->peer_pool, &t->peer_limits);
    rtmp_chunk_writer_init(&p->out, &t->peer_pool);
    p->reads_most = UINT64_MAX;
    p->raw_left = RTMP_S0S1S2_BYTES;
}

static void peer_close(struct stage_peer *p)
{
    rtmp_chunk_reader_deinit(&p->in);
    rtmp_chunk_writer_deinit(&p->out);
}

void stage_init(struct stage *t)
{
    memset(t, 0, sizeof *t);
    block_pool_init(&t->blocks, 0);
    block_pool_init(&t->peer_blocks, 0);
    rtmp_pool_init(&t->pool, &t->blocks);
    rtmp_pool_init(&t->peer_pool, &t->peer_blocks);
    t->now_ms = STAGE_START_MS;
    t->router = (struct config_router){
        .retries = 2,
        .dial_timeout_ms = 1000,
        .answer_timeout_ms = 5000,
        .setup_timeout_ms = 20000,
        .handshake_timeout_ms = 10000,
        .idle_timeout_ms = 30000,
        .ping_interval_ms = 30000,
        .ping_timeout_ms = 60000,
    };
    t->failover = (struct config_failover){.stall_ms = 2000, /* and max_moves 0 */
                                           .reach_ms = 3000,
                                           .gop_bytes = 1 << 20,
                                           .grace_ms = 500,
                                           .give_up_ms = 30000,
                                           .moves_per_second = 64};
    t->relay = (struct config_relay){.buffer_bytes = 64 * 1024, .stall_timeout_ms = 10000};
    t->access.rules = t->rules;
    const struct rtmp_chunk_limits limits = {.message_bytes = STAGE_MESSAGE_MAX,
                                             .unfinished_bytes = 2 * STAGE_MESSAGE_MAX,
                                             .chunk_streams = 64};
    t->peer_limits = limits;
    t->env = (struct session_env){.pool = &t->pool,
                                  .ends = &t->ends,
                                  .router = &t->router,
                                  .relay = &t->relay,
                                  .failover = &t->failover,
                                  .unrouted_limits = {.message_bytes = UNROUTED_BYTES,
                                                      .unfinished_bytes = UNROUTED_BYTES,
                                                      .chunk_streams = 64},
                                  .client_limits = limits,
                                  .node_limits = limits,
                                  .unrouted_bytes = UNROUTED_BYTES,
                                  .access = {.config = &t->access},
                                  .admission = &t->admission};
    admission_init(&t->admission);
    peer_open(t, &t->client);
}

void stage_open(struct stage *t)
{
    session_init(&t->s, &t->env, STAGE_ID, t->now_ms);
    t->opened = true;
}

static void end(struct stage *t)
{
    if (t->opened)
        session_deinit(&t->s);
    peer_close(&t->client);
    for (int i = 0; i < SESSION_LINKS; i++)
        if (t->nodes[i].generation > 0)
            peer_close(&t->nodes[i]);
    admission_deinit(&t->admission);
}

static void end_pools(struct stage *t)
{
    require(t->pool.live == 0 && t->peer_pool.live == 0);
    rtmp_pool_deinit(&t->pool);
    rtmp_pool_deinit(&t->peer_pool);
    block_pool_deinit(&t->blocks); /* asserts that no block is left */
    block_pool_deinit(&t->peer_blocks);
}

void stage_deinit(struct stage *t)
{
    end(t);
    if (t->lead) {
        end(t->lead);
        share_deinit(&t->lead->share);
        end_pools(t->lead);
        free(t->lead);
    }
    end_pools(t);
}

/* ---- messages in words ---- */

static void note_command(struct stage *t, const char *who, const char *at, struct rtmp_msg *m)
{
    const uint8_t *payload;
    struct rtmp_command c;
    require(rtmp_msg_flatten(m, &payload) == ERR_OK);
    require(rtmp_command_parse(payload, m->len, &c) == PARSE_OK);
    struct rtmp_status status;
    struct rtmp_connect connect;
    if (c.kind == RTMP_CMD_ON_STATUS) {
        rtmp_status_read(&c, &status);
        note(t, "%s < %.*s %.*s%s", who, (int)status.level.len, (const char *)status.level.p,
             (int)status.code.len, (const char *)status.code.p, at);
    } else if (c.kind == RTMP_CMD_CONNECT) {
        rtmp_connect_read(&c, &connect);
        note(t, "%s < connect %.*s %.*s%s", who, (int)connect.app.len, (const char *)connect.app.p,
             (int)connect.tc_url.len, (const char *)connect.tc_url.p, at);
    } else if (c.kind == RTMP_CMD_RESULT) {
        note(t, "%s < _result %g%s", who, c.transaction_id, at);
    } else {
        const struct view arg = c.arg[0].type == AMF0_STRING ? c.arg[0].string : (struct view){0};
        note(t, "%s < %.*s%s%.*s%s", who, (int)c.name.len, (const char *)c.name.p,
             arg.len ? " " : "", (int)arg.len, arg.len ? (const char *)arg.p : "", at);
    }
}

static void note_user_control(struct stage *t, const char *who, const struct rtmp_msg *m)
{
    static const char *const names[] = {
        [RTMP_STREAM_BEGIN] = "stream_begin", [RTMP_STREAM_EOF] = "stream_eof",
        [RTMP_SET_BUFFER_LENGTH] = "buffer",  [RTMP_PING_REQUEST] = "ping",
        [RTMP_PING_RESPONSE] = "pong",
    };
    uint8_t wire[2] = {0};
    (void)rtmp_msg_peek(m, wire, sizeof wire);
    require(m->msid == 0 && wire[1] < sizeof names / sizeof names[0] && names[wire[1]]);
    note(t, "%s < %s", who, names[wire[1]]);
}

static void note_message(struct stage *t, const char *who, struct rtmp_msg *m)
{
    char at[16] = ""; /* the message stream, where it is not the usual one */
    if (t->quiet)
        return;
    if (m->msid > 1)
        snprintf(at, sizeof at, " @%u", m->msid);
    switch (m->type) {
    case RTMP_SET_CHUNK_SIZE: /* hop by hop */
    case RTMP_ACK:
    case RTMP_WINDOW_ACK_SIZE:
    case RTMP_SET_PEER_BANDWIDTH:
        break;
    case RTMP_COMMAND_AMF0:
        note_command(t, who, at, m);
        break;
    case RTMP_USER_CONTROL:
        note_user_control(t, who, m);
        break;
    case RTMP_AUDIO:
    case RTMP_VIDEO:
    case RTMP_DATA_AMF0:
        note(t, "%s < %s %u %u%s", who,
             m->type == RTMP_AUDIO   ? "audio"
             : m->type == RTMP_VIDEO ? "video"
                                     : "data",
             m->timestamp, m->len, at);
        break;
    default:
        note(t, "%s < type %u", who, m->type);
    }
}

/* ---- what the session says ---- */

static struct slice copy_of(struct block_pool *pool, const void *buf, size_t len)
{
    struct block *b = malloc(sizeof *b + len);
    if (!b)
        abort();
    *b = (struct block){.refs = 1, .cap = (uint32_t)len, .used = (uint32_t)len, .pool = pool};
    if (len)
        memcpy(b->data, buf, len);
    pool->live_bytes += len;
    return (struct slice){.block = b, .off = 0, .len = (uint32_t)len};
}

static void tell(const struct stage *t, int link, struct rtmp_msg *m)
{
    if (t->ears.heard)
        t->ears.heard(t->ears.arg, link, m);
}

static void peer_hears(struct stage *t, struct stage_peer *p, const char *who, const uint8_t *buf,
                       size_t len)
{
    const int link = p == &t->client ? -1 : (int)(p - t->nodes);
    const size_t raw = len < p->raw_left ? len : p->raw_left;
    p->raw_left -= (uint32_t)raw;
    if (raw > 0 && p->raw_left == 0) {
        note(t, "%s < handshake", who);
        tell(t, link, NULL);
    }
    struct slice in = copy_of(&t->peer_blocks, buf + raw, len - raw);
    struct block *block = in.block;
    struct rtmp_msg *m;
    enum parse_result r;
    while ((r = rtmp_chunk_reader_next(&p->in, &in, &m)) == PARSE_OK) {
        note_message(t, who, m);
        tell(t, link, m);
        rtmp_msg_unref(m);
    }
    require(r == PARSE_NEED_MORE);
    block_unref(block);
}

/* True if anything has left. */
static bool drain(struct stage *t, struct rtmp_chunk_writer *out, struct stage_peer *p,
                  const char *who)
{
    bool any = false;
    struct iovec iov[16];
    size_t n;
    while (p->reads_most > 0 && (n = rtmp_chunk_writer_iov(out, iov, 16, 64 * 1024)) > 0) {
        size_t done = 0;
        for (size_t i = 0; i < n && p->reads_most > 0; i++) {
            const size_t len = iov[i].iov_len < p->reads_most ? iov[i].iov_len : p->reads_most;
            peer_hears(t, p, who, iov[i].iov_base, len);
            done += len;
            if (p->reads_most != UINT64_MAX)
                p->reads_most -= len;
        }
        rtmp_chunk_writer_advance(out, done);
        if (p == &t->client)
            t->s.bytes_out += done;
        any = true;
    }
    return any;
}

static void note_actions(struct stage *t, unsigned actions)
{
    const struct session *s = &t->s;
    static const struct session_ended nothing;
    const struct session_ended *ended = s->stream ? &s->stream->ended : &nothing;
    if (actions & ACT_NODE_FAILED)
        note(t, "node_failed %s %s", s->failed_node, node_fail_name(s->last_fail));
    if (actions & ACT_HANDED_OVER)
        note(t, "handed_over %s epoch %llu", ended->key.text, (unsigned long long)ended->epoch);
    if (actions & ACT_RELEASE)
        note(t, "release %s epoch %llu%s", ended->key.text, (unsigned long long)ended->epoch,
             ended->keep_hint ? " keep" : "");
    if (actions & ACT_REHOMING)
        note(t, "rehoming %s", rehome_cause_name(s->rehome.cause));
    if (actions & ACT_PLACE) {
        char but[256] = "";
        for (uint32_t i = 0; i < s->excluded_count; i++)
            snprintf(but + strlen(but), sizeof but - strlen(but), " not %s",
                     s->stream->excluded[i]);
        note(t, "place %s %s%s", s->key.text, s->kind == SESSION_PUBLISH ? "publish" : "play", but);
    }
    if (actions & ACT_MOVE)
        note(t, "move %s epoch %llu%s%s", s->rehome.node, (unsigned long long)s->claim_epoch,
             s->rehome.planned ? " planned" : "", s->rehome.returned ? " stays" : "");
    if (actions & ACT_AUDIENCE)
        note(t, "audience?");
    if (actions & ACT_ATTACHED)
        note(t, "attached epoch %llu", (unsigned long long)s->rehome.followed_epoch);
    if (actions & ACT_STARTED)
        note(t, "started");
    if (actions & ACT_ARRIVED)
        note(t, "arrived %s epoch %llu", s->node, (unsigned long long)s->claim_epoch);
    if (actions & ACT_RESUMED)
        note(t, "resumed after %llu", (unsigned long long)s->rehome.gap_ms);
    if (actions & ACT_ENDS)
        note(t, "publisher?");
    if (actions & ACT_SUSPECT)
        note(t, "suspect");
    if (actions & ACT_SHUTDOWN)
        note(t, "shutdown");
    if (actions & ACT_FREE) {
        note(t, "free");
        t->over = true;
    }
}

static void note_state(struct stage *t)
{
    const struct session *s = &t->s;
    if (s->state == t->state_seen)
        return;
    t->state_seen = s->state;
    if (s->state == SESS_CLOSING)
        note(t, "state closing %s", close_why_name(s->why));
    else
        note(t, "state %s", session_state_name(s->state));
}

static void note_held(struct stage *t, bool *seen, bool held, const char *who)
{
    if (held != *seen && t->s.state != SESS_CLOSING)
        note(t, "%s %s", held ? "hold" : "hear", who);
    *seen = held;
}

static void note_pressure(struct stage *t)
{
    const struct session *s = &t->s;
    const bool flows = s->state == SESS_PLACE || s->state == SESS_RELAY;
    const bool moves = s->state == SESS_REHOME;
    if (!t->player) /* a lead has no client */
        note_held(t, &t->client_held, (flows || moves) && !session_reads_client(s), "client");
    note_held(t, &t->node_held, flows && s->current >= 0 && !session_reads_node(s, s->current),
              "node");
}

/* Sockets are what the links say. */
static void sync_links(struct stage *t)
{
    for (int i = 0; i < SESSION_LINKS; i++) {
        const struct node_link *l = &t->s.links[i];
        struct stage_peer *p = &t->nodes[i];
        const bool another = l->generation != p->generation;
        if (t->link_seen[i] && (l->state == NODE_OFF || another)) {
            note(t, "hang_up node%d", i);
            t->link_seen[i] = false;
        }
        if (l->state != NODE_DIAL || !another)
            continue;
        if (p->generation > 0)
            peer_close(p);
        peer_open(t, p);
        p->generation = l->generation;
        if (l->check_only)
            p->raw_left = RTMP_C0C1_BYTES;
        note(t, "%s node%d %s", l->check_only ? "check" : "dial", i, t->s.link_nodes[i]);
        t->link_seen[i] = true;
    }
}

/* As session_io.c: what has left is told to a session that waits to hear of it. */
static bool flush(struct stage *t)
{
    static const char *const names[SESSION_LINKS] = {"node0", "node1"};
    struct session *s = &t->s;
    bool news = false;
    if (!s->client_gone && drain(t, &s->client.link.out, &t->client, "client"))
        news = s->state == SESS_CLOSING || s->node_paused || s->client_paused;
    for (int i = 0; i < SESSION_LINKS; i++) {
        struct node_link *l = &s->links[i];
        if (l->state == NODE_OFF || l->state == NODE_DIAL)
            continue;
        const bool sent = drain(t, &l->link.out, &t->nodes[i], names[i]);
        if ((sent && s->client_paused) ||
            (l->state == NODE_CLOSING && (sent || !l->link.out.count)))
            news = true;
    }
    return news;
}

static void after_step(struct stage *t, unsigned actions)
{
    note_state(t);
    note_actions(t, actions);
    if (t->ears.acted)
        t->ears.acted(t->ears.arg, actions);
    note_pressure(t);
    sync_links(t);
}

static void step_once(struct stage *t, const struct session_event *ev)
{
    require(t->opened && !t->over);
    alloc_fail_enter();
    const unsigned actions = session_step(&t->s, ev, t->now_ms);
    alloc_fail_leave();
    after_step(t, actions);
}

static void step_all(struct stage *t, const struct session_event *ev)
{
    step_once(t, ev);
    while (!t->over && flush(t))
        step_once(t, &(struct session_event){.kind = SE_FLUSHED});
}

/* ---- a player and the one that plays for it, as share_io.c ---- */

bool stage_may_share(const struct stage *t)
{
    const struct stage *lead = t->lead;
    return t->opened && !t->over && !t->player && session_may_share(&t->s) &&
           t->s.phase == PHASE_LOOKUP && (!lead || (!lead->over && lead->s.state != SESS_CLOSING));
}

/* True: something came of it. */
static bool lead_turn(struct stage *t, struct stage *lead)
{
    if (lead->over)
        return false;
    if (t->shares && !t->s.seat.share) {
        t->shares = false;
        if (lead->share.count == 0)
            step_all(lead, &(struct session_event){.kind = SE_CLOSE, .why = WHY_CLIENT_CLOSED});
        return true;
    }
    const bool starts = !lead->share.started && lead->s.told_start;
    lead->share.started = lead->share.started || starts;
    return starts;
}

static bool player_turn(struct stage *t, const struct stage *lead)
{
    struct share_seat *seat = &t->s.seat;
    if (t->over || !seat->share)
        return false;
    if (lead->s.state == SESS_CLOSING)
        step_all(t, &(struct session_event){
                        .kind = SE_SHARE_ENDED, .why = lead->s.why, .node = lead->s.refusal});
    else if (seat->failed)
        step_all(t, &(struct session_event){.kind = SE_CLOSE, .why = WHY_LIMIT_MEMORY});
    else if (lead->share.started && t->s.state == SESS_PLACE)
        step_all(t, &(struct session_event){.kind = SE_SHARE_STARTED,
                                            .node = lead->s.node,
                                            .reason = lead->s.placed_by});
    else if (seat->news) {
        seat->news = false;
        step_all(t, &(struct session_event){.kind = SE_FLUSHED});
    } else
        return false;
    return true;
}

static void share_turns(struct stage *t)
{
    if (!t->lead || t->sharing)
        return;
    t->sharing = true;
    while (lead_turn(t, t->lead) || player_turn(t, t->lead))
        continue;
    t->sharing = false;
}

static struct stage *create_lead(struct stage *t)
{
    struct stage *lead = malloc(sizeof *lead);
    require(lead != NULL);
    stage_init(lead);
    lead->player = t;
    lead->quiet = t->quiet;
    lead->cut = t->cut;
    lead->now_ms = t->now_ms;
    lead->opened = true;
    share_init(&lead->share, t->relay.buffer_bytes, t->failover.gop_bytes);
    return lead;
}

void stage_share(struct stage *t)
{
    const bool fresh = !t->lead;
    unsigned actions = 1;
    if (fresh) {
        t->lead = create_lead(t);
        alloc_fail_enter();
        actions = session_init_lead(&t->lead->s, &t->env, STAGE_LEAD_ID, &t->lead->share, &t->s,
                                    t->now_ms);
        alloc_fail_leave();
        t->lead->s.leads = &t->lead->share; /* also if that failed */
    }
    t->shares = true;
    t->sharing = true;
    step_all(t, &(struct session_event){.kind = SE_SHARED, .share = &t->lead->share});
    if (actions == 0)
        step_all(t->lead, &(struct session_event){.kind = SE_CLOSE, .why = WHY_LIMIT_MEMORY});
    else if (fresh)
        after_step(t->lead, actions);
    t->sharing = false;
    share_turns(t);
}

bool stage_is_over(const struct stage *t)
{
    return t->over && (!t->lead || t->lead->over);
}

void stage_step(struct stage *t, const struct session_event *ev)
{
    step_all(t, ev);
    share_turns(root_of(t));
}

/* ---- time ---- */

static uint64_t deadline(const struct stage *t)
{
    return t->over ? UINT64_MAX : session_deadline(&t->s);
}

/* Whose deadline is next. */
static struct stage *next_due(struct stage *t)
{
    return t->lead && deadline(t->lead) < deadline(t) ? t->lead : t;
}

static void set_clock(struct stage *t, uint64_t ms)
{
    t->now_ms = ms;
    if (t->lead)
        t->lead->now_ms = ms;
}

void stage_run_until(struct stage *t, uint64_t ms)
{
    struct stage *due;
    while (deadline(due = next_due(t)) <= ms) {
        if (deadline(due) > t->now_ms)
            set_clock(t, deadline(due));
        const size_t before = t->trace_len;
        char *text = t->trace + before;
        if (!t->quiet)
            note(t, "at %llu", (unsigned long long)(t->now_ms - STAGE_START_MS));
        const size_t head = t->trace_len;
        stage_step(due, &(struct session_event){.kind = SE_TICK});
        if (t->trace_len == head) { /* nothing came of it */
            t->trace_len = before;
            *text = '\0';
        }
        require(deadline(due) > t->now_ms); /* a timer would spin */
    }
    set_clock(t, ms);
}

/* ---- what peers say ---- */

bool stage_client_may_speak(const struct stage *t)
{
    return session_reads_client(&t->s) && !t->s.client_gone;
}

bool stage_node_may_speak(const struct stage *t, int link)
{
    const enum node_link_state state = t->s.links[link].state;
    return state != NODE_OFF && state != NODE_DIAL && session_reads_node(&t->s, link);
}

/* The session gets it in pieces, each in an allocation of its own. */
static void bytes_arrive(struct stage *t, struct session_event ev, const uint8_t *buf, size_t len)
{
    const size_t step = t->cut ? t->cut : len;
    for (size_t done = 0; done < len && !t->over; done += step) {
        const size_t n = len - done < step ? len - done : step;
        struct slice in = copy_of(&root_of(t)->blocks, buf + done, n);
        struct block *block = in.block;
        ev.bytes = &in;
        stage_step(t, &ev);
        block_unref(block);
    }
}

static uint8_t *all_of(struct rtmp_chunk_writer *out, size_t *len)
{
    uint8_t *buf = NULL;
    struct iovec iov[16];
    size_t n, cap = 0;
    *len = 0;
    while ((n = rtmp_chunk_writer_iov(out, iov, 16, 64 * 1024)) > 0) {
        size_t batch = 0;
        for (size_t i = 0; i < n; i++) {
            if (*len + batch + iov[i].iov_len > cap) {
                cap = 2 * (*len + batch + iov[i].iov_len);
                buf = realloc(buf, cap);
            }
            if (!buf)
                abort();
            memcpy(buf + *len + batch, iov[i].iov_base, iov[i].iov_len);
            batch += iov[i].iov_len;
        }
        rtmp_chunk_writer_advance(out, batch);
        *len += batch;
    }
    return buf;
}

static void push(struct stage *t, struct stage_peer *p, uint8_t type, uint32_t msid,
                 uint32_t time_ms, const void *payload, size_t len)
{
    struct rtmp_msg *m = rtmp_msg_from_bytes(&t->peer_pool, type, msid, time_ms, payload, len);
    require(m && rtmp_chunk_writer_push(&p->out, m, msid, time_ms) == ERR_OK);
    rtmp_msg_unref(m);
}

void stage_client_send(struct stage *t)
{
    size_t len;
    uint8_t *buf = all_of(&t->client.out, &len);
    t->holding = false;
    bytes_arrive(t, (struct session_event){.kind = SE_CLIENT_BYTES}, buf, len);
    free(buf);
}

void stage_client_raw(struct stage *t, const void *buf, size_t len)
{
    require(rtmp_chunk_writer_push_raw(&t->client.out, buf, len) == ERR_OK);
    if (!t->holding)
        stage_client_send(t);
}

void stage_client_says(struct stage *t, uint8_t type, uint32_t msid, uint32_t time_ms,
                       const void *payload, size_t len)
{
    push(t, &t->client, type, msid, time_ms, payload, len);
    if (!t->holding)
        stage_client_send(t);
}

void stage_node_raw(struct stage *t, int link, const void *buf, size_t len)
{
    bytes_arrive(t, (struct session_event){.kind = SE_NODE_BYTES, .link = link}, buf, len);
}

void stage_node_says(struct stage *t, int link, uint8_t type, uint32_t msid, uint32_t time_ms,
                     const void *payload, size_t len)
{
    size_t n;
    push(t, &t->nodes[link], type, msid, time_ms, payload, len);
    uint8_t *buf = all_of(&t->nodes[link].out, &n);
    stage_node_raw(t, link, buf, n);
    free(buf);
}

static void reads(struct stage *t, struct stage_peer *p, uint64_t bytes)
{
    p->reads_most = bytes;
    while (!t->over && flush(t))
        step_once(t, &(struct session_event){.kind = SE_FLUSHED});
    share_turns(root_of(t));
}

void stage_client_reads(struct stage *t, uint64_t bytes)
{
    reads(t, &t->client, bytes);
}

void stage_node_reads(struct stage *t, int link, uint64_t bytes)
{
    reads(t, &t->nodes[link], bytes);
}
