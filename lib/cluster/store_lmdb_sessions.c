/* Sessions, the audience they make, and the cleaning of a worker's slot. */
#include "cluster/store_lmdb.h"

#include <string.h>

#include "base/clock_io.h"

/* ---- audience ---- */

enum { AUDIENCE_KEY_MAX = STREAM_HASH_BYTES + OWNED_KEY_MAX };

static MDB_val audience_key(const struct stream_key *k, const struct worker_id *id,
                            uint8_t buf[AUDIENCE_KEY_MAX])
{
    const size_t n = stream_prefix(k, buf).mv_size;
    return val_of(buf, n + owned_prefix(id, buf + n).mv_size);
}

static enum err audience_add(struct store *s, MDB_txn *txn, const struct session_record *r,
                             int players)
{
    uint8_t key_buf[AUDIENCE_KEY_MAX], buf[STORE_RECORD_MAX];
    struct audience_record a = {.worker = r->worker};
    MDB_val v;
    if (r->kind != SESSION_PLAY)
        return ERR_OK;
    const MDB_val key = audience_key(&r->key, &r->worker, key_buf);
    enum err e = db_get(txn, s->db[DB_AUDIENCE], key, &v);
    if (e == ERR_OK)
        e = audience_record_parse(v.mv_data, v.mv_size, &a);
    else if (e == ERR_NOT_FOUND)
        e = ERR_OK;
    if (e != ERR_OK)
        return e;
    if (players < 0 && a.players <= (uint32_t)-players)
        return db_delete(txn, s->db[DB_AUDIENCE], key);
    a.players += (uint32_t)players;
    return db_put(txn, s->db[DB_AUDIENCE], key, val_of(buf, audience_record_write(&a, buf)));
}

struct audience_sum {
    MDB_val prefix;
    const char *router;
    uint64_t slots;
    uint32_t players;
};

static enum err sum_audience(void *arg, MDB_val key, MDB_val value, bool *more)
{
    struct audience_sum *sum = arg;
    struct audience_record a;
    *more = begins_with(key, sum->prefix);
    if (!*more)
        return ERR_OK;
    const enum err e = audience_record_parse(value.mv_data, value.mv_size, &a);
    if (e != ERR_OK)
        return e;
    sum->players += a.players;
    if (strcmp(a.worker.router, sum->router) == 0 && a.worker.slot < WORKERS_MAX)
        sum->slots |= UINT64_C(1) << a.worker.slot;
    return ERR_OK;
}

enum err store_audience(struct store *s, const struct stream_key *key, const char *router,
                        uint64_t *slots, uint32_t *players)
{
    uint8_t buf[STREAM_HASH_BYTES];
    struct audience_sum sum = {.prefix = stream_prefix(key, buf), .router = router};
    const enum err e = live_scan(s, DB_AUDIENCE, sum.prefix, sum_audience, &sum);
    if (e != ERR_OK)
        return e;
    *slots = sum.slots;
    *players = sum.players;
    return ERR_OK;
}

static enum err audience_get(struct store *s, MDB_txn *txn, MDB_val key, struct audience_record *a)
{
    MDB_val v;
    const enum err e = db_get(txn, s->db[DB_AUDIENCE], key, &v);
    return e == ERR_OK ? audience_record_parse(v.mv_data, v.mv_size, a) : e;
}

static bool is_that_far(const struct audience_record *a, uint64_t epoch, bool cut)
{
    return a->epoch > epoch || (a->epoch == epoch && (a->cut || !cut));
}

static enum err mark_audience(struct store *s, MDB_txn *txn, MDB_val key, uint64_t epoch, bool cut)
{
    uint8_t buf[STORE_RECORD_MAX];
    struct audience_record a;
    const enum err e = audience_get(s, txn, key, &a);
    if (e != ERR_OK || is_that_far(&a, epoch, cut))
        return e;
    a.epoch = epoch;
    a.cut = cut;
    return db_put(txn, s->db[DB_AUDIENCE], key, val_of(buf, audience_record_write(&a, buf)));
}

