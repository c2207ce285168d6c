#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/rest.h"

enum { POLL_US = 50000, COALESCE_US = 500 };

/* A load, by what a poll's time brings. */
struct load {
    uint32_t events;
    uint32_t sleeps_free, sleeps_resting;
};

static const struct load publishers = {370, 300, 90}, players = {730, 45, 63}, few = {150, 140, 80};

static uint64_t now_us, sleeps;

/* Returns how many of the polls' times were rested in. */
static int run(struct rest *r, const struct load *l, int polls)
{
    int rested = 0;
    for (int i = 0; i < polls; i++) {
        now_us += POLL_US;
        sleeps += r->us > 0 ? l->sleeps_resting : l->sleeps_free;
        rest_decide(r, now_us, sleeps, l->events, COALESCE_US);
        rested += r->us > 0;
    }
    return rested;
}

static void who_is_quiet_does_not_rest(void **state)
{
    (void)state;
    struct rest r = {0};
    assert_int_equal(run(&r, &few, 200), 0);
    rest_decide(&r, now_us, sleeps, 0, COALESCE_US); /* no time has passed either */
    assert_int_equal(r.us, 0);
}

static void what_comes_one_by_one_is_waited_for(void **state)
{
    (void)state;
    struct rest r = {0};
    assert_in_range(run(&r, &publishers, 400), 385, 392);
    assert_int_equal(r.us, COALESCE_US);
}

static void what_comes_in_bursts_is_not(void **state)
{
    (void)state;
    struct rest r = {0};
    assert_in_range(run(&r, &players, 400), 8, 12); /* to see whether it would pay */
}

static void a_load_that_changes_is_noticed(void **state)
{
    (void)state;
    struct rest r = {0};
    run(&r, &publishers, 100);
    run(&r, &players, 100);
    assert_in_range(run(&r, &players, 100), 1, 4);
    run(&r, &few, 100);
    run(&r, &publishers, 100);
    assert_in_range(run(&r, &publishers, 100), 96, 99);
    assert_int_equal(run(&r, &few, 100), 0);
}

static void the_more_comes_the_shorter_it_is(void **state)
{
    (void)state;
    static const struct {
        uint32_t events;
        uint64_t us;
    } rows[] = {{199, 0}, {200, 500}, {400, 500}, {800, 250}, {4000, 50}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rest r = {0};
        const struct load l = {rows[i].events, rows[i].events, 1};
        now_us = sleeps = 0;
        run(&r, &l, 10);
        assert_int_equal(r.us, rows[i].us);
    }
}

static void without_coalesce_there_is_none(void **state)
{
    (void)state;
    struct rest r = {0};
    for (int i = 1; i < 100; i++) {
        rest_decide(&r, (uint64_t)i * POLL_US, (uint64_t)i * 1000, 1000, 0);
        assert_int_equal(r.us, 0);
    }
}

static void far_off_timers_wake_together(void **state)
{
    (void)state;
    static const struct {
        uint64_t at_ms, now_ms, wake_ms;
    } rows[] = {
        {0, 1000, 0}, /* long over */
        {1003, 1000, 1003},
        {1499, 1000, 1499},
        {1500, 1000, 1500},
        {1501, 1000, 1510},
        {1509, 1000, 1510},
        {31003, 1007, 31010},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(rest_wake_ms(rows[i].at_ms, rows[i].now_ms), rows[i].wake_ms);
    int wakes = 0; /* of sessions that are due at each millisecond of a second */
    for (uint64_t at = 30000, last = 0; at < 31000; at++) {
        const uint64_t wake = rest_wake_ms(at, 0);
        assert_in_range(wake, at, at + 9);
        wakes += wake != last;
        last = wake;
    }
    assert_int_equal(wakes, 101);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_quiet_does_not_rest),
        cmocka_unit_test(what_comes_one_by_one_is_waited_for),
        cmocka_unit_test(what_comes_in_bursts_is_not),
        cmocka_unit_test(a_load_that_changes_is_noticed),
        cmocka_unit_test(the_more_comes_the_shorter_it_is),
        cmocka_unit_test(without_coalesce_there_is_none),
        cmocka_unit_test(far_off_timers_wake_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
