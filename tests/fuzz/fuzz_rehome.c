/* A stream with its publisher and its players, on nodes that die, hang, come back, are drained and
 * reloaded: whole sessions, their claim, and nodes that do as nginx-rtmp does. The input says what
 * happens (enum op). Whatever it is, every player gets every message of the stream once, in order
 * and with its time, from the first one on; headers come before the first frame; no player hears
 * that the stream has ended while it goes on; a move that is called back leaves players where they
 * were; and when things are quiet again, all have the last message. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rd.h"
#include "rtmp/handshake.h"
#include "tests/replay/script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PLAYERS = 2, SESSIONS = 1 + PLAYERS, NODES = 4, WIRE_MAX = 1024, FRAMES_MAX = 1024 };
enum {
    STEPS_MAX = 400,
    LAG_MAX_MS = 250, /* of what a node sends; failover.reach has to cover it */
    GROUP_MAX_MS = 4000,
    CALM_MS = 8000,
    PROCESSES = 4,         /* of a node: the newest, and old ones that have connections still */
    RELOAD_SEEN_MS = 1000, /* so long after it, and so far apart, a stream is told to follow */
    END_WITHIN_MS = 300 * 1000,
};

/* An op is a byte: its kind in the low four bits, its argument in the high four. */
enum op {
    OP_AUDIO, /* the publisher sends one, argument x 8 ms after the last message */
    OP_INTER,
    OP_KEY,
    OP_BURST,        /* audio and video, argument + 1 each, 40 ms apart in stream and in time */
    OP_WAIT,         /* argument x 50 ms */
    OP_JOIN,         /* players beyond the first come when told */
    OP_KILL,         /* node */
    OP_FLUSHED_KILL, /* what it has sent arrives */
    OP_STALL,
    OP_RESUME, /* or start again */
    OP_DRAIN,  /* or its end; argument 8 and more: it can take no stream more, or its end */
    OP_LAG,    /* what nodes send a player is under way for a while */
    OP_SLOW,   /* player stops reading, or goes on */
    OP_CUT,    /* bytes per read */
    OP_RELOAD, /* node */
    OP_LOSE,   /* the node that the stream is coming to has lost it again */
};

enum node_state { UP, STALLED, DEAD };

struct frame {
    uint8_t type; /* 0: none */
    bool header, key;
    uint32_t time, number;
};

enum say_what {
    SAY_HELLO,
    SAY_CONNECTED,
    SAY_STREAM,
    SAY_PUBLISHING,
    SAY_PLAYING,
    SAY_BAD_NAME,
    SAY_UNPUBLISHED,
    SAY_PONG,
    SAY_FRAME,
};
struct say {
    enum say_what what;
    uint32_t stamp;
    struct frame frame;
};

/* One connection of a session to a node, as the node has it. */
struct wire {
    int node; /* -1: none */
    int process;
    uint32_t generation;
    bool plays, publishes, ended;
    uint64_t held_until_ms;
    uint32_t head, count;
    struct say queue[WIRE_MAX];
};

struct node_model {
    enum node_state state;
    bool draining, full;
    int process; /* that takes connections */
    uint64_t reloaded_ms;
    struct process_model {
        struct frame headers[2], last[2]; /* audio, video, of its publication */
    } processes[PROCESSES];
};

struct player {
    bool header[2], any[2];
    uint32_t next[2]; /* number expected */
    uint64_t told_epoch, marked_epoch;
    bool cut;
    bool beside; /* when a move was called back it had the connection that the publisher has */
};

