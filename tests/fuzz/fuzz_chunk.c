/* The chunk reader against a naive one, and the chunk writer behind it: whatever the bytes and
 * however they are cut, the same messages must come out, and again after they went through a
 * writer. Input: two bytes of options (cutting; limits and the writer's chunk size), then the chunk
 * stream. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/rd.h"
#include "rtmp/chunk_reader.h"
#include "rtmp/chunk_writer.h"
#include "tests/unit/rtmp/chunk_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STREAMS_MAX = 64, OPTION_BYTES = 2 };

struct record { /* one message that came out */
    uint32_t csid, msid, timestamp, len;
    uint8_t type;
    size_t at; /* of its payload in bytes[] */
};

struct records {
    struct record *list;
    size_t count, cap;
    uint8_t *bytes;
    size_t len, bytes_cap;
    enum rtmp_chunk_why why;
};

static void check(bool right)
{
    if (!right)
        abort();
}

static void *grown(void *p, size_t *cap, size_t need, size_t unit)
{
    if (need <= *cap)
        return p;
    *cap = need * 2 + 16;
    p = realloc(p, *cap * unit);
    check(p);
    return p;
}

static uint8_t *record_add(struct records *r, struct record rec)
{
    r->list = grown(r->list, &r->cap, r->count + 1, sizeof *r->list);
    r->bytes = grown(r->bytes, &r->bytes_cap, r->len + rec.len + 1, 1);
    rec.at = r->len;
    r->len += rec.len;
    r->list[r->count++] = rec;
    return r->bytes + rec.at;
}

static void records_free(struct records *r)
{
    free(r->list);
    free(r->bytes);
}

/* ---- the naive reader: the whole input at once, one array of chunk streams, payload copied byte
 * by byte ---- */

struct naive_stream {
    bool open;
    uint32_t csid, time, field, len, msid, got;
    uint8_t type;
    bool extended;
    uint8_t *payload;
    size_t cap;
};

struct naive {
    struct naive_stream streams[STREAMS_MAX];
    uint32_t count, chunk_bytes;
    uint64_t unfinished;
    const struct rtmp_chunk_limits *limits;
    struct records *out;
};

static struct naive_stream *naive_find(struct naive *n, uint32_t csid)
{
    for (uint32_t i = 0; i < n->count; i++) {
        if (n->streams[i].csid == csid)
            return &n->streams[i];
    }
    return NULL;
}

static void naive_complete(struct naive *n, struct naive_stream *s)
{
    n->unfinished -= s->got;
    s->open = false;
    uint32_t value = 0;
    for (uint32_t i = 0; i < 4 && i < s->got; i++)
        value = value << 8 | s->payload[i];
    if (s->type == RTMP_ABORT) {
        struct naive_stream *other = s->len >= 4 ? naive_find(n, value) : NULL;
        if (other && other->open) {
            n->unfinished -= other->got;
            other->open = false;
        }
        return;
    }
    if (s->type == RTMP_SET_CHUNK_SIZE) {
        if (s->len < 4 || value == 0 || value > 0x7fffffff) {
            n->out->why = RTMP_CHUNK_SIZE_BAD;
            return;
        }
        n->chunk_bytes = value > 0xffffff ? 0xffffff : value;
    }
    uint8_t *to =
        record_add(n->out, (struct record){s->csid, s->msid, s->time, s->len, s->type, 0});
    if (s->len)
        memcpy(to, s->payload, s->len);
}

