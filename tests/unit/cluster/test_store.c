#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <lmdb.h>

#include "base/clock_io.h"
#include "store_fixture.h"

static void expect_load(struct store *s, const char *id, uint32_t streams, uint32_t sessions)
{
    struct node_table *t;
    const struct node n = {.conf = {.weight = 1}};
    assert_int_equal(node_table_create("demo", &t), ERR_OK);
    struct node named = n;
    (void)snprintf(named.conf.id, sizeof named.conf.id, "%s", id);
    assert_int_equal(node_table_put(t, &named), ERR_OK);
    assert_int_equal(store_loads_read(s, t), ERR_OK);
    assert_int_equal(t->nodes[0].streams, streams);
    assert_int_equal(t->nodes[0].sessions, sessions);
    node_table_destroy(t);
}

/* ---- opening ---- */

static void expect_mode(const char *path, mode_t mode)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, mode);
}

static void test_open(void **state)
{
    struct fixture *f = *state;
    char path[160], error[CONFIG_ERROR_MAX];
    struct store *s = NULL;
    expect_mode(f->durable, 0750);
    expect_mode(f->live, 0750);
    (void)snprintf(path, sizeof path, "%s/data.mdb", f->durable);
    expect_mode(path, 0640);
    (void)snprintf(path, sizeof path, "%s/data.mdb", f->live);
    expect_mode(path, 0640);
    reopen(f);

    const struct store_options redis = {.url = "redis:x", .live = f->live};
    assert_int_equal(store_open(&redis, &s, error), ERR_INVALID);
    assert_non_null(strstr(error, "lmdb:"));
    const struct store_options twice = {.url = f->url, .live = f->durable};
    assert_int_equal(store_open(&twice, &s, error), ERR_INVALID);
    const struct store_options file = {.url = "lmdb:/dev/null/x", .live = f->live};
    assert_int_equal(store_open(&file, &s, error), ERR_IO);
    assert_non_null(strstr(error, "/dev/null"));
    assert_null(s);
}

static void test_read_only(void **state)
{
    struct fixture *f = *state;
    char error[CONFIG_ERROR_MAX], url[128], live[128];
    struct stat st;
    struct store *s = NULL;
    (void)snprintf(url, sizeof url, "lmdb:%s/none", f->dir);
    (void)snprintf(live, sizeof live, "%s/none-live", f->dir);
    const struct store_options absent = {.url = url, .live = live, .read_only = true};
    assert_int_equal(store_open(&absent, &s, error), ERR_NOT_FOUND);
    assert_int_not_equal(stat(live, &st), 0);
    assert_int_not_equal(stat(url + strlen("lmdb:"), &st), 0);

    const struct node n = node_of("n1", "127.0.0.1");
    assert_int_equal(store_node_put(f->store, &n), ERR_OK);
    const struct answer a = take(f->store, (struct take){.key = "live/a", .node = "n1"});
    assert_int_equal(a.e, ERR_OK);
    store_close(f->store);
    const struct store_options o = {.url = f->url, .live = f->live, .read_only = true};
    assert_int_equal(store_open(&o, &f->store, error), ERR_OK);
    struct node_table *t = read_nodes(f->store, t0);
    assert_int_equal(t->count, 1);
    assert_int_equal(t->nodes[0].streams, 1);
    node_table_destroy(t);
    assert_int_equal(store_node_put(f->store, &n), ERR_IO);
}

