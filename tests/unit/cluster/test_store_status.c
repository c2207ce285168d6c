#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock_io.h"
#include "store_fixture.h"

static void add_node(struct store *s, const char *id)
{
    const struct node n = node_of(id, "127.0.0.1");
    assert_int_equal(store_node_put(s, &n), ERR_OK);
}

struct event_kinds {
    uint32_t count;
    char kinds[16][32];
};

static bool keep_kind(void *arg, const struct store_event *e)
{
    struct event_kinds *k = arg;
    (void)snprintf(k->kinds[k->count++ % 16], 32, "%s", e->kind);
    return true;
}

/* All events so far are these. */
static void expect_events(struct store *s, const char *const *want, uint32_t count)
{
    struct event_kinds k = {.count = 0};
    assert_int_equal(store_events_list(s, 0, keep_kind, &k), ERR_OK);
    assert_int_equal(k.count, count);
    for (uint32_t i = 0; i < count; i++)
        assert_string_equal(k.kinds[i], want[i]);
}

/* ---- one node for the API ---- */

static void test_node_get(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct node out = {.streams = 99};
    uint64_t etag = 7, again = 0;
    assert_int_equal(store_node_get(s, "n1", &out, &etag), ERR_NOT_FOUND);
    assert_int_equal(store_node_get(s, "", &out, &etag), ERR_NOT_FOUND);
    assert_int_equal(out.streams, 99);
    assert_int_equal(etag, 7);

    add_node(s, "n1");
    const struct answer a = take(s, (struct take){.key = "live/a", .node = "n1"});
    assert_int_equal(a.e, ERR_OK);
    const struct node_status st = {
        .id = "n1", .health = NODE_UP, .since_ms = 5, .bandwidth_in = 30, .bandwidth_out = 20};
    assert_int_equal(store_status_put(s, &st, 1, t0), ERR_OK);
    assert_int_equal(store_node_get(s, "n1", &out, &etag), ERR_OK);
    assert_string_equal(out.conf.rtmp, "127.0.0.1:1936");
    assert_int_equal(out.streams, 1);
    assert_int_equal(out.bandwidth, 0); /* no healthd */
    assert_int_equal(out.health, NODE_UNKNOWN);
    beat(s, PROCESS_HEALTHD, (struct worker_id){.slot = 0}, clock_wall_ms());
    assert_int_equal(store_node_get(s, "n1", &out, &again), ERR_OK);
    assert_int_equal(out.bandwidth, 30);
    assert_int_equal(out.health, NODE_UP);
    assert_int_equal(out.health_since_ms, 5);
    assert_true(again == etag); /* what is measured is no change of the record */
}

static void test_node_put_if(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct node n = node_of("n1", "127.0.0.1");
    uint64_t first = 0, second = 0, e = 1234;
    assert_int_equal(store_node_put_if(s, &n, 99, &e), ERR_CONFLICT); /* none where one should be */
    assert_int_equal(e, 1234);
    assert_int_equal(store_node_put_if(s, &n, STORE_ETAG_NONE, &first), ERR_OK);
    assert_true(first != STORE_ETAG_ANY && first != STORE_ETAG_NONE);
    assert_int_equal(store_node_put_if(s, &n, STORE_ETAG_NONE, &e), ERR_CONFLICT);
    n.conf.weight = 7;
    assert_int_equal(store_node_put_if(s, &n, first, &second), ERR_OK);
    assert_true(second != first);
    n.conf.weight = 8;
    assert_int_equal(store_node_put_if(s, &n, first, &e), ERR_CONFLICT);
    struct node out;
    assert_int_equal(store_node_get(s, "n1", &out, &e), ERR_OK);
    assert_int_equal(out.conf.weight, 7);
    assert_true(e == second);
    assert_int_equal(store_node_put_if(s, &n, STORE_ETAG_ANY, &e), ERR_OK);
    n.conf.id[0] = '\0';
    assert_int_equal(store_node_put_if(s, &n, STORE_ETAG_ANY, &e), ERR_INVALID);

    assert_int_equal(store_node_delete_if(s, "n2", STORE_ETAG_ANY), ERR_NOT_FOUND);
    assert_int_equal(store_node_delete_if(s, "n2", second), ERR_NOT_FOUND);
    assert_int_equal(store_node_delete_if(s, "n1", second), ERR_CONFLICT);
    assert_int_equal(store_node_delete_if(s, "n1", e), ERR_OK);
    assert_int_equal(store_node_delete_if(s, "n1", e), ERR_NOT_FOUND);
    static const char *const want[] = {"node_added", "node_changed", "node_changed",
                                       "node_removed"};
    expect_events(s, want, 4); /* a conflict is no event */
}

