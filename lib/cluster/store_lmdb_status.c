/* What is measured of nodes from outside: healthd's status of each, and dials that failed. */
#include "cluster/store_lmdb.h"

/* ---- status ---- */

static enum err status_read(struct store *s, MDB_txn *txn, const char *node,
                            struct node_status *out)
{
    MDB_val v;
    const enum err e = db_get(txn, s->db[DB_STATUS], text_val(node), &v);
    return e == ERR_OK ? status_record_parse(v.mv_data, v.mv_size, out) : e;
}

enum err status_get(struct store *s, MDB_txn *txn, const char *node, struct node_status *out)
{
    const enum err e = status_read(s, txn, node, out);
    if (e != ERR_NOT_FOUND)
        return e;
    *out = (struct node_status){.health = NODE_UNKNOWN};
    return ERR_OK;
}

enum err status_forget(struct store *s, MDB_txn *txn, const char *node)
{
    const enum err e = db_delete(txn, s->db[DB_STATUS], text_val(node));
    return e == ERR_OK ? db_delete(txn, s->db[DB_DIALS], text_val(node)) : e;
}

static enum err tell_status(struct store *s, MDB_txn *txn, const struct node_status *old,
                            const struct node_status *st, uint64_t now_ms)
{
    enum err e = ERR_OK;
    uint64_t number;
    if (old->health != st->health || old->since_ms != st->since_ms)
        e = counter_take(s, txn, COUNTER_NODES, 1, &number);
    if (e == ERR_OK && old->health != st->health && st->health != NODE_UNKNOWN)
        e = event_append(s, txn, now_ms, st->health == NODE_UP ? "node_up" : "node_down", st->id,
                         st->id);
    if (e == ERR_OK && old->generations > 0 && st->generations > old->generations)
        e = event_append(s, txn, now_ms, "node_reloaded", st->id, st->id);
    return e;
}

static enum err status_write(struct store *s, MDB_txn *txn, const struct node_status *st,
                             uint64_t now_ms)
{
    struct node_status old;
    uint8_t buf[STORE_RECORD_MAX];
    bool known;
    /* asked inside the transaction: who deletes the node deletes what we write, or we see it gone
     */
    enum err e = node_known(s, st->id, &known);
    if (e != ERR_OK || !known)
        return e;
    e = status_get(s, txn, st->id, &old);
    if (e == ERR_OK)
        e = db_put(txn, s->db[DB_STATUS], text_val(st->id),
                   val_of(buf, status_record_write(st, buf)));
    return e == ERR_OK ? tell_status(s, txn, &old, st, now_ms) : e;
}

enum err store_status_put(struct store *s, const struct node_status *st, uint32_t count,
                          uint64_t now_ms)
{
    MDB_txn *txn;
    if (count > STORE_WRITE_RECORDS)
        return ERR_LIMIT;
    enum err e = write_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    for (uint32_t i = 0; e == ERR_OK && i < count; i++)
        e = status_write(s, txn, &st[i], now_ms);
    return write_end(txn, e);
}

enum err store_status_get(struct store *s, const char *id, struct node_status *out)
{
    MDB_txn *txn;
    if (id[0] == '\0' || strlen(id) >= NODE_ID_MAX)
        return ERR_NOT_FOUND;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = status_read(s, txn, id, out);
    read_end(&s->live, txn);
    return e;
}

struct status_lister {
    bool (*cb)(void *arg, const struct node_status *st);
    void *arg;
};

static enum err list_status(void *arg, MDB_val key, MDB_val value, bool *more)
{
    const struct status_lister *l = arg;
    struct node_status st;
    (void)key;
    const enum err e = status_record_parse(value.mv_data, value.mv_size, &st);
    if (e == ERR_OK)
        *more = l->cb(l->arg, &st);
    return e;
}

enum err store_status_list(struct store *s, bool (*cb)(void *arg, const struct node_status *st),
                           void *arg)
{
    struct status_lister l = {.cb = cb, .arg = arg};
    return live_scan(s, DB_STATUS, val_of(NULL, 0), list_status, &l);
}

/* ---- dials that failed ---- */

static enum err count_dial(struct store *s, MDB_txn *txn, const char *node, uint64_t now_ms)
{
    struct dial_failures f = {.count = 0};
    uint8_t buf[STORE_RECORD_MAX];
    MDB_val v;
    bool known;
    enum err e = node_known(s, node, &known);
    if (e != ERR_OK || !known)
        return e;
    memcpy(f.node, node, strlen(node) + 1);
    e = db_get(txn, s->db[DB_DIALS], text_val(node), &v);
    if (e == ERR_OK)
        e = dial_record_parse(v.mv_data, v.mv_size, &f);
    if (e != ERR_OK && e != ERR_NOT_FOUND)
        return e;
    f.count++;
    f.last_ms = now_ms;
    return db_put(txn, s->db[DB_DIALS], text_val(node), val_of(buf, dial_record_write(&f, buf)));
}

enum err store_dial_failed(struct store *s, const char *node, uint64_t now_ms)
{
    MDB_txn *txn;
    const enum err e = write_begin(&s->live, &txn);
    return e == ERR_OK ? write_end(txn, count_dial(s, txn, node, now_ms)) : e;
}

struct dial_lister {
    bool (*cb)(void *arg, const struct dial_failures *f);
    void *arg;
};

static enum err list_dial(void *arg, MDB_val key, MDB_val value, bool *more)
{
    const struct dial_lister *l = arg;
    struct dial_failures f;
    (void)key;
    const enum err e = dial_record_parse(value.mv_data, value.mv_size, &f);
    if (e == ERR_OK)
        *more = l->cb(l->arg, &f);
    return e;
}

enum err store_dial_failures_list(struct store *s,
                                  bool (*cb)(void *arg, const struct dial_failures *f), void *arg)
{
    struct dial_lister l = {.cb = cb, .arg = arg};
    return live_scan(s, DB_DIALS, val_of(NULL, 0), list_dial, &l);
}