/* False: the input ends here. */
static bool naive_header(struct naive *n, struct rd *in, uint32_t *fmt, struct naive_stream **found)
{
    const uint8_t first = rd_u8(in);
    uint32_t csid = first & 63u;
    *fmt = first >> 6;
    if (csid < 2) {
        const uint32_t wide = csid;
        csid = 64u + rd_u8(in);
        csid += wide ? rd_u8(in) * 256u : 0;
    }
    if (in->bad)
        return false;
    struct naive_stream *s = naive_find(n, csid);
    if (!s && *fmt > 1) {
        n->out->why = RTMP_CHUNK_HEADER_FIRST;
        return false;
    }
    struct naive_stream h = s ? *s : (struct naive_stream){.csid = csid};
    if (*fmt < 3) {
        h.field = rd_u24be(in);
        h.extended = h.field == 0xffffff;
    }
    if (*fmt < 2) {
        h.len = rd_u24be(in);
        h.type = rd_u8(in);
    }
    if (*fmt == 0)
        h.msid = rd_u32le(in);
    if (*fmt < 3 && h.extended)
        h.field = rd_u32be(in);
    if (*fmt == 3 && h.extended) {
        uint32_t same = 0;
        while (same < 4 && same < in->left && in->p[same] == (uint8_t)(h.field >> (24 - 8 * same)))
            same++;
        if (same == 4 || same == in->left) /* is one, or might become one */
            rd_take(in, 4);
    }
    if (in->bad)
        return false;
    if (!s && n->count == n->limits->chunk_streams) {
        n->out->why = RTMP_CHUNK_STREAMS;
        return false;
    }
    if (!s) {
        s = &n->streams[n->count++];
        *s = (struct naive_stream){.csid = csid};
    }
    *found = s;
    if (s->open) {
        if (h.len != s->len || h.type != s->type)
            n->out->why = RTMP_CHUNK_LENGTH_CHANGED;
        return n->out->why == RTMP_CHUNK_FINE;
    }
    if (h.len > n->limits->message_bytes) {
        n->out->why = RTMP_CHUNK_MESSAGE_LONG;
        return false;
    }
    h.time = *fmt == 0 ? h.field : h.time + h.field;
    h.open = true;
    h.got = 0;
    *s = h;
    return true;
}

static void naive_read(struct naive *n, struct rd in)
{
    while (in.left > 0 && n->out->why == RTMP_CHUNK_FINE) {
        uint32_t fmt = 0;
        struct naive_stream *s = NULL;
        if (!naive_header(n, &in, &fmt, &s))
            break;
        uint32_t body = s->len - s->got;
        if (body > n->chunk_bytes)
            body = n->chunk_bytes;
        if (n->unfinished + body > n->limits->unfinished_bytes) {
            n->out->why = RTMP_CHUNK_UNFINISHED;
            break;
        }
        const uint8_t *p = rd_take(&in, body);
        if (!p && body)
            break;
        s->payload = grown(s->payload, &s->cap, (size_t)s->got + body + 1, 1);
        for (uint32_t i = 0; i < body; i++)
            s->payload[s->got + i] = p[i];
        s->got += body;
        n->unfinished += body;
        if (s->got == s->len)
            naive_complete(n, s);
    }
    for (uint32_t i = 0; i < n->count; i++)
        free(n->streams[i].payload);
}

/* ---- the real reader, cut as told, and the writer ---- */

struct bench {
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct rtmp_chunk_limits limits;
    struct rtmp_chunk_writer writer;
    uint32_t random;
};

static uint32_t random_below(struct bench *b, uint32_t n)
{
    b->random = b->random * 1664525u + 1013904223u;
    return (b->random >> 8) % n;
}

static void message_record(struct bench *b, struct rtmp_msg *m, struct records *out, bool write)
{
    uint8_t *to =
        record_add(out, (struct record){m->csid, m->msid, m->timestamp, m->len, m->type, 0});
    check(rtmp_msg_copy(m, 0, to, m->len) == m->len);
    if (write)
        check(rtmp_chunk_writer_push(&b->writer, m, m->msid, m->timestamp) == ERR_OK);
    rtmp_msg_unref(m);
}

static void real_read(struct bench *b, const uint8_t *p, size_t len, uint32_t cut,
                      struct records *out, bool write)
{
    struct rtmp_chunk_reader reader;
    rtmp_chunk_reader_init(&reader, &b->pool, &b->limits);
    enum parse_result result = PARSE_NEED_MORE;
    for (size_t off = 0, n = 0; off < len && result != PARSE_BAD; off += n) {
        n = cut == 0 ? len : 1 + random_below(b, cut);
        n = n < len - off ? n : len - off;
        struct slice in = exact_slice(&b->blocks, p + off, (uint32_t)n);
        struct block *block = in.block;
        struct rtmp_msg *m = NULL;
        while ((result = rtmp_chunk_reader_next(&reader, &in, &m)) == PARSE_OK)
            message_record(b, m, out, write);
        check(result == PARSE_BAD || in.len == 0);
        check(reader.unfinished <= b->limits.unfinished_bytes);
        block_unref(block);
    }
    out->why = reader.why;
    check((result == PARSE_BAD) == (reader.why != RTMP_CHUNK_FINE));
    rtmp_chunk_reader_deinit(&reader);
}

