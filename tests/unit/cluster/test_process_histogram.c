#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/process_histogram.h"

static void test_bounds_grow(void **state)
{
    (void)state;
    for (unsigned i = 1; i < PROCESS_HISTOGRAM_BUCKETS; i++) {
        assert_true(process_histogram_bounds_us[i] > process_histogram_bounds_us[i - 1]);
        assert_true(process_gap_bounds_us[i] > process_gap_bounds_us[i - 1]);
    }
}

static void test_add(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PROCESS_HISTOGRAM_BUCKETS; i++) {
        struct process_histogram h = {.count = 0};
        const uint64_t bound = process_histogram_bounds_us[i];
        process_histogram_add(&h, bound);
        process_histogram_add(&h, bound + 1);
        assert_int_equal(h.bucket[i], 1); /* the bound belongs to it */
        if (i + 1 < PROCESS_HISTOGRAM_BUCKETS)
            assert_int_equal(h.bucket[i + 1], 1);
        assert_int_equal(h.count, 2);
        assert_int_equal(h.sum_us, 2 * bound + 1);
    }
    struct process_histogram gaps = {.count = 0};
    process_histogram_add_gap(&gaps, process_gap_bounds_us[0]);
    process_histogram_add_gap(&gaps, 2500000); /* as after a node that was silent */
    assert_int_equal(gaps.bucket[0], 1);
    assert_int_equal(gaps.bucket[8], 1);
    struct process_histogram h = {.count = 0};
    process_histogram_add(&h, 0);
    process_histogram_add(&h, UINT32_MAX);
    assert_int_equal(h.bucket[0], 1);
    assert_int_equal(h.bucket[PROCESS_HISTOGRAM_BUCKETS - 1], 0); /* beyond all of them */
    assert_int_equal(h.count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds_grow),
        cmocka_unit_test(test_add),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
