#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "rtmp/stream_token.h"

/* Computed by: printf 'publish 1790000000 live/cam1' | openssl dgst -sha256 -hmac "$key" */
#define KEY_A "0123456789abcdef0123456789abcdef"
#define KEY_B "k2345678901234567890123456789012345"
#define PUBLISH_A "3ae5f03744c5654f1bd0edeb1e19d956f7e886c4f2c0ed47010835d068285a75"
#define PLAY_B "8bdcf14712e7cbdeeb9a43998c7069167d24b40b8d4b968b2f68cfb5040d7088"
#define NOW 1789999999u

static struct view view(const char *s)
{
    return (struct view){.p = (const uint8_t *)s, .len = strlen(s)};
}

static struct signing_keys keys_of(const char *text)
{
    struct signing_keys keys;
    char error[SIGNING_KEYS_ERROR_MAX];
    assert_int_equal(signing_keys_parse(text, strlen(text), &keys, error), ERR_OK);
    return keys;
}

static void test_make(void **state)
{
    (void)state;
    const struct signing_keys keys = keys_of(KEY_A "\n" KEY_B "\n");
    char token[STREAM_TOKEN_BYTES + 1];
    assert_int_equal(
        stream_token_make(&keys.list[0], "publish", view("live/cam1"), 1790000000, token), ERR_OK);
    assert_string_equal(token, PUBLISH_A);
    assert_int_equal(stream_token_make(&keys.list[1], "play", view("live/cam1"), 1790000000, token),
                     ERR_OK);
    assert_string_equal(token, PLAY_B);
    char name[1000];
    memset(name, 'x', sizeof name);
    const struct view too_long = {.p = (const uint8_t *)name, .len = sizeof name};
    assert_int_equal(stream_token_make(&keys.list[1], "play", too_long, 1, token), ERR_LIMIT);
}

static void test_check(void **state)
{
    (void)state;
    static const char both[] = KEY_A "\n" KEY_B "\n", only_b[] = KEY_B;
    static const struct {
        const char *keys, *kind, *stream, *token, *expires;
        uint64_t now_s;
        enum stream_token expected;
    } cases[] = {
        {both, "publish", "live/cam1", PUBLISH_A, "1790000000", NOW, STREAM_TOKEN_GOOD},
        {both, "play", "live/cam1", PLAY_B, "1790000000", NOW, STREAM_TOKEN_GOOD},
        {both, "publish", "live/cam1", PUBLISH_A, "1790000000", NOW + 1, STREAM_TOKEN_EXPIRED},
        {both, "publish", "live/cam1", PUBLISH_A, "1790000000", UINT64_MAX, STREAM_TOKEN_EXPIRED},
        /* expired says nothing to those who do not have a token */
        {both, "publish", "live/cam2", PUBLISH_A, "1790000000", NOW + 1, STREAM_TOKEN_BAD},
        {both, "publish", "live/cam2", PUBLISH_A, "1790000000", NOW, STREAM_TOKEN_BAD},
        {both, "play", "live/cam1", PUBLISH_A, "1790000000", NOW, STREAM_TOKEN_BAD},
        {both, "publish", "live/cam1", PUBLISH_A, "1790000001", NOW, STREAM_TOKEN_BAD},
        {both, "publish", "live/cam1", PUBLISH_A, "", NOW, STREAM_TOKEN_BAD},
        {both, "publish", "live/cam1", PUBLISH_A, "1790000000 ", NOW, STREAM_TOKEN_BAD},
        {both, "publish", "live/cam1", PUBLISH_A, "-1", NOW, STREAM_TOKEN_BAD},
        {both, "publish", "live/cam1", PUBLISH_A, "99999999999999999999999", NOW, STREAM_TOKEN_BAD},
        {both, "publish", "live/cam1", PUBLISH_A "0", "1790000000", NOW, STREAM_TOKEN_BAD},
        {both, "publish", "live/cam1", PLAY_B, "1790000000", NOW, STREAM_TOKEN_BAD},
        {both, "publish", "live/cam1", "x", "1790000000", NOW, STREAM_TOKEN_BAD},
        {both, "publish", "live/cam1", "", "1790000000", NOW, STREAM_TOKEN_MISSING},
        /* a key that was taken out of the file */
        {only_b, "publish", "live/cam1", PUBLISH_A, "1790000000", NOW, STREAM_TOKEN_BAD},
        {only_b, "play", "live/cam1", PLAY_B, "1790000000", NOW, STREAM_TOKEN_GOOD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct signing_keys keys = keys_of(cases[i].keys);
        const enum stream_token got =
            stream_token_check(&keys, cases[i].kind, view(cases[i].stream), view(cases[i].token),
                               view(cases[i].expires), cases[i].now_s);
        if (got != cases[i].expected)
            fail_msg("case %zu: %d", i, (int)got);
    }
    const struct signing_keys none = {0};
    assert_int_equal(stream_token_check(&none, "publish", view("live/cam1"), view(PUBLISH_A),
                                        view("1790000000"), NOW),
                     STREAM_TOKEN_BAD);
}

static void test_keys(void **state)
{
    (void)state;
    const struct signing_keys keys =
        keys_of("# made on Monday\n\n" KEY_B "  # the new one\r\n\t\n" KEY_A);
    assert_int_equal(keys.count, 2);
    assert_string_equal(keys.list[0].text, KEY_B);
    assert_string_equal(keys.list[1].text, KEY_A);
}

static void test_bad_keys(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", "there is no key in it"},
        {"# nothing\n", "there is no key in it"},
        {KEY_A "\n0123456789abcdef0123456789abcde\n", "line 2: a key has 32 to 128 characters"},
        {KEY_A " " KEY_B, "line 1: a key is printable and has no blanks"},
        {"\n\n" KEY_A "\x80", "line 3: a key is printable"},
        {" " KEY_A, "line 1: a key is printable"},
    };
    char error[SIGNING_KEYS_ERROR_MAX], many[40 * (SIGNING_KEYS_MAX + 1)] = "";
    struct signing_keys keys = {.count = 7};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(signing_keys_parse(cases[i].text, strlen(cases[i].text), &keys, error),
                         ERR_INVALID);
        if (strncmp(error, cases[i].error, strlen(cases[i].error)) != 0)
            fail_msg("case %zu: %s", i, error);
        assert_null(strstr(error, "0123456789")); /* it goes to the log */
    }
    for (int i = 0; i <= SIGNING_KEYS_MAX; i++)
        strcat(many, KEY_A "\n");
    assert_int_equal(signing_keys_parse(many, strlen(many), &keys, error), ERR_INVALID);
    assert_string_equal(error, "line 17: there are too many keys; 16 are allowed");
    assert_int_equal(keys.count, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_bad_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
