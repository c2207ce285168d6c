#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/rd.h"
#include "rtmp/link.h"
#include "tests/unit/rtmp/chunk_wire.h"

struct bench { /* two links, what one sends the other reads */
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct rtmp_chunk_limits limits;
    struct rtmp_link a, b;
};

static uint8_t wire[1 << 20];

static void bench_init(struct bench *t)
{
    block_pool_init(&t->blocks, 0);
    rtmp_pool_init(&t->pool, &t->blocks);
    t->limits = (struct rtmp_chunk_limits){
        .message_bytes = 1 << 20, .unfinished_bytes = 1 << 20, .chunk_streams = 16};
    rtmp_link_init(&t->a, &t->pool, &t->limits);
    rtmp_link_init(&t->b, &t->pool, &t->limits);
}

static void bench_deinit(struct bench *t)
{
    rtmp_link_deinit(&t->a);
    rtmp_link_deinit(&t->b);
    assert_int_equal(t->pool.live, 0);
    assert_int_equal(t->blocks.live_bytes, 0);
    rtmp_pool_deinit(&t->pool);
    block_pool_deinit(&t->blocks);
}

static size_t drain(struct rtmp_link *from)
{
    struct iovec iov[IOV_BATCH];
    size_t len = 0, n = 0;
    while ((n = rtmp_chunk_writer_iov(&from->out, iov, IOV_BATCH, sizeof wire)) > 0) {
        size_t got = 0;
        for (size_t i = 0; i < n; i++) {
            memcpy(wire + len + got, iov[i].iov_base, iov[i].iov_len);
            got += iov[i].iov_len;
        }
        rtmp_chunk_writer_advance(&from->out, got);
        len += got;
    }
    return len;
}

/* Moves all that `from` has queued to `to`; returns the last message that came out, or NULL;
 * *count: how many did. */
static struct rtmp_msg *pass(struct bench *t, struct rtmp_link *from, struct rtmp_link *to,
                             uint32_t *count)
{
    const size_t len = drain(from);
    struct slice in = exact_slice(&t->blocks, wire, (uint32_t)len);
    struct block *block = in.block;
    struct rtmp_msg *m = NULL, *last = NULL;
    *count = 0;
    enum parse_result result;
    while ((result = rtmp_link_next(to, &in, &m)) == PARSE_OK) {
        rtmp_msg_unref(last);
        last = m;
        ++*count;
    }
    assert_int_equal(result, PARSE_NEED_MORE);
    block_unref(block);
    return last;
}

static void expect_nothing(struct bench *t, struct rtmp_link *from, struct rtmp_link *to)
{
    uint32_t count = 0;
    assert_null(pass(t, from, to, &count));
}

static void control_is_not_forwarded(void **state)
{
    (void)state;
    struct bench t;
    bench_init(&t);
    assert_int_equal(rtmp_link_send_chunk_size(&t.a, 4000), ERR_OK);
    assert_int_equal(rtmp_link_send_window(&t.a, 2500000), ERR_OK);
    assert_int_equal(rtmp_link_send_peer_bandwidth(&t.a, 2500000, 2), ERR_OK);
    assert_int_equal(rtmp_link_send_bytes(&t.a, RTMP_ACK, 0, "\0\0\0\1", 4), ERR_OK);
    assert_int_equal(rtmp_link_send_bytes(&t.a, RTMP_WINDOW_ACK_SIZE, 0, "\0", 1), ERR_OK);
    assert_int_equal(rtmp_link_send_bytes(&t.a, RTMP_USER_CONTROL, 0, "\0", 1), ERR_OK);
    assert_int_equal(rtmp_link_send_bytes(&t.a, RTMP_USER_CONTROL, 0, "\0\6\1\2\3", 5), ERR_OK);
    expect_nothing(&t, &t.a, &t.b);
    assert_int_equal(t.b.in.chunk_bytes, 4000);
    assert_int_equal(t.b.peer_window, 2500000);
    assert_true(rtmp_chunk_writer_empty(&t.b.out));
    bench_deinit(&t);
}

static void pings_are_answered(void **state)
{
    (void)state;
    struct bench t;
    bench_init(&t);
    assert_int_equal(rtmp_link_send_user(&t.a, RTMP_PING_REQUEST, 0x01020304, 0), ERR_OK);
    expect_nothing(&t, &t.a, &t.b);
    assert_int_equal(t.b.out.count, 1);
    const size_t len = drain(&t.b);
    assert_int_equal(len, 18);
    assert_memory_equal(wire, "\2\0\0\0\0\0\6\4\0\0\0\0\0\7\1\2\3\4", 18);
    bench_deinit(&t);
    bench_init(&t);
    for (uint32_t i = 1; i <= 3; i++) {
        assert_int_equal(rtmp_link_send_user(&t.a, RTMP_PING_REQUEST, i, 0), ERR_OK);
        expect_nothing(&t, &t.a, &t.b);
        expect_nothing(&t, &t.b, &t.a);
        assert_int_equal(t.a.pings_answered, i);
    }
    bench_deinit(&t);
}

