/* The machine's conversations are in tests/replay/scenarios; here is what takes counting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/limits.h"
#include "base/run_clock.h"
#include "tests/replay/script.h"
#include "tests/unit/rtmp/captures.h"

static struct stage stage;
static char trace[STAGE_TRACE_MAX], reference[STAGE_TRACE_MAX];

static void do_lines(struct stage *t, const char *const *lines, size_t from, size_t count)
{
    for (size_t i = from; i < from + count && lines[i] && !t->over; i++)
        assert_true(script_do(t, lines[i]));
}

static void play_lines(struct stage *t, const char *const *lines)
{
    do_lines(t, lines, 0, SIZE_MAX);
}

static const char *const to_relay[] = {
    "client hello",
    "client connect live",
    "client create_stream",
    "client publish cam1?key=a",
    "placed n1 epoch 7",
    "node0 connected",
    "node0 accepts",
    "node0 status status NetStream.Publish.Start",
    NULL,
};

static const char *const to_relay_play[] = {
    "client hello",
    "client connect live",
    "client create_stream",
    "client play cam1",
    "placed n1",
    "node0 connected",
    "node0 accepts",
    "node0 status status NetStream.Play.Start",
    NULL,
};

/* ---- recorded conversations ---- */

/* How many of a recorded client's bytes it takes to publish or play. */
static size_t asking_bytes(const struct capture *client)
{
    size_t n = 0;
    stage_init(&stage);
    stage_open(&stage);
    while (stage.s.state != SESS_PLACE) {
        assert_true(n < client->len);
        stage_client_raw(&stage, client->buf + n++, 1);
    }
    stage_deinit(&stage);
    return n;
}

/* A recorded client and a recorded server meet in one session, their bytes cut as told. */
static void replay_capture(const char *name, uint32_t cut, char out[STAGE_TRACE_MAX])
{
    static struct capture client, server;
    capture_load(&client, name, "c2s");
    capture_load(&server, name, "s2c");
    const size_t asking = asking_bytes(&client);
    stage_init(&stage);
    stage.cut = cut;
    stage.relay.buffer_bytes = 1 << 20;
    stage_open(&stage);
    stage_client_raw(&stage, client.buf, asking);
    assert_int_equal(stage.s.state, SESS_PLACE);
    assert_true(script_do(&stage, "placed n1 epoch 7"));
    assert_true(script_do(&stage, "node0 connected"));
    stage_node_raw(&stage, 0, server.buf, server.len);
    assert_int_equal(stage.s.state, SESS_RELAY);
    stage_client_raw(&stage, client.buf + asking, client.len - asking);
    stage_take(&stage, out);
    stage_deinit(&stage);
}

/* What one of the peers heard. */
static void lines_of(const char *all, const char *who, char out[STAGE_TRACE_MAX])
{
    *out = '\0';
    for (const char *end; *all; all = end + 1) {
        end = strchr(all, '\n');
        if (strncmp(all, who, strlen(who)) == 0) {
            memcpy(out, all, (size_t)(end + 1 - all));
            out += end + 1 - all;
            *out = '\0';
        }
    }
}

static void recorded_conversations_go_through_however_cut(void **state)
{
    (void)state;
    static const uint32_t cuts[] = {1, 7, 100, 1537, 4096};
    for (size_t i = 0; i < CAPTURE_COUNT; i++) {
        const char *name = capture_names[i].name;
        print_message("%s\n", name);
        replay_capture(name, 0, reference);
        assert_non_null(strstr(reference, "started\n"));
        const bool pub = strstr(name, "publish") || strstr(name, "push");
        const char *const media[] = {"client < audio", "client < video", "node0 < audio",
                                     "node0 < video"};
        assert_true(strstr(reference, media[pub * 2]) || strstr(reference, media[pub * 2 + 1]));
        for (size_t k = 0; k < sizeof cuts / sizeof cuts[0]; k++) {
            replay_capture(name, cuts[k], trace);
            for (int who = 0; who < 2; who++) {
                static char came[STAGE_TRACE_MAX], expected[STAGE_TRACE_MAX];
                lines_of(trace, who ? "node0" : "client", came);
                lines_of(reference, who ? "node0" : "client", expected);
                assert_string_equal(came, expected);
            }
        }
    }
}

