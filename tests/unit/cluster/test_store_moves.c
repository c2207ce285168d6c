/* A live stream moves: its claim, what nodes count, whom it waits for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/cluster/store_fixture.h"

static struct answer move_within(struct fixture *f, const char *key, uint64_t epoch,
                                 const char *next, enum claim_way way, uint32_t bound)
{
    struct answer a = {.e = ERR_CORRUPT};
    const struct stream_key k = key_of(key);
    const struct claim_move m = {.key = &k,
                                 .epoch = epoch,
                                 .next = next,
                                 .bound = bound,
                                 .way = way,
                                 .replay_time = 1234,
                                 .now_ms = t0};
    store_claim_move(f->store, &m, keep_answer, &a);
    return a;
}

static struct answer move_by(struct fixture *f, const char *key, uint64_t epoch, const char *next,
                             enum claim_way way)
{
    return move_within(f, key, epoch, next, way, UINT32_MAX);
}

static struct answer move(struct fixture *f, const char *key, uint64_t epoch, const char *next)
{
    return move_by(f, key, epoch, next, CLAIM_WAY_PLANNED);
}

static enum err arrived(struct fixture *f, const char *key, uint64_t epoch)
{
    const struct stream_key k = key_of(key);
    return store_claim_arrived(f->store, &k, epoch, NULL, t0);
}

static void expect_streams(struct fixture *f, uint32_t a, uint32_t b, uint32_t c)
{
    struct node_table *t = read_nodes(f->store, t0);
    assert_int_equal(node_table_get(t, "a")->streams, a);
    assert_int_equal(node_table_get(t, "b")->streams, b);
    assert_int_equal(node_table_get(t, "c")->streams, c);
    node_table_destroy(t);
}

static struct answer start(struct fixture *f)
{
    for (const char *id = "abc"; *id; id++) {
        const struct node n = node_of((char[]){*id, 0}, "10.0.0.1");
        assert_int_equal(store_node_put(f->store, &n), ERR_OK);
    }
    beat(f->store, PROCESS_ROUTER, worker(0), t0);
    beat(f->store, PROCESS_ROUTER, worker(1), t0);
    const struct answer a = take(f->store, (struct take){.key = "live/x", .node = "a"});
    assert_int_equal(a.e, ERR_OK);
    assert_int_equal(a.c.publication, a.c.epoch);
    return a;
}

static void test_not_over_the_limit(void **state)
{
    struct fixture *f = *state;
    const struct answer a = start(f);
    const struct answer y = take(f->store, (struct take){.key = "live/y", .node = "b"});
    assert_int_equal(y.e, ERR_OK);
    assert_int_equal(move_within(f, "live/x", a.c.epoch, "b", CLAIM_WAY_LOST, 1).e, ERR_FULL);
    expect_streams(f, 1, 1, 0); /* as it was */
    const struct answer b = move_within(f, "live/x", a.c.epoch, "b", CLAIM_WAY_LOST, 2);
    assert_int_equal(b.e, ERR_OK);
    expect_streams(f, 1, 2, 0);
    /* it counts there: once more, and back, whatever the limit is by now */
    const struct answer c = move_within(f, "live/x", b.c.epoch, "b", CLAIM_WAY_LOST, 1);
    assert_int_equal(c.e, ERR_OK);
    const struct answer d = move_within(f, "live/x", c.c.epoch, "a", CLAIM_WAY_BACK, 1);
    assert_int_equal(d.e, ERR_OK);
    expect_streams(f, 1, 1, 0);
}

static void test_there_and_on(void **state)
{
    struct fixture *f = *state;
    const struct answer a = start(f);
    expect_streams(f, 1, 0, 0);
    const struct answer b = move(f, "live/x", a.c.epoch, "b");
    assert_int_equal(b.e, ERR_OK);
    assert_true(b.c.epoch > a.c.epoch);
    assert_int_equal(b.c.publication, a.c.epoch);
    assert_string_equal(b.c.node, "a");
    assert_string_equal(claim_serving(&b.c), "b");
    assert_true(b.c.planned);
    assert_int_equal(b.c.replay_time, 1234);
    expect_streams(f, 1, 1, 0);
    /* b dies on the way: on to c */
    const struct answer c = move(f, "live/x", b.c.epoch, "c");
    assert_int_equal(c.e, ERR_OK);
    expect_streams(f, 1, 0, 1);
    assert_int_equal(arrived(f, "live/x", b.c.epoch), ERR_CONFLICT);
    assert_int_equal(arrived(f, "live/x", c.c.epoch), ERR_OK);
    assert_int_equal(arrived(f, "live/x", c.c.epoch), ERR_CONFLICT);
    expect_streams(f, 0, 0, 1);
    const struct answer now = get(f->store, "live/x", t0);
    assert_string_equal(now.c.node, "c");
    assert_string_equal(now.c.next, "");
    assert_int_equal(now.c.epoch, c.c.epoch);
    assert_int_equal(release(f->store, "live/x", c.c.epoch, true, t0), ERR_OK);
    expect_streams(f, 0, 0, 0);
}

static void test_to_the_same_node(void **state)
{
    struct fixture *f = *state;
    const struct answer a = start(f);
    const struct answer b = move(f, "live/x", a.c.epoch, "a");
    assert_int_equal(b.e, ERR_OK);
    expect_streams(f, 1, 0, 0);
    assert_int_equal(arrived(f, "live/x", b.c.epoch), ERR_OK);
    expect_streams(f, 1, 0, 0);
}

