/* tests/alloc/store.c - every call to the store with allocation n failing, for each n until the
 * call needs fewer: ours, LMDB's (each of its calls that allocates is one that can fail) and
 * jansson's. In the order of a stream's life: set-up, relay, re-homing, its end. Whatever fails,
 * the call says so, nothing is half-written or leaked, and the same call made again does it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include <jansson.h>
#include <lmdb.h>

#include "cluster/store_lmdb.h"
#include "tests/alloc/alloc_fail.h"
#include "tests/unit/cluster/store_fixture.h"

/* ---- LMDB: the linker's names, -Wl,--wrap=mdb_put ---- */

int __real_mdb_env_create(MDB_env **env);
int __real_mdb_env_open(MDB_env *env, const char *path, unsigned int flags, mdb_mode_t mode);
int __real_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned int flags, MDB_txn **txn);
int __real_mdb_txn_renew(MDB_txn *txn);
int __real_mdb_txn_commit(MDB_txn *txn);
int __real_mdb_dbi_open(MDB_txn *txn, const char *name, unsigned int flags, MDB_dbi *dbi);
int __real_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned int flags);
int __real_mdb_del(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data);
int __real_mdb_cursor_open(MDB_txn *txn, MDB_dbi dbi, MDB_cursor **cursor);
int __wrap_mdb_env_create(MDB_env **env);
int __wrap_mdb_env_open(MDB_env *env, const char *path, unsigned int flags, mdb_mode_t mode);
int __wrap_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned int flags, MDB_txn **txn);
int __wrap_mdb_txn_renew(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_dbi_open(MDB_txn *txn, const char *name, unsigned int flags, MDB_dbi *dbi);
int __wrap_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned int flags);
int __wrap_mdb_del(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data);
int __wrap_mdb_cursor_open(MDB_txn *txn, MDB_dbi dbi, MDB_cursor **cursor);

int __wrap_mdb_env_create(MDB_env **env)
{
    return alloc_fail_now() ? ENOMEM : __real_mdb_env_create(env);
}

int __wrap_mdb_env_open(MDB_env *env, const char *path, unsigned int flags, mdb_mode_t mode)
{
    return alloc_fail_now() ? ENOMEM : __real_mdb_env_open(env, path, flags, mode);
}

int __wrap_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned int flags, MDB_txn **txn)
{
    return alloc_fail_now() ? ENOMEM : __real_mdb_txn_begin(env, parent, flags, txn);
}

int __wrap_mdb_txn_renew(MDB_txn *txn)
{
    return alloc_fail_now() ? ENOMEM : __real_mdb_txn_renew(txn);
}

/* A commit that fails has freed the transaction. */
int __wrap_mdb_txn_commit(MDB_txn *txn)
{
    if (!alloc_fail_now())
        return __real_mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return ENOMEM;
}

int __wrap_mdb_dbi_open(MDB_txn *txn, const char *name, unsigned int flags, MDB_dbi *dbi)
{
    return alloc_fail_now() ? ENOMEM : __real_mdb_dbi_open(txn, name, flags, dbi);
}

int __wrap_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned int flags)
{
    return alloc_fail_now() ? ENOMEM : __real_mdb_put(txn, dbi, key, data, flags);
}

int __wrap_mdb_del(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data)
{
    return alloc_fail_now() ? ENOMEM : __real_mdb_del(txn, dbi, key, data);
}

int __wrap_mdb_cursor_open(MDB_txn *txn, MDB_dbi dbi, MDB_cursor **cursor)
{
    return alloc_fail_now() ? ENOMEM : __real_mdb_cursor_open(txn, dbi, cursor);
}

/* jansson's come through the wrapped malloc() of this file. */
static void *json_allocates(size_t size)
{
    return malloc(size);
}

/* ---- a stream's life ---- */

enum { PUBLISHER = 1001, PLAYER, NEXT_PUBLISHER };
static const char stream[] = "live/cam1";

struct life {
    struct fixture *f;
    struct node_table *nodes;
    uint64_t epoch, previous, etag, command, changes;
    uint32_t seen;
};

static enum err opens(struct life *l)
{
    char error[CONFIG_ERROR_MAX];
    const struct store_options o = {.url = l->f->url, .live = l->f->live};
    return store_open(&o, &l->f->store, error);
}

