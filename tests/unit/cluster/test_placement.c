#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/placement.h"

static const uint64_t now_wall = 1700000000000u;
static const uint64_t now_mono = 5000000u;

/* No bound and no panic, unless a test asks for them. */
static const struct config_placement plain = {.slow_start_ms = 60000};

static struct node *add(struct node_table *t, const char *id, uint32_t weight)
{
    struct node n = {.conf = {.weight = weight}, .health = NODE_UP};
    (void)snprintf(n.conf.id, sizeof n.conf.id, "%s", id);
    n.addr.ss_family = AF_INET;
    assert_int_equal(node_table_put(t, &n), ERR_OK);
    return node_table_find(t, id);
}

/* n0, n1, ... of equal weight. */
static struct node_table *cluster_of(uint32_t count)
{
    struct node_table *t;
    char id[16];
    assert_int_equal(node_table_create("demo", &t), ERR_OK);
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(id, sizeof id, "n%u", (unsigned)i);
        (void)add(t, id, 100);
    }
    return t;
}

static struct stream_key nth_key(uint32_t i)
{
    struct stream_key k = {.len = 0};
    k.len = (uint16_t)snprintf(k.text, sizeof k.text, "live/stream%u", (unsigned)i);
    return k;
}

static struct place_request request(const struct stream_key *k, enum place_kind kind)
{
    return (struct place_request){
        .key = k, .kind = kind, .now_wall_ms = now_wall, .now_mono_ms = now_mono};
}

static struct place_result ask(const struct node_table *t, const struct config_placement *policy,
                               const struct place_request *r)
{
    struct place_result out;
    place(t, policy, r, NULL, &out);
    return out;
}

static const struct node *home(const struct node_table *t, const struct config_placement *policy,
                               uint32_t i)
{
    const struct stream_key k = nth_key(i);
    const struct place_request r = request(&k, PLACE_PUBLISH);
    return ask(t, policy, &r).node;
}

static enum place_why why_of(const struct place_candidate *c, uint32_t count, const char *id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(c[i].node->conf.id, id) == 0)
            return c[i].why;
    }
    fail();
    return PLACE_OK;
}

/* ---- each reason to pass a node over ---- */

static void break_disabled(struct node *n)
{
    n->admin = NODE_DISABLED;
}
static void break_draining(struct node *n)
{
    n->admin = NODE_DRAIN;
}
static void break_leaving(struct node *n)
{
    n->leaving = true;
}
static void break_down(struct node *n)
{
    n->health = NODE_DOWN;
}
static void break_weight(struct node *n)
{
    n->conf.weight = 0;
}
static void break_addr(struct node *n)
{
    n->addr.ss_family = 0;
}
static void break_load(struct node *n)
{
    n->streams = 4;
}
static void break_streams(struct node *n)
{
    n->conf.max_streams = n->streams = 1;
}
static void break_sessions(struct node *n)
{
    n->conf.max_sessions = n->sessions = 3;
}
static void break_bandwidth(struct node *n)
{
    n->conf.max_bandwidth = n->bandwidth = 1000000;
}
static void break_health_unknown(struct node *n)
{
    n->health = NODE_UNKNOWN;
}
static void break_nearly(struct node *n)
{
    n->conf.max_streams = n->conf.max_sessions = 2;
    n->streams = n->sessions = 1;
    n->conf.max_bandwidth = 1000;
    n->bandwidth = 999;
}

/* A node link that players share is back on the node that is full of them. */
static void test_shared_link_returns_to_its_full_node(void **state)
{
    (void)state;
    const struct config_placement policy = {.max_load_factor = 1.25};
    const struct stream_key key = nth_key(1);
    struct node_table *t = cluster_of(1);
    struct node *n = &t->nodes[0];
    const char *id = n->conf.id;
    struct place_request req = request(&key, PLACE_PLAY);
    n->conf.max_sessions = 5;
    req.owner = req.here = id;
    for (uint32_t own = 0; own <= 6; own++) {
        for (uint32_t others = 0; others <= 6; others++) {
            n->sessions = own + others;
            req.here_sessions = own;
            const bool taken = ask(t, &policy, &req).node != NULL;
            assert_int_equal(taken, others < 5 || (own == 0 && others == 5)); /* 0: as one */
        }
    }
    node_table_destroy(t);
}

