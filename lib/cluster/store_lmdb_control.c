/* Leases, and commands from admin to a worker. */
#include "cluster/store_lmdb.h"

#include <stdio.h>

/* ---- leases ---- */

/* ERR_NOT_FOUND: nobody has it. */
static enum err lease_read(struct store *s, MDB_txn *txn, const char *name,
                           struct lease_record *out)
{
    MDB_val v;
    const enum err e = db_get(txn, s->db[DB_LEASES], text_val(name), &v);
    return e == ERR_OK ? lease_record_parse(v.mv_data, v.mv_size, out) : e;
}

static enum err lease_renew(struct store *s, MDB_txn *txn, const char *name, uint64_t holder,
                            uint64_t ttl_ms, uint64_t now_ms)
{
    const struct lease_record mine = {.holder = holder, .renewed_ms = now_ms};
    struct lease_record old = {.holder = holder};
    uint8_t buf[STORE_RECORD_MAX];
    const enum err e = lease_read(s, txn, name, &old);
    if (e != ERR_OK && e != ERR_NOT_FOUND)
        return e;
    const bool fresh = store_is_recent(old.renewed_ms, now_ms, ttl_ms);
    if (old.holder != holder && fresh)
        return ERR_CONFLICT;
    return db_put(txn, s->db[DB_LEASES], text_val(name),
                  val_of(buf, lease_record_write(&mine, buf)));
}

static bool lease_name_valid(const char *name)
{
    return name[0] != '\0' && strlen(name) < LEASE_NAME_MAX;
}

enum err store_lease_take(struct store *s, const char *name, uint64_t holder, uint64_t ttl_ms,
                          uint64_t now_ms)
{
    MDB_txn *txn;
    if (!lease_name_valid(name) || holder == 0)
        return ERR_INVALID;
    const enum err e = write_begin(&s->live, &txn);
    return e == ERR_OK ? write_end(txn, lease_renew(s, txn, name, holder, ttl_ms, now_ms)) : e;
}

static enum err lease_end(struct store *s, MDB_txn *txn, const char *name, uint64_t holder)
{
    struct lease_record l;
    const enum err e = lease_read(s, txn, name, &l);
    if (e != ERR_OK)
        return e;
    return l.holder == holder ? db_delete(txn, s->db[DB_LEASES], text_val(name)) : ERR_NOT_FOUND;
}

enum err store_lease_drop(struct store *s, const char *name, uint64_t holder)
{
    MDB_txn *txn;
    if (!lease_name_valid(name))
        return ERR_INVALID;
    const enum err e = write_begin(&s->live, &txn);
    return e == ERR_OK ? write_end(txn, lease_end(s, txn, name, holder)) : e;
}

/* ---- commands ---- */

static enum err command_read(struct store *s, MDB_txn *txn, uint64_t id, struct store_command *out)
{
    MDB_val v;
    const enum err e = db_get(txn, s->db[DB_COMMANDS], val_of(&id, sizeof id), &v);
    return e == ERR_OK ? command_record_parse(v.mv_data, v.mv_size, out) : e;
}

static enum err command_write(struct store *s, MDB_txn *txn, const struct store_command *c)
{
    uint8_t buf[STORE_RECORD_MAX];
    return db_put(txn, s->db[DB_COMMANDS], val_of(&c->id, sizeof c->id),
                  val_of(buf, command_record_write(c, buf)));
}

static enum err pending_remove(struct store *s, MDB_txn *txn, const struct store_command *c)
{
    uint8_t buf[OWNED_KEY_MAX];
    return db_delete(txn, s->db[DB_PENDING], owned_key(&c->worker, OWNED_COMMAND, c->id, buf));
}

static enum err command_remove(struct store *s, MDB_txn *txn, const struct store_command *c)
{
    const enum err e = pending_remove(s, txn, c);
    return e == ERR_OK ? db_delete(txn, s->db[DB_COMMANDS], val_of(&c->id, sizeof c->id)) : e;
}

static enum err command_post(struct store *s, MDB_txn *txn, struct store_command *c)
{
    uint8_t buf[OWNED_KEY_MAX];
    enum err e = counter_take(s, txn, COUNTER_COMMAND, 1, &c->id);
    if (e == ERR_OK)
        e = command_write(s, txn, c);
    if (e == ERR_OK)
        e = db_put(txn, s->db[DB_PENDING], owned_key(&c->worker, OWNED_COMMAND, c->id, buf),
                   val_of("", 0));
    return e;
}

enum err store_command_post(struct store *s, struct store_command *c)
{
    struct store_command posted = *c;
    MDB_txn *txn;
    posted.state = COMMAND_PENDING;
    enum err e = write_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = write_end(txn, command_post(s, txn, &posted));
    if (e == ERR_OK)
        *c = posted;
    return e;
}

struct pending_list {
    struct store *s;
    MDB_txn *txn;
    MDB_val prefix;
    uint64_t now_ms;
    uint32_t count;
    struct store_command list[STORE_COMMANDS_AT_ONCE];
};

