#include "router/client_side.h"

#include <stdlib.h>
#include <string.h>

#include "rtmp/handshake.h"

enum { COMMAND_NAME_MAX = 32 /* longer than any that nodes know */ };

void client_side_init(struct client_side *c, struct rtmp_pool *pool,
                      const struct rtmp_chunk_limits *limits)
{
    memset(c, 0, sizeof *c);
    rtmp_link_init(&c->link, pool, limits);
}

void client_side_deinit(struct client_side *c)
{
    free(c->hello);
    free(c->connect);
    rtmp_link_deinit(&c->link);
}

static enum parse_result bad(struct client_side *c, enum close_why why)
{
    c->why = why;
    return PARSE_BAD;
}

static enum close_why opening_why(enum rtmp_opening o)
{
    switch (o) {
    case RTMP_OPENING_RTMP:
        return WHY_NONE;
    case RTMP_OPENING_RTMPE:
        return WHY_RTMPE;
    case RTMP_OPENING_TLS:
        return WHY_TLS;
    case RTMP_OPENING_HTTP:
        return WHY_HTTP;
    case RTMP_OPENING_SSH:
        return WHY_SSH;
    case RTMP_OPENING_PROXY:
        return WHY_PROXY_UNEXPECTED;
    case RTMP_OPENING_UNKNOWN:
        return WHY_VERSION_BAD;
    }
    return WHY_VERSION_BAD;
}

static uint32_t take(struct client_side *c, struct slice *in, uint32_t want)
{
    const uint32_t n = in->len < want ? in->len : want;
    in->off += n;
    in->len -= n;
    c->bytes_in += n;
    return n;
}

/* S0 S1 S2 go out as soon as C1 is whole: held until C2 they would dead-lock ffmpeg and nginx
 * relays. */
static enum parse_result read_c0c1(struct client_side *c, struct slice *in, const uint8_t *noise,
                                   uint32_t now_ms)
{
    if (c->hello_len == 0 && in->len > 0) {
        const enum rtmp_opening o = rtmp_opening_detect(slice_data(in), in->len);
        if (o != RTMP_OPENING_RTMP)
            return bad(c, opening_why(o));
    }
    if (!c->hello && !(c->hello = malloc(RTMP_C0C1_BYTES)))
        return bad(c, WHY_LIMIT_MEMORY);
    const uint8_t *from = slice_data(in);
    const uint32_t n = take(c, in, RTMP_C0C1_BYTES - c->hello_len);
    memcpy(c->hello + c->hello_len, from, n);
    c->hello_len += n;
    if (c->hello_len < RTMP_C0C1_BYTES)
        return PARSE_NEED_MORE;
    uint8_t answer[RTMP_S0S1S2_BYTES];
    rtmp_handshake_reply_simple(c->hello + 1, now_ms, noise, answer);
    free(c->hello);
    c->hello = NULL;
    if (rtmp_chunk_writer_push_raw(&c->link.out, answer, sizeof answer) != ERR_OK)
        return bad(c, WHY_LIMIT_MEMORY);
    c->c2_left = RTMP_HANDSHAKE_BYTES;
    c->phase = CLIENT_C2;
    return PARSE_OK;
}

static enum err answer_connect(struct client_side *c, double tr)
{
    uint8_t buf[512];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_connect_result(&w, tr);
    enum err e = rtmp_link_send_window(&c->link, RTMP_WINDOW_BYTES);
    if (e == ERR_OK)
        e = rtmp_link_send_peer_bandwidth(&c->link, RTMP_WINDOW_BYTES, 2);
    if (e == ERR_OK)
        e = rtmp_link_send_chunk_size(&c->link, RTMP_OUR_CHUNK_BYTES);
    if (e == ERR_OK)
        e = rtmp_link_send_bytes(&c->link, RTMP_COMMAND_AMF0, 0, buf, w.len);
    return e;
}