struct world {
    struct stage stages[SESSIONS]; /* the publisher, then the players */
    struct ear {
        struct world *w;
        int session;
    } ears[SESSIONS];
    unsigned todo[SESSIONS];
    struct wire wires[SESSIONS][SESSION_LINKS];
    struct node_model nodes[NODES];
    struct player players[SESSIONS];
    struct {
        bool live, planned, stays;
        int node, next; /* -1: none */
        uint64_t epoch, publication;
        uint32_t replay_time;
    } claim;
    uint64_t now_ms, lag_ms, key_ms, follow_ms;
    uint32_t time; /* of the stream */
    uint32_t sent[2];
    uint32_t times[2][FRAMES_MAX];
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

static int class_of(uint8_t type)
{
    return type == RTMP_VIDEO;
}

static int node_called(const char *id)
{
    return id[0] == 'n' ? id[1] - '1' : -1;
}

static const char *node_id(int node)
{
    static const char *const ids[NODES] = {"n1", "n2", "n3", "n4"};
    return ids[node];
}

/* ---- what nodes do ---- */

static void wire_say(struct world *w, struct wire *wire, struct say say)
{
    if (wire->count == 0)
        wire->held_until_ms = w->now_ms + w->lag_ms;
    require(wire->count < WIRE_MAX);
    wire->queue[(wire->head + wire->count++) % WIRE_MAX] = say;
}

static bool same_process(const struct wire *a, const struct wire *b)
{
    return a->node == b->node && a->process == b->process;
}

static struct process_model *process_of(struct world *w, const struct wire *wire)
{
    return &w->nodes[wire->node].processes[wire->process];
}

/* In the process that the wire is to. */
static bool has_publisher(const struct world *w, const struct wire *wire)
{
    for (int i = 0; i < SESSION_LINKS; i++)
        if (same_process(&w->wires[0][i], wire) && w->wires[0][i].publishes)
            return true;
    return false;
}

static void tell_players(struct world *w, const struct wire *publisher, struct say say)
{
    for (int s = 1; s < SESSIONS; s++)
        for (int i = 0; i < SESSION_LINKS; i++)
            if (same_process(&w->wires[s][i], publisher) && w->wires[s][i].plays)
                wire_say(w, &w->wires[s][i], say);
}

static void node_takes_publisher(struct world *w, struct wire *wire)
{
    struct process_model *n = process_of(w, wire);
    if (has_publisher(w, wire)) {
        wire_say(w, wire, (struct say){.what = SAY_BAD_NAME});
        return;
    }
    wire->publishes = true;
    memset(n->headers, 0, sizeof n->headers);
    memset(n->last, 0, sizeof n->last);
    wire_say(w, wire, (struct say){.what = SAY_PUBLISHING});
}

static void node_takes_player(struct world *w, struct wire *wire)
{
    const struct process_model *n = process_of(w, wire);
    wire->plays = true;
    wire_say(w, wire, (struct say){.what = SAY_PLAYING});
    for (int c = 0; c < 2 && has_publisher(w, wire); c++) {
        struct frame header = n->headers[c];
        header.time = n->last[c].type ? n->last[c].time : header.time;
        if (header.type)
            wire_say(w, wire, (struct say){.what = SAY_FRAME, .frame = header});
    }
}

static struct frame frame_of(const struct rtmp_msg *m)
{
    uint8_t buf[6] = {0};
    require(rtmp_msg_peek(m, buf, sizeof buf) == sizeof buf);
    struct rd rd = rd_over(buf + 2, 4);
    return (struct frame){.type = m->type,
                          .header = buf[1] == 0,
                          .key = buf[0] == 0x17,
                          .time = m->timestamp,
                          .number = rd_u32be(&rd)};
}

static void node_takes_frame(struct world *w, const struct wire *wire, const struct rtmp_msg *m)
{
    struct process_model *n = process_of(w, wire);
    const struct frame f = frame_of(m);
    if (!wire->publishes)
        return;
    if (f.header)
        n->headers[class_of(f.type)] = f;
    n->last[class_of(f.type)] = f;
    tell_players(w, wire, (struct say){.what = SAY_FRAME, .frame = f});
}

static void node_takes_command(struct world *w, struct wire *wire, struct rtmp_msg *m)
{
    const uint8_t *payload;
    struct rtmp_command c;
    require(rtmp_msg_flatten(m, &payload) == ERR_OK &&
            rtmp_command_parse(payload, m->len, &c) == PARSE_OK);
    if (c.kind == RTMP_CMD_CONNECT)
        wire_say(w, wire, (struct say){.what = SAY_CONNECTED});
    else if (c.kind == RTMP_CMD_CREATE_STREAM)
        wire_say(w, wire, (struct say){.what = SAY_STREAM});
    else if (c.kind == RTMP_CMD_PUBLISH)
        node_takes_publisher(w, wire);
    else if (c.kind == RTMP_CMD_PLAY)
        node_takes_player(w, wire);
}

static void node_hears(struct world *w, struct wire *wire, struct rtmp_msg *m)
{
    if (wire->node < 0 || w->nodes[wire->node].state != UP)
        return;
    if (!m) {
        wire_say(w, wire, (struct say){.what = SAY_HELLO});
    } else if (m->type == RTMP_COMMAND_AMF0) {
        node_takes_command(w, wire, m);
    } else if (m->type == RTMP_AUDIO || m->type == RTMP_VIDEO) {
        node_takes_frame(w, wire, m);
    } else if (m->type == RTMP_USER_CONTROL) {
        uint8_t buf[6] = {0};
        struct rd rd = rd_over(buf, rtmp_msg_peek(m, buf, sizeof buf));
        if (rd_u16be(&rd) == RTMP_PING_REQUEST)
            wire_say(w, wire, (struct say){.what = SAY_PONG, .stamp = rd_u32be(&rd)});
    }
}

/* ---- what players hear ---- */

static void player_takes_frame(const struct world *w, struct player *p, const struct rtmp_msg *m)
{
    const struct frame f = frame_of(m);
    const int c = class_of(f.type);
    if (f.header) {
        p->header[c] = true;
        return;
    }
    require(p->header[c]);
    require(f.number < w->sent[c] && f.time == w->times[c][f.number]);
    require(!p->any[c] || f.number == p->next[c]);
    p->any[c] = true;
    p->next[c] = f.number + 1;
}

static void player_takes_status(const struct world *w, struct rtmp_msg *m)
{
    const uint8_t *payload;
    struct rtmp_command c;
    struct rtmp_status status;
    require(rtmp_msg_flatten(m, &payload) == ERR_OK &&
            rtmp_command_parse(payload, m->len, &c) == PARSE_OK);
    if (c.kind != RTMP_CMD_ON_STATUS)
        return;
    rtmp_status_read(&c, &status);
    require(!w->claim.live || !view_is(status.code, "NetStream.Play.UnpublishNotify"));
}

static void on_heard(void *arg, int link, struct rtmp_msg *m)
{
    const struct ear *ear = arg;
    struct world *w = ear->w;
    if (link >= 0)
        node_hears(w, &w->wires[ear->session][link], m);
    else if (ear->session > 0 && m && (m->type == RTMP_AUDIO || m->type == RTMP_VIDEO))
        player_takes_frame(w, &w->players[ear->session], m);
    else if (ear->session > 0 && m && m->type == RTMP_COMMAND_AMF0)
        player_takes_status(w, m);
}

static void on_acted(void *arg, unsigned actions)
{
    const struct ear *ear = arg;
    ear->w->todo[ear->session] |= actions;
}

/* ---- what nodes say arrives ---- */

static void say_frame(struct stage *t, int link, const struct frame *f)
{
    const bool video = f->type == RTMP_VIDEO;
    uint8_t buf[16];
    struct wr wr = wr_over(buf, sizeof buf);
    wr_u8(&wr, !video ? 0xaf : f->key ? 0x17 : 0x27);
    wr_u8(&wr, !f->header);
    wr_u32be(&wr, f->number);
    if (link < 0)
        stage_client_says(t, f->type, CLIENT_MSID, f->time, buf, wr.len);
    else
        stage_node_says(t, link, f->type, 1, f->time, buf, wr.len);
}

static void say_pong(struct stage *t, int link, uint32_t stamp)
{
    uint8_t buf[6];
    struct wr wr = wr_over(buf, sizeof buf);
    wr_u16be(&wr, RTMP_PING_RESPONSE);
    wr_u32be(&wr, stamp);
    stage_node_says(t, link, RTMP_USER_CONTROL, 0, 0, buf, wr.len);
}

static void arrives(struct stage *t, int link, const struct say *say)
{
    static const char *const lines[] = {
        [SAY_HELLO] = "hello",
        [SAY_CONNECTED] = "connect_result",
        [SAY_STREAM] = "stream 1",
        [SAY_PUBLISHING] = "status status NetStream.Publish.Start",
        [SAY_PLAYING] = "status status NetStream.Play.Start",
        [SAY_BAD_NAME] = "status error NetStream.Publish.BadName",
        [SAY_UNPUBLISHED] = "status status NetStream.Play.UnpublishNotify",
    };
    char line[64];
    if (say->what == SAY_FRAME) {
        say_frame(t, link, &say->frame);
    } else if (say->what == SAY_PONG) {
        say_pong(t, link, say->stamp);
    } else {
        snprintf(line, sizeof line, "node%d %s", link, lines[say->what]);
        require(script_do(t, line));
    }
}

/* The node sees that the router has closed a connection. */
static void wire_close(struct world *w, struct wire *wire)
{
    const struct wire was = *wire;
    wire->node = -1;
    wire->plays = wire->publishes = wire->ended = false;
    wire->head = wire->count = 0;
    if (was.publishes && w->nodes[was.node].state == UP)
        tell_players(w, &was, (struct say){.what = SAY_UNPUBLISHED});
}

/* True: something happened. */
static bool wire_turn(struct world *w, int session, int link)
{
    struct stage *t = &w->stages[session];
    const struct node_link *l = &t->s.links[link];
    struct wire *wire = &w->wires[session][link];
    if (t->over || l->state == NODE_OFF || l->generation != wire->generation) {
        if (wire->node >= 0)
            wire_close(w, wire);
        wire->generation = l->generation;
        if (t->over || l->state == NODE_OFF)
            return false;
    }
    if (l->state == NODE_DIAL) {
        const int node = node_called(t->s.link_nodes[link]);
        if (w->nodes[node].state == STALLED)
            return false;
        const bool up = w->nodes[node].state == UP;
        wire->node = up ? node : -1;
        wire->process = w->nodes[node].process;
        stage_step(t, &(struct session_event){.kind = up ? SE_NODE_CONNECTED : SE_NODE_FAILED,
                                              .link = link,
                                              .node = "10.0.0.1:1935"});
        return true;
    }
    if (wire->node < 0 || w->nodes[wire->node].state == STALLED || !stage_node_may_speak(t, link))
        return false;
    if (wire->count > 0 && wire->held_until_ms <= w->now_ms) {
        const struct say say = wire->queue[wire->head];
        wire->head = (wire->head + 1) % WIRE_MAX;
        wire->count--;
        arrives(t, link, &say);
        return true;
    }
    if (wire->count == 0 && wire->ended) {
        wire->ended = false;
        stage_step(t, &(struct session_event){.kind = SE_NODE_ENDED, .link = link, .reset = true});
        return true;
    }
    return false;
}

/* ---- the cluster: the claim, its news, the audience (place_io.c, move_io.c) ---- */

static int serving(const struct world *w)
{
    return w->claim.next >= 0 ? w->claim.next : w->claim.node;
}

/* Dead and hung nodes are found out about by trying. */
static int pick_node(const struct world *w, const struct session *s)
{
    for (int n = 0; n < NODES; n++) {
        bool possible = !w->nodes[n].draining;
        for (uint32_t i = 0; i < s->excluded_count; i++)
            possible = possible && strcmp(s->stream->excluded[i], node_id(n)) != 0;
        if (possible)
            return n;
    }
    return -1;
}

static void place_publisher(struct world *w)
{
    struct stage *t = &w->stages[0];
    const int node = pick_node(w, &t->s);
    if (node < 0) {
        stage_step(t, &(struct session_event){.kind = SE_UNPLACED, .why = WHY_NO_NODE});
        return;
    }
    struct session_event ev = {.kind = SE_PLACED, .node = node_id(node)};
    if (t->s.state == SESS_PLACE) {
        w->claim.live = true;
        w->claim.node = node;
        w->claim.next = -1;
        ev.epoch = ++w->claim.epoch;
        w->claim.publication = 1;
    }
    stage_step(t, &ev);
}

static void place_player(struct world *w, int session)
{
    struct stage *t = &w->stages[session];
    if (!w->claim.live) {
        stage_step(t, &(struct session_event){.kind = SE_UNPLACED, .why = WHY_NO_NODE});
        return;
    }
    const bool follow = t->s.state == SESS_REHOME && w->claim.next >= 0;
    const bool stays = t->s.state == SESS_REHOME && w->claim.stays;
    w->players[session].told_epoch = w->claim.epoch;
    stage_step(t, &(struct session_event){.kind = SE_PLACED,
                                          .node = node_id(serving(w)),
                                          .publication = w->claim.publication,
                                          .follow = follow,
                                          .planned = follow && w->claim.planned,
                                          .stays = stays,
                                          .epoch = follow || stays ? w->claim.epoch : 0,
                                          .time = follow ? w->claim.replay_time : 0});
}

/* As concerns_player(). True: it was told something. */
static bool tell_player(struct world *w, int session)
{
    struct stage *t = &w->stages[session];
    struct player *p = &w->players[session];
    const struct session *s = &t->s;
    const bool moving = w->claim.next >= 0;
    if (!t->opened || t->over || !w->claim.live || !s->placed)
        return false;
    if (w->claim.epoch <= p->told_epoch) {
        const bool settled = w->claim.epoch == s->rehome.followed_epoch && !moving &&
                             s->state == SESS_REHOME && s->current >= 0;
        if (settled)
            stage_step(t, &(struct session_event){.kind = SE_STREAM_SETTLED});
        return settled;
    }
    if (!moving && strcmp(s->node, node_id(w->claim.node)) == 0 &&
        s->rehome.publication == w->claim.publication && (p->told_epoch == 0 || w->claim.stays) &&
        s->state != SESS_REHOME)
        return false;
    p->told_epoch = w->claim.epoch;
    stage_step(t, &(struct session_event){.kind = SE_STREAM_MOVED,
                                          .node = node_id(serving(w)),
                                          .epoch = w->claim.epoch,
                                          .publication = w->claim.publication,
                                          .follow = moving,
                                          .planned = moving && w->claim.planned,
                                          .stays = w->claim.stays,
                                          .time = w->claim.replay_time});
    return true;
}

/* The link in use; NULL: there is none, or its node is lost. */
static const struct wire *wire_in_use(const struct world *w, int session)
{
    const struct stage *t = &w->stages[session];
    const struct wire *wire =
        t->opened && !t->over && t->s.current >= 0 ? &w->wires[session][t->s.current] : NULL;
    return wire && wire->node >= 0 && !wire->ended && w->nodes[wire->node].state == UP ? wire
                                                                                       : NULL;
}

static void note_called_back(struct world *w)
{
    const struct wire *publisher = wire_in_use(w, 0);
    for (int i = 1; i < SESSIONS; i++) {
        const struct wire *wire = wire_in_use(w, i);
        w->players[i].beside =
            w->stages[0].s.rehome.returned && publisher && wire && same_process(wire, publisher);
    }
}

/* Whoever had the old node when a move was called back has it still. */
static void check_called_back(struct world *w)
{
    const struct wire *publisher = wire_in_use(w, 0);
    const bool stays = w->stages[0].s.state == SESS_RELAY && w->stages[0].s.rehome.returned;
    for (int i = 1; i < SESSIONS; i++) {
        const struct wire *wire = wire_in_use(w, i);
        if (!stays || !publisher || w->stages[i].over)
            w->players[i].beside = false;
        require(!w->players[i].beside || (wire && same_process(wire, publisher)));
    }
}

static void move_the_claim(struct world *w)
{
    const struct session *s = &w->stages[0].s;
    const int next = node_called(s->rehome.node);
    if (w->nodes[next].full && next != w->claim.node && next != w->claim.next) {
        stage_step(&w->stages[0], &(struct session_event){.kind = SE_CLAIM_MOVED, .full = true});
        return;
    }
    note_called_back(w);
    w->claim.next = next;
    w->claim.planned = s->rehome.planned;
    w->claim.stays = s->rehome.returned;
    w->claim.replay_time = session_replay_time(s);
    stage_step(&w->stages[0],
               &(struct session_event){.kind = SE_CLAIM_MOVED, .epoch = ++w->claim.epoch});
    for (int i = 1; i < SESSIONS; i++)
        (void)tell_player(w, i);
}

static void answer_audience(struct world *w)
{
    const bool cut = w->stages[0].s.rehome.phase == RH_OVERLAP;
    bool ready = true;
    for (int i = 1; i < SESSIONS; i++) {
        const struct player *p = &w->players[i];
        if (w->stages[i].opened && !w->stages[i].over && w->stages[i].s.placed)
            ready = ready && p->marked_epoch >= w->claim.epoch && (!cut || p->cut);
    }
    stage_step(&w->stages[0], &(struct session_event){.kind = SE_AUDIENCE, .ready = ready});
}

static void mark_audience(struct world *w, int session)
{
    const struct session *s = &w->stages[session].s;
    if (s->state == SESS_REHOME && s->rehome.phase != RH_OVERLAP)
        return;
    w->players[session].marked_epoch = s->rehome.followed_epoch;
    w->players[session].cut = s->state != SESS_REHOME || s->rehome.level;
}

static void perform(struct world *w, int session, unsigned action)
{
    struct stage *t = &w->stages[session];
    if (action == ACT_PLACE && session == 0)
        place_publisher(w);
    else if (action == ACT_PLACE)
        place_player(w, session);
    else if (action == ACT_MOVE)
        move_the_claim(w);
    else if (action == ACT_AUDIENCE)
        answer_audience(w);
    else if (action == ACT_ATTACHED)
        mark_audience(w, session);
    else if (action == ACT_ENDS)
        stage_step(t, &(struct session_event){.kind = SE_PUBLISHER, .ready = w->claim.live});
    else if (action == ACT_RELEASE && session == 0)
        w->claim.live = false;
    else if (action == ACT_ARRIVED) {
        w->claim.node = w->claim.next;
        w->claim.next = -1;
    }
}

static bool session_turn(struct world *w, int session)
{
    bool any = false;
    while (w->todo[session] && !w->stages[session].over) {
        const unsigned action = w->todo[session] & -w->todo[session];
        w->todo[session] &= ~action;
        perform(w, session, action);
        any = true;
    }
    for (int i = 0; i < SESSION_LINKS; i++)
        any = wire_turn(w, session, i) || any;
    if (session > 0)
        any = tell_player(w, session) || any;
    w->stages[session].trace_len = 0;
    return any;
}

/* All that follows at once. */
static void settle(struct world *w)
{
    bool any = true;
    for (uint32_t turns = 0; any; turns++) {
        any = false;
        require(turns < 100000);
        for (int i = 0; i < SESSIONS; i++)
            if (w->stages[i].opened)
                any = session_turn(w, i) || any;
    }
    check_called_back(w);
}

/* When the publisher is told to follow its node to the newest process (move_io.c); never: it is
 * there. */
static uint64_t follow_due(const struct world *w)
{
    const struct session *s = &w->stages[0].s;
    const struct wire *wire = s->current < 0 ? NULL : &w->wires[0][s->current];
    if (w->stages[0].over || s->state != SESS_RELAY || !wire || wire->node < 0 ||
        wire->process == w->nodes[wire->node].process)
        return UINT64_MAX;
    const uint64_t seen_ms = w->nodes[wire->node].reloaded_ms + RELOAD_SEEN_MS;
    return seen_ms > w->follow_ms ? seen_ms : w->follow_ms;
}

static void follow_reload(struct world *w)
{
    if (follow_due(w) > w->now_ms)
        return;
    w->follow_ms = w->now_ms + RELOAD_SEEN_MS;
    stage_step(&w->stages[0],
               &(struct session_event){.kind = SE_MOVE, .cause = REHOME_RELOAD, .node = ""});
}

static uint64_t next_moment(const struct world *w, uint64_t ms)
{
    if (follow_due(w) < ms)
        ms = follow_due(w);
    for (int i = 0; i < SESSIONS; i++) {
        const struct stage *t = &w->stages[i];
        if (t->opened && !t->over && session_deadline(&t->s) < ms)
            ms = session_deadline(&t->s);
        for (int k = 0; k < SESSION_LINKS; k++) {
            const struct wire *wire = &w->wires[i][k];
            if (wire->count > 0 && wire->held_until_ms > w->now_ms && wire->held_until_ms < ms)
                ms = wire->held_until_ms;
        }
    }
    return ms > w->now_ms ? ms : w->now_ms;
}

static void run_until(struct world *w, uint64_t ms)
{
    settle(w);
    while (w->now_ms < ms) {
        w->now_ms = next_moment(w, ms);
        for (int i = 0; i < SESSIONS; i++)
            if (w->stages[i].opened)
                stage_run_until(&w->stages[i], w->now_ms);
        follow_reload(w);
        settle(w);
    }
}

/* ---- what happens ---- */

static void open_session(struct world *w, int session, const char *asks)
{
    struct stage *t = &w->stages[session];
    static const char *const lines[] = {"client hello", "client connect live",
                                        "client create_stream"};
    t->now_ms = w->now_ms;
    stage_open(t);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        require(script_do(t, lines[i]));
    require(script_do(t, asks));
}

/* Its first time has all its messages before it: whoever joins between two of one time, and is
 * moved before the next, cannot be told how many it has (rehoming-notes 8). */
static bool somebody_begins(const struct world *w)
{
    for (int i = 1; i < SESSIONS; i++)
        if (w->stages[i].opened && !w->players[i].any[0] && !w->players[i].any[1])
            return true;
    return false;
}

static void publish(struct world *w, uint8_t type, bool header, bool key, uint32_t later_ms)
{
    struct stage *t = &w->stages[0];
    const int c = class_of(type);
    if (t->over || !stage_client_may_speak(t) || w->sent[c] == FRAMES_MAX)
        return;
    if (type == RTMP_VIDEO && !header && w->now_ms - w->key_ms > GROUP_MAX_MS)
        key = true;
    if (key && !header)
        w->key_ms = w->now_ms;
    if (later_ms == 0 && !header && somebody_begins(w))
        later_ms = 1;
    w->time += later_ms;
    const struct frame f = {
        .type = type, .header = header, .key = key, .time = w->time, .number = w->sent[c]};
    if (!header)
        w->times[c][w->sent[c]++] = w->time;
    say_frame(t, -1, &f);
    settle(w);
}

static void burst(struct world *w, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        run_until(w, w->now_ms + 40);
        publish(w, RTMP_VIDEO, false, false, 40);
        publish(w, RTMP_AUDIO, false, false, 0);
    }
}

