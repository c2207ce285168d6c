#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "healthd/http.h"

static const struct {
    const char *text;
    const char *host, *target; /* NULL: bad */
    uint16_t port;
} urls[] = {
    {"http://10.0.0.1:8080/stat", "10.0.0.1", "/stat", 8080},
    {"HTTP://node-1/stat?x=1#frag", "node-1", "/stat?x=1", 80},
    {"http://[::1]:81/", "::1", "/", 81},
    {"http://node", "node", "/", 80},
    {"http://node?x", "node", "/?x", 80},
    {"https://node/stat", NULL, NULL, 0},
    {"http://", NULL, NULL, 0},
    {"http:///stat", NULL, NULL, 0},
    {"http://user:pw@node/", NULL, NULL, 0},
    {"http://node:99999/", NULL, NULL, 0},
    {"http://node/a b", NULL, NULL, 0},
    {"http://node/\r\nX: y", NULL, NULL, 0},
    {"node/stat", NULL, NULL, 0},
    {"", NULL, NULL, 0},
};

static void test_urls(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct http_url u = {.port = 7};
        const enum err e = http_url_parse(urls[i].text, &u);
        if ((e == ERR_OK) != (urls[i].host != NULL))
            fail_msg("%s", urls[i].text);
        if (e != ERR_OK) {
            assert_int_equal(u.port, 7);
            continue;
        }
        assert_string_equal(u.host, urls[i].host);
        assert_string_equal(u.target, urls[i].target);
        assert_int_equal(u.port, urls[i].port);
    }
}

static void test_request(void **state)
{
    (void)state;
    struct http_url u;
    char buf[HTTP_REQUEST_MAX + 1];
    assert_int_equal(http_url_parse("http://[::1]:81/stat", &u), ERR_OK);
    buf[http_request_write(&u, buf)] = '\0';
    assert_ptr_equal(strstr(buf, "GET /stat HTTP/1.1\r\nHost: [::1]:81\r\n"), buf);
    assert_non_null(strstr(buf, "\r\nConnection: close\r\n"));
    assert_string_equal(buf + strlen(buf) - 4, "\r\n\r\n");
    memset(u.host, 'h', sizeof u.host - 1);
    memset(u.target, '/', sizeof u.target - 1);
    assert_true(http_request_write(&u, buf) < HTTP_REQUEST_MAX);
}

enum outcome { WHOLE, AT_END, SHORT, BAD };

static const struct {
    const char *text;
    enum outcome outcome;
    int status;
    const char *body;
} answers[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", WHOLE, 200, "hello"},
    {"HTTP/1.1 200 OK\nContent-Length:5\n\nhello", WHOLE, 200, "hello"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", WHOLE, 200, ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n "
     "world\r\n0\r\n\r\n",
     WHOLE, 200, "hello world"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\nTrailer: "
     "x\r\n\r\n",
     WHOLE, 200, "0123456789"},
    {"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nuntil the end", AT_END, 200, "until the end"},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", WHOLE, 200, "x"},
    {"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", WHOLE, 404, "no"},
    {"HTTP/1.1 204 No Content\r\n\r\n", WHOLE, 204, ""},
    {"HTTP/1.1 502\r\nContent-Length: 0\r\n\r\n", WHOLE, 502, ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", SHORT, 200, "hello"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", SHORT, 200, "hello"},
    {"HTTP/1.1 200 OK\r\nContent", SHORT, 200, ""},
    {"", SHORT, 0, ""},
    {"\x03 not HTTP at all\r\n", BAD, 0, ""},
    {"HTTP/2 200\r\n", BAD, 0, ""},
    {"HTTP/1.1 20x OK\r\n", BAD, 0, ""},
    {"HTTP/1.1 2000 OK\r\n", BAD, 0, ""},
    {"HTTP/1.1 200 OK\r\nno colon\r\n", BAD, 0, ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", BAD, 0, ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 16777217\r\n", BAD, 0, ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n", BAD, 0, ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n", BAD, 0, ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", BAD, 0, ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", BAD, 0, "a"},
};

static enum outcome read_answer(struct http_reader *r, const char *text, size_t len, size_t piece,
                                char *body)
{
    size_t body_len = 0;
    http_reader_init(r);
    body[0] = '\0';
    for (size_t at = 0; at < len; at += piece) {
        const size_t n = len - at < piece ? len - at : piece;
        uint8_t *buf = malloc(n);
        assert_non_null(buf);
        memcpy(buf, text + at, n);
        struct view in = {.p = buf, .len = n}, part;
        enum parse_result p;
        while ((p = http_reader_next(r, &in, &part)) == PARSE_OK && part.len > 0) {
            memcpy(body + body_len, part.p, part.len);
            body_len += part.len;
            body[body_len] = '\0';
        }
        free(buf);
        if (p == PARSE_BAD)
            return BAD;
        if (p == PARSE_OK)
            return WHOLE;
    }
    return http_reader_end(r) ? AT_END : SHORT;
}

static void test_answers_however_they_are_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        const size_t len = strlen(answers[i].text);
        for (size_t piece = 1; piece <= len + 1; piece++) {
            struct http_reader r;
            char body[256];
            const enum outcome o = read_answer(&r, answers[i].text, len, piece, body);
            if (o != answers[i].outcome)
                fail_msg("%s in pieces of %zu: %d", answers[i].text, piece, (int)o);
            assert_string_equal(body, answers[i].body);
            if (o != BAD)
                assert_int_equal(r.status, answers[i].status);
        }
    }
}

static void test_limits(void **state)
{
    (void)state;
    struct http_reader r;
    struct view in, part;
    /* A header that never ends, and headers that never end */
    static const char line[] = "X: y\r\n";
    char *text = malloc(HTTP_HEAD_MAX * 2);
    assert_non_null(text);
    memset(text, 'x', HTTP_HEAD_MAX * 2);
    http_reader_init(&r);
    in = (struct view){.p = (uint8_t *)text, .len = HTTP_LINE_MAX + 1};
    assert_int_equal(http_reader_next(&r, &in, &part), PARSE_BAD);
    size_t n = (size_t)sprintf(text, "HTTP/1.1 200 OK\r\n");
    while (n < HTTP_HEAD_MAX + 1)
        n += (size_t)sprintf(text + n, "%s", line);
    http_reader_init(&r);
    in = (struct view){.p = (uint8_t *)text, .len = n};
    assert_int_equal(http_reader_next(&r, &in, &part), PARSE_BAD);
    /* A body without an end */
    http_reader_init(&r);
    in = (struct view){.p = (const uint8_t *)"HTTP/1.1 200 OK\r\n\r\n", .len = 19};
    assert_int_equal(http_reader_next(&r, &in, &part), PARSE_NEED_MORE);
    uint64_t got = 0;
    enum parse_result p;
    do {
        in = (struct view){.p = (uint8_t *)text, .len = HTTP_HEAD_MAX};
        p = http_reader_next(&r, &in, &part);
        got += HTTP_HEAD_MAX;
    } while (p == PARSE_OK);
    assert_int_equal(p, PARSE_BAD);
    assert_int_equal(got, HTTP_BODY_MAX + HTTP_HEAD_MAX);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_answers_however_they_are_cut),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
