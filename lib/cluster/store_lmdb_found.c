/* Streams that nodes say they have. */
#include "cluster/store_lmdb.h"

/* A record is written again only when it is so old: most of what stat shows, it showed a second
 * ago. */
enum { FOUND_REFRESH_MS = STORE_FOUND_MS / 4 };
enum { FOUND_KEY_MAX = STREAM_HASH_BYTES + NODE_ID_MAX };

static MDB_val found_key(const struct stream_key *k, const char *node, uint8_t buf[FOUND_KEY_MAX])
{
    const size_t n = stream_prefix(k, buf).mv_size, len = strlen(node);
    memcpy(buf + n, node, len + 1); /* the NUL is not part of the key */
    return val_of(buf, n + len);
}

static bool is_fresh(const struct found_record *f, uint64_t now_ms)
{
    return store_is_recent(f->seen_ms, now_ms, STORE_FOUND_MS);
}

/* ---- writing ---- */

static enum err found_see(struct store *s, MDB_txn *txn, const char *node,
                          const struct stream_key *stream, uint64_t now_ms)
{
    uint8_t key_buf[FOUND_KEY_MAX], buf[STORE_RECORD_MAX];
    struct found_record f = {.key = *stream, .since_ms = now_ms, .seen_ms = now_ms}, old;
    const MDB_val key = found_key(stream, node, key_buf);
    MDB_val v;
    enum err e = db_get(txn, s->db[DB_FOUND], key, &v);
    if (e == ERR_OK)
        e = found_record_parse(v.mv_data, v.mv_size, &old);
    if (e != ERR_OK && e != ERR_NOT_FOUND)
        return e;
    if (e == ERR_OK && is_fresh(&old, now_ms)) {
        if (store_is_recent(old.seen_ms, now_ms, FOUND_REFRESH_MS))
            return ERR_OK;
        f.since_ms = old.since_ms;
    }
    memcpy(f.node, node, strlen(node) + 1);
    return db_put(txn, s->db[DB_FOUND], key, val_of(buf, found_record_write(&f, buf)));
}

static enum err see_all(struct store *s, MDB_txn *txn, const char *node,
                        const struct stream_key *keys, uint32_t count, uint64_t now_ms)
{
    bool known;
    enum err e = node_known(s, node, &known);
    for (uint32_t i = 0; e == ERR_OK && known && i < count; i++)
        e = found_see(s, txn, node, &keys[i], now_ms);
    return e;
}

enum err store_found_put(struct store *s, const char *node, const struct stream_key *keys,
                         uint32_t count, uint64_t now_ms)
{
    MDB_txn *txn;
    if (count > STORE_WRITE_RECORDS)
        return ERR_LIMIT;
    const enum err e = write_begin(&s->live, &txn);
    return e == ERR_OK ? write_end(txn, see_all(s, txn, node, keys, count, now_ms)) : e;
}

/* ---- reading ---- */

struct latest {
    MDB_val prefix;
    uint64_t now_ms;
    struct found_record best;
    bool found;
};

static enum err pick_latest(void *arg, MDB_val key, MDB_val value, bool *more)
{
    struct latest *l = arg;
    struct found_record f;
    *more = begins_with(key, l->prefix);
    if (!*more)
        return ERR_OK;
    const enum err e = found_record_parse(value.mv_data, value.mv_size, &f);
    if (e != ERR_OK || !is_fresh(&f, l->now_ms))
        return e;
    if (!l->found || f.since_ms > l->best.since_ms) {
        l->best = f;
        l->found = true;
    }
    return ERR_OK;
}

enum err found_get(struct store *s, MDB_txn *txn, const struct stream_key *key, uint64_t now_ms,
                   struct found_record *out)
{
    uint8_t buf[STREAM_HASH_BYTES];
    struct latest l = {.prefix = stream_prefix(key, buf), .now_ms = now_ms};
    const enum err e = db_scan(txn, s->db[DB_FOUND], l.prefix, pick_latest, &l);
    if (e != ERR_OK)
        return e;
    if (!l.found)
        return ERR_NOT_FOUND;
    *out = l.best;
    return ERR_OK;
}

/* ---- sweeping ---- */

struct stale_list {
    uint64_t now_ms;
    uint32_t count;
    struct {
        uint8_t key[FOUND_KEY_MAX];
        size_t len;
    } list[STORE_WRITE_RECORDS];
};

static enum err collect_stale(void *arg, MDB_val key, MDB_val value, bool *more)
{
    struct stale_list *l = arg;
    struct found_record f;
    const enum err e = found_record_parse(value.mv_data, value.mv_size, &f);
    if (e != ERR_OK || is_fresh(&f, l->now_ms))
        return e;
    if (key.mv_size > FOUND_KEY_MAX)
        return ERR_CORRUPT;
    memcpy(l->list[l->count].key, key.mv_data, key.mv_size);
    l->list[l->count].len = key.mv_size;
    l->count++;
    *more = l->count < STORE_WRITE_RECORDS;
    return ERR_OK;
}

static enum err remove_stale(struct store *s, MDB_txn *txn, const struct stale_list *l,
                             uint32_t *removed)
{
    enum err e = ERR_OK;
    for (uint32_t i = 0; e == ERR_OK && i < l->count; i++) {
        const MDB_val key = val_of(l->list[i].key, l->list[i].len);
        struct found_record f;
        MDB_val v;
        e = db_get(txn, s->db[DB_FOUND], key, &v); /* again: it may have been seen meanwhile */
        if (e == ERR_OK)
            e = found_record_parse(v.mv_data, v.mv_size, &f);
        if (e == ERR_OK && !is_fresh(&f, l->now_ms)) {
            e = db_delete(txn, s->db[DB_FOUND], key);
            (*removed)++;
        } else if (e == ERR_NOT_FOUND) {
            e = ERR_OK;
        }
    }
    return e;
}

enum err store_found_sweep(struct store *s, uint64_t now_ms, uint32_t *removed)
{
    struct stale_list l = {.now_ms = now_ms};
    uint32_t n = 0;
    MDB_txn *txn;
    enum err e = live_scan(s, DB_FOUND, val_of(NULL, 0), collect_stale, &l);
    if (e == ERR_OK && l.count > 0) {
        e = write_begin(&s->live, &txn);
        if (e == ERR_OK)
            e = write_end(txn, remove_stale(s, txn, &l, &n));
    }
    if (e == ERR_OK)
        *removed = n;
    return e;
}