static void test_called_back(void **state)
{
    struct fixture *f = *state;
    const struct answer a = start(f);
    const struct answer b = move(f, "live/x", a.c.epoch, "a");
    assert_false(get(f->store, "live/x", t0).c.stays);
    const struct answer c = move_by(f, "live/x", b.c.epoch, "a", CLAIM_WAY_BACK);
    assert_int_equal(c.e, ERR_OK);
    assert_true(c.c.stays && c.c.planned);
    assert_true(get(f->store, "live/x", t0).c.stays);
    assert_int_equal(arrived(f, "live/x", c.c.epoch), ERR_OK);
    const struct answer now = get(f->store, "live/x", t0);
    assert_true(now.c.stays && !now.c.planned); /* whoever has missed the rest is told as much */
    assert_int_equal(now.c.previous_epoch, 0);
    const struct answer d = move_by(f, "live/x", c.c.epoch, "b", CLAIM_WAY_LOST);
    assert_false(d.c.stays || d.c.planned);
    assert_false(get(f->store, "live/x", t0).c.stays);
}

static void test_ends_while_it_moves(void **state)
{
    struct fixture *f = *state;
    const struct answer a = start(f);
    const struct answer b = move(f, "live/x", a.c.epoch, "b");
    assert_int_equal(move(f, "live/x", a.c.epoch, "c").e, ERR_CONFLICT);
    /* its worker dies: the stream may be on either; a hint for the new one, nothing is counted */
    const struct answer hint = get(f->store, "live/x", t0 + 5001);
    assert_int_equal(hint.c.state, CLAIM_HINT);
    assert_string_equal(hint.c.node, "b");
    bool left = true;
    const struct worker_id w = worker(0);
    assert_int_equal(store_slot_clean(f->store, &w, t0, &left), ERR_OK);
    expect_streams(f, 0, 0, 0);
    assert_int_equal(move(f, "live/x", b.c.epoch, "c").e, ERR_CONFLICT);
    assert_int_equal(get(f->store, "live/x", t0).c.state, CLAIM_HINT);
}

static void test_taken_over_while_it_moves(void **state)
{
    struct fixture *f = *state;
    const struct answer a = start(f);
    const struct answer b = move(f, "live/x", a.c.epoch, "b");
    const struct answer t = take(
        f->store,
        (struct take){.key = "live/x", .node = "c", .slot = 1, .session = 5, .expect = b.c.epoch});
    assert_int_equal(t.e, ERR_OK);
    assert_int_equal(t.c.publication, t.c.epoch);
    assert_string_equal(t.c.next, "");
    assert_int_equal(arrived(f, "live/x", b.c.epoch), ERR_CONFLICT);
    expect_streams(f, 0, 0, 1);
}

static void put_player(struct fixture *f, uint64_t id, uint32_t slot)
{
    const struct session_record r = {.id = id,
                                     .kind = SESSION_PLAY,
                                     .worker = worker(slot),
                                     .key = key_of("live/x"),
                                     .node = "a"};
    assert_int_equal(store_session_put(f->store, &r), ERR_OK);
}

static uint32_t behind(struct fixture *f, uint64_t epoch, bool cut, uint64_t now_ms)
{
    uint32_t n = 99;
    const struct stream_key k = key_of("live/x");
    assert_int_equal(store_audience_behind(f->store, &k, epoch, cut, now_ms, &n), ERR_OK);
    return n;
}

static enum err mark(struct fixture *f, uint32_t slot, uint64_t epoch, bool cut)
{
    const struct stream_key k = key_of("live/x");
    const struct worker_id w = worker(slot);
    return store_audience_mark(f->store, &k, &w, epoch, cut);
}

static void test_audience(void **state)
{
    struct fixture *f = *state;
    (void)start(f);
    assert_int_equal(behind(f, 7, false, t0), 0);
    put_player(f, 1, 0);
    put_player(f, 2, 0);
    put_player(f, 3, 1);
    assert_int_equal(behind(f, 7, false, t0), 2);
    assert_int_equal(mark(f, 0, 7, false), ERR_OK);
    assert_int_equal(behind(f, 7, false, t0), 1);
    assert_int_equal(mark(f, 0, 6, true), ERR_OK); /* an older move: no step back */
    put_player(f, 4, 0);                           /* players that come keep the mark */
    assert_int_equal(behind(f, 7, false, t0), 1);
    assert_int_equal(behind(f, 7, false, t0 + 5001), 0); /* dead workers are not waited for */
    assert_int_equal(mark(f, 1, 8, false), ERR_OK);
    assert_int_equal(behind(f, 7, false, t0), 0);
    assert_int_equal(behind(f, 7, true, t0), 1); /* slot 1 is beyond that move */
    assert_int_equal(mark(f, 0, 7, true), ERR_OK);
    assert_int_equal(behind(f, 7, true, t0), 0);
    assert_int_equal(mark(f, 2, 7, true), ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_there_and_on),
        STORE_TEST(test_not_over_the_limit),
        STORE_TEST(test_to_the_same_node),
        STORE_TEST(test_called_back),
        STORE_TEST(test_ends_while_it_moves),
        STORE_TEST(test_taken_over_while_it_moves),
        STORE_TEST(test_audience),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