static void node_reads(struct world *w, int node, uint64_t bytes)
{
    for (int s = 0; s < SESSIONS; s++)
        for (int i = 0; i < SESSION_LINKS; i++)
            if (w->wires[s][i].node == node && w->stages[s].s.links[i].state != NODE_OFF)
                stage_node_reads(&w->stages[s], i, bytes);
}

/* A player that has begun at the new node of a planned move misses what comes until it is at the
 * old one, if the move is called back. */
static bool began_there(const struct world *w, int node)
{
    const struct session *publisher = &w->stages[0].s;
    if (publisher->state != SESS_REHOME || publisher->current < 0)
        return false;
    for (int i = 1; i < SESSIONS; i++) {
        const struct session *s = &w->stages[i].s;
        if (w->stages[i].opened && !w->stages[i].over && s->state != SESS_REHOME &&
            node_called(s->node) == node && node_called(publisher->node) != node)
            return true;
    }
    return false;
}

static void kill_node(struct world *w, int node, bool flushed)
{
    if (began_there(w, node))
        return;
    w->nodes[node].state = DEAD;
    for (int s = 0; s < SESSIONS; s++) {
        for (int i = 0; i < SESSION_LINKS; i++) {
            struct wire *wire = &w->wires[s][i];
            if (wire->node != node)
                continue;
            wire->plays = wire->publishes = false;
            wire->ended = true;
            if (!flushed)
                wire->count = 0;
        }
    }
}

