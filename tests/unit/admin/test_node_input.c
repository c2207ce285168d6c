#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "admin/node_input.h"

static json_t *parse(const char *text)
{
    json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(j);
    return j;
}

static void apply(const char *body, enum node_input_mode mode, struct node *n,
                  struct http_field_errors *errors)
{
    json_t *j = parse(body);
    *errors = (struct http_field_errors){0};
    node_input_apply(j, mode, n, errors);
    json_decref(j);
}

static struct node known(void)
{
    struct node n = {.admin = NODE_DRAIN, .source = NODE_FROM_API};
    config_node_init(&n.conf);
    strcpy(n.conf.id, "n1");
    strcpy(n.conf.rtmp, "127.0.0.1:1935");
    n.conf.weight = 7;
    n.conf.max_streams = 9;
    n.conf.max_bandwidth = 5000000;
    return n;
}

static void test_put(void **state)
{
    (void)state;
    struct http_field_errors errors;
    struct node n = known();
    apply("{\"rtmp\": \"127.0.0.2\", \"max_bandwidth_bps\": 8000, \"send_proxy\": \"v2\", \"id\": "
          "\"n1\"}",
          NODE_INPUT_PUT, &n, &errors);
    assert_int_equal(errors.count, 0);
    assert_string_equal(n.conf.id, "n1");
    assert_string_equal(n.conf.rtmp, "127.0.0.2");
    assert_int_equal(n.conf.weight, 100); /* not given: the default */
    assert_int_equal(n.conf.max_streams, 0);
    assert_int_equal(n.conf.max_bandwidth, 8000);
    assert_int_equal(n.conf.send_proxy, SEND_PROXY_V2);
    assert_int_equal(n.admin, NODE_DRAIN); /* a replaced node that is drained is not put to use */
    assert_int_equal(n.addr.ss_family, AF_INET);
}

static void test_patch(void **state)
{
    (void)state;
    struct http_field_errors errors;
    struct node n = known();
    apply("{\"weight\": 0, \"max_streams\": null, \"state\": \"enabled\"}", NODE_INPUT_PATCH, &n,
          &errors);
    assert_int_equal(errors.count, 0);
    assert_string_equal(n.conf.rtmp, "127.0.0.1:1935");
    assert_int_equal(n.conf.weight, 0);
    assert_int_equal(n.conf.max_streams, 0);
    assert_int_equal(n.conf.max_bandwidth, 5000000);
    assert_int_equal(n.admin, NODE_ENABLED);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        enum node_input_mode mode;
        const char *pointer;
    } cases[] = {
        {"[]", NODE_INPUT_PUT, ""},
        {"3", NODE_INPUT_PATCH, ""},
        {"{}", NODE_INPUT_PUT, "/rtmp"},
        {"{\"rtmp\": null}", NODE_INPUT_PATCH, "/rtmp"},
        {"{\"rtmp\": \"\"}", NODE_INPUT_PATCH, "/rtmp"},
        {"{\"rtmp\": 5}", NODE_INPUT_PATCH, "/rtmp"},
        {"{\"rtmp\": \"no.such.host.invalid:1935\"}", NODE_INPUT_PUT, "/rtmp"},
        {"{\"rtmp\": \"a:b:c\"}", NODE_INPUT_PUT, "/rtmp"},
        {"{\"weight\": \"5\"}", NODE_INPUT_PATCH, "/weight"},
        {"{\"weight\": 1.5}", NODE_INPUT_PATCH, "/weight"},
        {"{\"weight\": -1}", NODE_INPUT_PATCH, "/weight"},
        {"{\"weight\": 1001}", NODE_INPUT_PATCH, "/weight"},
        {"{\"weight\": true}", NODE_INPUT_PATCH, "/weight"},
        {"{\"max_bandwidth_bps\": 9223372036854775807}", NODE_INPUT_PATCH, "/max_bandwidth_bps"},
        {"{\"stat\": \"ftp://x\"}", NODE_INPUT_PATCH, "/stat"},
        {"{\"send_proxy\": \"v3\"}", NODE_INPUT_PATCH, "/send_proxy"},
        {"{\"state\": \"up\"}", NODE_INPUT_PATCH, "/state"},
        {"{\"state\": null}", NODE_INPUT_PATCH, "/state"},
        {"{\"id\": \"n2\"}", NODE_INPUT_PATCH, "/id"},
        {"{\"streams\": 4}", NODE_INPUT_PATCH, "/streams"},
        {"{\"Weight\": 4}", NODE_INPUT_PATCH, "/Weight"},
        {"{\"a/b\": 4}", NODE_INPUT_PATCH, "/a~1b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_field_errors errors;
        struct node n = known();
        apply(cases[i].body, cases[i].mode, &n, &errors);
        if (errors.count != 1 || strcmp(errors.list[0].pointer, cases[i].pointer) != 0)
            fail_msg("%s: %u, %s", cases[i].body, errors.count, errors.list[0].pointer);
        assert_true(errors.list[0].detail[0] != '\0');
    }
}

static void test_all_errors_at_once(void **state)
{
    (void)state;
    struct http_field_errors errors;
    struct node n = known();
    apply("{\"weight\": 5000, \"color\": 1, \"streams\": 2}", NODE_INPUT_PATCH, &n, &errors);
    assert_int_equal(errors.count, 3);
}

static void test_state(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        uint32_t errors;
        enum node_admin admin;
    } cases[] = {
        {"{\"state\": \"drain\"}", 0, NODE_DRAIN},
        {"{\"state\": \"disabled\"}", 0, NODE_DISABLED},
        {"{}", 1, NODE_ENABLED},
        {"{\"state\": 1}", 1, NODE_ENABLED},
        {"{\"state\": \"drain\", \"why\": \"\"}", 1, NODE_DRAIN},
        {"\"drain\"", 1, NODE_ENABLED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_field_errors errors = {0};
        enum node_admin admin = NODE_ENABLED;
        json_t *j = parse(cases[i].body);
        node_input_state(j, &admin, &errors);
        json_decref(j);
        assert_int_equal(errors.count, cases[i].errors);
        assert_int_equal(admin, cases[i].admin);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put),     cmocka_unit_test(test_patch),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_all_errors_at_once),
        cmocka_unit_test(test_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