/* ---- status ---- */

static bool count_status(void *arg, const struct node_status *st)
{
    assert_true(st->checks > 0);
    return ++*(uint32_t *)arg < 3;
}

static void test_status(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct node_status out = {.clients = 99};
    add_node(s, "n1");
    const uint64_t v0 = version_of(s);
    assert_int_equal(store_status_get(s, "n1", &out), ERR_NOT_FOUND);
    assert_int_equal(out.clients, 99);
    struct node_status st = {.id = "n1",
                             .health = NODE_UP,
                             .since_ms = 1,
                             .checked_ms = 2,
                             .reason = "rtmp: good",
                             .latency_us = 3,
                             .bandwidth_in = 4,
                             .bandwidth_out = 5,
                             .clients = 6,
                             .publishers = 7,
                             .version = "nginx 1.22.1",
                             .pid = 8,
                             .process_started_ms = 9,
                             .generations = 1,
                             .skewed = true,
                             .stuck = false,
                             .flapping = true,
                             .checks = 10,
                             .failures = 11,
                             .transitions = 12};
    assert_int_equal(store_status_put(s, &st, 1, t0), ERR_OK);
    const uint64_t v1 = version_of(s);
    assert_int_not_equal(v0, v1);
    reopen(f);
    s = f->store;
    assert_int_equal(store_status_get(s, "n1", &out), ERR_OK);
    assert_string_equal(out.id, "n1");
    assert_string_equal(out.reason, "rtmp: good");
    assert_string_equal(out.version, "nginx 1.22.1");
    assert_int_equal(out.health, NODE_UP);
    assert_int_equal(out.since_ms + out.checked_ms + out.latency_us, 1 + 2 + 3);
    assert_int_equal(out.bandwidth_in, 4);
    assert_int_equal(out.bandwidth_out, 5);
    assert_int_equal(out.clients, 6);
    assert_int_equal(out.publishers, 7);
    assert_int_equal(out.pid, 8);
    assert_int_equal(out.process_started_ms, 9);
    assert_int_equal(out.generations, 1);
    assert_true(out.skewed && !out.stuck && out.flapping);
    assert_int_equal(out.checks, 10);
    assert_int_equal(out.failures, 11);
    assert_int_equal(out.transitions, 12);

    st.checked_ms = st.checks = 100; /* all but the verdict */
    st.pid = 9;
    assert_int_equal(store_status_put(s, &st, 1, t0), ERR_OK);
    assert_int_equal(version_of(s), v1);
    st.since_ms = 2;
    assert_int_equal(store_status_put(s, &st, 1, t0), ERR_OK);
    assert_int_not_equal(version_of(s), v1);
    assert_int_equal(store_status_get(s, "", &out), ERR_NOT_FOUND);
}

static void test_status_events(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    add_node(s, "n1");
    static const struct node_status rounds[] = {
        {.health = NODE_UNKNOWN, .generations = 0}, /* nothing known: nothing to tell */
        {.health = NODE_UP, .generations = 1},      /* up; the first generation is no reload */
        {.health = NODE_UP, .generations = 1},
        {.health = NODE_UP, .generations = 2},   /* reloaded */
        {.health = NODE_DOWN, .generations = 2}, /* down */
        {.health = NODE_UP, .generations = 3},   /* both */
        {.health = NODE_UNKNOWN, .generations = 3},
    };
    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0]; i++) {
        struct node_status st = rounds[i];
        memcpy(st.id, "n1", 3);
        assert_int_equal(store_status_put(s, &st, 1, t0), ERR_OK);
    }
    static const char *const want[] = {"node_added", "node_up", "node_reloaded",
                                       "node_down",  "node_up", "node_reloaded"};
    expect_events(s, want, 6);
}

