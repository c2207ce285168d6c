/* The store among several processes: races, and processes killed in the middle of a write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "cluster/store.h"

enum { NAMES = 10000, RACE_NODES = 5, KILLS = 100, KILL_WITHIN_MS = 40, CHANGES = 200 };
static const uint64_t t0 = 1700000000000u;

struct fixture {
    char dir[64], live[96], url[96];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/weir-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->live, sizeof f->live, "%s/live", f->dir);
    (void)snprintf(f->url, sizeof f->url, "lmdb:%s/durable", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* Children must not use cmocka's asserts: they would go on as a second test program. */
static struct store *must_open(const struct fixture *f)
{
    char error[CONFIG_ERROR_MAX];
    struct store *s = NULL;
    const struct store_options o = {.url = f->url, .live = f->live};
    if (store_open(&o, &s, error) != ERR_OK) {
        (void)fprintf(stderr, "%s\n", error);
        _exit(3);
    }
    return s;
}

static void must(bool good)
{
    if (!good)
        _exit(4);
}

static struct store *open_here(const struct fixture *f)
{
    char error[CONFIG_ERROR_MAX];
    struct store *s = NULL;
    const struct store_options o = {.url = f->url, .live = f->live};
    assert_int_equal(store_open(&o, &s, error), ERR_OK);
    return s;
}

struct child {
    pid_t pid;
    int from; /* what it says */
    int to;   /* closed: go, or stop */
};

typedef void child_fn(const struct fixture *f, uint32_t slot, int in, int out);

static struct child start(const struct fixture *f, child_fn *fn, uint32_t slot)
{
    int says[2], told[2];
    assert_int_equal(pipe(says), 0);
    assert_int_equal(pipe(told), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(says[0]);
        (void)close(told[1]);
        fn(f, slot, told[0], says[1]);
        _exit(0);
    }
    (void)close(says[1]);
    (void)close(told[0]);
    return (struct child){.pid = pid, .from = says[0], .to = told[1]};
}

static int finish(struct child *c)
{
    int status = -1;
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    (void)close(c->from);
    if (c->to >= 0)
        (void)close(c->to);
    return status;
}

static void read_whole(int fd, void *buf, size_t len)
{
    size_t got = 0;
    while (got < len) {
        const ssize_t n = read(fd, (char *)buf + got, len - got);
        assert_true(n > 0);
        got += (size_t)n;
    }
}

static void must_write(int fd, const void *buf, size_t len)
{
    size_t done = 0;
    while (done < len) {
        const ssize_t n = write(fd, (const char *)buf + done, len - done);
        must(n > 0);
        done += (size_t)n;
    }
}

static void keep_err(void *arg, enum err e, const struct claim *c)
{
    (void)c;
    *(enum err *)arg = e;
}

static enum err claim_name(struct store *s, uint32_t name, const char *node, uint32_t slot)
{
    enum err e = ERR_CORRUPT;
    struct stream_key k = {.len = 0};
    k.len = (uint16_t)snprintf(k.text, sizeof k.text, "live/%u", (unsigned)name);
    const struct claim_request r = {.key = &k,
                                    .node = node,
                                    .bound = UINT32_MAX,
                                    .worker = {.router = "r1", .slot = slot},
                                    .session = slot + 1,
                                    .now_ms = t0};
    store_claim_take(s, &r, keep_err, &e);
    return e;
}

static void must_beat(struct store *s, uint32_t slot)
{
    const struct process_record p = {.id = {.router = "r1", .slot = slot}, .beat_ms = t0};
    must(store_process_beat(s, &p) == ERR_OK);
}

/* ---- two processes claim the same names at once ---- */

static void race_child(const struct fixture *f, uint32_t slot, int in, int out)
{
    static uint8_t won[NAMES];
    char node[16], go;
    struct store *s = must_open(f);
    must_beat(s, slot);
    must_write(out, "r", 1);
    must(read(in, &go, 1) == 0);
    for (uint32_t i = 0; i < NAMES; i++) {
        (void)snprintf(node, sizeof node, "n%u", (unsigned)((i + slot) % RACE_NODES));
        const enum err e = claim_name(s, i, node, slot);
        must(e == ERR_OK || e == ERR_CONFLICT);
        won[i] = e == ERR_OK;
    }
    must_write(out, won, sizeof won);
    store_close(s);
}

struct tally {
    uint32_t total;
    uint32_t by_node[RACE_NODES];
    uint32_t by_slot[2];
    uint64_t *epochs;
};

