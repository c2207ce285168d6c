/* tests/unit/router/wire.h - the bytes that a peer would send, made by a chunk writer of its own,
 * and input in allocations of exactly its size. */
#ifndef WEIR_TESTS_WIRE_H
#define WEIR_TESTS_WIRE_H

#include "base/wr.h"
#include "rtmp/command.h"
#include "rtmp/handshake.h"
#include "rtmp/link.h"
#include "tests/unit/rtmp/chunk_wire.h"

struct wire {
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct rtmp_chunk_writer out;
    uint8_t bytes[128 * 1024];
    size_t len;
};

static inline void wire_init(struct wire *w)
{
    block_pool_init(&w->blocks, 0);
    rtmp_pool_init(&w->pool, &w->blocks);
    rtmp_chunk_writer_init(&w->out, &w->pool);
    w->len = 0;
}

static inline void wire_deinit(struct wire *w)
{
    rtmp_chunk_writer_deinit(&w->out);
    rtmp_pool_deinit(&w->pool);
    block_pool_deinit(&w->blocks);
}

/* All that a writer has queued, behind buf[len]; returns the new length. */
static inline size_t wire_drain(struct rtmp_chunk_writer *out, uint8_t *buf, size_t len, size_t cap)
{
    struct iovec iov[8];
    size_t n;
    while ((n = rtmp_chunk_writer_iov(out, iov, 8, cap)) > 0) {
        size_t done = 0;
        for (size_t i = 0; i < n; i++) {
            assert_true(iov[i].iov_len <= cap - len);
            memcpy(buf + len, iov[i].iov_base, iov[i].iov_len);
            len += iov[i].iov_len;
            done += iov[i].iov_len;
        }
        rtmp_chunk_writer_advance(out, done);
    }
    return len;
}

static inline void wire_raw(struct wire *w, const void *buf, size_t len)
{
    assert_true(len <= sizeof w->bytes - w->len);
    memcpy(w->bytes + w->len, buf, len);
    w->len += len;
}

static inline void wire_message(struct wire *w, uint8_t type, uint32_t msid, uint32_t time_ms,
                                const void *payload, size_t len)
{
    struct rtmp_msg *m = rtmp_msg_from_bytes(&w->pool, type, msid, time_ms, payload, len);
    assert_non_null(m);
    assert_int_equal(rtmp_chunk_writer_push(&w->out, m, msid, time_ms), ERR_OK);
    rtmp_msg_unref(m);
    w->len = wire_drain(&w->out, w->bytes, w->len, sizeof w->bytes);
}

static inline void wire_command(struct wire *w, uint32_t msid, const struct wr *command)
{
    assert_false(command->full);
    wire_message(w, RTMP_COMMAND_AMF0, msid, 0, command->p, command->len);
}

/* createStream and the like: no arguments */
static inline void wire_call(struct wire *w, uint32_t msid, const char *name, double tr)
{
    uint8_t buf[256];
    struct wr command = wr_over(buf, sizeof buf);
    rtmp_write_call(&command, name, tr, (struct view){0});
    wire_command(w, msid, &command);
}

static inline uint64_t wire_hash(uint64_t h, const void *buf, size_t len)
{
    const uint8_t *p = buf;
    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static inline uint64_t wire_hash_message(uint64_t h, const struct rtmp_msg *m)
{
    const uint32_t head[] = {m->type, m->msid, m->timestamp, m->len};
    h = wire_hash(h, head, sizeof head);
    for (uint32_t i = 0; i < m->slice_count; i++)
        h = wire_hash(h, slice_data(&m->slices[i]), m->slices[i].len);
    return h;
}

#endif
