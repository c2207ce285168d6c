/* Who has a stream, and the log of what changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/cluster/store_fixture.h"

/* ---- claims ---- */

static void test_claim_life(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    beat(s, PROCESS_ROUTER, worker(0), t0);
    assert_int_equal(get(s, "live/a", t0).e, ERR_NOT_FOUND);
    const struct answer a = take(s, (struct take){.key = "live/a", .node = "n1", .session = 5});
    assert_int_equal(a.e, ERR_OK);
    expect_load(s, "n1", 1, 0);
    struct answer g = get(s, "live/a", t0);
    assert_int_equal(g.e, ERR_OK);
    assert_string_equal(g.c.key.text, "live/a");
    assert_int_equal(g.c.key.len, 6);
    assert_string_equal(g.c.node, "n1");
    assert_int_equal(g.c.state, CLAIM_LIVE);
    assert_int_equal(g.c.session, 5);
    assert_int_equal(g.c.epoch, a.c.epoch);
    assert_int_equal(g.c.since_ms, t0);
    assert_int_equal(g.c.previous_epoch, 0);
    assert_int_equal(g.c.client_addr[15], 9);
    assert_int_equal(g.c.args_hash, 77);
    const struct worker_id w0 = worker(0);
    assert_true(worker_id_equal(&g.c.worker, &w0));

    assert_int_equal(release(s, "live/a", a.c.epoch + 1, true, t0 + 10), ERR_CONFLICT);
    assert_int_equal(release(s, "live/b", a.c.epoch, true, t0 + 10), ERR_CONFLICT);
    assert_int_equal(release(s, "live/a", a.c.epoch, true, t0 + 10), ERR_OK);
    assert_int_equal(release(s, "live/a", a.c.epoch, true, t0 + 10), ERR_CONFLICT);
    expect_load(s, "n1", 0, 0);
    g = get(s, "live/a", t0 + 10 + HOLD_MS - 1);
    assert_int_equal(g.e, ERR_OK);
    assert_int_equal(g.c.state, CLAIM_HINT);
    assert_int_equal(g.c.since_ms, t0 + 10);
    assert_int_equal(get(s, "live/a", t0 + 10 + HOLD_MS).e, ERR_NOT_FOUND);

    /* the encoder comes back; then its publish never starts */
    const struct answer b = take(s, (struct take){.key = "live/a", .node = "n1"});
    assert_int_equal(b.e, ERR_OK);
    assert_true(b.c.epoch > a.c.epoch);
    assert_int_equal(b.c.previous_epoch, 0);
    assert_int_equal(release(s, "live/a", b.c.epoch, false, t0), ERR_OK);
    assert_int_equal(get(s, "live/a", t0).e, ERR_NOT_FOUND);
    expect_load(s, "n1", 0, 0);
    uint32_t removed = 9;
    assert_int_equal(store_claims_sweep(s, HOLD_MS, t0 + 10 * HOLD_MS, &removed), ERR_OK);
    assert_int_equal(removed, 0); /* no hint was left over */
}

