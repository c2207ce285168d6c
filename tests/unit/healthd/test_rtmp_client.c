#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "healthd/loop_clip.h"
#include "healthd/rtmp_client.h"
#include "rtmp/handshake.h"

/* The client under test, and a server made of the library's own link. */
struct bench {
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct rtmp_chunk_limits limits;
    struct rtmp_client client;
    struct rtmp_link server;
    uint8_t noise[RTMP_HANDSHAKE_BYTES];
    uint8_t wire[16384];
    size_t len;
};

static void setup(struct bench *t, enum rtmp_client_goal goal, const char *proxy)
{
    memset(t, 0, sizeof *t);
    memset(t->noise, 0x5a, sizeof t->noise);
    block_pool_init(&t->blocks, 0);
    rtmp_pool_init(&t->pool, &t->blocks);
    t->limits = (struct rtmp_chunk_limits){
        .message_bytes = 65536, .unfinished_bytes = 65536, .chunk_streams = 16};
    rtmp_link_init(&t->server, &t->pool, &t->limits);
    const struct rtmp_client_hello h = {.proxy = (const uint8_t *)proxy,
                                        .proxy_len = proxy ? strlen(proxy) : 0,
                                        .noise = t->noise,
                                        .app = "live",
                                        .tc_url = "rtmp://n/live",
                                        .name = "clip"};
    assert_int_equal(rtmp_client_init(&t->client, &t->pool, &t->limits, goal, &h), ERR_OK);
}

static void teardown(struct bench *t)
{
    rtmp_client_deinit(&t->client);
    rtmp_link_deinit(&t->server);
    assert_int_equal(t->pool.live, 0);
    assert_int_equal(t->blocks.live_bytes, 0);
    rtmp_pool_deinit(&t->pool);
    block_pool_deinit(&t->blocks);
}

/* What is queued goes to t->wire. */
static void drain(struct bench *t, struct rtmp_chunk_writer *w)
{
    struct iovec iov[16];
    size_t n;
    t->len = 0;
    while ((n = rtmp_chunk_writer_iov(w, iov, 16, sizeof t->wire)) > 0) {
        size_t got = 0;
        for (size_t i = 0; i < n; i++) {
            memcpy(t->wire + t->len + got, iov[i].iov_base, iov[i].iov_len);
            got += iov[i].iov_len;
        }
        rtmp_chunk_writer_advance(w, got);
        t->len += got;
    }
}

/* t->wire[skip..] to the server; name of the last command into `name`. */
static void server_reads(struct bench *t, size_t skip, char *name, size_t cap)
{
    struct block *b = block_create(&t->blocks, (uint32_t)(t->len - skip + 1));
    assert_non_null(b);
    memcpy(b->data, t->wire + skip, t->len - skip);
    struct slice in = {.block = b, .off = 0, .len = (uint32_t)(t->len - skip)};
    struct rtmp_msg *m;
    name[0] = '\0';
    while (rtmp_link_next(&t->server, &in, &m) == PARSE_OK) {
        const uint8_t *p;
        struct rtmp_command c;
        if (m->type == RTMP_COMMAND_AMF0 && rtmp_msg_flatten(m, &p) == ERR_OK &&
            rtmp_command_parse(p, m->len, &c) == PARSE_OK && c.name.len < cap) {
            memcpy(name, c.name.p, c.name.len);
            name[c.name.len] = '\0';
        }
        rtmp_msg_unref(m);
    }
    block_unref(b);
}

/* t->wire to the client in pieces; the events as letters: H handshake, C connected, S started, V
 * video, R refused,
 * '!' bad. */
static const char *client_reads(struct bench *t, size_t piece)
{
    static char events[64];
    size_t n = 0;
    for (size_t at = 0; at < t->len; at += piece) {
        const size_t len = t->len - at < piece ? t->len - at : piece;
        struct block *b = block_create(&t->blocks, (uint32_t)len);
        assert_non_null(b);
        memcpy(b->data, t->wire + at, len);
        struct slice in = {.block = b, .off = 0, .len = (uint32_t)len};
        enum rtmp_client_event e;
        enum parse_result r;
        while ((r = rtmp_client_next(&t->client, &in, &e)) == PARSE_OK)
            events[n++] = "HCSVR"[e];
        block_unref(b);
        if (r == PARSE_BAD) {
            events[n++] = '!';
            break;
        }
    }
    events[n] = '\0';
    return events;
}

static void answer_handshake(struct bench *t)
{
    memset(t->wire, 0x11, RTMP_S0S1S2_BYTES);
    t->wire[0] = RTMP_VERSION;
    t->len = RTMP_S0S1S2_BYTES;
}

static void server_says(struct bench *t, struct wr *w, uint32_t msid)
{
    assert_false(w->full);
    assert_int_equal(rtmp_link_send_bytes(&t->server, RTMP_COMMAND_AMF0, msid, w->p, w->len),
                     ERR_OK);
    drain(t, &t->server.out);
}

static void connect_result(struct bench *t)
{
    uint8_t buf[512];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_connect_result(&w, 1);
    server_says(t, &w, 0);
}

