#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"
#include "rtmp/chunk_reader.h"
#include "rtmp/chunk_writer.h"
#include "tests/unit/rtmp/chunk_wire.h"

enum { WIRE_MAX = 4 << 20, SENT_MAX = 64 };

struct sent {
    uint32_t msid, timestamp, len, seed;
    uint8_t type;
};

struct bench {
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct rtmp_chunk_limits limits;
    struct rtmp_chunk_writer writer;
    struct sent sent[SENT_MAX];
    uint32_t count;
    uint32_t random;
};

static uint8_t wire[WIRE_MAX];

static void bench_init(struct bench *b)
{
    *b = (struct bench){.random = 12345};
    block_pool_init(&b->blocks, 0);
    rtmp_pool_init(&b->pool, &b->blocks);
    b->limits = (struct rtmp_chunk_limits){.message_bytes = RTMP_MESSAGE_BYTES_MAX,
                                           .unfinished_bytes = RTMP_MESSAGE_BYTES_MAX,
                                           .chunk_streams = 64};
    rtmp_chunk_writer_init(&b->writer, &b->pool);
}

static void bench_deinit(struct bench *b)
{
    rtmp_chunk_writer_deinit(&b->writer);
    assert_int_equal(b->pool.live, 0);
    assert_int_equal(b->blocks.live_bytes, 0);
    rtmp_pool_deinit(&b->pool);
    block_pool_deinit(&b->blocks);
}

static uint32_t random_below(struct bench *b, uint32_t n)
{
    b->random = b->random * 1664525u + 1013904223u;
    return (b->random >> 8) % n;
}

/* A message whose payload lies in slices of up to `piece` bytes that do not continue each other. */
static struct rtmp_msg *message_of(struct bench *b, uint8_t type, uint32_t len, uint32_t seed,
                                   uint32_t piece)
{
    struct rtmp_msg *m = rtmp_msg_create(&b->pool, type, 99, 99);
    uint32_t n = 0;
    for (uint32_t off = 0; off < len; off += n) {
        n = len - off < piece ? len - off : piece;
        struct block *block = block_create(&b->blocks, n);
        for (uint32_t i = 0; i < n; i++)
            block->data[i] = pattern(seed, off + i);
        assert_int_equal(rtmp_msg_append(m, block, 0, n), ERR_OK);
        block_unref(block);
    }
    return m;
}

static void push(struct bench *b, uint8_t type, uint32_t msid, uint32_t time, uint32_t len,
                 uint32_t piece)
{
    const uint32_t seed = b->count + 1;
    struct rtmp_msg *m = message_of(b, type, len, seed, piece);
    assert_true(b->count < SENT_MAX);
    assert_int_equal(rtmp_chunk_writer_push(&b->writer, m, msid, time), ERR_OK);
    rtmp_msg_unref(m);
    b->sent[b->count++] = (struct sent){msid, time, len, seed, type};
}

static void push_chunk_size(struct bench *b, uint32_t bytes)
{
    const uint8_t be[4] = {(uint8_t)(bytes >> 24), (uint8_t)(bytes >> 16), (uint8_t)(bytes >> 8),
                           (uint8_t)bytes};
    struct rtmp_msg *m = rtmp_msg_from_bytes(&b->pool, RTMP_SET_CHUNK_SIZE, 0, 0, be, 4);
    assert_int_equal(rtmp_chunk_writer_push(&b->writer, m, 0, 0), ERR_OK);
    rtmp_msg_unref(m);
    b->sent[b->count++] = (struct sent){.len = 4, .type = RTMP_SET_CHUNK_SIZE};
}

/* Takes up to `bytes` off the queue, in iovecs of at most max pieces. Returns how many came. */
static size_t take(struct bench *b, uint8_t *to, size_t bytes, size_t max, size_t max_bytes)
{
    struct iovec iov[IOV_BATCH];
    size_t done = 0;
    while (done < bytes && !rtmp_chunk_writer_empty(&b->writer)) {
        const size_t n = rtmp_chunk_writer_iov(&b->writer, iov, max, max_bytes);
        assert_in_range(n, 1, max);
        size_t got = 0;
        for (size_t i = 0; i < n && done + got < bytes; i++) {
            const size_t left = bytes - done - got;
            const size_t part = iov[i].iov_len < left ? iov[i].iov_len : left;
            assert_true(iov[i].iov_len > 0);
            memcpy(to + done + got, iov[i].iov_base, part);
            got += part;
        }
        rtmp_chunk_writer_advance(&b->writer, got);
        done += got;
    }
    return done;
}