static void test_every_why(void **state)
{
    (void)state;
    static const struct {
        void (*change)(struct node *n);
        enum place_why why;
    } cases[] = {
        {break_disabled, PLACE_DISABLED},     {break_draining, PLACE_DRAINING},
        {break_leaving, PLACE_LEAVING},       {break_down, PLACE_DOWN},
        {break_weight, PLACE_WEIGHT_ZERO},    {break_addr, PLACE_UNRESOLVED},
        {break_load, PLACE_LOAD_BOUND},       {break_streams, PLACE_MAX_STREAMS},
        {break_sessions, PLACE_MAX_SESSIONS}, {break_bandwidth, PLACE_MAX_BANDWIDTH},
        {break_health_unknown, PLACE_OK},     {break_nearly, PLACE_OK},
    };
    /* a factor that 4 streams of 5 exceed (bound 3), and 1 of 2 does not */
    const struct config_placement policy = {.max_load_factor = 1.25};
    static const enum place_kind kinds[] = {PLACE_PUBLISH, PLACE_PLAY};
    for (size_t i = 0; i < 2 * (sizeof cases / sizeof cases[0]); i++) {
        struct node_table *t = cluster_of(2);
        const struct stream_key k = nth_key(7);
        const struct place_request r = request(&k, kinds[i % 2]);
        const struct place_result before = ask(t, &policy, &r);
        assert_int_equal(before.reason, PLACED_HASH);
        struct node *first = node_table_find(t, before.node->conf.id);
        cases[i / 2].change(first);

        struct place_candidate c[2];
        struct place_result with, without = ask(t, &policy, &r);
        place(t, &policy, &r, c, &with);
        assert_ptr_equal(with.node, without.node);
        assert_int_equal(with.reason, without.reason);
        assert_int_equal(with.bound, without.bound);
        assert_int_equal(with.candidate_count, 2);
        assert_int_equal(why_of(c, 2, first->conf.id), cases[i / 2].why);
        if (cases[i / 2].why == PLACE_OK)
            assert_ptr_equal(with.node, first);
        else
            assert_ptr_not_equal(with.node, first);
        node_table_destroy(t);
    }
}

static void test_names(void **state)
{
    (void)state;
    for (int w = 0; w < PLACE_WHY_COUNT; w++)
        assert_non_null(place_why_name((enum place_why)w));
    for (int r = 0; r < PLACE_REASON_COUNT; r++)
        assert_non_null(place_reason_name((enum place_reason)r));
    assert_string_equal(place_why_name(PLACE_OK), "ok");
    assert_string_equal(place_why_name(PLACE_MAX_BANDWIDTH), "max_bandwidth");
    assert_string_equal(place_reason_name(PLACED_NOWHERE), "nowhere");
}

/* Tried nodes one after the other give the order that the explanation shows. */
static void test_order_and_exclusions(void **state)
{
    (void)state;
    enum { NODES = 20 };
    struct node_table *t = cluster_of(NODES);
    for (uint32_t k = 0; k < 50; k++) {
        struct place_candidate order[NODES];
        char tried[NODES][NODE_ID_MAX] = {{0}};
        struct place_result out;
        const struct stream_key key = nth_key(k);
        struct place_request r = request(&key, PLACE_PUBLISH);
        place(t, &plain, &r, order, &out);
        r.exclude = (const char(*)[NODE_ID_MAX])tried;
        for (uint32_t i = 0; i < NODES; i++) {
            assert_true(i == 0 || order[i].score <= order[i - 1].score);
            r.exclude_count = i;
            const struct place_result got = ask(t, &plain, &r);
            assert_ptr_equal(got.node, order[i].node);
            assert_int_equal(got.reason, i == 0 ? PLACED_HASH : PLACED_FALLBACK);
            assert_true(got.bound == UINT32_MAX);
            memcpy(tried[i], got.node->conf.id, NODE_ID_MAX);
        }
        r.exclude_count = NODES;
        const struct place_result none = ask(t, &plain, &r);
        assert_null(none.node);
        assert_int_equal(none.reason, PLACED_NOWHERE);
        struct place_candidate shown[NODES];
        place(t, &plain, &r, shown, &out);
        assert_int_equal(shown[0].why, PLACE_EXCLUDED);
    }
    node_table_destroy(t);
}

