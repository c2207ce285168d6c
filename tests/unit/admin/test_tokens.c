#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "admin/digest.h"
#include "admin/tokens.h"

/* sha256 of "secret" */
#define HASH "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"

static void test_digest(void **state)
{
    (void)state;
    uint8_t digest[DIGEST_BYTES];
    char hex[DIGEST_HEX_MAX], base64[DIGEST_BASE64_MAX];
    digest_sha256("secret", 6, digest);
    digest_hex(digest, hex);
    digest_base64(digest, base64);
    assert_string_equal(hex, HASH);
    assert_string_equal(base64, "K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=");
}

static void test_files(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *error; /* NULL: good */
        uint32_t count;
    } cases[] = {
        {"", NULL, 0},
        {"# nothing\n\n   \n", NULL, 0},
        {"ops write " HASH, NULL, 1},
        {"ops write " HASH "\r\nprom\tread " HASH " # Prometheus\n", NULL, 2},
        {"ops write", "line 1: a line is: name scope sha256", 0},
        {"\nops write " HASH " more", "line 2: a line is: name scope sha256", 0},
        {"ops admin " HASH, "line 1: the scope is read or write", 0},
        {"ops none " HASH, "line 1: the scope is read or write", 0},
        {"o/s read " HASH, "line 1: a name has", 0},
        {"ops read 2bb8", "line 1: the hash is 64 hex digits", 0},
        {"ops read g" HASH, "line 1: the hash is 64 hex digits", 0},
        {"ops read " HASH "\nops read " HASH, "line 2: the name was given before", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tokens t = {.count = 7};
        char error[TOKEN_ERROR_MAX] = "";
        const enum err e = tokens_parse(cases[i].text, strlen(cases[i].text), &t, error);
        assert_int_equal(e, cases[i].error ? ERR_INVALID : ERR_OK);
        assert_int_equal(t.count, cases[i].error ? 7 : cases[i].count);
        if (cases[i].error)
            assert_memory_equal(error, cases[i].error, strlen(cases[i].error));
        else
            assert_true(t.required);
    }
    struct tokens t;
    char error[TOKEN_ERROR_MAX];
    assert_int_equal(tokens_parse("a\0b read " HASH, 12, &t, error), ERR_INVALID);
}

static void test_check(void **state)
{
    (void)state;
    struct tokens t = {0};
    const struct token *who;
    char error[TOKEN_ERROR_MAX];
    assert_int_equal(tokens_check(&t, NULL, &who), SCOPE_WRITE); /* no file: no tokens */
    assert_null(who);
    const uint8_t random[32] = {1, 2, 250, 251, 252, 253, 254, 255};
    char token[TOKEN_TEXT_MAX], line[TOKEN_LINE_MAX], file[2 * TOKEN_LINE_MAX], header[128];
    token_make("prom", SCOPE_READ, random, token, line);
    assert_int_equal(strcspn(token, "+/= "), strlen(token));
    (void)snprintf(file, sizeof file, "ops write " HASH "\n%s\n", line);
    assert_int_equal(tokens_parse(file, strlen(file), &t, error), ERR_OK);

    const struct {
        const char *header;
        enum token_scope scope;
        const char *who;
    } cases[] = {
        {NULL, SCOPE_NONE, NULL},
        {"", SCOPE_NONE, NULL},
        {"Bearer", SCOPE_NONE, NULL},
        {"Bearer ", SCOPE_NONE, NULL},
        {"Bearer wrong", SCOPE_NONE, NULL},
        {"Basic secret", SCOPE_NONE, NULL},
        {"Bearer secret", SCOPE_WRITE, "ops"},
        {"bEARER secret", SCOPE_WRITE, "ops"},
        {"Bearer secret ", SCOPE_NONE, NULL},
        {"Bearer " HASH, SCOPE_NONE, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(tokens_check(&t, cases[i].header, &who), cases[i].scope);
        if (cases[i].who)
            assert_string_equal(who->name, cases[i].who);
        else
            assert_null(who);
    }
    (void)snprintf(header, sizeof header, "Bearer %s", token);
    assert_int_equal(tokens_check(&t, header, &who), SCOPE_READ);
    assert_string_equal(who->name, "prom");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
