/* rtmp/chunk_reader.c - see chunk_reader.h.
 * The unread input is always carry[] followed by the caller's slice. */
#include "rtmp/chunk_reader.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/rd.h"

enum {
    EXTENDED = 0xffffff,       /* a timestamp field that says: four more bytes hold it */
    FIRST_GATHER_BYTES = 4096, /* a declared length costs nothing before its bytes are here */
    FIRST_FRUGAL_BYTES = 128,
};

struct rtmp_chunk_stream {
    uint32_t csid;
    uint32_t timestamp; /* of its last message */
    uint32_t field;     /* last timestamp field: absolute in fmt 0, else a delta */
    uint32_t len, msid;
    uint8_t type;
    bool extended;        /* the field came in the extended form */
    struct rtmp_msg *msg; /* being received, or NULL */
    struct block *gather; /* where its small pieces are copied to, or NULL */
};

struct chunk_header { /* what fmt leaves out comes from the chunk stream */
    uint32_t csid, field, len, msid;
    uint8_t fmt, type;
    bool extended;
};

const char *rtmp_chunk_why_name(enum rtmp_chunk_why why)
{
    static const char *const names[RTMP_CHUNK_WHY_COUNT] = {
        [RTMP_CHUNK_FINE] = "fine",
        [RTMP_CHUNK_HEADER_FIRST] = "header_first",
        [RTMP_CHUNK_MESSAGE_LONG] = "message_long",
        [RTMP_CHUNK_UNFINISHED] = "unfinished",
        [RTMP_CHUNK_LENGTH_CHANGED] = "length_changed",
        [RTMP_CHUNK_STREAMS] = "streams",
        [RTMP_CHUNK_SIZE_BAD] = "size_bad",
        [RTMP_CHUNK_NO_MEMORY] = "no_memory",
        [RTMP_CHUNK_AGGREGATE] = "aggregate",
    };
    return names[why];
}

void rtmp_chunk_reader_init(struct rtmp_chunk_reader *r, struct rtmp_pool *pool,
                            const struct rtmp_chunk_limits *limits)
{
    *r = (struct rtmp_chunk_reader){
        .pool = pool, .limits = limits, .chunk_bytes = RTMP_DEFAULT_CHUNK_BYTES};
}

static void stream_forget_message(struct rtmp_chunk_reader *r, struct rtmp_chunk_stream *s)
{
    if (s->msg)
        r->unfinished -= s->msg->len;
    rtmp_msg_unref(s->msg);
    block_unref(s->gather);
    s->msg = NULL;
    s->gather = NULL;
}

void rtmp_chunk_reader_deinit(struct rtmp_chunk_reader *r)
{
    for (uint32_t i = 0; i < r->stream_count; i++)
        stream_forget_message(r, &r->streams[i]);
    free(r->streams);
    r->streams = NULL;
    r->stream_count = r->stream_cap = 0;
}

static enum parse_result reader_fail(struct rtmp_chunk_reader *r, enum rtmp_chunk_why why)
{
    r->why = why;
    return PARSE_BAD;
}

/* Links use 2 to 6 chunk streams, and chunks of one often follow each other. NULL: not in use yet.
 */
static struct rtmp_chunk_stream *stream_find(const struct rtmp_chunk_reader *r, uint32_t csid)
{
    if (r->current < r->stream_count && r->streams[r->current].csid == csid)
        return &r->streams[r->current];
    for (uint32_t i = 0; i < r->stream_count; i++) {
        if (r->streams[i].csid == csid)
            return &r->streams[i];
    }
    return NULL;
}

static struct rtmp_chunk_stream *stream_add(struct rtmp_chunk_reader *r, uint32_t csid)
{
    if (r->stream_count >= r->limits->chunk_streams) {
        r->why = RTMP_CHUNK_STREAMS;
        return NULL;
    }
    if (r->stream_count == r->stream_cap) {
        const uint32_t cap = r->stream_cap ? r->stream_cap * 2 : 4;
        struct rtmp_chunk_stream *grown = realloc(r->streams, cap * sizeof *grown);
        if (!grown) {
            r->why = RTMP_CHUNK_NO_MEMORY;
            return NULL;
        }
        r->streams = grown;
        r->stream_cap = cap;
    }
    struct rtmp_chunk_stream *s = &r->streams[r->stream_count++];
    *s = (struct rtmp_chunk_stream){.csid = csid};
    return s;
}

