/* Whole sessions: the input is a list of what happens. A byte is a line of the script language, or
 * one of the openings below with bytes of its own. Peers keep to what session_io.c guarantees: they
 * are read only when the session says so, and a link speaks only while it has a connection. Nothing
 * asserts, memory stays bounded, deadlines pass, and left alone the session ends; where rules deny
 * everybody no node is looked for, and no node gets to see a token that let its client in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/query.h"
#include "rtmp/stream_token.h"
#include "tests/alloc/alloc_fail.h"
#include "tests/replay/script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    BUFFER_BYTES = 8 * 1024,
    MESSAGE_BYTES = 16 * 1024,
    GOP_BYTES = 64 * 1024,
    MEMORY_MAX =
        512 * 1024, /* of queues, unfinished messages and what waits, blocks counted whole */
    STEPS_MAX = 600,
    END_WITHIN_MS = 300 * 1000,
};

enum {                       /* bytes with an argument */
       OP_CLIENT_RAW = 0xf0, /* count, bytes */
       OP_NODE_RAW,          /* link, count, bytes */
       OP_CLIENT_MESSAGE,    /* type, count, payload */
       OP_NODE_MESSAGE,      /* link, type, count, payload */
       OP_WAIT,              /* times 50 ms */
       OP_CUT,               /* bytes per event */
       OP_MEMORY,            /* the pool's bound, times 512 */
       OP_MOVES,             /* failover.max_moves; 0: streams are not moved */
       OP_FAIL,              /* that many allocations on, one fails */
       OP_RULE,              /* one more of access.rules; its bits: enum rule_bits */
       OP_NO_RULES,          /* they are gone again */
       OP_SIGNED,            /* kind, app, seconds it is good for: the client asks with a token */
       OP_APP_LIMITS,        /* sessions per app in the low four bits, new ones a second above */
};

enum rule_bits {
    RULE_ACTION = 3, /* modulo 3 */
    RULE_KIND = 3 << 2,
    RULE_APP = 3 << 4,
    RULE_FROM = 3 << 6, /* anywhere, the client's network, another one */
};