static void test_no_nodes(void **state)
{
    (void)state;
    struct node_table *t = cluster_of(0);
    const struct stream_key k = nth_key(1);
    const struct config_placement policy = {.max_load_factor = 1.25, .panic_threshold = 0.5};
    const struct place_request r = request(&k, PLACE_PUBLISH);
    const struct place_result out = ask(t, &policy, &r);
    assert_null(out.node);
    assert_int_equal(out.reason, PLACED_NOWHERE);
    assert_false(out.panic);
    node_table_destroy(t);
}

/* ---- shares ---- */

/* Each node's share is within 5 sigma of its weight's, and all together pass a chi-square test of
 * the same strictness. */
static void check_shares(struct node_table *t, uint32_t names)
{
    uint32_t *hits = calloc(t->count, sizeof *hits);
    double weights = 0, chi2 = 0;
    for (uint32_t i = 0; i < t->count; i++)
        weights += t->nodes[i].conf.weight;
    for (uint32_t i = 0; i < names; i++)
        hits[home(t, &plain, i) - t->nodes]++;
    for (uint32_t i = 0; i < t->count; i++) {
        const double p = t->nodes[i].conf.weight / weights, want = p * names;
        const double off = hits[i] - want, sigma = sqrt(want * (1 - p));
        assert_true(fabs(off) <= 5 * sigma);
        chi2 += off * off / want;
    }
    const double freedom = t->count - 1;
    assert_true(chi2 < freedom + 5 * sqrt(2 * freedom));
    free(hits);
}

static void test_shares(void **state)
{
    (void)state;
    static const struct {
        uint32_t nodes, names;
    } cases[] = {{3, 2000000}, {10, 2000000}, {50, 1000000}, {500, 200000}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct node_table *t = cluster_of(cases[i].nodes);
        check_shares(t, cases[i].names);
        for (uint32_t n = 0; n < t->count; n++)
            t->nodes[n].conf.weight = 50 + n % 7 * 100;
        check_shares(t, cases[i].names / 4);
        node_table_destroy(t);
    }
}

static void test_least_movement(void **state)
{
    (void)state;
    enum { NODES = 30, NAMES = 20000 };
    struct node_table *t = cluster_of(NODES), *fewer = cluster_of(NODES), *heavier;
    heavier = cluster_of(NODES);
    assert_int_equal(node_table_remove(fewer, "n11"), ERR_OK);
    node_table_find(heavier, "n11")->conf.weight = 200;
    uint32_t moved = 0, gained = 0;
    for (uint32_t i = 0; i < NAMES; i++) {
        const char *was = home(t, &plain, i)->conf.id;
        const char *is = home(fewer, &plain, i)->conf.id;
        const char *with_more = home(heavier, &plain, i)->conf.id;
        if (strcmp(was, "n11") == 0) {
            assert_string_not_equal(is, "n11");
            assert_string_equal(with_more, "n11"); /* more weight loses nothing */
            moved++;
        } else {
            assert_string_equal(is, was);
            if (strcmp(with_more, was) != 0) {
                assert_string_equal(with_more, "n11");
                gained++;
            }
        }
    }
    assert_in_range(moved, NAMES / NODES / 2, NAMES / NODES * 2);
    assert_in_range(gained, NAMES / NODES / 2, NAMES / NODES * 2);
    node_table_destroy(t);
    node_table_destroy(fewer);
    node_table_destroy(heavier);
}

static void test_address_is_not_hashed(void **state)
{
    (void)state;
    struct node_table *a = cluster_of(10), *b = cluster_of(10), *other;
    for (uint32_t i = 0; i < b->count; i++)
        (void)snprintf(b->nodes[i].conf.rtmp, HOST_MAX, "10.9.8.%u:1935", (unsigned)i);
    assert_int_equal(node_table_create("another", &other), ERR_OK);
    for (uint32_t i = 0; i < 10; i++)
        (void)add(other, a->nodes[i].conf.id, 100);
    uint32_t differs = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        assert_string_equal(home(a, &plain, i)->conf.id, home(b, &plain, i)->conf.id);
        differs += strcmp(home(a, &plain, i)->conf.id, home(other, &plain, i)->conf.id) != 0;
    }
    assert_in_range(differs, 800, 1000); /* the cluster's name counts */
    node_table_destroy(a);
    node_table_destroy(b);
    node_table_destroy(other);
}

