#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "healthd/stat_xml.h"

/* As nginx 1.22.1 with nginx-rtmp 1.2.2 writes it, shortened; the module calls itself 1.1.4. */
static const char page[] =
    "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\r\n"
    "<?xml-stylesheet type=\"text/xsl\" href=\"stat.xsl\" ?>\r\n"
    "<rtmp>\r\n<nginx_version>1.22.1</nginx_version>\r\n"
    "<nginx_rtmp_version>1.1.4</nginx_rtmp_version>\r\n<compiler>gcc</compiler>\r\n"
    "<built>Nov 10 2022</built>\r\n<pid>18091</pid>\r\n<uptime>2214</uptime>\r\n"
    "<naccepted>133</naccepted>\r\n<bw_in>15200</bw_in>\r\n<bytes_in>103119546</bytes_in>\r\n"
    "<bw_out>37600</bw_out>\r\n<bytes_out>2446168</bytes_out>\r\n<server>\r\n<application>\r\n"
    "<name>live</name>\r\n<live>\r\n"
    "<stream>\r\n<name>pub1</name>\r\n<time>2684</time><bw_in>7</bw_in>\r\n"
    "<bytes_in>106843</bytes_in>\r\n<bw_out>0</bw_out>\r\n<bytes_out>43338</bytes_out>\r\n"
    "<client><id>136</id><address>127.0.0.1</address><time>2005</time>"
    "<flashver>LNX 10,0,32,18</flashver><active/></client>\r\n"
    "<client><id>135</id><flashver>FMLE/3.0 (compatible; Lavf59.27</flashver>"
    "<publishing/><active/></client>\r\n"
    "<meta><video><width>320</width><codec>H264</codec></video></meta>\r\n"
    "<nclients>2</nclients>\r\n<publishing/>\r\n<active/>\r\n</stream>\r\n"
    "<stream><name>waiting</name><bytes_in>5</bytes_in><client><id>137</id></client>"
    "<nclients>1</nclients></stream>\r\n"
    "<nclients>3</nclients>\r\n</live>\r\n</application>\r\n"
    "<application><name>weir_probe</name><live><stream><name>probe1</name><bytes_in>99</bytes_in>"
    "<publishing/></stream><nclients>1</nclients></live></application>"
    "</server>\r\n"
    "<server><application><name>shop/x</name><live><stream><name>a&amp;b&lt;c</name>"
    "<bytes_in>1000</bytes_in><publishing/></stream><nclients>1</nclients></live></application>"
    "</server>\r\n</rtmp>\r\n";

/* Each piece in a buffer of its own size. */
static enum err read_in_pieces(const char *text, size_t len, size_t piece, struct stat_report *out)
{
    struct stat_xml *x;
    assert_int_equal(stat_xml_create(out, &x), ERR_OK);
    enum err e = ERR_OK;
    for (size_t at = 0; at < len && e == ERR_OK; at += piece) {
        const size_t n = len - at < piece ? len - at : piece;
        uint8_t *buf = malloc(n);
        assert_non_null(buf);
        memcpy(buf, text + at, n);
        e = stat_xml_feed(x, buf, n);
        free(buf);
    }
    if (e == ERR_OK)
        e = stat_xml_finish(x);
    stat_xml_destroy(x);
    return e;
}

static enum err read_page(const char *text, struct stat_report *out)
{
    stat_report_init(out, "weir_probe");
    return read_in_pieces(text, strlen(text), strlen(text) + 1, out);
}

static void check_page(const struct stat_report *r)
{
    assert_string_equal(r->version, "nginx 1.22.1, nginx-rtmp 1.1.4");
    assert_int_equal(r->pid, 18091);
    assert_int_equal(r->uptime_ms, 2214000);
    assert_int_equal(r->bandwidth_in, 15200);
    assert_int_equal(r->bandwidth_out, 37600);
    assert_int_equal(r->clients, 5);
    assert_int_equal(r->publishers, 2); /* ours does not count */
    assert_int_equal(r->bytes_in, 107843);
    assert_int_equal(r->key_count, 2);
    assert_string_equal(r->keys[0].text, "live/pub1");
    assert_string_equal(r->keys[1].text, "shop/x/a&b<c");
    assert_int_not_equal(r->apps_hash, 0);
}

static void test_real_page_however_it_is_cut(void **state)
{
    (void)state;
    for (size_t piece = 1; piece <= sizeof page; piece += piece < 64 ? 1 : 97) {
        struct stat_report r;
        stat_report_init(&r, "weir_probe");
        assert_int_equal(read_in_pieces(page, sizeof page - 1, piece, &r), ERR_OK);
        check_page(&r);
        stat_report_deinit(&r);
    }
}

static void test_no_truncation_passes(void **state)
{
    (void)state;
    const size_t end = strlen(page) - 2; /* line end behind the last tag */
    for (size_t len = 0; len < end; len++) {
        struct stat_report r;
        stat_report_init(&r, "weir_probe");
        assert_int_equal(read_in_pieces(page, len, len + 1, &r), ERR_INVALID);
        stat_report_deinit(&r);
    }
}