static enum err configures(struct life *l)
{
    const struct node nodes[] = {node_of("a", "10.0.0.1"), node_of("b", "10.0.0.2")};
    uint32_t changed;
    return store_nodes_from_config(l->f->store, nodes, 2, &changed);
}

static struct node added_node(void)
{
    struct node n = node_of("c", "10.0.0.3");
    n.source = NODE_FROM_API;
    return n;
}

static enum err puts_node(struct life *l)
{
    const struct node n = added_node();
    return store_node_put(l->f->store, &n);
}

static enum err gets_node(struct life *l)
{
    struct node n;
    const enum err e = store_node_get(l->f->store, "c", &n, &l->etag);
    assert_true(e != ERR_OK || strcmp(n.conf.stat, "http://10.0.0.3/stat") == 0);
    return e;
}

static enum err changes_node(struct life *l)
{
    struct node n = added_node();
    n.conf.weight = 50;
    uint64_t etag;
    return store_node_put_if(l->f->store, &n, l->etag, &etag);
}

static enum err judges(struct life *l)
{
    const struct node_status st = {.id = "a", .health = NODE_UP, .since_ms = t0, .generations = 2};
    return store_status_put(l->f->store, &st, 1, t0);
}

static bool counts_status(void *arg, const struct node_status *st)
{
    (void)st;
    ++*(uint32_t *)arg;
    return true;
}

static enum err lists_status(struct life *l)
{
    return store_status_list(l->f->store, counts_status, &l->seen);
}

static enum err beats(struct life *l)
{
    const struct process_record p = {.kind = PROCESS_ROUTER, .id = worker(0), .beat_ms = t0};
    return store_process_beat(l->f->store, &p);
}

static enum err beats_too(struct life *l)
{
    const struct process_record p = {.kind = PROCESS_ROUTER, .id = worker(1), .beat_ms = t0};
    return store_process_beat(l->f->store, &p);
}

static enum err reads_nodes(struct life *l)
{
    const enum err e = store_nodes_read(l->f->store, l->nodes, t0);
    assert_true(e != ERR_OK || node_table_get(l->nodes, "c"));
    return e;
}

static enum err reads_loads(struct life *l)
{
    return store_loads_read(l->f->store, l->nodes, t0);
}

static enum err reads_version(struct life *l)
{
    uint64_t version;
    return store_nodes_version(l->f->store, &version);
}

static enum err takes_ids(struct life *l)
{
    uint64_t first;
    return store_session_id(l->f->store, &first, 8);
}

static struct session_record record_of(uint64_t id, enum session_kind kind)
{
    return (struct session_record){
        .id = id, .kind = kind, .worker = worker(0), .key = key_of(stream), .node = "a"};
}

static enum err takes(struct life *l)
{
    const struct session_record r = record_of(PUBLISHER, SESSION_PUBLISH);
    const struct answer a = take(
        l->f->store, (struct take){.key = stream, .node = "a", .session = PUBLISHER, .record = &r});
    l->epoch = a.c.epoch;
    return a.e;
}

static enum err finds_claim(struct life *l)
{
    const struct answer a = get(l->f->store, stream, t0);
    assert_true(a.e != ERR_OK || a.c.epoch == l->epoch);
    return a.e;
}

static enum err puts_session(struct life *l, uint64_t id, enum session_kind kind)
{
    const struct session_record r = record_of(id, kind);
    return store_session_put(l->f->store, &r);
}

static enum err puts_publisher(struct life *l)
{
    return puts_session(l, PUBLISHER, SESSION_PUBLISH);
}

static enum err puts_player(struct life *l)
{
    return puts_session(l, PLAYER, SESSION_PLAY);
}

static enum err refreshes(struct life *l)
{
    const struct session_record r[] = {{.id = PUBLISHER, .bytes_in = 1, .key = key_of(stream)},
                                       {.id = PLAYER, .bytes_out = 1, .key = key_of(stream)}};
    return store_sessions_refresh(l->f->store, r, 2);
}

static bool counts_session(void *arg, const struct session_record *r)
{
    (void)r;
    ++*(uint32_t *)arg;
    return true;
}