enum err store_audience_mark(struct store *s, const struct stream_key *key,
                             const struct worker_id *worker, uint64_t epoch, bool cut)
{
    MDB_txn *txn;
    uint8_t key_buf[AUDIENCE_KEY_MAX];
    struct audience_record a;
    const MDB_val at = audience_key(key, worker, key_buf);
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = audience_get(s, txn, at, &a);
    read_end(&s->live, txn);
    if (e != ERR_OK || is_that_far(&a, epoch, cut)) /* mostly, and others need not wait for that */
        return e;
    e = write_begin(&s->live, &txn);
    return e == ERR_OK ? write_end(txn, mark_audience(s, txn, at, epoch, cut)) : e;
}

struct audience_wait {
    MDB_val prefix;
    uint64_t epoch;
    bool cut;
    uint32_t count;
    struct worker_id behind[WORKERS_MAX];
};

static enum err find_behind(void *arg, MDB_val key, MDB_val value, bool *more)
{
    struct audience_wait *wait = arg;
    struct audience_record a;
    *more = begins_with(key, wait->prefix) && wait->count < WORKERS_MAX;
    if (!*more)
        return ERR_OK;
    const enum err e = audience_record_parse(value.mv_data, value.mv_size, &a);
    if (e != ERR_OK)
        return e;
    if (a.epoch < wait->epoch || (a.epoch == wait->epoch && wait->cut && !a.cut))
        wait->behind[wait->count++] = a.worker;
    return ERR_OK;
}

enum err store_audience_behind(struct store *s, const struct stream_key *key, uint64_t epoch,
                               bool cut, uint64_t now_ms, uint32_t *behind)
{
    uint8_t buf[STREAM_HASH_BYTES];
    struct audience_wait wait = {.prefix = stream_prefix(key, buf), .epoch = epoch, .cut = cut};
    MDB_txn *txn;
    uint32_t count = 0;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = db_scan(txn, s->db[DB_AUDIENCE], wait.prefix, find_behind, &wait);
    for (uint32_t i = 0; i < wait.count && e == ERR_OK; i++) {
        bool alive = false; /* a dead worker's players are gone */
        e = process_alive(s, txn, PROCESS_ROUTER, &wait.behind[i], now_ms, &alive);
        count += alive;
    }
    read_end(&s->live, txn);
    if (e == ERR_OK)
        *behind = count;
    return e;
}

/* ---- sessions ---- */

enum err store_session_id(struct store *s, uint64_t *first, uint32_t count)
{
    MDB_txn *txn;
    uint64_t id = 0;
    enum err e = write_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = write_end(txn, counter_take(s, txn, COUNTER_SESSION, count, &id));
    if (e == ERR_OK)
        *first = id;
    return e;
}

static enum err session_read(struct store *s, MDB_txn *txn, uint64_t id, struct session_record *out)
{
    MDB_val v;
    const enum err e = db_get(txn, s->db[DB_SESSIONS], val_of(&id, sizeof id), &v);
    return e == ERR_OK ? session_record_parse(v.mv_data, v.mv_size, out) : e;
}

static enum err session_write(struct store *s, MDB_txn *txn, const struct session_record *r)
{
    uint8_t buf[STORE_RECORD_MAX];
    return db_put(txn, s->db[DB_SESSIONS], val_of(&r->id, sizeof r->id),
                  val_of(buf, session_record_write(r, buf)));
}

/* The session's share in the node's count and the audience: by +1 or -1. */
static enum err session_count(struct store *s, MDB_txn *txn, const struct session_record *r, int by)
{
    const enum err e = load_add(s, txn, r->node, 0, by);
    return e == ERR_OK ? audience_add(s, txn, r, by) : e;
}

