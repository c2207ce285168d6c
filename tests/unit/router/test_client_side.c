#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/client_side.h"
#include "tests/unit/router/wire.h"
#include "tests/unit/rtmp/captures.h"

static const uint8_t noise[RTMP_HANDSHAKE_BYTES];
static const struct rtmp_chunk_limits limits = {
    .message_bytes = 1 << 20, .unfinished_bytes = 2 << 20, .chunk_streams = 64};

struct bench {
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct client_side c;
    uint64_t hash; /* of all events so far */
    uint32_t counts[CLIENT_END + 1];
    enum parse_result last;
    char name[64]; /* of the last publish or play */
};

static void bench_init(struct bench *b)
{
    memset(b, 0, sizeof *b);
    block_pool_init(&b->blocks, 0);
    rtmp_pool_init(&b->pool, &b->blocks);
    client_side_init(&b->c, &b->pool, &limits);
    b->last = PARSE_NEED_MORE;
}

/* Nothing may be left, whatever happened. */
static void bench_deinit(struct bench *b)
{
    client_side_deinit(&b->c);
    assert_int_equal(b->pool.live, 0);
    assert_int_equal(b->blocks.live_bytes, 0);
    rtmp_pool_deinit(&b->pool);
    block_pool_deinit(&b->blocks);
}

static void note(struct bench *b, const struct client_event *ev)
{
    b->counts[ev->kind]++;
    b->hash = wire_hash_message(b->hash * 31 + ev->kind, ev->msg);
    if (ev->kind == CLIENT_PUBLISH || ev->kind == CLIENT_PLAY) {
        assert_int_equal(ev->cmd.arg[0].type, AMF0_STRING);
        assert_true(ev->cmd.arg[0].string.len < sizeof b->name);
        memcpy(b->name, ev->cmd.arg[0].string.p, ev->cmd.arg[0].string.len);
        b->name[ev->cmd.arg[0].string.len] = '\0';
    }
}

static void feed(struct bench *b, const uint8_t *p, size_t len)
{
    struct slice in = exact_slice(&b->blocks, p, (uint32_t)len);
    struct block *block = in.block;
    struct client_event ev;
    while (b->last != PARSE_BAD &&
           (b->last = client_side_next(&b->c, &in, noise, 1, &ev)) == PARSE_OK) {
        note(b, &ev);
        rtmp_msg_unref(ev.msg);
    }
    if (b->last == PARSE_NEED_MORE)
        assert_int_equal(in.len, 0);
    block_unref(block);
}

static void feed_wire(struct bench *b, struct wire *w)
{
    feed(b, w->bytes, w->len);
    w->len = 0;
}

static void wire_hello(struct wire *w)
{
    static const uint8_t hello[RTMP_C0C1_BYTES + RTMP_HANDSHAKE_BYTES] = {RTMP_VERSION};
    wire_raw(w, hello, sizeof hello);
}

static void wire_connect(struct wire *w, const char *app)
{
    uint8_t buf[1024];
    struct wr command = wr_over(buf, sizeof buf);
    rtmp_write_connect(&command, 1, app, "rtmp://weir/live", "test");
    wire_command(w, 0, &command);
}

static void wire_publish(struct wire *w, const char *name)
{
    uint8_t buf[256];
    struct wr command = wr_over(buf, sizeof buf);
    rtmp_write_publish(&command, 5, name, "live");
    wire_command(w, CLIENT_MSID, &command);
}

/* ---- recorded clients ---- */

enum { CUT_UP_TO = CAPTURE_HANDSHAKE + 2048 }; /* all of set-up; behind it every 61st position */

static bool publishes(const char *name)
{
    return strstr(name, "publish") != NULL || strstr(name, "push") != NULL;
}

static void recorded_clients_are_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < CAPTURE_COUNT; i++) {
        struct capture cap;
        struct bench b;
        capture_load(&cap, capture_names[i].name, "c2s");
        bench_init(&b);
        feed(&b, cap.buf, cap.len);
        assert_int_equal(b.last, PARSE_NEED_MORE);
        assert_int_equal(b.c.bytes_in, cap.len);
        const bool pub = publishes(capture_names[i].name);
        assert_int_equal(b.counts[CLIENT_PUBLISH], pub);
        assert_int_equal(b.counts[CLIENT_PLAY], !pub);
        assert_true((b.counts[CLIENT_MEDIA] > 0) == pub);
        assert_true(b.name[0] != '\0');
        assert_true(b.c.info.app.len > 0);
        bench_deinit(&b);
    }
}