static enum err lists_sessions(struct life *l)
{
    l->seen = 0;
    const enum err e = store_sessions_list(l->f->store, 0, counts_session, &l->seen);
    assert_true(e != ERR_OK || l->seen == 2);
    return e;
}

static enum err finds_streams(struct life *l)
{
    const struct stream_key keys[] = {key_of(stream), key_of("live/other")};
    return store_found_put(l->f->store, "b", keys, 2, t0);
}

static enum err reports_dial(struct life *l)
{
    return store_dial_failed(l->f->store, "a", t0);
}

static void counts_change(void *arg, const struct store_change *c)
{
    (void)c;
    ++*(uint32_t *)arg;
}

static enum err reads_changes(struct life *l)
{
    bool lost;
    return store_changes_read(l->f->store, &l->changes, &lost, counts_change, &l->seen);
}

static enum err moves(struct life *l)
{
    struct answer a = {.e = ERR_CORRUPT};
    const struct stream_key k = key_of(stream);
    const struct claim_move move = {.key = &k,
                                    .epoch = l->epoch,
                                    .next = "b",
                                    .bound = 9,
                                    .way = CLAIM_WAY_PLANNED,
                                    .replay_time = 1234,
                                    .now_ms = t0};
    store_claim_move(l->f->store, &move, keep_answer, &a);
    if (a.e == ERR_OK)
        l->epoch = a.c.epoch;
    return a.e;
}

static enum err asks_audience(struct life *l)
{
    const struct stream_key k = key_of(stream);
    uint64_t slots = 0;
    uint32_t players = 0;
    const enum err e = store_audience(l->f->store, &k, "r1", &slots, &players);
    assert_true(e != ERR_OK || (players == 1 && slots == 1));
    return e;
}

static enum err marks_audience(struct life *l)
{
    const struct stream_key k = key_of(stream);
    const struct worker_id w = worker(0);
    return store_audience_mark(l->f->store, &k, &w, l->epoch, true);
}

static enum err asks_who_is_behind(struct life *l)
{
    const struct stream_key k = key_of(stream);
    uint32_t behind = 1;
    const enum err e = store_audience_behind(l->f->store, &k, l->epoch, true, t0, &behind);
    assert_true(e != ERR_OK || behind == 0);
    return e;
}

static enum err arrives(struct life *l)
{
    const struct stream_key k = key_of(stream);
    const struct session_record r = record_of(PUBLISHER, SESSION_PUBLISH);
    return store_claim_arrived(l->f->store, &k, l->epoch, &r, t0);
}

static enum err takes_over(struct life *l)
{
    const struct answer a = take(
        l->f->store,
        (struct take){
            .key = stream, .node = "c", .slot = 1, .session = NEXT_PUBLISHER, .expect = l->epoch});
    if (a.e == ERR_OK) {
        l->previous = l->epoch;
        l->epoch = a.c.epoch;
    }
    return a.e;
}

static enum err hands_over(struct life *l)
{
    const struct stream_key k = key_of(stream);
    return store_claim_handed_over(l->f->store, &k, l->previous);
}

static bool counts_claim(void *arg, const struct claim *c)
{
    (void)c;
    ++*(uint32_t *)arg;
    return true;
}

static enum err lists_claims(struct life *l)
{
    l->seen = 0;
    const enum err e = store_claims_list(l->f->store, NULL, counts_claim, &l->seen);
    assert_true(e != ERR_OK || l->seen == 1);
    return e;
}

static enum err posts(struct life *l)
{
    struct store_command c = {.kind = COMMAND_KICK,
                              .worker = worker(0),
                              .session = PUBLISHER,
                              .posted_ms = t0,
                              .deadline_ms = t0 + 2000};
    const enum err e = store_command_post(l->f->store, &c);
    l->command = c.id;
    return e;
}

static bool counts_command(void *arg, const struct store_command *c)
{
    (void)c;
    ++*(uint32_t *)arg;
    return true;
}

static enum err asks_for_commands(struct life *l)
{
    const struct worker_id w = worker(0);
    l->seen = 0;
    const enum err e = store_commands_pending(l->f->store, &w, t0, counts_command, &l->seen);
    assert_true(e != ERR_OK || l->seen == 1);
    return e;
}

static enum err finishes(struct life *l)
{
    return store_command_finish(l->f->store, l->command, COMMAND_DONE, "closed");
}

