#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "config/config.h"

static void test_split(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        uint16_t port; /* 0: refused */
    } cases[] = {
        {"10.0.0.1:1936", "10.0.0.1", 1936},
        {"node-1.example_net:1", "node-1.example_net", 1},
        {"media", "media", 1935},
        {"*:8080", "", 8080},
        {"*", "", 1935},
        {":65535", "", 65535},
        {"[::1]:1936", "::1", 1936},
        {"[2001:db8::5]", "2001:db8::5", 1935},
        {"", "", 0},
        {"::1", "", 0},
        {"::1:1935", "", 0},
        {"a:", "", 0},
        {"a:0", "", 0},
        {"a:65536", "", 0},
        {"a:18446744073709551617", "", 0},
        {"a:1935x", "", 0},
        {"a: 1935", "", 0},
        {"a:01935", "", 0},
        {"a:+1", "", 0},
        {"a b:1", "", 0},
        {"a/b", "", 0},
        {"rtmp://a", "", 0},
        {"[::1", "", 0},
        {"[::1]x", "", 0},
        {"[::1]1935", "", 0},
        {"[10.0.0.1]:1", "", 0},
        {"[]:1", "", 0},
        {"**:1", "", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char host[HOST_MAX] = "unchanged";
        uint16_t port = 7;
        const enum err e = config_split_address(cases[i].text, 1935, host, &port);
        if (cases[i].port == 0) {
            assert_int_equal(e, ERR_INVALID);
            assert_string_equal(host, "unchanged");
            assert_int_equal(port, 7);
        } else {
            assert_int_equal(e, ERR_OK);
            assert_string_equal(host, cases[i].host);
            assert_int_equal(port, cases[i].port);
        }
    }
}

static void test_split_length(void **state)
{
    (void)state;
    char text[HOST_MAX + 1], host[HOST_MAX];
    uint16_t port;
    memset(text, 'a', sizeof text);
    text[HOST_MAX - 1] = '\0';
    assert_int_equal(config_split_address(text, 1, host, &port), ERR_OK);
    assert_int_equal(strlen(host), HOST_MAX - 1);
    text[HOST_MAX - 1] = 'a';
    text[HOST_MAX] = '\0';
    assert_int_equal(config_split_address(text, 1, host, &port), ERR_INVALID);
}

#define V4(a, b, c, d)                                                                             \
    {                                                                                              \
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d                                       \
    }

static void test_cidr(void **state)
{
    (void)state;
    static const struct {
        const char *range;
        uint8_t addr[16];
        bool inside;
    } cases[] = {
        {"10.0.0.0/8", V4(10, 255, 1, 2), true},
        {"10.0.0.0/8", V4(11, 0, 0, 0), false},
        {"10.9.9.9/8", V4(10, 1, 1, 1), true},
        {"192.168.5.64/26", V4(192, 168, 5, 127), true},
        {"192.168.5.64/26", V4(192, 168, 5, 128), false},
        {"192.168.5.64/26", V4(192, 168, 5, 63), false},
        {"127.0.0.1", V4(127, 0, 0, 1), true},
        {"127.0.0.1", V4(127, 0, 0, 2), false},
        {"127.0.0.0/31", V4(127, 0, 0, 1), true},
        {"0.0.0.0/0", V4(8, 8, 8, 8), true},
        {"0.0.0.0/0", {[15] = 1}, false},
        {"::/0", V4(8, 8, 8, 8), true},
        {"::1", {[15] = 1}, true},
        {"::1", {[15] = 2}, false},
        {"fe80::/10", {0xfe, 0xbf}, true},
        {"fe80::/10", {0xfe, 0xc0}, false},
        {"::ffff:10.0.0.0/104", V4(10, 1, 1, 1), true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config_cidr c;
        assert_int_equal(config_parse_cidr(cases[i].range, &c), ERR_OK);
        assert_int_equal(config_cidr_contains(&c, cases[i].addr), cases[i].inside);
    }
}

static void test_cidr_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"",
                                        "/8",
                                        "10.0.0.0/",
                                        "10.0.0.0/33",
                                        "::/129",
                                        "10.0/8",
                                        "10.0.0.0/8x",
                                        "10.0.0.0/ 8",
                                        "localhost",
                                        "10.0.0.0/-1",
                                        "10.0.0.0/08",
                                        "[::1]",
                                        "::1/18446744073709551617"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config_cidr c = {.bits = 77};
        assert_int_equal(config_parse_cidr(cases[i], &c), ERR_INVALID);
        assert_int_equal(c.bits, 77);
    }
}

static void test_loopback(void **state)
{
    (void)state;
    static const struct {
        const char *address;
        bool loopback;
    } cases[] = {
        {"127.0.0.1:8090", true},
        {"127.9.9.9:1", true},
        {"[::1]:1", true},
        {"localhost:1", true},
        {"127.0.0.1", true},
        {"[::ffff:127.0.0.1]:1", true},
        {"0.0.0.0:1", false},
        {"*:1", false},
        {":1", false},
        {"[::]:1", false},
        {"10.0.0.1:1", false},
        {"128.0.0.1:1", false},
        {"localhost.example:1", false},
        {"[::2]:1", false},
        {"127.0.0.1.example:1", false},
        {"[::ffff:10.0.0.1]:1", false},
        {"127.0.0.1:99999", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (config_is_loopback(cases[i].address) != cases[i].loopback)
            fail_msg("%s", cases[i].address);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loopback),     cmocka_unit_test(test_split),
        cmocka_unit_test(test_split_length), cmocka_unit_test(test_cidr),
        cmocka_unit_test(test_cidr_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
