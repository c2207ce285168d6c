#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"
#include "captures.h"
#include "rtmp/command.h"

static struct rtmp_command parse_ok(const uint8_t *buf, size_t len)
{
    struct rtmp_command c;
    assert_int_equal(rtmp_command_parse(buf, len, &c), PARSE_OK);
    return c;
}

static void test_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum rtmp_command_kind kind;
    } cases[] = {
        {"connect", RTMP_CMD_CONNECT},
        {"createStream", RTMP_CMD_CREATE_STREAM},
        {"releaseStream", RTMP_CMD_RELEASE_STREAM},
        {"FCPublish", RTMP_CMD_FCPUBLISH},
        {"FCUnpublish", RTMP_CMD_FCUNPUBLISH},
        {"FCSubscribe", RTMP_CMD_FCSUBSCRIBE},
        {"getStreamLength", RTMP_CMD_GET_STREAM_LENGTH},
        {"publish", RTMP_CMD_PUBLISH},
        {"play", RTMP_CMD_PLAY},
        {"play2", RTMP_CMD_PLAY2},
        {"pause", RTMP_CMD_PAUSE},
        {"pauseRaw", RTMP_CMD_PAUSE},
        {"seek", RTMP_CMD_SEEK},
        {"receiveAudio", RTMP_CMD_RECEIVE_AUDIO},
        {"receiveVideo", RTMP_CMD_RECEIVE_VIDEO},
        {"deleteStream", RTMP_CMD_DELETE_STREAM},
        {"closeStream", RTMP_CMD_CLOSE_STREAM},
        {"_checkbw", RTMP_CMD_CHECK_BW},
        {"_result", RTMP_CMD_RESULT},
        {"_error", RTMP_CMD_ERROR},
        {"onStatus", RTMP_CMD_ON_STATUS},
        {"onBWDone", RTMP_CMD_ON_BW_DONE},
        {"onFCPublish", RTMP_CMD_ON_FCPUBLISH},
        {"onFCUnpublish", RTMP_CMD_ON_FCPUBLISH},
        {"onFCSubscribe", RTMP_CMD_ON_FCPUBLISH},
        {"close", RTMP_CMD_CLOSE},
        {"Connect", RTMP_CMD_CONNECT}, /* as nginx-rtmp has it */
        {"PLAY", RTMP_CMD_PLAY},
        {"pauseraw", RTMP_CMD_PAUSE},
        {"connec", RTMP_CMD_OTHER},
        {"connects", RTMP_CMD_OTHER},
        {"", RTMP_CMD_OTHER},
        {"sendMessage", RTMP_CMD_OTHER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t buf[64];
        struct wr w = wr_over(buf, sizeof buf);
        rtmp_write_call(&w, cases[i].name, 3, (struct view){0});
        const struct rtmp_command c = parse_ok(buf, w.len);
        assert_int_equal(c.kind, cases[i].kind);
        assert_true(view_is(c.name, cases[i].name));
        assert_true(c.transaction_id == 3);
        assert_int_equal(c.object.type, AMF0_NULL);
        assert_int_equal(c.arg[0].type, AMF0_UNDEFINED);
        assert_int_equal(c.arg_count, 0);
    }
}

static void test_arguments(void **state)
{
    (void)state;
    uint8_t buf[256];
    struct wr w = wr_over(buf, sizeof buf);
    amf0_write_string(&w, "play");
    amf0_write_number(&w, 4);
    const size_t head = w.len;
    amf0_write_null(&w);
    for (uint32_t i = 0; i < 6; i++)
        amf0_write_number(&w, i);
    const struct rtmp_command c = parse_ok(buf, w.len);
    assert_int_equal(c.arg_count, 6);
    assert_ptr_equal(c.args.p, buf + head);
    assert_int_equal(c.args.len, w.len - head);
    for (uint32_t i = 0; i < 4; i++)
        assert_true(c.arg[i].type == AMF0_NUMBER && c.arg[i].number == i);
}