/* What a reader makes of the wire; checks every message against sent[]. */
static void read_back(struct bench *b, const uint8_t *p, size_t len, uint32_t first, uint32_t count)
{
    struct rtmp_chunk_reader reader;
    struct slice in = exact_slice(&b->blocks, p, (uint32_t)len);
    struct block *block = in.block;
    struct rtmp_msg *m = NULL;
    rtmp_chunk_reader_init(&reader, &b->pool, &b->limits);
    for (uint32_t i = first; i < first + count; i++) {
        const struct sent *s = &b->sent[i];
        assert_int_equal(rtmp_chunk_reader_next(&reader, &in, &m), PARSE_OK);
        assert_int_equal(m->type, s->type);
        assert_int_equal(m->msid, s->msid);
        assert_int_equal(m->timestamp, s->timestamp);
        assert_int_equal(m->len, s->len);
        const uint8_t *data = NULL;
        assert_int_equal(rtmp_msg_flatten(m, &data), ERR_OK);
        for (uint32_t k = 0; s->type != RTMP_SET_CHUNK_SIZE && k < s->len; k++)
            assert_int_equal(data[k], pattern(s->seed, k));
        rtmp_msg_unref(m);
    }
    assert_int_equal(rtmp_chunk_reader_next(&reader, &in, &m), PARSE_NEED_MORE);
    assert_true(rtmp_chunk_reader_idle(&reader));
    rtmp_chunk_reader_deinit(&reader);
    block_unref(block);
}

/* The headers as bytes: which fmt is chosen when. Payloads are one byte long but where the length
 * changes. */
static const struct {
    const char *name;
    struct sent sent[4];
    uint32_t count;
    const char *bytes; /* with 'P' for payload bytes */
    size_t len;
} forms[] = {
#define WIRE(s) (s), sizeof(s) - 1
    {"first is fmt 0",
     {{1, 40, 1, 0, RTMP_VIDEO}},
     1,
     WIRE("\x06\x00\x00\x28\x00\x00\x01\x09\x01\x00\x00\x00P")},
    {"same length and type: fmt 2",
     {{1, 40, 1, 0, RTMP_VIDEO}, {1, 80, 1, 0, RTMP_VIDEO}},
     2,
     WIRE("\x06\x00\x00\x28\x00\x00\x01\x09\x01\x00\x00\x00P\x86\x00\x00\x28P")},
    {"never fmt 3",
     {{1, 0, 1, 0, RTMP_AUDIO}, {1, 0, 1, 0, RTMP_AUDIO}},
     2,
     WIRE("\x04\x00\x00\x00\x00\x00\x01\x08\x01\x00\x00\x00P\x84\x00\x00\x00P")},
    {"another length: fmt 1",
     {{1, 40, 1, 0, RTMP_AUDIO}, {1, 41, 2, 0, RTMP_AUDIO}},
     2,
     WIRE("\x04\x00\x00\x28\x00\x00\x01\x08\x01\x00\x00\x00P\x44\x00\x00\x01\x00\x00\x02\x08PP")},
    {"another type: fmt 1",
     {{0, 0, 1, 0, RTMP_ACK}, {0, 0, 1, 0, RTMP_USER_CONTROL}},
     2,
     WIRE("\x02\x00\x00\x00\x00\x00\x01\x03\x00\x00\x00\x00P\x42\x00\x00\x00\x00\x00\x01\x04P")},
    {"another message stream: fmt 0",
     {{1, 40, 1, 0, RTMP_AUDIO}, {2, 40, 1, 0, RTMP_AUDIO}},
     2,
     WIRE("\x04\x00\x00\x28\x00\x00\x01\x08\x01\x00\x00\x00P"
          "\x04\x00\x00\x28\x00\x00\x01\x08\x02\x00\x00\x00P")},
    {"time goes back: fmt 0",
     {{1, 40, 1, 0, RTMP_AUDIO}, {1, 39, 1, 0, RTMP_AUDIO}},
     2,
     WIRE("\x04\x00\x00\x28\x00\x00\x01\x08\x01\x00\x00\x00P"
          "\x04\x00\x00\x27\x00\x00\x01\x08\x01\x00\x00\x00P")},
    {"time wraps: fmt 0",
     {{1, 0xffffffff, 1, 0, RTMP_AUDIO}, {1, 1, 1, 0, RTMP_AUDIO}},
     2,
     WIRE("\x04\xff\xff\xff\x00\x00\x01\x08\x01\x00\x00\x00\xff\xff\xff\xffP"
          "\x04\x00\x00\x01\x00\x00\x01\x08\x01\x00\x00\x00P")},
    {"largest delta",
     {{1, 0, 1, 0, RTMP_AUDIO}, {1, 0xfffffe, 1, 0, RTMP_AUDIO}},
     2,
     WIRE("\x04\x00\x00\x00\x00\x00\x01\x08\x01\x00\x00\x00P\x84\xff\xff\xfeP")},
    {"longer jump: fmt 0",
     {{1, 0, 1, 0, RTMP_AUDIO}, {1, 0xffffff, 1, 0, RTMP_AUDIO}},
     2,
     WIRE("\x04\x00\x00\x00\x00\x00\x01\x08\x01\x00\x00\x00P"
          "\x04\xff\xff\xff\x00\x00\x01\x08\x01\x00\x00\x00\x00\xff\xff\xffP")},
    {"csid by type",
     {{0, 0, 0, 0, RTMP_COMMAND_AMF0}, {0, 0, 0, 0, RTMP_DATA_AMF0}, {0, 0, 0, 0, 32}},
     3,
     WIRE("\x03\x00\x00\x00\x00\x00\x00\x14\x00\x00\x00\x00"
          "\x05\x00\x00\x00\x00\x00\x00\x12\x00\x00\x00\x00"
          "\x07\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00\x00")},
#undef WIRE
};

