/* Processes and events. */
#include "cluster/store_lmdb.h"

#include <stdio.h>
#include <string.h>

/* ---- processes ---- */

enum { PROCESS_KEY_MAX = 8 + 1 + ROUTER_ID_MAX + 1 + 11 };

static const char *const kind_names[] = {
    [PROCESS_ROUTER] = "router", [PROCESS_HEALTHD] = "healthd", [PROCESS_ADMIN] = "admin"};

static MDB_val process_key(enum process_kind kind, const struct worker_id *id,
                           char buf[PROCESS_KEY_MAX])
{
    const int len = snprintf(buf, PROCESS_KEY_MAX, "%s/%s/%u", kind_names[kind], id->router,
                             (unsigned)id->slot);
    return val_of(buf, (size_t)len);
}

enum err process_get(struct store *s, MDB_txn *txn, enum process_kind kind,
                     const struct worker_id *id, struct process_record *out)
{
    char buf[PROCESS_KEY_MAX];
    MDB_val v;
    const enum err e = db_get(txn, s->db[DB_PROCESSES], process_key(kind, id, buf), &v);
    return e == ERR_OK ? process_record_parse(v.mv_data, v.mv_size, out) : e;
}

enum err process_alive(struct store *s, MDB_txn *txn, enum process_kind kind,
                       const struct worker_id *id, uint64_t now_ms, bool *alive)
{
    struct process_record p;
    const enum err e = process_get(s, txn, kind, id, &p);
    if (e == ERR_NOT_FOUND) {
        *alive = false;
        return ERR_OK;
    }
    if (e == ERR_OK)
        *alive = kind == PROCESS_ROUTER /* those ahead are for the routers to clean up */
                     ? now_ms < p.beat_ms + PROCESS_GONE_MS
                     : store_is_recent(p.beat_ms, now_ms, PROCESS_GONE_MS);
    return e;
}

static enum err process_put(struct store *s, MDB_txn *txn, const struct process_record *p)
{
    char key[PROCESS_KEY_MAX];
    uint8_t buf[STORE_RECORD_MAX];
    return db_put(txn, s->db[DB_PROCESSES], process_key(p->kind, &p->id, key),
                  val_of(buf, process_record_write(p, buf)));
}

enum err store_process_beat(struct store *s, const struct process_record *p)
{
    MDB_txn *txn;
    const enum err e = write_begin(&s->live, &txn);
    return e == ERR_OK ? write_end(txn, process_put(s, txn, p)) : e;
}

enum err store_process_get(struct store *s, enum process_kind kind, const struct worker_id *id,
                           struct process_record *out)
{
    MDB_txn *txn;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = process_get(s, txn, kind, id, out);
    read_end(&s->live, txn);
    return e;
}

enum err store_process_delete(struct store *s, enum process_kind kind, const struct worker_id *id)
{
    char buf[PROCESS_KEY_MAX];
    MDB_txn *txn;
    MDB_val key = process_key(kind, id, buf);
    const enum err e = write_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    return write_end(txn, store_err(mdb_del(txn, s->db[DB_PROCESSES], &key, NULL)));
}

struct process_lister {
    bool (*cb)(void *arg, const struct process_record *p);
    void *arg;
};

static enum err list_process(void *arg, MDB_val key, MDB_val value, bool *more)
{
    const struct process_lister *l = arg;
    struct process_record p;
    (void)key;
    const enum err e = process_record_parse(value.mv_data, value.mv_size, &p);
    if (e == ERR_OK)
        *more = l->cb(l->arg, &p);
    return e;
}

enum err store_processes_list(struct store *s,
                              bool (*cb)(void *arg, const struct process_record *p), void *arg)
{
    struct process_lister l = {.cb = cb, .arg = arg};
    return live_scan(s, DB_PROCESSES, val_of(NULL, 0), list_process, &l);
}

const char *setup_phase_name(enum setup_phase p)
{
    static const char *const names[SETUP_PHASE_COUNT] = {[SETUP_LOOKUP] = "lookup",
                                                         [SETUP_DIAL] = "dial",
                                                         [SETUP_ANSWER] = "answer",
                                                         [SETUP_TOTAL] = "total"};
    return names[p];
}

const char *rehome_cause_name(enum rehome_cause c)
{
    static const char *const names[REHOME_CAUSE_COUNT] = {
        [REHOME_ENDED] = "ended", [REHOME_SILENT] = "silent", [REHOME_BAD] = "bad",
        [REHOME_DRAIN] = "drain", [REHOME_RELOAD] = "reload", [REHOME_COMMAND] = "command"};
    return names[c];
}

/* ---- events ---- */

enum err event_append(struct store *s, MDB_txn *txn, uint64_t now_ms, const char *kind,
                      const char *subject, const char *node)
{
    struct store_event v = {.time_ms = now_ms};
    uint8_t buf[STORE_RECORD_MAX];
    (void)snprintf(v.kind, sizeof v.kind, "%s", kind);
    (void)snprintf(v.subject, sizeof v.subject, "%s", subject);
    (void)snprintf(v.node, sizeof v.node, "%s", node);
    enum err e = counter_take(s, txn, COUNTER_EVENT, 1, &v.id);
    if (e == ERR_OK)
        e = db_put(txn, s->db[DB_EVENTS], val_of(&v.id, sizeof v.id),
                   val_of(buf, event_record_write(&v, buf)));
    if (e != ERR_OK)
        return e;
    const uint64_t old = v.id - STORE_EVENTS_KEEP;
    return db_delete(txn, s->db[DB_EVENTS], val_of(&old, sizeof old));
}

struct event_lister {
    bool (*cb)(void *arg, const struct store_event *e);
    void *arg;
};

static enum err list_event(void *arg, MDB_val key, MDB_val value, bool *more)
{
    const struct event_lister *l = arg;
    struct store_event v;
    (void)key;
    const enum err e = event_record_parse(value.mv_data, value.mv_size, &v);
    if (e == ERR_OK)
        *more = l->cb(l->arg, &v);
    return e;
}

enum err store_events_list(struct store *s, uint64_t after,
                           bool (*cb)(void *arg, const struct store_event *e), void *arg)
{
    struct event_lister l = {.cb = cb, .arg = arg};
    const uint64_t from = after + 1;
    return live_scan(s, DB_EVENTS, val_of(&from, sizeof from), list_event, &l);
}