static void test_transaction_id(void **state)
{
    (void)state;
    static const double cases[][2] = {{0, 0}, {7, 7}, {-1, -1}, {INFINITY, 0}, {-INFINITY, 0}};
    uint8_t buf[64];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wr w = wr_over(buf, sizeof buf);
        rtmp_write_call(&w, "seek", cases[i][0], (struct view){0});
        assert_true(parse_ok(buf, w.len).transaction_id == cases[i][1]);
    }
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_call(&w, "seek", NAN, (struct view){0});
    assert_true(parse_ok(buf, w.len).transaction_id == 0);

    w = wr_over(buf, sizeof buf); /* none, and nothing behind it */
    amf0_write_string(&w, "onBWDone");
    struct rtmp_command c = parse_ok(buf, w.len);
    assert_true(c.transaction_id == 0);
    assert_int_equal(c.object.type, AMF0_UNDEFINED);
    assert_int_equal(c.args.len, 0);

    amf0_write_null(&w); /* none, but arguments */
    amf0_write_string(&w, "x");
    c = parse_ok(buf, w.len);
    assert_true(c.transaction_id == 0);
    assert_int_equal(c.object.type, AMF0_NULL);
    assert_true(view_is(c.arg[0].string, "x"));
}

static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *bytes;
        size_t len;
    } cases[] = {
        {"empty", "", 0},
        {"name is a number", "\0\0\0\0\0\0\0\0\0", 9},
        {"name is null", "\5", 1},
        {"name cut", "\2\0\4pla", 6},
        {"transaction id cut", "\2\0\4play\0\0", 9},
        {"argument cut", "\2\0\4play\0\0\0\0\0\0\0\0\0\5\2\0\4ab", 22},
        {"not AMF0 behind the name", "\2\0\4play\x11", 8},
        {"not AMF0 behind the arguments", "\2\0\4play\0\0\0\0\0\0\0\0\0\5\xff", 18},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *buf = exact_copy(cases[i].bytes, cases[i].len);
        struct rtmp_command c = {.arg_count = 77};
        if (rtmp_command_parse(buf, cases[i].len, &c) != PARSE_BAD || c.arg_count != 77)
            fail_msg("%s", cases[i].name);
        free(buf);
    }
}

static void test_limits(void **state)
{
    (void)state;
    static uint8_t buf[COMMAND_BYTES_MAX + 1];
    static uint8_t text[AMF_STRING_MAX];
    struct rtmp_command c;
    for (uint32_t n = AMF_PROPERTIES_MAX; n <= AMF_PROPERTIES_MAX + 1; n++) {
        struct wr w = wr_over(buf, sizeof buf);
        amf0_write_string(&w, "x");
        amf0_write_number(&w, 1);
        for (uint32_t i = 0; i < n; i++)
            amf0_write_null(&w);
        assert_int_equal(rtmp_command_parse(buf, w.len, &c),
                         n > AMF_PROPERTIES_MAX ? PARSE_BAD : PARSE_OK);
    }
    struct wr w = wr_over(buf, sizeof buf);
    amf0_write_string(&w, "x");
    while (w.cap - w.len >= sizeof text + 3)
        amf0_write_string_view(&w, (struct view){.p = text, .len = sizeof text});
    while (w.len < sizeof buf)
        amf0_write_null(&w);
    assert_int_equal(rtmp_command_parse(buf, COMMAND_BYTES_MAX + 1, &c), PARSE_BAD);
}

/* What real clients send first is understood, cut anywhere without harm, and forwarded as it came.
 */
static void test_captured_connects(void **state)
{
    (void)state;
    static struct capture capture;
    for (size_t i = 0; i < CAPTURE_COUNT; i++) {
        uint8_t bytes[2048], out[2048];
        capture_load(&capture, capture_names[i].name, "c2s");
        const size_t len = capture_first_command(&capture, bytes, sizeof bytes);
        const struct rtmp_command c = parse_ok(bytes, len);
        assert_int_equal(c.kind, RTMP_CMD_CONNECT);
        assert_true(c.transaction_id == 1);
        struct rtmp_connect connect;
        rtmp_connect_read(&c, &connect);
        assert_true(view_is(connect.app, "live"));
        assert_true(connect.tc_url.len > 10 && memcmp(connect.tc_url.p, "rtmp://", 7) == 0);
        assert_true(connect.flash_ver.len > 0);
        assert_true(connect.object_encoding == 0);

        for (size_t n = 0; n < len; n++) {
            uint8_t *cut = exact_copy(bytes, n);
            struct rtmp_command part;
            if (rtmp_command_parse(cut, n, &part) == PARSE_OK)
                assert_int_equal(part.object.type, AMF0_UNDEFINED);
            free(cut);
        }
        uint8_t *whole = exact_copy(bytes, len);
        struct wr w = wr_over(out, sizeof out);
        assert_int_equal(rtmp_write_connect_forward(&w, whole, len, "rtmp://other/x", NULL),
                         ERR_OK);
        assert_int_equal(w.len, len);
        assert_memory_equal(out, bytes, len);
        free(whole);
    }
}

