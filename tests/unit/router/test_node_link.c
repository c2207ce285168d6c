#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/node_link.h"
#include "tests/unit/router/wire.h"
#include "tests/unit/rtmp/captures.h"

static const uint8_t noise[RTMP_HANDSHAKE_BYTES] = {[100] = 0x5a};
static const uint8_t server_hello[RTMP_S0S1S2_BYTES] = {RTMP_VERSION};
static const struct rtmp_chunk_limits limits = {
    .message_bytes = 1 << 20, .unfinished_bytes = 2 << 20, .chunk_streams = 64};

struct bench {
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct node_link n;
    struct rtmp_msg *command;
    uint8_t connect[512];
    size_t connect_len;
    uint64_t hash;
    uint32_t counts[NODE_EV_USER + 1];
    char code[64]; /* of the last status */
    enum parse_result last;
};

static void bench_init(struct bench *b)
{
    uint8_t buf[128];
    struct wr publish = wr_over(buf, sizeof buf);
    memset(b, 0, sizeof *b);
    block_pool_init(&b->blocks, 0);
    rtmp_pool_init(&b->pool, &b->blocks);
    struct wr connect = wr_over(b->connect, sizeof b->connect);
    rtmp_write_connect(&connect, 7, "live", "rtmp://weir/live", "test");
    b->connect_len = connect.len;
    rtmp_write_publish(&publish, 5, "cam1?token=1", "live");
    b->command = rtmp_msg_from_bytes(&b->pool, RTMP_COMMAND_AMF0, 1, 0, buf, publish.len);
    assert_non_null(b->command);
    b->last = PARSE_NEED_MORE;
}

static void bench_deinit(struct bench *b)
{
    node_link_close(&b->n);
    rtmp_msg_unref(b->command);
    assert_int_equal(b->pool.live, 0);
    assert_int_equal(b->blocks.live_bytes, 0);
    rtmp_pool_deinit(&b->pool);
    block_pool_deinit(&b->blocks);
}

static enum err connected(struct bench *b, const char *proxy)
{
    const struct node_hello h = {.proxy = (const uint8_t *)proxy,
                                 .proxy_len = proxy ? strlen(proxy) : 0,
                                 .noise = noise,
                                 .connect = b->connect,
                                 .connect_len = b->connect_len,
                                 .tc_url = "rtmp://10.0.0.1/live",
                                 .now_ms = 1};
    return node_link_connected(&b->n, &h);
}

static void open_and_connect(struct bench *b)
{
    node_link_open(&b->n, &b->pool, &limits, b->command);
    assert_int_equal(connected(b, NULL), ERR_OK);
}

static void note(struct bench *b, const struct node_event *ev)
{
    b->counts[ev->kind]++;
    b->hash = b->hash * 31 + ev->kind;
    if (ev->msg)
        b->hash = wire_hash_message(b->hash, ev->msg);
    if (ev->kind == NODE_EV_STARTED || ev->kind == NODE_EV_REFUSED || ev->kind == NODE_EV_STATUS) {
        assert_true(ev->status.code.len < sizeof b->code);
        memcpy(b->code, ev->status.code.p, ev->status.code.len);
        b->code[ev->status.code.len] = '\0';
    }
}

