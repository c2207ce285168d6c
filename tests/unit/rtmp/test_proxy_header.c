#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rtmp/proxy_header.h"

#define BYTES(s) (s), sizeof(s) - 1
#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define ADDRS4 "\x0a\0\0\1\x0a\0\0\2\x12\x34\x07\x8f"
#define ADDR6 "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"

static enum parse_result parse_exact(const char *bytes, size_t len, struct proxy_header *h,
                                     size_t *used)
{
    uint8_t *buf = malloc(len ? len : 1);
    memcpy(buf, bytes, len);
    const enum parse_result result = proxy_header_parse(buf, len, h, used);
    free(buf);
    return result;
}

/* "1.2.3.4:5", "[::1]:5"; "-" when unset */
static void address_text(const struct sockaddr_storage *sa, char *out, size_t cap)
{
    char host[INET6_ADDRSTRLEN];
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    memcpy(&in4, sa, sizeof in4);
    memcpy(&in6, sa, sizeof in6);
    if (sa->ss_family == AF_INET)
        snprintf(out, cap, "%s:%u", inet_ntop(AF_INET, &in4.sin_addr, host, sizeof host),
                 (unsigned)ntohs(in4.sin_port));
    else if (sa->ss_family == AF_INET6)
        snprintf(out, cap, "[%s]:%u", inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host),
                 (unsigned)ntohs(in6.sin6_port));
    else
        snprintf(out, cap, "-");
}