static enum err gets_command(struct life *l)
{
    struct store_command c;
    const enum err e = store_command_get(l->f->store, l->command, &c);
    assert_true(e != ERR_OK || c.state == COMMAND_DONE);
    return e;
}

static enum err withdraws(struct life *l)
{
    return store_command_withdraw(l->f->store, l->command);
}

static enum err sweeps_commands(struct life *l)
{
    uint32_t removed;
    return store_commands_sweep(l->f->store, t0 + 2 * STORE_COMMAND_KEEP_MS, &removed);
}

static bool counts_event(void *arg, const struct store_event *ev)
{
    (void)ev;
    ++*(uint32_t *)arg;
    return true;
}

static enum err lists_events(struct life *l)
{
    return store_events_list(l->f->store, 0, counts_event, &l->seen);
}

static enum err ends_player(struct life *l)
{
    return store_session_delete(l->f->store, PLAYER);
}

static enum err releases(struct life *l)
{
    const struct stream_key k = key_of(stream);
    const struct claim_end end = {
        .key = &k, .epoch = l->epoch, .keep = true, .session = PUBLISHER, .now_ms = t0};
    return store_claim_release(l->f->store, &end);
}

static enum err sweeps_claims(struct life *l)
{
    uint32_t removed;
    return store_claims_sweep(l->f->store, HOLD_MS, t0 + 2 * HOLD_MS, &removed);
}

static enum err sweeps_found(struct life *l)
{
    uint32_t removed;
    return store_found_sweep(l->f->store, t0 + 2 * STORE_FOUND_MS, &removed);
}

static enum err takes_again(struct life *l)
{
    return take(l->f->store, (struct take){.key = stream, .node = "a", .session = PUBLISHER}).e;
}

static enum err cleans_slot(struct life *l)
{
    const struct worker_id w = worker(0);
    bool left;
    return store_slot_clean(l->f->store, &w, t0, &left);
}

static enum err takes_lease(struct life *l)
{
    return store_lease_take(l->f->store, "healthd", 7, 3000, t0);
}

static enum err drops_lease(struct life *l)
{
    return store_lease_drop(l->f->store, "healthd", 7);
}

static enum err deletes_process(struct life *l)
{
    const struct worker_id w = worker(1);
    return store_process_delete(l->f->store, PROCESS_ROUTER, &w);
}

static enum err configures_less(struct life *l)
{
    const struct node nodes[] = {node_of("a", "10.0.0.1")};
    uint32_t changed;
    return store_nodes_from_config(l->f->store, nodes, 1, &changed);
}

static enum err sweeps_nodes(struct life *l)
{
    uint32_t removed;
    return store_nodes_sweep(l->f->store, &removed);
}

static enum err deletes_node(struct life *l)
{
    return store_node_delete(l->f->store, "c");
}

/* ---- each with allocation n failing ---- */

static const struct part {
    const char *name;
    enum err (*happens)(struct life *l);
    bool durable; /* nodes: what is noted of the change in the volatile part may be missing */
} parts[] = {
    {"nodes_from_config", configures, true},
    {"node_put", puts_node, true},
    {"node_get", gets_node, false},
    {"node_put_if", changes_node, true},
    {"status_put", judges, false},
    {"status_list", lists_status, false},
    {"process_beat", beats, false},
    {"process_beat, another", beats_too, false},
    {"nodes_read", reads_nodes, false},
    {"loads_read", reads_loads, false},
    {"nodes_version", reads_version, false},
    {"changes_read, the first time", reads_changes, false},
    {"session_id", takes_ids, false},
    {"claim_take", takes, false},
    {"claim_get", finds_claim, false},
    {"session_put, a publisher", puts_publisher, false},
    {"session_put, a player", puts_player, false},
    {"sessions_refresh", refreshes, false},
    {"sessions_list", lists_sessions, false},
    {"found_put", finds_streams, false},
    {"dial_failed", reports_dial, false},
    {"claim_move", moves, false},
    {"changes_read", reads_changes, false},
    {"audience", asks_audience, false},
    {"audience_mark", marks_audience, false},
    {"audience_behind", asks_who_is_behind, false},
    {"claim_arrived", arrives, false},
    {"claim_take, from another", takes_over, false},
    {"claim_handed_over", hands_over, false},
    {"claims_list", lists_claims, false},
    {"command_post", posts, false},
    {"commands_pending", asks_for_commands, false},
    {"command_finish", finishes, false},
    {"command_get", gets_command, false},
    {"command_post, another", posts, false},
    {"command_withdraw", withdraws, false},
    {"commands_sweep", sweeps_commands, false},
    {"events_list", lists_events, false},
    {"session_delete", ends_player, false},
    {"claim_release", releases, false},
    {"claims_sweep", sweeps_claims, false},
    {"found_sweep", sweeps_found, false},
    {"claim_take, again", takes_again, false},
    {"slot_clean", cleans_slot, false},
    {"lease_take", takes_lease, false},
    {"lease_drop", drops_lease, false},
    {"process_delete", deletes_process, false},
    {"nodes_from_config, fewer", configures_less, true},
    {"nodes_sweep", sweeps_nodes, true},
    {"node_delete", deletes_node, true},
};