/* Writes another schema number, as a later version would. */
static void set_schema(const char *dir, uint64_t schema)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi meta;
    char name[] = "schema";
    MDB_val k = {.mv_size = strlen(name), .mv_data = name};
    MDB_val v = {.mv_size = sizeof schema, .mv_data = &schema};
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 32), 0);
    assert_int_equal(mdb_env_open(env, dir, 0, 0640), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "meta", 0, &meta), 0);
    assert_int_equal(mdb_put(txn, meta, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void test_other_schema(void **state)
{
    struct fixture *f = *state;
    char error[CONFIG_ERROR_MAX];
    const struct store_options o = {.url = f->url, .live = f->live};
    const char *const dirs[] = {f->durable, f->live};
    const uint64_t ours[] = {1, 7};
    for (size_t i = 0; i < 2; i++) {
        struct store *s = NULL;
        store_close(f->store);
        set_schema(dirs[i], 99);
        assert_int_equal(store_open(&o, &s, error), ERR_VERSION);
        assert_null(s);
        assert_non_null(strstr(error, dirs[i]));
        assert_non_null(strstr(error, "schema 99"));
        set_schema(dirs[i], ours[i]);
        open_store(f);
    }
}

/* ---- nodes ---- */

static void test_node_record_round_trip(void **state)
{
    struct fixture *f = *state;
    struct node n = node_of("n1", "10.0.0.1"), six = node_of("n2", "10.0.0.2");
    n.admin = NODE_DRAIN;
    n.source = NODE_FROM_API;
    n.conf.send_proxy = SEND_PROXY_V2;
    n.conf.max_sessions = 12;
    n.conf.weight = 55;
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(7)};
    a6.sin6_addr.s6_addr[15] = 1;
    memset(&six.addr, 0, sizeof six.addr);
    memcpy(&six.addr, &a6, sizeof a6);
    struct node bare = node_of("n3", "h");
    memset(&bare.addr, 0, sizeof bare.addr);
    assert_int_equal(store_node_put(f->store, &n), ERR_OK);
    assert_int_equal(store_node_put(f->store, &six), ERR_OK);
    assert_int_equal(store_node_put(f->store, &bare), ERR_OK);
    wipe_live(f); /* they are durable */
    struct node_table *t = read_nodes(f->store, t0);
    assert_int_equal(t->count, 3);
    const struct node *r = node_table_get(t, "n1");
    assert_string_equal(r->conf.rtmp, "10.0.0.1:1936");
    assert_string_equal(r->conf.stat, "http://10.0.0.1/stat");
    assert_int_equal(r->conf.weight, 55);
    assert_int_equal(r->conf.max_streams, 7);
    assert_int_equal(r->conf.max_sessions, 12);
    assert_int_equal(r->conf.max_bandwidth, UINT64_C(1) << 40);
    assert_int_equal(r->conf.send_proxy, SEND_PROXY_V2);
    assert_int_equal(r->admin, NODE_DRAIN);
    assert_int_equal(r->source, NODE_FROM_API);
    assert_int_equal(r->seed, node_seed(cluster_seed("demo"), "n1"));
    assert_memory_equal(&r->addr, &n.addr, sizeof n.addr);
    assert_memory_equal(&node_table_get(t, "n2")->addr, &six.addr, sizeof six.addr);
    assert_int_equal(node_table_get(t, "n3")->addr.ss_family, 0);
    node_table_destroy(t);
}

static void test_node_put_and_delete(void **state)
{
    struct fixture *f = *state;
    struct node n = node_of("n1", "10.0.0.1");
    const uint64_t v1 = version_of(f->store);
    assert_int_equal(version_of(f->store), v1);
    assert_int_equal(store_node_put(f->store, &n), ERR_OK);
    const uint64_t v2 = version_of(f->store);
    assert_int_not_equal(v1, v2);
    assert_int_equal(store_node_put(f->store, &n), ERR_OK);
    assert_int_equal(version_of(f->store), v2); /* nothing changed */
    n.admin = NODE_DISABLED;
    assert_int_equal(store_node_put(f->store, &n), ERR_OK);
    const uint64_t v3 = version_of(f->store);
    assert_int_not_equal(v2, v3);
    assert_int_equal(store_node_delete(f->store, "n1"), ERR_OK);
    assert_int_not_equal(version_of(f->store), v3);
    assert_int_equal(store_node_delete(f->store, "n1"), ERR_NOT_FOUND);
    assert_int_equal(store_node_delete(f->store, ""), ERR_NOT_FOUND);
    struct node_table *t = read_nodes(f->store, t0);
    assert_int_equal(t->count, 0);
    node_table_destroy(t);
}

static void test_node_limit(void **state)
{
    struct fixture *f = *state;
    struct node *nodes = calloc(NODES_MAX, sizeof *nodes);
    uint32_t changed = 0;
    char id[16];
    for (int i = 0; i < NODES_MAX; i++) {
        (void)snprintf(id, sizeof id, "n%d", i);
        nodes[i] = node_of(id, "10.0.0.1");
    }
    assert_int_equal(store_nodes_from_config(f->store, nodes, NODES_MAX, &changed), ERR_OK);
    assert_int_equal(changed, NODES_MAX);
    const struct node more = node_of("more", "10.0.0.1");
    assert_int_equal(store_node_put(f->store, &more), ERR_FULL);
    nodes[0].conf.weight = 1;
    assert_int_equal(store_node_put(f->store, &nodes[0]), ERR_OK);
    /* all replaced by others in one go */
    for (int i = 0; i < NODES_MAX; i++)
        nodes[i].conf.id[0] = 'm';
    assert_int_equal(store_nodes_from_config(f->store, nodes, NODES_MAX, &changed), ERR_OK);
    assert_int_equal(changed, 2 * NODES_MAX);
    struct node_table *t = read_nodes(f->store, t0);
    assert_int_equal(t->count, NODES_MAX);
    assert_string_equal(t->nodes[0].conf.id, "m0");
    node_table_destroy(t);
    free(nodes);
}

static void test_nodes_from_config(void **state)
{
    struct fixture *f = *state;
    struct node nodes[] = {node_of("a", "10.0.0.1"), node_of("b", "10.0.0.2"),
                           node_of("c", "10.0.0.3")};
    struct node api = node_of("api", "10.0.0.9");
    uint32_t changed = 99, removed = 99;
    api.source = NODE_FROM_API;
    assert_int_equal(store_node_put(f->store, &api), ERR_OK);
    assert_int_equal(store_nodes_from_config(f->store, nodes, 3, &changed), ERR_OK);
    assert_int_equal(changed, 3);
    const uint64_t version = version_of(f->store);
    assert_int_equal(store_nodes_from_config(f->store, nodes, 3, &changed), ERR_OK);
    assert_int_equal(changed, 0);
    assert_int_equal(version_of(f->store), version);

    /* the operator drains b; the file changes b's weight and drops c, which carries a stream, and
     * a, which does not */
    struct node drained = nodes[1];
    drained.admin = NODE_DRAIN;
    assert_int_equal(store_node_put(f->store, &drained), ERR_OK);
    beat(f->store, PROCESS_ROUTER, worker(0), t0);
    const struct answer a = take(f->store, (struct take){.key = "live/x", .node = "c"});
    assert_int_equal(a.e, ERR_OK);
    nodes[1].conf.weight = 3;
    assert_int_equal(store_nodes_from_config(f->store, &nodes[1], 1, &changed), ERR_OK);
    assert_int_equal(changed, 3);
    struct node_table *t = read_nodes(f->store, t0);
    assert_int_equal(t->count, 3);
    assert_null(node_table_get(t, "a"));
    assert_int_equal(node_table_get(t, "b")->admin, NODE_DRAIN);
    assert_int_equal(node_table_get(t, "b")->conf.weight, 3);
    assert_true(node_table_get(t, "c")->leaving);
    assert_false(node_table_get(t, "api")->leaving);
    node_table_destroy(t);

    assert_int_equal(store_nodes_sweep(f->store, &removed), ERR_OK);
    assert_int_equal(removed, 0);
    assert_int_equal(release(f->store, "live/x", a.c.epoch, true, t0), ERR_OK);
    assert_int_equal(store_nodes_sweep(f->store, &removed), ERR_OK);
    assert_int_equal(removed, 1);
    t = read_nodes(f->store, t0);
    assert_int_equal(t->count, 2);
    node_table_destroy(t);

    /* back in the file before it had gone */
    assert_int_equal(take(f->store, (struct take){.key = "live/y", .node = "b"}).e, ERR_OK);
    assert_int_equal(store_nodes_from_config(f->store, NULL, 0, &changed), ERR_OK);
    assert_int_equal(changed, 1);
    assert_int_equal(store_nodes_from_config(f->store, &nodes[1], 1, &changed), ERR_OK);
    assert_int_equal(changed, 1);
    t = read_nodes(f->store, t0);
    assert_false(node_table_get(t, "b")->leaving);
    node_table_destroy(t);
}

static void put_health(struct store *s, enum node_health health, uint64_t since_ms, uint64_t in,
                       uint64_t out)
{
    const struct node_status st = {.id = "n1",
                                   .health = health,
                                   .since_ms = since_ms,
                                   .bandwidth_in = in,
                                   .bandwidth_out = out};
    assert_int_equal(store_status_put(s, &st, 1, t0), ERR_OK);
}

static void test_health(void **state)
{
    struct fixture *f = *state;
    const struct node n = node_of("n1", "10.0.0.1");
    const struct worker_id healthd = {.slot = 0};
    assert_int_equal(store_node_put(f->store, &n), ERR_OK);
    const uint64_t v1 = version_of(f->store);
    put_health(f->store, NODE_DOWN, t0 - 5, 1000, 0);
    const uint64_t v2 = version_of(f->store);
    assert_int_not_equal(v1, v2);
    put_health(f->store, NODE_DOWN, t0 - 5, 1500, 2000);
    assert_int_equal(version_of(f->store), v2); /* a load is no change of the list */

    struct node_table *t = read_nodes(f->store, t0); /* no healthd */
    assert_int_equal(t->nodes[0].health, NODE_UNKNOWN);
    assert_int_equal(t->nodes[0].bandwidth, 2000);
    t->nodes[0].dial_failed_ms = 123;
    beat(f->store, PROCESS_HEALTHD, healthd, t0);
    assert_int_equal(store_nodes_read(f->store, t, t0 + 4999), ERR_OK);
    assert_int_equal(t->nodes[0].health, NODE_DOWN);
    assert_int_equal(t->nodes[0].health_since_ms, t0 - 5);
    assert_int_equal(t->nodes[0].dial_failed_ms, 123);
    assert_int_equal(store_nodes_read(f->store, t, t0 + 5000), ERR_OK);
    assert_int_equal(t->nodes[0].health, NODE_UNKNOWN);
    node_table_destroy(t);

    /* healthd coming or going is a change too: all verdicts begin or cease to count */
    beat(f->store, PROCESS_HEALTHD, healthd, clock_wall_ms());
    const uint64_t v3 = version_of(f->store);
    assert_int_not_equal(v2, v3);
    assert_int_equal(store_process_delete(f->store, PROCESS_HEALTHD, &healthd), ERR_OK);
    assert_int_not_equal(version_of(f->store), v3);
}

static void test_version_after_wipe(void **state)
{
    struct fixture *f = *state;
    const struct node n = node_of("n1", "10.0.0.1");
    assert_int_equal(store_node_put(f->store, &n), ERR_OK);
    const uint64_t before = version_of(f->store);
    const struct answer a = take(f->store, (struct take){.key = "live/a", .node = "n1"});
    const struct timespec wait = {.tv_nsec = 2000000};
    (void)nanosleep(&wait, NULL);
    wipe_live(f);
    assert_int_not_equal(version_of(f->store), before);
    const struct answer b = take(f->store, (struct take){.key = "live/a", .node = "n1"});
    assert_int_equal(b.e, ERR_OK);
    assert_true(b.c.epoch > a.c.epoch);
}

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
    assert_int_equal(store_sessions_list(s, list_session, &l), ERR_OK);
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
    assert_int_equal(store_sessions_list(s, list_session, &l), ERR_OK);
    assert_int_equal(l.count, 2);

    struct session_record fresh[2] = {session(104, 7, "live/z", "n9"),
                                      session(999, 7, "live/z", "n9")};
    fresh[0].bytes_out = 1000;
    assert_int_equal(store_sessions_refresh(s, fresh, 2), ERR_OK);
    l = (struct session_list){0};
    assert_int_equal(store_sessions_list(s, list_session, &l), ERR_OK);
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

    assert_int_equal(store_slot_clean(s, &w0, t0 + 100, &left), ERR_OK);
    assert_true(left);
    assert_int_equal(store_slot_clean(s, &w0, t0 + 100, &left), ERR_OK);
    assert_false(left);
    expect_load(s, "n1", 1, 2);
    expect_audience(s, "live/0", "r1", 2, 2);
    const struct answer g = get(s, "live/0", t0 + 200);
    assert_int_equal(g.e, ERR_OK);
    assert_int_equal(g.c.state, CLAIM_HINT);
    assert_int_equal(g.c.since_ms, t0 + 100);
    struct session_list l = {0};
    assert_int_equal(store_sessions_list(s, list_session, &l), ERR_OK);
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
        STORE_TEST(test_open),
        STORE_TEST(test_read_only),
        STORE_TEST(test_other_schema),
        STORE_TEST(test_node_record_round_trip),
        STORE_TEST(test_node_put_and_delete),
        STORE_TEST(test_node_limit),
        STORE_TEST(test_nodes_from_config),
        STORE_TEST(test_health),
        STORE_TEST(test_version_after_wipe),
        STORE_TEST(test_claim_life),
        STORE_TEST(test_takeover),
        STORE_TEST(test_retry_on_next_node),
        STORE_TEST(test_bound),
        STORE_TEST(test_dead_worker),
        STORE_TEST(test_clock_set_back),
        STORE_TEST(test_claims_sweep),
        STORE_TEST(test_changes),
        STORE_TEST(test_changes_lost),
        STORE_TEST(test_sessions),
        STORE_TEST(test_session_ids),
        STORE_TEST(test_slot_clean),
        STORE_TEST(test_processes),
        STORE_TEST(test_events),
        STORE_TEST(test_session_events),
        STORE_TEST(test_events_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
