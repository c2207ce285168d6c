/* The store's ground, and the records of nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <sys/stat.h>
#include <time.h>

#include <lmdb.h>

#include "base/clock_io.h"
#include "tests/unit/cluster/store_fixture.h"

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

/* Its name has an address still when it is asked for in vain; another name has none. */
static void test_address_that_is_not_found_again(void **state)
{
    struct fixture *f = *state;
    struct node node = node_of("a", "10.0.0.1");
    uint32_t changed;
    assert_int_equal(store_nodes_from_config(f->store, &node, 1, &changed), ERR_OK);
    const struct sockaddr_storage before = node.addr;
    node.addr = (struct sockaddr_storage){0};
    assert_int_equal(store_nodes_from_config(f->store, &node, 1, &changed), ERR_OK);
    assert_int_equal(changed, 0);
    struct node_table *t = read_nodes(f->store, t0);
    assert_memory_equal(&node_table_get(t, "a")->addr, &before, sizeof before);
    node_table_destroy(t);
    snprintf(node.conf.rtmp, sizeof node.conf.rtmp, "elsewhere:1935");
    assert_int_equal(store_nodes_from_config(f->store, &node, 1, &changed), ERR_OK);
    t = read_nodes(f->store, t0);
    assert_int_equal(node_table_get(t, "a")->addr.ss_family, 0);
    node_table_destroy(t);
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
    assert_int_equal(t->nodes[0].bandwidth, 0);
    t->nodes[0].notes.dial_failed_ms = 123;
    t->nodes[0].notes.dial_told_ms = 45;
    t->nodes[0].notes.generations = 7;
    beat(f->store, PROCESS_HEALTHD, healthd, t0);
    assert_int_equal(store_nodes_read(f->store, t, t0 + 4999), ERR_OK);
    assert_int_equal(t->nodes[0].health, NODE_DOWN);
    assert_int_equal(t->nodes[0].health_since_ms, t0 - 5);
    assert_int_equal(t->nodes[0].bandwidth, 2000);
    assert_int_equal(t->nodes[0].notes.dial_failed_ms, 123);
    assert_int_equal(t->nodes[0].notes.dial_told_ms, 45);
    assert_int_equal(t->nodes[0].notes.generations, 7);
    assert_int_equal(store_loads_read(f->store, t, t0 + 5000), ERR_OK); /* healthd is away */
    assert_int_equal(t->nodes[0].bandwidth, 0);
    assert_int_equal(store_loads_read(f->store, t, t0 + 4999), ERR_OK);
    assert_int_equal(t->nodes[0].bandwidth, 2000);
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
        STORE_TEST(test_address_that_is_not_found_again),
        STORE_TEST(test_health),
        STORE_TEST(test_version_after_wipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
