#include "healthd/rtmp_client.h"

#include <stdio.h>
#include <string.h>

#include "rtmp/handshake.h"

enum {
    TR_CONNECT = 1,
    TR_CREATE_STREAM = 2,
    TR_START = 3,
    CONNECT_BYTES_MAX = APP_MAX + TC_URL_MAX + 256,
    PLAY_LIVE = -1000,
};

static enum err send_connect(struct rtmp_client *c, const struct rtmp_client_hello *h)
{
    uint8_t buf[CONNECT_BYTES_MAX];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_connect(&w, TR_CONNECT, h->app, h->tc_url, "weir-healthd/" WEIR_VERSION);
    if (w.full)
        return ERR_LIMIT;
    return rtmp_link_send_bytes(&c->link, RTMP_COMMAND_AMF0, 0, buf, w.len);
}

enum err rtmp_client_init(struct rtmp_client *c, struct rtmp_pool *pool,
                          const struct rtmp_chunk_limits *limits, enum rtmp_client_goal goal,
                          const struct rtmp_client_hello *h)
{
    uint8_t hello[RTMP_C0C1_BYTES + RTMP_HANDSHAKE_BYTES];
    *c = (struct rtmp_client){.goal = goal, .handshake_left = RTMP_S0S1S2_BYTES, .name = h->name};
    rtmp_link_init(&c->link, pool, limits);
    rtmp_handshake_hello_simple(h->now_ms, h->noise, hello);
    memcpy(hello + RTMP_C0C1_BYTES, h->noise, RTMP_HANDSHAKE_BYTES); /* C2: no node looks at it */
    enum err e = ERR_OK;
    if (h->proxy_len > 0)
        e = rtmp_chunk_writer_push_raw(&c->link.out, h->proxy, h->proxy_len);
    if (e == ERR_OK)
        e = rtmp_chunk_writer_push_raw(&c->link.out, hello, sizeof hello);
    if (e == ERR_OK)
        e = rtmp_link_send_chunk_size(&c->link, RTMP_OUR_CHUNK_BYTES);
    if (e == ERR_OK)
        e = send_connect(c, h);
    if (e != ERR_OK)
        rtmp_link_deinit(&c->link);
    return e;
}

void rtmp_client_deinit(struct rtmp_client *c)
{
    rtmp_link_deinit(&c->link);
}

/* As the router reads it: S0 is looked at, S1 and S2 are not. */
static enum parse_result read_handshake(struct rtmp_client *c, struct slice *in,
                                        enum rtmp_client_event *out)
{
    if (in->len == 0)
        return PARSE_NEED_MORE;
    if (!c->version_seen && *slice_data(in) != RTMP_VERSION)
        return PARSE_BAD;
    c->version_seen = true;
    const uint32_t take = in->len < c->handshake_left ? in->len : c->handshake_left;
    in->off += take;
    in->len -= take;
    c->handshake_left -= take;
    if (c->handshake_left > 0)
        return PARSE_NEED_MORE;
    c->state = CLIENT_CONNECT;
    *out = CLIENT_EV_HANDSHAKE;
    return PARSE_OK;
}

static enum err send_command(struct rtmp_client *c, const struct wr *w, uint32_t msid)
{
    return w->full ? ERR_LIMIT
                   : rtmp_link_send_bytes(&c->link, RTMP_COMMAND_AMF0, msid, w->p, w->len);
}

static enum parse_result on_connected(struct rtmp_client *c, enum rtmp_client_event *out)
{
    uint8_t buf[64];
    struct wr w = wr_over(buf, sizeof buf);
    *out = CLIENT_EV_CONNECTED;
    if (c->goal == GOAL_CONNECT) {
        c->state = CLIENT_LIVE;
        return PARSE_OK;
    }
    rtmp_write_call(&w, "createStream", TR_CREATE_STREAM, (struct view){0});
    c->state = CLIENT_STREAM;
    return send_command(c, &w, 0) == ERR_OK ? PARSE_OK : PARSE_BAD;
}

