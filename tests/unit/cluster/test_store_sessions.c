/* Sessions and audiences, what a dead worker leaves, processes, events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/cluster/store_fixture.h"

/* ---- sessions ---- */

static struct session_record session(uint64_t id, uint32_t slot, const char *key, const char *node)
{
    struct session_record r = {.id = id,
                               .kind = SESSION_PLAY,
                               .worker = worker(slot),
                               .key = key_of(key),
                               .client = "192.0.2.1:5000",
                               .started_ms = t0,
                               .bytes_in = 1,
                               .bytes_out = 2,
                               .bitrate = 3,
                               .rehomes = 4};
    (void)snprintf(r.node, sizeof r.node, "%s", node);
    return r;
}

static void expect_audience(struct store *s, const char *key, const char *router, uint64_t slots,
                            uint32_t players)
{
    const struct stream_key k = key_of(key);
    uint64_t mask = 99;
    uint32_t n = 99;
    assert_int_equal(store_audience(s, &k, router, &mask, &n), ERR_OK);
    assert_int_equal(mask, slots);
    assert_int_equal(n, players);
}

struct session_list {
    uint32_t count, stop_at;
    struct session_record last;
};

static bool list_session(void *arg, const struct session_record *r)
{
    struct session_list *l = arg;
    l->last = *r;
    return ++l->count != l->stop_at;
}

static void put_session(struct store *s, struct session_record r)
{
    assert_int_equal(store_session_put(s, &r), ERR_OK);
}

static void test_sessions(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct session_record p = session(100, 0, "live/a", "n1");
    p.kind = SESSION_PUBLISH;
    put_session(s, p);
    put_session(s, session(101, 0, "live/a", "n1"));
    put_session(s, session(102, 1, "live/a", "n1"));
    put_session(s, session(103, 1, "live/a", "n2"));
    put_session(s, session(104, 1, "live/b", ""));
    expect_load(s, "n1", 0, 3);
    expect_load(s, "n2", 0, 1);
    expect_audience(s, "live/a", "r1", 3, 3);
    expect_audience(s, "live/a", "r2", 0, 3);
    expect_audience(s, "live/b", "r1", 2, 1);
    expect_audience(s, "live/none", "r1", 0, 0);

    put_session(s, session(102, 1, "live/a", "n2")); /* re-homed */
    expect_load(s, "n1", 0, 2);
    expect_load(s, "n2", 0, 2);
    expect_audience(s, "live/a", "r1", 3, 3);

    struct session_list l = {0};
    assert_int_equal(store_sessions_list(s, 0, list_session, &l), ERR_OK);
    assert_int_equal(l.count, 5);
    assert_int_equal(l.last.id, 104);
    assert_int_equal(l.last.kind, SESSION_PLAY);
    assert_int_equal(l.last.worker.slot, 1);
    assert_string_equal(l.last.key.text, "live/b");
    assert_string_equal(l.last.client, "192.0.2.1:5000");
    assert_int_equal(l.last.started_ms, t0);
    assert_int_equal(l.last.bytes_in, 1);
    assert_int_equal(l.last.bytes_out, 2);
    assert_int_equal(l.last.bitrate, 3);
    assert_int_equal(l.last.rehomes, 4);
    l = (struct session_list){.stop_at = 2};
    assert_int_equal(store_sessions_list(s, 0, list_session, &l), ERR_OK);
    assert_int_equal(l.count, 2);

    struct session_record fresh[2] = {session(104, 7, "live/z", "n9"),
                                      session(999, 7, "live/z", "n9")};
    fresh[0].bytes_out = 1000;
    assert_int_equal(store_sessions_refresh(s, fresh, 2), ERR_OK);
    l = (struct session_list){0};
    assert_int_equal(store_sessions_list(s, 0, list_session, &l), ERR_OK);
    assert_int_equal(l.count, 5); /* none that did not exist */
    assert_int_equal(l.last.bytes_out, 1000);
    assert_string_equal(l.last.node, ""); /* counters only */
    assert_int_equal(store_sessions_refresh(s, fresh, STORE_WRITE_RECORDS + 1), ERR_LIMIT);

    assert_int_equal(store_session_delete(s, 101), ERR_OK);
    assert_int_equal(store_session_delete(s, 101), ERR_NOT_FOUND);
    expect_audience(s, "live/a", "r1", 2, 2);
    expect_load(s, "n1", 0, 1);
    assert_int_equal(store_session_delete(s, 102), ERR_OK);
    assert_int_equal(store_session_delete(s, 103), ERR_OK);
    expect_audience(s, "live/a", "r1", 0, 0);
    expect_load(s, "n2", 0, 0);
}

static struct session_record publisher(uint64_t id, const char *node)
{
    struct session_record r = session(id, 0, "live/a", node);
    r.kind = SESSION_PUBLISH;
    return r;
}