/* *was: the record that is gone. */
static enum err session_remove(struct store *s, MDB_txn *txn, uint64_t id,
                               struct session_record *was)
{
    uint8_t buf[OWNED_KEY_MAX];
    enum err e = session_read(s, txn, id, was);
    if (e == ERR_OK)
        e = session_count(s, txn, was, -1);
    if (e == ERR_OK)
        e = db_delete(txn, s->db[DB_OWNED], owned_key(&was->worker, OWNED_SESSION, id, buf));
    if (e == ERR_OK)
        e = db_delete(txn, s->db[DB_SESSIONS], val_of(&id, sizeof id));
    return e;
}

enum err session_end(struct store *s, MDB_txn *txn, uint64_t id, uint64_t now_ms)
{
    struct session_record r;
    const enum err e = session_remove(s, txn, id, &r);
    return e == ERR_OK ? event_append(s, txn, now_ms, "session_ended", r.key.text, r.node) : e;
}

enum err session_place(struct store *s, MDB_txn *txn, const struct session_record *r)
{
    struct session_record before;
    uint8_t buf[OWNED_KEY_MAX];
    enum err e = session_remove(s, txn, r->id, &before);
    if (e == ERR_NOT_FOUND) /* its first node: another one later is no new session */
        e = event_append(s, txn, clock_wall_ms(), "session_started", r->key.text, r->node);
    if (e == ERR_OK)
        e = session_count(s, txn, r, 1);
    if (e == ERR_OK)
        e = db_put(txn, s->db[DB_OWNED], owned_key(&r->worker, OWNED_SESSION, r->id, buf),
                   val_of(r->key.text, r->key.len));
    return e == ERR_OK ? session_write(s, txn, r) : e;
}

enum err store_session_put(struct store *s, const struct session_record *r)
{
    MDB_txn *txn;
    const enum err e = write_begin(&s->live, &txn);
    return e == ERR_OK ? write_end(txn, session_place(s, txn, r)) : e;
}

static enum err session_refresh(struct store *s, MDB_txn *txn, const struct session_record *r)
{
    struct session_record known;
    const enum err e = session_read(s, txn, r->id, &known);
    if (e != ERR_OK)
        return e == ERR_NOT_FOUND ? ERR_OK : e;
    known.bytes_in = r->bytes_in;
    known.bytes_out = r->bytes_out;
    known.bitrate = r->bitrate;
    known.rehomes = r->rehomes;
    return session_write(s, txn, &known);
}

enum err store_sessions_refresh(struct store *s, const struct session_record *r, uint32_t count)
{
    MDB_txn *txn;
    if (count > STORE_WRITE_RECORDS)
        return ERR_LIMIT;
    enum err e = write_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    for (uint32_t i = 0; e == ERR_OK && i < count; i++)
        e = session_refresh(s, txn, &r[i]);
    return write_end(txn, e);
}

enum err store_session_get(struct store *s, uint64_t id, struct session_record *out)
{
    MDB_txn *txn;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = session_read(s, txn, id, out);
    read_end(&s->live, txn);
    return e;
}

enum err store_session_delete(struct store *s, uint64_t id)
{
    MDB_txn *txn;
    const enum err e = write_begin(&s->live, &txn);
    return e == ERR_OK ? write_end(txn, session_end(s, txn, id, clock_wall_ms())) : e;
}

struct session_lister {
    bool (*cb)(void *arg, const struct session_record *r);
    void *arg;
};

static enum err list_session(void *arg, MDB_val key, MDB_val value, bool *more)
{
    const struct session_lister *l = arg;
    struct session_record r;
    (void)key;
    const enum err e = session_record_parse(value.mv_data, value.mv_size, &r);
    if (e == ERR_OK)
        *more = l->cb(l->arg, &r);
    return e;
}

enum err store_sessions_list(struct store *s, uint64_t after,
                             bool (*cb)(void *arg, const struct session_record *r), void *arg)
{
    struct session_lister l = {.cb = cb, .arg = arg};
    const uint64_t first = after + 1;
    if (first == 0)
        return ERR_OK;
    return live_scan(s, DB_SESSIONS, val_of(&first, sizeof first), list_session, &l);
}