/* ---- bounded load ---- */

static void test_bounded_load(void **state)
{
    (void)state;
    enum { NODES = 50, MEAN = 20 };
    const struct config_placement policy = {.max_load_factor = 1.25};
    struct node_table *t = cluster_of(NODES);
    uint32_t fallbacks = 0;
    for (uint32_t i = 0; i < NODES * MEAN; i++) {
        const struct stream_key k = nth_key(i);
        const struct place_request r = request(&k, i % 3 ? PLACE_PUBLISH : PLACE_PLAY);
        const struct place_result out = ask(t, &policy, &r);
        assert_non_null(out.node);
        struct node *n = node_table_find(t, out.node->conf.id);
        assert_int_equal(out.bound, (uint32_t)ceil(1.25 * (i + 1) / NODES - 1e-9));
        n->streams++;
        assert_true(n->streams <= out.bound);
        fallbacks += out.reason == PLACED_FALLBACK;
    }
    for (uint32_t i = 0; i < NODES; i++)
        assert_true(t->nodes[i].streams <= MEAN * 5 / 4);
    assert_in_range(fallbacks, 1, NODES * MEAN / 2);
    node_table_destroy(t);
}

static void test_bounded_load_by_weight(void **state)
{
    (void)state;
    const struct config_placement policy = {.max_load_factor = 1.25};
    struct node_table *t = cluster_of(10);
    t->nodes[0].conf.weight = 1000;
    for (uint32_t i = 0; i < 1900; i++) {
        const struct node *n = home(t, &policy, i);
        assert_non_null(n);
        t->nodes[n - t->nodes].streams++;
    }
    assert_in_range(t->nodes[0].streams, 900, 1250); /* 1000 by weight */
    for (uint32_t i = 1; i < 10; i++)
        assert_in_range(t->nodes[i].streams, 60, 125);
    node_table_destroy(t);
}

/* What a node that takes nothing carries is not in the others' share. */
static void test_bound_counts_usable_nodes(void **state)
{
    (void)state;
    const struct config_placement policy = {.max_load_factor = 1.25};
    struct node_table *t = cluster_of(3);
    t->nodes[0].admin = NODE_DRAIN;
    t->nodes[0].streams = 1000;
    t->nodes[1].streams = t->nodes[2].streams = 4;
    const struct stream_key k = nth_key(1);
    const struct place_request r = request(&k, PLACE_PUBLISH);
    assert_int_equal(ask(t, &policy, &r).bound, 6); /* ceil(1.25 * 1/2 * 9) */
    t->nodes[1].conf.max_streams = t->nodes[2].conf.max_streams = 5;
    assert_int_equal(ask(t, &policy, &r).bound, 5);
    node_table_destroy(t);
}

/* Nor is a node that does not answer, before its probes say so: of two equal ones that are both at
 * their bound, one has to take what the other one had. */
static void test_bound_without_a_node_that_is_gone(void **state)
{
    (void)state;
    const struct config_placement policy = {.max_load_factor = 1};
    struct node_table *t = cluster_of(2);
    struct node *stays = &t->nodes[0], *gone = &t->nodes[1];
    stays->streams = 10;
    gone->streams = 1;
    const struct stream_key k = nth_key(1);
    struct place_request r = request(&k, PLACE_PUBLISH);
    assert_ptr_equal(ask(t, &policy, &r).node, gone);
    r.exclude = (const char(*)[NODE_ID_MAX])gone->conf.id;
    r.exclude_count = 1;
    assert_ptr_equal(ask(t, &policy, &r).node, stays);
    assert_int_equal(ask(t, &policy, &r).bound, 11);
    r.exclude_count = 0;
    gone->notes.dial_failed_ms = now_mono - 1;
    assert_ptr_equal(ask(t, &policy, &r).node, stays);
    stays->notes.dial_failed_ms = now_mono - 1; /* none has a share: no bound */
    assert_true(ask(t, &policy, &r).bound == UINT32_MAX);
    node_table_destroy(t);
}