static void a_ping_flood_fills_no_memory(void **state)
{
    (void)state;
    struct bench t;
    bench_init(&t);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 1000; i++)
            assert_int_equal(rtmp_link_send_user(&t.a, RTMP_PING_REQUEST, i, 0), ERR_OK);
        expect_nothing(&t, &t.a, &t.b);
        assert_int_equal(t.b.out.count, RTMP_PONGS_MAX);
        expect_nothing(&t, &t.b, &t.a);
        assert_int_equal(t.a.pings_answered, RTMP_PONGS_MAX * (round + 1));
    }
    bench_deinit(&t);
}

static void other_events_come_out(void **state)
{
    (void)state;
    struct bench t;
    uint32_t count = 0;
    uint8_t got[16];
    bench_init(&t);
    assert_int_equal(rtmp_link_send_user(&t.a, RTMP_SET_BUFFER_LENGTH, 1, 3000), ERR_OK);
    struct rtmp_msg *m = pass(&t, &t.a, &t.b, &count);
    assert_int_equal(count, 1);
    assert_int_equal(rtmp_msg_peek(m, got, sizeof got), 10);
    assert_memory_equal(got, "\0\3\0\0\0\1\0\0\x0b\xb8", 10);
    rtmp_msg_unref(m);
    assert_int_equal(rtmp_link_send_user(&t.a, RTMP_STREAM_EOF, 7, 3000), ERR_OK);
    m = pass(&t, &t.a, &t.b, &count);
    assert_int_equal(count, 1);
    assert_int_equal(m->len, 6);
    rtmp_msg_unref(m);
    bench_deinit(&t);
}

static void amf3_wrapping_is_taken_off(void **state)
{
    (void)state;
    static const struct {
        uint8_t sent, got;
    } rows[] = {{RTMP_COMMAND_AMF3, RTMP_COMMAND_AMF0},
                {RTMP_DATA_AMF3, RTMP_DATA_AMF0},
                {RTMP_COMMAND_AMF0, 0},
                {RTMP_SHARED_OBJECT_AMF3, 0},
                {RTMP_AUDIO, 0},
                {32, 0}};
    struct bench t;
    bench_init(&t);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t count = 0;
        uint8_t got[8];
        assert_int_equal(rtmp_link_send_bytes(&t.a, rows[i].sent, 3, "\0abc", 4), ERR_OK);
        struct rtmp_msg *m = pass(&t, &t.a, &t.b, &count);
        const bool unwrapped = rows[i].got != 0;
        assert_int_equal(count, 1);
        assert_int_equal(m->type, unwrapped ? rows[i].got : rows[i].sent);
        assert_int_equal(m->msid, 3);
        assert_true(m->csid >= 2);
        assert_int_equal(rtmp_msg_peek(m, got, sizeof got), unwrapped ? 3 : 4);
        assert_memory_equal(got, unwrapped ? "abc" : "\0abc", unwrapped ? 3 : 4);
        rtmp_msg_unref(m);
    }
    assert_int_equal(rtmp_link_send_bytes(&t.a, RTMP_COMMAND_AMF3, 0, NULL, 0), ERR_OK);
    assert_int_equal(rtmp_link_send_bytes(&t.a, RTMP_DATA_AMF3, 0, NULL, 0), ERR_OK);
    expect_nothing(&t, &t.a, &t.b);
    uint32_t count = 0;
    assert_int_equal(rtmp_link_send_bytes(&t.a, RTMP_AUDIO, 1, NULL, 0), ERR_OK);
    assert_int_equal(rtmp_link_send_bytes(&t.a, RTMP_VIDEO, 1, NULL, 0), ERR_OK);
    struct rtmp_msg *m = pass(&t, &t.a, &t.b, &count);
    assert_int_equal(count, 2);
    assert_int_equal(m->len, 0);
    rtmp_msg_unref(m);
    bench_deinit(&t);
}

static void aggregates_come_out_split(void **state)
{
    (void)state;
    uint8_t bytes[128];
    struct bench t;
    struct wr w = wr_over(bytes, sizeof bytes);
    static const uint8_t types[] = {RTMP_VIDEO, RTMP_DATA_AMF3, RTMP_WINDOW_ACK_SIZE, RTMP_AUDIO};
    for (uint32_t i = 0; i < sizeof types; i++) {
        wr_u8(&w, types[i]);
        wr_u24be(&w, 4);
        wr_u32be(&w, i << 8);
        wr_u24be(&w, 0);
        wr_u32be(&w, 70000);
        wr_u32be(&w, 15);
    }
    bench_init(&t);
    struct rtmp_msg *m = rtmp_msg_from_bytes(&t.pool, RTMP_AGGREGATE, 0, 0, bytes, w.len);
    assert_int_equal(rtmp_link_send(&t.a, m, 1, 1000), ERR_OK);
    rtmp_msg_unref(m);
    uint32_t count = 0;
    m = pass(&t, &t.a, &t.b, &count);
    assert_int_equal(count, 3);
    assert_int_equal(m->type, RTMP_AUDIO);
    assert_int_equal(m->timestamp, 1003);
    assert_int_equal(t.b.peer_window, 70000);
    rtmp_msg_unref(m);
    bench_deinit(&t);
}