static bool count_claim(void *arg, const struct claim *c)
{
    struct tally *t = arg;
    t->by_node[c->node[1] - '0']++;
    t->by_slot[c->worker.slot]++;
    t->epochs[t->total++] = c->epoch;
    return true;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void expect_streams(struct store *s, const char *id, uint32_t streams)
{
    struct node_table *t;
    struct node n = {.conf = {.weight = 1}};
    (void)snprintf(n.conf.id, sizeof n.conf.id, "%s", id);
    assert_int_equal(node_table_create("demo", &t), ERR_OK);
    assert_int_equal(node_table_put(t, &n), ERR_OK);
    assert_int_equal(store_loads_read(s, t, t0), ERR_OK);
    assert_int_equal(t->nodes[0].streams, streams);
    node_table_destroy(t);
}

static void test_claim_race(void **state)
{
    const struct fixture *f = *state;
    static uint8_t won[2][NAMES];
    struct child c[2] = {start(f, race_child, 0), start(f, race_child, 1)};
    char ready;
    for (int i = 0; i < 2; i++)
        read_whole(c[i].from, &ready, 1);
    for (int i = 0; i < 2; i++) {
        (void)close(c[i].to);
        c[i].to = -1;
    }
    for (int i = 0; i < 2; i++)
        read_whole(c[i].from, won[i], NAMES);
    for (int i = 0; i < 2; i++)
        assert_int_equal(finish(&c[i]), 0);

    uint32_t wins[2] = {0};
    for (int i = 0; i < NAMES; i++) {
        assert_int_equal(won[0][i] + won[1][i], 1);
        wins[0] += won[0][i];
        wins[1] += won[1][i];
    }
    struct store *s = open_here(f);
    struct tally t = {.epochs = calloc(2 * NAMES, sizeof *t.epochs)};
    assert_int_equal(store_claims_list(s, NULL, count_claim, &t), ERR_OK);
    assert_int_equal(t.total, NAMES);
    assert_int_equal(t.by_slot[0], wins[0]);
    assert_int_equal(t.by_slot[1], wins[1]);
    for (uint32_t i = 0; i < RACE_NODES; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "n%u", (unsigned)i);
        expect_streams(s, id, t.by_node[i]);
    }
    qsort(t.epochs, t.total, sizeof *t.epochs, by_value);
    for (uint32_t i = 1; i < t.total; i++)
        assert_true(t.epochs[i] > t.epochs[i - 1]); /* no epoch given twice */
    free(t.epochs);
    store_close(s);
}

/* ---- processes killed in the middle of a write ---- */

static void must_put(struct store *s, const char *id, uint32_t value)
{
    struct node n = {.conf = {.weight = 1, .max_streams = value}};
    (void)snprintf(n.conf.id, sizeof n.conf.id, "%s", id);
    must(store_node_put(s, &n) == ERR_OK);
}

static uint32_t value_of(struct store *s, const char *id)
{
    struct node_table *t;
    assert_int_equal(node_table_create("demo", &t), ERR_OK);
    assert_int_equal(store_nodes_read(s, t, t0), ERR_OK);
    const struct node *n = node_table_get(t, id);
    const uint32_t value = n ? n->conf.max_streams : 0;
    node_table_destroy(t);
    return value;
}

/* Writes the values from `slot` on and says each once it is durable; between them, a burst of
 * claims. */
static void victim(const struct fixture *f, uint32_t slot, int in, int out)
{
    (void)in;
    struct store *s = must_open(f);
    must_beat(s, 0);
    for (uint32_t value = slot;; value++) {
        must_put(s, "victim", value);
        must_write(out, &value, sizeof value);
        for (uint32_t i = 0; i < 20; i++)
            must(claim_name(s, value * 20 + i, "n0", 0) == ERR_OK);
    }
}

/* Writes on while the others are killed: no error, and no lock that stays taken. */
static void bystander(const struct fixture *f, uint32_t slot, int in, int out)
{
    struct store *s = must_open(f);
    struct timespec pause = {.tv_nsec = 1000000};
    char byte;
    must_beat(s, slot);
    for (uint32_t value = 1;; value++) {
        must_put(s, "bystander", value);
        must(claim_name(s, UINT32_MAX - value, "n1", slot) == ERR_OK);
        (void)nanosleep(&pause, NULL);
        if (value % 8 == 0) { /* between writes, ask whether the parent is done */
            must_write(out, &value, sizeof value);
            must(read(in, &byte, 1) == 1);
            if (byte == 'q') {
                store_close(s);
                return;
            }
        }
    }
}

