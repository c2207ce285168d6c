/* rtmp/link.c - see link.h. */
#include "rtmp/link.h"

#include "base/limits.h"
#include "base/rd.h"
#include "base/wr.h"

enum {
    ACK_EVERY_MIN_BYTES = 64 * 1024, /* a tiny window does not make us answer every few bytes */
    AMF3_PREFIX_BYTES = 1,           /* 0x00: the body is AMF0 after all */
};

void rtmp_link_init(struct rtmp_link *l, struct rtmp_pool *pool,
                    const struct rtmp_chunk_limits *limits)
{
    *l = (struct rtmp_link){.pool = pool};
    rtmp_chunk_reader_init(&l->in, pool, limits);
    rtmp_chunk_writer_init(&l->out, pool);
}

void rtmp_link_deinit(struct rtmp_link *l)
{
    rtmp_chunk_reader_deinit(&l->in);
    rtmp_chunk_writer_deinit(&l->out);
    rtmp_msg_unref(l->aggregate);
    l->aggregate = NULL;
    for (size_t i = 0; i < RTMP_PONGS_MAX; i++) {
        rtmp_msg_unref(l->pongs[i]);
        l->pongs[i] = NULL;
    }
}

static enum err control_send_u32(struct rtmp_link *l, uint8_t type, uint32_t value)
{
    uint8_t wire[4];
    struct wr w = wr_over(wire, sizeof wire);
    wr_u32be(&w, value);
    return rtmp_link_send_bytes(l, type, 0, wire, w.len);
}

/* Section 5.4.3 */
static enum err bytes_acknowledge(struct rtmp_link *l)
{
    const uint32_t half = l->peer_window / 2;
    const uint32_t every = half < ACK_EVERY_MIN_BYTES ? ACK_EVERY_MIN_BYTES : half;
    if (l->peer_window == 0 || l->bytes_in - l->acked_in < every)
        return ERR_OK;
    l->acked_in = l->bytes_in;
    return control_send_u32(l, RTMP_ACK, (uint32_t)l->bytes_in);
}

/* Answers a ping unless RTMP_PONGS_MAX answers still wait: a peer that pings without reading fills
 * no memory. */
static enum err ping_answer(struct rtmp_link *l, const uint8_t *stamp)
{
    struct rtmp_msg **slot = NULL;
    for (size_t i = 0; i < RTMP_PONGS_MAX && !slot; i++) {
        if (!l->pongs[i] || l->pongs[i]->refs == 1)
            slot = &l->pongs[i];
    }
    if (!slot)
        return ERR_OK;
    uint8_t wire[6];
    struct wr w = wr_over(wire, sizeof wire);
    wr_u16be(&w, RTMP_PING_RESPONSE);
    wr_bytes(&w, stamp, 4);
    struct rtmp_msg *pong = rtmp_msg_from_bytes(l->pool, RTMP_USER_CONTROL, 0, 0, wire, w.len);
    if (!pong)
        return ERR_NO_MEMORY;
    rtmp_msg_unref(*slot);
    *slot = pong;
    return rtmp_chunk_writer_push(&l->out, pong, 0, 0);
}

/* Pings end here; *m stays if the event is for the layer above. */
static enum err user_control_take(struct rtmp_link *l, struct rtmp_msg **m)
{
    uint8_t wire[6];
    struct rd rd = rd_over(wire, rtmp_msg_peek(*m, wire, sizeof wire));
    const uint16_t event = rd_u16be(&rd);
    if (!rd.bad && event != RTMP_PING_REQUEST && event != RTMP_PING_RESPONSE)
        return ERR_OK;
    const uint8_t *stamp = rd_take(&rd, 4);
    enum err e = ERR_OK;
    if (stamp && event == RTMP_PING_REQUEST)
        e = ping_answer(l, stamp);
    else if (!rd.bad)
        l->pings_answered++;
    rtmp_msg_unref(*m);
    *m = NULL;
    return e;
}

static void window_take(struct rtmp_link *l, const struct rtmp_msg *m)
{
    uint8_t wire[4];
    struct rd rd = rd_over(wire, rtmp_msg_peek(m, wire, sizeof wire));
    const uint32_t window = rd_u32be(&rd);
    if (!rd.bad)
        l->peer_window = window;
}

/* *m as the same message in AMF0; NULL if it is empty. */
static enum err amf3_unwrap(struct rtmp_msg **m, uint8_t type)
{
    struct rtmp_msg *wrapped = *m;
    struct rtmp_msg *inner = NULL;
    enum err e = ERR_OK;
    if (wrapped->len > 0) {
        inner = rtmp_msg_share(wrapped, type, wrapped->msid, wrapped->timestamp, AMF3_PREFIX_BYTES);
        e = inner ? ERR_OK : ERR_NO_MEMORY;
    }
    rtmp_msg_unref(wrapped);
    *m = inner;
    return e;
}