static void recorded_clients_may_be_cut_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < CAPTURE_COUNT; i++) {
        struct capture cap;
        struct bench whole;
        capture_load(&cap, capture_names[i].name, "c2s");
        bench_init(&whole);
        feed(&whole, cap.buf, cap.len);
        for (size_t at = 1; at < cap.len; at += at < CUT_UP_TO ? 1 : 61) {
            struct bench b;
            bench_init(&b);
            feed(&b, cap.buf, at);
            feed(&b, cap.buf + at, cap.len - at);
            assert_int_equal(b.last, PARSE_NEED_MORE);
            assert_int_equal(b.hash, whole.hash);
            bench_deinit(&b);
        }
        struct bench bytes;
        bench_init(&bytes);
        for (size_t at = 0; at < cap.len; at++)
            feed(&bytes, cap.buf + at, 1);
        assert_int_equal(bytes.hash, whole.hash);
        bench_deinit(&bytes);
        bench_deinit(&whole);
    }
}

/* ---- handshake ---- */

static void the_answer_waits_for_c1_only(void **state)
{
    (void)state;
    struct bench b;
    uint8_t hello[RTMP_C0C1_BYTES], answer[RTMP_S0S1S2_BYTES + 1];
    bench_init(&b);
    hello[0] = RTMP_VERSION;
    for (size_t i = 1; i < sizeof hello; i++)
        hello[i] = (uint8_t)(i * 7);
    feed(&b, hello, sizeof hello - 1);
    assert_true(rtmp_chunk_writer_empty(&b.c.link.out));
    feed(&b, hello + sizeof hello - 1, 1);
    assert_int_equal(wire_drain(&b.c.link.out, answer, 0, sizeof answer), RTMP_S0S1S2_BYTES);
    assert_int_equal(answer[0], RTMP_VERSION);
    assert_true(answer[1 + 4] < 3); /* or ffmpeg wants a digest */
    assert_memory_equal(answer + 1 + RTMP_HANDSHAKE_BYTES, hello + 1, RTMP_HANDSHAKE_BYTES);
    assert_int_equal(b.c.phase, CLIENT_C2);
    bench_deinit(&b);
}

static void other_openings_have_their_own_reason(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        enum close_why why;
    } cases[] = {
        {"\x06", WHY_RTMPE},
        {"\x16\x03\x01", WHY_TLS},
        {"GET / HTTP/1.1\r\n", WHY_HTTP},
        {"POST /open/1 HTTP/1.1\r\n", WHY_HTTP},
        {"SSH-2.0-OpenSSH", WHY_SSH},
        {"PROXY TCP4 1.2.3.4", WHY_PROXY_UNEXPECTED},
        {"\r\n\r\n", WHY_PROXY_UNEXPECTED},
        {"\xf3", WHY_VERSION_BAD},
        {"\x02", WHY_VERSION_BAD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench b;
        bench_init(&b);
        feed(&b, (const uint8_t *)"", 0); /* nothing behind a PROXY header says nothing */
        assert_int_equal(b.last, PARSE_NEED_MORE);
        feed(&b, (const uint8_t *)cases[i].bytes, strlen(cases[i].bytes));
        assert_int_equal(b.last, PARSE_BAD);
        assert_int_equal(b.c.why, cases[i].why);
        bench_deinit(&b);
    }
}

/* ---- commands ---- */

static void bad_conversations_have_their_own_reason(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int connects;
        bool stream;
        const char *app;
        enum parse_result result;
        enum close_why why;
    } cases[] = {
        {"publish without connect", 0, false, "live", PARSE_BAD, WHY_COMMAND_BAD},
        {"publish without createStream", 1, false, "live", PARSE_BAD, WHY_COMMAND_BAD},
        {"connect twice", 2, true, "live", PARSE_BAD, WHY_COMMAND_BAD},
        {"fine", 1, true, "live", PARSE_NEED_MORE, WHY_NONE},
        {"no app", 1, true, "", PARSE_NEED_MORE, WHY_NONE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench b;
        static struct wire w;
        print_message("%s\n", cases[i].name);
        bench_init(&b);
        wire_init(&w);
        wire_hello(&w);
        for (int n = 0; n < cases[i].connects; n++)
            wire_connect(&w, cases[i].app);
        if (cases[i].stream)
            wire_call(&w, 0, "createStream", 2);
        wire_publish(&w, "cam1");
        feed_wire(&b, &w);
        assert_int_equal(b.last, cases[i].result);
        assert_int_equal(b.c.why, cases[i].why);
        assert_int_equal(b.counts[CLIENT_PUBLISH], cases[i].result == PARSE_NEED_MORE);
        wire_deinit(&w);
        bench_deinit(&b);
    }
}