static void test_captured_results(void **state)
{
    (void)state;
    static struct capture capture;
    for (size_t i = 0; i < CAPTURE_COUNT; i++) {
        uint8_t bytes[2048];
        capture_load(&capture, capture_names[i].name, "s2c");
        const size_t len = capture_first_command(&capture, bytes, sizeof bytes);
        const struct rtmp_command c = parse_ok(bytes, len);
        assert_int_equal(c.kind, RTMP_CMD_RESULT);
        assert_true(c.transaction_id == 1);
        struct rtmp_status status;
        rtmp_status_read(&c, &status);
        assert_true(view_is(status.level, "status"));
        assert_true(view_is(status.code, "NetConnection.Connect.Success"));
    }
}

/* A connect with everything that makes forwarding hard; want: as it is to come out. */
static void write_odd_connect(struct wr *w, bool want, enum amf0_type container, bool tc_url)
{
    amf0_write_string(w, "connect");
    amf0_write_number(w, want ? 1 : 9);
    if (container == AMF0_ECMA_ARRAY)
        amf0_write_ecma_array_begin(w, 77);
    else if (container == AMF0_OBJECT)
        amf0_write_object_begin(w);
    else
        wr_bytes(w, "\x10\0\2cn", 5);
    amf0_write_key(w, "app");
    amf0_write_string(w, "live/inst?x=1");
    amf0_write_key(w, "objectEncoding");
    amf0_write_number(w, want ? 0 : 3);
    amf0_write_key(w, "fourCcList");
    wr_bytes(w, "\xa\0\0\0\2\2\0\4av01\2\0\4hvc1", 19);
    amf0_write_key(w, "videoFourCcInfoMap");
    amf0_write_object_begin(w);
    amf0_write_key(w, "objectEncoding"); /* not ours: it is nested */
    amf0_write_number(w, 3);
    amf0_write_object_end(w);
    amf0_write_key(w, "capsEx");
    amf0_write_number(w, 5);
    amf0_write_key(w, "");
    wr_bytes(w, "\xb\x40\0\0\0\0\0\0\0\0\x3c", 11);
    if (tc_url || want) {
        amf0_write_key(w, "tcUrl");
        amf0_write_string(w, tc_url ? "rtmp://h/live" : "rtmp://added/live");
    }
    amf0_write_object_end(w);
    amf0_write_string(w, "extra");
    amf0_write_boolean(w, true);
}

static void test_forward(void **state)
{
    (void)state;
    static const enum amf0_type containers[] = {AMF0_OBJECT, AMF0_ECMA_ARRAY, AMF0_TYPED_OBJECT};
    for (size_t i = 0; i < 6; i++) {
        const enum amf0_type container = containers[i / 2];
        const bool tc_url = i % 2;
        uint8_t in[512], want[512], out[512];
        struct wr win = wr_over(in, sizeof in), wwant = wr_over(want, sizeof want);
        write_odd_connect(&win, false, container, tc_url);
        write_odd_connect(&wwant, true, container, tc_url);
        assert_false(win.full || wwant.full);

        struct wr w = wr_over(out, sizeof out);
        assert_int_equal(rtmp_write_connect_forward(&w, in, win.len, "rtmp://added/live", NULL),
                         ERR_OK);
        assert_int_equal(w.len, wwant.len);
        assert_memory_equal(out, want, w.len);

        const struct rtmp_command c = parse_ok(in, win.len);
        struct rtmp_connect connect;
        rtmp_connect_read(&c, &connect);
        assert_true(view_is(connect.app, "live/inst?x=1"));
        assert_true(view_is(connect.tc_url, tc_url ? "rtmp://h/live" : ""));
        assert_true(connect.object_encoding == 3);
        assert_int_equal(connect.caps_ex, 5);

        for (size_t cap = 0; cap < wwant.len; cap++) {
            uint8_t *small = malloc(cap ? cap : 1);
            struct wr tight = wr_over(small, cap);
            assert_int_equal(
                rtmp_write_connect_forward(&tight, in, win.len, "rtmp://added/live", NULL),
                ERR_LIMIT);
            free(small);
        }
    }
}