/* Chunk Basic Header, 1..3 bytes (section 5.3.1.1). */
static void basic_header_read(struct rd *rd, struct chunk_header *h)
{
    const uint8_t first = rd_u8(rd);
    h->fmt = first >> 6;
    h->csid = first & 0x3f;
    if (h->csid == 0) {
        h->csid = 64u + rd_u8(rd);
    } else if (h->csid == 1) {
        const uint32_t low = rd_u8(rd);
        h->csid = 64u + low + 256u * rd_u8(rd);
    }
}

/* Behind a fmt 3 header: steps over an extended timestamp if the sender repeats it. PARSE_NEED_MORE
 * as long as the bytes could still become one. */
static enum parse_result repeated_timestamp_skip(struct rd *rd, uint32_t field)
{
    const uint8_t wire[4] = {(uint8_t)(field >> 24), (uint8_t)(field >> 16), (uint8_t)(field >> 8),
                             (uint8_t)field};
    const size_t n = rd->left < sizeof wire ? rd->left : sizeof wire;
    if (n > 0 && memcmp(rd->p, wire, n) != 0)
        return PARSE_OK;
    return rd_take(rd, sizeof wire) ? PARSE_OK : PARSE_NEED_MORE;
}

/* Basic header and message header (sections 5.3.1.1 to 5.3.1.3). *out and *used change on PARSE_OK
 * only. */
static enum parse_result header_parse(struct rtmp_chunk_reader *r, const uint8_t *buf, uint32_t len,
                                      struct chunk_header *out, uint32_t *used)
{
    struct rd rd = rd_over(buf, len);
    struct chunk_header h = {0};
    basic_header_read(&rd, &h);
    if (rd.bad)
        return PARSE_NEED_MORE;
    const struct rtmp_chunk_stream *s = stream_find(r, h.csid);
    /* librtmp's first message on csid 2 is often a fmt 1 (42 00 00 00 00 00 06 04): msid and time
     * start at 0 */
    if (!s && h.fmt >= 2)
        return reader_fail(r, RTMP_CHUNK_HEADER_FIRST);
    if (s) {
        h.field = s->field;
        h.extended = s->extended;
        h.len = s->len;
        h.type = s->type;
        h.msid = s->msid;
    }
    if (h.fmt == 3) {
        if (h.extended && repeated_timestamp_skip(&rd, h.field) == PARSE_NEED_MORE)
            return PARSE_NEED_MORE;
    } else {
        h.field = rd_u24be(&rd);
        if (h.fmt <= 1) {
            h.len = rd_u24be(&rd);
            h.type = rd_u8(&rd);
        }
        if (h.fmt == 0)
            h.msid = rd_u32le(&rd);
        h.extended = h.field == EXTENDED;
        if (h.extended)
            h.field = rd_u32be(&rd);
        if (rd.bad)
            return PARSE_NEED_MORE;
    }
    *out = h;
    *used = len - (uint32_t)rd.left;
    return PARSE_OK;
}

static enum parse_result message_open(struct rtmp_chunk_reader *r, struct rtmp_chunk_stream *s,
                                      const struct chunk_header *h)
{
    if (h->len > r->limits->message_bytes)
        return reader_fail(r, RTMP_CHUNK_MESSAGE_LONG);
    /* fmt 3 repeats the last field, even an absolute one: section 5.3.1.2.4 */
    s->timestamp = h->fmt == 0 ? h->field : s->timestamp + h->field;
    s->field = h->field;
    s->extended = h->extended;
    s->len = h->len;
    s->type = h->type;
    s->msid = h->msid;
    s->msg = rtmp_msg_create(r->pool, s->type, s->msid, s->timestamp);
    if (!s->msg)
        return reader_fail(r, RTMP_CHUNK_NO_MEMORY);
    s->msg->csid = s->csid;
    return PARSE_OK;
}

static enum parse_result chunk_begin(struct rtmp_chunk_reader *r, const struct chunk_header *h)
{
    struct rtmp_chunk_stream *s = stream_find(r, h->csid);
    if (!s)
        s = stream_add(r, h->csid);
    if (!s)
        return PARSE_BAD;
    if (!s->msg) {
        if (message_open(r, s, h) != PARSE_OK)
            return PARSE_BAD;
    } else if (h->len != s->len || h->type != s->type) {
        return reader_fail(r, RTMP_CHUNK_LENGTH_CHANGED);
    }
    const uint32_t left = s->len - s->msg->len;
    r->current = (uint32_t)(s - r->streams);
    r->body_left = left < r->chunk_bytes ? left : r->chunk_bytes;
    r->body_pending = true;
    if (r->unfinished + r->body_left > r->limits->unfinished_bytes)
        return reader_fail(r, RTMP_CHUNK_UNFINISHED);
    return PARSE_OK;
}