static void streams_are_created_a_few_at_a_time(void **state)
{
    (void)state;
    struct bench b;
    static struct wire w;
    bench_init(&b);
    wire_init(&w);
    wire_hello(&w);
    wire_connect(&w, "live");
    for (int round = 0; round < 3; round++) { /* as many again after each publish */
        for (int i = 0; i < CREATE_STREAMS_MAX; i++)
            wire_call(&w, 0, "createStream", 2);
        wire_publish(&w, "cam1");
    }
    for (int i = 0; i < CREATE_STREAMS_MAX; i++)
        wire_call(&w, 0, "createStream", 2);
    feed_wire(&b, &w);
    assert_int_equal(b.last, PARSE_NEED_MORE);
    assert_int_equal(b.counts[CLIENT_PUBLISH], 3);
    wire_call(&w, 0, "createStream", 2);
    feed_wire(&b, &w);
    assert_int_equal(b.last, PARSE_BAD);
    assert_int_equal(b.c.why, WHY_COMMAND_BAD);
    wire_deinit(&w);
    bench_deinit(&b);
}

static void bad_messages_have_their_own_reason(void **state)
{
    (void)state;
    static uint8_t zeros[COMMAND_BYTES_MAX + 1];
    static const struct {
        uint8_t type;
        uint32_t len;
        enum close_why why;
    } cases[] = {
        {RTMP_COMMAND_AMF0, COMMAND_BYTES_MAX + 1, WHY_MESSAGE_LONG},
        {RTMP_COMMAND_AMF0, 0, WHY_COMMAND_BAD},
        {RTMP_COMMAND_AMF0, 9, WHY_COMMAND_BAD}, /* a number is no name */
        {RTMP_AGGREGATE, 5, WHY_CHUNK_BAD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench b;
        static struct wire w;
        bench_init(&b);
        wire_init(&w);
        wire_hello(&w);
        wire_message(&w, cases[i].type, 0, 0, zeros, cases[i].len);
        feed_wire(&b, &w);
        assert_int_equal(b.last, PARSE_BAD);
        assert_int_equal(b.c.why, cases[i].why);
        wire_deinit(&w);
        bench_deinit(&b);
    }
}

static void a_long_app_is_refused(void **state)
{
    (void)state;
    char app[APP_MAX + 1];
    struct bench b;
    static struct wire w;
    memset(app, 'a', APP_MAX);
    app[APP_MAX] = '\0';
    bench_init(&b);
    wire_init(&w);
    wire_hello(&w);
    wire_connect(&w, app);
    feed_wire(&b, &w);
    assert_int_equal(b.last, PARSE_BAD);
    assert_int_equal(b.c.why, WHY_NAME_BAD);
    wire_deinit(&w);
    bench_deinit(&b);
}

static void what_is_for_the_node_comes_out(void **state)
{
    (void)state;
    static const uint8_t buffer[10] = {0, RTMP_SET_BUFFER_LENGTH, 0, 0, 0, 1, 0, 0, 11, 184};
    static const uint8_t begin[6] = {0, RTMP_STREAM_BEGIN};
    static const char *const answered[] = {
        "releaseStream", "FCPublish", "FCSubscribe", "getStreamLength",
        "_checkbw",      "play2",     "PLAY2"};
    struct bench b;
    static struct wire w;
    bench_init(&b);
    wire_init(&w);
    wire_hello(&w);
    wire_connect(&w, "live");
    for (size_t i = 0; i < sizeof answered / sizeof answered[0]; i++)
        wire_call(&w, 0, answered[i], 2);
    wire_message(&w, RTMP_USER_CONTROL, 0, 0, begin, sizeof begin); /* the nginx push relay does */
    wire_message(&w, RTMP_SHARED_OBJECT_AMF0, 0, 0, begin, sizeof begin);
    feed_wire(&b, &w);
    assert_int_equal(b.last, PARSE_NEED_MORE);
    assert_int_equal(b.hash, 0);

    wire_message(&w, RTMP_USER_CONTROL, 0, 0, buffer, sizeof buffer);
    wire_call(&w, 1, "pause", 0);
    wire_call(&w, 1, "FCUnpublish", 0);
    wire_call(&w, 1, "somethingNew", 7);
    feed_wire(&b, &w);
    assert_int_equal(b.counts[CLIENT_PASS], 4);
    wire_call(&w, 0, "deleteStream", 0);
    wire_call(&w, 1, "closeStream", 0);
    feed_wire(&b, &w);
    assert_int_equal(b.counts[CLIENT_END], 2);
    wire_deinit(&w);
    bench_deinit(&b);
}

/* Nodes must not be told in other words what they are not told in the usual ones. */
static void commands_have_no_disguise(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t len;
        bool passes;
    } names[] = {
        {"publish", 7, false},
        {"PLAY", 4, false},
        {"deleteStream", 12, false},
        {"play\0", 5, false},
        {"Publish\0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 40, false},
        {"@setDataFrame", 13, true},
        {"onMetaData", 10, true},
        {"publishing", 10, true},
        {"", 0, true},
    };
    struct bench b;
    static struct wire w;
    bench_init(&b);
    wire_init(&w);
    wire_hello(&w);
    wire_connect(&w, "live");
    wire_call(&w, 0, "createStream", 2);
    feed_wire(&b, &w);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        uint8_t data[64];
        struct wr out = wr_over(data, sizeof data);
        const unsigned before = b.counts[CLIENT_MEDIA];
        amf0_write_string_view(
            &out, (struct view){.p = (const uint8_t *)names[i].name, .len = names[i].len});
        wire_message(&w, RTMP_DATA_AMF0, 1, 0, data, out.len);
        feed_wire(&b, &w);
        assert_int_equal(b.counts[CLIENT_MEDIA] - before, names[i].passes);
    }
    wire_message(&w, RTMP_DATA_AMF0, 1, 0, "\2", 1);
    wire_call(&w, 1, "CloseStream", 0);
    feed_wire(&b, &w);
    assert_int_equal(b.counts[CLIENT_END], 1);
    assert_int_equal(b.counts[CLIENT_PASS], 0);
    wire_deinit(&w);
    bench_deinit(&b);
}