static void resume_node(struct world *w, int node)
{
    const bool hung = w->nodes[node].state == STALLED;
    w->nodes[node].state = UP;
    if (hung)
        node_reads(w, node, UINT64_MAX);
}

/* One that has not answered a ping yet is judged by TCP, which there is none of here. */
static bool never_answered(const struct world *w, int node)
{
    for (int i = 0; i < SESSION_LINKS; i++)
        if (w->wires[0][i].node == node && w->stages[0].s.links[i].link.pings_answered == 0)
            return true;
    return false;
}

static void stall_node(struct world *w, int node)
{
    if (w->nodes[node].state != UP || never_answered(w, node) || began_there(w, node))
        return;
    w->nodes[node].state = STALLED;
    node_reads(w, node, 0);
}

/* Has had something of each type, so that two links can be told to be level. */
static bool all_have_begun(const struct world *w)
{
    for (int i = 1; i < SESSIONS; i++)
        if (w->stages[i].opened && !(w->players[i].any[0] && w->players[i].any[1]))
            return false;
    return true;
}

/* Who has only just come when a planned move begins is cut over after failover.grace. */
static void drain_node(struct world *w, int node)
{
    struct stage *t = &w->stages[0];
    if (!all_have_begun(w))
        return;
    w->nodes[node].draining = !w->nodes[node].draining;
    if (w->nodes[node].draining && t->s.state == SESS_RELAY && node_called(t->s.node) == node)
        stage_step(t, &(struct session_event){.kind = SE_MOVE, .cause = REHOME_DRAIN, .node = ""});
}