/* Nor is one that is full by a limit of its own, or down and used only in panic. */
static void test_bound_without_full_nodes(void **state)
{
    (void)state;
    static void (*const troubles[])(struct node *) = {break_streams, break_sessions,
                                                      break_bandwidth};
    const struct config_placement policy = {.max_load_factor = 1.25, .panic_threshold = 0.5};
    for (size_t i = 0; i < sizeof troubles / sizeof troubles[0]; i++) {
        struct node_table *t = cluster_of(3);
        t->nodes[1].streams = t->nodes[2].streams = 53;
        troubles[i](&t->nodes[0]);
        const struct stream_key k = nth_key(1);
        const struct place_request r = request(&k, PLACE_PUBLISH);
        assert_non_null(ask(t, &policy, &r).node);
        assert_int_equal(ask(t, &policy, &r).bound, 67); /* ceil(1.25 * 1/2 * 107) */
        node_table_destroy(t);
    }
    struct node_table *t = cluster_of(5);
    for (uint32_t i = 0; i < 3; i++)
        t->nodes[i].health = NODE_DOWN;
    t->nodes[3].streams = t->nodes[4].streams = 250;
    struct place_candidate c[5];
    struct place_result out;
    const struct stream_key k = nth_key(1);
    const struct place_request r = request(&k, PLACE_PUBLISH);
    place(t, &policy, &r, c, &out);
    assert_true(out.panic);
    assert_int_equal(why_of(c, 5, "n3"), PLACE_OK);
    assert_int_equal(why_of(c, 5, "n4"), PLACE_OK);
    node_table_destroy(t);
}

/* Whatever the nodes carry: who may use one at all is not turned away by bounded load alone. */
static void test_bound_turns_nobody_away(void **state)
{
    (void)state;
    enum { NODES = 5, ROUNDS = 20000 };
    const struct config_placement policy = {.max_load_factor = 1, .panic_threshold = 0.5};
    struct node_table *t = cluster_of(NODES);
    uint32_t dice = 1, placed = 0;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        char tried[2][NODE_ID_MAX];
        bool room = false;
        for (uint32_t n = 0; n < NODES; n++) {
            struct node *node = &t->nodes[n];
            dice = dice * 1664525u + 1013904223u;
            node->streams = dice >> 8 & 7u ? dice >> 11 & 63u : 0;
            node->conf.weight = dice >> 17 & 1u ? 1000 : 1;
            node->conf.max_streams = dice >> 18 & 3u ? 0 : 20;
            node->health = dice >> 20 & 3u ? NODE_UP : NODE_DOWN;
            node->notes.dial_failed_ms = dice >> 22 & 3u ? 0 : now_mono - 1;
            node->admin = dice >> 24 & 7u ? NODE_ENABLED : NODE_DRAIN;
        }
        (void)snprintf(tried[0], NODE_ID_MAX, "n%u", (unsigned)(dice >> 27 & 7u));
        (void)snprintf(tried[1], NODE_ID_MAX, "n%u", (unsigned)(dice >> 5 & 7u));
        const struct stream_key k = nth_key(i);
        struct place_request r = request(&k, PLACE_PUBLISH);
        r.exclude = (const char(*)[NODE_ID_MAX])tried;
        r.exclude_count = 2;
        struct place_candidate c[NODES];
        struct place_result out;
        place(t, &policy, &r, c, &out);
        for (uint32_t n = 0; n < NODES; n++)
            room = room || c[n].why == PLACE_OK || c[n].why == PLACE_LOAD_BOUND;
        assert_int_equal(out.node != NULL, room);
        placed += room;
    }
    assert_in_range(placed, ROUNDS / 2, ROUNDS - 1);
    node_table_destroy(t);
}

/* A session that is counted at a full node, which may have come back, is no reason against it. */
static void test_room_that_the_session_has(void **state)
{
    (void)state;
    static void (*const troubles[])(struct node *) = {break_streams, break_sessions};
    const struct config_placement policy = {.max_load_factor = 1};
    for (size_t i = 0; i < sizeof troubles / sizeof troubles[0]; i++) {
        struct node_table *t = cluster_of(1);
        troubles[i](&t->nodes[0]);
        const struct stream_key k = nth_key(1);
        struct place_request r = request(&k, PLACE_PUBLISH);
        assert_null(ask(t, &policy, &r).node);
        r.here = "n1";
        assert_null(ask(t, &policy, &r).node);
        r.next = "n0"; /* on its way there it counts as a stream, and as no session */
        assert_int_equal(ask(t, &policy, &r).node != NULL, troubles[i] == break_streams);
        r.next = NULL;
        r.here = "n0";
        assert_ptr_equal(ask(t, &policy, &r).node, &t->nodes[0]);
        t->nodes[0].streams++;
        t->nodes[0].sessions++;
        assert_null(ask(t, &policy, &r).node); /* more than full without it */
        node_table_destroy(t);
    }
    struct node_table *t = cluster_of(1);
    break_sessions(&t->nodes[0]);
    const struct stream_key k = nth_key(1);
    struct place_request r = request(&k, PLACE_PLAY);
    r.owner = r.here = "n0";
    assert_ptr_equal(ask(t, &policy, &r).node, &t->nodes[0]);
    r.here = NULL;
    assert_true(ask(t, &policy, &r).all_sessions_full);
    node_table_destroy(t);
}

