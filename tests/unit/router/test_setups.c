#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "router/setups.h"

static void test_each_node_has_its_own(void **state)
{
    static struct setups s;
    int last = -1;
    (void)state;
    for (int i = 0; i < SETUPS_PER_NODE; i++) {
        last = setups_enter(&s, "n1");
        assert_true(last >= 0);
    }
    assert_int_equal(setups_enter(&s, "n1"), -1);
    assert_true(setups_enter(&s, "n2") >= 0);
    assert_false(s.left);
    setups_leave(&s, last);
    assert_true(s.left);
    assert_int_equal(setups_enter(&s, "n1"), last);
    assert_int_equal(setups_enter(&s, "n1"), -1);
}

/* Nodes come and go for ever: entries of those that went are used again. */
static void test_more_nodes_than_entries(void **state)
{
    static struct setups s;
    char node[16];
    (void)state;
    for (int i = 0; i < 2 * NODES_MAX; i++) {
        (void)snprintf(node, sizeof node, "n%d", i);
        setups_leave(&s, setups_enter(&s, node));
    }
    for (int i = 0; i < NODES_MAX; i++) {
        (void)snprintf(node, sizeof node, "m%d", i);
        assert_true(setups_enter(&s, node) >= 0);
    }
    assert_int_equal(setups_enter(&s, "another"), -1);
    assert_true(setups_enter(&s, "m7") >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_node_has_its_own),
        cmocka_unit_test(test_more_nodes_than_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