static void test_forward_edges(void **state)
{
    (void)state;
    uint8_t in[256], out[256];
    struct wr w = wr_over(in, sizeof in), o = wr_over(out, sizeof out);
    amf0_write_string(&w, "connect"); /* no transaction id, no object */
    assert_int_equal(rtmp_write_connect_forward(&o, in, w.len, "rtmp://h/a", NULL), ERR_OK);
    assert_int_equal(o.len, w.len + 9);
    assert_true(parse_ok(out, o.len).transaction_id == 1);

    amf0_write_number(&w, 1); /* an objectEncoding that is no number stays */
    amf0_write_object_begin(&w);
    amf0_write_key(&w, "objectEncoding");
    amf0_write_string(&w, "3");
    amf0_write_object_end(&w);
    o = wr_over(out, sizeof out);
    assert_int_equal(rtmp_write_connect_forward(&o, in, w.len, NULL, NULL), ERR_OK);
    assert_int_equal(o.len, w.len);
    assert_memory_equal(out, in, w.len);
    assert_int_equal(rtmp_write_connect_forward(&o, in, w.len - 1, NULL, NULL), ERR_INVALID);

    w = wr_over(in, sizeof in);
    rtmp_write_publish(&w, 5, "name", "live");
    assert_int_equal(rtmp_write_connect_forward(&o, in, w.len, NULL, NULL), ERR_INVALID);
}

static const char *const secrets[] = {"token", "expires", NULL};

static void check_without(const char *tc_url, const char *given_url, const char *want_url)
{
    uint8_t in[256], want[256], out[256];
    struct wr win = wr_over(in, sizeof in), wwant = wr_over(want, sizeof want);
    for (int i = 0; i < 2; i++) {
        struct wr *w = i ? &wwant : &win;
        amf0_write_string(w, "connect");
        amf0_write_number(w, 1);
        amf0_write_object_begin(w);
        if (i == 0) {
            amf0_write_key(w, "app");
            amf0_write_string(w, "overruled");
        }
        amf0_write_key(w, "app");
        amf0_write_string(w, i ? "live?a=1" : "live?token=x&a=1&expires=2");
        amf0_write_key(w, "other");
        amf0_write_string(w, "?");
        amf0_write_key(w, "pageUrl");
        if (i)
            amf0_write_string(w, "http://h/");
        else
            wr_bytes(w, "\x0c\0\0\0\x11http://h/?token=x", 22);
        if (i ? want_url : given_url) {
            amf0_write_key(w, "tcUrl");
            amf0_write_string(w, i ? want_url : given_url);
        }
        amf0_write_object_end(w);
    }
    struct wr w = wr_over(out, sizeof out);
    assert_int_equal(rtmp_write_connect_forward(&w, in, win.len, tc_url, secrets), ERR_OK);
    assert_int_equal(w.len, wwant.len);
    assert_memory_equal(out, want, w.len);
}

static void test_forward_without(void **state)
{
    (void)state;
    check_without(NULL, "rtmp://h/live?token=y", "rtmp://h/live");
    check_without(NULL, NULL, NULL);
    check_without("rtmp://h/live?token=x&a=1&expires=2", NULL, "rtmp://h/live?a=1");
}

