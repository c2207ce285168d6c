#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "captures.h"
#include "rtmp/handshake.h"

enum { HELLO = RTMP_HANDSHAKE_BYTES, DIGEST = 32 };

static void fill_noise(uint8_t *buf, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525u + 1013904223u;
        buf[i] = (uint8_t)(seed >> 24);
    }
}

/* A C1 as a Flash player makes it; sum: what the four bytes at base add up to. */
static void make_c1(uint8_t *c1, size_t base, unsigned sum)
{
    fill_noise(c1, HELLO, sum);
    c1[4] = 10;
    for (size_t i = 0; i < 4; i++) {
        const unsigned part = sum > 255 ? 255 : sum;
        c1[base + i] = (uint8_t)part;
        sum -= part;
    }
    assert_int_equal(sum, 0);
    size_t at = base + 4;
    for (size_t i = 0; i < 4; i++)
        at += c1[base + i];
    if (at >= base + 4 + 728)
        at -= 728;
    uint8_t rest[HELLO - DIGEST];
    memcpy(rest, c1, at);
    memcpy(rest + at, c1 + at + DIGEST, sizeof rest - at);
    assert_non_null(
        HMAC(EVP_sha256(), "Genuine Adobe Flash Player 001", 30, rest, sizeof rest, c1 + at, NULL));
}

static void test_opening(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        enum rtmp_opening want;
        const char *name;
    } cases[] = {
        {"\x03", 1, RTMP_OPENING_RTMP, "rtmp"},
        {"\x03GET ", 5, RTMP_OPENING_RTMP, "rtmp"},
        {"\x06", 1, RTMP_OPENING_RTMPE, "rtmpe"},
        {"\x08zz", 3, RTMP_OPENING_RTMPE, "rtmpe"},
        {"\x09", 1, RTMP_OPENING_RTMPE, "rtmpe"},
        {"\x16\x03\x01", 3, RTMP_OPENING_TLS, "tls"},
        {"\x16", 1, RTMP_OPENING_TLS, "tls"},
        {"GET / HTTP/1.1\r\n", 16, RTMP_OPENING_HTTP, "http"},
        {"POST /open/1 HTTP/1.1", 21, RTMP_OPENING_HTTP, "http"},
        {"OPT", 3, RTMP_OPENING_HTTP, "http"},
        {"SSH-2.0-x", 9, RTMP_OPENING_SSH, "ssh"},
        {"PROXY TCP4 ", 11, RTMP_OPENING_PROXY, "proxy"},
        {"\r\n\r\n\0\r\nQUIT\n", 12, RTMP_OPENING_PROXY, "proxy"},
        {"PUN", 3, RTMP_OPENING_UNKNOWN, "unknown"},
        {"GETX", 4, RTMP_OPENING_UNKNOWN, "unknown"},
        {"\0", 1, RTMP_OPENING_UNKNOWN, "unknown"},
        {"\xf3", 1, RTMP_OPENING_UNKNOWN, "unknown"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *buf = exact_copy(cases[i].bytes, cases[i].len);
        const enum rtmp_opening got = rtmp_opening_detect(buf, cases[i].len);
        assert_int_equal(got, cases[i].want);
        assert_string_equal(rtmp_opening_name(got), cases[i].name);
        free(buf);
    }
}

static void test_reply_simple(void **state)
{
    (void)state;
    static const uint8_t head[] = {0x01, 0x02, 0x03, 0x04, 0, 0, 0, 0};
    uint8_t noise[HELLO], bytes[HELLO];
    fill_noise(noise, sizeof noise, 1);
    fill_noise(bytes, sizeof bytes, 2);
    uint8_t *c1 = exact_copy(bytes, HELLO);
    uint8_t *out = malloc(RTMP_S0S1S2_BYTES);
    rtmp_handshake_reply_simple(c1, 0x01020304, noise, out);
    assert_int_equal(out[0], 3);
    assert_memory_equal(out + 1, head, sizeof head);
    assert_memory_equal(out + 9, noise + 8, HELLO - 8);
    assert_memory_equal(out + 1 + HELLO, c1, HELLO);
    assert_int_equal(rtmp_handshake_reply_digest(c1, 0, noise, out), ERR_INVALID);

    uint8_t hello[RTMP_C0C1_BYTES];
    rtmp_handshake_hello_simple(0x01020304, noise, hello);
    assert_memory_equal(hello, out, RTMP_C0C1_BYTES);
    free(out);
    free(c1);
}