/* ---- owner and hint ---- */

static const struct node *not_home(const struct node_table *t, const struct stream_key *k)
{
    const struct place_request r = request(k, PLACE_PUBLISH);
    const struct node *n = ask(t, &plain, &r).node;
    return n == &t->nodes[0] ? &t->nodes[1] : &t->nodes[0];
}

static void test_owner_wins(void **state)
{
    (void)state;
    static void (*const troubles[])(struct node *) = {
        break_disabled, break_draining, break_leaving,   break_down,          break_weight,
        break_load,     break_streams,  break_bandwidth, break_health_unknown};
    const struct config_placement policy = {.max_load_factor = 1.25};
    for (size_t i = 0; i < sizeof troubles / sizeof troubles[0]; i++) {
        struct node_table *t = cluster_of(5);
        const struct stream_key k = nth_key(3);
        const struct node *owner = not_home(t, &k);
        troubles[i](node_table_find(t, owner->conf.id));
        struct place_request r = request(&k, PLACE_PLAY);
        r.owner = owner->conf.id;
        r.hint = "n4";
        struct place_result out = ask(t, &policy, &r);
        assert_ptr_equal(out.node, owner);
        assert_int_equal(out.reason, PLACED_CLAIM);
        assert_true(out.bound == UINT32_MAX);
        r.kind = PLACE_PUBLISH;
        out = ask(t, &policy, &r);
        assert_ptr_equal(out.node, owner);
        node_table_destroy(t);
    }
}

static void test_play_on_full_node(void **state)
{
    (void)state;
    struct node_table *t = cluster_of(5);
    const struct stream_key k = nth_key(3);
    const struct node *owner = not_home(t, &k);
    break_sessions(node_table_find(t, owner->conf.id));
    struct place_request r = request(&k, PLACE_PLAY);
    r.owner = owner->conf.id;
    struct place_result out = ask(t, &plain, &r);
    assert_null(out.node); /* no other node has the stream */
    assert_int_equal(out.reason, PLACED_NOWHERE);
    assert_true(out.all_sessions_full);
    r.kind = PLACE_PUBLISH; /* its own stream comes back: not refused for a session it has */
    out = ask(t, &plain, &r);
    assert_ptr_equal(out.node, owner);
    assert_false(out.all_sessions_full);

    for (uint32_t i = 0; i < t->count; i++)
        break_sessions(&t->nodes[i]);
    r = request(&k, PLACE_PLAY);
    out = ask(t, &plain, &r);
    assert_null(out.node);
    assert_true(out.all_sessions_full);
    node_table_destroy(t);
}

static void test_owner_that_cannot_be_used(void **state)
{
    (void)state;
    struct node_table *t = cluster_of(3);
    const struct stream_key k = nth_key(3);
    const struct node *owner = not_home(t, &k);
    const struct place_request bare = request(&k, PLACE_PUBLISH);
    const struct node *hashed = ask(t, &plain, &bare).node;
    struct place_request r = bare;
    r.owner = "gone";
    assert_ptr_equal(ask(t, &plain, &r).node, hashed);
    r.owner = owner->conf.id;
    r.exclude = &owner->conf.id;
    r.exclude_count = 1;
    assert_ptr_equal(ask(t, &plain, &r).node, hashed);
    node_table_destroy(t);
}