static enum err end_claim(struct store *s, uint64_t epoch, uint64_t id)
{
    const struct stream_key k = key_of("live/a");
    const struct claim_end end = {.key = &k, .epoch = epoch, .session = id, .now_ms = t0};
    return store_claim_release(s, &end);
}

static void expect_node_of(struct store *s, uint64_t id, const char *node)
{
    struct session_record r;
    assert_int_equal(store_session_get(s, id, &r), node ? ERR_OK : ERR_NOT_FOUND);
    if (node)
        assert_string_equal(r.node, node);
}

static void test_record_goes_with_its_claim(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    const struct stream_key k = key_of("live/a");
    struct session_record r = publisher(100, "n1");
    struct take t = {.key = "live/a", .node = "n1", .session = 100, .record = &r};
    beat(s, PROCESS_ROUTER, worker(0), t0);
    const uint64_t first = take(s, t).c.epoch;
    expect_node_of(s, 100, "n1");
    expect_load(s, "n1", 1, 1);

    r = publisher(101, "n2"); /* who does not get the claim leaves nothing */
    t.session = 101;
    assert_int_equal(take(s, t).e, ERR_CONFLICT);
    expect_node_of(s, 101, NULL);

    r = publisher(100, "n2"); /* the same session at its next node */
    t = (struct take){.key = "live/a", .node = "n2", .session = 100, .expect = first, .record = &r};
    const uint64_t second = take(s, t).c.epoch;
    expect_load(s, "n1", 0, 0);
    expect_load(s, "n2", 1, 1);

    r = publisher(100, "n3"); /* the claim is not on its way: the session is there all the same */
    assert_int_equal(store_claim_arrived(s, &k, second, &r, t0), ERR_CONFLICT);
    expect_load(s, "n3", 0, 1);
    r = publisher(100, "n2");
    struct answer a = {.e = ERR_CORRUPT};
    const struct claim_move m = {
        .key = &k, .epoch = second, .next = "n2", .bound = UINT32_MAX, .now_ms = t0};
    store_claim_move(s, &m, keep_answer, &a);
    assert_int_equal(a.e, ERR_OK);
    assert_int_equal(store_claim_arrived(s, &k, a.c.epoch, &r, t0), ERR_OK);
    expect_load(s, "n2", 1, 1);
    expect_load(s, "n3", 0, 0);

    assert_int_equal(end_claim(s, first, 100), ERR_CONFLICT); /* taken over: the session ends */
    expect_node_of(s, 100, NULL);
    expect_load(s, "n2", 1, 0);
    assert_int_equal(end_claim(s, a.c.epoch, 100), ERR_OK); /* it has no record any more */
    expect_load(s, "n2", 0, 0);
    assert_int_equal(get(s, "live/a", t0).e, ERR_NOT_FOUND);
}

static void test_session_ids(void **state)
{
    struct fixture *f = *state;
    uint64_t a = 0, b = 0, c = 0;
    assert_int_equal(store_session_id(f->store, &a, 100), ERR_OK);
    assert_int_equal(store_session_id(f->store, &b, 1), ERR_OK);
    assert_int_not_equal(a, 0);
    assert_int_equal(b, a + 100);
    assert_true(b < UINT64_C(1) << 53); /* exact in JSON */
    reopen(f);
    assert_int_equal(store_session_id(f->store, &c, 1), ERR_OK);
    assert_int_equal(c, b + 1);
}

/* ---- a worker's slot ---- */

struct owned {
    uint32_t sessions, claims, limit;
};

static bool count_session(void *arg, uint64_t id)
{
    struct owned *o = arg;
    assert_in_range(id, 1000, 1099);
    return ++o->sessions < o->limit;
}

static bool count_claim(void *arg, const struct claim *c)
{
    struct owned *o = arg;
    assert_int_equal(c->worker.slot, 0);
    assert_string_equal(c->worker.router, "r1");
    return ++o->claims < o->limit;
}

static bool count_claim_of_any(void *arg, const struct claim *c)
{
    struct owned *o = arg;
    (void)c;
    return ++o->claims < o->limit;
}