static void feed(struct bench *b, const uint8_t *p, size_t len)
{
    struct slice in = exact_slice(&b->blocks, p, (uint32_t)len);
    struct block *block = in.block;
    struct node_event ev;
    while (b->last != PARSE_BAD && (b->last = node_link_next(&b->n, &in, &ev)) == PARSE_OK) {
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

static void wire_status(struct wire *w, const char *level, const char *code)
{
    uint8_t buf[256];
    struct wr command = wr_over(buf, sizeof buf);
    rtmp_write_on_status(&command, level, code, "");
    wire_command(w, 1, &command);
}

static void wire_stream_result(struct wire *w, double id)
{
    uint8_t buf[64];
    struct wr command = wr_over(buf, sizeof buf);
    rtmp_write_number_result(&command, 2, id);
    wire_command(w, 0, &command);
}

/* ---- what goes to the node ---- */

struct heard { /* by the node, behind the handshake */
    uint32_t commands, chunk_size;
    char names[64];
    uint32_t msid; /* of the last message */
};

static void hear(struct bench *b, size_t raw_bytes, struct heard *h)
{
    static uint8_t buf[64 * 1024];
    const size_t len = wire_drain(&b->n.link.out, buf, 0, sizeof buf);
    struct rtmp_chunk_reader r;
    struct rtmp_msg *m;
    *h = (struct heard){0};
    assert_true(len >= raw_bytes);
    rtmp_chunk_reader_init(&r, &b->pool, &limits);
    struct slice in = exact_slice(&b->blocks, buf + raw_bytes, (uint32_t)(len - raw_bytes));
    struct block *block = in.block;
    while (rtmp_chunk_reader_next(&r, &in, &m) == PARSE_OK) {
        h->msid = m->msid;
        h->chunk_size += m->type == RTMP_SET_CHUNK_SIZE;
        if (m->type == RTMP_COMMAND_AMF0) {
            const uint8_t *p;
            struct rtmp_command c;
            assert_int_equal(rtmp_msg_flatten(m, &p), ERR_OK);
            assert_int_equal(rtmp_command_parse(p, m->len, &c), PARSE_OK);
            strncat(h->names, (const char *)c.name.p, c.name.len);
            strcat(h->names, " ");
            h->commands++;
            if (c.kind == RTMP_CMD_CONNECT)
                assert_true(c.transaction_id == 1);
        }
        rtmp_msg_unref(m);
    }
    assert_true(rtmp_chunk_reader_idle(&r));
    block_unref(block);
    rtmp_chunk_reader_deinit(&r);
}

static void everything_is_queued_at_once(void **state)
{
    (void)state;
    static const char proxy[] = "PROXY TCP4 192.0.2.1 10.0.0.1 1000 1935\r\n";
    for (int with_proxy = 0; with_proxy < 2; with_proxy++) {
        struct bench b;
        struct heard h;
        struct iovec iov[64];
        bench_init(&b);
        node_link_open(&b.n, &b.pool, &limits, b.command);
        assert_int_equal(b.n.state, NODE_DIAL);
        assert_true(rtmp_chunk_writer_empty(&b.n.link.out));
        assert_int_equal(connected(&b, with_proxy ? proxy : NULL), ERR_OK);
        assert_int_equal(b.n.state, NODE_HANDSHAKE);
        assert_true(rtmp_chunk_writer_iov(&b.n.link.out, iov, 64, SIZE_MAX) < 64);
        const size_t skip = with_proxy ? sizeof proxy - 1 : 0;
        if (with_proxy)
            assert_memory_equal(iov[0].iov_base, proxy, skip);
        assert_int_equal(*(const uint8_t *)iov[with_proxy].iov_base, RTMP_VERSION);
        hear(&b, skip + RTMP_C0C1_BYTES + RTMP_HANDSHAKE_BYTES, &h);
        assert_string_equal(h.names, "connect createStream publish ");
        assert_int_equal(h.chunk_size, 1);
        assert_int_equal(h.msid, 1);
        bench_deinit(&b);
    }
}

static void a_check_sends_its_handshake_only(void **state)
{
    (void)state;
    struct bench b;
    struct heard h;
    bench_init(&b);
    node_link_open(&b.n, &b.pool, &limits, NULL);
    assert_int_equal(connected(&b, NULL), ERR_OK);
    assert_int_equal(b.n.link.out.queued_bytes, RTMP_C0C1_BYTES);
    hear(&b, RTMP_C0C1_BYTES, &h);
    feed(&b, server_hello, sizeof server_hello);
    assert_int_equal(b.counts[NODE_EV_ALIVE], 1);
    bench_deinit(&b);
}

static void another_stream_id_is_obeyed_once(void **state)
{
    (void)state;
    static const struct {
        double id;
        uint32_t msid; /* afterwards */
    } cases[] = {{1, 1},         {5, 5},         {0, 1},     {-1, 1},
                 {0.0 / 0.0, 1}, {1.0 / 0.0, 1}, {1e300, 1}, {4294967295.0, 4294967295u}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench b;
        struct heard h;
        static struct wire w;
        bench_init(&b);
        wire_init(&w);
        open_and_connect(&b);
        hear(&b, RTMP_C0C1_BYTES + RTMP_HANDSHAKE_BYTES, &h);
        wire_raw(&w, server_hello, sizeof server_hello);
        wire_stream_result(&w, cases[i].id);
        feed_wire(&b, &w);
        assert_int_equal(b.last, PARSE_NEED_MORE);
        assert_int_equal(b.n.msid, cases[i].msid);
        hear(&b, 0, &h);
        assert_string_equal(h.names, cases[i].msid != 1 ? "publish " : "");
        for (int n = 0; n < 1000; n++) /* the first one decides */
            wire_stream_result(&w, n % 2 ? 8 : 9);
        feed_wire(&b, &w);
        assert_int_equal(b.n.msid, cases[i].msid);
        hear(&b, 0, &h);
        assert_string_equal(h.names, "");
        wire_deinit(&w);
        bench_deinit(&b);
    }
}

static void messages_go_on_the_nodes_stream(void **state)
{
    (void)state;
    struct bench b;
    struct heard h;
    static const uint8_t zeros[5000];
    static const uint8_t types[] = {RTMP_VIDEO, RTMP_USER_CONTROL};
    bench_init(&b);
    open_and_connect(&b);
    hear(&b, RTMP_C0C1_BYTES + RTMP_HANDSHAKE_BYTES, &h);
    b.n.msid = 7;
    for (size_t i = 0; i < sizeof types; i++) {
        struct rtmp_msg *m =
            rtmp_msg_from_bytes(&b.pool, types[i], 1, 40, zeros, i == 0 ? sizeof zeros : 6);
        assert_non_null(m);
        assert_int_equal(node_link_send(&b.n, m), ERR_OK);
        rtmp_msg_unref(m);
    }
    assert_int_equal(b.n.largest_sent, sizeof zeros);
    b.n.link.out.wire_chunk_bytes = RTMP_DEFAULT_CHUNK_BYTES; /* where hear() starts */
    hear(&b, 0, &h);
    assert_int_equal(h.msid, 0); /* user control belongs to the connection */
    bench_deinit(&b);
}

/* ---- what the node says ---- */

static void recorded_servers_are_understood_however_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < CAPTURE_COUNT; i++) {
        struct capture cap;
        struct bench whole;
        capture_load(&cap, capture_names[i].name, "s2c");
        bench_init(&whole);
        open_and_connect(&whole);
        feed(&whole, cap.buf, cap.len);
        assert_int_equal(whole.last, PARSE_NEED_MORE);
        assert_int_equal(whole.counts[NODE_EV_ALIVE], 1);
        assert_true(whole.n.connected);
        assert_true(whole.counts[NODE_EV_STARTED] >= 1);
        assert_int_equal(whole.counts[NODE_EV_REFUSED], 0);
        for (size_t at = 1; at < cap.len; at += at < CAPTURE_HANDSHAKE + 1024 ? 1 : 61) {
            struct bench b;
            bench_init(&b);
            open_and_connect(&b);
            feed(&b, cap.buf, at);
            feed(&b, cap.buf + at, cap.len - at);
            assert_int_equal(b.hash, whole.hash);
            bench_deinit(&b);
        }
        bench_deinit(&whole);
    }
}