static enum parse_result on_connect(struct client_side *c, const struct rtmp_command *cmd,
                                    const uint8_t *payload, size_t len)
{
    if (c->connect)
        return bad(c, WHY_COMMAND_BAD);
    c->connect = malloc(len);
    if (!c->connect)
        return bad(c, WHY_LIMIT_MEMORY);
    memcpy(c->connect, payload, len);
    c->connect_len = len;
    struct rtmp_command own; /* the same again, with views into our copy */
    if (rtmp_command_parse(c->connect, len, &own) != PARSE_OK)
        return bad(c, WHY_COMMAND_BAD);
    rtmp_connect_read(&own, &c->info);
    if (c->info.app.len >= APP_MAX || c->info.tc_url.len >= TC_URL_MAX)
        return bad(c, WHY_NAME_BAD);
    return answer_connect(c, cmd->transaction_id) == ERR_OK ? PARSE_NEED_MORE
                                                            : bad(c, WHY_LIMIT_MEMORY);
}

static enum parse_result on_create_stream(struct client_side *c, const struct rtmp_command *cmd)
{
    if (c->streams_created++ == CREATE_STREAMS_MAX)
        return bad(c, WHY_COMMAND_BAD);
    uint8_t buf[64];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_number_result(&w, cmd->transaction_id, CLIENT_MSID);
    c->stream_created = true;
    return rtmp_link_send_bytes(&c->link, RTMP_COMMAND_AMF0, 0, buf, w.len) == ERR_OK
               ? PARSE_NEED_MORE
               : bad(c, WHY_LIMIT_MEMORY);
}

/* PARSE_NEED_MORE: dealt with here; the message is still the caller's. */
static enum parse_result on_command(struct client_side *c, struct rtmp_msg *m,
                                    struct client_event *out)
{
    const uint8_t *payload;
    if (m->len > COMMAND_BYTES_MAX)
        return bad(c, WHY_MESSAGE_LONG);
    if (rtmp_msg_flatten(m, &payload) != ERR_OK)
        return bad(c, WHY_LIMIT_MEMORY);
    struct rtmp_command cmd;
    if (rtmp_command_parse(payload, m->len, &cmd) != PARSE_OK)
        return bad(c, WHY_COMMAND_BAD);
    if (!c->connect && cmd.kind != RTMP_CMD_CONNECT)
        return bad(c, WHY_COMMAND_BAD);
    switch (cmd.kind) {
    case RTMP_CMD_CONNECT:
        return on_connect(c, &cmd, payload, m->len);
    case RTMP_CMD_CREATE_STREAM:
        return on_create_stream(c, &cmd);
    case RTMP_CMD_PUBLISH:
    case RTMP_CMD_PLAY:
        if (!c->stream_created)
            return bad(c, WHY_COMMAND_BAD);
        c->streams_created = 0;
        *out = (struct client_event){.kind = cmd.kind == RTMP_CMD_PUBLISH ? CLIENT_PUBLISH
                                                                          : CLIENT_PLAY,
                                     .msg = m,
                                     .cmd = cmd};
        return PARSE_OK;
    case RTMP_CMD_DELETE_STREAM:
    case RTMP_CMD_CLOSE_STREAM:
        *out = (struct client_event){.kind = CLIENT_END, .msg = m};
        return PARSE_OK;
    case RTMP_CMD_PAUSE:
    case RTMP_CMD_SEEK:
    case RTMP_CMD_RECEIVE_AUDIO:
    case RTMP_CMD_RECEIVE_VIDEO:
    case RTMP_CMD_FCUNPUBLISH:
    case RTMP_CMD_OTHER:
        *out = (struct client_event){.kind = CLIENT_PASS, .msg = m};
        return PARSE_OK;
    case RTMP_CMD_PLAY2: /* a node would play a stream that nobody was asked for, and that may live
                            on another node; no player sends it */
    case RTMP_CMD_RELEASE_STREAM: /* no client waits for an answer to these; nginx-rtmp gives none
                                     either */
    case RTMP_CMD_FCPUBLISH:
    case RTMP_CMD_FCSUBSCRIBE:
    case RTMP_CMD_GET_STREAM_LENGTH:
    case RTMP_CMD_CHECK_BW:
    case RTMP_CMD_RESULT:
    case RTMP_CMD_ERROR:
    case RTMP_CMD_ON_STATUS:
    case RTMP_CMD_ON_BW_DONE:
    case RTMP_CMD_ON_FCPUBLISH:
    case RTMP_CMD_CLOSE:
        return PARSE_NEED_MORE;
    }
    return PARSE_NEED_MORE;
}