static void slice_advance(struct slice *in, uint32_t n)
{
    in->off += n;
    in->len -= n;
}

static void carry_drop(struct rtmp_chunk_reader *r, uint32_t n)
{
    memmove(r->carry, r->carry + n, r->carry_len - n);
    r->carry_len = (uint8_t)(r->carry_len - n);
}

/* A header that lies in carry[] in part. What looked like an extended timestamp and is none stays
 * there: it is body. */
static enum parse_result header_read_carried(struct rtmp_chunk_reader *r, struct slice *in,
                                             struct chunk_header *h)
{
    const uint32_t carried = r->carry_len;
    const uint32_t room = (uint32_t)sizeof r->carry - carried;
    const uint32_t n = in->len < room ? in->len : room;
    uint32_t used = 0;
    if (n > 0)
        memcpy(r->carry + carried, slice_data(in), n);
    const enum parse_result result = header_parse(r, r->carry, carried + n, h, &used);
    if (result == PARSE_NEED_MORE) {
        assert(carried + n < sizeof r->carry);
        r->carry_len = (uint8_t)(carried + n);
        slice_advance(in, n);
    } else if (result == PARSE_OK && used < carried) {
        carry_drop(r, used);
    } else if (result == PARSE_OK) {
        r->carry_len = 0;
        slice_advance(in, used - carried);
    }
    return result;
}

static enum parse_result header_read(struct rtmp_chunk_reader *r, struct slice *in,
                                     struct chunk_header *h)
{
    if (r->carry_len > 0)
        return header_read_carried(r, in, h);
    if (in->len == 0)
        return PARSE_NEED_MORE;
    uint32_t used = 0;
    const enum parse_result result = header_parse(r, slice_data(in), in->len, h, &used);
    if (result == PARSE_NEED_MORE) {
        assert(in->len < sizeof r->carry);
        memcpy(r->carry, slice_data(in), in->len);
        r->carry_len = (uint8_t)in->len;
        used = in->len;
    }
    if (result != PARSE_BAD)
        slice_advance(in, used);
    return result;
}

/* Each gather block is twice as large as the one before, so memory follows what has arrived. */
static struct block *gather_block(struct rtmp_chunk_reader *r, struct rtmp_chunk_stream *s)
{
    if (s->gather && s->gather->used < s->gather->cap)
        return s->gather;
    const uint32_t first = r->limits->frugal ? FIRST_FRUGAL_BYTES : FIRST_GATHER_BYTES;
    uint32_t cap = s->gather ? s->gather->cap * 2 : first;
    const uint32_t left = s->len - s->msg->len;
    if (cap > BLOCK_BYTES)
        cap = BLOCK_BYTES;
    if (cap > left)
        cap = left;
    block_unref(s->gather);
    s->gather = block_create(r->pool->blocks, cap);
    return s->gather;
}

static enum err body_copy(struct rtmp_chunk_reader *r, struct rtmp_chunk_stream *s,
                          const uint8_t *p, uint32_t n)
{
    while (n > 0) {
        struct block *b = gather_block(r, s);
        if (!b)
            return ERR_NO_MEMORY;
        const uint32_t room = b->cap - b->used;
        const uint32_t part = n < room ? n : room;
        const enum err e = rtmp_msg_append(s->msg, b, b->used, part);
        if (e != ERR_OK)
            return e;
        memcpy(b->data + b->used, p, part);
        b->used += part;
        p += part;
        n -= part;
    }
    return ERR_OK;
}

/* Small pieces are copied together, because a message in hundreds of slices would pin as many
 * blocks and cost as many iovecs; not if the piece is the whole message or continues the last slice
 * anyway. */
static bool piece_is_shared(const struct rtmp_chunk_reader *r, const struct rtmp_chunk_stream *s,
                            const struct slice *in, uint32_t n)
{
    const struct rtmp_msg *m = s->msg;
    if (n == s->len || (n >= GATHER_BELOW_BYTES && !r->limits->frugal))
        return true;
    if (m->slice_count == 0 || r->limits->frugal)
        return false;
    const struct slice *last = &m->slices[m->slice_count - 1];
    return last->block == in->block && last->off + last->len == in->off;
}