/* ---- openings ---- */

static void malformed_openings_close_with_their_reason(void **state)
{
    (void)state;
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"client raw 06", "rtmpe"},
        {"client raw 160301", "tls"},
        {"client raw 474554202f", "http"},
        {"client raw 5353482d", "ssh"},
        {"client raw 50524f585920", "proxy_unexpected"},
        {"client raw ff", "version_bad"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[64];
        stage_init(&stage);
        assert_true(script_do(&stage, cases[i].line));
        snprintf(expected, sizeof expected, "state closing %s\nfree\n", cases[i].why);
        assert_string_equal(stage_take(&stage, trace), expected);
        stage_deinit(&stage);
    }
}

/* ---- flow ---- */

static void nothing_is_lost_or_reordered_under_pressure(void **state)
{
    (void)state;
    enum { MESSAGES = 400, BYTES = 3000 };
    for (int play = 0; play < 2; play++) {
        char line[64];
        uint32_t next = 0, held = 0;
        stage_init(&stage);
        play_lines(&stage, play ? to_relay_play : to_relay);
        stage_take(&stage, trace);
        for (uint32_t sent = 0; sent < MESSAGES || next < MESSAGES;) {
            const bool open =
                play ? session_reads_node(&stage.s, 0) : session_reads_client(&stage.s);
            if (open && sent < MESSAGES) {
                snprintf(line, sizeof line, "%s video %u %d", play ? "node0" : "client", sent++,
                         BYTES);
                assert_true(script_do(&stage, play ? "client reads 0" : "node0 reads 0"));
                assert_true(script_do(&stage, line));
            } else {
                held++;
                assert_true(script_do(&stage, play ? "client reads 9000" : "node0 reads 9000"));
            }
            const uint64_t queued = play ? stage.s.client.link.out.queued_bytes
                                         : stage.s.links[0].link.out.queued_bytes;
            assert_true(queued < stage.relay.buffer_bytes + BYTES);
            for (char *p = (char *)(uintptr_t)stage_take(&stage, trace); *p;
                 p = strchr(p, '\n') + 1) {
                unsigned time_ms, len;
                if (sscanf(p, play ? "client < video %u %u" : "node0 < video %u %u", &time_ms,
                           &len) != 2)
                    continue;
                assert_int_equal(time_ms, next);
                assert_int_equal(len, BYTES);
                next++;
            }
        }
        assert_true(held > 10);
        assert_int_equal(stage.s.state, SESS_RELAY);
        stage_deinit(&stage);
    }
}

static void a_flood_of_pings_that_reads_nothing_is_bounded(void **state)
{
    (void)state;
    stage_init(&stage);
    play_lines(&stage, to_relay_play);
    assert_true(script_do(&stage, "client reads 0"));
    const uint64_t before = stage.blocks.live_bytes;
    for (int i = 0; i < 10000; i++)
        assert_true(script_do(&stage, "client ping"));
    assert_true(stage.blocks.live_bytes < before + 64 * 1024);
    stage_deinit(&stage);
}

/* Without payload, or with a command each: such messages fill memory as well. */
static void tiny_messages_are_bounded_too(void **state)
{
    (void)state;
    static const struct {
        bool play;
        const char *stall, *line;
        bool from_node;
    } cases[] = {
        {false, "node0 reads 0", "client audio 0 0", false},
        {true, "client reads 0", "node0 audio 0 0", true},
        {true, "node0 reads 0", "client call pause", false},
        {false, "client reads 0", "node0 status status NetStream.Publish.Idle", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t taken = 0;
        stage_init(&stage);
        stage.env.client_limits.message_bytes = stage.env.node_limits.message_bytes = 16 * 1024;
        play_lines(&stage, cases[i].play ? to_relay_play : to_relay);
        assert_true(script_do(&stage, cases[i].stall));
        while (taken < 5000 && (cases[i].from_node ? session_reads_node(&stage.s, 0)
                                                   : session_reads_client(&stage.s))) {
            assert_true(script_do(&stage, cases[i].line));
            taken++;
        }
        assert_in_range(taken, 100, 2000);
        stage_deinit(&stage);
    }
}

/* ---- time ---- */

/* Left alone in whatever state, a session ends, or pings; stage_run_until() aborts if a deadline
 * stays in the past. */
static void no_state_waits_for_ever(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "client hello",
        "client connect live",
        "client create_stream",
        "client publish cam1",
        "placed n1 epoch 7 wait took_over",
        "released",
        "node0 connected",
        "node0 hello",
        "node0 ended", /* the check */
        "node0 connected",
        "node0 hello", /* alive: the pause before asking again */
        "nothing",
    };
    for (size_t n = 0; n <= sizeof lines / sizeof lines[0]; n++) {
        stage_init(&stage);
        stage_open(&stage);
        for (size_t i = 0; i < n; i++)
            assert_true(script_do(&stage, lines[i]));
        stage_run_until(&stage, STAGE_START_MS + 200000);
        assert_true(stage.over);
        stage_deinit(&stage);
    }
    for (int play = 0; play < 2; play++) {
        stage_init(&stage);
        play_lines(&stage, play ? to_relay_play : to_relay);
        stage_run_until(&stage, STAGE_START_MS + 200000);
        assert_true(stage.over);
        assert_int_equal(stage.s.why, WHY_CLIENT_SILENT);
        stage_deinit(&stage);
    }
}