static bool is_used(const struct world *w, int node, int process)
{
    for (int s = 0; s < SESSIONS; s++)
        for (int i = 0; i < SESSION_LINKS; i++)
            if (w->wires[s][i].node == node && w->wires[s][i].process == process)
                return true;
    return false;
}

/* Its old process keeps the connections that it has. */
static void reload_node(struct world *w, int node)
{
    struct node_model *n = &w->nodes[node];
    const int next = (n->process + 1) % PROCESSES;
    if (n->state != UP || is_used(w, node, next) || !all_have_begun(w))
        return;
    n->process = next;
    n->reloaded_ms = w->now_ms;
}

static void lose_stream(struct world *w)
{
    const struct session *s = &w->stages[0].s;
    struct wire *wire = s->rehome.link < 0 ? NULL : &w->wires[0][s->rehome.link];
    if (!wire || wire->node < 0 || !wire->publishes || began_there(w, wire->node))
        return;
    wire->publishes = false;
    wire->ended = true;
    tell_players(w, wire, (struct say){.what = SAY_UNPUBLISHED});
}

static void player_reads(struct world *w, int session)
{
    struct stage *t = &w->stages[session];
    if (t->opened && !t->over)
        stage_client_reads(t, t->client.reads_most ? 0 : UINT64_MAX);
}