/* A publisher chooses its stream's name and its flashVer, and must not be able to take the node
 * down with them. */
static void test_hostile_names(void **state)
{
    (void)state;
    static const struct {
        const char *what, *name, *key; /* NULL: no stream key */
    } names[] = {
        {"UTF-8", "caf\xc3\xa9", "live/caf\xc3\xa9"},
        {"Latin-1", "caf\xe9", "live/caf\xe9"},
        {"bytes that are no text at all", "\xff\xfe\x80", "live/\xff\xfe\x80"},
        {"a control byte",
         "a\x01\x1f"
         "b",
         NULL},
        {"a reference beyond Latin-1", "x&#x4e00;", NULL},
        {"nothing", "", NULL},
        {"a slash", "a//b/", "live/a/b"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char text[512];
        struct stat_report r;
        snprintf(text, sizeof text,
                 "<rtmp><nginx_rtmp_version>1</nginx_rtmp_version><server><application><name>live"
                 "</name><live><stream><name>%s</name><publishing/><client><flashver>%s</flashver>"
                 "</client></stream></live></application></server></rtmp>",
                 names[i].name, names[i].name);
        assert_int_equal(read_page(text, &r), ERR_OK);
        assert_int_equal(r.publishers, 1);
        if (r.key_count != (names[i].key ? 1 : 0))
            fail_msg("%s: %u keys", names[i].what, r.key_count);
        if (names[i].key)
            assert_string_equal(r.keys[0].text, names[i].key);
        stat_report_deinit(&r);
    }
}

static void test_tolerant(void **state)
{
    (void)state;
    static const char flv[] =
        "<http-flv><nginx_version>1.24</nginx_version><nginx_http_flv_version>1.2.11"
        "</nginx_http_flv_version><pid>x</pid><uptime/><bw_in>-5</bw_in>"
        "<future><stream><name>no</name><publishing/></stream></future>"
        "<server><application><extra>1</extra><live><stream><publishing/><name>n</name>"
        "<bytes_in>99999999999999999999999</bytes_in></stream></live><name>app</name>"
        "</application></server></http-flv>";
    struct stat_report r;
    assert_int_equal(read_page(flv, &r), ERR_OK);
    assert_string_equal(r.version, "nginx 1.24, nginx-http-flv 1.2.11");
    assert_int_equal(r.pid, 0);
    assert_int_equal(r.bandwidth_in, 0);
    assert_int_equal(r.publishers, 1);
    assert_int_equal(r.key_count, 0); /* its application's name came too late */
    assert_true(r.bytes_in == UINT64_MAX);
    stat_report_deinit(&r);
}

static void test_not_a_page(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "<html><body>502 Bad Gateway</body></html>",
        "<rtmp>",
        "<rtmp></rmtp>",
        "no XML",
        "<rtmp/><rtmp/>",
        ("<!DOCTYPE rtmp [<!ENTITY a "
         "\"b\">]><rtmp><nginx_rtmp_version>&a;</nginx_rtmp_version></rtmp>"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct stat_report r;
        assert_int_equal(read_page(texts[i], &r), ERR_INVALID);
        stat_report_deinit(&r);
    }
}

static void test_many_streams(void **state)
{
    (void)state;
    const uint32_t count = STAT_STREAMS_MAX + 100;
    char *text = malloc(count * 128 + 512);
    assert_non_null(text);
    size_t n = (size_t)sprintf(text, "<rtmp><nginx_rtmp_version>1</nginx_rtmp_version><server>"
                                     "<application><name>live</name><live>");
    for (uint32_t i = 0; i < count; i++)
        n += (size_t)sprintf(
            text + n, "<stream><name>s%u</name><bytes_in>1</bytes_in><publishing/></stream>", i);
    n += (size_t)sprintf(text + n, "</live></application></server></rtmp>");
    struct stat_report r;
    assert_int_equal(read_page(text, &r), ERR_OK);
    assert_int_equal(r.publishers, count);
    assert_int_equal(r.bytes_in, count);
    assert_int_equal(r.key_count, STAT_STREAMS_MAX);
    stat_report_deinit(&r);
    free(text);
}

static void test_applications_in_any_order(void **state)
{
    (void)state;
    static const char *const lists[] = {"ab", "ba", "a", "abc", ""};
    uint64_t hash[5];
    for (size_t i = 0; i < 5; i++) {
        struct stat_report r;
        stat_report_init(&r, "");
        for (const char *p = lists[i]; *p; p++)
            stat_report_add_app(&r, (struct view){.p = (const uint8_t *)p, .len = 1});
        hash[i] = r.apps_hash;
        stat_report_deinit(&r);
    }
    assert_true(hash[0] == hash[1]);
    assert_true(hash[0] != hash[2] && hash[0] != hash[3] && hash[2] != hash[3]);
    assert_true(hash[4] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_page_however_it_is_cut),
        cmocka_unit_test(test_no_truncation_passes),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_tolerant),
        cmocka_unit_test(test_not_a_page),
        cmocka_unit_test(test_many_streams),
        cmocka_unit_test(test_applications_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