static enum parse_result on_stream(struct rtmp_client *c, const struct rtmp_command *cmd)
{
    uint8_t buf[STREAM_NAME_MAX];
    struct wr w = wr_over(buf, sizeof buf);
    if (cmd->arg_count < 1 || cmd->arg[0].type != AMF0_NUMBER ||
        !(cmd->arg[0].number >= 1 && cmd->arg[0].number <= UINT32_MAX))
        return PARSE_BAD;
    c->msid = (uint32_t)cmd->arg[0].number;
    if (c->goal == GOAL_PUBLISH)
        rtmp_write_publish(&w, TR_START, c->name, "live");
    else
        rtmp_write_play(&w, TR_START, c->name, PLAY_LIVE);
    c->state = CLIENT_START;
    return send_command(c, &w, c->msid) == ERR_OK ? PARSE_NEED_MORE : PARSE_BAD;
}

static enum parse_result refused(struct rtmp_client *c, struct view code,
                                 enum rtmp_client_event *out)
{
    snprintf(c->code, sizeof c->code, "%.*s", (int)code.len, (const char *)code.p);
    *out = CLIENT_EV_REFUSED;
    return PARSE_OK;
}

static enum parse_result on_status(struct rtmp_client *c, const struct rtmp_command *cmd,
                                   enum rtmp_client_event *out)
{
    struct rtmp_status st;
    rtmp_status_read(cmd, &st);
    if (view_is(st.level, "error"))
        return refused(c, st.code, out);
    if (c->state != CLIENT_START ||
        (!view_is(st.code, "NetStream.Publish.Start") && !view_is(st.code, "NetStream.Play.Start")))
        return PARSE_NEED_MORE;
    c->state = CLIENT_LIVE;
    *out = CLIENT_EV_STARTED;
    return PARSE_OK;
}

/* PARSE_NEED_MORE: nothing the probe wants to hear of. */
static enum parse_result on_command(struct rtmp_client *c, struct rtmp_msg *m,
                                    enum rtmp_client_event *out)
{
    const uint8_t *payload;
    struct rtmp_command cmd;
    if (m->len > COMMAND_BYTES_MAX || rtmp_msg_flatten(m, &payload) != ERR_OK ||
        rtmp_command_parse(payload, m->len, &cmd) != PARSE_OK)
        return PARSE_BAD;
    if (cmd.kind == RTMP_CMD_ON_STATUS)
        return on_status(c, &cmd, out);
    if (cmd.kind == RTMP_CMD_ERROR) {
        struct rtmp_status st;
        rtmp_status_read(&cmd, &st);
        return refused(c, st.code, out);
    }
    if (cmd.kind != RTMP_CMD_RESULT)
        return PARSE_NEED_MORE;
    if (c->state == CLIENT_CONNECT && cmd.transaction_id == TR_CONNECT)
        return on_connected(c, out);
    if (c->state == CLIENT_STREAM && cmd.transaction_id == TR_CREATE_STREAM)
        return on_stream(c, &cmd);
    return PARSE_NEED_MORE;
}

/* Byte 1 of AVC tells a frame (1) from the sequence header (0); our own clip is AVC. */
static bool is_frame(const struct rtmp_msg *m)
{
    uint8_t head[2];
    return m->type == RTMP_VIDEO && rtmp_msg_peek(m, head, sizeof head) == sizeof head &&
           head[1] == 1;
}

enum parse_result rtmp_client_next(struct rtmp_client *c, struct slice *in,
                                   enum rtmp_client_event *out)
{
    if (c->state == CLIENT_HANDSHAKE)
        return read_handshake(c, in, out);
    for (;;) {
        struct rtmp_msg *m;
        enum parse_result r = rtmp_link_next(&c->link, in, &m);
        if (r != PARSE_OK)
            return r;
        if (m->type == RTMP_COMMAND_AMF0) {
            r = on_command(c, m, out);
        } else if (is_frame(m)) {
            *out = CLIENT_EV_VIDEO;
        } else {
            r = PARSE_NEED_MORE;
        }
        rtmp_msg_unref(m);
        if (r != PARSE_NEED_MORE)
            return r;
    }
}

const char *rtmp_client_waits_for(const struct rtmp_client *c)
{
    switch (c->state) {
    case CLIENT_HANDSHAKE:
        return "handshake";
    case CLIENT_CONNECT:
        return "_result of connect";
    case CLIENT_STREAM:
        return "_result of createStream";
    case CLIENT_START:
        return c->goal == GOAL_PUBLISH ? "Publish.Start" : "Play.Start";
    case CLIENT_LIVE:
        break;
    }
    return "media";
}