enum { PATH_BYTES = 128, ALLOCATIONS_MAX = 2000 };

struct content {
    char *bytes;
    size_t len;
};

static struct content content_of(const char *dir)
{
    char path[PATH_BYTES];
    struct content c = {0};
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    c.len = (size_t)ftell(file);
    rewind(file);
    c.bytes = malloc(c.len);
    assert_non_null(c.bytes);
    assert_int_equal(fread(c.bytes, 1, c.len, file), c.len);
    assert_int_equal(fclose(file), 0);
    return c;
}

/* Pages that were not committed are not in the file: that it is as it was means nothing was. */
static void expect_content(const char *dir, const struct content *was, const char *name)
{
    struct content c = content_of(dir);
    if (c.len != was->len || memcmp(c.bytes, was->bytes, c.len) != 0)
        fail_msg("%s: something was written although it failed", name);
    free(c.bytes);
}

static enum err attempt(struct life *l, const struct part *p, uint64_t n)
{
    alloc_fail_set(n);
    alloc_fail_enter();
    const enum err e = p->happens(l);
    alloc_fail_leave();
    return e;
}

static uint64_t try_all(struct life *l, const struct part *p)
{
    for (uint64_t n = 1; n < ALLOCATIONS_MAX; n++) {
        const struct store *s = l->f->store;
        struct content durable = content_of(l->f->durable), live = content_of(l->f->live);
        const enum err e = attempt(l, p, n);
        const bool failed = alloc_fail_happened();
        const bool wrong = failed ? e == ERR_OK && !p->durable : e != ERR_OK;
        if (wrong)
            fail_msg("%s: allocation %llu %s: %s", p->name, (unsigned long long)n,
                     failed ? "fails" : "does not fail", err_name(e));
        if (e != ERR_OK)
            expect_content(l->f->durable, &durable, p->name);
        if (e != ERR_OK)
            expect_content(l->f->live, &live, p->name);
        free(durable.bytes);
        free(live.bytes);
        assert_false(s->live.reader_busy || s->durable.reader_busy);
        if (e == ERR_OK)
            return n - !failed;
    }
    fail_msg("%s: too many allocations", p->name);
    return 0;
}

static void test_calls(void **state)
{
    struct life l = {.f = *state};
    uint64_t failures = 0;
    assert_int_equal(node_table_create("demo", &l.nodes), ERR_OK);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        failures += try_all(&l, &parts[i]);
    node_table_destroy(l.nodes);
    print_message("%llu allocations failed\n", (unsigned long long)failures);
}

static void test_open(void **state)
{
    const struct part opening = {"open", opens, true};
    struct life l = {.f = *state};
    for (uint64_t n = 1; n < ALLOCATIONS_MAX; n++) {
        store_close(l.f->store);
        l.f->store = NULL;
        const enum err e = attempt(&l, &opening, n);
        if (!alloc_fail_happened()) {
            assert_int_equal(e, ERR_OK);
            return;
        }
        assert_true(e != ERR_OK && !l.f->store);
    }
    fail_msg("too many allocations");
}

int main(void)
{
    const struct CMUnitTest tests[] = {STORE_TEST(test_open), STORE_TEST(test_calls)};
    json_set_alloc_funcs(json_allocates, free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
