#include "router/node_link.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "rtmp/handshake.h"

enum { TR_CONNECT = 1, TR_CREATE_STREAM = 2, FIRST_MSID = 1 };

void node_link_open(struct node_link *n, struct rtmp_pool *pool,
                    const struct rtmp_chunk_limits *limits, struct rtmp_msg *command)
{
    assert(n->state == NODE_OFF);
    const uint32_t generation = n->generation + 1;
    memset(n, 0, sizeof *n);
    n->generation = generation;
    n->state = NODE_DIAL;
    n->msid = FIRST_MSID;
    n->handshake_left = RTMP_S0S1S2_BYTES;
    n->check_only = command == NULL;
    n->command = command ? rtmp_msg_ref(command) : NULL;
    rtmp_link_init(&n->link, pool, limits);
}

static enum err send_hello(struct node_link *n, const struct node_hello *h)
{
    uint8_t hello[RTMP_C0C1_BYTES + RTMP_HANDSHAKE_BYTES];
    rtmp_handshake_hello_simple(h->now_ms, h->noise, hello);
    memcpy(hello + RTMP_C0C1_BYTES, h->noise, RTMP_HANDSHAKE_BYTES); /* C2: no node looks at it */
    if (h->proxy_len > 0) {
        const enum err e = rtmp_chunk_writer_push_raw(&n->link.out, h->proxy, h->proxy_len);
        if (e != ERR_OK)
            return e;
    }
    return rtmp_chunk_writer_push_raw(&n->link.out, hello,
                                      n->check_only ? RTMP_C0C1_BYTES : sizeof hello);
}

static enum err send_connect(struct node_link *n, const struct node_hello *h)
{
    const size_t cap = h->connect_len + TC_URL_MAX;
    uint8_t *buf = malloc(cap);
    if (!buf)
        return ERR_NO_MEMORY;
    struct wr w = wr_over(buf, cap);
    enum err e = rtmp_write_connect_forward(&w, h->connect, h->connect_len, h->tc_url, h->without);
    if (e == ERR_OK)
        e = rtmp_link_send_bytes(&n->link, RTMP_COMMAND_AMF0, 0, buf, w.len);
    free(buf);
    return e;
}

static enum err send_create_stream(struct node_link *n)
{
    uint8_t buf[64];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_call(&w, "createStream", TR_CREATE_STREAM, (struct view){0});
    return rtmp_link_send_bytes(&n->link, RTMP_COMMAND_AMF0, 0, buf, w.len);
}

enum err node_link_connected(struct node_link *n, const struct node_hello *h)
{
    assert(n->state == NODE_DIAL);
    n->state = NODE_HANDSHAKE;
    enum err e = send_hello(n, h);
    if (n->check_only)
        return e;
    if (e == ERR_OK)
        e = rtmp_link_send_chunk_size(&n->link, RTMP_OUR_CHUNK_BYTES);
    if (e == ERR_OK)
        e = send_connect(n, h);
    if (e == ERR_OK)
        e = send_create_stream(n);
    if (e == ERR_OK)
        e = rtmp_link_send(&n->link, n->command, n->msid, 0);
    return e;
}

void node_link_close(struct node_link *n)
{
    if (n->state == NODE_OFF)
        return;
    rtmp_link_deinit(&n->link);
    rtmp_msg_unref(n->command);
    n->command = NULL;
    n->state = NODE_OFF;
}

void node_link_finish(struct node_link *n)
{
    if (n->state == NODE_OFF)
        return;
    if (n->state == NODE_LIVE && !rtmp_chunk_writer_empty(&n->link.out))
        n->state = NODE_CLOSING;
    else
        node_link_close(n);
}

/* S0 is looked at, S1 and S2 are not: every node's differ and none has to answer a digest we did
 * not send. */
static enum parse_result read_handshake(struct node_link *n, struct slice *in,
                                        struct node_event *out)
{
    if (in->len == 0)
        return PARSE_NEED_MORE;
    if (!n->version_seen && *slice_data(in) != RTMP_VERSION)
        return PARSE_BAD;
    n->version_seen = true;
    const uint32_t take = in->len < n->handshake_left ? in->len : n->handshake_left;
    in->off += take;
    in->len -= take;
    n->handshake_left -= take;
    if (n->handshake_left > 0)
        return PARSE_NEED_MORE;
    n->state = NODE_COMMAND;
    *out = (struct node_event){.kind = NODE_EV_ALIVE};
    return PARSE_OK;
}

/* Every node known gives 1 to the first createStream, and publish was sent on that; one that does
 * not gets it again. */
