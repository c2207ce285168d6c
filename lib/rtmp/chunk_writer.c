/* rtmp/chunk_writer.c - see chunk_writer.h.
 * On the wire an entry is its header, then payload in chunks with the same continuation header
 * between any two: so any wire offset can be turned into a place in the payload, and a send may
 * stop at any byte. */
#include "rtmp/chunk_writer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/rd.h"
#include "base/wr.h"

enum {
    RING_FIRST = 8,
    RING_KEEP = 128,         /* entries; a larger ring is given back when it is empty */
    EXTENDED = 0xffffff,     /* a timestamp field that says: four more bytes hold it */
    HEADER_MAX = 1 + 11 + 4, /* csids are below 64: one byte of basic header */
    CONTINUATION_MAX = 1 + 4,
};

struct rtmp_out_entry {
    struct rtmp_msg *msg;
    uint32_t msid, timestamp;
    uint32_t chunk_bytes; /* in force for this entry; from here on: once begun */
    bool raw;             /* no chunks: goes out as it is */
    bool begun;           /* its header is made, and counted on by the headers after it */
    uint8_t header_len, continuation_len;
    uint8_t header[HEADER_MAX];
    uint8_t continuation[CONTINUATION_MAX];
};

struct header_plan {
    uint8_t fmt, csid;
    uint32_t field;
};

void rtmp_chunk_writer_init(struct rtmp_chunk_writer *w, struct rtmp_pool *pool)
{
    *w = (struct rtmp_chunk_writer){.pool = pool,
                                    .chunk_bytes = RTMP_DEFAULT_CHUNK_BYTES,
                                    .wire_chunk_bytes = RTMP_DEFAULT_CHUNK_BYTES};
}

static struct rtmp_out_entry *entry_at(const struct rtmp_chunk_writer *w, uint32_t i)
{
    return &w->ring[(w->head + i) & (w->ring_cap - 1)];
}

void rtmp_chunk_writer_deinit(struct rtmp_chunk_writer *w)
{
    for (uint32_t i = 0; i < w->count; i++)
        rtmp_msg_unref(entry_at(w, i)->msg);
    free(w->ring);
    w->ring = NULL;
    w->ring_cap = w->head = w->count = 0;
    w->head_sent = w->queued_bytes = 0;
}

static enum err ring_grow(struct rtmp_chunk_writer *w)
{
    const uint32_t cap = w->ring_cap ? w->ring_cap * 2 : RING_FIRST;
    struct rtmp_out_entry *grown = malloc(cap * sizeof *grown);
    if (!grown)
        return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < w->count; i++)
        grown[i] = *entry_at(w, i);
    free(w->ring);
    w->ring = grown;
    w->ring_cap = cap;
    w->head = 0;
    return ERR_OK;
}

static enum err entry_push(struct rtmp_chunk_writer *w, struct rtmp_out_entry entry)
{
    if (w->count == w->ring_cap && ring_grow(w) != ERR_OK)
        return ERR_NO_MEMORY;
    rtmp_msg_ref(entry.msg);
    *entry_at(w, w->count++) = entry;
    w->queued_bytes += entry.msg->len;
    return ERR_OK;
}

/* The value of a Set Chunk Size message, section 5.4.1; 0: not a valid one. */
static uint32_t chunk_size_of(const struct rtmp_msg *m)
{
    uint8_t wire[4];
    struct rd rd = rd_over(wire, rtmp_msg_peek(m, wire, sizeof wire));
    const uint32_t bytes = rd_u32be(&rd);
    if (bytes & 0x80000000u)
        return 0;
    return bytes < RTMP_CHUNK_BYTES_MAX ? bytes : RTMP_CHUNK_BYTES_MAX;
}

enum err rtmp_chunk_writer_push(struct rtmp_chunk_writer *w, struct rtmp_msg *m, uint32_t msid,
                                uint32_t timestamp)
{
    const bool resizes = m->type == RTMP_SET_CHUNK_SIZE;
    if (resizes && chunk_size_of(m) == 0)
        return ERR_INVALID;
    const enum err e =
        entry_push(w, (struct rtmp_out_entry){.msg = m, .msid = msid, .timestamp = timestamp});
    if (e == ERR_OK && resizes)
        w->chunk_bytes = chunk_size_of(m);
    return e;
}

enum err rtmp_chunk_writer_push_raw(struct rtmp_chunk_writer *w, const void *buf, size_t len)
{
    if (len == 0)
        return ERR_OK;
    struct rtmp_msg *m = rtmp_msg_from_bytes(w->pool, 0, 0, 0, buf, len);
    if (!m)
        return ERR_NO_MEMORY;
    const enum err e = entry_push(w, (struct rtmp_out_entry){.msg = m, .raw = true});
    rtmp_msg_unref(m);
    return e;
}

