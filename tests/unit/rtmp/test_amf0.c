#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "rtmp/amf0.h"

#define BYTES(s) (const uint8_t *)(s), sizeof(s) - 1

/* Reads from a buffer of exactly that size; checks that nothing moves unless the result is
 * PARSE_OK. */
static enum parse_result read_exact(const uint8_t *bytes, size_t len, size_t *used)
{
    uint8_t *buf = malloc(len ? len : 1);
    assert_non_null(buf);
    memcpy(buf, bytes, len);
    struct rd r = rd_over(buf, len);
    struct amf0_value v = {.number = 42};
    const enum parse_result result = amf0_read(&r, &v);
    if (result == PARSE_OK) {
        *used = len - r.left;
        assert_ptr_equal(v.raw.p, buf);
        assert_int_equal(v.raw.len, *used);
        struct amf0_walk w = amf0_walk_begin(&v);
        struct view key;
        struct amf0_value inner;
        while (amf0_walk_next(&w, &key, &inner))
            assert_true(inner.raw.p + inner.raw.len <= buf + *used);
    } else {
        assert_ptr_equal(r.p, buf);
        assert_int_equal(r.left, len);
        assert_false(r.bad);
        assert_true(v.number == 42);
    }
    free(buf);
    return result;
}

static const struct {
    const char *name;
    const uint8_t *bytes;
    size_t len;
    enum amf0_type type;
} good[] = {
    {"number", BYTES("\0\x3f\xf0\0\0\0\0\0\0"), AMF0_NUMBER},
    {"boolean", BYTES("\1\1"), AMF0_BOOLEAN},
    {"string", BYTES("\2\0\3abc"), AMF0_STRING},
    {"empty string", BYTES("\2\0\0"), AMF0_STRING},
    {"empty object", BYTES("\3\0\0\x9"), AMF0_OBJECT},
    {"object", BYTES("\3\0\1a\2\0\1x\0\1b\5\0\0\x9"), AMF0_OBJECT},
    {"nested", BYTES("\3\0\1a\3\0\1b\xa\0\0\0\2\5\1\0\0\0\x9\0\0\x9"), AMF0_OBJECT},
    {"empty key", BYTES("\3\0\0\5\0\0\x9"), AMF0_OBJECT},
    {"null", BYTES("\5"), AMF0_NULL},
    {"undefined", BYTES("\6"), AMF0_UNDEFINED},
    {"ecma array", BYTES("\x8\0\0\0\1\0\1a\5\0\0\x9"), AMF0_ECMA_ARRAY},
    {"ecma array counting 0", BYTES("\x8\0\0\0\0\0\1a\5\0\0\x9"), AMF0_ECMA_ARRAY},
    {"ecma array counting too many", BYTES("\x8\xff\xff\xff\xff\0\1a\5\0\0\x9"), AMF0_ECMA_ARRAY},
    {"empty strict array", BYTES("\xa\0\0\0\0"), AMF0_STRICT_ARRAY},
    {"strict array", BYTES("\xa\0\0\0\2\5\2\0\1x"), AMF0_STRICT_ARRAY},
    {"date", BYTES("\xb\x40\0\0\0\0\0\0\0\0\0"), AMF0_DATE},
    {"long string", BYTES("\xc\0\0\0\3abc"), AMF0_LONG_STRING},
    {"unsupported", BYTES("\xd"), AMF0_UNSUPPORTED},
    {"xml", BYTES("\xf\0\0\0\4<a/>"), AMF0_XML},
    {"typed object", BYTES("\x10\0\2cn\0\1a\5\0\0\x9"), AMF0_TYPED_OBJECT},
};

static void test_every_truncation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        size_t used = 0;
        for (size_t n = 0; n < good[i].len; n++) {
            if (read_exact(good[i].bytes, n, &used) != PARSE_NEED_MORE)
                fail_msg("%s cut at %zu", good[i].name, n);
        }
        if (read_exact(good[i].bytes, good[i].len, &used) != PARSE_OK || used != good[i].len)
            fail_msg("%s", good[i].name);

        uint8_t longer[64] = {0}; /* what follows belongs to the next value */
        memcpy(longer, good[i].bytes, good[i].len);
        struct rd r = rd_over(longer, sizeof longer);
        struct amf0_value v;
        assert_int_equal(amf0_read(&r, &v), PARSE_OK);
        assert_int_equal(v.type, good[i].type);
        assert_int_equal(sizeof longer - r.left, good[i].len);
    }
}