static void test_hint(void **state)
{
    (void)state;
    static const struct {
        void (*change)(struct node *n);
        bool used;
    } cases[] = {
        {break_health_unknown, true}, {break_load, true}, /* its share does not bind it */
        {break_nearly, true},         {break_disabled, false}, {break_draining, false},
        {break_leaving, false},       {break_down, false},     {break_weight, false},
        {break_addr, false},          {break_streams, false},  {break_sessions, false},
        {break_bandwidth, false},
    };
    const struct config_placement policy = {.max_load_factor = 1.25};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct node_table *t = cluster_of(5);
        const struct stream_key k = nth_key(3);
        const struct node *hint = not_home(t, &k);
        cases[i].change(node_table_find(t, hint->conf.id));
        struct place_request r = request(&k, PLACE_PUBLISH);
        r.hint = hint->conf.id;
        const struct place_result out = ask(t, &policy, &r);
        assert_non_null(out.node);
        assert_int_equal(out.node == hint, cases[i].used);
        assert_int_equal(out.reason, cases[i].used ? PLACED_HINT : PLACED_HASH);
        r.kind = PLACE_PLAY;
        assert_ptr_equal(ask(t, &policy, &r).node, out.node); /* players wait where it will be */
        struct place_candidate c[5];
        struct place_result shown;
        place(t, &policy, &r, c, &shown);
        assert_ptr_equal(shown.node, out.node);
        assert_int_equal(shown.candidate_count, 5);
        node_table_destroy(t);
    }
}

/* ---- panic, slow start, late nodes ---- */