static const struct {
    const char *name;
    const char *bytes;
    size_t len;
    int version;
    const char *src, *dst; /* NULL: local */
} good[] = {
    {"v1 TCP4", BYTES("PROXY TCP4 192.0.2.1 10.0.0.2 56324 1935\r\n"), 1, "192.0.2.1:56324",
     "10.0.0.2:1935"},
    {"v1 TCP6", BYTES("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"), 1, "[2001:db8::1]:1",
     "[::1]:65535"},
    {"v1 port 0", BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n"), 1, "1.2.3.4:0", "5.6.7.8:0"},
    {"v1 UNKNOWN", BYTES("PROXY UNKNOWN\r\n"), 1, NULL, NULL},
    {"v1 UNKNOWN with more", BYTES("PROXY UNKNOWN ff::1 whatever 1\r\n"), 1, NULL, NULL},
    {"v1 longest",
     BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
           "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     1, NULL, NULL},
    {"v2 TCP4", BYTES(SIG "\x21\x11\0\x0c" ADDRS4), 2, "10.0.0.1:4660", "10.0.0.2:1935"},
    {"v2 TCP4 with TLVs", BYTES(SIG "\x21\x11\0\x10" ADDRS4 "\4\0\1x"), 2, "10.0.0.1:4660",
     "10.0.0.2:1935"},
    {"v2 TCP6", BYTES(SIG "\x21\x21\0\x24" ADDR6 ADDR6 "\0\1\0\2"), 2, "[2001:db8::1]:1",
     "[2001:db8::1]:2"},
    {"v2 LOCAL", BYTES(SIG "\x20\0\0\0"), 2, NULL, NULL},
    {"v2 LOCAL with addresses", BYTES(SIG "\x20\x11\0\x0c" ADDRS4), 2, NULL, NULL},
    {"v2 LOCAL of an unknown family", BYTES(SIG "\x20\xff\0\1x"), 2, NULL, NULL},
    {"v2 unspecified family", BYTES(SIG "\x21\0\0\0"), 2, NULL, NULL},
    {"v2 datagram", BYTES(SIG "\x21\x12\0\x0c" ADDRS4), 2, NULL, NULL},
    {"v2 Unix socket, unspecified", BYTES(SIG "\x21\x30\0\1x"), 2, NULL, NULL},
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct proxy_header h = {.version = 77};
        size_t used = 99;
        for (size_t n = 0; n < good[i].len; n++) {
            if (parse_exact(good[i].bytes, n, &h, &used) != PARSE_NEED_MORE)
                fail_msg("%s cut at %zu", good[i].name, n);
            assert_int_equal(h.version, 77);
            assert_int_equal(used, 99);
        }
        char glued[256], src[64], dst[64]; /* C0 and C1 may be in the same read */
        memcpy(glued, good[i].bytes, good[i].len);
        memset(glued + good[i].len, 3, 20);
        if (parse_exact(glued, good[i].len + 20, &h, &used) != PARSE_OK)
            fail_msg("%s", good[i].name);
        assert_int_equal(used, good[i].len);
        assert_int_equal(h.version, good[i].version);
        assert_int_equal(h.local, good[i].src == NULL);
        address_text(&h.src, src, sizeof src);
        address_text(&h.dst, dst, sizeof dst);
        assert_string_equal(src, good[i].src ? good[i].src : "-");
        assert_string_equal(dst, good[i].dst ? good[i].dst : "-");
    }
}

static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *bytes;
        size_t len;
    } cases[] = {
        {"RTMP", BYTES("\3")},
        {"HTTP", BYTES("POST /")},
        {"lower case", BYTES("proxy ")},
        {"no CR", BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n\r\n")},
        {"CR without LF", BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rx")},
        {"two spaces", BYTES("PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n")},
        {"trailing space", BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n")},
        {"a field too few", BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n")},
        {"a field too many", BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n")},
        {"UDP", BYTES("PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n")},
        {"UNKNOWN glued", BYTES("PROXY UNKNOWNX\r\n")},
        {"family and address differ", BYTES("PROXY TCP4 ::1 ::1 1 2\r\n")},
        {"families differ", BYTES("PROXY TCP6 ::1 1.2.3.4 1 2\r\n")},
        {"port too large", BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n")},
        {"port of six digits", BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 100000 2\r\n")},
        {"port with leading zero", BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n")},
        {"port signed", BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n")},
        {"NUL in an address", BYTES("PROXY TCP4 1.2.3.4\0 5.6.7.8 1 2\r\n")},
        {"host name", BYTES("PROXY TCP4 localhost 5.6.7.8 1 2\r\n")},
        {"address too long for any",
         BYTES("PROXY TCP6 0000:0000:0000:0000:0000:0000:0000:0000:0000:0000 ::1 1 2\r\n")},
        {"v2 signature wrong", BYTES("\r\n\r\n\0\r\nQUIX")},
        {"v2 version 1", BYTES(SIG "\x11\x11\0\x0c" ADDRS4)},
        {"v2 version 3", BYTES(SIG "\x31")},
        {"v2 command 2", BYTES(SIG "\x22")},
        {"v2 too long", BYTES(SIG "\x21\x11\x03\xf1")},
        {"v2 LOCAL too long", BYTES(SIG "\x20\0\xff\xff")},
        {"v2 addresses cut", BYTES(SIG "\x21\x11\0\x0b" ADDRS4)},
        {"v2 addresses of the wrong family", BYTES(SIG "\x21\x21\0\x0c" ADDRS4)},
        {"v2 family 4", BYTES(SIG "\x21\x41\0\0")},
        {"v2 transport 3", BYTES(SIG "\x21\x13\0\x0c" ADDRS4)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct proxy_header h = {.version = 77};
        size_t used = 99;
        if (parse_exact(cases[i].bytes, cases[i].len, &h, &used) != PARSE_BAD)
            fail_msg("%s", cases[i].name);
        assert_int_equal(h.version, 77);
        assert_int_equal(used, 99);
    }
}

/* A line without an end is given up at the maximum, not buffered for ever; so is a v2 header, which
 * may have it. */
static void test_maximum(void **state)
{
    (void)state;
    struct proxy_header h;
    size_t used = 0;
    char line[PROXY_V1_MAX + 2] = "PROXY UNKNOWN ";
    memset(line + 14, 'x', sizeof line - 14);
    assert_int_equal(parse_exact(line, PROXY_V1_MAX - 1, &h, &used), PARSE_NEED_MORE);
    assert_int_equal(parse_exact(line, PROXY_V1_MAX, &h, &used), PARSE_BAD);
    line[PROXY_V1_MAX - 1] = '\r';
    line[PROXY_V1_MAX] = '\n';
    assert_int_equal(parse_exact(line, PROXY_V1_MAX + 1, &h, &used), PARSE_BAD);

    static char big[PROXY_V2_MAX] = SIG "\x21\x11\x03\xf0" ADDRS4;
    assert_int_equal(parse_exact(big, sizeof big - 1, &h, &used), PARSE_NEED_MORE);
    assert_int_equal(parse_exact(big, sizeof big, &h, &used), PARSE_OK);
    assert_int_equal(used, PROXY_V2_MAX);
}

static struct sockaddr_storage address(const char *host, uint16_t port)
{
    struct sockaddr_storage out = {0};
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (inet_pton(AF_INET, host, &in4.sin_addr) == 1)
        memcpy(&out, &in4, sizeof in4);
    else if (inet_pton(AF_INET6, host, &in6.sin6_addr) == 1)
        memcpy(&out, &in6, sizeof in6);
    else
        out.ss_family = AF_UNIX;
    return out;
}

static void test_write(void **state)
{
    (void)state;
    static const struct {
        int version;
        const char *src, *dst; /* with port 4660 and 1935 */
        const char *bytes;
        size_t len;
    } cases[] = {
        {1, "192.0.2.1", "10.0.0.2", BYTES("PROXY TCP4 192.0.2.1 10.0.0.2 4660 1935\r\n")},
        {1, "2001:db8::1", "::1", BYTES("PROXY TCP6 2001:db8::1 ::1 4660 1935\r\n")},
        {1, "::ffff:1.2.3.4", "5.6.7.8", BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 4660 1935\r\n")},
        {1, "::ffff:1.2.3.4", "::ffff:5.6.7.8", BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 4660 1935\r\n")},
        {1, "1.2.3.4", "::1", BYTES("PROXY UNKNOWN\r\n")},
        {1, "/socket", "/socket", BYTES("PROXY UNKNOWN\r\n")},
        {2, "10.0.0.1", "10.0.0.2", BYTES(SIG "\x21\x11\0\x0c" ADDRS4)},
        {2, "::ffff:10.0.0.1", "10.0.0.2", BYTES(SIG "\x21\x11\0\x0c" ADDRS4)},
        {2, "2001:db8::1", "2001:db8::1",
         BYTES(SIG "\x21\x21\0\x24" ADDR6 ADDR6 "\x12\x34\x07\x8f")},
        {2, "::1", "10.0.0.2", BYTES(SIG "\x20\0\0\0")},
        {2, "/socket", "/socket", BYTES(SIG "\x20\0\0\0")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct sockaddr_storage src = address(cases[i].src, 4660);
        const struct sockaddr_storage dst = address(cases[i].dst, 1935);
        uint8_t *buf = malloc(PROXY_V1_MAX + 1);
        const size_t len = proxy_header_write(cases[i].version, (const struct sockaddr *)&src,
                                              (const struct sockaddr *)&dst, buf, PROXY_V1_MAX + 1);
        assert_int_equal(len, cases[i].len);
        assert_memory_equal(buf, cases[i].bytes, len);

        struct proxy_header h;
        size_t used = 0;
        assert_int_equal(proxy_header_parse(buf, len, &h, &used), PARSE_OK);
        assert_int_equal(used, len);
        assert_int_equal(h.version, cases[i].version);
        free(buf);
    }
}

/* The longest there is fits. */
static void test_write_longest(void **state)
{
    (void)state;
    const struct sockaddr_storage a = address("ffff:fff1:fff2:fff3:fff4:fff5:fff6:fff7", 65535);
    uint8_t buf[PROXY_V1_MAX + 1];
    const size_t len = proxy_header_write(1, (const struct sockaddr *)&a,
                                          (const struct sockaddr *)&a, buf, sizeof buf);
    assert_int_equal(len, 104);
    struct proxy_header h;
    size_t used = 0;
    assert_int_equal(proxy_header_parse(buf, len, &h, &used), PARSE_OK);
    assert_memory_equal(&h.src, &a, sizeof a);
    assert_memory_equal(&h.dst, &a, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),          cmocka_unit_test(test_bad),
        cmocka_unit_test(test_maximum),       cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