static void aggregate_begin(struct rtmp_link *l, struct rtmp_msg **m)
{
    l->aggregate = *m;
    l->walk = (struct rtmp_aggregate){.msg = *m};
    *m = NULL;
}

/* Acts on what is hop by hop and takes it away (*m = NULL), converts what has to be. */
static enum err message_take(struct rtmp_link *l, struct rtmp_msg **m)
{
    switch ((*m)->type) {
    case RTMP_WINDOW_ACK_SIZE:
        window_take(l, *m);
        break;
    case RTMP_SET_CHUNK_SIZE: /* the reader has obeyed */
    case RTMP_ABORT:
    case RTMP_ACK:
    case RTMP_SET_PEER_BANDWIDTH: /* we let TCP limit what we send */
        break;
    case RTMP_USER_CONTROL:
        return user_control_take(l, m);
    case RTMP_COMMAND_AMF3:
        return amf3_unwrap(m, RTMP_COMMAND_AMF0);
    case RTMP_DATA_AMF3:
        return amf3_unwrap(m, RTMP_DATA_AMF0);
    case RTMP_AGGREGATE:
        aggregate_begin(l, m);
        return ERR_OK;
    default:
        return ERR_OK;
    }
    rtmp_msg_unref(*m);
    *m = NULL;
    return ERR_OK;
}

/* The next message as received, inner ones of an aggregate in its place. */
static enum parse_result message_next(struct rtmp_link *l, struct slice *in, struct rtmp_msg **m)
{
    if (l->aggregate) {
        const enum parse_result result = rtmp_aggregate_next(&l->walk, m);
        if (result == PARSE_OK)
            return result;
        rtmp_msg_unref(l->aggregate);
        l->aggregate = NULL;
        if (result == PARSE_BAD) {
            l->in.why = RTMP_CHUNK_AGGREGATE;
            return PARSE_BAD;
        }
    }
    const uint32_t before = in->len;
    const enum parse_result result = rtmp_chunk_reader_next(&l->in, in, m);
    l->bytes_in += before - in->len;
    return result;
}

enum parse_result rtmp_link_next(struct rtmp_link *l, struct slice *in, struct rtmp_msg **out)
{
    for (;;) {
        struct rtmp_msg *m = NULL;
        const enum parse_result result = message_next(l, in, &m);
        if (result == PARSE_BAD)
            return PARSE_BAD;
        enum err e = m ? message_take(l, &m) : ERR_OK;
        if (e == ERR_OK)
            e = bytes_acknowledge(l);
        if (e != ERR_OK) {
            rtmp_msg_unref(m);
            l->in.why = RTMP_CHUNK_NO_MEMORY;
            return PARSE_BAD;
        }
        if (m) {
            *out = m;
            return PARSE_OK;
        }
        if (result == PARSE_NEED_MORE)
            return PARSE_NEED_MORE;
    }
}

enum err rtmp_link_send(struct rtmp_link *l, struct rtmp_msg *m, uint32_t msid, uint32_t timestamp)
{
    return rtmp_chunk_writer_push(&l->out, m, msid, timestamp);
}

enum err rtmp_link_send_bytes(struct rtmp_link *l, uint8_t type, uint32_t msid, const void *payload,
                              size_t len)
{
    struct rtmp_msg *m = rtmp_msg_from_bytes(l->pool, type, msid, 0, payload, len);
    if (!m)
        return ERR_NO_MEMORY;
    const enum err e = rtmp_chunk_writer_push(&l->out, m, msid, 0);
    rtmp_msg_unref(m);
    return e;
}

enum err rtmp_link_send_chunk_size(struct rtmp_link *l, uint32_t bytes)
{
    return control_send_u32(l, RTMP_SET_CHUNK_SIZE, bytes);
}

enum err rtmp_link_send_window(struct rtmp_link *l, uint32_t bytes)
{
    return control_send_u32(l, RTMP_WINDOW_ACK_SIZE, bytes);
}

enum err rtmp_link_send_peer_bandwidth(struct rtmp_link *l, uint32_t bytes, uint8_t limit_type)
{
    uint8_t wire[5];
    struct wr w = wr_over(wire, sizeof wire);
    wr_u32be(&w, bytes);
    wr_u8(&w, limit_type);
    return rtmp_link_send_bytes(l, RTMP_SET_PEER_BANDWIDTH, 0, wire, w.len);
}

enum err rtmp_link_send_user(struct rtmp_link *l, enum rtmp_user_event event, uint32_t arg,
                             uint32_t arg2)
{
    uint8_t wire[10];
    struct wr w = wr_over(wire, sizeof wire);
    wr_u16be(&w, (uint32_t)event);
    wr_u32be(&w, arg);
    if (event == RTMP_SET_BUFFER_LENGTH)
        wr_u32be(&w, arg2);
    return rtmp_link_send_bytes(l, RTMP_USER_CONTROL, 0, wire, w.len);
}