static void headers_take_the_right_form(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof forms / sizeof forms[0]; c++) {
        struct bench b;
        bench_init(&b);
        for (uint32_t i = 0; i < forms[c].count; i++) {
            const struct sent *s = &forms[c].sent[i];
            struct rtmp_msg *m = rtmp_msg_from_bytes(&b.pool, s->type, 77, 77, "PPPP", s->len);
            assert_int_equal(rtmp_chunk_writer_push(&b.writer, m, s->msid, s->timestamp), ERR_OK);
            rtmp_msg_unref(m);
        }
        const size_t n = take(&b, wire, sizeof wire, IOV_BATCH, sizeof wire);
        if (n != forms[c].len || memcmp(wire, forms[c].bytes, n) != 0)
            fail_msg("%s: other bytes", forms[c].name);
        bench_deinit(&b);
    }
}

static void extended_timestamp_is_repeated(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    push(&b, RTMP_VIDEO, 1, 0x1000000, 257, 1000);
    push(&b, RTMP_VIDEO, 1, 0x1000001, 129, 1000);
    const size_t n = take(&b, wire, sizeof wire, IOV_BATCH, sizeof wire);
    assert_int_equal(n, 16 + 257 + 2 * 5 + 8 + 129 + 1);
    assert_memory_equal(wire + 16 + 128, "\xc6\x01\x00\x00\x00", 5);
    assert_memory_equal(wire + 16 + 128 + 5 + 128, "\xc6\x01\x00\x00\x00", 5);
    assert_memory_equal(wire + n - 2, "\xc6", 1); /* a plain delta has none */
    read_back(&b, wire, n, 0, b.count);
    bench_deinit(&b);
}

static void push_random_set(struct bench *b)
{
    static const uint8_t types[] = {RTMP_AUDIO,        RTMP_VIDEO, RTMP_DATA_AMF0,
                                    RTMP_COMMAND_AMF0, 19,         RTMP_USER_CONTROL};
    static const uint32_t bases[] = {0, 0xfffffe, 0xffffff, 0x1000000, 0xfffffff0};
    uint32_t time = bases[random_below(b, 5)];
    for (uint32_t i = 0; i < 20; i++) {
        if (random_below(b, 8) == 0)
            time = bases[random_below(b, 5)];
        time += random_below(b, 50);
        const uint32_t len = random_below(b, 3) ? random_below(b, 400) : random_below(b, 140000);
        push(b, types[random_below(b, sizeof types)], random_below(b, 4) ? 1 : 2, time, len,
             1 + random_below(b, 9000));
    }
}

