#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/block.h"
#include "base/limits.h"

static void capacities_are_rounded_up(void **state)
{
    (void)state;
    static const struct {
        uint32_t asked, given;
    } rows[] = {
        {0, 128},
        {1, 128},
        {128, 128},
        {129, 256},
        {4096, 4096},
        {BLOCK_BYTES - 1, BLOCK_BYTES},
        {BLOCK_BYTES, BLOCK_BYTES},
        {BLOCK_BYTES + 1, BLOCK_BYTES + 1},
        {1000000, 1000000},
    };
    struct block_pool pool;
    block_pool_init(&pool, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct block *b = block_create(&pool, rows[i].asked);
        assert_non_null(b);
        assert_int_equal(b->cap, rows[i].given);
        assert_int_equal(b->used, 0);
        assert_int_equal(b->refs, 1);
        assert_int_equal(pool.live_bytes, rows[i].given);
        memset(b->data, 0xa5, b->cap);
        block_unref(b);
        assert_int_equal(pool.live_bytes, 0);
    }
    block_pool_deinit(&pool);
}

static void freed_blocks_are_used_again(void **state)
{
    (void)state;
    struct block_pool pool;
    block_pool_init(&pool, 0);
    struct block *first = block_create(&pool, BLOCK_BYTES);
    assert_non_null(first);
    first->used = 10;
    block_unref(first);
    struct block *small = block_create(&pool, 1000);
    assert_ptr_not_equal(small, first);
    struct block *again = block_create(&pool, BLOCK_BYTES);
    assert_ptr_equal(again, first);
    assert_int_equal(again->used, 0);
    block_unref(small);
    block_unref(again);
    block_pool_deinit(&pool);
}

static void check_kept(uint32_t cap, uint32_t class, uint32_t kept)
{
    struct block_pool pool;
    struct block *blocks[BLOCK_POOL_KEEP + 10];
    const uint32_t count = sizeof blocks / sizeof blocks[0];
    block_pool_init(&pool, 0);
    for (size_t i = 0; i < count; i++) {
        blocks[i] = block_create(&pool, cap);
        assert_non_null(blocks[i]);
    }
    for (size_t i = 0; i < count; i++)
        block_unref(blocks[i]);
    assert_int_equal(pool.free_count[class], kept);
    block_pool_deinit(&pool);
    assert_int_equal(pool.free_count[class], 0);
    assert_null(pool.free[class]);
}

static void no_more_than_the_bound_is_kept(void **state)
{
    (void)state;
    check_kept(BLOCK_BYTES, BLOCK_CLASSES - 1, BLOCK_POOL_KEEP_BYTES / BLOCK_BYTES);
    check_kept(BLOCK_BYTES / 4, BLOCK_CLASSES - 3, 4 * BLOCK_POOL_KEEP_BYTES / BLOCK_BYTES);
    check_kept(128, 0, BLOCK_POOL_KEEP);
}

static void who_has_many_keeps_a_share_of_them(void **state)
{
    (void)state;
    enum { MANY = 4096, CLASS = BLOCK_CLASSES - 3 };
    static struct block *blocks[MANY];
    struct block_pool pool;
    block_pool_init(&pool, 0);
    for (size_t i = 0; i < MANY; i++) {
        blocks[i] = block_create(&pool, BLOCK_BYTES / 4);
        assert_non_null(blocks[i]);
    }
    for (size_t i = 0; i < MANY; i++) {
        const uint32_t live = (uint32_t)(MANY - i - 1);
        const uint32_t least = 4 * BLOCK_POOL_KEEP_BYTES / BLOCK_BYTES;
        const uint32_t share = live / BLOCK_POOL_SHARE;
        block_unref(blocks[i]);
        assert_int_equal(pool.live_count[CLASS], live);
        const uint32_t most = share > least ? share : least;
        assert_int_equal(pool.free_count[CLASS], i + 1 < most ? i + 1 : most);
    }
    block_pool_deinit(&pool);
}

static void last_reference_frees(void **state)
{
    (void)state;
    struct block_pool pool;
    block_pool_init(&pool, 0);
    struct block *b = block_create(&pool, 300);
    assert_ptr_equal(block_ref(b), b);
    assert_int_equal(b->refs, 2);
    block_unref(b);
    assert_int_equal(pool.live_bytes, 512);
    block_unref(b);
    assert_int_equal(pool.live_bytes, 0);
    block_unref(NULL);
    block_pool_deinit(&pool);
}

static void the_bound_counts_whole_blocks(void **state)
{
    (void)state;
    struct block_pool pool;
    block_pool_init(&pool, 1024);
    assert_null(block_create(&pool, 1025));
    assert_null(block_create(&pool, UINT32_MAX));
    struct block *a = block_create(&pool, 400);
    struct block *b = block_create(&pool, 512);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(block_create(&pool, 1));
    block_unref(a);
    struct block *c = block_create(&pool, 1);
    assert_non_null(c);
    block_unref(b);
    block_unref(c);
    block_pool_deinit(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(capacities_are_rounded_up),
        cmocka_unit_test(freed_blocks_are_used_again),
        cmocka_unit_test(no_more_than_the_bound_is_kept),
        cmocka_unit_test(who_has_many_keeps_a_share_of_them),
        cmocka_unit_test(last_reference_frees),
        cmocka_unit_test(the_bound_counts_whole_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