static void test_command_forward(void **state)
{
    (void)state;
    static const struct {
        const char *name, *rest;
    } cases[] = {
        {"cam1?token=x&b=2&expires=3", "cam1?b=2"},
        {"cam1?token=x", "cam1"},
        {"cam1", "cam1"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t in[128], want[128], out[128];
        struct wr win = wr_over(in, sizeof in), wwant = wr_over(want, sizeof want);
        rtmp_write_publish(&win, 5, cases[i].name, "live?token=z");
        rtmp_write_publish(&wwant, 5, cases[i].rest, "live?token=z");
        struct wr w = wr_over(out, win.len);
        assert_int_equal(rtmp_write_command_forward(&w, in, win.len, secrets), ERR_OK);
        assert_int_equal(w.len, wwant.len);
        assert_memory_equal(out, want, w.len);
        struct wr tight = wr_over(out, wwant.len - 1);
        assert_int_equal(rtmp_write_command_forward(&tight, in, win.len, secrets), ERR_LIMIT);
        assert_int_equal(rtmp_write_command_forward(&w, in, win.len - 1, secrets), ERR_INVALID);
    }
    uint8_t in[64], out[64];
    struct wr win = wr_over(in, sizeof in), w = wr_over(out, sizeof out);
    rtmp_write_call_number(&win, "deleteStream", 0, 1);
    assert_int_equal(rtmp_write_command_forward(&w, in, win.len, secrets), ERR_OK);
    assert_int_equal(w.len, win.len);
    assert_memory_equal(out, in, w.len);
}

/* Nodes read the name where a command has its third argument, whatever stands before it. */
static void test_command_forward_by_position(void **state)
{
    (void)state;
    static const char other[] = "\2\0\5other"; /* a string as object: skipped by position */
    uint8_t in[64], want[64], out[64];
    struct wr wwant = wr_over(want, sizeof want);
    rtmp_write_publish(&wwant, 0, "mine", "secret");
    for (int way = 0; way < 3; way++) {
        struct wr win = wr_over(in, sizeof in), w = wr_over(out, sizeof out);
        amf0_write_string(&win, "publish");
        if (way > 0)
            amf0_write_number(&win, 0);
        if (way == 2)
            wr_bytes(&win, (const uint8_t *)other, sizeof other - 1);
        else
            amf0_write_null(&win);
        amf0_write_string(&win, "mine");
        amf0_write_string(&win, "secret");
        assert_int_equal(rtmp_write_command_forward(&w, in, win.len, NULL), ERR_OK);
        assert_int_equal(w.len, wwant.len);
        assert_memory_equal(out, want, w.len);
        assert_true(w.len <= win.len + COMMAND_GROWS);
    }
}

static void test_connect_read_types(void **state)
{
    (void)state;
    static const double caps[][2] = {
        {1, 1}, {-1, 0}, {NAN, 0}, {1e300, 0}, {4294967295.0, 4294967295.0}};
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        uint8_t buf[128];
        struct wr w = wr_over(buf, sizeof buf);
        amf0_write_string(&w, "connect");
        amf0_write_number(&w, 1);
        amf0_write_object_begin(&w);
        amf0_write_key(&w, "app");
        amf0_write_number(&w, 5); /* not a string: as if absent */
        amf0_write_key(&w, "capsEx");
        amf0_write_number(&w, caps[i][0]);
        amf0_write_object_end(&w);
        const struct rtmp_command c = parse_ok(buf, w.len);
        struct rtmp_connect connect;
        rtmp_connect_read(&c, &connect);
        assert_int_equal(connect.app.len, 0);
        assert_true(connect.caps_ex == caps[i][1]);
    }
}

static void test_write_connect(void **state)
{
    (void)state;
    uint8_t buf[256];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_connect(&w, 1, "live", "rtmp://h:1935/live", "WEIR");
    const struct rtmp_command c = parse_ok(buf, w.len);
    struct rtmp_connect connect;
    rtmp_connect_read(&c, &connect);
    assert_int_equal(c.kind, RTMP_CMD_CONNECT);
    assert_true(view_is(connect.app, "live"));
    assert_true(view_is(connect.tc_url, "rtmp://h:1935/live"));
    assert_true(view_is(connect.flash_ver, "WEIR"));
}