static void test_takeover(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    const struct stream_key key = key_of("live/a");
    const struct worker_id w0 = worker(0);
    beat(s, PROCESS_ROUTER, worker(0), t0);
    beat(s, PROCESS_ROUTER, worker(1), t0);
    const struct answer a = take(s, (struct take){.key = "live/a", .node = "n1", .session = 5});

    struct answer b =
        take(s, (struct take){.key = "live/a", .node = "n1", .slot = 1, .session = 6});
    assert_int_equal(b.e, ERR_CONFLICT);
    assert_true(b.given);
    assert_int_equal(b.c.epoch, a.c.epoch);
    expect_load(s, "n1", 1, 0);

    b = take(s, (struct take){.key = "live/a",
                              .node = "n1",
                              .slot = 1,
                              .session = 6,
                              .expect = a.c.epoch,
                              .bound = 1}); /* carries it already: the bound is no matter */
    assert_int_equal(b.e, ERR_OK);
    assert_true(b.c.epoch > a.c.epoch);
    assert_int_equal(b.c.previous_epoch, a.c.epoch);
    assert_true(worker_id_equal(&b.c.previous, &w0));
    assert_false(b.c.released);
    expect_load(s, "n1", 1, 0);

    /* the one that lost it changes nothing; its word that the link is closed counts */
    assert_int_equal(release(s, "live/a", a.c.epoch, true, t0), ERR_CONFLICT);
    assert_false(get(s, "live/a", t0).c.released);
    assert_int_equal(store_claim_handed_over(s, &key, 12345), ERR_CONFLICT);
    assert_int_equal(store_claim_handed_over(s, &key, 0), ERR_CONFLICT);

    /* on to another node before that: the previous one is still waited for */
    const struct answer c = take(
        s,
        (struct take){.key = "live/a", .node = "n2", .slot = 1, .session = 6, .expect = b.c.epoch});
    assert_int_equal(c.e, ERR_OK);
    assert_int_equal(c.c.previous_epoch, a.c.epoch);
    expect_load(s, "n1", 0, 0);
    expect_load(s, "n2", 1, 0);
    assert_int_equal(store_claim_handed_over(s, &key, a.c.epoch), ERR_OK);
    assert_true(get(s, "live/a", t0).c.released);
    const struct stream_key other = key_of("live/other");
    assert_int_equal(store_claim_handed_over(s, &other, a.c.epoch), ERR_NOT_FOUND);
}

static void test_retry_on_next_node(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    beat(s, PROCESS_ROUTER, worker(0), t0);
    const struct answer a = take(s, (struct take){.key = "live/a", .node = "n1", .session = 5});
    const struct answer b =
        take(s, (struct take){
                    .key = "live/a", .node = "n2", .session = 5, .expect = a.c.epoch, .bound = 1});
    assert_int_equal(b.e, ERR_OK);
    assert_int_equal(b.c.previous_epoch, 0);
    assert_string_equal(b.c.previous.router, "");
    expect_load(s, "n1", 0, 0);
    expect_load(s, "n2", 1, 0);
}

static void test_bound(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    beat(s, PROCESS_ROUTER, worker(0), t0);
    assert_int_equal(take(s, (struct take){.key = "live/a", .node = "n1", .bound = 2}).e, ERR_OK);
    assert_int_equal(take(s, (struct take){.key = "live/b", .node = "n1", .bound = 2}).e, ERR_OK);
    const struct answer a = take(s, (struct take){.key = "live/c", .node = "n1", .bound = 2});
    assert_int_equal(a.e, ERR_FULL);
    assert_false(a.given);
    assert_int_equal(get(s, "live/c", t0).e, ERR_NOT_FOUND);
    expect_load(s, "n1", 2, 0);
    assert_int_equal(take(s, (struct take){.key = "live/c", .node = "n2", .bound = 2}).e, ERR_OK);
    char id[NODE_ID_MAX + 1];
    memset(id, 'n', NODE_ID_MAX);
    id[NODE_ID_MAX] = '\0';
    assert_int_equal(take(s, (struct take){.key = "live/d", .node = id}).e, ERR_INVALID);
}

