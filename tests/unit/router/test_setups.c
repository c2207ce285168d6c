#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "router/setups.h"

static int fill(struct setups *s, const char *node)
{
    struct setups_waiter nobody = {0};
    int last = -1;
    for (int i = 0; i < SETUPS_PER_NODE; i++) {
        last = setups_enter(s, node, &nobody);
        assert_true(last >= 0);
    }
    assert_null(nobody.at);
    return last;
}

static void test_each_node_has_its_own(void **state)
{
    static struct setups s;
    struct setups_waiter one = {0};
    (void)state;
    setups_init(&s, 1);
    const int n1 = fill(&s, "n1");
    assert_int_equal(setups_enter(&s, "n1", &one), -1);
    assert_true(setups_enter(&s, "n2", &one) >= 0);
    assert_false(s.left);
    setups_leave(&s, n1);
    assert_true(s.left);
    assert_int_equal(setups_enter(&s, "n1", &one), n1);
    assert_int_equal(setups_enter(&s, "n1", &one), -1);
}

/* Who is told that it may try, as long as there is room, is the one that has waited longest. */
static void test_first_come_first_served(void **state)
{
    static struct setups s;
    struct setups_waiter w[4] = {0};
    (void)state;
    setups_init(&s, 1);
    const int n1 = fill(&s, "n1");
    for (int i = 0; i < 4; i++)
        assert_int_equal(setups_enter(&s, "n1", &w[i]), -1);
    assert_int_equal(setups_enter(&s, "n1", &w[0]), -1); /* again: keeps its place */
    assert_null(setups_next(&s, (uint32_t)n1));
    setups_leave(&s, n1);
    assert_ptr_equal(setups_next(&s, (uint32_t)n1), &w[0]);
    assert_null(w[0].at);
    assert_int_equal(setups_enter(&s, "n1", &w[0]), n1);
    assert_null(setups_next(&s, (uint32_t)n1));
    setups_leave(&s, n1);
    setups_stop_waiting(&w[2]); /* of three that wait, the middle one */
    setups_stop_waiting(&w[2]);
    assert_ptr_equal(setups_next(&s, (uint32_t)n1), &w[1]); /* which does not want to enter */
    assert_ptr_equal(setups_next(&s, (uint32_t)n1), &w[3]);
    assert_null(setups_next(&s, (uint32_t)n1));
    assert_int_equal(setups_enter(&s, "n1", &w[1]), n1);
    assert_int_equal(setups_enter(&s, "n1", &w[2]), -1); /* the list is whole: it ends, begins */
    setups_stop_waiting(&w[2]);
    assert_null(s.of[n1].first);
    assert_null(s.of[n1].last);
}

/* A link that waits at one node, and is to be made to another one by now. */
static void test_waits_where_it_wants_to_go(void **state)
{
    static struct setups s;
    struct setups_waiter who = {0};
    (void)state;
    setups_init(&s, 1);
    const int n1 = fill(&s, "n1"), n2 = fill(&s, "n2");
    assert_int_equal(setups_enter(&s, "n1", &who), -1);
    assert_int_equal(setups_enter(&s, "n2", &who), -1);
    setups_leave(&s, n1);
    assert_null(setups_next(&s, (uint32_t)n1));
    setups_leave(&s, n2);
    assert_ptr_equal(setups_next(&s, (uint32_t)n2), &who);
}

/* Nodes come and go for ever: entries of those that went are used again, of those that somebody
 * waits for not. More at once than there can be share the last. */
static void test_more_nodes_than_entries(void **state)
{
    static struct setups s;
    struct setups_waiter who = {0};
    char node[16];
    (void)state;
    setups_init(&s, 1);
    const int n0 = fill(&s, "n0");
    assert_int_equal(setups_enter(&s, "n0", &who), -1);
    for (int i = 0; i < SETUPS_PER_NODE; i++)
        setups_leave(&s, n0);
    for (int i = 1; i < 2 * NODES_MAX; i++) {
        (void)snprintf(node, sizeof node, "n%d", i);
        setups_leave(&s, setups_enter(&s, node, &who));
    }
    assert_string_equal(s.of[n0].node, "n0");
    assert_ptr_equal(setups_next(&s, (uint32_t)n0), &who);
    for (int i = 0; i < NODES_MAX; i++) {
        (void)snprintf(node, sizeof node, "m%d", i);
        assert_true(setups_enter(&s, node, &who) >= 0);
    }
    assert_int_equal(setups_enter(&s, "another", &who), NODES_MAX - 1);
    assert_true(setups_enter(&s, "m7", &who) != NODES_MAX - 1);
}

static void test_many_workers_share_what_a_node_takes(void **state)
{
    static struct setups s;
    static const uint32_t most[][2] = {{1, 64}, {8, 64}, {9, 56}, {32, 16}, {64, 8}};
    struct setups_waiter who = {0};
    (void)state;
    for (size_t i = 0; i < sizeof most / sizeof most[0]; i++) {
        uint32_t entered = 0;
        setups_init(&s, most[i][0]);
        while (setups_enter(&s, "n1", &who) >= 0)
            entered++;
        assert_int_equal(entered, most[i][1]);
        setups_stop_waiting(&who);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_node_has_its_own),
        cmocka_unit_test(test_first_come_first_served),
        cmocka_unit_test(test_waits_where_it_wants_to_go),
        cmocka_unit_test(test_more_nodes_than_entries),
        cmocka_unit_test(test_many_workers_share_what_a_node_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