/* What ffmpeg, nginx, SRS and others sent each other agrees with our arithmetic. */
static void test_captures(void **state)
{
    (void)state;
    static struct capture client, server;
    for (size_t i = 0; i < CAPTURE_COUNT; i++) {
        const struct capture_name *n = &capture_names[i];
        capture_load(&client, n->name, "c2s");
        capture_load(&server, n->name, "s2c");
        const uint8_t *c1 = client.buf + 1, *c2 = c1 + HELLO;
        const uint8_t *s1 = server.buf + 1, *s2 = s1 + HELLO;
        assert_int_equal(rtmp_handshake_s2_valid(c1, s2), n->c1_digest);

        uint8_t ours[HELLO];
        bool digest = !n->c1_digest;
        assert_int_equal(rtmp_handshake_confirm(s1, c2, ours, &digest), ERR_OK);
        assert_int_equal(digest, n->c1_digest);
        if (n->c2_digest) /* the same bytes in front must give the same signature */
            assert_memory_equal(ours, c2, HELLO);
        if (!digest)
            assert_memory_equal(ours, s1, HELLO);

        uint8_t noise[HELLO], reply[RTMP_S0S1S2_BYTES];
        fill_noise(noise, sizeof noise, 7);
        const enum err e = rtmp_handshake_reply_digest(c1, 0, noise, reply);
        assert_int_equal(e, n->c1_digest ? ERR_OK : ERR_INVALID);
        if (e == ERR_OK)
            assert_true(rtmp_handshake_s2_valid(c1, reply + 1 + HELLO));
    }
}

/* Both layouts, with the digest in its first, last and wrapped places. */
static void test_reply_digest(void **state)
{
    (void)state;
    static const struct {
        size_t base;
        unsigned sum;
    } cases[] = {{8, 0},   {8, 1},   {8, 727},   {8, 728},   {8, 1020},
                 {772, 0}, {772, 1}, {772, 727}, {772, 728}, {772, 1020}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t bytes[HELLO], noise[HELLO];
        make_c1(bytes, cases[i].base, cases[i].sum);
        fill_noise(noise, sizeof noise, 99);
        uint8_t *c1 = exact_copy(bytes, HELLO);
        uint8_t *out = malloc(RTMP_S0S1S2_BYTES);
        assert_int_equal(rtmp_handshake_reply_digest(c1, 0x11223344, noise, out), ERR_OK);
        assert_int_equal(out[0], 3);
        assert_memory_equal(out + 1, "\x11\x22\x33\x44", 4);
        assert_true(out[5] >= 3); /* else ffmpeg does not look at the digest */

        uint8_t *s1 = exact_copy(out + 1, HELLO), *s2 = exact_copy(out + 1 + HELLO, HELLO);
        uint8_t c2[HELLO];
        bool digest = false;
        assert_int_equal(rtmp_handshake_confirm(s1, noise, c2, &digest), ERR_OK);
        assert_true(digest);
        assert_true(rtmp_handshake_s2_valid(c1, s2));
        s2[i] ^= 1;
        assert_false(rtmp_handshake_s2_valid(c1, s2));
        free(s2);
        free(s1);
        free(out);
        free(c1);
    }
}

static void test_reply_digest_damaged(void **state)
{
    (void)state;
    uint8_t c1[HELLO], noise[HELLO] = {0}, out[RTMP_S0S1S2_BYTES];
    make_c1(c1, 8, 300);
    for (size_t i = 0; i < HELLO; i += 5) {
        c1[i] ^= 0x40;
        assert_int_equal(rtmp_handshake_reply_digest(c1, 0, noise, out), ERR_INVALID);
        c1[i] ^= 0x40;
    }
    assert_int_equal(rtmp_handshake_reply_digest(c1, 0, noise, out), ERR_OK);
}

static void test_hello_digest(void **state)
{
    (void)state;
    for (uint32_t seed = 0; seed < 50; seed++) {
        uint8_t noise[HELLO], hello[RTMP_C0C1_BYTES], reply[RTMP_S0S1S2_BYTES];
        fill_noise(noise, sizeof noise, seed);
        assert_int_equal(rtmp_handshake_hello_digest(5, noise, hello), ERR_OK);
        assert_int_equal(hello[0], 3);
        assert_int_not_equal(hello[5], 0);
        assert_int_equal(rtmp_handshake_reply_digest(hello + 1, 6, noise, reply), ERR_OK);
        assert_true(rtmp_handshake_s2_valid(hello + 1, reply + 1 + HELLO));

        rtmp_handshake_reply_simple(hello + 1, 6, noise, reply);
        assert_false(rtmp_handshake_s2_valid(hello + 1, reply + 1 + HELLO));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opening),
        cmocka_unit_test(test_reply_simple),
        cmocka_unit_test(test_captures),
        cmocka_unit_test(test_reply_digest),
        cmocka_unit_test(test_reply_digest_damaged),
        cmocka_unit_test(test_hello_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
