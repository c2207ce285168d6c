/* The engine's ground: environments, schema, transactions, counters. */
#include "cluster/store_lmdb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/clock_io.h"
#include "cluster/directory_io.h"

/* Apart, so that nodes survive an upgrade that changes other records. */
enum { DURABLE_SCHEMA = 1, LIVE_SCHEMA = 7 };
enum { FILE_MODE = 0640 };
#define DURABLE_MAP_BYTES ((size_t)64 << 20)
#define LIVE_MAP_BYTES ((size_t)1 << 30)
static const char url_prefix[] = "lmdb:";
static const char schema_key[] = "schema";

static const struct {
    const char *name;
    unsigned flags;
} live_dbs[LIVE_DB_COUNT] = {
    [DB_META] = {"meta", 0},
    [DB_STATUS] = {"status", 0},
    [DB_LOADS] = {"loads", 0},
    [DB_CLAIMS] = {"claims", 0},
    [DB_HINTS] = {"hints", 0},
    [DB_OWNED] = {"owned", 0},
    [DB_CHANGES] = {"changes", MDB_INTEGERKEY},
    [DB_SESSIONS] = {"sessions", MDB_INTEGERKEY},
    [DB_AUDIENCE] = {"audience", 0},
    [DB_PROCESSES] = {"processes", 0},
    [DB_EVENTS] = {"events", MDB_INTEGERKEY},
    [DB_DIALS] = {"dials", 0},
    [DB_FOUND] = {"found", 0},
    [DB_LEASES] = {"leases", 0},
    [DB_COMMANDS] = {"commands", MDB_INTEGERKEY},
    [DB_PENDING] = {"pending", 0},
};

static const char *const counter_names[COUNTER_COUNT] = {
    [COUNTER_EPOCH] = "epoch",     [COUNTER_NODES] = "nodes", [COUNTER_CHANGE] = "change",
    [COUNTER_SESSION] = "session", [COUNTER_EVENT] = "event", [COUNTER_COMMAND] = "command",
};

enum err store_err(int mdb)
{
    switch (mdb) {
    case MDB_SUCCESS:
        return ERR_OK;
    case MDB_NOTFOUND:
        return ERR_NOT_FOUND;
    case MDB_MAP_FULL:
        return ERR_FULL;
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return ERR_VERSION;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
        return ERR_CORRUPT;
    case ENOMEM:
        return ERR_NO_MEMORY;
    default:
        return ERR_IO;
    }
}

/* ---- transactions ---- */

enum err read_begin(struct store_env *e, MDB_txn **txn)
{
    if (e->reader_busy)
        return store_err(mdb_txn_begin(e->env, NULL, MDB_RDONLY, txn));
    const int rc =
        e->reader ? mdb_txn_renew(e->reader) : mdb_txn_begin(e->env, NULL, MDB_RDONLY, &e->reader);
    if (rc != MDB_SUCCESS)
        return store_err(rc);
    e->reader_busy = true;
    *txn = e->reader;
    return ERR_OK;
}

void read_end(struct store_env *e, MDB_txn *txn)
{
    if (txn != e->reader) {
        mdb_txn_abort(txn);
        return;
    }
    mdb_txn_reset(txn);
    e->reader_busy = false;
}

enum err write_begin(struct store_env *e, MDB_txn **txn)
{
    return store_err(mdb_txn_begin(e->env, NULL, 0, txn));
}

enum err write_end(MDB_txn *txn, enum err e)
{
    if (e == ERR_OK)
        return store_err(mdb_txn_commit(txn));
    mdb_txn_abort(txn);
    return e;
}

enum err db_get(MDB_txn *txn, MDB_dbi db, MDB_val key, MDB_val *value)
{
    return store_err(mdb_get(txn, db, &key, value));
}

enum err db_put(MDB_txn *txn, MDB_dbi db, MDB_val key, MDB_val value)
{
    return store_err(mdb_put(txn, db, &key, &value, 0));
}

enum err db_delete(MDB_txn *txn, MDB_dbi db, MDB_val key)
{
    const int rc = mdb_del(txn, db, &key, NULL);
    return rc == MDB_NOTFOUND ? ERR_OK : store_err(rc);
}

static int cursor_start(MDB_cursor *cursor, MDB_val from, MDB_val *key, MDB_val *value)
{
    *key = from;
    return mdb_cursor_get(cursor, key, value, from.mv_size == 0 ? MDB_FIRST : MDB_SET_RANGE);
}

