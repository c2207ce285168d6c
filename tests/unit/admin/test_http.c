#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "admin/http.h"

static void test_targets(void **state)
{
    (void)state;
    static const struct {
        const char *raw;
        enum err e;
        uint32_t segments;
        const char *last; /* segment */
        const char *name, *value;
    } cases[] = {
        {"/", ERR_OK, 0, NULL, NULL, NULL},
        {"/?a=1", ERR_OK, 0, NULL, "a", "1"},
        {"/api/v1/nodes", ERR_OK, 3, "nodes", NULL, NULL},
        {"/api/v1/streams/live%2Fcam1", ERR_OK, 4, "live/cam1", NULL, NULL},
        {"/api/v1/streams/%231a2b3c4d", ERR_OK, 4, "#1a2b3c4d", NULL, NULL},
        {"/nodes/", ERR_OK, 2, "", NULL, NULL},
        {"//", ERR_OK, 2, "", NULL, NULL},
        {"/x?limit=5&cursor=a%26b", ERR_OK, 1, "x", "cursor", "a&b"},
        {"/x?name=a+b", ERR_OK, 1, "x", "name", "a b"},
        {"/x?flag", ERR_OK, 1, "x", "flag", ""},
        {"/x?&&a=b&", ERR_OK, 1, "x", "a", "b"},
        {"/x?a=b?c", ERR_OK, 1, "x", "a", "b?c"},
        {"/a%2fb/c", ERR_OK, 2, "c", NULL, NULL},
        {"/a%00b", ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a%", ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a%4", ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a%zz", ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a?x=%00", ERR_INVALID, 0, NULL, NULL, NULL},
        {"", ERR_INVALID, 0, NULL, NULL, NULL},
        {"*", ERR_INVALID, 0, NULL, NULL, NULL},
        {"http://host/x", ERR_INVALID, 0, NULL, NULL, NULL},
        {"/1/2/3/4/5/6/7/8/9", ERR_LIMIT, 0, NULL, NULL, NULL},
        {"/?a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q", ERR_LIMIT, 0, NULL, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_target *t = malloc(sizeof *t);
        assert_non_null(t);
        const enum err e = http_target_parse(cases[i].raw, t);
        if (e != cases[i].e)
            fail_msg("%s: %d", cases[i].raw, (int)e);
        if (e == ERR_OK) {
            assert_int_equal(t->segment_count, cases[i].segments);
            if (cases[i].last)
                assert_string_equal(t->segments[t->segment_count - 1], cases[i].last);
            if (cases[i].name)
                assert_string_equal(http_param(t, cases[i].name), cases[i].value);
            assert_null(http_param(t, "nobody"));
        }
        free(t);
    }
}

static void test_long_target(void **state)
{
    (void)state;
    struct http_target *t = malloc(sizeof *t);
    char *raw = malloc(HTTP_TARGET_MAX + 1);
    assert_non_null(t);
    assert_non_null(raw);
    memset(raw, 'a', HTTP_TARGET_MAX);
    raw[0] = '/';
    raw[HTTP_TARGET_MAX] = '\0';
    assert_int_equal(http_target_parse(raw, t), ERR_LIMIT);
    raw[HTTP_TARGET_MAX - 1] = '\0';
    assert_int_equal(http_target_parse(raw, t), ERR_OK);
    free(raw);
    free(t);
}

static void test_percent(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "live/cam1", "a b%c", "\xff\x01\"<>", "~-._"};
    char coded[64], back[64];
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(http_percent_encode(texts[i], coded, sizeof coded), ERR_OK);
        assert_int_equal(strspn(coded, "abcdefghijklmnopqrstuvwxyz0123456789ABCDEF%~-._"),
                         strlen(coded));
        assert_int_equal(http_percent_decode(coded, back, sizeof back), ERR_OK);
        assert_string_equal(back, texts[i]);
    }
    assert_int_equal(http_percent_encode("aaaa", coded, 4), ERR_LIMIT);
    assert_int_equal(http_percent_decode("aaaa", coded, 4), ERR_LIMIT);
    assert_int_equal(http_percent_decode("aaaa", coded, 5), ERR_OK);
}

static void test_methods(void **state)
{
    (void)state;
    assert_int_equal(http_method_parse("HEAD"), HTTP_GET);
    assert_int_equal(http_method_parse("get"), HTTP_UNKNOWN);
    for (unsigned m = 0; m < HTTP_METHOD_COUNT; m++)
        assert_int_equal(http_method_parse(http_method_name((enum http_method)m)), m);
}

static json_t *reply_body(const struct http_reply *r)
{
    json_t *j = json_loadb(r->body ? r->body : r->shared, r->len, 0, NULL);
    assert_non_null(j);
    return j;
}

static void test_problem(void **state)
{
    (void)state;
    struct http_reply r = {0};
    http_reply_problem(&r, 404, "no node %s", "n\"1");
    assert_int_equal(r.status, 404);
    assert_string_equal(r.content_type, "application/problem+json");
    json_t *j = reply_body(&r);
    assert_string_equal(json_string_value(json_object_get(j, "title")), "Not Found");
    assert_string_equal(json_string_value(json_object_get(j, "detail")), "no node n\"1");
    assert_int_equal(json_integer_value(json_object_get(j, "status")), 404);
    json_decref(j);
    http_reply_problem(&r, 400, "\xff is no text"); /* what was asked may be any bytes */
    j = reply_body(&r);
    assert_string_equal(json_string_value(json_object_get(j, "detail")), "\xef\xbf\xbd is no text");
    json_decref(j);
    http_reply_json(&r, 200, NULL); /* as when memory was short */
    assert_int_equal(r.status, 500);
    json_decref(reply_body(&r));
    http_reply_clear(&r);
}

static void test_field_errors(void **state)
{
    (void)state;
    struct http_reply r = {0};
    struct http_field_errors errors = {0};
    http_field_errors_add(&errors, "a/b~c", "bad");
    http_field_errors_add(&errors, "", "worse");
    http_reply_invalid(&r, &errors);
    assert_int_equal(r.status, 422);
    json_t *j = reply_body(&r), *list = json_object_get(j, "errors");
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "pointer")),
                        "/a~1b~0c");
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "pointer")), "");
    json_decref(j);
    http_reply_clear(&r);
    for (int i = 0; i < 2 * HTTP_ERRORS_MAX; i++)
        http_field_errors_add(&errors, "x", "again");
    assert_int_equal(errors.count, HTTP_ERRORS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets), cmocka_unit_test(test_long_target),
        cmocka_unit_test(test_percent), cmocka_unit_test(test_methods),
        cmocka_unit_test(test_problem), cmocka_unit_test(test_field_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