static void test_status_of_many(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    static struct node_status st[STORE_WRITE_RECORDS + 1];
    uint32_t seen = 0;
    for (size_t i = 0; i < STORE_WRITE_RECORDS; i++) {
        (void)snprintf(st[i].id, sizeof st[i].id, "n%zu", i);
        st[i].checks = 1;
        if (i < 5)
            add_node(s, st[i].id);
    }
    assert_int_equal(store_status_put(s, st, STORE_WRITE_RECORDS + 1, t0), ERR_LIMIT);
    assert_int_equal(store_status_put(s, st, STORE_WRITE_RECORDS, t0), ERR_OK);
    assert_int_equal(store_status_list(s, count_status, &seen), ERR_OK);
    assert_int_equal(seen, 3); /* it said enough */
    struct node_status out;
    assert_int_equal(store_status_get(s, "n4", &out), ERR_OK);
    assert_int_equal(store_status_get(s, "n5", &out), ERR_NOT_FOUND); /* no such node */
    assert_int_equal(store_node_delete(s, "n4"), ERR_OK);
    assert_int_equal(store_status_get(s, "n4", &out), ERR_NOT_FOUND);
    assert_int_equal(store_status_put(s, &st[4], 1, t0), ERR_OK); /* healthd is a moment late */
    assert_int_equal(store_status_get(s, "n4", &out), ERR_NOT_FOUND);
}

/* ---- dials that failed ---- */

struct dials {
    uint32_t count;
    struct dial_failures last;
};

static bool keep_dials(void *arg, const struct dial_failures *f)
{
    struct dials *d = arg;
    d->count++;
    d->last = *f;
    return true;
}

static void test_dial_failures(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct dials d = {0};
    add_node(s, "n1");
    assert_int_equal(store_dial_failed(s, "nobody", t0), ERR_OK);
    assert_int_equal(store_dial_failures_list(s, keep_dials, &d), ERR_OK);
    assert_int_equal(d.count, 0);
    const uint64_t v = version_of(s);
    assert_int_equal(store_dial_failed(s, "n1", t0), ERR_OK);
    assert_int_equal(store_dial_failed(s, "n1", t0 + 5), ERR_OK);
    assert_int_equal(version_of(s), v);
    assert_int_equal(store_dial_failures_list(s, keep_dials, &d), ERR_OK);
    assert_int_equal(d.count, 1);
    assert_string_equal(d.last.node, "n1");
    assert_int_equal(d.last.count, 2);
    assert_int_equal(d.last.last_ms, t0 + 5);
    assert_int_equal(store_node_delete(s, "n1"), ERR_OK);
    d.count = 0;
    assert_int_equal(store_dial_failures_list(s, keep_dials, &d), ERR_OK);
    assert_int_equal(d.count, 0);
}

/* ---- found streams ---- */

static enum err see(struct store *s, const char *node, const char *key, uint64_t now_ms)
{
    const struct stream_key k = key_of(key);
    return store_found_put(s, node, &k, 1, now_ms);
}

static void test_found(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    beat(s, PROCESS_ROUTER, worker(0), t0);
    add_node(s, "n1");
    add_node(s, "n2");
    assert_int_equal(see(s, "nobody", "live/a", t0), ERR_OK);
    assert_int_equal(get(s, "live/a", t0).e, ERR_NOT_FOUND);
    assert_int_equal(see(s, "n1", "live/a", t0), ERR_OK);
    struct answer g = get(s, "live/a", t0 + STORE_FOUND_MS - 1);
    assert_int_equal(g.e, ERR_OK);
    assert_int_equal(g.c.state, CLAIM_FOUND);
    assert_string_equal(g.c.node, "n1");
    assert_string_equal(g.c.key.text, "live/a");
    assert_int_equal(g.c.since_ms, t0);
    assert_int_equal(g.c.epoch + g.c.session, 0);
    assert_int_equal(get(s, "live/b", t0).e, ERR_NOT_FOUND);
    assert_int_equal(get(s, "live/a", t0 + STORE_FOUND_MS).e, ERR_NOT_FOUND);

    /* seen again and again it stays, since it was first seen */
    for (uint64_t at = t0; at <= t0 + 2 * STORE_FOUND_MS; at += 1000)
        assert_int_equal(see(s, "n1", "live/a", at), ERR_OK);
    g = get(s, "live/a", t0 + 2 * STORE_FOUND_MS + 1000);
    assert_int_equal(g.c.state, CLAIM_FOUND);
    assert_int_equal(g.c.since_ms, t0);

    /* nothing to a publisher; a claim and its hint come before it */
    const uint64_t t1 = t0 + 2 * STORE_FOUND_MS;
    beat(s, PROCESS_ROUTER, worker(0), t1);
    const struct answer a = take(s, (struct take){.key = "live/a", .node = "n2", .now_ms = t1});
    assert_int_equal(a.e, ERR_OK);
    assert_int_equal(a.c.previous_epoch, 0);
    assert_int_equal(get(s, "live/a", t1).c.state, CLAIM_LIVE);
    assert_int_equal(release(s, "live/a", a.c.epoch, true, t1), ERR_OK);
    assert_int_equal(get(s, "live/a", t1).c.state, CLAIM_HINT);
    assert_string_equal(get(s, "live/a", t1).c.node, "n2");
    const uint64_t t2 = t1 + HOLD_MS; /* the hint is over, the stream goes on */
    assert_int_equal(get(s, "live/a", t2).e, ERR_NOT_FOUND);
    assert_int_equal(see(s, "n1", "live/a", t2), ERR_OK);
    assert_int_equal(get(s, "live/a", t2).c.state, CLAIM_FOUND);
    assert_int_equal(get(s, "live/a", t2).c.since_ms, t2); /* there was a gap */
}

