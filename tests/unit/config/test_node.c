#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "config/config.h"
#include "config/keys.h"

static void test_init(void **state)
{
    (void)state;
    struct config_node n;
    memset(&n, 0xff, sizeof n);
    config_node_init(&n);
    assert_string_equal(n.id, "");
    assert_string_equal(n.rtmp, "");
    assert_string_equal(n.stat, "");
    assert_int_equal(n.weight, 100);
    assert_int_equal(n.max_streams + n.max_sessions + n.max_bandwidth, 0);
    assert_int_equal(n.send_proxy, SEND_PROXY_OFF);
}

/* The same node as from a file. */
static void test_set(void **state)
{
    (void)state;
    static const char *const values[][2] = {
        {"id", "n1"},
        {"rtmp", "10.0.0.11:1936"},
        {"stat", "http://10.0.0.11:8080/stat"},
        {"weight", "0"},
        {"max_streams", "5"},
        {"max_sessions", "6"},
        {"max_bandwidth", "8Mbit/s"},
        {"send_proxy", "v2"},
    };
    static const char text[] =
        "nodes: [{id: n1, rtmp: '10.0.0.11:1936', stat: 'http://10.0.0.11:8080/stat', weight: 0, "
        "max_streams: 5, max_sessions: 6, max_bandwidth: 8Mbit/s, send_proxy: v2}]";
    char error[CONFIG_ERROR_MAX] = "";
    struct config_node n;
    size_t keys = 0;
    config_node_init(&n);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        assert_int_equal(config_node_set(&n, values[i][0], values[i][1], error), ERR_OK);
    assert_int_equal(config_node_check(&n, error), ERR_OK);
    struct config *c = NULL;
    assert_int_equal(config_load_buffer("f", text, strlen(text), &c, error), ERR_OK);
    assert_memory_equal(&n, &c->nodes[0], sizeof n);
    config_destroy(c);
    for (size_t i = 0; i < key_row_count; i++)
        keys += strncmp(key_rows[i].path, "nodes[].", 8) == 0;
    assert_int_equal(keys, sizeof values / sizeof values[0]); /* none was forgotten */

    /* what the API holds as a number */
    assert_int_equal(config_node_set(&n, "max_bandwidth", "8000001000bit/s", error), ERR_OK);
    assert_int_equal(n.max_bandwidth, UINT64_C(8000001000));
    assert_int_equal(config_node_set(&n, "max_bandwidth", "0", error), ERR_OK);
    assert_int_equal(n.max_bandwidth, 0);
    assert_int_equal(config_node_set(&n, "stat", "", error), ERR_OK);
    assert_string_equal(n.stat, "");
    assert_int_equal(n.max_streams, 5);
}

static void test_refused(void **state)
{
    (void)state;
    char long_id[NODE_ID_MAX + 1];
    memset(long_id, 'x', NODE_ID_MAX);
    long_id[NODE_ID_MAX] = '\0';
    char long_text[4096];
    memset(long_text, '"', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    const struct {
        const char *key, *value;
        enum err want;
        const char *starts;
    } cases[] = {
        {"weight", "5000", ERR_INVALID, "weight: found 5000, allowed: 0 to 1000"},
        {"weight", "-1", ERR_INVALID, "weight: found -1, allowed: 0 to 1000"},
        {"weight", "", ERR_INVALID, "weight: found \"\", allowed: 0 to 1000"},
        {"weight", "1.5", ERR_INVALID, "weight: found 1.5, allowed"},
        {"weight", "99999999999999999999", ERR_INVALID, "weight: found 9999"},
        {"max_bandwidth", "8M", ERR_INVALID,
         "max_bandwidth: found 8M, allowed: 0, or 1kbit/s to 1000Gbit/s; a bandwidth needs a unit"},
        {"rtmp", "*:1935", ERR_INVALID, "rtmp: found *:1935, allowed: HOST"},
        {"rtmp", "", ERR_INVALID, "rtmp: found \"\", allowed: HOST"},
        {"id", "a b", ERR_INVALID, "id: found \"a b\", allowed: letters"},
        {"id", long_id, ERR_INVALID, "id: found 64 bytes, allowed: at most 63"},
        {"stat", "ftp://x", ERR_INVALID, "stat: found ftp://x, allowed: http://"},
        {"send_proxy", "v3", ERR_INVALID, "send_proxy: found v3, allowed: one of off, v1, v2"},
        {"send_proxy", long_text, ERR_INVALID, "send_proxy: found "},
        {"wieght", "1", ERR_NOT_FOUND, "wieght: unknown key; did you mean weight?"},
        {"nodes[].weight", "1", ERR_NOT_FOUND, "nodes[].weight: unknown key"},
        {"", "1", ERR_NOT_FOUND, "\"\": unknown key"},
        {"a\nb", "1", ERR_NOT_FOUND, "\"a\\nb\": unknown key"},
        {long_text, "1", ERR_NOT_FOUND, "\""},
    };
    struct config_node n, before;
    memset(&n, 0, sizeof n);
    config_node_init(&n);
    before = n;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char error[CONFIG_ERROR_MAX] = "";
        assert_int_equal(config_node_set(&n, cases[i].key, cases[i].value, error), cases[i].want);
        if (strncmp(error, cases[i].starts, strlen(cases[i].starts)) != 0)
            fail_msg("%s: %s\n  gives %s", cases[i].key, cases[i].value, error);
        assert_memory_equal(&n, &before, sizeof n);
    }
}

static void test_check(void **state)
{
    (void)state;
    char error[CONFIG_ERROR_MAX] = "";
    struct config_node n;
    config_node_init(&n);
    assert_int_equal(config_node_check(&n, error), ERR_INVALID);
    assert_non_null(strstr(error, "id is missing: letters"));
    assert_int_equal(config_node_set(&n, "id", "a", error), ERR_OK);
    assert_int_equal(config_node_check(&n, error), ERR_INVALID);
    assert_non_null(strstr(error, "rtmp is missing: HOST[:PORT]"));
    assert_int_equal(config_node_set(&n, "rtmp", "h", error), ERR_OK);
    assert_int_equal(config_node_check(&n, error), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