static enum err collect_pending(void *arg, MDB_val key, MDB_val value, bool *more)
{
    struct pending_list *l = arg;
    struct store_command c;
    (void)value;
    *more = begins_with(key, l->prefix);
    if (!*more)
        return ERR_OK;
    if (key.mv_size != l->prefix.mv_size + 1 + 8)
        return ERR_CORRUPT;
    const uint8_t *id = (const uint8_t *)key.mv_data + l->prefix.mv_size + 1;
    const enum err e = command_read(l->s, l->txn, number_at(id), &c);
    if (e != ERR_OK)
        return e == ERR_NOT_FOUND ? ERR_CORRUPT : e;
    if (l->now_ms <= c.deadline_ms)
        l->list[l->count++] = c;
    *more = l->count < STORE_COMMANDS_AT_ONCE;
    return ERR_OK;
}

enum err store_commands_pending(struct store *s, const struct worker_id *w, uint64_t now_ms,
                                bool (*cb)(void *arg, const struct store_command *c), void *arg)
{
    uint8_t buf[OWNED_KEY_MAX];
    struct pending_list l = {.s = s, .prefix = owned_prefix(w, buf), .now_ms = now_ms};
    enum err e = read_begin(&s->live, &l.txn);
    if (e != ERR_OK)
        return e;
    e = db_scan(l.txn, s->db[DB_PENDING], l.prefix, collect_pending, &l);
    read_end(&s->live, l.txn);
    for (uint32_t i = 0; e == ERR_OK && i < l.count; i++) {
        if (!cb(arg, &l.list[i])) /* outside the transaction: cb may use the store */
            break;
    }
    return e;
}

/* ERR_CONFLICT: it is pending no more. */
static enum err pending_read(struct store *s, MDB_txn *txn, uint64_t id, struct store_command *out)
{
    const enum err e = command_read(s, txn, id, out);
    return e == ERR_OK && out->state != COMMAND_PENDING ? ERR_CONFLICT : e;
}

static enum err command_finish(struct store *s, MDB_txn *txn, uint64_t id, enum command_state state,
                               const char *result)
{
    struct store_command c;
    enum err e = pending_read(s, txn, id, &c);
    if (e == ERR_OK)
        e = pending_remove(s, txn, &c);
    if (e != ERR_OK)
        return e;
    c.state = state;
    (void)snprintf(c.result, sizeof c.result, "%s", result);
    return command_write(s, txn, &c);
}

enum err store_command_finish(struct store *s, uint64_t id, enum command_state state,
                              const char *result)
{
    MDB_txn *txn;
    const enum err e = write_begin(&s->live, &txn);
    return e == ERR_OK ? write_end(txn, command_finish(s, txn, id, state, result)) : e;
}

enum err store_command_get(struct store *s, uint64_t id, struct store_command *out)
{
    MDB_txn *txn;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = command_read(s, txn, id, out);
    read_end(&s->live, txn);
    return e;
}

static enum err command_withdraw(struct store *s, MDB_txn *txn, uint64_t id)
{
    struct store_command c;
    const enum err e = pending_read(s, txn, id, &c);
    return e == ERR_OK ? command_remove(s, txn, &c) : e;
}

enum err store_command_withdraw(struct store *s, uint64_t id)
{
    MDB_txn *txn;
    const enum err e = write_begin(&s->live, &txn);
    return e == ERR_OK ? write_end(txn, command_withdraw(s, txn, id)) : e;
}

/* ids grow with time: the first is the oldest. ERR_NOT_FOUND: none is as old as that. */
static enum err oldest_command(struct store *s, MDB_txn *txn, uint64_t now_ms,
                               struct store_command *out)
{
    MDB_val k, v;
    enum err e = db_first(txn, s->db[DB_COMMANDS], val_of(NULL, 0), &k, &v);
    if (e == ERR_OK)
        e = command_record_parse(v.mv_data, v.mv_size, out);
    if (e == ERR_OK && store_is_recent(out->posted_ms, now_ms, STORE_COMMAND_KEEP_MS))
        e = ERR_NOT_FOUND;
    return e;
}

static enum err sweep_commands(struct store *s, MDB_txn *txn, uint64_t now_ms, uint32_t *removed)
{
    struct store_command c;
    enum err e = ERR_OK;
    while (*removed < STORE_WRITE_RECORDS && (e = oldest_command(s, txn, now_ms, &c)) == ERR_OK) {
        e = command_remove(s, txn, &c);
        if (e != ERR_OK)
            return e;
        (*removed)++;
    }
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

enum err store_commands_sweep(struct store *s, uint64_t now_ms, uint32_t *removed)
{
    struct store_command c;
    uint32_t n = 0;
    MDB_txn *txn;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = oldest_command(s, txn, now_ms, &c); /* mostly none: no writer's lock for that */
    read_end(&s->live, txn);
    if (e == ERR_OK)
        e = write_begin(&s->live, &txn);
    if (e == ERR_OK)
        e = write_end(txn, sweep_commands(s, txn, now_ms, &n));
    if (e != ERR_OK && e != ERR_NOT_FOUND)
        return e;
    *removed = n;
    return ERR_OK;
}