static void amf3_commands_are_commands(void **state)
{
    (void)state;
    uint8_t buf[512] = {0};
    struct bench b;
    static struct wire w;
    struct wr command = wr_over(buf + 1, sizeof buf - 1);
    bench_init(&b);
    wire_init(&w);
    wire_hello(&w);
    rtmp_write_connect(&command, 1, "live", "rtmp://weir/live", "test");
    wire_message(&w, RTMP_COMMAND_AMF3, 0, 0, buf, command.len + 1);
    wire_call(&w, 0, "createStream", 2);
    command.len = 0;
    rtmp_write_publish(&command, 3, "cam1", "live");
    wire_message(&w, RTMP_COMMAND_AMF3, 1, 0, buf, command.len + 1);
    feed_wire(&b, &w);
    assert_int_equal(b.last, PARSE_NEED_MORE);
    assert_int_equal(b.counts[CLIENT_PUBLISH], 1);
    assert_string_equal(b.name, "cam1");
    wire_deinit(&w);
    bench_deinit(&b);
}

static void a_status_has_its_bounds(void **state)
{
    (void)state;
    char text[1024];
    struct bench b;
    bench_init(&b);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(client_side_status(&b.c, "error", "NetStream.Play.Failed", text), ERR_LIMIT);
    assert_true(rtmp_chunk_writer_empty(&b.c.link.out));
    assert_int_equal(client_side_status(&b.c, "error", "NetStream.Play.Failed", "no"), ERR_OK);
    b.blocks.max_bytes = 1;
    assert_int_equal(client_side_status(&b.c, "error", "NetStream.Play.Failed", "no"),
                     ERR_NO_MEMORY);
    bench_deinit(&b);
}

static void short_memory_is_named(void **state)
{
    (void)state;
    static struct wire w;
    uint32_t failed = 0, fine = 0;
    for (uint64_t most = 128; most < 64 * 1024; most += 128) {
        struct bench b;
        bench_init(&b);
        b.blocks.max_bytes = most;
        wire_init(&w);
        wire_hello(&w);
        wire_connect(&w, "live");
        wire_call(&w, 0, "createStream", 2);
        wire_publish(&w, "cam1");
        for (size_t at = 0; at < w.len; at += 100)
            feed(&b, w.bytes + at, w.len - at < 100 ? w.len - at : 100);
        if (b.last == PARSE_BAD) {
            assert_int_equal(b.c.why, WHY_LIMIT_MEMORY);
            failed++;
        } else {
            assert_int_equal(b.counts[CLIENT_PUBLISH], 1);
            fine++;
        }
        wire_deinit(&w);
        bench_deinit(&b);
    }
    assert_true(failed > 0 && fine > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_clients_are_understood),
        cmocka_unit_test(recorded_clients_may_be_cut_anywhere),
        cmocka_unit_test(the_answer_waits_for_c1_only),
        cmocka_unit_test(other_openings_have_their_own_reason),
        cmocka_unit_test(bad_conversations_have_their_own_reason),
        cmocka_unit_test(streams_are_created_a_few_at_a_time),
        cmocka_unit_test(bad_messages_have_their_own_reason),
        cmocka_unit_test(a_long_app_is_refused),
        cmocka_unit_test(what_is_for_the_node_comes_out),
        cmocka_unit_test(commands_have_no_disguise),
        cmocka_unit_test(amf3_commands_are_commands),
        cmocka_unit_test(a_status_has_its_bounds),
        cmocka_unit_test(short_memory_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