static void statuses_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *level, *code;
        enum node_event_kind kind;
    } cases[] = {
        {"status", "NetStream.Publish.Start", NODE_EV_STARTED},
        {"status", "NetStream.Play.Start", NODE_EV_STARTED},
        {"status", "NetStream.Play.Reset", NODE_EV_STATUS},
        {"error", "NetStream.Publish.BadName", NODE_EV_REFUSED},
        {"error", "NetStream.Publish.Start", NODE_EV_REFUSED},
        {"", "", NODE_EV_STATUS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench b;
        static struct wire w;
        bench_init(&b);
        wire_init(&w);
        open_and_connect(&b);
        wire_raw(&w, server_hello, sizeof server_hello);
        wire_status(&w, cases[i].level, cases[i].code);
        feed_wire(&b, &w);
        assert_int_equal(b.counts[cases[i].kind], 1);
        assert_string_equal(b.code, cases[i].code);
        wire_deinit(&w);
        bench_deinit(&b);
    }
}

/* A node does not send clients elsewhere. */
static void reconnect_requests_stay_here(void **state)
{
    (void)state;
    struct bench b;
    static struct wire w;
    bench_init(&b);
    wire_init(&w);
    open_and_connect(&b);
    wire_raw(&w, server_hello, sizeof server_hello);
    wire_status(&w, "status", "NetConnection.Connect.ReconnectRequest");
    feed_wire(&b, &w);
    assert_int_equal(b.last, PARSE_NEED_MORE);
    assert_int_equal(b.counts[NODE_EV_STATUS], 0);
    wire_deinit(&w);
    bench_deinit(&b);
}

static void an_error_refuses_until_connected(void **state)
{
    (void)state;
    struct bench b;
    static struct wire w;
    uint8_t buf[512];
    bench_init(&b);
    wire_init(&w);
    open_and_connect(&b);
    wire_raw(&w, server_hello, sizeof server_hello);
    struct wr command = wr_over(buf, sizeof buf);
    rtmp_write_connect_error(&command, 1, "NetConnection.Connect.Rejected", "no");
    wire_command(&w, 0, &command);
    feed_wire(&b, &w);
    assert_int_equal(b.counts[NODE_EV_REFUSED], 1);
    assert_string_equal(b.code, "NetConnection.Connect.Rejected");
    struct wr result = wr_over(buf, sizeof buf);
    rtmp_write_connect_result(&result, 1);
    wire_command(&w, 0, &result);
    wire_call(&w, 0, "_error", 1); /* of a call that was passed on */
    wire_call(&w, 0, "onBWDone", 0);
    feed_wire(&b, &w);
    assert_true(b.n.connected);
    assert_int_equal(b.counts[NODE_EV_REFUSED], 1);
    wire_deinit(&w);
    bench_deinit(&b);
}

