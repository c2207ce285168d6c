#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"
#include "rtmp/aggregate.h"
#include "tests/unit/rtmp/chunk_wire.h"

struct tag {
    uint8_t type;
    uint32_t size, time;
};

static void put_tag(struct wr *w, struct tag t, uint32_t seed, bool previous_size)
{
    wr_u8(w, t.type);
    wr_u24be(w, t.size);
    wr_u24be(w, t.time & 0xffffff);
    wr_u8(w, t.time >> 24);
    wr_u24be(w, 0);
    put_pattern(w, seed, 0, t.size);
    if (previous_size)
        wr_u32be(w, t.size + 11);
}

/* The aggregate in slices of `piece` bytes that do not continue each other. */
static struct rtmp_msg *aggregate_of(struct rtmp_pool *pool, const struct wr *w, uint32_t time,
                                     uint32_t piece)
{
    struct rtmp_msg *m = rtmp_msg_create(pool, RTMP_AGGREGATE, 1, time);
    for (uint32_t off = 0; off < w->len; off += piece) {
        const uint32_t n = w->len - off < piece ? (uint32_t)w->len - off : piece;
        struct slice s = exact_slice(pool->blocks, w->p + off, n);
        assert_int_equal(rtmp_msg_append(m, s.block, 0, n), ERR_OK);
        block_unref(s.block);
    }
    m->csid = 8;
    return m;
}

static const struct {
    const char *name;
    uint32_t outer;
    struct tag tags[4];
    uint32_t expected[4];
    uint32_t count;
} cases[] = {
    {"one", 500, {{RTMP_VIDEO, 20, 90}}, {500}, 1},
    {"times are relative to the first tag",
     1000,
     {{RTMP_AUDIO, 10, 100}, {RTMP_VIDEO, 30, 123}, {RTMP_DATA_AMF0, 1, 140}},
     {1000, 1023, 1040},
     3},
    {"an empty tag", 1, {{RTMP_AUDIO, 0, 7}, {RTMP_AUDIO, 3, 7}}, {1, 1}, 2},
    {"extended tag time", 0, {{RTMP_VIDEO, 5, 0xfffff0}, {RTMP_VIDEO, 5, 0x1000010}}, {0, 32}, 2},
    {"time wraps", 0xfffffff0, {{RTMP_VIDEO, 5, 0}, {RTMP_VIDEO, 5, 32}}, {0xfffffff0, 16}, 2},
    {"time goes back", 100, {{RTMP_VIDEO, 5, 50}, {RTMP_AUDIO, 5, 40}}, {100, 90}, 2},
};

static void tags_come_out(void **state)
{
    (void)state;
    struct block_pool blocks;
    struct rtmp_pool pool;
    block_pool_init(&blocks, 0);
    rtmp_pool_init(&pool, &blocks);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        for (uint32_t piece = 1; piece < 80; piece++) {
            const bool last_size = piece & 1;
            uint8_t bytes[256];
            struct wr w = wr_over(bytes, sizeof bytes);
            for (uint32_t i = 0; i < cases[c].count; i++)
                put_tag(&w, cases[c].tags[i], i, last_size || i + 1 < cases[c].count);
            struct rtmp_msg *m = aggregate_of(&pool, &w, cases[c].outer, piece);
            struct rtmp_aggregate walk = {.msg = m};
            const uint64_t live = blocks.live_bytes;
            for (uint32_t i = 0; i < cases[c].count; i++) {
                struct rtmp_msg *inner = NULL;
                uint8_t got[64];
                assert_int_equal(rtmp_aggregate_next(&walk, &inner), PARSE_OK);
                assert_int_equal(inner->type, cases[c].tags[i].type);
                assert_int_equal(inner->len, cases[c].tags[i].size);
                assert_int_equal(inner->timestamp, cases[c].expected[i]);
                assert_int_equal(inner->msid, 1);
                assert_int_equal(inner->csid, 8);
                rtmp_msg_peek(inner, got, sizeof got);
                for (uint32_t k = 0; k < inner->len; k++)
                    assert_int_equal(got[k], pattern(i, k));
                rtmp_msg_unref(inner);
            }
            struct rtmp_msg *none = NULL;
            assert_int_equal(rtmp_aggregate_next(&walk, &none), PARSE_NEED_MORE);
            assert_int_equal(blocks.live_bytes, live);
            rtmp_msg_unref(m);
        }
    }
    rtmp_pool_deinit(&pool);
    block_pool_deinit(&blocks);
}

static void broken_tags_are_bad(void **state)
{
    (void)state;
    struct block_pool blocks;
    struct rtmp_pool pool;
    uint8_t bytes[64];
    block_pool_init(&blocks, 0);
    rtmp_pool_init(&pool, &blocks);
    /* cut inside the only tag, at every byte */
    struct wr w = wr_over(bytes, sizeof bytes);
    put_tag(&w, (struct tag){RTMP_VIDEO, 20, 0}, 1, false);
    const size_t whole = w.len;
    for (w.len = 0; w.len <= whole; w.len++) {
        struct rtmp_msg *m = aggregate_of(&pool, &w, 0, 7);
        struct rtmp_aggregate walk = {.msg = m};
        struct rtmp_msg *inner = NULL;
        const enum parse_result want = w.len == 0       ? PARSE_NEED_MORE
                                       : w.len == whole ? PARSE_OK
                                                        : PARSE_BAD;
        assert_int_equal(rtmp_aggregate_next(&walk, &inner), want);
        rtmp_msg_unref(inner);
        rtmp_msg_unref(m);
    }
    w = wr_over(bytes, sizeof bytes);
    put_tag(&w, (struct tag){RTMP_AGGREGATE, 3, 0}, 1, true);
    struct rtmp_msg *nested = aggregate_of(&pool, &w, 0, 100);
    struct rtmp_aggregate walk = {.msg = nested};
    struct rtmp_msg *inner = NULL;
    assert_int_equal(rtmp_aggregate_next(&walk, &inner), PARSE_BAD);
    assert_null(inner);
    rtmp_msg_unref(nested);
    rtmp_pool_deinit(&pool);
    block_pool_deinit(&blocks);
}

static void tags_are_limited(void **state)
{
    (void)state;
    enum { COUNT = RTMP_AGGREGATE_TAGS_MAX + 1 };
    struct block_pool blocks;
    struct rtmp_pool pool;
    block_pool_init(&blocks, 0);
    rtmp_pool_init(&pool, &blocks);
    const size_t cap = (size_t)COUNT * 15;
    uint8_t *bytes = malloc(cap);
    assert_non_null(bytes);
    struct wr w = wr_over(bytes, cap);
    for (uint32_t i = 0; i < COUNT; i++)
        put_tag(&w, (struct tag){RTMP_AUDIO, 0, i}, i, true);
    struct rtmp_msg *m = aggregate_of(&pool, &w, 0, (uint32_t)cap);
    struct rtmp_aggregate walk = {.msg = m};
    struct rtmp_msg *inner = NULL;
    for (uint32_t i = 0; i < RTMP_AGGREGATE_TAGS_MAX; i++) {
        assert_int_equal(rtmp_aggregate_next(&walk, &inner), PARSE_OK);
        rtmp_msg_unref(inner);
    }
    assert_int_equal(rtmp_aggregate_next(&walk, &inner), PARSE_BAD);
    rtmp_msg_unref(m);
    free(bytes);
    rtmp_pool_deinit(&pool);
    block_pool_deinit(&blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_come_out),
        cmocka_unit_test(broken_tags_are_bad),
        cmocka_unit_test(tags_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