static void round_trip_every_chunk_size(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1,    2,    3,     127,   128,   129,
                                     1000, 4096, 60000, 65535, 65536, 0xffffff};
    for (size_t c = 0; c < sizeof sizes / sizeof sizes[0]; c++) {
        struct bench b;
        bench_init(&b);
        b.random = (uint32_t)c;
        push_chunk_size(&b, sizes[c]);
        assert_int_equal(b.writer.chunk_bytes, sizes[c]);
        assert_int_equal(b.writer.wire_chunk_bytes, RTMP_DEFAULT_CHUNK_BYTES);
        push_random_set(&b);
        const size_t n = take(&b, wire, sizeof wire, IOV_BATCH, 65536);
        assert_true(n < sizeof wire);
        assert_int_equal(b.writer.queued_bytes, 0);
        read_back(&b, wire, n, 0, b.count);
        bench_deinit(&b);
    }
}

/* Chunk sizes change between messages that wait together. */
static void chunk_size_holds_for_what_follows(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    push(&b, RTMP_VIDEO, 1, 0, 300, 77);
    push_chunk_size(&b, 1000);
    push(&b, RTMP_VIDEO, 1, 1, 3000, 77);
    push_chunk_size(&b, 50);
    push(&b, RTMP_VIDEO, 1, 2, 301, 77);
    const size_t n = take(&b, wire, sizeof wire, 5, 100);
    read_back(&b, wire, n, 0, b.count);
    static const char *const bad[] = {"\0\0\0\0", "\x80\0\0\1"};
    for (size_t i = 0; i < 2; i++) {
        struct rtmp_msg *m = rtmp_msg_from_bytes(&b.pool, RTMP_SET_CHUNK_SIZE, 0, 0, bad[i], 4);
        assert_int_equal(rtmp_chunk_writer_push(&b.writer, m, 0, 0), ERR_INVALID);
        rtmp_msg_unref(m);
    }
    assert_true(rtmp_chunk_writer_empty(&b.writer));
    bench_deinit(&b);
}

static void push_small_set(struct bench *b)
{
    assert_int_equal(rtmp_chunk_writer_push_raw(&b->writer, "handshake", 9), ERR_OK);
    push(b, RTMP_COMMAND_AMF0, 0, 0, 10, 4);
    push(b, RTMP_VIDEO, 1, 0xfffffff0, 300, 50);
    push(b, RTMP_AUDIO, 1, 3, 0, 1);
    push_chunk_size(b, 20);
    push(b, RTMP_VIDEO, 1, 5, 75, 7);
    push(b, RTMP_VIDEO, 1, 5, 20, 20);
}

/* Any number of pieces, any bound, and sends that stop at any byte give the same wire. */
static void partial_sends_change_nothing(void **state)
{
    (void)state;
    static uint8_t whole[2048], parts[2048];
    struct bench b;
    bench_init(&b);
    push_small_set(&b);
    const size_t n = take(&b, whole, sizeof whole, IOV_BATCH, 1 << 20);
    assert_memory_equal(whole, "handshake", 9);
    read_back(&b, whole + 9, n - 9, 0, b.count);
    bench_deinit(&b);
    for (size_t step = 1; step < 60; step++) {
        for (size_t max = 1; max < 6; max += 2) {
            bench_init(&b);
            push_small_set(&b);
            size_t done = 0;
            uint64_t queued = b.writer.queued_bytes;
            assert_int_equal(queued, 9 + 10 + 300 + 0 + 4 + 75 + 20);
            while (!rtmp_chunk_writer_empty(&b.writer)) {
                const size_t got = take(&b, parts + done, step, max, step);
                assert_true(queued - b.writer.queued_bytes <= got);
                queued = b.writer.queued_bytes;
                done += got;
            }
            assert_int_equal(queued, 0);
            assert_int_equal(done, n);
            assert_memory_equal(parts, whole, n);
            bench_deinit(&b);
        }
    }
}

static void iov_stops_at_its_bounds(void **state)
{
    (void)state;
    struct iovec iov[8];
    struct bench b;
    bench_init(&b);
    assert_int_equal(rtmp_chunk_writer_iov(&b.writer, iov, 8, 100), 0);
    push(&b, RTMP_VIDEO, 1, 0, 500, 500);
    assert_int_equal(rtmp_chunk_writer_iov(&b.writer, iov, 0, 100), 0);
    assert_int_equal(rtmp_chunk_writer_iov(&b.writer, iov, 8, 1), 1);
    assert_int_equal(rtmp_chunk_writer_iov(&b.writer, iov, 8, 12), 1);
    assert_int_equal(rtmp_chunk_writer_iov(&b.writer, iov, 8, 13), 2);
    assert_int_equal(rtmp_chunk_writer_iov(&b.writer, iov, 3, 1000), 3);
    assert_int_equal(rtmp_chunk_writer_iov(&b.writer, iov, 8, 1000), 8);
    bench_deinit(&b);
}

