#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"

#define TEXT(s) (s), sizeof(s) - 1

static void test_quote(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t len;
        const char *logfmt, *json;
    } cases[] = {
        {TEXT("live"), "live", "\"live\""},
        {TEXT("10.0.0.1:1935"), "10.0.0.1:1935", "\"10.0.0.1:1935\""},
        {TEXT("[::1]:1"), "[::1]:1", "\"[::1]:1\""},
        {TEXT("#9c1e+a/b@c,d-e_f"), "#9c1e+a/b@c,d-e_f", "\"#9c1e+a/b@c,d-e_f\""},
        {TEXT(""), "\"\"", "\"\""},
        {TEXT("a b"), "\"a b\"", "\"a b\""},
        {TEXT("a=b"), "\"a=b\"", "\"a=b\""},
        {TEXT("a\"b\\c"), "\"a\\\"b\\\\c\"", "\"a\\\"b\\\\c\""},
        {TEXT("x\nlevel=error"), "\"x\\nlevel=error\"", "\"x\\nlevel=error\""},
        {TEXT("\r\t"), "\"\\r\\t\"", "\"\\r\\t\""},
        {TEXT("a\0b"), "\"a\\x00b\"", "\"a\\u0000b\""},
        {TEXT("\x1b[2J\x7f"), "\"\\x1b[2J\\x7f\"", "\"\\u001b[2J\\u007f\""},
        {TEXT("caf\xc3\xa9"), "\"caf\xc3\xa9\"", "\"caf\xc3\xa9\""},
        {TEXT("\xf0\x9f\x98\x80"), "\"\xf0\x9f\x98\x80\"", "\"\xf0\x9f\x98\x80\""},
        {TEXT("\xff!"), "\"\\xff!\"", "\"\xef\xbf\xbd!\""},
        {TEXT("\xc3"), "\"\\xc3\"", "\"\xef\xbf\xbd\""},
        {TEXT("\xc0\xaf"), "\"\\xc0\\xaf\"", "\"\xef\xbf\xbd\xef\xbf\xbd\""}, /* overlong */
        {TEXT("\xed\xa0\x80"), "\"\\xed\\xa0\\x80\"",
         "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* surrogate */
        {TEXT("\xf4\x90\x80\x80"), "\"\\xf4\\x90\\x80\\x80\"",
         "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},  /* above U+10FFFF */
        {TEXT("a\xc2\x85z"), "\"a\\xc2\\x85z\"", "\"a\\u0085z\""}, /* next line */
        {TEXT("\xe2\x80\xa8\xe2\x80\xae"),
         "\"\\xe2\\x80\\xa8\\xe2\\x80\\xae\"", /* line separator, reversal */
         "\"\\u2028\\u202e\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char buf[128];
        size_t n = log_quote(LOG_LOGFMT, cases[i].in, cases[i].len, buf, sizeof buf - 1);
        buf[n] = '\0';
        assert_string_equal(buf, cases[i].logfmt);
        n = log_quote(LOG_JSON, cases[i].in, cases[i].len, buf, sizeof buf - 1);
        buf[n] = '\0';
        assert_string_equal(buf, cases[i].json);
    }
}

/* At any room: never more than that, and what is written is whole. */
static void test_quote_room(void **state)
{
    (void)state;
    static const char in[] = "a\"\n\xc3\xa9\x01\xff-tail";
    for (int format = LOG_LOGFMT; format <= LOG_JSON; format++) {
        for (size_t cap = 0; cap < 48; cap++) {
            char buf[64];
            memset(buf, '#', sizeof buf);
            const size_t n = log_quote((enum log_format)format, in, sizeof in - 1, buf, cap);
            assert_true(n <= cap);
            assert_int_equal(buf[cap], '#');
            if (cap < 2) {
                assert_int_equal(n, 0);
                continue;
            }
            assert_true(n >= 2 && buf[0] == '"' && buf[n - 1] == '"');
            assert_false(n > 2 && buf[n - 2] == '\\' && buf[n - 3] != '\\');
        }
    }
}

static void test_quote_cut(void **state)
{
    (void)state;
    char in[LOG_VALUE_MAX + 50], buf[8 * LOG_VALUE_MAX];
    memset(in, 'x', sizeof in);
    assert_int_equal(log_quote(LOG_LOGFMT, in, sizeof in, buf, sizeof buf), LOG_VALUE_MAX);
    assert_int_equal(log_quote(LOG_JSON, in, sizeof in, buf, sizeof buf), LOG_VALUE_MAX + 2);
    /* the cut falls into a character: it goes as a whole */
    static const char euro[] = {'\xe2', '\x82', '\xac'};
    memcpy(in + LOG_VALUE_MAX - 1, euro, sizeof euro);
    assert_int_equal(log_quote(LOG_LOGFMT, in, sizeof in, buf, sizeof buf), LOG_VALUE_MAX - 1);
}

static void test_line(void **state)
{
    (void)state;
    char buf[LOG_LINE_MAX + 1];
    struct log l;
    log_init(&l, -1, LOG_INFO, LOG_LOGFMT);
    const struct log_field f[] = {
        log_text(K_SID, "4f21"),       log_text(K_APP, ""),       log_text(K_STREAM, NULL),
        log_text(K_DETAIL, "a b"),     log_u64(K_MS, UINT64_MAX), log_i64(K_STATUS, -3),
        log_text_n(K_NODE, "n3xx", 2),
    };
    size_t n = log_format_line(&l, 1769890500123, LOG_INFO, EV_STREAM_PLACED, f, 7, buf);
    buf[n] = '\0';
    assert_string_equal(
        buf, "ts=2026-01-31T20:15:00.123Z level=info event=stream_placed sid=4f21 detail=\"a b\" "
             "ms=18446744073709551615 status=-3 node=n3\n");
    l.worker = 2;
    l.format = LOG_JSON;
    n = log_format_line(&l, 0, LOG_ERROR, EV_STORE_FAILED, f, 7, buf);
    buf[n] = '\0';
    assert_string_equal(
        buf, "{\"ts\":\"1970-01-01T00:00:00.000Z\",\"level\":\"error\",\"event\":\"store_failed\","
             "\"worker\":2,\"sid\":\"4f21\",\"detail\":\"a b\",\"ms\":18446744073709551615,"
             "\"status\":-3,\"node\":\"n3\"}\n");
}

/* Fields that do not fit are left out whole; shorter ones behind them still come. */
static void test_line_full(void **state)
{
    (void)state;
    char big[LOG_VALUE_MAX], buf[LOG_LINE_MAX];
    memset(big, '\x01', sizeof big);
    struct log_field f[41];
    for (size_t i = 0; i < 40; i++)
        f[i] = log_text_n(K_DETAIL, big, sizeof big);
    f[40] = log_text(K_WHY, "done");
    struct log l;
    for (int format = LOG_LOGFMT; format <= LOG_JSON; format++) {
        log_init(&l, -1, LOG_INFO, (enum log_format)format);
        const size_t n = log_format_line(&l, 0, LOG_INFO, EV_SESSION_CLOSED, f, 41, buf);
        assert_true(n > LOG_LINE_MAX / 2 && n <= LOG_LINE_MAX);
        assert_ptr_equal(memchr(buf, '\n', n), buf + n - 1);
        const char *end = format == LOG_JSON ? ",\"why\":\"done\"}\n" : " why=done\n";
        assert_memory_equal(buf + n - strlen(end), end, strlen(end));
    }
}

static void test_write(void **state)
{
    (void)state;
    int fd[2];
    char got[256];
    assert_int_equal(pipe(fd), 0);
    struct log l;
    log_init(&l, fd[1], LOG_WARN, LOG_LOGFMT);
    LOG(&l, LOG_INFO, EV_NODES_CHANGED, log_text(K_NODE, "n1"));
    assert_int_equal(l.lines, 0);
    LOG(&l, LOG_WARN, EV_NODES_CHANGED, log_text(K_NODE, "n1"), log_u64(K_COUNT, 2));
    assert_int_equal(l.lines, 1);
    const ssize_t n = read(fd[0], got, sizeof got - 1);
    assert_true(n > 0);
    got[n] = '\0';
    assert_non_null(strstr(got, "Z level=warn event=nodes_changed node=n1 count=2\n"));

    close(fd[0]);
    close(fd[1]);
}

/* Another writer of the same pipe or socket takes the last room; the reader comes back later. */
static void check_full(int reader, int writer)
{
    static char got[1 << 20];
    struct log l;
    log_init(&l, log_open(writer), LOG_WARN, LOG_LOGFMT);
    assert_int_equal(fcntl(writer, F_GETFL) & O_NONBLOCK, 0); /* it is not ours alone */
    if (l.fd != writer)
        assert_true(fcntl(l.fd, F_GETFL) & O_NONBLOCK);
    for (int i = 0; i < 10000 && l.dropped == 0; i++)
        LOG(&l, LOG_ERROR, EV_STORE_FAILED, log_text(K_DETAIL, "it fills up"));
    LOG(&l, LOG_INFO, EV_STORE_FAILED, log_text(K_DETAIL, "would not have been written"));
    LOG(&l, LOG_ERROR, EV_STORE_FAILED, log_text(K_DETAIL, "no room for it either"));
    assert_int_equal(l.dropped, 2);
    assert_int_equal(log_count_lost(&l), 2);
    assert_int_equal(log_count_lost(&l), 0);
    const uint64_t before = l.lines;
    ssize_t n = read(reader, got, sizeof got);
    assert_true(n > 0 && got[n - 1] == '\n');
    assert_int_equal(fcntl(reader, F_SETFL, O_NONBLOCK), 0);
    while (read(reader, got, sizeof got) > 0)
        continue;
    for (int i = 0; i < 2; i++)
        LOG(&l, LOG_ERROR, EV_STORE_RECOVERED, log_text(K_DETAIL, "room again"));
    assert_int_equal(l.lines, before + 3);
    assert_int_equal(l.dropped, 2);
    n = read(reader, got, sizeof got - 1);
    assert_true(n > 0);
    got[n] = '\0';
    const char *lost = strstr(got, "event=lines_lost count=2\n");
    assert_non_null(lost);
    assert_null(strstr(strchr(lost, '\n'), "lines_lost"));
    assert_true(lost < strstr(got, "store_recovered"));
    if (l.fd != writer)
        close(l.fd);
}

static void test_full_pipe(void **state)
{
    (void)state;
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    check_full(fd[0], fd[1]);
    close(fd[0]);
    close(fd[1]);
}

static void test_full_socket(void **state)
{
    (void)state;
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    check_full(fd[0], fd[1]);
    close(fd[0]);
    close(fd[1]);
}

static void test_names(void **state)
{
    (void)state;
    for (int i = 0; i < LOG_EVENT_COUNT; i++)
        assert_non_null(log_event_name((enum log_event)i));
    for (int i = 0; i < LOG_KEY_COUNT; i++)
        assert_non_null(log_key_name((enum log_key)i));
    for (int i = 0; i < LOG_LEVEL_COUNT; i++)
        assert_non_null(log_level_name((enum log_level)i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quote),     cmocka_unit_test(test_quote_room),
        cmocka_unit_test(test_quote_cut), cmocka_unit_test(test_line),
        cmocka_unit_test(test_line_full), cmocka_unit_test(test_write),
        cmocka_unit_test(test_full_pipe), cmocka_unit_test(test_full_socket),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
