#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/pending.h"

enum { COUNT = 1000 };

static void keeps_order_and_references(void **state)
{
    (void)state;
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct pending p = {0};
    uint64_t payload = 0;
    block_pool_init(&blocks, 0);
    rtmp_pool_init(&pool, &blocks);
    for (uint32_t i = 0; i < COUNT; i++) {
        static const uint8_t zeros[COUNT];
        struct rtmp_msg *m = rtmp_msg_from_bytes(&pool, RTMP_VIDEO, 1, i, zeros, i % 50);
        assert_non_null(m);
        assert_int_equal(pending_push(&p, m), ERR_OK);
        assert_int_equal(m->refs, 2);
        rtmp_msg_unref(m);
        payload += i % 50;
    }
    assert_int_equal(p.count, COUNT);
    assert_true(p.bytes > payload); /* a flood of empty messages has a weight too */
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(p.items[i]->timestamp, i);
    pending_clear(&p);
    assert_int_equal(pool.live, 0);
    assert_int_equal(p.count + p.bytes, 0);
    pending_clear(&p); /* of an empty one */

    struct rtmp_msg *m = rtmp_msg_create(&pool, RTMP_AUDIO, 1, 0); /* in use again */
    assert_non_null(m);
    assert_int_equal(pending_push(&p, m), ERR_OK);
    rtmp_msg_unref(m);
    assert_int_equal(p.count, 1);
    pending_clear(&p);
    rtmp_pool_deinit(&pool);
    block_pool_deinit(&blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_order_and_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