/* ---- a loop that stood still ---- */

/* For a minute, by its own clock. Nobody's time is over, also not that of whoever had used most of
 * his. */
static void stand_still(struct stage *t)
{
    struct run_clock clock = {.step_ms = RUN_STEP_MS};
    const struct session_event tick = {.kind = SE_TICK};
    (void)run_clock_ms(&clock, t->now_ms);
    t->now_ms = run_clock_ms(&clock, t->now_ms + 60000);
    stage_step(t, &tick);
}

/* What was begun before is at an end after it as if there had been no such time. */
static void nobody_is_blamed_for_a_loop_that_stood_still(void **state)
{
    (void)state;
    for (int play = 0; play < 2; play++) {
        const char *const *lines = play ? to_relay_play : to_relay;
        for (size_t n = 0; n == 0 || lines[n - 1]; n++) {
            stage_init(&stage);
            stage_open(&stage);
            do_lines(&stage, lines, 0, n);
            const enum session_state before = stage.s.state;
            stand_still(&stage);
            assert_int_equal(stage.s.state, before);
            assert_int_equal(stage.s.last_fail, FAIL_NONE);
            do_lines(&stage, lines, n, SIZE_MAX - n);
            assert_int_equal(stage.s.state, SESS_RELAY);
            stand_still(&stage);
            assert_int_equal(stage.s.state, SESS_RELAY);
            stage_deinit(&stage);
        }
    }
}

/* A new node, too, and one that a replay is for. */
static void nor_in_the_midst_of_a_move(void **state)
{
    (void)state;
    static const char *const move[] = {"move drain n2",
                                       "node1 connected pings",
                                       "node1 accepts",
                                       "node1 status status NetStream.Publish.Start",
                                       "claim_moved 9",
                                       "audience ready",
                                       NULL};
    for (size_t n = 1; n < sizeof move / sizeof move[0]; n++) {
        stage_init(&stage);
        stage.failover.max_moves = 5;
        play_lines(&stage, to_relay);
        for (int i = 0; i < 150; i++) { /* more than is replayed at once */
            char line[64];
            snprintf(line, sizeof line, "client audio %d 20", 10 * i);
            assert_true(script_do(&stage, line));
        }
        do_lines(&stage, move, 0, n);
        stand_still(&stage);
        do_lines(&stage, move, n, SIZE_MAX - n);
        for (int i = 0; i < 3; i++)
            assert_true(script_do(&stage, "node1 pong"));
        stage_run_until(&stage, stage.now_ms + 50);
        assert_int_equal(stage.s.rehome.phase, RH_OVERLAP);
        assert_int_equal(stage.s.last_fail, FAIL_NONE);
        stage_deinit(&stage);
    }
}

/* Whoever has used up his time is heard once more before that is said of him; not whoever is only
 * to be asked, as happens all the time. */