static void test_dead_worker(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    beat(s, PROCESS_ROUTER, worker(0), t0);
    beat(s, PROCESS_ROUTER, worker(1), t0 + 6000);
    const struct answer a = take(s, (struct take){.key = "live/a", .node = "n1", .session = 5});
    assert_int_equal(a.e, ERR_OK);
    assert_int_equal(get(s, "live/a", t0 + 4999).c.state, CLAIM_LIVE);
    struct answer g = get(s, "live/a", t0 + 5000);
    assert_int_equal(g.e, ERR_OK);
    assert_int_equal(g.c.state, CLAIM_HINT);
    assert_string_equal(g.c.node, "n1");
    assert_int_equal(g.c.since_ms, t0); /* its last heartbeat */
    assert_int_equal(get(s, "live/a", t0 + HOLD_MS).e, ERR_NOT_FOUND);

    const struct answer b = take(
        s,
        (struct take){.key = "live/a", .node = "n2", .slot = 1, .session = 6, .now_ms = t0 + 6000});
    assert_int_equal(b.e, ERR_OK);
    assert_int_equal(b.c.previous_epoch, 0); /* nobody there to wait for */
    expect_load(s, "n1", 0, 0);
    expect_load(s, "n2", 1, 0);

    /* its slot's successor finds nothing of it left */
    const struct worker_id w0 = worker(0), w1 = worker(1);
    bool left = true;
    assert_int_equal(store_slot_clean(s, &w0, t0 + 7000, &left), ERR_OK);
    assert_false(left);
    assert_int_equal(get(s, "live/a", t0 + 7000).c.epoch, b.c.epoch);

    /* no record at all */
    assert_int_equal(store_process_delete(s, PROCESS_ROUTER, &w1), ERR_OK);
    assert_int_equal(store_process_delete(s, PROCESS_ROUTER, &w1), ERR_NOT_FOUND);
    g = get(s, "live/a", t0 + 7000);
    assert_int_equal(g.e, ERR_OK);
    assert_int_equal(g.c.state, CLAIM_HINT);
}

/* A clock that was set back makes nothing last longer than it would have. */
static void test_clock_set_back(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    uint32_t removed;
    beat(s, PROCESS_ROUTER, worker(0), t0);
    const struct answer a = take(s, (struct take){.key = "live/a", .node = "n1"});
    const struct answer b = take(s, (struct take){.key = "live/b", .node = "n1"});
    assert_int_equal(a.e + b.e, ERR_OK);
    assert_int_equal(get(s, "live/a", t0 - HOLD_MS).c.state, CLAIM_LIVE); /* before the next beat */
    assert_int_equal(release(s, "live/a", a.c.epoch, true, t0), ERR_OK);

    const uint64_t now = t0 - 10 * HOLD_MS;
    beat(s, PROCESS_ROUTER, worker(0), now);
    assert_int_equal(get(s, "live/b", now).c.state, CLAIM_LIVE);
    assert_int_equal(release(s, "live/b", b.c.epoch, true, now), ERR_OK);
    assert_int_equal(store_claims_sweep(s, HOLD_MS, now, &removed), ERR_OK);
    assert_int_equal(removed, 1);
    assert_int_equal(get(s, "live/a", now).e, ERR_NOT_FOUND);
    assert_int_equal(get(s, "live/b", now).c.state, CLAIM_HINT);
}

static void test_claims_sweep(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    enum { STREAMS = 150 };
    char key[32];
    uint32_t removed = 9;
    beat(s, PROCESS_ROUTER, worker(0), t0);
    for (int i = 0; i < STREAMS; i++) {
        (void)snprintf(key, sizeof key, "live/%d", i);
        const struct answer a = take(s, (struct take){.key = key, .node = "n1"});
        assert_int_equal(release(s, key, a.c.epoch, true, t0 + (uint64_t)i), ERR_OK);
    }
    assert_int_equal(take(s, (struct take){.key = "live/0", .node = "n1"}).e, ERR_OK);
    assert_int_equal(store_claims_sweep(s, HOLD_MS, t0 + HOLD_MS, &removed), ERR_OK);
    assert_int_equal(removed, 0); /* the oldest is live again */
    assert_int_equal(store_claims_sweep(s, HOLD_MS, t0 + HOLD_MS + 1, &removed), ERR_OK);
    assert_int_equal(removed, 1);
    assert_int_equal(store_claims_sweep(s, HOLD_MS, t0 + 2 * HOLD_MS, &removed), ERR_OK);
    assert_int_equal(removed, STORE_WRITE_RECORDS);
    assert_int_equal(store_claims_sweep(s, HOLD_MS, t0 + 2 * HOLD_MS, &removed), ERR_OK);
    assert_int_equal(removed, STREAMS - 2 - STORE_WRITE_RECORDS);
    assert_int_equal(get(s, "live/0", t0).c.state, CLAIM_LIVE);
    expect_load(s, "n1", 1, 0);
}