static void test_values(void **state)
{
    (void)state;
    struct amf0_value v;
    struct rd r =
        rd_over("\0\x3f\xf0\0\0\0\0\0\0\1\2\1\0\2\0\2hi\xb\x40\0\0\0\0\0\0\0\xff\xff", 29);
    assert_int_equal(amf0_read(&r, &v), PARSE_OK);
    assert_true(v.number == 1);
    assert_int_equal(amf0_read(&r, &v), PARSE_OK);
    assert_true(v.boolean);
    assert_int_equal(amf0_read(&r, &v), PARSE_OK);
    assert_int_equal(v.type, AMF0_BOOLEAN);
    assert_false(v.boolean);
    assert_int_equal(amf0_read(&r, &v), PARSE_OK);
    assert_true(view_is(v.string, "hi"));
    assert_false(view_is(v.string, "h"));
    assert_false(view_is(v.string, "hi!"));
    assert_int_equal(amf0_read(&r, &v), PARSE_OK);
    assert_int_equal(v.type, AMF0_DATE);
    assert_true(v.number == 2);
    assert_int_equal(r.left, 0);
}

static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const uint8_t *bytes;
        size_t len;
    } cases[] = {
        {"movieclip", BYTES("\4")},
        {"reference", BYTES("\7\0\0")},
        {"end marker alone", BYTES("\x9")},
        {"recordset", BYTES("\xe")},
        {"switch to AMF3", BYTES("\x11\1")},
        {"unknown marker", BYTES("\xff")},
        {"bad marker inside an object", BYTES("\3\0\1a\7\0\0")},
        {"end marker behind a key", BYTES("\3\0\1a\x9")},
        {"bad marker inside an array", BYTES("\xa\0\0\0\1\x9")},
        {"long string that is too long", BYTES("\xc\xff\xff\xff\xff")},
        {"long key", BYTES("\3\xff\xff")},
        {"long xml", BYTES("\xf\0\1\0\0")},
        {"long class name", BYTES("\x10\xff\xff")},
        {"strict array of billions", BYTES("\xa\xff\xff\xff\xff")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t used = 0;
        if (read_exact(cases[i].bytes, cases[i].len, &used) != PARSE_BAD)
            fail_msg("%s", cases[i].name);
    }
}

static void test_string_limit(void **state)
{
    (void)state;
    static const uint8_t text[AMF_STRING_MAX + 1];
    static uint8_t buf[AMF_STRING_MAX + 16];
    for (size_t over = 0; over <= 1; over++) {
        const enum parse_result want = over ? PARSE_BAD : PARSE_OK;
        const size_t n = AMF_STRING_MAX + over;
        size_t used = 0;
        struct wr w = wr_over(buf, sizeof buf);
        amf0_write_string_view(&w, (struct view){.p = text, .len = n});
        assert_int_equal(read_exact(buf, w.len, &used), want);

        w = wr_over(buf, sizeof buf);
        wr_u8(&w, AMF0_LONG_STRING);
        wr_u32be(&w, (uint32_t)n);
        wr_bytes(&w, text, n);
        assert_int_equal(read_exact(buf, w.len, &used), want);

        w = wr_over(buf, sizeof buf);
        amf0_write_object_begin(&w);
        wr_u16be(&w, (uint32_t)n);
        wr_bytes(&w, text, n);
        amf0_write_null(&w);
        amf0_write_object_end(&w);
        assert_false(w.full);
        assert_int_equal(read_exact(buf, w.len, &used), want);
    }
}