static void join(struct world *w, int session)
{
    if (w->stages[session].opened || !w->claim.live)
        return;
    open_session(w, session, "client play cam1");
}

static void happen(struct world *w, enum op op, uint32_t arg)
{
    const int node = (int)(arg % NODES), player = 1 + (int)(arg % PLAYERS);
    if (op == OP_AUDIO)
        publish(w, RTMP_AUDIO, false, false, arg * 8);
    else if (op == OP_INTER || op == OP_KEY)
        publish(w, RTMP_VIDEO, false, op == OP_KEY, arg * 8);
    else if (op == OP_BURST)
        burst(w, arg + 1);
    else if (op == OP_WAIT)
        run_until(w, w->now_ms + arg * 50);
    else if (op == OP_JOIN)
        join(w, player);
    else if (op == OP_KILL || op == OP_FLUSHED_KILL)
        kill_node(w, node, op == OP_FLUSHED_KILL);
    else if (op == OP_STALL)
        stall_node(w, node);
    else if (op == OP_RESUME)
        resume_node(w, node);
    else if (op == OP_DRAIN && arg >= 8)
        w->nodes[node].full = !w->nodes[node].full;
    else if (op == OP_DRAIN)
        drain_node(w, node);
    else if (op == OP_LAG)
        w->lag_ms = arg * LAG_MAX_MS / 15;
    else if (op == OP_SLOW)
        player_reads(w, player);
    else if (op == OP_CUT)
        w->stages[player].cut = arg;
    else if (op == OP_RELOAD)
        reload_node(w, node);
    else if (op == OP_LOSE)
        lose_stream(w);
    settle(w);
}