struct id_lister {
    bool (*cb)(void *arg, uint64_t id);
    void *arg;
};

static enum err list_id(struct store *s, MDB_txn *txn, uint64_t id, MDB_val value, void *arg,
                        bool *more)
{
    const struct id_lister *l = arg;
    (void)s;
    (void)txn;
    (void)value;
    *more = l->cb(l->arg, id);
    return ERR_OK;
}

enum err store_sessions_of(struct store *s, const struct worker_id *id,
                           bool (*cb)(void *arg, uint64_t id), void *arg)
{
    struct id_lister l = {.cb = cb, .arg = arg};
    return owned_scan(s, id, OWNED_SESSION, list_id, &l);
}

/* ---- a worker's slot ---- */

struct leftover {
    enum owned_kind kind;
    uint64_t number;
    struct stream_key key;
};

/* The first thing the worker left; ERR_NOT_FOUND: nothing. */
static enum err first_leftover(struct store *s, MDB_txn *txn, const struct worker_id *id,
                               struct leftover *out)
{
    uint8_t buf[OWNED_KEY_MAX];
    const MDB_val prefix = owned_prefix(id, buf);
    MDB_val k, v;
    enum err e = db_first(txn, s->db[DB_OWNED], prefix, &k, &v);
    if (e == ERR_OK && !begins_with(k, prefix))
        e = ERR_NOT_FOUND;
    if (e != ERR_OK)
        return e;
    if (k.mv_size != prefix.mv_size + 1 + 8 || v.mv_size >= sizeof out->key.text)
        return ERR_CORRUPT;
    const uint8_t *p = (const uint8_t *)k.mv_data + prefix.mv_size;
    *out = (struct leftover){.kind = (enum owned_kind)p[0], .number = number_at(p + 1)};
    memcpy(out->key.text, v.mv_data, v.mv_size);
    out->key.len = (uint16_t)v.mv_size;
    return ERR_OK;
}

static enum err remove_leftover(struct store *s, MDB_txn *txn, const struct worker_id *id,
                                const struct leftover *l, uint64_t now_ms)
{
    uint8_t buf[OWNED_KEY_MAX];
    const enum err e = l->kind == OWNED_CLAIM
                           ? claim_leave(s, txn, &l->key, l->number, true, now_ms)
                           : session_end(s, txn, l->number, now_ms);
    if (e != ERR_OK && e != ERR_CONFLICT && e != ERR_NOT_FOUND)
        return e;
    /* gone with the record as a rule; an entry without one must not stop the cleaning for ever */
    return db_delete(txn, s->db[DB_OWNED], owned_key(id, l->kind, l->number, buf));
}

static enum err clean_some(struct store *s, MDB_txn *txn, const struct worker_id *id,
                           uint64_t now_ms, bool *left)
{
    struct leftover l;
    enum err e = ERR_OK;
    for (uint32_t n = 0; (e = first_leftover(s, txn, id, &l)) == ERR_OK; n++) {
        if (n == STORE_WRITE_RECORDS) {
            *left = true;
            return ERR_OK;
        }
        e = remove_leftover(s, txn, id, &l, now_ms);
        if (e != ERR_OK)
            return e;
    }
    *left = false;
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

enum err store_slot_left(struct store *s, const struct worker_id *id, bool *left)
{
    MDB_txn *txn;
    struct leftover l;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = first_leftover(s, txn, id, &l);
    read_end(&s->live, txn);
    if (e != ERR_OK && e != ERR_NOT_FOUND)
        return e;
    *left = e == ERR_OK;
    return ERR_OK;
}

enum err store_slot_clean(struct store *s, const struct worker_id *id, uint64_t now_ms, bool *left)
{
    MDB_txn *txn;
    bool more = false;
    enum err e = write_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = write_end(txn, clean_some(s, txn, id, now_ms, &more));
    if (e == ERR_OK)
        *left = more;
    return e;
}
