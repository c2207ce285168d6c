#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "healthd/verdict.h"

static const uint64_t start = 1700000000000u;
static const struct config_healthd plain = {.rise = 2, .fall = 3};

/* One result a second: '+' good, '-' bad. After each what the verdict is: 'u' up, 'd' down, '?'
 * unknown. */
static const struct {
    const char *name;
    enum node_health before;
    const char *results, *verdicts;
} rows[] = {
    {"a new node earns its first stream", NODE_UNKNOWN, "+++", "?uu"},
    {"a new node that does not answer", NODE_UNKNOWN, "---", "??d"},
    {"unknown: results must be in a row", NODE_UNKNOWN, "+-+--+++", "??????uu"},
    {"two failures are forgiven", NODE_UP, "--+--+", "uuuuuu"},
    {"three are not", NODE_UP, "---", "uud"},
    {"one good answer is not enough", NODE_DOWN, "+-+-", "dddd"},
    {"two are", NODE_DOWN, "++", "du"},
    {"up and down again", NODE_UP, "---++---",
     "uuddu"
     "uud"},
};

static void test_rise_and_fall(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct verdict v;
        verdict_init(&v, rows[i].before, 0);
        for (size_t k = 0; rows[i].results[k]; k++) {
            const enum node_health was = v.health;
            const uint64_t now = start + k * 1000;
            const bool changed = verdict_step(&v, rows[i].results[k] == '+', &plain, now);
            const char shown = v.health == NODE_UP ? 'u' : v.health == NODE_DOWN ? 'd' : '?';
            if (shown != rows[i].verdicts[k])
                fail_msg("%s: result %zu gives %c", rows[i].name, k, shown);
            assert_int_equal(changed, was != v.health);
            if (changed)
                assert_int_equal(v.since_ms, now);
        }
    }
}

static bool step(struct verdict *v, bool good, const struct config_healthd *p, uint64_t now)
{
    return verdict_step(v, good, p, now);
}

static void test_balance(void **state)
{
    (void)state;
    struct verdict v;
    verdict_init(&v, NODE_UNKNOWN, 0);
    assert_true(verdict_in_balance(&v, start));
    verdict_init(&v, NODE_UP, start);
    assert_false(verdict_in_balance(&v, start));
    assert_false(step(&v, false, &plain, start));
    assert_true(verdict_in_balance(&v, start));
    assert_false(step(&v, true, &plain, start));
    assert_false(verdict_in_balance(&v, start));
    verdict_init(&v, NODE_DOWN, start);
    assert_false(verdict_in_balance(&v, start));
    assert_false(step(&v, true, &plain, start));
    assert_true(verdict_in_balance(&v, start));
    assert_int_equal(v.since_ms, start);
}

static const struct config_healthd flappy = {
    .rise = 1, .fall = 1, .flap_max = 5, .flap_window_ms = 60000, .flap_hold_ms = 30000};

static void test_flapping_node_is_held_down(void **state)
{
    (void)state;
    struct verdict v;
    uint64_t now = start;
    verdict_init(&v, NODE_UP, start);
    for (int i = 0; i < 5; i++, now += 1000) /* down, up, down, up, down: five */
        assert_true(step(&v, i % 2 == 1, &flappy, now));
    const uint64_t held = now - 1000 + 30000;
    assert_int_equal(v.held_until_ms, held);
    for (; now < held; now += 1000) {
        assert_false(step(&v, true, &flappy, now));
        assert_true(verdict_held(&v, now));
        assert_false(verdict_in_balance(&v, now)); /* no need to hurry */
        assert_int_equal(v.health, NODE_DOWN);
    }
    assert_false(verdict_held(&v, now - 7200000)); /* the clock is set back: not for hours */
    assert_true(step(&v, true, &flappy, now));
    assert_int_equal(v.health, NODE_UP);
    assert_false(verdict_held(&v, now));
    /* Still within the window: the next fall holds it again */
    assert_true(step(&v, false, &flappy, now + 1000));
    assert_true(verdict_held(&v, now + 1000));
}

static void test_slow_ups_and_downs_are_not_flapping(void **state)
{
    (void)state;
    struct verdict v;
    verdict_init(&v, NODE_UP, start);
    for (int i = 0; i < 40; i++) {
        assert_true(step(&v, i % 2 == 1, &flappy, start + (uint64_t)i * 20000));
        assert_int_equal(v.held_until_ms, 0);
    }
}

static void test_flap_max(void **state)
{
    (void)state;
    struct config_healthd p = flappy;
    struct verdict v;
    p.flap_max = 0; /* never */
    verdict_init(&v, NODE_UP, start);
    for (int i = 0; i < 200; i++)
        assert_true(step(&v, i % 2 == 1, &p, start + (uint64_t)i));
    p.flap_max = 1000; /* counts as many as are remembered */
    verdict_init(&v, NODE_UP, start);
    int changes = 0;
    while (!verdict_held(&v, start))
        changes += step(&v, v.health == NODE_DOWN, &p, start);
    assert_int_equal(changes, VERDICT_FLAPS_MAX + 1);
    /* The first verdict of all is no change of mind */
    p.flap_max = 1;
    verdict_init(&v, NODE_UNKNOWN, 0);
    assert_true(step(&v, false, &p, start));
    assert_false(verdict_held(&v, start));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rise_and_fall),
        cmocka_unit_test(test_balance),
        cmocka_unit_test(test_flapping_node_is_held_down),
        cmocka_unit_test(test_slow_ups_and_downs_are_not_flapping),
        cmocka_unit_test(test_flap_max),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
