#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/query.h"

static struct view view(const char *s)
{
    return (struct view){.p = (const uint8_t *)s, .len = strlen(s)};
}

static void check_view(struct view v, const char *expected)
{
    assert_int_equal(v.len, strlen(expected));
    if (v.len)
        assert_memory_equal(v.p, expected, v.len);
}

static void test_parts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *path, *args, *value; /* of "a" */
    } cases[] = {
        {"", "", "", ""},
        {"cam1", "cam1", "", ""},
        {"cam1?", "cam1", "?", ""},
        {"?a=1", "", "?a=1", "1"},
        {"cam1?a=1", "cam1", "?a=1", "1"},
        {"cam1?b=2&a=1", "cam1", "?b=2&a=1", "1"},
        {"cam1?b=2?a=1", "cam1", "?b=2?a=1", "1"},
        {"cam1?a=1&a=2", "cam1", "?a=1&a=2", "1"},
        {"cam1?a=&a=2", "cam1", "?a=&a=2", "2"},
        {"cam1?aa=1&ba=2&A=3&a", "cam1", "?aa=1&ba=2&A=3&a", ""},
        {"cam1?a==1&b", "cam1", "?a==1&b", "=1"},
        {"cam1?&&a=1", "cam1", "?&&a=1", "1"},
        {"a=1", "a=1", "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_view(query_path(view(cases[i].text)), cases[i].path);
        check_view(query_args(view(cases[i].text)), cases[i].args);
        check_view(query_get(view(cases[i].text), "a"), cases[i].value);
    }
    assert_int_equal(query_get((struct view){0}, "a").len, 0);
}

static void test_without(void **state)
{
    (void)state;
    static const char *const names[] = {"token", "expires", NULL};
    static const struct {
        const char *text, *rest;
    } cases[] = {
        {"", ""},
        {"cam1", "cam1"},
        {"cam1?", "cam1?"},
        {"cam1?a=1&b", "cam1?a=1&b"},
        {"cam1?token=x", "cam1"},
        {"cam1?token=x&expires=1", "cam1"},
        {"cam1?a=1&token=x&expires=1", "cam1?a=1"},
        {"cam1?token=x&a=1&expires=1&b=2", "cam1?a=1&b=2"},
        {"cam1?token=x?a=1?expires=1?b=2", "cam1?a=1?b=2"},
        {"cam1?token=x&token=y&token=", "cam1"},
        {"cam1?tokens=x&xtoken=y&token", "cam1?tokens=x&xtoken=y&token"},
        {"rtmp://h/live?expires=1&vhost=v", "rtmp://h/live?vhost=v"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[64];
        struct wr w = wr_over(out, strlen(cases[i].text)); /* never longer */
        query_write_without(&w, view(cases[i].text), names);
        assert_false(w.full);
        check_view((struct view){.p = (const uint8_t *)out, .len = w.len}, cases[i].rest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