static void peers_are_heard_before_they_are_judged(void **state)
{
    (void)state;
    static const struct {
        size_t lines;
        uint32_t after_ms;
        const char *heard;
    } cases[] = {
        {0, 10000, "client hello"},       /* router.handshake_timeout */
        {6, 1000, "node0 accepts"},       /* router.dial_timeout */
        {8, 60000, "client audio 10 20"}, /* router.ping_timeout */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stage_init(&stage);
        stage_open(&stage);
        do_lines(&stage, to_relay, 0, cases[i].lines);
        const uint64_t since_ms = stage.now_ms;
        while (session_deadline(&stage.s) < since_ms + cases[i].after_ms) {
            assert_false(session_judges(&stage.s, session_deadline(&stage.s)));
            stage_run_until(&stage, session_deadline(&stage.s));
        }
        stage.now_ms = since_ms + cases[i].after_ms;
        assert_true(session_judges(&stage.s, stage.now_ms));
        assert_true(script_do(&stage, cases[i].heard));
        assert_false(session_judges(&stage.s, stage.now_ms));
        stage_deinit(&stage);
    }
}

/* A node link: a ping is sent at the first look, and what came of it is judged at the next; of a
 * node that has never answered one nothing is. */
static void nodes_are_heard_before_they_are_judged(void **state)
{
    (void)state;
    stage_init(&stage);
    stage.failover.max_moves = 5;
    play_lines(&stage, to_relay);
    assert_false(session_judges(&stage.s, stage.s.link_ping_ms));
    stage_run_until(&stage, stage.s.link_ping_ms);
    assert_false(session_judges(&stage.s, stage.s.link_ping_ms));
    assert_true(script_do(&stage, "node0 pong"));
    stage_run_until(&stage, stage.s.link_ping_ms);
    assert_true(session_judges(&stage.s, stage.s.link_ping_ms));
    stage.now_ms += 10;
    assert_true(script_do(&stage, "node0 pong"));
    assert_false(session_judges(&stage.s, stage.s.link_ping_ms));
    stage_deinit(&stage);
}

/* Whatever the moment, a close from outside ends in ACT_FREE and leaves nothing. */
static void it_can_be_closed_at_any_moment(void **state)
{
    (void)state;
    for (int play = 0; play < 2; play++) {
        const char *const *lines = play ? to_relay_play : to_relay;
        for (size_t n = 0; n == 0 || lines[n - 1]; n++) {
            stage_init(&stage);
            stage_open(&stage);
            do_lines(&stage, lines, 0, n);
            assert_true(script_do(&stage, n % 2 ? "close shutdown" : "client reset"));
            if (!stage.over)
                stage_run_until(&stage, stage.now_ms + 10000);
            assert_true(stage.over);
            stage_take(&stage, trace);
            /* what was placed is given up, once */
            const char *release = strstr(trace, "release ");
            assert_int_equal(release != NULL, strstr(trace, "dial ") != NULL);
            if (release)
                assert_null(strstr(release + 1, "release "));
            stage_deinit(&stage);
        }
    }
}

/* ---- nodes that go mad late ---- */

/* Media and answers to pings from the client's side, every 20 s of an hour. */
static void live_an_hour(struct stage *t, bool play)
{
    const uint64_t until = t->now_ms + 3600 * 1000;
    while (t->now_ms < until) {
        stage_run_until(t, t->now_ms + 20 * 1000);
        assert_true(script_do(t, play ? "node0 audio 0 20" : "client audio 0 20"));
        assert_true(script_do(t, "client pong"));
        assert_int_equal(t->s.state, SESS_RELAY);
        stage_take(t, trace);
    }
}

static void garbage_after_an_hour(bool play, bool moves)
{
    static const char *const elsewhere[] = {"placed n2 publication 7",
                                            "node0 connected",
                                            "node0 accepts",
                                            "node0 status status NetStream.Publish.Start",
                                            "claim_moved 9",
                                            "audience ready",
                                            NULL};
    static const char *const elsewhere_play[] = {"placed n2 publication 7",
                                                 "node0 connected",
                                                 "node0 accepts",
                                                 "node0 status status NetStream.Play.Start",
                                                 "node0 pong",
                                                 NULL};
    stage_init(&stage);
    stage.quiet = true;
    stage.failover.max_moves = moves ? 5 : 0;
    play_lines(&stage, play ? to_relay_play : to_relay);
    live_an_hour(&stage, play);
    assert_true(script_do(&stage, "node0 raw ffffffffffffffffffffffffffffffff"));
    stage_take(&stage, trace);
    assert_non_null(strstr(trace, "hang_up node0\n"));
    if (moves) {
        assert_int_equal(stage.s.state, SESS_REHOME);
        assert_int_equal(stage.s.rehome.cause, REHOME_BAD);
        stage_run_until(&stage, stage.now_ms + 1000); /* players do not ask at once */
        play_lines(&stage, play ? elsewhere_play : elsewhere);
        stage_run_until(&stage, stage.now_ms + 100); /* what was kept is sent by and by */
        assert_int_equal(stage.s.state, SESS_RELAY);
        assert_string_equal(stage.s.node, "n2");
    } else {
        assert_int_equal(stage.s.state, SESS_CLOSING);
        assert_int_equal(stage.s.why, WHY_NODE_BAD);
    }
    stage_deinit(&stage);
}

