#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cluster/stream_key.h"

static struct view view(const char *s)
{
    return (struct view){.p = (const uint8_t *)s, .len = strlen(s)};
}

static void test_canonical(void **state)
{
    (void)state;
    static const struct {
        const char *app, *name, *vhost, *key; /* key NULL: ERR_INVALID */
    } cases[] = {
        {"live", "a", "", "live/a"},
        {"live/a", "b/c", "", "live/a/b/c"},
        {"live/a/b", "c", "", "live/a/b/c"},
        {"live", "cam1?token=x&y=z", "", "live/cam1"},
        {"live?x=1", "cam1", "", "live/cam1"},
        {"live/cam1?x=1&y=a", "b", "", "live/cam1/b"},
        {"live/", "cam1", "", "live/cam1"},
        {"/live//x/", "/cam1//", "", "live/x/cam1"},
        {"live/_definst_", "cam1", "", "live/cam1"},
        {"live/_definst_/", "cam1", "", "live/cam1"},
        {"live/_definst_?a=b", "cam1", "", "live/cam1"},
        {"live/_definst_/x", "cam1", "", "live/_definst_/x/cam1"},
        {"_definst_", "cam1", "", "_definst_/cam1"},
        {"live", "_definst_", "", "live/_definst_"},
        {"live", "mp4:x.mp4", "", "live/mp4:x.mp4"},
        {"live", "na me", "", "live/na me"},
        {"live", "caf\xc3\xa9", "", "live/caf\xc3\xa9"},
        {"Live", "Cam", "CDN.Example.Org", "cdn.example.org/Live/Cam"},
        {"live", "cam", "a/b", NULL},
        {"live", "", "", NULL},
        {"live", "?token=1", "", NULL},
        {"live", "///", "", NULL},
        {"", "cam1", "", NULL},
        {"?x", "cam1", "", NULL},
        {"/_definst_", "cam1", "", NULL},
        {"live", "...", "", "live/..."},
        {"live", ".a/b..", "", "live/.a/b.."},
        {"live", "..", "", NULL},
        {"live", ".", "", NULL},
        {"live", "../../etc/passwd", "", NULL},
        {"live", "a/../b", "", NULL},
        {"live", "a/..?token=1", "", NULL},
        {"live/..", "a", "", NULL},
        {"live", "ca\nm", "", NULL},
        {"li\x7fve", "cam", "", NULL},
        {"live", "cam", "ho\x01st", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct stream_key k = {.text = "unchanged", .len = 9};
        const enum err e =
            stream_key_make(view(cases[i].app), view(cases[i].name), view(cases[i].vhost), &k);
        assert_int_equal(e, cases[i].key ? ERR_OK : ERR_INVALID);
        assert_string_equal(k.text, cases[i].key ? cases[i].key : "unchanged");
        assert_int_equal(k.len, strlen(k.text));
    }
}

static void test_nul_byte(void **state)
{
    (void)state;
    struct stream_key k;
    const struct view name = {.p = (const uint8_t *)"a\0b", .len = 3};
    assert_int_equal(stream_key_make(view("live"), name, (struct view){0}, &k), ERR_INVALID);
}

static void test_longest(void **state)
{
    (void)state;
    char name[STREAM_KEY_MAX + 1];
    memset(name, 'n', sizeof name);
    struct stream_key k;
    struct view v = {.p = (const uint8_t *)name, .len = STREAM_KEY_MAX - 1 - strlen("live/")};
    assert_int_equal(stream_key_make(view("live"), v, (struct view){0}, &k), ERR_OK);
    assert_int_equal(k.len, STREAM_KEY_MAX - 1);
    assert_int_equal(strlen(k.text), STREAM_KEY_MAX - 1);
    v.len++;
    assert_int_equal(stream_key_make(view("live"), v, (struct view){0}, &k), ERR_LIMIT);
}

static void test_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text, *key;
    } cases[] = {
        {"live/cam1", "live/cam1"},
        {"/live//cam1/", "live/cam1"},
        {"live/_definst_/cam1", "live/cam1"},
        {"live/a/b/c", "live/a/b/c"},
        {"live/cam1?token=a/b", "live/cam1"},
        {"live", NULL},
        {"live/", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct stream_key k = {.len = 0};
        const enum err e = stream_key_parse(cases[i].text, &k);
        assert_int_equal(e, cases[i].key ? ERR_OK : ERR_INVALID);
        if (cases[i].key)
            assert_string_equal(k.text, cases[i].key);
    }
}

static void test_vhost(void **state)
{
    (void)state;
    static const struct {
        const char *tc_url, *app, *name, *host;
    } cases[] = {
        {"rtmp://cdn.example.org:1935/live", "live", "cam", "cdn.example.org"},
        {"rtmp://cdn.example.org/live", "live", "cam", "cdn.example.org"},
        {"rtmp://cdn.example.org", "live", "cam", "cdn.example.org"},
        {"rtmp://user:pw@host:1/live", "live", "cam", "host"},
        {"rtmp://[2001:db8::1]:1935/live", "live", "cam", "2001:db8::1"},
        {"rtmp://h?x=a@b/live", "live", "cam", "h"},
        {"rtmp://h/live", "live?vhost=v", "cam", "v"},
        {"rtmp://h/live", "live", "cam?token=1&vhost=v.org:80&x=2", "v.org"},
        {"rtmp://h/live", "live?vhost=first", "cam?vhost=second", "first"},
        {"rtmp://h/live", "live?notvhost=v", "cam", "h"},
        {"rtmp://h/live", "live?vhost=", "cam", "h"},
        {"rtmp://h/live?vhost=v", "live", "cam", "v"},
        {"nonsense", "live", "cam", ""},
        {"", "", "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct view v =
            stream_key_vhost(view(cases[i].tc_url), view(cases[i].app), view(cases[i].name));
        assert_int_equal(v.len, strlen(cases[i].host));
        assert_true(v.len == 0 || memcmp(v.p, cases[i].host, v.len) == 0);
    }
}

static void test_short_form(void **state)
{
    (void)state;
    struct stream_key a, b;
    char x[10], y[10];
    assert_int_equal(stream_key_parse("live/a", &a), ERR_OK);
    assert_int_equal(stream_key_parse("live/b", &b), ERR_OK);
    stream_key_short(&a, x);
    stream_key_short(&b, y);
    assert_int_equal(strlen(x), 9);
    assert_int_equal(x[0], '#');
    assert_int_equal(strspn(x + 1, "0123456789abcdef"), 8);
    assert_string_not_equal(x, y);
    stream_key_short(&a, y);
    assert_string_equal(x, y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical), cmocka_unit_test(test_nul_byte),
        cmocka_unit_test(test_longest),   cmocka_unit_test(test_parse),
        cmocka_unit_test(test_vhost),     cmocka_unit_test(test_short_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