/* nginx-rtmp does what a data message says if its name is that of a command: publish, say. */
static bool is_command_in_data(const struct rtmp_msg *m)
{
    uint8_t buf[3 + COMMAND_NAME_MAX];
    struct rd r = rd_over(buf, rtmp_msg_peek(m, buf, sizeof buf));
    const bool is_string = rd_u8(&r) == AMF0_STRING;
    const size_t len = rd_u16be(&r);
    const struct view name = {.p = r.p, .len = len < r.left ? len : r.left};
    return is_string && rtmp_command_kind(name) != RTMP_CMD_OTHER;
}

static enum parse_result on_message(struct client_side *c, struct rtmp_msg *m,
                                    struct client_event *out)
{
    uint8_t event[2];
    switch (m->type) {
    case RTMP_COMMAND_AMF0:
        return on_command(c, m, out);
    case RTMP_DATA_AMF0:
        if (is_command_in_data(m))
            return PARSE_NEED_MORE;
        /* fall through */
    case RTMP_AUDIO:
    case RTMP_VIDEO:
        *out = (struct client_event){.kind = CLIENT_MEDIA, .msg = m};
        return PARSE_OK;
    case RTMP_USER_CONTROL:
        if (rtmp_msg_peek(m, event, 2) == 2 &&
            (event[0] << 8 | event[1]) == RTMP_SET_BUFFER_LENGTH) {
            *out = (struct client_event){.kind = CLIENT_PASS, .msg = m};
            return PARSE_OK;
        }
        return PARSE_NEED_MORE;
    default: /* shared objects and unknown types: nodes close on some of them, clients expect no
                answer */
        return PARSE_NEED_MORE;
    }
}

static enum close_why chunk_why(enum rtmp_chunk_why why)
{
    switch (why) {
    case RTMP_CHUNK_MESSAGE_LONG:
    case RTMP_CHUNK_UNFINISHED:
        return WHY_MESSAGE_LONG;
    case RTMP_CHUNK_NO_MEMORY:
        return WHY_LIMIT_MEMORY;
    case RTMP_CHUNK_FINE:
    case RTMP_CHUNK_HEADER_FIRST:
    case RTMP_CHUNK_LENGTH_CHANGED:
    case RTMP_CHUNK_STREAMS:
    case RTMP_CHUNK_SIZE_BAD:
    case RTMP_CHUNK_AGGREGATE:
        return WHY_CHUNK_BAD;
    }
    return WHY_CHUNK_BAD;
}

static enum parse_result read_messages(struct client_side *c, struct slice *in,
                                       struct client_event *out)
{
    for (;;) {
        struct rtmp_msg *m;
        const uint32_t before = in->len;
        enum parse_result r = rtmp_link_next(&c->link, in, &m);
        c->bytes_in += before - in->len;
        if (r == PARSE_BAD)
            return bad(c, chunk_why(c->link.in.why));
        if (r == PARSE_NEED_MORE)
            return r;
        r = on_message(c, m, out);
        if (r == PARSE_OK)
            return r;
        rtmp_msg_unref(m);
        if (r == PARSE_BAD)
            return r;
    }
}

enum parse_result client_side_next(struct client_side *c, struct slice *in, const uint8_t *noise,
                                   uint32_t now_ms, struct client_event *out)
{
    if (c->phase == CLIENT_C0C1) {
        const enum parse_result r = read_c0c1(c, in, noise, now_ms);
        if (r != PARSE_OK)
            return r;
    }
    if (c->phase == CLIENT_C2) {
        c->c2_left -= take(c, in, c->c2_left);
        if (c->c2_left > 0)
            return PARSE_NEED_MORE;
        c->phase = CLIENT_MESSAGES;
    }
    return read_messages(c, in, out);
}

enum err client_side_status(struct client_side *c, const char *level, const char *code,
                            const char *description)
{
    uint8_t buf[1024];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_on_status(&w, level, code, description);
    if (w.full)
        return ERR_LIMIT;
    return rtmp_link_send_bytes(&c->link, RTMP_COMMAND_AMF0, CLIENT_MSID, buf, w.len);
}