static enum parse_result on_create_stream_result(struct node_link *n,
                                                 const struct rtmp_command *cmd)
{
    if (cmd->arg_count < 1 || cmd->arg[0].type != AMF0_NUMBER)
        return PARSE_NEED_MORE;
    n->created = true;
    const double id = cmd->arg[0].number;
    if (!(id >= 1 && id <= UINT32_MAX) || (uint32_t)id == n->msid)
        return PARSE_NEED_MORE;
    n->msid = (uint32_t)id;
    n->no_memory = rtmp_link_send(&n->link, n->command, n->msid, 0) != ERR_OK;
    return n->no_memory ? PARSE_BAD : PARSE_NEED_MORE;
}

static bool code_is(const struct rtmp_status *st, const char *code)
{
    return view_is(st->code, code);
}

static enum parse_result on_status(const struct rtmp_command *cmd, struct rtmp_msg *m,
                                   struct node_event *out)
{
    *out = (struct node_event){.kind = NODE_EV_STATUS, .msg = m};
    rtmp_status_read(cmd, &out->status);
    if (code_is(&out->status, "NetConnection.Connect.ReconnectRequest"))
        return PARSE_NEED_MORE; /* Enhanced RTMP: where a client connects is for the router to say
                                 */
    if (view_is(out->status.level, "error"))
        out->kind = NODE_EV_REFUSED;
    else if (code_is(&out->status, "NetStream.Publish.Start") ||
             code_is(&out->status, "NetStream.Play.Start"))
        out->kind = NODE_EV_STARTED;
    return PARSE_OK;
}

/* PARSE_NEED_MORE: dealt with here; the message is still the caller's. */
static enum parse_result on_command(struct node_link *n, struct rtmp_msg *m, struct node_event *out)
{
    const uint8_t *payload;
    struct rtmp_command cmd;
    if (m->len > COMMAND_BYTES_MAX)
        return PARSE_BAD;
    n->no_memory = rtmp_msg_flatten(m, &payload) != ERR_OK;
    if (n->no_memory || rtmp_command_parse(payload, m->len, &cmd) != PARSE_OK)
        return PARSE_BAD;
    if (cmd.kind == RTMP_CMD_ON_STATUS)
        return on_status(&cmd, m, out);
    if (cmd.kind == RTMP_CMD_RESULT && cmd.transaction_id == TR_CONNECT)
        n->connected = true;
    else if (cmd.kind == RTMP_CMD_RESULT && cmd.transaction_id == TR_CREATE_STREAM &&
             n->state == NODE_COMMAND && !n->created)
        return on_create_stream_result(n, &cmd);
    else if (cmd.kind == RTMP_CMD_ERROR && cmd.transaction_id == TR_CONNECT && !n->connected) {
        *out = (struct node_event){.kind = NODE_EV_REFUSED, .msg = m};
        rtmp_status_read(&cmd, &out->status);
        return PARSE_OK;
    }
    return PARSE_NEED_MORE;
}

static enum parse_result on_message(struct node_link *n, struct rtmp_msg *m, struct node_event *out)
{
    switch (m->type) {
    case RTMP_COMMAND_AMF0:
        return on_command(n, m, out);
    case RTMP_AUDIO:
    case RTMP_VIDEO:
    case RTMP_DATA_AMF0:
        *out = (struct node_event){.kind = NODE_EV_MEDIA, .msg = m};
        return PARSE_OK;
    case RTMP_USER_CONTROL:
        *out = (struct node_event){.kind = NODE_EV_USER, .msg = m};
        return PARSE_OK;
    default:
        return PARSE_NEED_MORE;
    }
}

enum parse_result node_link_next(struct node_link *n, struct slice *in, struct node_event *out)
{
    if (n->state == NODE_HANDSHAKE)
        return read_handshake(n, in, out);
    for (;;) {
        struct rtmp_msg *m;
        enum parse_result r = rtmp_link_next(&n->link, in, &m);
        n->no_memory = r == PARSE_BAD && n->link.in.why == RTMP_CHUNK_NO_MEMORY;
        if (r != PARSE_OK)
            return r;
        r = on_message(n, m, out);
        if (r == PARSE_OK)
            return r;
        rtmp_msg_unref(m);
        if (r == PARSE_BAD)
            return r;
    }
}

enum err node_link_send(struct node_link *n, struct rtmp_msg *m)
{
    if (m->len > n->largest_sent)
        n->largest_sent = m->len;
    /* User control belongs to the connection, not to a message stream */
    return rtmp_link_send(&n->link, m, m->type == RTMP_USER_CONTROL ? 0 : n->msid, m->timestamp);
}