static uint8_t csid_for(uint8_t type)
{
    switch (type) {
    case RTMP_SET_CHUNK_SIZE:
    case RTMP_ABORT:
    case RTMP_ACK:
    case RTMP_USER_CONTROL:
    case RTMP_WINDOW_ACK_SIZE:
    case RTMP_SET_PEER_BANDWIDTH:
        return 2;
    case RTMP_COMMAND_AMF0:
    case RTMP_COMMAND_AMF3:
        return 3;
    case RTMP_AUDIO:
        return 4;
    case RTMP_DATA_AMF0:
    case RTMP_DATA_AMF3:
        return 5;
    case RTMP_VIDEO:
        return 6;
    default: /* whatever else a peer sent */
        return 7;
    }
}

static struct rtmp_writer_csid *csid_memory(struct rtmp_chunk_writer *w, uint8_t csid)
{
    return &w->csids[csid - 2];
}

static struct header_plan header_plan(struct rtmp_chunk_writer *w, const struct rtmp_out_entry *e)
{
    const uint8_t csid = csid_for(e->msg->type);
    const struct rtmp_writer_csid *last = csid_memory(w, csid);
    const bool delta_fits = last->used && last->msid == e->msid &&
                            e->timestamp >= last->timestamp &&
                            e->timestamp - last->timestamp < EXTENDED;
    if (!delta_fits)
        return (struct header_plan){.fmt = 0, .csid = csid, .field = e->timestamp};
    const bool same_form = last->len == e->msg->len && last->type == e->msg->type;
    return (struct header_plan){
        .fmt = same_form ? 2 : 1, .csid = csid, .field = e->timestamp - last->timestamp};
}

static void header_write(struct rtmp_out_entry *e, struct header_plan plan)
{
    const bool extended = plan.field >= EXTENDED;
    struct wr h = wr_over(e->header, sizeof e->header);
    wr_u8(&h, (uint32_t)plan.fmt << 6 | plan.csid);
    wr_u24be(&h, extended ? EXTENDED : plan.field);
    if (plan.fmt <= 1) {
        wr_u24be(&h, e->msg->len);
        wr_u8(&h, e->msg->type);
    }
    if (plan.fmt == 0)
        wr_u32le(&h, e->msid);
    struct wr c = wr_over(e->continuation, sizeof e->continuation);
    wr_u8(&c, 3u << 6 | plan.csid);
    if (extended) {
        wr_u32be(&h, plan.field);
        wr_u32be(&c, plan.field);
    }
    assert(!h.full && !c.full);
    e->header_len = (uint8_t)h.len;
    e->continuation_len = (uint8_t)c.len;
}

static void entry_begin(struct rtmp_chunk_writer *w, struct rtmp_out_entry *e)
{
    e->begun = true;
    e->chunk_bytes = w->wire_chunk_bytes;
    if (e->raw)
        return;
    const struct header_plan plan = header_plan(w, e);
    header_write(e, plan);
    *csid_memory(w, plan.csid) = (struct rtmp_writer_csid){.timestamp = e->timestamp,
                                                           .len = e->msg->len,
                                                           .msid = e->msid,
                                                           .type = e->msg->type,
                                                           .used = true};
    if (e->msg->type == RTMP_SET_CHUNK_SIZE)
        w->wire_chunk_bytes = chunk_size_of(e->msg);
}

/* How much payload lies before a wire offset, and what the offset points at. */
struct place {
    uint32_t payload;
    bool in_continuation;
    uint32_t skip; /* bytes of the header or continuation before the offset */
};

static struct place place_at(const struct rtmp_out_entry *e, uint64_t wire)
{
    if (e->raw)
        return (struct place){.payload = (uint32_t)wire};
    if (wire < e->header_len)
        return (struct place){.skip = (uint32_t)wire};
    const uint64_t behind_header = wire - e->header_len;
    const uint64_t unit = (uint64_t)e->chunk_bytes + e->continuation_len;
    const uint64_t chunks = behind_header / unit;
    const uint64_t rest = behind_header % unit;
    if (rest < e->chunk_bytes)
        return (struct place){.payload = (uint32_t)(chunks * e->chunk_bytes + rest)};
    return (struct place){.payload = (uint32_t)((chunks + 1) * e->chunk_bytes),
                          .in_continuation = true,
                          .skip = (uint32_t)(rest - e->chunk_bytes)};
}

static uint64_t entry_wire_bytes(const struct rtmp_out_entry *e)
{
    const uint32_t len = e->msg->len;
    if (e->raw)
        return len;
    const uint32_t continuations = len == 0 ? 0 : (len - 1) / e->chunk_bytes;
    return (uint64_t)e->header_len + len + (uint64_t)continuations * e->continuation_len;
}

