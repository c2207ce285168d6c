/* A store in a directory of its own for each test, and shorthands for what tests do with it. */
#ifndef WEIR_TESTS_STORE_FIXTURE_H
#define WEIR_TESTS_STORE_FIXTURE_H

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/store.h"

enum { HOLD_MS = 30000 };
static const uint64_t t0 =
    1700000000000u; /* the tests' clock, where the store is handed the time */

struct fixture {
    char dir[64], durable[80], live[96], url[96];
    struct store *store;
};

static inline void open_store(struct fixture *f)
{
    char error[CONFIG_ERROR_MAX];
    const struct store_options o = {.url = f->url, .live = f->live};
    assert_int_equal(store_open(&o, &f->store, error), ERR_OK);
}

static inline void remove_tree(const char *dir)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/weir-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->durable, sizeof f->durable, "%s/durable", f->dir);
    (void)snprintf(f->live, sizeof f->live, "%s/run/weir/demo", f->dir);
    (void)snprintf(f->url, sizeof f->url, "lmdb:%s", f->durable);
    open_store(f);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    remove_tree(f->dir);
    free(f);
    return 0;
}

static inline void reopen(struct fixture *f)
{
    store_close(f->store);
    open_store(f);
}

/* As a reboot does. */
static inline void wipe_live(struct fixture *f)
{
    store_close(f->store);
    remove_tree(f->live);
    open_store(f);
}

/* ---- shorthands ---- */

static inline struct stream_key key_of(const char *text)
{
    struct stream_key k;
    assert_int_equal(stream_key_parse(text, &k), ERR_OK);
    return k;
}

static inline struct worker_id worker(uint32_t slot)
{
    return (struct worker_id){.router = "r1", .slot = slot};
}

static inline void beat(struct store *s, enum process_kind kind, struct worker_id id, uint64_t at)
{
    const struct process_record p = {
        .kind = kind, .id = id, .pid = 42, .version = "0.1.0", .beat_ms = at};
    assert_int_equal(store_process_beat(s, &p), ERR_OK);
}

struct answer {
    enum err e;
    bool given;
    struct claim c;
};

static inline void keep_answer(void *arg, enum err e, const struct claim *c)
{
    struct answer *a = arg;
    a->e = e;
    a->given = c != NULL;
    if (c)
        a->c = *c;
}

static inline struct answer get(struct store *s, const char *key, uint64_t now_ms)
{
    struct answer a = {.e = ERR_CORRUPT};
    const struct stream_key k = key_of(key);
    store_claim_get(s, &k, HOLD_MS, now_ms, keep_answer, &a);
    return a;
}

struct take {
    const char *key, *node;
    uint32_t slot;
    uint64_t session, expect, now_ms;
    uint32_t bound; /* 0: none */
    const struct session_record *record;
};

static inline struct answer take(struct store *s, struct take t)
{
    struct answer a = {.e = ERR_CORRUPT};
    const struct stream_key k = key_of(t.key);
    const struct claim_request r = {.key = &k,
                                    .node = t.node,
                                    .bound = t.bound ? t.bound : UINT32_MAX,
                                    .worker = worker(t.slot),
                                    .session = t.session,
                                    .expect_epoch = t.expect,
                                    .now_ms = t.now_ms ? t.now_ms : t0,
                                    .hold_ms = HOLD_MS,
                                    .client_addr = {[15] = 9},
                                    .args_hash = 77,
                                    .record = t.record};
    store_claim_take(s, &r, keep_answer, &a);
    return a;
}

static inline enum err release(struct store *s, const char *key, uint64_t epoch, bool keep,
                               uint64_t now)
{
    const struct stream_key k = key_of(key);
    const struct claim_end end = {.key = &k, .epoch = epoch, .keep = keep, .now_ms = now};
    return store_claim_release(s, &end);
}

static inline struct node node_of(const char *id, const char *v4)
{
    struct node n = {.conf = {.weight = 100, .max_streams = 7, .max_bandwidth = UINT64_C(1) << 40}};
    struct sockaddr_in *a = (struct sockaddr_in *)&n.addr;
    (void)snprintf(n.conf.id, sizeof n.conf.id, "%s", id);
    (void)snprintf(n.conf.rtmp, sizeof n.conf.rtmp, "%s:1936", v4);
    (void)snprintf(n.conf.stat, sizeof n.conf.stat, "http://%s/stat", v4);
    a->sin_family = AF_INET;
    a->sin_port = htons(1936);
    a->sin_addr.s_addr = htonl(0x7f000001);
    return n;
}

static inline struct node_table *read_nodes(struct store *s, uint64_t now_ms)
{
    struct node_table *t;
    assert_int_equal(node_table_create("demo", &t), ERR_OK);
    assert_int_equal(store_nodes_read(s, t, now_ms), ERR_OK);
    return t;
}

static inline uint64_t version_of(struct store *s)
{
    uint64_t v = 0;
    assert_int_equal(store_nodes_version(s, &v), ERR_OK);
    return v;
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* What the node carries by the store's counts. */
static inline void expect_load(struct store *s, const char *id, uint32_t streams, uint32_t sessions)
{
    struct node_table *t;
    const struct node n = {.conf = {.weight = 1}};
    assert_int_equal(node_table_create("demo", &t), ERR_OK);
    struct node named = n;
    (void)snprintf(named.conf.id, sizeof named.conf.id, "%s", id);
    assert_int_equal(node_table_put(t, &named), ERR_OK);
    assert_int_equal(store_loads_read(s, t, t0), ERR_OK);
    assert_int_equal(t->nodes[0].streams, streams);
    assert_int_equal(t->nodes[0].sessions, sessions);
    node_table_destroy(t);
}

#endif