/* PARSE_OK: the chunk's body is complete. */
static enum parse_result body_read(struct rtmp_chunk_reader *r, struct slice *in)
{
    struct rtmp_chunk_stream *s = &r->streams[r->current];
    enum err e = ERR_OK;
    const uint32_t carried = r->carry_len < r->body_left ? r->carry_len : r->body_left;
    if (carried > 0) {
        e = body_copy(r, s, r->carry, carried);
        carry_drop(r, carried);
    }
    const uint32_t left = r->body_left - carried;
    const uint32_t n = in->len < left ? in->len : left;
    if (e == ERR_OK && n > 0) {
        e = piece_is_shared(r, s, in, n) ? rtmp_msg_append(s->msg, in->block, in->off, n)
                                         : body_copy(r, s, slice_data(in), n);
        slice_advance(in, n);
    }
    if (e != ERR_OK)
        return reader_fail(r, RTMP_CHUNK_NO_MEMORY);
    r->unfinished += carried + n;
    r->body_left = left - n;
    return r->body_left > 0 ? PARSE_NEED_MORE : PARSE_OK;
}

/* Section 5.4.1 */
static enum parse_result chunk_size_set(struct rtmp_chunk_reader *r, const struct rtmp_msg *m)
{
    uint8_t wire[4];
    struct rd rd = rd_over(wire, rtmp_msg_peek(m, wire, sizeof wire));
    const uint32_t bytes = rd_u32be(&rd);
    if (bytes == 0 || bytes & 0x80000000u)
        return reader_fail(r, RTMP_CHUNK_SIZE_BAD);
    const uint32_t meant = bytes < RTMP_CHUNK_BYTES_MAX ? bytes : RTMP_CHUNK_BYTES_MAX;
    if (r->limits->chunk_bytes != 0 && meant > r->limits->chunk_bytes)
        return reader_fail(r, RTMP_CHUNK_SIZE_BAD);
    r->chunk_bytes = meant;
    return PARSE_OK;
}

/* Section 5.4.2; one that is too short to name a chunk stream says nothing. */
static void message_abort(struct rtmp_chunk_reader *r, const struct rtmp_msg *m)
{
    uint8_t wire[4];
    struct rd rd = rd_over(wire, rtmp_msg_peek(m, wire, sizeof wire));
    const uint32_t csid = rd_u32be(&rd);
    struct rtmp_chunk_stream *s = rd.bad ? NULL : stream_find(r, csid);
    if (s)
        stream_forget_message(r, s);
}

/* The whole message of s, if it is one for the caller; NULL: it has acted here, or r->why is set.
 */
static struct rtmp_msg *message_close(struct rtmp_chunk_reader *r, struct rtmp_chunk_stream *s)
{
    struct rtmp_msg *m = rtmp_msg_ref(s->msg);
    stream_forget_message(r, s);
    const bool aborts = m->type == RTMP_ABORT;
    if (aborts)
        message_abort(r, m);
    if (aborts || (m->type == RTMP_SET_CHUNK_SIZE && chunk_size_set(r, m) != PARSE_OK)) {
        rtmp_msg_unref(m);
        return NULL;
    }
    return m;
}

enum parse_result rtmp_chunk_reader_next(struct rtmp_chunk_reader *r, struct slice *in,
                                         struct rtmp_msg **out)
{
    while (r->why == RTMP_CHUNK_FINE) {
        if (!r->body_pending) {
            struct chunk_header h;
            enum parse_result result = header_read(r, in, &h);
            if (result == PARSE_OK)
                result = chunk_begin(r, &h);
            if (result != PARSE_OK)
                return result;
        }
        const enum parse_result result = body_read(r, in);
        if (result != PARSE_OK)
            return result;
        r->body_pending = false;
        struct rtmp_chunk_stream *s = &r->streams[r->current];
        if (s->msg->len < s->len)
            continue;
        struct rtmp_msg *m = message_close(r, s);
        if (m) {
            *out = m;
            return PARSE_OK;
        }
    }
    return PARSE_BAD;
}

bool rtmp_chunk_reader_idle(const struct rtmp_chunk_reader *r)
{
    return r->carry_len == 0 && !r->body_pending && r->unfinished == 0;
}