/* After n bytes have left: what has begun stays whole, the rest is gone, and what is pushed then
 * can be read. */
static void dropping_leaves_a_valid_stream(void **state)
{
    (void)state;
    static uint8_t bytes[4096];
    for (size_t sent = 0; sent < 420; sent++) {
        for (size_t ahead = 0; ahead < 2; ahead++) {
            struct bench b;
            bench_init(&b);
            push(&b, RTMP_VIDEO, 1, 40, 150, 11);
            push_chunk_size(&b, 64);
            push(&b, RTMP_VIDEO, 1, 80, 200, 11);
            push(&b, RTMP_AUDIO, 1, 81, 20, 11);
            size_t n = take(&b, bytes, sent, 4, 64);
            if (ahead) { /* headers that were made and did not leave */
                struct iovec iov[IOV_BATCH];
                assert_true(rtmp_chunk_writer_iov(&b.writer, iov, IOV_BATCH, 100000) <= IOV_BATCH);
            }
            const uint32_t waiting = b.writer.count;
            const uint32_t kept = b.writer.head_sent > 0 ? 1 : 0;
            assert_int_equal(rtmp_chunk_writer_drop_unsent(&b.writer), waiting - kept);
            assert_int_equal(b.writer.count, kept);
            if (!kept)
                assert_int_equal(b.writer.queued_bytes, 0);
            b.count -= waiting - kept;
            push(&b, RTMP_VIDEO, 1, 100, 150, 40);
            push_chunk_size(&b, 300);
            push(&b, RTMP_VIDEO, 1, 101, 310, 40);
            push(&b, RTMP_AUDIO, 1, 101, 20, 40);
            n += take(&b, bytes + n, sizeof bytes - n, 7, 1000);
            read_back(&b, bytes, n, 0, b.count);
            bench_deinit(&b);
        }
    }
}

static void one_message_waits_in_many_queues(void **state)
{
    (void)state;
    struct bench b;
    struct rtmp_chunk_writer other;
    bench_init(&b);
    rtmp_chunk_writer_init(&other, &b.pool);
    struct rtmp_msg *m = message_of(&b, RTMP_VIDEO, 1000, 1, 300);
    assert_int_equal(rtmp_chunk_writer_push(&b.writer, m, 1, 5), ERR_OK);
    assert_int_equal(rtmp_chunk_writer_push(&other, m, 7, 9), ERR_OK);
    assert_int_equal(m->refs, 3);
    assert_int_equal(rtmp_chunk_writer_drop_unsent(&other), 1);
    assert_int_equal(m->refs, 2);
    rtmp_chunk_writer_deinit(&other);
    rtmp_msg_unref(m);
    b.sent[b.count++] = (struct sent){1, 5, 1000, 1, RTMP_VIDEO};
    const size_t n = take(&b, wire, sizeof wire, 3, 1000);
    read_back(&b, wire, n, 0, 1);
    bench_deinit(&b);
}

static void a_large_ring_is_given_back(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    for (uint32_t i = 0; i < 1000; i++) {
        struct rtmp_msg *m = rtmp_msg_from_bytes(&b.pool, RTMP_AUDIO, 0, 0, "x", 1);
        assert_int_equal(rtmp_chunk_writer_push(&b.writer, m, 1, i), ERR_OK);
        rtmp_msg_unref(m);
    }
    assert_true(b.writer.ring_cap >= 1000);
    assert_int_equal(take(&b, wire, sizeof wire, IOV_BATCH, 1 << 16), 13 + 999 * 5);
    assert_int_equal(b.writer.ring_cap, 0);
    bench_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_take_the_right_form),
        cmocka_unit_test(extended_timestamp_is_repeated),
        cmocka_unit_test(round_trip_every_chunk_size),
        cmocka_unit_test(chunk_size_holds_for_what_follows),
        cmocka_unit_test(partial_sends_change_nothing),
        cmocka_unit_test(iov_stops_at_its_bounds),
        cmocka_unit_test(dropping_leaves_a_valid_stream),
        cmocka_unit_test(one_message_waits_in_many_queues),
        cmocka_unit_test(a_large_ring_is_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
