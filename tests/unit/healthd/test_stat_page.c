#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "healthd/stat_page.h"

static const struct {
    const char *text;
    enum err e;
    const char *key;
} pages[] = {
    {" \r\n<rtmp><nginx_rtmp_version>1</nginx_rtmp_version><server><application><name>live</name>"
     "<live><stream><name>a</name><publishing/></stream></live></application></server></rtmp>",
     ERR_OK, "live/a"},
    {"\n {\"streams\":[{\"name\":\"a\",\"app\":\"live\",\"publish\":{\"active\":true}}]}", ERR_OK,
     "live/a"},
    {"", ERR_INVALID, NULL},
    {"   ", ERR_INVALID, NULL},
    {"OK", ERR_INVALID, NULL},
    {"<html></html>", ERR_INVALID, NULL},
};

static enum err feed(const char *text, size_t piece, struct stat_report *r)
{
    struct stat_page p;
    enum err e = ERR_OK;
    const size_t len = strlen(text);
    stat_page_init(&p, r);
    for (size_t at = 0; at < len && e == ERR_OK; at += piece) {
        const size_t n = len - at < piece ? len - at : piece;
        uint8_t *buf = malloc(n);
        assert_non_null(buf);
        memcpy(buf, text + at, n);
        e = stat_page_feed(&p, buf, n);
        free(buf);
    }
    if (e == ERR_OK)
        e = stat_page_finish(&p);
    stat_page_deinit(&p);
    return e;
}

static void test_kind_by_content(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++)
        for (size_t piece = 1; piece < 512; piece = piece * 3 + 1) {
            struct stat_report r;
            stat_report_init(&r, "weir_probe");
            assert_int_equal(feed(pages[i].text, piece, &r), pages[i].e);
            assert_int_equal(r.key_count, pages[i].key ? 1 : 0);
            if (pages[i].key)
                assert_string_equal(r.keys[0].text, pages[i].key);
            stat_report_deinit(&r);
        }
}

static const struct {
    const char *given, *first;
    bool second;
} targets[] = {
    {"/stat", "/stat", false},
    {"/api/v1", "/api/v1/streams/?count=16384", true},
    {"/api/v1/", "/api/v1/streams/?count=16384", true},
    {"/api/v1/streams", "/api/v1/streams/?count=16384", true},
    {"/api/v1/streams/", "/api/v1/streams/?count=16384", true},
    {"/api/v1/streams/?count=5", "/api/v1/streams/?count=5", true},
    {"/api/v1/summaries", "/api/v1/summaries", false},
};

static void test_second_page(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        char target[CONFIG_URL_MAX];
        snprintf(target, sizeof target, "%s", targets[i].given);
        const char *second = stat_page_second(target);
        assert_string_equal(target, targets[i].first);
        assert_int_equal(second != NULL, targets[i].second);
        if (second)
            assert_string_equal(second, "/api/v1/summaries");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kind_by_content),
        cmocka_unit_test(test_second_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