/* ---- the change log ---- */

struct seen {
    uint32_t count;
    struct store_change last;
    struct store *use; /* asked from inside the call-back */
};

static void see_change(void *arg, const struct store_change *c)
{
    struct seen *v = arg;
    assert_true(v->count == 0 || c->seq == v->last.seq + 1);
    v->count++;
    v->last = *c;
    if (v->use)
        (void)get(v->use, c->claim.key.text, t0);
}

static uint32_t read_changes(struct store *s, uint64_t *seq, struct seen *v, bool *lost)
{
    *v = (struct seen){.use = s};
    assert_int_equal(store_changes_read(s, seq, lost, see_change, v), ERR_OK);
    return v->count;
}

static void test_changes(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    const struct stream_key key = key_of("live/a");
    struct seen v;
    uint64_t seq = 0;
    bool lost = true;
    beat(s, PROCESS_ROUTER, worker(0), t0);
    beat(s, PROCESS_ROUTER, worker(1), t0);
    assert_int_equal(read_changes(s, &seq, &v, &lost), 0);
    assert_false(lost);
    assert_int_not_equal(seq, 0); /* or the first change would be missed */

    const struct answer a = take(s, (struct take){.key = "live/a", .node = "n1", .session = 5});
    assert_int_equal(read_changes(s, &seq, &v, &lost), 1);
    assert_int_equal(v.last.claim.epoch, a.c.epoch);
    assert_int_equal(v.last.claim.state, CLAIM_LIVE);
    assert_int_equal(read_changes(s, &seq, &v, &lost), 0);

    const struct answer b = take(
        s,
        (struct take){.key = "live/a", .node = "n2", .slot = 1, .session = 6, .expect = a.c.epoch});
    assert_int_equal(store_claim_handed_over(s, &key, a.c.epoch), ERR_OK);
    assert_int_equal(read_changes(s, &seq, &v, &lost), 2);
    assert_true(v.last.claim.released);
    assert_int_equal(v.last.claim.previous_epoch, a.c.epoch);
    assert_int_equal(release(s, "live/a", b.c.epoch, false, t0), ERR_OK);
    assert_int_equal(read_changes(s, &seq, &v, &lost), 1);
    assert_int_equal(v.last.claim.state, CLAIM_HINT);
}

static void test_changes_lost(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct seen v;
    uint64_t seq = 0, early = 0;
    bool lost = true;
    beat(s, PROCESS_ROUTER, worker(0), t0);
    (void)read_changes(s, &early, &v, &lost);
    seq = early;
    uint64_t epoch = 0;
    for (int i = 0; i < STORE_CHANGES_KEEP; i++) {
        const struct answer a =
            take(s, (struct take){.key = "live/a", .node = "n1", .expect = epoch});
        epoch = a.c.epoch;
    }
    uint32_t total = 0, n;
    uint64_t reader = early;
    while ((n = read_changes(s, &reader, &v, &lost)) > 0) {
        assert_false(lost);
        assert_true(n <= STORE_WRITE_RECORDS);
        total += n;
    }
    assert_int_equal(total, STORE_CHANGES_KEEP);

    assert_int_equal(take(s, (struct take){.key = "live/a", .node = "n1", .expect = epoch}).e,
                     ERR_OK);
    assert_int_equal(read_changes(s, &seq, &v, &lost), 0);
    assert_true(lost);
    assert_int_equal(read_changes(s, &seq, &v, &lost), 0);
    assert_false(lost);
    assert_int_equal(seq, reader + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_claim_life),         STORE_TEST(test_takeover),
        STORE_TEST(test_retry_on_next_node), STORE_TEST(test_bound),
        STORE_TEST(test_dead_worker),        STORE_TEST(test_clock_set_back),
        STORE_TEST(test_claims_sweep),       STORE_TEST(test_changes),
        STORE_TEST(test_changes_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
