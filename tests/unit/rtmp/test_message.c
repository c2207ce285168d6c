#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"
#include "rtmp/message.h"
#include "tests/unit/rtmp/chunk_wire.h"

struct pools {
    struct block_pool blocks;
    struct rtmp_pool messages;
};

static void pools_init(struct pools *p, uint64_t max_bytes)
{
    block_pool_init(&p->blocks, max_bytes);
    rtmp_pool_init(&p->messages, &p->blocks);
}

static void pools_deinit(struct pools *p)
{
    assert_int_equal(p->messages.live, 0);
    assert_int_equal(p->blocks.live_bytes, 0);
    rtmp_pool_deinit(&p->messages);
    block_pool_deinit(&p->blocks);
}

/* A message of `count` slices of 10 bytes each, 5 bytes apart, so that none continues the one
 * before. */
static struct rtmp_msg *sliced(struct pools *p, uint32_t count, uint8_t *expected)
{
    struct rtmp_msg *m = rtmp_msg_create(&p->messages, RTMP_VIDEO, 1, 40);
    struct block *b = block_create(&p->blocks, count * 15);
    assert_non_null(m);
    assert_non_null(b);
    for (uint32_t i = 0; i < count * 15; i++)
        b->data[i] = pattern(7, i);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(rtmp_msg_append(m, b, i * 15, 10), ERR_OK);
        memcpy(expected + (size_t)i * 10, b->data + (size_t)i * 15, 10);
    }
    block_unref(b);
    assert_int_equal(m->slice_count, count);
    assert_int_equal(m->len, count * 10);
    return m;
}

static void copy_every_range(void **state)
{
    (void)state;
    enum { COUNT = 7, LEN = COUNT * 10 };
    struct pools p;
    uint8_t expected[LEN], got[LEN + 5];
    pools_init(&p, 0);
    struct rtmp_msg *m = sliced(&p, COUNT, expected);
    for (uint32_t off = 0; off <= LEN + 1; off++) {
        for (uint32_t n = 0; n <= LEN + 2; n++) {
            const uint32_t left = off < LEN ? LEN - off : 0;
            const uint32_t want = n < left ? n : left;
            memset(got, 0, sizeof got);
            assert_int_equal(rtmp_msg_copy(m, off, got, n), want);
            assert_memory_equal(got, expected + (off < LEN ? off : 0), want);
        }
    }
    assert_int_equal(rtmp_msg_peek(m, got, 3), 3);
    assert_memory_equal(got, expected, 3);
    rtmp_msg_unref(m);
    pools_deinit(&p);
}

static void parts_are_shared_not_copied(void **state)
{
    (void)state;
    enum { COUNT = 6, LEN = COUNT * 10 };
    struct pools p;
    uint8_t expected[LEN], got[LEN];
    pools_init(&p, 0);
    struct rtmp_msg *m = sliced(&p, COUNT, expected);
    const uint64_t live = p.blocks.live_bytes;
    m->csid = 9;
    for (uint32_t skip = 0; skip <= LEN + 3; skip++) {
        struct rtmp_msg *s = rtmp_msg_share(m, RTMP_AUDIO, 5, 77, skip);
        const uint32_t off = skip < LEN ? skip : LEN;
        assert_non_null(s);
        assert_int_equal(s->type, RTMP_AUDIO);
        assert_int_equal(s->msid, 5);
        assert_int_equal(s->timestamp, 77);
        assert_int_equal(s->csid, 9);
        assert_int_equal(s->len, LEN - off);
        assert_int_equal(rtmp_msg_copy(s, 0, got, LEN), LEN - off);
        assert_memory_equal(got, expected + off, LEN - off);
        assert_int_equal(p.blocks.live_bytes, live);
        rtmp_msg_unref(s);
    }
    for (uint32_t off = 0; off <= LEN; off++) {
        for (uint32_t n = 0; n <= LEN - off; n++) {
            struct rtmp_msg *part = rtmp_msg_create(&p.messages, RTMP_AUDIO, 0, 0);
            assert_int_equal(rtmp_msg_append_part(part, m, off, n), ERR_OK);
            assert_int_equal(rtmp_msg_copy(part, 0, got, LEN), n);
            assert_memory_equal(got, expected + off, n);
            rtmp_msg_unref(part);
        }
    }
    rtmp_msg_unref(m);
    pools_deinit(&p);
}