/* ---- the beginning and the end ---- */

static void world_init(struct world *w, uint8_t start)
{
    static const uint32_t starts[] = {0, 0xffff00, 0xfffffe00, 0x7fffff00};
    memset(w, 0, sizeof *w);
    w->now_ms = w->key_ms = STAGE_START_MS;
    w->time = starts[start % 4];
    w->claim.next = -1;
    for (int i = 0; i < SESSIONS; i++) {
        struct stage *t = &w->stages[i];
        stage_init(t);
        t->quiet = true;
        t->failover.max_moves = 100;
        t->router.ping_interval_ms = END_WITHIN_MS;
        t->router.ping_timeout_ms = 2 * END_WITHIN_MS;
        w->ears[i] = (struct ear){.w = w, .session = i};
        t->ears = (struct stage_ears){.heard = on_heard, .acted = on_acted, .arg = &w->ears[i]};
        for (int k = 0; k < SESSION_LINKS; k++)
            w->wires[i][k].node = -1;
    }
    open_session(w, 0, "client publish cam1");
    settle(w);
    publish(w, RTMP_VIDEO, true, true, 0);
    publish(w, RTMP_AUDIO, true, false, 0);
    publish(w, RTMP_VIDEO, false, true, 0);
    publish(w, RTMP_AUDIO, false, false, 0);
    join(w, 1);
    settle(w);
    burst(w, 2);
}