static void test_slot_clean(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    enum { STREAMS = 60, PLAYERS = 90 };
    char key[32];
    bool left = true;
    const struct worker_id w0 = worker(0);
    struct worker_id other = {.router = "r10", .slot = 0}; /* its name begins like ours */
    beat(s, PROCESS_ROUTER, w0, t0);
    for (int i = 0; i < STREAMS; i++) {
        (void)snprintf(key, sizeof key, "live/%d", i);
        assert_int_equal(take(s, (struct take){.key = key, .node = "n1"}).e, ERR_OK);
    }
    assert_int_equal(take(s, (struct take){.key = "live/w1", .node = "n1", .slot = 1}).e, ERR_OK);
    for (uint64_t i = 0; i < PLAYERS; i++)
        put_session(s, session(1000 + i, 0, "live/0", "n1"));
    put_session(s, session(5000, 1, "live/0", "n1"));
    struct session_record foreign = session(5001, 0, "live/0", "n1");
    foreign.worker = other;
    put_session(s, foreign);
    expect_load(s, "n1", STREAMS + 1, PLAYERS + 2);

    struct owned owned = {.limit = UINT32_MAX};
    assert_int_equal(store_sessions_of(s, &w0, count_session, &owned), ERR_OK);
    assert_int_equal(store_claims_of(s, &w0, count_claim, &owned), ERR_OK);
    assert_int_equal(owned.sessions, PLAYERS);
    assert_int_equal(owned.claims, STREAMS);
    owned = (struct owned){.limit = 3};
    assert_int_equal(store_sessions_of(s, &w0, count_session, &owned), ERR_OK);
    assert_int_equal(store_claims_of(s, &w0, count_claim, &owned), ERR_OK);
    assert_int_equal(owned.sessions, 3);
    assert_int_equal(owned.claims, 3);
    struct session_list behind = {0};
    assert_int_equal(store_sessions_list(s, 1000 + PLAYERS - 1, list_session, &behind), ERR_OK);
    assert_int_equal(behind.count, 2);
    behind.count = 0;
    assert_int_equal(store_sessions_list(s, UINT64_MAX, list_session, &behind), ERR_OK);
    assert_int_equal(behind.count, 0);
    owned = (struct owned){.limit = UINT32_MAX};
    assert_int_equal(store_claims_list(s, "live/58", count_claim_of_any, &owned), ERR_OK);
    assert_int_equal(owned.claims, 6); /* 59, 6 to 9, w1 */
    assert_int_equal(store_slot_clean(s, &w0, t0 + 100, &left), ERR_OK);
    assert_true(left);
    left = false;
    assert_int_equal(store_slot_left(s, &w0, &left), ERR_OK);
    assert_true(left);
    assert_int_equal(store_slot_clean(s, &w0, t0 + 100, &left), ERR_OK);
    assert_false(left);
    left = true;
    assert_int_equal(store_slot_left(s, &w0, &left), ERR_OK);
    assert_false(left);
    expect_load(s, "n1", 1, 2);
    expect_audience(s, "live/0", "r1", 2, 2);
    const struct answer g = get(s, "live/0", t0 + 200);
    assert_int_equal(g.e, ERR_OK);
    assert_int_equal(g.c.state, CLAIM_HINT);
    assert_int_equal(g.c.since_ms, t0 + 100);
    struct session_list l = {0};
    assert_int_equal(store_sessions_list(s, 0, list_session, &l), ERR_OK);
    assert_int_equal(l.count, 2);
}

/* ---- processes, events ---- */

static void test_processes(void **state)
{
    struct fixture *f = *state;
    struct process_record p = {.kind = PROCESS_ROUTER,
                               .id = worker(3),
                               .pid = 7,
                               .version = "1.2.3",
                               .started_ms = 1,
                               .beat_ms = 2,
                               .sessions = 3,
                               .publishers = 4,
                               .players = 5,
                               .accepted = 6,
                               .refused = 7,
                               .placed = 8,
                               .retried = 9,
                               .failed_dials = 10,
                               .taken_over = 11,
                               .players_moved = 12,
                               .bytes_in = 13,
                               .bytes_out = UINT64_MAX,
                               .store_errors = 14,
                               .checks = 15,
                               .check_failures = 16,
                               .transitions = 17,
                               .requests = 18,
                               .lines_lost = 24,
                               .memory_bytes = 19,
                               .loop_turn_max_us = 20,
                               .nodes_version = UINT64_MAX - 1};
    p.closed[WHY_CLIENT_CLOSED] = 21;
    p.closed[PROCESS_CLOSED_COUNT - 1] = 22;
    process_histogram_add(&p.setup[SETUP_TOTAL], 23);
    struct process_record out = {.pid = 0};
    const struct worker_id w3 = worker(3), w4 = worker(4);
    assert_int_equal(store_process_beat(f->store, &p), ERR_OK);
    assert_int_equal(store_process_get(f->store, PROCESS_ROUTER, &w3, &out), ERR_OK);
    assert_true(worker_id_equal(&out.id, &p.id));
    assert_string_equal(out.version, "1.2.3");
    assert_int_equal(out.pid, 7);
    assert_int_equal(out.started_ms + out.beat_ms, 1 + 2);
    assert_int_equal(out.sessions, 3);
    assert_int_equal(out.publishers, 4);
    assert_int_equal(out.players, 5);
    assert_int_equal(out.loop_turn_max_us, 20);
    assert_true(out.nodes_version == UINT64_MAX - 1);
    assert_memory_equal(&out.accepted, &p.accepted, /* every total and histogram */
                        offsetof(struct process_record, loop_turn_max_us) -
                            offsetof(struct process_record, accepted));
    assert_int_equal(store_process_get(f->store, PROCESS_ROUTER, &w4, &out), ERR_NOT_FOUND);
    assert_int_equal(store_process_get(f->store, PROCESS_ADMIN, &w3, &out), ERR_NOT_FOUND);
    reopen(f); /* counters outlive the process */
    assert_int_equal(store_process_get(f->store, PROCESS_ROUTER, &w3, &out), ERR_OK);
}

