#include "base/run_clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void it_is_the_monotonic_clock_while_the_loop_runs(void **state)
{
    (void)state;
    struct run_clock c = {.step_ms = 100};
    for (uint64_t ms = 5000; ms < 65000; ms += 50)
        assert_int_equal(run_clock_ms(&c, ms), ms);
    assert_int_equal(run_clock_ms(&c, 65050), 65050);
    assert_int_equal(run_clock_ms(&c, 65050), 65050); /* twice in a turn */
    assert_int_equal(run_clock_ms(&c, 65150), 65150); /* the longest step */
    assert_int_equal(run_clock_lost_ms(&c), 0);
}

static void it_stands_still_with_the_loop(void **state)
{
    (void)state;
    struct run_clock c = {.step_ms = 100};
    assert_int_equal(run_clock_ms(&c, 1000), 1000);
    assert_int_equal(run_clock_ms(&c, 11000), 1100);
    assert_int_equal(run_clock_lost_ms(&c), 9900);
    assert_int_equal(run_clock_ms(&c, 11050), 1150);
    assert_int_equal(run_clock_lost_ms(&c), 9900);
    assert_int_equal(run_clock_ms(&c, 14050), 1250);
    assert_int_equal(run_clock_lost_ms(&c), 12800);
}

/* Limits hold also where the loop never turns in time. */
static void it_goes_on_where_every_turn_is_late(void **state)
{
    (void)state;
    struct run_clock c = {.step_ms = 100};
    uint64_t ms = 0;
    for (int turn = 0; turn <= 100; turn++)
        ms = run_clock_ms(&c, 1000 + 400 * (uint64_t)turn);
    assert_int_equal(ms, 1000 + 100 * 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_the_monotonic_clock_while_the_loop_runs),
        cmocka_unit_test(it_stands_still_with_the_loop),
        cmocka_unit_test(it_goes_on_where_every_turn_is_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