enum err db_first(MDB_txn *txn, MDB_dbi db, MDB_val from, MDB_val *key, MDB_val *value)
{
    MDB_cursor *cursor;
    const enum err e = store_err(mdb_cursor_open(txn, db, &cursor));
    if (e != ERR_OK)
        return e;
    const int rc = cursor_start(cursor, from, key, value);
    mdb_cursor_close(cursor);
    return store_err(rc);
}

enum err db_scan(MDB_txn *txn, MDB_dbi db, MDB_val from, db_scan_fn *fn, void *arg)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    bool more = true;
    enum err e = store_err(mdb_cursor_open(txn, db, &cursor));
    if (e != ERR_OK)
        return e;
    int rc = cursor_start(cursor, from, &key, &value);
    while (rc == MDB_SUCCESS && more && e == ERR_OK) {
        e = fn(arg, key, value, &more);
        if (more && e == ERR_OK)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return e == ERR_OK && rc != MDB_NOTFOUND ? store_err(rc) : e;
}

enum err live_scan(struct store *s, enum live_db db, MDB_val from, db_scan_fn *fn, void *arg)
{
    MDB_txn *txn;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = db_scan(txn, s->db[db], from, fn, arg);
    read_end(&s->live, txn);
    return e;
}

/* ---- counters ---- */

static enum err u64_get(MDB_txn *txn, MDB_dbi db, const char *name, uint64_t *out)
{
    MDB_val v;
    const enum err e = db_get(txn, db, val_of(name, strlen(name)), &v);
    if (e != ERR_OK)
        return e;
    if (v.mv_size != sizeof *out)
        return ERR_CORRUPT;
    memcpy(out, v.mv_data, sizeof *out);
    return ERR_OK;
}

static enum err u64_put(MDB_txn *txn, MDB_dbi db, const char *name, uint64_t value)
{
    return db_put(txn, db, val_of(name, strlen(name)), val_of(&value, sizeof value));
}

enum err counter_get(struct store *s, MDB_txn *txn, enum counter c, uint64_t *value)
{
    const enum err e = u64_get(txn, s->db[DB_META], counter_names[c], value);
    return e == ERR_NOT_FOUND ? ERR_CORRUPT : e;
}

enum err counter_take(struct store *s, MDB_txn *txn, enum counter c, uint64_t n, uint64_t *first)
{
    uint64_t last = 0;
    enum err e = counter_get(s, txn, c, &last);
    if (e == ERR_OK)
        e = u64_put(txn, s->db[DB_META], counter_names[c], last + n);
    if (e == ERR_OK)
        *first = last + 1;
    return e;
}

/* ---- keys ---- */