/* Everything queued, in sends that stop anywhere. The caller frees it. */
static uint8_t *writer_drain(struct bench *b, size_t *len)
{
    struct iovec iov[IOV_BATCH];
    uint8_t *wire = NULL;
    size_t cap = 0, n = 0;
    *len = 0;
    while ((n = rtmp_chunk_writer_iov(&b->writer, iov, 1 + random_below(b, IOV_BATCH), 1 << 16)) >
           0) {
        size_t got = 0;
        for (size_t i = 0; i < n; i++) {
            wire = grown(wire, &cap, *len + got + iov[i].iov_len, 1);
            memcpy(wire + *len + got, iov[i].iov_base, iov[i].iov_len);
            got += iov[i].iov_len;
        }
        const size_t sent = 1 + random_below(b, (uint32_t)got);
        rtmp_chunk_writer_advance(&b->writer, sent);
        *len += sent;
    }
    check(b->writer.queued_bytes == 0);
    return wire;
}

static void compare(const struct records *a, const struct records *b, bool csids)
{
    check(a->count == b->count && a->why == b->why && a->len == b->len);
    for (size_t i = 0; i < a->count; i++) {
        const struct record *x = &a->list[i], *y = &b->list[i];
        check(x->msid == y->msid && x->timestamp == y->timestamp && x->len == y->len &&
              x->type == y->type && (!csids || x->csid == y->csid));
    }
    check(a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

static void naive_run(const struct rtmp_chunk_limits *limits, const uint8_t *p, size_t len,
                      struct records *out)
{
    struct naive n = {.chunk_bytes = RTMP_DEFAULT_CHUNK_BYTES, .limits = limits, .out = out};
    naive_read(&n, rd_over(p, len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t message_limits[] = {100, 5000, 1 << 20, RTMP_MESSAGE_BYTES_MAX};
    static const uint32_t stream_limits[] = {2, 6, 16, STREAMS_MAX};
    if (size < OPTION_BYTES)
        return 0;
    struct bench b = {.random = data[0]};
    const uint32_t message_bytes = message_limits[data[1] & 3];
    b.limits = (struct rtmp_chunk_limits){.message_bytes = message_bytes,
                                          .unfinished_bytes = message_bytes + message_bytes / 2,
                                          .chunk_streams = stream_limits[data[1] >> 2 & 3]};
    block_pool_init(&b.blocks, 0);
    rtmp_pool_init(&b.pool, &b.blocks);
    rtmp_chunk_writer_init(&b.writer, &b.pool);
    const uint8_t *stream = data + OPTION_BYTES;
    const size_t len = size - OPTION_BYTES;

    struct records naive = {0}, real = {0}, again = {0};
    naive_run(&b.limits, stream, len, &naive);
    real_read(&b, stream, len, data[0], &real, true);
    compare(&naive, &real, true);

    /* what the writer makes of them is one message after the other: no limit is met on the way back
     */
    size_t wire_len = 0;
    uint8_t *wire = writer_drain(&b, &wire_len);
    b.limits.chunk_streams = STREAMS_MAX;
    real_read(&b, wire, wire_len, data[0] ? 4000 : 0, &again, false);
    again.why = real.why;
    compare(&real, &again, false);

    free(wire);
    records_free(&naive);
    records_free(&real);
    records_free(&again);
    rtmp_chunk_writer_deinit(&b.writer);
    check(b.pool.live == 0 && b.blocks.live_bytes == 0);
    rtmp_pool_deinit(&b.pool);
    block_pool_deinit(&b.blocks);
    return 0;
}