/* A ghost stays where the stream was; the stream itself is where it appeared last. */
static void test_found_on_two_nodes(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    static const char *const order[][2] = {{"n1", "n2"}, {"n2", "n1"}};
    add_node(s, "n1");
    add_node(s, "n2");
    for (size_t i = 0; i < 2; i++) {
        const uint64_t at = t0 + i * 10 * STORE_FOUND_MS;
        assert_int_equal(see(s, order[i][0], "live/a", at), ERR_OK);
        assert_int_equal(see(s, order[i][1], "live/a", at + 1000), ERR_OK);
        assert_int_equal(see(s, order[i][0], "live/a", at + 4000), ERR_OK);
        assert_int_equal(see(s, order[i][1], "live/a", at + 4000), ERR_OK);
        assert_string_equal(get(s, "live/a", at + 5000).c.node, order[i][1]);
        /* and when it is gone there, what is left */
        assert_int_equal(see(s, order[i][0], "live/a", at + 10000), ERR_OK);
        assert_string_equal(get(s, "live/a", at + 14000).c.node, order[i][0]);
    }
}

static void test_found_sweep(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    enum { MANY = STORE_WRITE_RECORDS + 20 };
    static struct stream_key keys[MANY];
    uint32_t removed = 99;
    add_node(s, "n1");
    for (size_t i = 0; i < MANY; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "live/%zu", i);
        keys[i] = key_of(name);
    }
    assert_int_equal(store_found_put(s, "n1", keys, MANY, t0), ERR_LIMIT);
    assert_int_equal(store_found_put(s, "n1", keys, STORE_WRITE_RECORDS, t0), ERR_OK);
    assert_int_equal(
        store_found_put(s, "n1", keys + STORE_WRITE_RECORDS, MANY - STORE_WRITE_RECORDS, t0),
        ERR_OK);
    assert_int_equal(store_found_sweep(s, t0 + STORE_FOUND_MS - 1, &removed), ERR_OK);
    assert_int_equal(removed, 0);
    assert_int_equal(see(s, "n1", "live/3", t0 + 5000), ERR_OK);
    assert_int_equal(store_found_sweep(s, t0 + STORE_FOUND_MS, &removed), ERR_OK);
    assert_int_equal(removed, STORE_WRITE_RECORDS);
    assert_int_equal(store_found_sweep(s, t0 + STORE_FOUND_MS, &removed), ERR_OK);
    assert_int_equal(removed, MANY - STORE_WRITE_RECORDS - 1);
    assert_int_equal(get(s, "live/3", t0 + STORE_FOUND_MS).c.state, CLAIM_FOUND);
    assert_int_equal(get(s, "live/4", t0).e, ERR_NOT_FOUND);
    const uint64_t set_back = t0 - STORE_FOUND_MS;
    assert_int_equal(get(s, "live/3", set_back).e, ERR_NOT_FOUND);
    assert_int_equal(store_found_sweep(s, set_back, &removed), ERR_OK);
    assert_int_equal(removed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_node_get),       STORE_TEST(test_node_put_if),
        STORE_TEST(test_status),         STORE_TEST(test_status_events),
        STORE_TEST(test_status_of_many), STORE_TEST(test_dial_failures),
        STORE_TEST(test_found),          STORE_TEST(test_found_on_two_nodes),
        STORE_TEST(test_found_sweep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