/* The last whole value it said. */
static uint32_t last_said(int fd)
{
    uint32_t last = 0, value;
    size_t got = 0;
    ssize_t n;
    while ((n = read(fd, (char *)&value + got, sizeof value - got)) > 0) {
        got += (size_t)n;
        if (got == sizeof value) {
            last = value;
            got = 0;
        }
    }
    return last;
}

static void sleep_us(long us)
{
    struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    (void)nanosleep(&t, NULL);
}

static bool count_all(void *arg, const struct claim *c)
{
    if (strcmp(c->node, "n0") == 0)
        ++*(uint32_t *)arg;
    return true;
}

static void test_killed_while_writing(void **state)
{
    const struct fixture *f = *state;
    uint32_t acknowledged = 0, beyond = 0, heard;
    unsigned seed = 1;
    struct child steady = start(f, bystander, 1);
    const uint64_t began = clock_mono_ms();
    for (int i = 0; i < KILLS; i++) {
        struct child c = start(f, victim, acknowledged + 2);
        uint32_t first = 0;
        read_whole(c.from, &first, sizeof first);
        assert_int_equal(first, acknowledged + 2);
        sleep_us((long)(rand_r(&seed) % (KILL_WITHIN_MS * 1000)));
        assert_int_equal(kill(c.pid, SIGKILL), 0);
        const uint32_t last = last_said(c.from);
        acknowledged = last > first ? last : first;
        assert_true(WIFSIGNALED(finish(&c)));

        read_whole(steady.from, &heard, sizeof heard);
        assert_int_equal(write(steady.to, "g", 1), 1);

        struct store *s = open_here(f);
        const uint32_t found = value_of(s, "victim");
        assert_in_range(found, acknowledged, acknowledged + 1);
        beyond += found > acknowledged;
        uint32_t claims = 0;
        assert_int_equal(store_claims_list(s, NULL, count_all, &claims), ERR_OK);
        expect_streams(s, "n0", claims);
        store_close(s);
    }
    read_whole(steady.from, &heard, sizeof heard);
    assert_int_equal(write(steady.to, "q", 1), 1);
    assert_int_equal(finish(&steady), 0);
    struct store *s = open_here(f);
    assert_int_equal(value_of(s, "bystander"), heard);
    store_close(s);
    print_message("%d kills, %u durable writes, %u of them not acknowledged, %u ms\n", KILLS,
                  (unsigned)acknowledged, (unsigned)beyond, (unsigned)(clock_mono_ms() - began));
}

/* ---- a reader that asks all the time, as workers do ---- */

/* Puts one value after the other; goes on when told. */
static void putter(const struct fixture *f, uint32_t slot, int in, int out)
{
    char byte;
    (void)slot;
    struct store *s = must_open(f);
    for (uint32_t value = 1; value <= CHANGES; value++) {
        must_put(s, "n", value);
        must_write(out, &value, sizeof value);
        must(read(in, &byte, 1) == 1);
    }
    store_close(s);
}

static void read_if_changed(struct store *s, struct node_table *t)
{
    uint64_t version;
    assert_int_equal(store_nodes_version(s, &version), ERR_OK);
    if (version != t->version)
        assert_int_equal(store_nodes_read(s, t, t0), ERR_OK);
}

/* A list read in the middle of a commit must not bear the version that the commit makes: it would
 * stay the reader's. */
static void test_version_of_what_was_read(void **state)
{
    const struct fixture *f = *state;
    struct node_table *t;
    struct store *s = open_here(f);
    assert_int_equal(node_table_create("demo", &t), ERR_OK);
    struct child c = start(f, putter, 0);
    for (uint32_t said = 0; said < CHANGES;) {
        struct pollfd p = {.fd = c.from, .events = POLLIN};
        const bool done = poll(&p, 1, 0) == 1;
        read_if_changed(s, t);
        if (!done)
            continue;
        read_whole(c.from, &said, sizeof said);
        const struct node *n = node_table_get(t, "n");
        assert_non_null(n);
        assert_int_equal(n->conf.max_streams, said);
        assert_int_equal(write(c.to, "g", 1), 1);
    }
    assert_int_equal(finish(&c), 0);
    node_table_destroy(t);
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_claim_race, setup, teardown),
        cmocka_unit_test_setup_teardown(test_version_of_what_was_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_while_writing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