static void test_write_answers(void **state)
{
    (void)state;
    static const uint8_t result[] =
        "\2\0\7_result\0\x3f\xf0\0\0\0\0\0\0\3\0\6fmsVer\2\0\xd"
        "FMS/3,0,1,123\0\xc"
        "capabilities"
        "\0\x40\x3f\0\0\0\0\0\0\0\0\x9\3\0\5level\2\0\6status\0\4code\2\0\x1d"
        "NetConnection.Connect.Success\0\xb"
        "description\2\0\x15"
        "Connection succeeded.\0\xe"
        "objectEncoding\0\0\0\0\0\0\0\0\0\0\0\x9";
    uint8_t buf[512];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_connect_result(&w, 1); /* byte for byte what nginx-rtmp answers */
    assert_int_equal(w.len, sizeof result - 1);
    assert_memory_equal(buf, result, w.len);

    w = wr_over(buf, sizeof buf);
    rtmp_write_number_result(&w, 4, 1);
    assert_int_equal(w.len, 29);
    assert_memory_equal(buf, "\2\0\7_result\0\x40\x10\0\0\0\0\0\0\5\0\x3f\xf0\0\0\0\0\0\0", 29);

    w = wr_over(buf, sizeof buf);
    rtmp_write_null_result(&w, 2);
    assert_int_equal(w.len, 21);
    assert_memory_equal(buf, "\2\0\7_result\0\x40\0\0\0\0\0\0\0\5\5", 21);

    struct rtmp_status status;
    w = wr_over(buf, sizeof buf);
    rtmp_write_connect_error(&w, 1, "NetConnection.Connect.Rejected", "no such app");
    struct rtmp_command c = parse_ok(buf, w.len);
    rtmp_status_read(&c, &status);
    assert_int_equal(c.kind, RTMP_CMD_ERROR);
    assert_true(c.transaction_id == 1);
    assert_true(view_is(status.level, "error"));
    assert_true(view_is(status.code, "NetConnection.Connect.Rejected"));
    assert_true(view_is(status.description, "no such app"));

    w = wr_over(buf, sizeof buf);
    rtmp_write_on_status(&w, "status", "NetStream.Play.Start", "Start live");
    c = parse_ok(buf, w.len);
    rtmp_status_read(&c, &status);
    assert_int_equal(c.kind, RTMP_CMD_ON_STATUS);
    assert_true(c.transaction_id == 0);
    assert_int_equal(c.object.type, AMF0_NULL);
    assert_true(view_is(status.level, "status"));
    assert_true(view_is(status.code, "NetStream.Play.Start"));
}

static void test_write_calls(void **state)
{
    (void)state;
    uint8_t buf[256], again[256];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_publish(&w, 5, "s1?token=abc", "live");
    struct rtmp_command c = parse_ok(buf, w.len);
    assert_int_equal(c.kind, RTMP_CMD_PUBLISH);
    assert_true(view_is(c.arg[0].string, "s1?token=abc") && view_is(c.arg[1].string, "live"));

    /* a call made of another's arguments is the same call */
    const struct view args = {.p = c.args.p + c.object.raw.len,
                              .len = c.args.len - c.object.raw.len};
    struct wr w2 = wr_over(again, sizeof again);
    rtmp_write_call(&w2, "publish", 5, args);
    assert_int_equal(w2.len, w.len);
    assert_memory_equal(again, buf, w.len);

    w = wr_over(buf, sizeof buf);
    rtmp_write_play(&w, 4, "s1", -1000);
    c = parse_ok(buf, w.len);
    assert_int_equal(c.kind, RTMP_CMD_PLAY);
    assert_true(view_is(c.arg[0].string, "s1") && c.arg[1].number == -1000);

    w = wr_over(buf, sizeof buf);
    rtmp_write_call_string(&w, "releaseStream", 2,
                           (struct view){.p = (const uint8_t *)"s1", .len = 2});
    c = parse_ok(buf, w.len);
    assert_int_equal(c.kind, RTMP_CMD_RELEASE_STREAM);
    assert_true(view_is(c.arg[0].string, "s1"));

    w = wr_over(buf, sizeof buf);
    rtmp_write_call_number(&w, "deleteStream", 6, 1);
    c = parse_ok(buf, w.len);
    assert_int_equal(c.kind, RTMP_CMD_DELETE_STREAM);
    assert_true(c.transaction_id == 6 && c.arg[0].number == 1);
}

static void test_status_of_others(void **state)
{
    (void)state;
    uint8_t buf[64];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_number_result(&w, 2, 1);
    const struct rtmp_command c = parse_ok(buf, w.len);
    struct rtmp_status status;
    rtmp_status_read(&c, &status);
    assert_true(view_is(status.level, "") && view_is(status.code, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_transaction_id),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_captured_connects),
        cmocka_unit_test(test_captured_results),
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_forward_edges),
        cmocka_unit_test(test_forward_without),
        cmocka_unit_test(test_command_forward),
        cmocka_unit_test(test_command_forward_by_position),
        cmocka_unit_test(test_connect_read_types),
        cmocka_unit_test(test_write_connect),
        cmocka_unit_test(test_write_answers),
        cmocka_unit_test(test_write_calls),
        cmocka_unit_test(test_status_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