struct iov_list {
    struct iovec *iov;
    size_t count, max;
    size_t bytes, max_bytes;
};

static bool iov_add(struct iov_list *l, const uint8_t *p, size_t n)
{
    l->iov[l->count++] = (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = n};
    l->bytes += n;
    return l->count < l->max && l->bytes < l->max_bytes;
}

/* Adds the entry's pieces from a wire offset on. False: the list is full. */
static bool entry_add(const struct rtmp_out_entry *e, uint64_t wire, struct iov_list *l)
{
    const struct rtmp_msg *m = e->msg;
    const struct place start = place_at(e, wire);
    if (!e->raw && wire < e->header_len &&
        !iov_add(l, e->header + start.skip, e->header_len - start.skip))
        return false;
    uint32_t done = start.payload;
    uint32_t chunk_left = e->raw ? m->len : e->chunk_bytes - done % e->chunk_bytes;
    if (start.in_continuation &&
        !iov_add(l, e->continuation + start.skip, e->continuation_len - start.skip))
        return false;
    uint32_t i = 0, off = done;
    while (i < m->slice_count && off >= m->slices[i].len)
        off -= m->slices[i++].len;
    while (done < m->len) {
        if (chunk_left == 0) {
            chunk_left = e->chunk_bytes;
            if (!iov_add(l, e->continuation, e->continuation_len))
                return false;
        }
        const struct slice *s = &m->slices[i];
        const uint32_t n = s->len - off < chunk_left ? s->len - off : chunk_left;
        if (!iov_add(l, slice_data(s) + off, n))
            return false;
        done += n;
        off += n;
        chunk_left -= n;
        if (off == s->len) {
            off = 0;
            i++;
        }
    }
    return true;
}

size_t rtmp_chunk_writer_iov(struct rtmp_chunk_writer *w, struct iovec *iov, size_t max,
                             size_t max_bytes)
{
    struct iov_list l = {.iov = iov, .max = max, .max_bytes = max_bytes};
    bool more = max > 0;
    for (uint32_t i = 0; i < w->count && more; i++) {
        struct rtmp_out_entry *e = entry_at(w, i);
        if (!e->begun)
            entry_begin(w, e);
        more = entry_add(e, i == 0 ? w->head_sent : 0, &l);
    }
    return l.count;
}

static void ring_shrink(struct rtmp_chunk_writer *w)
{
    if (w->count > 0 || w->ring_cap <= RING_KEEP)
        return;
    free(w->ring);
    w->ring = NULL;
    w->ring_cap = w->head = 0;
}

void rtmp_chunk_writer_advance(struct rtmp_chunk_writer *w, size_t n)
{
    while (n > 0) {
        assert(w->count > 0);
        struct rtmp_out_entry *e = entry_at(w, 0);
        assert(e->begun);
        const uint64_t left = entry_wire_bytes(e) - w->head_sent;
        const uint32_t before = place_at(e, w->head_sent).payload;
        if (n < left) {
            w->head_sent += n;
            w->queued_bytes -= place_at(e, w->head_sent).payload - before;
            return;
        }
        n -= (size_t)left;
        w->queued_bytes -= e->msg->len - before;
        rtmp_msg_unref(e->msg);
        w->head = (w->head + 1) & (w->ring_cap - 1);
        w->count--;
        w->head_sent = 0;
    }
    if (w->count == 0)
        w->head = 0; /* one cache line that is warm, not each in turn */
    ring_shrink(w);
}

uint32_t rtmp_chunk_writer_drop_unsent(struct rtmp_chunk_writer *w)
{
    const uint32_t keep = w->head_sent > 0 ? 1 : 0;
    uint32_t dropped = 0;
    bool chunk_size_restored = false;
    for (uint32_t i = keep; i < w->count; i++) {
        const struct rtmp_out_entry *e = entry_at(w, i);
        /* the peer will not see this header: what it changed is undone, and its csid starts over in
         * fmt 0 */
        if (e->begun && !chunk_size_restored) {
            w->wire_chunk_bytes = e->chunk_bytes;
            chunk_size_restored = true;
        }
        if (e->begun && !e->raw)
            csid_memory(w, csid_for(e->msg->type))->used = false;
        w->queued_bytes -= e->msg->len;
        dropped += e->raw ? 0 : 1;
        rtmp_msg_unref(e->msg);
    }
    if (keep < w->count)
        w->count = keep;
    w->chunk_bytes = w->wire_chunk_bytes;
    ring_shrink(w);
    return dropped;
}