static void a_node_that_goes_mad_after_an_hour_is_left(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        garbage_after_an_hour(i & 1, i & 2);
}

/* ---- moves ---- */

/* A node's new process has had the stream and lost it: it is not taken for done. */
static void a_reload_that_ends_halfway_is_still_to_be_done(void **state)
{
    (void)state;
    static const char *const lines[] = {"move reload",
                                        "node1 connected",
                                        "node1 accepts",
                                        "node1 status status NetStream.Publish.Start",
                                        "claim_moved 9",
                                        "node1 ended",
                                        NULL};
    stage_init(&stage);
    stage.failover.max_moves = 5;
    play_lines(&stage, to_relay);
    const uint64_t began_ms = stage.s.node_started_ms;
    stage_run_until(&stage, began_ms + 100);
    play_lines(&stage, lines);
    stage_run_until(&stage, stage.now_ms + 4000);
    assert_int_equal(stage.s.state, SESS_REHOME);
    assert_true(script_do(&stage, "claim_moved 10"));
    assert_int_equal(stage.s.state, SESS_RELAY);
    assert_int_equal(stage.s.node_started_ms, began_ms);
    stage_deinit(&stage);
}

/* Both nodes carry the stream: it does not matter what of it can be kept. */
static void the_second_node_gets_what_is_too_large_to_be_kept(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "client video 0 400", "move drain",
        "placed n2",          "node1 connected",
        "node1 accepts",      "node1 status status NetStream.Publish.Start",
        "claim_moved 9",      "audience ready",
        "audience behind",    NULL};
    stage_init(&stage);
    stage.failover.max_moves = 5;
    stage.failover.gop_bytes = 8 * 1024;
    play_lines(&stage, to_relay);
    play_lines(&stage, lines);
    assert_int_equal(stage.s.rehome.phase, RH_OVERLAP);
    for (int i = 1; i <= 3; i++) {
        char line[64];
        stage_take(&stage, trace);
        snprintf(line, sizeof line, "client video %d 6000", 40 * i);
        assert_true(script_do(&stage, line));
        stage_take(&stage, trace);
        snprintf(line, sizeof line, "node1 < video %d 6000\n", 40 * i);
        assert_non_null(strstr(trace, line));
    }
    stage_deinit(&stage);
}

/* A second node that ends is not the first one that ends twice: it has not refused the stream. */
static void nodes_restarted_one_after_the_other_refuse_nothing(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "node0 ended",     "node0 failed",   "placed n2",
        "node0 connected", "node0 accepts",  "node0 status status NetStream.Publish.Start",
        "claim_moved 9",   "audience ready", NULL};
    stage_init(&stage);
    stage.failover.max_moves = 5;
    play_lines(&stage, to_relay);
    stage_run_until(&stage, stage.now_ms + 2000);
    play_lines(&stage, lines);
    assert_int_equal(stage.s.state, SESS_RELAY);
    stage_run_until(&stage, stage.now_ms + 5000);
    assert_true(script_do(&stage, "node0 ended"));
    assert_int_equal(stage.s.rehome.phase, RH_LINK); /* and not RH_CHECK */
    assert_string_equal(stage.s.rehome.node, "n2");
    stage_deinit(&stage);
}

/* More nodes than a session remembers: it waits a moment and begins anew, rather than to ask the
 * last one again and again. */