static void test_panic(void **state)
{
    (void)state;
    const struct config_placement policy = {.panic_threshold = 0.5};
    static const struct {
        uint32_t down, drained, disabled; /* of 10 */
        bool panic;
    } cases[] = {
        {0, 0, 0, false}, {5, 0, 0, false}, {6, 0, 0, true}, {10, 0, 0, true},
        {4, 2, 0, false}, {5, 2, 0, true},  {5, 1, 1, true}, {0, 5, 5, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct node_table *t = cluster_of(10);
        uint32_t at = 0;
        for (uint32_t n = 0; n < cases[i].down; n++)
            t->nodes[at++].health = NODE_DOWN;
        for (uint32_t n = 0; n < cases[i].drained; n++)
            t->nodes[at++].admin = NODE_DRAIN;
        for (uint32_t n = 0; n < cases[i].disabled; n++)
            t->nodes[at++].admin = NODE_DISABLED;
        bool used_down = false;
        for (uint32_t k = 0; k < 200; k++) {
            const struct stream_key key = nth_key(k);
            const struct place_request r = request(&key, PLACE_PUBLISH);
            const struct place_result out = ask(t, &policy, &r);
            assert_int_equal(out.panic, cases[i].panic);
            if (!out.node)
                continue;
            assert_int_equal(out.node->admin, NODE_ENABLED); /* not even in panic */
            used_down |= out.node->health == NODE_DOWN;
        }
        assert_int_equal(used_down, cases[i].panic);
        node_table_destroy(t);
    }
}

/* A stream that is well where it is does not go to a node that is down. */
static void test_no_panic_for_the_calm(void **state)
{
    (void)state;
    const struct config_placement policy = {.panic_threshold = 0.5};
    struct node_table *t = cluster_of(2);
    const struct stream_key key = nth_key(1);
    struct place_request r = request(&key, PLACE_PUBLISH);
    t->nodes[0].admin = NODE_DRAIN;
    t->nodes[1].health = NODE_DOWN;
    assert_ptr_equal(ask(t, &policy, &r).node, &t->nodes[1]);
    r.calm = true;
    assert_null(ask(t, &policy, &r).node);
    t->nodes[1].health = NODE_UP;
    assert_ptr_equal(ask(t, &policy, &r).node, &t->nodes[1]);
    node_table_destroy(t);
}

static void test_unknown_counts_as_up(void **state)
{
    (void)state;
    const struct config_placement policy = {.panic_threshold = 0.5};
    struct node_table *t = cluster_of(4);
    for (uint32_t i = 0; i < 3; i++)
        t->nodes[i].health = NODE_UNKNOWN;
    t->nodes[3].health = NODE_DOWN;
    for (uint32_t k = 0; k < 100; k++)
        assert_ptr_not_equal(home(t, &policy, k), &t->nodes[3]);
    node_table_destroy(t);
}

static void test_slow_start(void **state)
{
    (void)state;
    static const struct {
        enum node_health health;
        uint64_t up_for_ms;
        double weight; /* of 100 */
    } cases[] = {
        {NODE_UP, 0, 10},      {NODE_UP, 30000, 55},     {NODE_UP, 59999, 99.9985},
        {NODE_UP, 60000, 100}, {NODE_UP, now_wall, 100}, {NODE_UNKNOWN, 0, 100},
        {NODE_DOWN, 0, 100},
    };
    struct node_table *t = cluster_of(2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct node n = t->nodes[0];
        n.health = cases[i].health;
        n.health_since_ms = now_wall - cases[i].up_for_ms;
        assert_true(fabs(place_weight(&n, &plain, now_wall) - cases[i].weight) < 1e-9);
    }
    struct node n = t->nodes[0];
    n.health_since_ms = now_wall + 5000; /* the clock was set back */
    assert_true(fabs(place_weight(&n, &plain, now_wall) - 10) < 1e-9);
    n.health_since_ms = now_wall + 7200000; /* by hours: nodes must not be slow for so long */
    assert_true(fabs(place_weight(&n, &plain, now_wall) - 100) < 1e-9);
    const struct config_placement off = {.slow_start_ms = 0};
    assert_true(fabs(place_weight(&n, &off, now_wall) - 100) < 1e-9);

    t->nodes[0].health_since_ms = now_wall;
    uint32_t hits = 0;
    for (uint32_t i = 0; i < 11000; i++)
        hits += home(t, &plain, i) == &t->nodes[0];
    assert_in_range(hits, 850, 1150); /* 10 of 110 */
    node_table_destroy(t);
}

static void test_late_node(void **state)
{
    (void)state;
    struct node_table *t = cluster_of(4);
    const struct stream_key k = nth_key(9);
    struct place_request r = request(&k, PLACE_PUBLISH);
    struct node *first = node_table_find(t, ask(t, &plain, &r).node->conf.id);
    first->notes.dial_failed_ms = now_mono - 999;
    struct place_candidate c[4];
    struct place_result out;
    place(t, &plain, &r, c, &out);
    assert_ptr_not_equal(out.node, first);
    assert_int_equal(out.reason, PLACED_FALLBACK);
    assert_ptr_equal(out.node, ask(t, &plain, &r).node);
    assert_ptr_equal(c[3].node, first);
    assert_true(c[3].late);
    assert_int_equal(c[3].why, PLACE_OK);
    r.hint = first->conf.id;
    assert_ptr_equal(ask(t, &plain, &r).node, out.node); /* a hint does not make it prompt */

    for (uint32_t i = 0; i < t->count; i++)
        t->nodes[i].notes.dial_failed_ms = now_mono - 1;
    assert_ptr_equal(ask(t, &plain, &r).node, first); /* all late: the order decides */
    for (uint32_t i = 0; i < t->count; i++)
        t->nodes[i].admin = &t->nodes[i] == first ? NODE_ENABLED : NODE_DISABLED;
    assert_ptr_equal(ask(t, &plain, &r).node, first); /* last, but not never */
    first->notes.dial_failed_ms = now_mono - 1000;
    place(t, &plain, &r, c, &out);
    assert_false(c[0].late);
    node_table_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_why),
        cmocka_unit_test(test_shared_link_returns_to_its_full_node),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_order_and_exclusions),
        cmocka_unit_test(test_no_nodes),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_least_movement),
        cmocka_unit_test(test_address_is_not_hashed),
        cmocka_unit_test(test_bounded_load),
        cmocka_unit_test(test_bounded_load_by_weight),
        cmocka_unit_test(test_bound_counts_usable_nodes),
        cmocka_unit_test(test_bound_without_a_node_that_is_gone),
        cmocka_unit_test(test_bound_without_full_nodes),
        cmocka_unit_test(test_bound_turns_nobody_away),
        cmocka_unit_test(test_room_that_the_session_has),
        cmocka_unit_test(test_owner_wins),
        cmocka_unit_test(test_play_on_full_node),
        cmocka_unit_test(test_owner_that_cannot_be_used),
        cmocka_unit_test(test_hint),
        cmocka_unit_test(test_panic),
        cmocka_unit_test(test_no_panic_for_the_calm),
        cmocka_unit_test(test_unknown_counts_as_up),
        cmocka_unit_test(test_slow_start),
        cmocka_unit_test(test_late_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
