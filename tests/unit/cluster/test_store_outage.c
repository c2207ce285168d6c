#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/store_outage.h"

/* How often it is said that it failed, and that it recovered. */
struct said {
    unsigned failed, recovered;
};

static void call(struct store_outage *o, bool works, uint64_t now_ms, struct said *said)
{
    if (works)
        said->recovered += store_outage_worked(o, now_ms);
    else
        said->failed += store_outage_failed(o, now_ms);
}

static void test_a_store_that_works_is_not_mentioned(void **state)
{
    (void)state;
    struct store_outage o = {0};
    struct said said = {0};
    for (uint64_t now = 0; now < 100000; now += 10)
        call(&o, true, now, &said);
    assert_int_equal(said.failed + said.recovered, 0);
}

/* Once a second a write is refused; reads and other writes are not. */
static void test_some_writes_fail(void **state)
{
    (void)state;
    struct store_outage o = {0};
    struct said said = {0};
    for (uint64_t now = 0; now < 60000; now += 10)
        call(&o, now % 1000 != 0, now, &said);
    assert_int_equal(said.failed, 1);
    assert_int_equal(said.recovered, 0);
    for (uint64_t now = 60000; now < 120000; now += 10)
        call(&o, true, now, &said);
    assert_int_equal(said.failed, 1);
    assert_int_equal(said.recovered, 1);
}

static void test_when_it_is_over(void **state)
{
    (void)state;
    struct store_outage o = {0};
    struct said said = {0};
    call(&o, false, 5, &said);
    call(&o, true, 5 + STORE_QUIET_MS - 1, &said);
    assert_int_equal(said.recovered, 0);
    call(&o, false, 5 + 10 * STORE_QUIET_MS, &said); /* the next call after the one that failed */
    call(&o, true, 6 + 10 * STORE_QUIET_MS, &said);
    assert_int_equal(said.failed, 1);
    assert_int_equal(said.recovered, 0);
    call(&o, true, 5 + 11 * STORE_QUIET_MS, &said);
    assert_int_equal(said.recovered, 1);
    call(&o, false, 5 + 11 * STORE_QUIET_MS, &said); /* another one */
    assert_int_equal(said.failed, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_store_that_works_is_not_mentioned),
        cmocka_unit_test(test_some_writes_fail),
        cmocka_unit_test(test_when_it_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