static void test_connect(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < 4096; piece = piece * 4 + 1) {
        struct bench t;
        char name[32];
        setup(&t, GOAL_CONNECT, NULL);
        drain(&t, &t.client.link.out);
        assert_int_equal(t.wire[0], RTMP_VERSION);
        server_reads(&t, RTMP_C0C1_BYTES + RTMP_HANDSHAKE_BYTES, name, sizeof name);
        assert_string_equal(name, "connect");
        assert_string_equal(rtmp_client_waits_for(&t.client), "handshake");
        answer_handshake(&t);
        assert_string_equal(client_reads(&t, piece), "H");
        assert_string_equal(rtmp_client_waits_for(&t.client), "_result of connect");
        connect_result(&t);
        assert_string_equal(client_reads(&t, piece), "C");
        teardown(&t);
    }
}

static void test_proxy_header_goes_first(void **state)
{
    (void)state;
    static const char header[] = "PROXY TCP4 127.0.0.1 127.0.0.1 5 1935\r\n";
    struct bench t;
    char name[32];
    setup(&t, GOAL_CONNECT, header);
    drain(&t, &t.client.link.out);
    assert_memory_equal(t.wire, header, sizeof header - 1);
    assert_int_equal(t.wire[sizeof header - 1], RTMP_VERSION);
    server_reads(&t, sizeof header - 1 + RTMP_C0C1_BYTES + RTMP_HANDSHAKE_BYTES, name, sizeof name);
    assert_string_equal(name, "connect");
    teardown(&t);
}

/* Up to and with Publish.Start or Play.Start. */
static void start(struct bench *t, enum rtmp_client_goal goal)
{
    uint8_t buf[512];
    char name[32];
    setup(t, goal, NULL);
    drain(t, &t->client.link.out);
    server_reads(t, RTMP_C0C1_BYTES + RTMP_HANDSHAKE_BYTES, name, sizeof name);
    answer_handshake(t);
    (void)client_reads(t, t->len);
    connect_result(t);
    assert_string_equal(client_reads(t, t->len), "C");
    drain(t, &t->client.link.out);
    server_reads(t, 0, name, sizeof name);
    assert_string_equal(name, "createStream");
    assert_string_equal(rtmp_client_waits_for(&t->client), "_result of createStream");
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_number_result(&w, 2, 5);
    server_says(t, &w, 0);
    assert_string_equal(client_reads(t, t->len), "");
    assert_int_equal(t->client.msid, 5);
    drain(t, &t->client.link.out);
    server_reads(t, 0, name, sizeof name);
    assert_string_equal(name, goal == GOAL_PUBLISH ? "publish" : "play");
}

static void on_status(struct bench *t, const char *level, const char *code)
{
    uint8_t buf[512];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_on_status(&w, level, code, "");
    server_says(t, &w, 5);
}

static void test_publish_and_play(void **state)
{
    (void)state;
    struct bench t;
    start(&t, GOAL_PUBLISH);
    assert_string_equal(rtmp_client_waits_for(&t.client), "Publish.Start");
    on_status(&t, "status", "NetStream.Publish.Start");
    assert_string_equal(client_reads(&t, t.len), "S");
    teardown(&t);

    start(&t, GOAL_PLAY);
    on_status(&t, "status", "NetStream.Play.Reset");
    assert_string_equal(client_reads(&t, t.len), "");
    on_status(&t, "status", "NetStream.Play.Start");
    assert_string_equal(client_reads(&t, t.len), "S");
    assert_string_equal(rtmp_client_waits_for(&t.client), "media");
    assert_int_equal(
        rtmp_link_send_bytes(&t.server, RTMP_VIDEO, 5, loop_clip_header, sizeof loop_clip_header),
        ERR_OK);
    assert_int_equal(
        rtmp_link_send_bytes(&t.server, RTMP_VIDEO, 5, loop_clip_frame, sizeof loop_clip_frame),
        ERR_OK);
    drain(&t, &t.server.out);
    assert_string_equal(client_reads(&t, 1), "V"); /* the frame, not the sequence header */
    teardown(&t);
}

static void test_refusals(void **state)
{
    (void)state;
    struct bench t;
    uint8_t buf[512];
    start(&t, GOAL_PUBLISH);
    on_status(&t, "error", "NetStream.Publish.BadName");
    assert_string_equal(client_reads(&t, t.len), "R");
    assert_string_equal(t.client.code, "NetStream.Publish.BadName");
    teardown(&t);

    setup(&t, GOAL_CONNECT, NULL);
    answer_handshake(&t);
    (void)client_reads(&t, t.len);
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_connect_error(&w, 1, "NetConnection.Connect.Rejected", "no");
    server_says(&t, &w, 0);
    assert_string_equal(client_reads(&t, t.len), "R");
    assert_string_equal(t.client.code, "NetConnection.Connect.Rejected");
    teardown(&t);
}

static void test_not_rtmp(void **state)
{
    (void)state;
    struct bench t;
    setup(&t, GOAL_CONNECT, NULL);
    t.len = 9;
    memcpy(t.wire, "HTTP/1.1 ", 9);
    assert_string_equal(client_reads(&t, 3), "!");
    teardown(&t);

    setup(&t, GOAL_CONNECT, NULL);
    answer_handshake(&t);
    memset(t.wire + t.len, 0xff, 64); /* a fmt 3 header opens a chunk stream */
    t.len += 64;
    assert_string_equal(client_reads(&t, t.len), "H!");
    teardown(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connect),          cmocka_unit_test(test_proxy_header_goes_first),
        cmocka_unit_test(test_publish_and_play), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_not_rtmp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