static void flatten_gives_one_piece(void **state)
{
    (void)state;
    struct pools p;
    pools_init(&p, 0);
    for (uint32_t count = 0; count < 12; count++) {
        uint8_t expected[120];
        struct rtmp_msg *m = sliced(&p, count, expected);
        const uint8_t *data = NULL;
        assert_int_equal(rtmp_msg_flatten(m, &data), ERR_OK);
        assert_non_null(data);
        assert_memory_equal(data, expected, m->len);
        assert_int_equal(m->slice_count, count ? 1 : 0);
        const uint8_t *again = NULL;
        assert_int_equal(rtmp_msg_flatten(m, &again), ERR_OK);
        assert_ptr_equal(again, data);
        rtmp_msg_unref(m);
    }
    pools_deinit(&p);
}

static void adjacent_slices_join(void **state)
{
    (void)state;
    struct pools p;
    pools_init(&p, 0);
    struct rtmp_msg *m = rtmp_msg_create(&p.messages, RTMP_VIDEO, 1, 0);
    struct block *b = block_create(&p.blocks, 1000);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(rtmp_msg_append(m, b, i * 10, 10), ERR_OK);
    assert_int_equal(m->slice_count, 1);
    assert_int_equal(m->len, 1000);
    assert_int_equal(b->refs, 2);
    assert_int_equal(rtmp_msg_append(m, b, 0, 0), ERR_OK);
    assert_int_equal(m->slice_count, 1);
    block_unref(b);
    rtmp_msg_unref(m);
    pools_deinit(&p);
}

static void messages_are_used_again(void **state)
{
    (void)state;
    struct pools p;
    uint8_t bytes[300];
    pools_init(&p, 0);
    struct rtmp_msg *m = sliced(&p, 30, bytes);
    const struct slice *array = m->slices;
    rtmp_msg_unref(m);
    assert_int_equal(p.messages.free_count, 1);
    struct rtmp_msg *again = rtmp_msg_from_bytes(&p.messages, RTMP_AUDIO, 3, 4, "abc", 3);
    assert_ptr_equal(again, m);
    assert_ptr_equal(again->slices, array);
    assert_int_equal(again->len, 3);
    assert_int_equal(again->refs, 1);
    assert_int_equal(again->csid, 0);
    assert_ptr_equal(rtmp_msg_ref(again), again);
    rtmp_msg_unref(again);
    assert_int_equal(p.messages.live, 1);
    rtmp_msg_unref(again);
    rtmp_msg_unref(NULL);
    uint8_t many[1000];
    m = sliced(&p, 100, many);
    rtmp_msg_unref(m);
    assert_int_equal(p.messages.free_count, 0); /* its array was too large to keep */
    pools_deinit(&p);
}

static void bounds_give_clean_errors(void **state)
{
    (void)state;
    struct pools p;
    pools_init(&p, 256);
    uint8_t bytes[300] = {0};
    assert_null(rtmp_msg_from_bytes(&p.messages, RTMP_AUDIO, 1, 0, bytes, sizeof bytes));
    assert_null(rtmp_msg_from_bytes(&p.messages, RTMP_AUDIO, 1, 0, bytes,
                                    (size_t)RTMP_MESSAGE_BYTES_MAX + 1));
    struct rtmp_msg *empty = rtmp_msg_from_bytes(&p.messages, RTMP_AUDIO, 1, 0, NULL, 0);
    assert_non_null(empty);
    assert_int_equal(empty->len, 0);
    rtmp_msg_unref(empty);
    /* two slices of one full block: there is no room for a flat copy */
    struct rtmp_msg *m = rtmp_msg_create(&p.messages, RTMP_AUDIO, 1, 0);
    struct block *b = block_create(&p.blocks, 256);
    assert_int_equal(rtmp_msg_append(m, b, 100, 100), ERR_OK);
    assert_int_equal(rtmp_msg_append(m, b, 0, 100), ERR_OK);
    block_unref(b);
    const uint8_t *data = NULL;
    assert_int_equal(rtmp_msg_flatten(m, &data), ERR_NO_MEMORY);
    assert_null(data);
    assert_int_equal(m->slice_count, 2);
    m->len = RTMP_MESSAGE_BYTES_MAX - 5;
    assert_int_equal(rtmp_msg_append(m, b, 0, 6), ERR_LIMIT);
    m->len = 200;
    rtmp_msg_unref(m);
    pools_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copy_every_range),        cmocka_unit_test(parts_are_shared_not_copied),
        cmocka_unit_test(flatten_gives_one_piece), cmocka_unit_test(adjacent_slices_join),
        cmocka_unit_test(messages_are_used_again), cmocka_unit_test(bounds_give_clean_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