static void more_nodes_fail_than_are_remembered(void **state)
{
    (void)state;
    stage_init(&stage);
    stage.failover.max_moves = 5;
    play_lines(&stage, to_relay);
    stage_run_until(&stage, stage.now_ms + 2000);
    assert_true(script_do(&stage, "node0 ended"));
    for (int i = 2; i < SESSION_EXCLUDED_MAX + 1; i++) {
        char line[32];
        assert_true(script_do(&stage, "node0 failed"));
        assert_int_equal(stage.s.rehome.phase, RH_LOOKUP);
        snprintf(line, sizeof line, "placed n%d", i);
        assert_true(script_do(&stage, line));
    }
    assert_true(script_do(&stage, "node0 failed"));
    assert_int_equal(stage.s.rehome.phase, RH_WAIT);
    assert_int_equal(stage.s.excluded_count, 0);
    stage_run_until(&stage, stage.now_ms + 1000);
    assert_int_equal(stage.s.rehome.phase, RH_LOOKUP);
    stage_deinit(&stage);
}

/* Of a node that answers no pings no silence is known, so what is kept goes on growing old: also
 * after a move, once it has had failover.stall. */
static void a_node_that_answers_no_pings_makes_nobody_keep_more(void **state)
{
    (void)state;
    static const char *const move[] = {
        "move drain n2",  "node1 connected",
        "node1 accepts",  "node1 status status NetStream.Publish.Start",
        "claim_moved 9",  "audience ready",
        "audience ready", NULL};
    stage_init(&stage);
    stage.failover.max_moves = 5;
    play_lines(&stage, to_relay);
    for (int moved = 0; moved < 2; moved++) {
        for (int i = 0; i < 100; i++) {
            char line[64];
            stage_run_until(&stage, stage.now_ms + 100);
            snprintf(line, sizeof line, "client audio %d 20", 10000 * moved + 100 * i);
            assert_true(script_do(&stage, line));
        }
        assert_in_range(stage.s.rehome.keep.count, 30, 35); /* failover.reach of it */
        stage_take(&stage, trace);
        if (!moved)
            play_lines(&stage, move);
        assert_int_equal(stage.s.state, SESS_RELAY);
    }
    stage_deinit(&stage);
}

/* A stream that has come to a node is kept for some seconds in case the node was being reloaded,
 * and no longer where so many links go to it that the next ping is a minute off. */
static void links_that_are_seldom_asked_keep_no_more(void **state)
{
    (void)state;
    stage_init(&stage);
    stage.failover.max_moves = 5;
    play_lines(&stage, to_relay);
    stage.s.link_space_ms = 60000;
    for (int i = 0; i < 100; i++) {
        char line[64];
        stage_run_until(&stage, stage.now_ms + 100);
        snprintf(line, sizeof line, "client audio %d 20", 100 * i);
        assert_true(script_do(&stage, line));
        if (i % 10 == 9)
            assert_true(script_do(&stage, "node0 pong"));
        if (i == 45)
            assert_int_equal(stage.s.rehome.keep.count, 46);
    }
    assert_in_range(stage.s.rehome.keep.count, 30, 35); /* failover.reach of it */
    stage_deinit(&stage);
}

/* Of links that began in the same moment, as after a restart, one is asked every now and then: a
 * node that hangs is noticed by the next one. */
static void links_take_turns_though_they_began_together(void **state)
{
    (void)state;
    enum { LINKS = 200, SPACE_MS = 8000, BEGUN_MS = 2000, UNTIL_MS = 20000, WITHIN_MS = 400 };
    uint32_t asked[UNTIL_MS / WITHIN_MS] = {0};
    for (uint32_t i = 0; i < LINKS; i++) {
        uint64_t last = 0;
        uint32_t times = 0;
        stage_init(&stage);
        stage.failover.max_moves = 5;
        play_lines(&stage, to_relay);
        const uint64_t began_ms = stage.now_ms;
        stage.s.id = 459637858808562 + 3 * i; /* the others are on two more nodes */
        stage.s.link_space_ms = SPACE_MS;
        while (stage.now_ms < began_ms + UNTIL_MS - 100) {
            stage_run_until(&stage, stage.now_ms + 50);
            if (stage.s.link_asked_ms == last)
                continue;
            last = stage.s.link_asked_ms;
            asked[(last - began_ms) / WITHIN_MS]++;
            times += last - began_ms > BEGUN_MS;
            assert_true(script_do(&stage, "node0 pong"));
        }
        assert_in_range(times, 2, 3);
        stage_deinit(&stage);
    }
    for (uint32_t i = BEGUN_MS / WITHIN_MS; i < UNTIL_MS / WITHIN_MS - 1; i++)
        assert_in_range(asked[i], 1, 3 * LINKS * WITHIN_MS / SPACE_MS);
}

