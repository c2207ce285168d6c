#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "healthd/stat_json.h"

static const char streams[] =
    "{\"code\":0,\"server\":\"vid-1\",\"service\":\"s\",\"pid\":\"7\",\"streams\":["
    "{\"id\":\"vid-2\",\"name\":\"cam1\",\"vhost\":\"vid-3\",\"app\":\"live\",\"clients\":3,"
    "\"send_bytes\":1,\"recv_bytes\":106843,\"kbps\":{\"recv_30s\":1500,\"send_30s\":3000},"
    "\"publish\":{\"active\":true,\"cid\":\"x\"}},"
    "{\"name\":\"gone\",\"app\":\"live\",\"clients\":1,\"recv_bytes\":5,"
    "\"kbps\":{\"recv_30s\":0,\"send_30s\":2},\"publish\":{\"active\":false}},"
    "{\"name\":\"p1\",\"app\":\"weir_probe\",\"clients\":1,\"recv_bytes\":9,\"publish\":{"
    "\"active\":true}}"
    "]}";
static const char summaries[] =
    "{\"code\":0,\"data\":{\"ok\":true,\"now_ms\":1,\"self\":{\"version\":\"5.0.213\",\"pid\":7,"
    "\"ppid\":1,\"argv\":\"./objs/srs\",\"srs_uptime\":33},\"system\":{}}}";

/* In a heap buffer of its own size. */
static enum err parse(const char *text, size_t len, struct stat_report *r)
{
    uint8_t *buf = malloc(len ? len : 1);
    assert_non_null(buf);
    memcpy(buf, text, len);
    const enum err e = stat_json_parse(buf, len, r);
    free(buf);
    return e;
}

static void test_both_pages(void **state)
{
    (void)state;
    struct stat_report r;
    stat_report_init(&r, "weir_probe");
    assert_int_equal(parse(streams, sizeof streams - 1, &r), ERR_OK);
    assert_int_equal(parse(summaries, sizeof summaries - 1, &r), ERR_OK);
    assert_string_equal(r.version, "SRS 5.0.213");
    assert_int_equal(r.pid, 7);
    assert_int_equal(r.uptime_ms, 33000);
    assert_int_equal(r.bandwidth_in, 1500000);
    assert_int_equal(r.bandwidth_out, 3002000);
    assert_int_equal(r.clients, 5);
    assert_int_equal(r.publishers, 1);
    assert_int_equal(r.bytes_in, 106843);
    assert_int_equal(r.key_count, 1);
    assert_string_equal(r.keys[0].text, "live/cam1");
    stat_report_deinit(&r);
}

static void test_no_truncation_passes(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof streams - 1; len++) {
        struct stat_report r;
        stat_report_init(&r, "");
        assert_int_equal(parse(streams, len, &r), ERR_INVALID);
        stat_report_deinit(&r);
    }
}

static const struct {
    const char *text;
    enum err e;
    const char *key; /* of the one stream, or NULL */
} rows[] = {
    {"{}", ERR_INVALID, NULL},
    {"[]", ERR_INVALID, NULL},
    {"{\"streams\":{}}", ERR_INVALID, NULL},
    {"{\"code\":100,\"data\":null}", ERR_INVALID, NULL},
    {"{\"streams\":[]}", ERR_OK, NULL},
    {"{\"streams\":[1,null,[],{\"publish\":1,\"clients\":\"x\",\"kbps\":[]}]}", ERR_OK, NULL},
    {"{\"streams\":[{\"name\":5,\"app\":\"live\",\"publish\":{\"active\":true}}]}", ERR_OK, NULL},
    {"{\"streams\":[{\"clients\":-7,\"recv_bytes\":1e300,\"name\":\"n\",\"app\":\"a\","
     "\"publish\":{\"active\":true}}]}",
     ERR_OK, "a/n"},
    {"{\"streams\":[{\"name\":\"caf\xe9\",\"app\":\"a\",\"publish\":{\"active\":true}}]}", ERR_OK,
     "a/caf\xe9"},
    {"{\"streams\":[{\"name\":\"caf\xc3\xa9\",\"app\":\"a\",\"publish\":{\"active\":true}}]}",
     ERR_OK, "a/caf\xc3\xa9"},
    {"{\"streams\":[{\"name\":\"x\x01y\\u0000\",\"app\":\"a\",\"publish\":{\"active\":true}}]}",
     ERR_OK, NULL},
    {"{\"data\":{\"self\":{\"version\":5,\"pid\":\"12\",\"srs_uptime\":1.5}}}", ERR_OK, NULL},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct stat_report r;
        stat_report_init(&r, "weir_probe");
        if (parse(rows[i].text, strlen(rows[i].text), &r) != rows[i].e)
            fail_msg("%s", rows[i].text);
        assert_int_equal(r.key_count, rows[i].key ? 1 : 0);
        if (rows[i].key)
            assert_string_equal(r.keys[0].text, rows[i].key);
        stat_report_deinit(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_pages),
        cmocka_unit_test(test_no_truncation_passes),
        cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