static void test_depth_limit(void **state)
{
    (void)state;
    for (uint32_t depth = AMF_DEPTH_MAX - 1; depth <= AMF_DEPTH_MAX + 1; depth++) {
        uint8_t buf[256];
        size_t used = 0;
        struct wr objects = wr_over(buf, sizeof buf);
        for (uint32_t i = 0; i < depth; i++) {
            if (i > 0)
                amf0_write_key(&objects, "k");
            amf0_write_object_begin(&objects);
        }
        for (uint32_t i = 0; i < depth; i++)
            amf0_write_object_end(&objects);
        const enum parse_result want = depth > AMF_DEPTH_MAX ? PARSE_BAD : PARSE_OK;
        assert_int_equal(read_exact(buf, objects.len, &used), want);

        struct wr arrays = wr_over(buf, sizeof buf);
        for (uint32_t i = 0; i < depth; i++) {
            wr_u8(&arrays, AMF0_STRICT_ARRAY);
            wr_u32be(&arrays, i + 1 < depth ? 1 : 0);
        }
        assert_int_equal(read_exact(buf, arrays.len, &used), want);
    }
}

static void test_property_limit(void **state)
{
    (void)state;
    static uint8_t buf[8192];
    for (uint32_t n = AMF_PROPERTIES_MAX; n <= AMF_PROPERTIES_MAX + 1; n++) {
        const enum parse_result want = n > AMF_PROPERTIES_MAX ? PARSE_BAD : PARSE_OK;
        size_t used = 0;
        struct wr w = wr_over(buf, sizeof buf);
        amf0_write_object_begin(&w);
        for (uint32_t i = 0; i < n; i++) {
            amf0_write_key(&w, "k");
            amf0_write_null(&w);
        }
        amf0_write_object_end(&w);
        assert_int_equal(read_exact(buf, w.len, &used), want);

        w = wr_over(buf, sizeof buf);
        wr_u8(&w, AMF0_STRICT_ARRAY);
        wr_u32be(&w, n);
        for (uint32_t i = 0; i < n; i++)
            amf0_write_null(&w);
        assert_int_equal(read_exact(buf, w.len, &used), want);

        w = wr_over(buf, sizeof buf); /* nested values count as well: two arrays share the limit */
        wr_u8(&w, AMF0_STRICT_ARRAY);
        wr_u32be(&w, 2);
        for (uint32_t k = 0; k < 2; k++) {
            const uint32_t part = k ? n / 2 - 1 : n - n / 2 - 1;
            wr_u8(&w, AMF0_STRICT_ARRAY);
            wr_u32be(&w, part);
            for (uint32_t i = 0; i < part; i++)
                amf0_write_null(&w);
        }
        assert_int_equal(read_exact(buf, w.len, &used), want);
    }
}

static struct amf0_value read_one(const uint8_t *buf, size_t len)
{
    struct rd r = rd_over(buf, len);
    struct amf0_value v;
    assert_int_equal(amf0_read(&r, &v), PARSE_OK);
    assert_int_equal(r.left, 0);
    return v;
}

static void test_walk(void **state)
{
    (void)state;
    static const uint8_t bytes[] = "\x10\0\2cn\0\1a\2\0\1x\0\0\5\0\1b\xa\0\0\0\2\5\1\1\0\0\x9";
    const struct amf0_value v = read_one(bytes, sizeof bytes - 1);
    struct amf0_walk w = amf0_walk_begin(&v);
    struct view key;
    struct amf0_value item;
    assert_true(amf0_walk_next(&w, &key, &item));
    assert_true(view_is(key, "a"));
    assert_true(view_is(item.string, "x"));
    assert_true(amf0_walk_next(&w, &key, &item));
    assert_true(view_is(key, ""));
    assert_int_equal(item.type, AMF0_NULL);
    assert_true(amf0_walk_next(&w, &key, &item));
    assert_true(view_is(key, "b"));
    struct amf0_walk elements = amf0_walk_begin(&item);
    assert_false(amf0_walk_next(&w, &key, &item));
    assert_false(amf0_walk_next(&w, &key, &item));

    assert_true(amf0_walk_next(&elements, &key, &item));
    assert_int_equal(key.len, 0);
    assert_int_equal(item.type, AMF0_NULL);
    assert_true(amf0_walk_next(&elements, &key, &item));
    assert_true(item.boolean);
    assert_false(amf0_walk_next(&elements, &key, &item));

    const struct amf0_value scalar = read_one(BYTES("\2\0\1x"));
    const struct amf0_value never_read = {.type = AMF0_UNDEFINED};
    struct amf0_walk none = amf0_walk_begin(&scalar);
    assert_false(amf0_walk_next(&none, &key, &item));
    none = amf0_walk_begin(&never_read);
    assert_false(amf0_walk_next(&none, &key, &item));
}