static const char signing_key[] = "0123456789abcdef0123456789abcdef";
static const char *const rule_apps[] = {"*", "live", "live/cam1", "l*/c*2"};
static const char *const signed_streams[] = {"cam1", "cam2", "cam1/part", "c"};
enum { ADDRESS_BYTES = 16, UNIX_S = STAGE_START_MS / 1000 };
static const uint8_t client_address[ADDRESS_BYTES] = {
    [10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 9};

static const char *const lines[] = {
    "client hello",
    "client connect live",
    "client create_stream",
    "client publish cam1",
    "client publish cam2?key=a",
    "client play cam1",
    "client delete_stream",
    "client call pause",
    "client buffer",
    "client audio 20 100",
    "client video 40 5000",
    "client video 0 0",
    "client data 0 300",
    "client ping",
    "client pong",
    "client type 22 60",
    "client chunk_size 60000",
    "client reads 0",
    "client reads 500",
    "client reads all",
    "client ended",
    "client reset",
    "placed n1 epoch 7",
    "placed n2 epoch 8",
    "placed n3",
    "placed n1 epoch 9 wait took_over",
    "unplaced duplicate",
    "unplaced no_node",
    "released",
    "moved n2",
    "moved n3",
    "taken_over",
    "close shutdown",
    "node0 connected",
    "node0 failed",
    "node0 ended",
    "node0 hello",
    "node0 accepts",
    "node0 stream 5",
    "node0 connect_error NetConnection.Connect.Rejected",
    "node0 status status NetStream.Publish.Start",
    "node0 status status NetStream.Play.Start",
    "node0 status status NetStream.Play.Reset",
    "node0 status error NetStream.Publish.BadName",
    "node0 status error NetStream.Play.StreamNotFound",
    "node0 audio 20 100",
    "node0 video 40 5000",
    "node0 data 0 40",
    "node0 begin",
    "node0 eof",
    "node0 ping",
    "node0 reads 0",
    "node0 reads 500",
    "node0 reads all",
    "node1 connected",
    "node1 failed",
    "node1 ended",
    "node1 accepts",
    "node1 status status NetStream.Publish.Start",
    "node1 status status NetStream.Play.Start",
    "node1 video 40 5000",
    "node1 reads all",
    "node0 pong",
    "node1 pong",
    "node1 audio 20 100",
    "node1 audio 40 100",
    "node1 status error NetStream.Publish.BadName",
    "node1 status status NetStream.Play.UnpublishNotify",
    "node0 status status NetStream.Play.UnpublishNotify",
    "node1 eof",
    "node1 ping",
    "node1 stream 5",
    "node1 reads 0",
    "node1 reads 500",
    "follow n2 9 7",
    "follow n3 10 7",
    "follow n2 9 7 planned",
    "follow n1 11 8 planned",
    "settled",
    "claim_moved 9",
    "claim_moved 0",
    "audience ready",
    "audience behind",
    "publisher live",
    "publisher gone",
    "move drain",
    "move command n2",
    "move reload",
    "placed n1 epoch 7 publication 7",
    "placed n2 epoch 9 publication 7 replay 0",
    "placed n4 epoch 12 publication 9",
    "client audio 40 100",
    "client video 80 900",
    "client video 120 900",
    "node0 video 80 900",
    "node1 video 80 900",
    "node1 video 0 900",
    "node1 hello",
    "node1 connect_result",
    "shared",
    "lead placed n1 publication 7",
    "lead placed n2 publication 7",
    "lead unplaced no_node",
    "lead node0 connected",
    "lead node0 failed",
    "lead node0 accepts",
    "lead node0 status status NetStream.Play.Start",
    "lead node0 status error NetStream.Play.StreamNotFound",
    "lead node0 status status NetStream.Play.UnpublishNotify",
    "lead node0 data 0 40",
    "lead node0 audio 20 100",
    "lead node0 audio 40 3000",
    "lead node0 video 40 5000",
    "lead node0 ended",
    "lead node0 pong",
    "lead node1 connected",
    "lead node1 accepts",
    "lead node1 status status NetStream.Play.Start",
    "lead node1 audio 60 100",
    "lead node1 pong",
    "lead follow n2 9 7",
    "lead follow n3 10 7 planned",
    "lead settled",
    "lead publisher live",
    "lead publisher gone",
    "lead close shutdown",
    "node0 dialled",
    "node1 dialled",
    "lead node0 dialled",
};
enum { LINES = sizeof lines / sizeof lines[0] };

struct input {
    const uint8_t *p;
    size_t left;
};

struct fuzzed {
    struct stage stage;
    enum session_state state; /* before the step that is being made */
};

static void require(bool ok)
{
    if (!ok)
        abort();
}

static uint8_t next(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->p++;
}

static const uint8_t *next_bytes(struct input *in, size_t *n)
{
    *n = next(in);
    const uint8_t *p = in->p;
    if (*n > in->left)
        *n = in->left;
    in->p += *n;
    in->left -= *n;
    return p;
}

static void do_line(struct stage *t, const char *line)
{
    if (script_possible(t, line))
        require(script_do(t, line));
}

static void do_op(struct stage *t, uint8_t op, struct input *in)
{
    size_t n;
    int link = -1;
    if (op == OP_NODE_RAW || op == OP_NODE_MESSAGE)
        link = next(in) & 1;
    const bool message = op == OP_CLIENT_MESSAGE || op == OP_NODE_MESSAGE;
    const uint8_t type = message ? next(in) : 0;
    const uint8_t *bytes = next_bytes(in, &n);
    if (link >= 0 ? !stage_node_may_speak(t, link) : !stage_client_may_speak(t))
        return;
    if (type == RTMP_SET_CHUNK_SIZE &&
        message) /* the stage's own writer obeys it: a line does that */
        return;
    if (op == OP_CLIENT_RAW)
        stage_client_raw(t, bytes, n);
    else if (op == OP_NODE_RAW)
        stage_node_raw(t, link, bytes, n);
    else if (op == OP_CLIENT_MESSAGE)
        stage_client_says(t, type, 1, 0, bytes, n);
    else
        stage_node_says(t, link, type, 1, 0, bytes, n);
}

static void add_rule(struct stage *t, uint8_t bits)
{
    const int from = (bits & RULE_FROM) >> 6;
    if (t->access.rule_count == STAGE_RULES_MAX)
        return;
    struct config_rule *rule = &t->rules[t->access.rule_count++];
    *rule = (struct config_rule){.kind = (enum access_kind)((bits & RULE_KIND) >> 2) % 3,
                                 .action = (enum access_action)(bits & RULE_ACTION) % 3};
    snprintf(rule->app, sizeof rule->app, "%s", rule_apps[(bits & RULE_APP) >> 4]);
    if (from == 0)
        return;
    rule->from.count = 1;
    rule->from.list[0].bits = 120;
    memcpy(rule->from.list[0].addr, client_address, ADDRESS_BYTES);
    rule->from.list[0].addr[14] ^= from > 1;
}

/* Publishes or plays with a token that is right, if the app is the one it has connected to. */
static void ask_signed(struct stage *t, struct input *in)
{
    const bool publish = next(in) & 1;
    const char *name = signed_streams[next(in) & 3];
    const uint64_t expires = UNIX_S + next(in);
    char key[64], token[STREAM_TOKEN_BYTES + 1], line[256];
    const int len = snprintf(key, sizeof key, "live/%s", name);
    const struct view stream = {.p = (const uint8_t *)key, .len = (size_t)len};
    require(stream_token_make(&t->env.access.keys.list[0], publish ? "publish" : "play", stream,
                              expires, token) == ERR_OK);
    snprintf(line, sizeof line, "client %s %s?token=%s&expires=%llu&a=1",
             publish ? "publish" : "play", name, token, (unsigned long long)expires);
    do_line(t, line);
}

static void set_app_limits(struct stage *t, uint8_t limits)
{
    const struct admission_limits l = {.sessions_per_app = limits & 15,
                                       .session_rate_per_app = limits >> 4};
    admission_set_limits(&t->admission, &l, 1);
}

static bool has_token(struct view v)
{
    return query_get(v, "token").len > 0;
}

/* link >= 0: a node. */
static void on_heard(void *arg, int link, struct rtmp_msg *m)
{
    const struct fuzzed *f = arg;
    const uint8_t *payload;
    struct rtmp_command c;
    struct rtmp_connect connect;
    if (link < 0 || !m || m->type != RTMP_COMMAND_AMF0 || !f->stage.s.token)
        return;
    require(rtmp_msg_flatten(m, &payload) == ERR_OK);
    if (rtmp_command_parse(payload, m->len, &c) != PARSE_OK)
        return;
    if (c.kind == RTMP_CMD_CONNECT) {
        rtmp_connect_read(&c, &connect);
        require(!has_token(connect.app) && !has_token(connect.tc_url));
    } else if ((c.kind == RTMP_CMD_PUBLISH || c.kind == RTMP_CMD_PLAY) &&
               c.arg[0].type == AMF0_STRING) {
        require(!has_token(c.arg[0].string));
    }
}

static void on_acted(void *arg, unsigned actions)
{
    struct fuzzed *f = arg;
    const struct stage *t = &f->stage;
    const bool asks = f->state < SESS_PLACE && t->s.state == SESS_PLACE && actions & ACT_PLACE;
    bool nobody = t->access.rule_count > 0;
    for (uint32_t i = 0; i < t->access.rule_count; i++)
        nobody = nobody && t->rules[i].action == ACCESS_DENY;
    require(!asks || !nobody);
    f->state = t->s.state;
}

static void do_next(struct stage *t, struct input *in)
{
    const uint8_t op = next(in);
    if (op < LINES)
        do_line(t, lines[op]);
    else if (op == OP_WAIT)
        stage_run_until(t, t->now_ms + next(in) * 50u);
    else if (op == OP_CUT)
        t->cut = next(in);
    else if (op == OP_MEMORY)
        t->blocks.max_bytes = next(in) * 512u;
    else if (op == OP_MOVES)
        t->failover.max_moves = next(in);
    else if (op == OP_FAIL)
        alloc_fail_set(next(in));
    else if (op == OP_RULE)
        add_rule(t, next(in));
    else if (op == OP_NO_RULES)
        t->access.rule_count = 0;
    else if (op == OP_SIGNED)
        ask_signed(t, in);
    else if (op == OP_APP_LIMITS)
        set_app_limits(t, next(in));
    else if (op >= OP_CLIENT_RAW && op <= OP_NODE_MESSAGE)
        do_op(t, op, in);
}

static void check(struct stage *t)
{
    t->trace_len = 0;
    require(t->blocks.live_bytes <= MEMORY_MAX);
    require(t->over || session_deadline(&t->s) > 0);
    require(t->s.pending.bytes <= 2 * BUFFER_BYTES + MESSAGE_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzzed f;
    struct stage *t = &f.stage;
    struct input in = {.p = data, .left = size};
    alloc_fail_set(0);
    f.state = SESS_HANDSHAKE;
    stage_init(t);
    t->quiet = true;
    t->ears = (struct stage_ears){.heard = on_heard, .acted = on_acted, .arg = &f};
    t->env.access.keys.count = 1;
    snprintf(t->env.access.keys.list[0].text, sizeof t->env.access.keys.list[0].text, "%s",
             signing_key);
    t->failover.gop_bytes = GOP_BYTES;
    t->relay.buffer_bytes = BUFFER_BYTES;
    t->env.client_limits = t->env.node_limits = (struct rtmp_chunk_limits){
        .message_bytes = MESSAGE_BYTES, .unfinished_bytes = 2 * MESSAGE_BYTES, .chunk_streams = 16};
    stage_open(t);
    memcpy(t->s.addr, client_address, sizeof t->s.addr);
    for (int steps = 0; in.left > 0 && !t->over && steps < STEPS_MAX; steps++) {
        do_next(t, &in);
        check(t);
    }
    if (!stage_is_over(t))
        stage_run_until(t, t->now_ms + END_WITHIN_MS);
    require(stage_is_over(t));
    stage_deinit(t); /* nothing is left */
    return 0;
}