static void a_broken_aggregate_ends_the_link(void **state)
{
    (void)state;
    struct bench t;
    bench_init(&t);
    assert_int_equal(rtmp_link_send_bytes(&t.a, RTMP_AGGREGATE, 1, "\x09\0\0\x20", 4), ERR_OK);
    struct slice in = exact_slice(&t.blocks, wire, (uint32_t)drain(&t.a));
    struct rtmp_msg *m = NULL;
    assert_int_equal(rtmp_link_next(&t.b, &in, &m), PARSE_BAD);
    assert_int_equal(t.b.in.why, RTMP_CHUNK_AGGREGATE);
    assert_int_equal(rtmp_link_next(&t.b, &in, &m), PARSE_BAD);
    block_unref(in.block);
    bench_deinit(&t);
}

static void link_may_end_inside_an_aggregate(void **state)
{
    (void)state;
    struct bench t;
    bench_init(&t);
    static const uint8_t tags[] = {8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11, /* twice */
                                   8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11};
    assert_int_equal(rtmp_link_send_bytes(&t.a, RTMP_AGGREGATE, 1, tags, sizeof tags), ERR_OK);
    struct slice in = exact_slice(&t.blocks, wire, (uint32_t)drain(&t.a));
    struct rtmp_msg *m = NULL;
    assert_int_equal(rtmp_link_next(&t.b, &in, &m), PARSE_OK);
    rtmp_msg_unref(m);
    block_unref(in.block);
    bench_deinit(&t);
}

/* Acknowledgements by window: how many come for how much, and what they say. */
static void bytes_are_acknowledged(void **state)
{
    (void)state;
    static const struct {
        uint32_t window, every; /* 0: never */
    } rows[] = {{0, 0}, {1, 65536}, {100000, 65536}, {200000, 100000}, {400000, 200000}};
    static uint8_t payload[10000];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench t;
        bench_init(&t);
        uint64_t acked = 0;
        assert_int_equal(rtmp_link_send_window(&t.a, rows[i].window), ERR_OK);
        for (uint32_t k = 0; k < 60; k++) {
            uint32_t count = 0;
            assert_int_equal(rtmp_link_send_bytes(&t.a, RTMP_VIDEO, 1, payload, sizeof payload),
                             ERR_OK);
            rtmp_msg_unref(pass(&t, &t.a, &t.b, &count));
            assert_int_equal(count, 1);
            const bool due = rows[i].every && t.b.bytes_in - acked >= rows[i].every;
            assert_int_equal(t.b.out.count, due ? 1 : 0);
            if (!due)
                continue;
            const size_t len = drain(&t.b);
            struct rd rd = rd_over(wire + len - 4, 4);
            assert_int_equal(rd_u32be(&rd), t.b.bytes_in);
            acked = t.b.bytes_in;
        }
        assert_true(rows[i].every == 0 || acked > 0);
        bench_deinit(&t);
    }
}

static void acknowledged_count_wraps(void **state)
{
    (void)state;
    struct bench t;
    bench_init(&t);
    t.b.peer_window = 1000000;
    t.b.bytes_in = 0x100000000u + 5;
    t.b.acked_in = t.b.bytes_in - 499999;
    assert_int_equal(rtmp_link_send_bytes(&t.a, RTMP_AUDIO, 1, "x", 1), ERR_OK);
    uint32_t count = 0;
    rtmp_msg_unref(pass(&t, &t.a, &t.b, &count));
    assert_int_equal(drain(&t.b), 16);
    assert_memory_equal(wire + 12, "\0\0\0\x12", 4); /* 5 and the 13 bytes of the audio message */
    bench_deinit(&t);
}

static void no_memory_for_an_answer_ends_the_link(void **state)
{
    (void)state;
    struct bench t;
    bench_init(&t);
    assert_int_equal(rtmp_link_send_user(&t.a, RTMP_PING_REQUEST, 1, 0), ERR_OK);
    struct slice in = exact_slice(&t.blocks, wire, (uint32_t)drain(&t.a));
    struct rtmp_msg *m = NULL;
    t.blocks.max_bytes = t.blocks.live_bytes;
    assert_int_equal(rtmp_link_next(&t.b, &in, &m), PARSE_BAD);
    assert_int_equal(t.b.in.why, RTMP_CHUNK_NO_MEMORY);
    assert_int_equal(rtmp_link_send_window(&t.a, 1), ERR_NO_MEMORY);
    block_unref(in.block);
    bench_deinit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_is_not_forwarded),
        cmocka_unit_test(pings_are_answered),
        cmocka_unit_test(a_ping_flood_fills_no_memory),
        cmocka_unit_test(other_events_come_out),
        cmocka_unit_test(amf3_wrapping_is_taken_off),
        cmocka_unit_test(aggregates_come_out_split),
        cmocka_unit_test(a_broken_aggregate_ends_the_link),
        cmocka_unit_test(link_may_end_inside_an_aggregate),
        cmocka_unit_test(bytes_are_acknowledged),
        cmocka_unit_test(acknowledged_count_wraps),
        cmocka_unit_test(no_memory_for_an_answer_ends_the_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