static void test_get(void **state)
{
    (void)state;
    uint8_t buf[256];
    struct wr w = wr_over(buf, sizeof buf);
    amf0_write_ecma_array_begin(&w, 0);
    amf0_write_key(&w, "twice");
    amf0_write_string(&w, "first");
    amf0_write_key(&w, "number");
    amf0_write_number(&w, 2.5);
    amf0_write_key(&w, "inner");
    amf0_write_object_begin(&w);
    amf0_write_key(&w, "hidden");
    amf0_write_boolean(&w, true);
    amf0_write_object_end(&w);
    amf0_write_key(&w, "twice");
    amf0_write_string(&w, "last");
    amf0_write_object_end(&w);
    assert_false(w.full);
    const struct amf0_value v = read_one(buf, w.len);

    struct amf0_value got;
    struct view s = {0};
    double number = 7;
    assert_true(amf0_get_string(&v, "twice", &s));
    assert_true(view_is(s, "last"));
    assert_true(amf0_get_number(&v, "number", &number));
    assert_true(number == 2.5);
    assert_false(amf0_get(&v, "hidden", &got));
    assert_false(amf0_get(&v, "twic", &got));
    assert_true(amf0_get(&v, "inner", &got));
    assert_true(amf0_get(&got, "hidden", &got));
    assert_true(got.boolean);
    assert_false(amf0_get_string(&v, "number", &s));
    assert_false(amf0_get_number(&v, "twice", &number));
    assert_true(view_is(s, "last"));

    const struct amf0_value array = read_one(BYTES("\xa\0\0\0\1\5"));
    assert_false(amf0_get(&array, "", &got)); /* elements have no keys */
}

static void write_everything(struct wr *w)
{
    amf0_write_number(w, -0.5);
    amf0_write_boolean(w, true);
    amf0_write_string(w, "text");
    amf0_write_null(w);
    amf0_write_object_begin(w);
    amf0_write_key(w, "k");
    amf0_write_ecma_array_begin(w, 1);
    amf0_write_key(w, "n");
    amf0_write_number(w, INFINITY);
    amf0_write_object_end(w);
    amf0_write_object_end(w);
}

static void test_write(void **state)
{
    (void)state;
    static const uint8_t want[] = "\0\xbf\xe0\0\0\0\0\0\0\1\1\2\0\4text\5\3\0\1k\x8\0\0\0\1\0\1n\0"
                                  "\x7f\xf0\0\0\0\0\0\0\0\0\x9\0\0\x9";
    uint8_t buf[128];
    struct wr w = wr_over(buf, sizeof buf);
    write_everything(&w);
    assert_false(w.full);
    assert_int_equal(w.len, sizeof want - 1);
    assert_memory_equal(buf, want, w.len);
    for (size_t cap = 0; cap < sizeof want - 1; cap++) {
        uint8_t *small = malloc(cap ? cap : 1);
        struct wr tight = wr_over(small, cap);
        write_everything(&tight);
        assert_true(tight.full);
        assert_true(tight.len <= cap);
        free(small);
    }
}

static void test_write_long_string(void **state)
{
    (void)state;
    static const uint8_t text[UINT16_MAX + 1] = {'a'};
    static uint8_t buf[UINT16_MAX + 16];
    struct wr w = wr_over(buf, sizeof buf);
    amf0_write_string_view(&w, (struct view){.p = text, .len = UINT16_MAX});
    assert_int_equal(w.len, 3 + UINT16_MAX);
    assert_memory_equal(buf,
                        "\2\xff\xff"
                        "a",
                        4);
    w = wr_over(buf, sizeof buf);
    amf0_write_string_view(&w, (struct view){.p = text, .len = UINT16_MAX + 1});
    assert_int_equal(w.len, 5 + UINT16_MAX + 1);
    assert_memory_equal(buf,
                        "\xc\0\1\0\0"
                        "a",
                        6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_string_limit),
        cmocka_unit_test(test_depth_limit),
        cmocka_unit_test(test_property_limit),
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_long_string),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
