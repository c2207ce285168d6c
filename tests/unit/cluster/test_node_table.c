#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "cluster/node_table.h"

static struct node named(const char *id)
{
    struct node n = {.conf = {.weight = 100}};
    (void)snprintf(n.conf.id, sizeof n.conf.id, "%s", id);
    return n;
}

static void put(struct node_table *t, const char *id)
{
    const struct node n = named(id);
    assert_int_equal(node_table_put(t, &n), ERR_OK);
}

static void test_sorted(void **state)
{
    (void)state;
    struct node_table *t;
    assert_int_equal(node_table_create("demo", &t), ERR_OK);
    static const char *const ids[] = {"n2", "n10", "n1", "a", "z", "m"};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        put(t, ids[i]);
    assert_int_equal(t->count, 6);
    for (uint32_t i = 1; i < t->count; i++)
        assert_true(strcmp(t->nodes[i - 1].conf.id, t->nodes[i].conf.id) < 0);
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        assert_string_equal(node_table_get(t, ids[i])->conf.id, ids[i]);
    assert_null(node_table_find(t, "n"));
    assert_int_equal(node_table_remove(t, "n1"), ERR_OK);
    assert_int_equal(node_table_remove(t, "n1"), ERR_NOT_FOUND);
    assert_int_equal(t->count, 5);
    assert_null(node_table_get(t, "n1"));
    assert_non_null(node_table_get(t, "n10"));
    node_table_destroy(t);
    node_table_destroy(NULL);
}

static void test_replace_keeps_what_is_carried(void **state)
{
    (void)state;
    struct node_table *t;
    assert_int_equal(node_table_create("demo", &t), ERR_OK);
    put(t, "n1");
    struct node *n = node_table_find(t, "n1");
    n->streams = 3;
    n->sessions = 7;
    n->notes.dial_failed_ms = 99;
    n->notes.dial_told_ms = 88;
    n->notes.generations = 7;
    struct node other = named("n1");
    other.conf.weight = 5;
    assert_int_equal(node_table_put(t, &other), ERR_OK);
    assert_int_equal(t->count, 1);
    n = node_table_find(t, "n1");
    assert_int_equal(n->conf.weight, 5);
    assert_int_equal(n->streams, 3);
    assert_int_equal(n->sessions, 7);
    assert_int_equal(n->notes.dial_failed_ms, 99);
    assert_int_equal(n->notes.dial_told_ms, 88);
    assert_int_equal(n->notes.generations, 7);
    assert_int_equal(n->seed, node_seed(cluster_seed("demo"), "n1"));
    assert_int_not_equal(n->seed, node_seed(cluster_seed("other"), "n1"));
    node_table_destroy(t);
}

static void test_full(void **state)
{
    (void)state;
    struct node_table *t;
    char id[16];
    assert_int_equal(node_table_create("demo", &t), ERR_OK);
    for (int i = 0; i < NODES_MAX; i++) {
        (void)snprintf(id, sizeof id, "n%d", i);
        put(t, id);
    }
    const struct node n = named("one-more"), known = named("n0");
    assert_int_equal(node_table_put(t, &n), ERR_FULL);
    assert_int_equal(node_table_put(t, &known), ERR_OK);
    assert_int_equal(t->count, NODES_MAX);
    node_table_destroy(t);
}

static void test_names(void **state)
{
    (void)state;
    static const enum node_admin all[] = {NODE_ENABLED, NODE_DRAIN, NODE_DISABLED};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        enum node_admin a = NODE_ENABLED;
        assert_int_equal(node_admin_parse(node_admin_name(all[i]), &a), ERR_OK);
        assert_int_equal(a, all[i]);
    }
    enum node_admin a = NODE_DRAIN;
    assert_int_equal(node_admin_parse("Drain", &a), ERR_INVALID);
    assert_int_equal(a, NODE_DRAIN);
    assert_string_equal(node_health_name(NODE_UNKNOWN), "unknown");
}

static void test_resolve(void **state)
{
    (void)state;
    static const struct {
        const char *rtmp;
        int family; /* 0: ERR_INVALID */
        uint16_t port;
    } cases[] = {
        {"127.0.0.1:1936", AF_INET, 1936},
        {"127.0.0.1", AF_INET, 1935},
        {"[::1]:1937", AF_INET6, 1937},
        {"*:1935", 0, 0},
        {"127.0.0.1:x", 0, 0},
        {"no-such-host.invalid:1935", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config_node conf = {.weight = 1};
        struct sockaddr_storage addr = {0};
        (void)snprintf(conf.rtmp, sizeof conf.rtmp, "%s", cases[i].rtmp);
        assert_int_equal(node_resolve(&conf, &addr), cases[i].family ? ERR_OK : ERR_INVALID);
        assert_int_equal(addr.ss_family, cases[i].family);
        uint16_t port = 0;
        if (addr.ss_family == AF_INET)
            port = ntohs(((const struct sockaddr_in *)&addr)->sin_port);
        else if (addr.ss_family == AF_INET6)
            port = ntohs(((const struct sockaddr_in6 *)&addr)->sin6_port);
        assert_int_equal(port, cases[i].port);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sorted),  cmocka_unit_test(test_replace_keeps_what_is_carried),
        cmocka_unit_test(test_full),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_resolve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