static void silent_clients_are_not_asked_together(void **state)
{
    (void)state;
    enum { CLIENTS = 200, SLOTS = 10 };
    uint32_t asked[SLOTS] = {0};
    for (uint32_t i = 0; i < CLIENTS; i++) {
        stage_init(&stage);
        play_lines(&stage, to_relay);
        stage.s.id = 459637858808562 + 3 * i;
        const uint64_t began_ms = stage.now_ms, all_ms = stage.router.ping_interval_ms;
        while (stage.s.pinged_ms == 0)
            stage_run_until(&stage, stage.now_ms + 50);
        const uint64_t silent_ms = stage.s.pinged_ms - began_ms;
        assert_in_range(silent_ms, all_ms - all_ms / 4, all_ms);
        asked[(all_ms - silent_ms) * 4 * SLOTS / (all_ms + 1)]++;
        stage_deinit(&stage);
    }
    for (uint32_t i = 0; i < SLOTS; i++)
        assert_in_range(asked[i], CLIENTS / SLOTS / 2, 2 * CLIENTS / SLOTS);
}

/* ---- memory ---- */

static void short_memory_closes_with_that_reason(void **state)
{
    (void)state;
    static const char *const *const openings[] = {to_relay, to_relay_play};
    static const char *const rest[] = {
        "client video 0 3000", "client buffer",     "node0 video 0 3000",
        "node0 ping",          "client ping",       "client delete_stream",
        "client publish cam2", "placed n2 epoch 8", NULL,
    };
    uint32_t closed = 0, fine = 0;
    for (uint32_t i = 0; i < 2; i++) {
        for (uint64_t most = 128; most < 48 * 1024; most += 128) {
            stage_init(&stage);
            stage.cut = 40;
            stage.blocks.max_bytes = most;
            play_lines(&stage, openings[i]);
            if (!stage.over)
                play_lines(&stage, rest);
            if (stage.s.state == SESS_CLOSING) {
                assert_int_equal(stage.s.why, WHY_LIMIT_MEMORY);
                closed++;
            } else {
                fine++;
            }
            stage_deinit(&stage); /* nothing is left */
        }
    }
    assert_true(closed > 20 && fine > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_conversations_go_through_however_cut),
        cmocka_unit_test(malformed_openings_close_with_their_reason),
        cmocka_unit_test(nothing_is_lost_or_reordered_under_pressure),
        cmocka_unit_test(a_flood_of_pings_that_reads_nothing_is_bounded),
        cmocka_unit_test(tiny_messages_are_bounded_too),
        cmocka_unit_test(no_state_waits_for_ever),
        cmocka_unit_test(nobody_is_blamed_for_a_loop_that_stood_still),
        cmocka_unit_test(nor_in_the_midst_of_a_move),
        cmocka_unit_test(peers_are_heard_before_they_are_judged),
        cmocka_unit_test(nodes_are_heard_before_they_are_judged),
        cmocka_unit_test(it_can_be_closed_at_any_moment),
        cmocka_unit_test(a_node_that_goes_mad_after_an_hour_is_left),
        cmocka_unit_test(a_reload_that_ends_halfway_is_still_to_be_done),
        cmocka_unit_test(nodes_restarted_one_after_the_other_refuse_nothing),
        cmocka_unit_test(more_nodes_fail_than_are_remembered),
        cmocka_unit_test(a_node_that_answers_no_pings_makes_nobody_keep_more),
        cmocka_unit_test(links_that_are_seldom_asked_keep_no_more),
        cmocka_unit_test(links_take_turns_though_they_began_together),
        cmocka_unit_test(silent_clients_are_not_asked_together),
        cmocka_unit_test(the_second_node_gets_what_is_too_large_to_be_kept),
        cmocka_unit_test(short_memory_closes_with_that_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
