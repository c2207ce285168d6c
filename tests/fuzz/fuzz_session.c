/* Whole sessions: the input is a list of what happens. A byte is a line of the script language, or
 * one of the openings below with bytes of its own. Peers keep to what session_io.c guarantees: they
 * are read only when the session says so, and a link speaks only while it has a connection. Nothing
 * asserts, memory stays bounded, deadlines pass, and left alone the session ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
};

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
};
enum { LINES = sizeof lines / sizeof lines[0] };

struct input {
    const uint8_t *p;
    size_t left;
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
    const uint8_t *p = in->p;
    *n = next(in);
    p = in->p;
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
    static struct stage t;
    struct input in = {.p = data, .left = size};
    alloc_fail_set(0);
    stage_init(&t);
    t.quiet = true;
    t.failover.gop_bytes = GOP_BYTES;
    t.relay.buffer_bytes = BUFFER_BYTES;
    t.env.client_limits = t.env.node_limits = (struct rtmp_chunk_limits){
        .message_bytes = MESSAGE_BYTES, .unfinished_bytes = 2 * MESSAGE_BYTES, .chunk_streams = 16};
    stage_open(&t);
    for (int steps = 0; in.left > 0 && !t.over && steps < STEPS_MAX; steps++) {
        do_next(&t, &in);
        check(&t);
    }
    if (!t.over)
        stage_run_until(&t, t.now_ms + END_WITHIN_MS);
    require(t.over);
    stage_deinit(&t); /* nothing is left */
    return 0;
}