struct event_list {
    uint32_t count;
    struct store_event events[16];
};

static bool list_event(void *arg, const struct store_event *e)
{
    struct event_list *l = arg;
    l->events[l->count++ % 16] = *e;
    return true;
}

static void test_events(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct node n = node_of("n1", "10.0.0.1");
    beat(s, PROCESS_ROUTER, worker(0), t0);
    beat(s, PROCESS_ROUTER, worker(1), t0);
    assert_int_equal(store_node_put(s, &n), ERR_OK);
    n.admin = NODE_DRAIN;
    assert_int_equal(store_node_put(s, &n), ERR_OK);
    const struct answer a = take(s, (struct take){.key = "live/a", .node = "n1", .session = 1});
    const struct answer b = take(
        s,
        (struct take){.key = "live/a", .node = "n1", .slot = 1, .session = 2, .expect = a.c.epoch});
    assert_int_equal(release(s, "live/a", b.c.epoch, true, t0), ERR_OK);
    assert_int_equal(store_node_delete(s, "n1"), ERR_OK);
    static const char *const want[] = {"node_added",        "node_changed", "stream_started",
                                       "stream_taken_over", "stream_ended", "node_removed"};
    struct event_list l = {0};
    assert_int_equal(store_events_list(s, 0, list_event, &l), ERR_OK);
    assert_int_equal(l.count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(l.events[i].kind, want[i]);
    assert_string_equal(l.events[0].subject, "n1");
    assert_string_equal(l.events[2].subject, "live/a");
    assert_string_equal(l.events[2].node, "n1");
    const uint64_t after = l.events[3].id;
    l = (struct event_list){0};
    assert_int_equal(store_events_list(s, after, list_event, &l), ERR_OK);
    assert_int_equal(l.count, 2);
}

static void expect_event(const struct store_event *e, const char *kind, const char *subject,
                         const char *node)
{
    assert_string_equal(e->kind, kind);
    assert_string_equal(e->subject, subject);
    assert_string_equal(e->node, node);
}

static void test_session_events(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    const struct worker_id w1 = worker(1);
    const struct session_record fresh = session(100, 0, "live/a", "n9");
    bool left = true;
    put_session(s, session(100, 0, "live/a", "n1"));
    put_session(s, session(101, 1, "live/b", ""));
    put_session(s, session(100, 0, "live/a", "n2")); /* re-homed: the same session */
    assert_int_equal(store_sessions_refresh(s, &fresh, 1), ERR_OK);
    assert_int_equal(store_session_delete(s, 100), ERR_OK);
    assert_int_equal(store_session_delete(s, 100), ERR_NOT_FOUND);
    assert_int_equal(store_slot_clean(s, &w1, t0 + 100, &left), ERR_OK);
    put_session(s, session(100, 0, "live/a", "n3"));
    struct event_list l = {0};
    assert_int_equal(store_events_list(s, 0, list_event, &l), ERR_OK);
    assert_int_equal(l.count, 5);
    expect_event(&l.events[0], "session_started", "live/a", "n1");
    expect_event(&l.events[1], "session_started", "live/b", "");
    expect_event(&l.events[2], "session_ended", "live/a", "n2");
    expect_event(&l.events[3], "session_ended", "live/b", "");
    assert_int_equal(l.events[3].time_ms, t0 + 100);
    expect_event(&l.events[4], "session_started", "live/a", "n3");
}

static void test_events_bounded(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    uint64_t epoch = 0;
    beat(s, PROCESS_ROUTER, worker(0), t0);
    for (int i = 0; i < STORE_EVENTS_KEEP + 50; i++)
        epoch = take(s, (struct take){.key = "live/a", .node = "n1", .expect = epoch}).c.epoch;
    struct event_list l = {0};
    assert_int_equal(store_events_list(s, 0, list_event, &l), ERR_OK);
    assert_int_equal(l.count, STORE_EVENTS_KEEP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_sessions),       STORE_TEST(test_record_goes_with_its_claim),
        STORE_TEST(test_session_ids),    STORE_TEST(test_slot_clean),
        STORE_TEST(test_processes),      STORE_TEST(test_events),
        STORE_TEST(test_session_events), STORE_TEST(test_events_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