static void what_is_not_rtmp_is_bad(void **state)
{
    (void)state;
    static const uint8_t zeros[COMMAND_BYTES_MAX + 1];
    static const uint32_t lengths[] = {0, 9, COMMAND_BYTES_MAX + 1};
    struct bench b;
    bench_init(&b);
    open_and_connect(&b);
    feed(&b, (const uint8_t *)"HTTP/1.1 400", 12);
    assert_int_equal(b.last, PARSE_BAD);
    assert_false(b.n.no_memory);
    bench_deinit(&b);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        static struct wire w;
        bench_init(&b);
        wire_init(&w);
        open_and_connect(&b);
        wire_raw(&w, server_hello, sizeof server_hello);
        wire_message(&w, RTMP_COMMAND_AMF0, 0, 0, zeros, lengths[i]);
        feed_wire(&b, &w);
        assert_int_equal(b.last, PARSE_BAD);
        assert_false(b.n.no_memory);
        wire_deinit(&w);
        bench_deinit(&b);
    }
}

static void short_memory_is_not_the_nodes_fault(void **state)
{
    (void)state;
    uint32_t failed = 0, fine = 0;
    static struct wire w;
    static const uint8_t zeros[3000];
    wire_init(&w);
    wire_raw(&w, server_hello, sizeof server_hello);
    wire_stream_result(&w, 5);
    wire_status(&w, "status", "NetStream.Publish.Start");
    wire_message(&w, RTMP_VIDEO, 1, 0, zeros, sizeof zeros);
    for (uint64_t most = 128; most < 32 * 1024; most += 128) {
        struct bench b;
        bench_init(&b);
        b.blocks.max_bytes = most;
        node_link_open(&b.n, &b.pool, &limits, b.command);
        if (connected(&b, NULL) == ERR_OK) {
            for (size_t at = 0; at < w.len; at += 50)
                feed(&b, w.bytes + at, w.len - at < 50 ? w.len - at : 50);
            assert_true(b.last == PARSE_NEED_MORE || b.n.no_memory);
            failed += b.last == PARSE_BAD;
            fine += b.last == PARSE_NEED_MORE;
        }
        bench_deinit(&b);
    }
    assert_true(failed > 0 && fine > 0);
    wire_deinit(&w);
}

/* ---- the end ---- */

static void finishing_flushes_a_live_link_only(void **state)
{
    (void)state;
    static const struct {
        enum node_link_state from;
        bool queued;
        enum node_link_state to;
    } cases[] = {
        {NODE_DIAL, false, NODE_OFF},   {NODE_HANDSHAKE, true, NODE_OFF},
        {NODE_COMMAND, true, NODE_OFF}, {NODE_LIVE, true, NODE_CLOSING},
        {NODE_LIVE, false, NODE_OFF},   {NODE_OFF, false, NODE_OFF},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench b;
        bench_init(&b);
        if (cases[i].from != NODE_OFF)
            node_link_open(&b.n, &b.pool, &limits, b.command);
        if (cases[i].queued)
            assert_int_equal(connected(&b, NULL), ERR_OK);
        b.n.state = cases[i].from;
        node_link_finish(&b.n);
        assert_int_equal(b.n.state, cases[i].to);
        node_link_close(&b.n);
        node_link_close(&b.n);
        assert_int_equal(b.n.state, NODE_OFF);
        bench_deinit(&b);
    }
}

static void each_dial_has_its_generation(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b);
    for (uint32_t i = 1; i < 4; i++) {
        node_link_open(&b.n, &b.pool, &limits, i % 2 ? b.command : NULL);
        assert_int_equal(b.n.generation, i);
        node_link_close(&b.n);
    }
    bench_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_queued_at_once),
        cmocka_unit_test(a_check_sends_its_handshake_only),
        cmocka_unit_test(another_stream_id_is_obeyed_once),
        cmocka_unit_test(messages_go_on_the_nodes_stream),
        cmocka_unit_test(recorded_servers_are_understood_however_cut),
        cmocka_unit_test(statuses_are_told_apart),
        cmocka_unit_test(reconnect_requests_stay_here),
        cmocka_unit_test(an_error_refuses_until_connected),
        cmocka_unit_test(what_is_not_rtmp_is_bad),
        cmocka_unit_test(short_memory_is_not_the_nodes_fault),
        cmocka_unit_test(finishing_flushes_a_live_link_only),
        cmocka_unit_test(each_dial_has_its_generation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