uint64_t number_at(const uint8_t *p)
{
    uint64_t v = 0;
    for (size_t i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

void number_put(uint8_t *p, uint64_t v)
{
    for (size_t i = 8; i-- > 0; v >>= 8)
        p[i] = (uint8_t)v;
}

MDB_val owned_prefix(const struct worker_id *id, uint8_t buf[OWNED_KEY_MAX])
{
    const size_t n = strlen(id->router) + 1; /* the NUL ends the name: "r1" is no prefix of "r10" */
    memcpy(buf, id->router, n);
    buf[n] = (uint8_t)(id->slot >> 24);
    buf[n + 1] = (uint8_t)(id->slot >> 16);
    buf[n + 2] = (uint8_t)(id->slot >> 8);
    buf[n + 3] = (uint8_t)id->slot;
    return val_of(buf, n + 4);
}

MDB_val owned_key(const struct worker_id *id, enum owned_kind kind, uint64_t number,
                  uint8_t buf[OWNED_KEY_MAX])
{
    const size_t n = owned_prefix(id, buf).mv_size;
    buf[n] = (uint8_t)kind;
    number_put(buf + n + 1, number);
    return val_of(buf, n + 1 + 8);
}

struct owned_walk {
    struct store *s;
    MDB_txn *txn;
    MDB_val prefix; /* worker and kind */
    owned_fn *fn;
    void *arg;
};

static enum err walk_owned(void *arg, MDB_val key, MDB_val value, bool *more)
{
    const struct owned_walk *o = arg;
    *more = begins_with(key, o->prefix);
    if (!*more)
        return ERR_OK;
    if (key.mv_size != o->prefix.mv_size + 8)
        return ERR_CORRUPT;
    const uint8_t *number = (const uint8_t *)key.mv_data + o->prefix.mv_size;
    return o->fn(o->s, o->txn, number_at(number), value, o->arg, more);
}

enum err owned_scan(struct store *s, const struct worker_id *id, enum owned_kind kind, owned_fn *fn,
                    void *arg)
{
    uint8_t buf[OWNED_KEY_MAX];
    struct owned_walk o = {.s = s, .prefix = owned_key(id, kind, 0, buf), .fn = fn, .arg = arg};
    enum err e = read_begin(&s->live, &o.txn);
    if (e != ERR_OK)
        return e;
    o.prefix.mv_size -= 8;
    e = db_scan(o.txn, s->db[DB_OWNED], o.prefix, walk_owned, &o);
    read_end(&s->live, o.txn);
    return e;
}

MDB_val stream_prefix(const struct stream_key *k, uint8_t buf[STREAM_HASH_BYTES])
{
    const XXH128_hash_t h = XXH3_128bits(k->text, k->len);
    number_put(buf, h.high64);
    number_put(buf + 8, h.low64);
    return val_of(buf, STREAM_HASH_BYTES);
}

bool worker_id_equal(const struct worker_id *a, const struct worker_id *b)
{
    return a->slot == b->slot && strcmp(a->router, b->router) == 0;
}

/* ---- opening ---- */

struct opening {
    const struct store_options *options;
    char *error;
};

static enum err refuse(const struct opening *o, enum err e, const char *path, const char *what)
{
    (void)snprintf(o->error, CONFIG_ERROR_MAX, "store: %s: %s", path, what);
    return e;
}

static enum err make_directories(const struct opening *o, const char *path)
{
    char failed[CONFIG_PATH_MAX];
    const enum err e = directory_make(path, failed);
    if (e == ERR_IO)
        return refuse(o, e, failed, strerror(errno));
    return e == ERR_OK ? e : refuse(o, e, path, "not the name of a directory");
}

static enum err must_exist(const struct opening *o, const char *path)
{
    char file[CONFIG_PATH_MAX + 16];
    struct stat st;
    (void)snprintf(file, sizeof file, "%s/data.mdb", path);
    if (stat(file, &st) == 0)
        return ERR_OK;
    if (errno == ENOENT || errno == ENOTDIR)
        return refuse(o, ERR_NOT_FOUND, path, "there is no store here yet");
    return refuse(o, ERR_IO, file, strerror(errno));
}

static enum err env_open(const struct opening *o, const char *path, size_t map_bytes,
                         unsigned flags, struct store_env *out)
{
    const bool read_only = o->options->read_only;
    enum err e = read_only ? must_exist(o, path) : make_directories(o, path);
    if (e != ERR_OK)
        return e;
    int rc = mdb_env_create(&out->env);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_set_mapsize(out->env, map_bytes);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_set_maxreaders(out->env, STORE_READERS_MAX);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_set_maxdbs(out->env, LIVE_DB_COUNT + 1);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_open(out->env, path, flags | MDB_NOTLS | (read_only ? MDB_RDONLY : 0),
                          FILE_MODE);
    if (rc != MDB_SUCCESS) {
        e = store_err(rc);
        return refuse(o, e == ERR_NOT_FOUND ? ERR_IO : e, path, mdb_strerror(rc));
    }
    int dead;
    (void)mdb_reader_check(out->env, &dead); /* a slot that stays taken is tried again later */
    return ERR_OK;
}

static uint64_t counter_seed(void)
{
    return clock_wall_ms() << 8;
}

/* Reads the schema's number, or writes it into an environment that has none. */
static enum err schema_check(const struct opening *o, MDB_txn *txn, MDB_dbi meta, uint64_t ours,
                             const char *path, bool *fresh)
{
    uint64_t found = 0;
    enum err e = u64_get(txn, meta, schema_key, &found);
    *fresh = e == ERR_NOT_FOUND;
    if (e == ERR_NOT_FOUND)
        return o->options->read_only ? e : u64_put(txn, meta, schema_key, ours);
    if (e != ERR_OK || found == ours)
        return e;
    char what[160];
    (void)snprintf(what, sizeof what,
                   "the store has schema %llu and this program knows schema %llu: run one version "
                   "of all daemons, or start with an empty directory",
                   (unsigned long long)found, (unsigned long long)ours);
    return refuse(o, ERR_VERSION, path, what);
}

static enum err open_db(const struct opening *o, MDB_txn *txn, const char *name, unsigned flags,
                        MDB_dbi *db)
{
    const unsigned create = o->options->read_only ? 0 : MDB_CREATE;
    return store_err(mdb_dbi_open(txn, name, flags | create, db));
}

static enum err open_durable_dbs(const struct opening *o, struct store *s, MDB_txn *txn,
                                 const char *path)
{
    bool fresh;
    enum err e = open_db(o, txn, "meta", 0, &s->durable_meta);
    if (e == ERR_OK)
        e = schema_check(o, txn, s->durable_meta, DURABLE_SCHEMA, path, &fresh);
    if (e == ERR_OK)
        e = open_db(o, txn, "nodes", 0, &s->nodes);
    return e;
}

static enum err open_live_dbs(const struct opening *o, struct store *s, MDB_txn *txn,
                              const char *path)
{
    bool fresh = false;
    enum err e = open_db(o, txn, live_dbs[DB_META].name, 0, &s->db[DB_META]);
    if (e == ERR_OK)
        e = schema_check(o, txn, s->db[DB_META], LIVE_SCHEMA, path, &fresh);
    for (size_t i = DB_META + 1; e == ERR_OK && i < LIVE_DB_COUNT; i++)
        e = open_db(o, txn, live_dbs[i].name, live_dbs[i].flags, &s->db[i]);
    for (size_t i = 0; e == ERR_OK && fresh && i < COUNTER_COUNT; i++)
        e = u64_put(txn, s->db[DB_META], counter_names[i], counter_seed());
    return e;
}

typedef enum err open_dbs_fn(const struct opening *o, struct store *s, MDB_txn *txn,
                             const char *path);

/* Committed even when read-only: that is what keeps the handles. */
static enum err with_dbs(const struct opening *o, struct store *s, struct store_env *env,
                         const char *path, open_dbs_fn *open_dbs)
{
    MDB_txn *txn;
    o->error[0] = '\0';
    const int rc = mdb_txn_begin(env->env, NULL, o->options->read_only ? MDB_RDONLY : 0, &txn);
    if (rc != MDB_SUCCESS)
        return refuse(o, store_err(rc), path, mdb_strerror(rc));
    const enum err e = write_end(txn, open_dbs(o, s, txn, path));
    if (e == ERR_NOT_FOUND)
        return refuse(o, e, path, "there is no store here yet");
    if (e != ERR_OK && o->error[0] == '\0')
        return refuse(o, e, path, err_name(e));
    return e;
}

enum err store_open(const struct store_options *o, struct store **out, char *error)
{
    const struct opening opening = {.options = o, .error = error};
    const size_t prefix = sizeof url_prefix - 1;
    if (strncmp(o->url, url_prefix, prefix) != 0)
        return refuse(&opening, ERR_INVALID, o->url, "not of the form lmdb:DIRECTORY");
    const char *dir = o->url + prefix;
    if (strcmp(dir, o->live) == 0)
        return refuse(&opening, ERR_INVALID, dir, "cluster.store and cluster.live are the same");

    struct store *s = calloc(1, sizeof *s);
    if (!s)
        return refuse(&opening, ERR_NO_MEMORY, dir, "no memory");
    enum err e = ERR_OK;
    s->changes = calloc(STORE_WRITE_RECORDS, sizeof *s->changes);
    if (!s->changes)
        e = refuse(&opening, ERR_NO_MEMORY, dir, "no memory");
    if (e == ERR_OK)
        e = env_open(&opening, dir, DURABLE_MAP_BYTES, 0, &s->durable);
    if (e == ERR_OK)
        e = with_dbs(&opening, s, &s->durable, dir, open_durable_dbs);
    if (e == ERR_OK)
        e = env_open(&opening, o->live, LIVE_MAP_BYTES, MDB_NOSYNC | MDB_NOMETASYNC, &s->live);
    if (e == ERR_OK)
        e = with_dbs(&opening, s, &s->live, o->live, open_live_dbs);
    if (e != ERR_OK) {
        store_close(s);
        return e;
    }
    *out = s;
    return ERR_OK;
}

static void env_close(struct store_env *e)
{
    if (e->reader)
        mdb_txn_abort(e->reader);
    if (e->env)
        mdb_env_close(e->env);
}

void store_close(struct store *s)
{
    if (!s)
        return;
    env_close(&s->live);
    env_close(&s->durable);
    free(s->changes);
    free(s);
}

void store_check_readers(struct store *s)
{
    int dead;
    (void)mdb_reader_check(s->durable.env, &dead);
    (void)mdb_reader_check(s->live.env, &dead);
}