/* No more faults: whoever is still there gets all there is. */
static void calm_down(struct world *w)
{
    w->lag_ms = 0;
    for (int n = 0; n < NODES; n++) {
        resume_node(w, n);
        w->nodes[n].draining = w->nodes[n].full = false;
    }
    for (int i = 1; i < SESSIONS; i++)
        if (w->stages[i].opened && !w->stages[i].over)
            stage_client_reads(&w->stages[i], UINT64_MAX);
    run_until(w, w->now_ms + CALM_MS);
    burst(w, 10);
    run_until(w, w->now_ms + CALM_MS);
    for (int i = 1; i < SESSIONS; i++) {
        const struct stage *t = &w->stages[i];
        if (!t->opened || t->over || w->stages[0].over)
            continue;
        require(t->s.state == SESS_RELAY && w->stages[0].s.state == SESS_RELAY);
        for (int c = 0; c < 2; c++)
            require(w->sent[c] == FRAMES_MAX || /* none came after it had */
                    (w->players[i].any[c] && w->players[i].next[c] == w->sent[c]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    if (size == 0)
        return 0;
    world_init(&w, data[0]);
    for (size_t i = 1; i < size && i < STEPS_MAX; i++)
        happen(&w, (enum op)(data[i] & 15), data[i] >> 4);
    calm_down(&w);
    for (int i = 0; i < SESSIONS; i++) {
        struct stage *t = &w.stages[i];
        if (t->opened && !t->over)
            stage_step(t,
                       &(struct session_event){.kind = SE_CLIENT_ENDED, .why = WHY_CLIENT_CLOSED});
    }
    run_until(&w, w.now_ms + END_WITHIN_MS);
    for (int i = 0; i < SESSIONS; i++) {
        require(!w.stages[i].opened || w.stages[i].over);
        stage_deinit(&w.stages[i]); /* nothing is left */
    }
    return 0;
}
