/* Claims, the hints they leave, and the log of their changes. */
#include "cluster/store_lmdb.h"

#include <string.h>

static MDB_val key_val(const struct stream_key *k)
{
    return val_of(k->text, k->len);
}

/* ---- the change log ---- */

static enum err change_append(struct store *s, MDB_txn *txn, const struct claim *c)
{
    uint64_t seq;
    uint8_t buf[STORE_RECORD_MAX];
    enum err e = counter_take(s, txn, COUNTER_CHANGE, 1, &seq);
    if (e == ERR_OK)
        e = db_put(txn, s->db[DB_CHANGES], val_of(&seq, sizeof seq),
                   val_of(buf, claim_record_write(c, buf)));
    if (e != ERR_OK)
        return e;
    const uint64_t old = seq - STORE_CHANGES_KEEP;
    return db_delete(txn, s->db[DB_CHANGES], val_of(&old, sizeof old));
}

struct change_list {
    struct store_change *list; /* room for STORE_WRITE_RECORDS */
    uint32_t count;
};

static enum err copy_change(void *arg, MDB_val key, MDB_val value, bool *more)
{
    struct change_list *l = arg;
    struct store_change *c = &l->list[l->count];
    if (key.mv_size != sizeof c->seq)
        return ERR_CORRUPT;
    memcpy(&c->seq, key.mv_data, sizeof c->seq);
    l->count++;
    *more = l->count < STORE_WRITE_RECORDS;
    return claim_record_parse(value.mv_data, value.mv_size, &c->claim);
}

enum err store_changes_read(struct store *s, uint64_t *seq, bool *lost,
                            void (*cb)(void *arg, const struct store_change *c), void *arg)
{
    struct change_list changes = {.list = s->changes};
    MDB_txn *txn;
    uint64_t last = 0;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = counter_get(s, txn, COUNTER_CHANGE, &last);
    const bool behind = *seq != 0 && (*seq > last || last - *seq > STORE_CHANGES_KEEP);
    const bool at_end = *seq == 0 || behind || *seq == last;
    const uint64_t next = *seq + 1;
    if (e == ERR_OK && !at_end)
        e = db_scan(txn, s->db[DB_CHANGES], val_of(&next, sizeof next), copy_change, &changes);
    read_end(&s->live, txn);
    if (e != ERR_OK)
        return e;
    *lost = behind;
    *seq = at_end ? last : *seq + changes.count;
    for (uint32_t i = 0; i < changes.count; i++) /* outside the transaction: cb may use the store */
        cb(arg, &changes.list[i]);
    return ERR_OK;
}

/* ---- records and indexes ---- */

static enum err claim_read(struct store *s, MDB_txn *txn, const struct stream_key *key,
                           struct claim *out)
{
    MDB_val v;
    const enum err e = db_get(txn, s->db[DB_CLAIMS], key_val(key), &v);
    return e == ERR_OK ? claim_record_parse(v.mv_data, v.mv_size, out) : e;
}

enum { HINT_KEY_BYTES = 16 };

static MDB_val hint_key(const struct claim *c, uint8_t buf[HINT_KEY_BYTES])
{
    number_put(buf, c->since_ms);
    number_put(buf + 8, c->epoch);
    return val_of(buf, HINT_KEY_BYTES);
}

/* Under what the claim is found besides its key. */
static enum err index_remove(struct store *s, MDB_txn *txn, const struct claim *c)
{
    uint8_t buf[OWNED_KEY_MAX];
    if (c->state == CLAIM_HINT)
        return db_delete(txn, s->db[DB_HINTS], hint_key(c, buf));
    return db_delete(txn, s->db[DB_OWNED], owned_key(&c->worker, OWNED_CLAIM, c->epoch, buf));
}

static enum err index_add(struct store *s, MDB_txn *txn, const struct claim *c)
{
    uint8_t buf[OWNED_KEY_MAX];
    if (c->state == CLAIM_HINT)
        return db_put(txn, s->db[DB_HINTS], hint_key(c, buf), key_val(&c->key));
    return db_put(txn, s->db[DB_OWNED], owned_key(&c->worker, OWNED_CLAIM, c->epoch, buf),
                  key_val(&c->key));
}

static enum err claim_write(struct store *s, MDB_txn *txn, const struct claim *c)
{
    uint8_t buf[STORE_RECORD_MAX];
    const enum err e =
        db_put(txn, s->db[DB_CLAIMS], key_val(&c->key), val_of(buf, claim_record_write(c, buf)));
    return e == ERR_OK ? change_append(s, txn, c) : e;
}

/* ---- reading ---- */

/* A claim that is no longer live does not move either: what was on its way to next may be there. */
static void settle(struct claim *c)
{
    if (c->next[0])
        memcpy(c->node, c->next, sizeof c->node);
    memset(c->next, 0, sizeof c->next);
    c->planned = false;
}

/* A live claim whose worker is gone is a hint since its last heartbeat. */
static enum err as_seen(struct store *s, MDB_txn *txn, uint64_t now_ms, struct claim *c)
{
    bool alive = false;
    struct process_record p;
    if (c->state != CLAIM_LIVE)
        return ERR_OK;
    enum err e = process_alive(s, txn, PROCESS_ROUTER, &c->worker, now_ms, &alive);
    if (e != ERR_OK || alive)
        return e;
    c->state = CLAIM_HINT;
    settle(c);
    e = process_get(s, txn, PROCESS_ROUTER, &c->worker, &p);
    c->since_ms = e == ERR_OK ? p.beat_ms : now_ms;
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

static enum err as_found(struct store *s, MDB_txn *txn, const struct stream_key *key,
                         uint64_t now_ms, struct claim *c)
{
    struct found_record f;
    const enum err e = found_get(s, txn, key, now_ms, &f);
    if (e != ERR_OK)
        return e;
    *c = (struct claim){.key = *key, .state = CLAIM_FOUND, .since_ms = f.since_ms};
    memcpy(c->node, f.node, sizeof c->node);
    return ERR_OK;
}

static enum err claim_seen(struct store *s, const struct stream_key *key, uint64_t hold_ms,
                           uint64_t now_ms, struct claim *c)
{
    MDB_txn *txn;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = claim_read(s, txn, key, c);
    if (e == ERR_OK)
        e = as_seen(s, txn, now_ms, c);
    if (e == ERR_OK && c->state == CLAIM_HINT && now_ms >= c->since_ms + hold_ms)
        e = ERR_NOT_FOUND;
    if (e == ERR_NOT_FOUND)
        e = as_found(s, txn, key, now_ms, c);
    read_end(&s->live, txn);
    return e;
}

void store_claim_get(struct store *s, const struct stream_key *key, uint64_t hold_ms,
                     uint64_t now_ms, store_claim_cb *cb, void *arg)
{
    struct claim c;
    const enum err e = claim_seen(s, key, hold_ms, now_ms, &c);
    cb(arg, e, e == ERR_OK ? &c : NULL);
}

/* ---- taking ---- */

/* To the caller "full" is the node; a full map is a store that cannot be used now. */
static enum err node_is_full(enum err e)
{
    if (e == ERR_FULL)
        return ERR_IO;
    return e == ERR_LIMIT ? ERR_FULL : e;
}

/* What take_claim() found under the key. */
struct standing_claim {
    struct claim claim;
    bool found;
    bool counted; /* among its node's streams, its worker dead or not */
    bool live;    /* and its worker is alive */
};

static enum err find_standing(struct store *s, MDB_txn *txn, const struct claim_request *req,
                              struct standing_claim *out)
{
    *out = (struct standing_claim){.found = false};
    enum err e = claim_read(s, txn, req->key, &out->claim);
    if (e == ERR_NOT_FOUND)
        return ERR_OK;
    if (e != ERR_OK)
        return e;
    out->found = true;
    out->counted = out->claim.state == CLAIM_LIVE;
    if (out->counted)
        e = process_alive(s, txn, PROCESS_ROUTER, &out->claim.worker, req->now_ms, &out->live);
    return e;
}

/* ERR_LIMIT: the node is at its bound, and does not carry the stream already. */
static enum err check_bound(struct store *s, MDB_txn *txn, const struct standing_claim *old,
                            const char *node, uint32_t bound)
{
    struct load_record load = {0};
    if (bound == UINT32_MAX)
        return ERR_OK;
    if (old->counted && (strcmp(old->claim.node, node) == 0 || strcmp(old->claim.next, node) == 0))
        return ERR_OK;
    const enum err e = load_get(s, txn, node, &load);
    if (e != ERR_OK)
        return e;
    return load.streams >= bound ? ERR_LIMIT : ERR_OK;
}

static bool same_session(const struct claim *c, const struct claim_request *req)
{
    return c->session == req->session && worker_id_equal(&c->worker, &req->worker);
}

static void fill_claim(const struct claim_request *req, const struct standing_claim *old,
                       uint64_t epoch, struct claim *c)
{
    *c = (struct claim){.key = *req->key,
                        .state = CLAIM_LIVE,
                        .worker = req->worker,
                        .session = req->session,
                        .epoch = epoch,
                        .publication = epoch,
                        .since_ms = req->now_ms,
                        .args_hash = req->args_hash};
    memcpy(c->node, req->node, strlen(req->node) + 1);
    memcpy(c->client_addr, req->client_addr, sizeof c->client_addr);
    if (!old->live)
        return;
    if (same_session(&old->claim, req)) {
        /* on to the next node; whoever it took the stream from may still be closing */
        c->previous = old->claim.previous;
        c->previous_epoch = old->claim.previous_epoch;
        c->released = old->claim.released;
    } else {
        c->previous = old->claim.worker;
        c->previous_epoch = old->claim.epoch;
    }
}

/* A live claim counts on its owner, and while it moves on the next node, too. */
static enum err count_streams(struct store *s, MDB_txn *txn, const struct claim *c, int by)
{
    const enum err e = load_add(s, txn, c->node, by, 0);
    if (e != ERR_OK || c->next[0] == '\0' || strcmp(c->next, c->node) == 0)
        return e;
    return load_add(s, txn, c->next, by, 0);
}

/* Removes what stood there and puts c in its place, counts included. */
static enum err exchange(struct store *s, MDB_txn *txn, const struct standing_claim *old,
                         const struct claim *c)
{
    enum err e = ERR_OK;
    if (old->found)
        e = index_remove(s, txn, &old->claim);
    if (e == ERR_OK && old->counted)
        e = count_streams(s, txn, &old->claim, -1);
    if (e == ERR_OK)
        e = count_streams(s, txn, c, 1);
    if (e == ERR_OK)
        e = index_add(s, txn, c);
    if (e == ERR_OK)
        e = claim_write(s, txn, c);
    return e;
}

/* ERR_CONFLICT: *c is the claim that is in the way. */
static enum err take_claim(struct store *s, MDB_txn *txn, const struct claim_request *req,
                           struct claim *c)
{
    struct standing_claim old;
    uint64_t epoch = 0;
    enum err e = find_standing(s, txn, req, &old);
    if (e != ERR_OK)
        return e;
    if (old.live && old.claim.epoch != req->expect_epoch) {
        *c = old.claim;
        return ERR_CONFLICT;
    }
    e = check_bound(s, txn, &old, req->node, req->bound);
    if (e == ERR_OK)
        e = counter_take(s, txn, COUNTER_EPOCH, 1, &epoch);
    if (e != ERR_OK)
        return e;
    fill_claim(req, &old, epoch, c);
    e = exchange(s, txn, &old, c);
    if (e != ERR_OK)
        return e;
    const bool taken_over = old.live && !same_session(&old.claim, req);
    e = event_append(s, txn, req->now_ms, taken_over ? "stream_taken_over" : "stream_started",
                     c->key.text, c->node);
    return e == ERR_OK && req->record ? session_place(s, txn, req->record) : e;
}

void store_claim_take(struct store *s, const struct claim_request *req, store_claim_cb *cb,
                      void *arg)
{
    MDB_txn *txn;
    struct claim c;
    enum err e = strlen(req->node) < NODE_ID_MAX ? write_begin(&s->live, &txn) : ERR_INVALID;
    if (e == ERR_OK)
        e = node_is_full(write_end(txn, take_claim(s, txn, req, &c)));
    cb(arg, e, e == ERR_OK || e == ERR_CONFLICT ? &c : NULL);
}

/* ---- moving ---- */

/* ERR_CONFLICT: it is not ours any more. */
static enum err own_claim(struct store *s, MDB_txn *txn, const struct stream_key *key,
                          uint64_t epoch, struct standing_claim *out)
{
    *out = (struct standing_claim){.found = true, .counted = true, .live = true};
    const enum err e = claim_read(s, txn, key, &out->claim);
    if (e != ERR_OK)
        return e == ERR_NOT_FOUND ? ERR_CONFLICT : e;
    return out->claim.state == CLAIM_LIVE && out->claim.epoch == epoch ? ERR_OK : ERR_CONFLICT;
}

static enum err move_claim(struct store *s, MDB_txn *txn, const struct claim_move *move,
                           struct claim *c)
{
    struct standing_claim old;
    uint64_t fresh = 0;
    enum err e = own_claim(s, txn, move->key, move->epoch, &old);
    if (e == ERR_OK)
        e = check_bound(s, txn, &old, move->next, move->bound);
    if (e == ERR_OK)
        e = counter_take(s, txn, COUNTER_EPOCH, 1, &fresh);
    if (e != ERR_OK)
        return e;
    *c = old.claim;
    c->epoch = fresh;
    c->planned = move->way != CLAIM_WAY_LOST;
    c->stays = move->way == CLAIM_WAY_BACK;
    c->replay_time = move->replay_time;
    memset(c->next, 0, sizeof c->next);
    memcpy(c->next, move->next, strlen(move->next));
    e = exchange(s, txn, &old, c);
    return e == ERR_OK ? event_append(s, txn, move->now_ms, "stream_moving", c->key.text, c->next)
                       : e;
}

void store_claim_move(struct store *s, const struct claim_move *move, store_claim_cb *cb, void *arg)
{
    MDB_txn *txn;
    struct claim c;
    const size_t len = strlen(move->next);
    enum err e = len > 0 && len < NODE_ID_MAX ? write_begin(&s->live, &txn) : ERR_INVALID;
    if (e == ERR_OK)
        e = node_is_full(write_end(txn, move_claim(s, txn, move, &c)));
    cb(arg, e, e == ERR_OK ? &c : NULL);
}

static enum err arrive(struct store *s, MDB_txn *txn, const struct stream_key *key, uint64_t epoch,
                       uint64_t now_ms)
{
    struct standing_claim old;
    enum err e = own_claim(s, txn, key, epoch, &old);
    if (e == ERR_OK && old.claim.next[0] == '\0')
        e = ERR_CONFLICT;
    if (e != ERR_OK)
        return e;
    struct claim c = old.claim;
    settle(&c);
    e = exchange(s, txn, &old, &c);
    return e == ERR_OK ? event_append(s, txn, now_ms, "stream_moved", key->text, c.node) : e;
}

/* Ends a change of a claim and of its publisher's record. A claim that is ours no more was not
 * changed, and that keeps nothing from the record. */
static enum err write_end_both(MDB_txn *txn, enum err claim, enum err record)
{
    const bool ours = claim != ERR_CONFLICT;
    const enum err e = write_end(txn, ours && claim != ERR_OK ? claim : record);
    return e == ERR_OK && !ours ? ERR_CONFLICT : e;
}

enum err store_claim_arrived(struct store *s, const struct stream_key *key, uint64_t epoch,
                             const struct session_record *record, uint64_t now_ms)
{
    MDB_txn *txn;
    const enum err e = write_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    const enum err claim = arrive(s, txn, key, epoch, now_ms);
    return write_end_both(txn, claim, record ? session_place(s, txn, record) : ERR_OK);
}

/* ---- leaving ---- */

enum err claim_leave(struct store *s, MDB_txn *txn, const struct stream_key *key, uint64_t epoch,
                     bool keep, uint64_t now_ms)
{
    struct claim c;
    enum err e = claim_read(s, txn, key, &c);
    if (e == ERR_NOT_FOUND)
        return ERR_CONFLICT;
    if (e != ERR_OK)
        return e;
    if (c.state != CLAIM_LIVE || c.epoch != epoch)
        return ERR_CONFLICT;
    e = index_remove(s, txn, &c);
    if (e == ERR_OK)
        e = count_streams(s, txn, &c, -1);
    if (e != ERR_OK)
        return e;
    settle(&c);
    c.state = CLAIM_HINT;
    c.since_ms = now_ms;
    if (keep) {
        e = index_add(s, txn, &c);
        if (e == ERR_OK)
            e = claim_write(s, txn, &c);
    } else {
        e = db_delete(txn, s->db[DB_CLAIMS], key_val(key));
        if (e == ERR_OK)
            e = change_append(s, txn, &c);
    }
    return e == ERR_OK ? event_append(s, txn, now_ms, "stream_ended", key->text, c.node) : e;
}

enum err store_claim_release(struct store *s, const struct claim_end *end)
{
    MDB_txn *txn;
    enum err e = write_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = end->session ? session_end(s, txn, end->session, end->now_ms) : ERR_OK;
    const enum err claim = claim_leave(s, txn, end->key, end->epoch, end->keep, end->now_ms);
    return write_end_both(txn, claim, e == ERR_NOT_FOUND ? ERR_OK : e);
}

static enum err hand_over(struct store *s, MDB_txn *txn, const struct stream_key *key,
                          uint64_t old_epoch)
{
    struct claim c;
    const enum err e = claim_read(s, txn, key, &c);
    if (e != ERR_OK)
        return e;
    if (old_epoch == 0 || c.previous_epoch != old_epoch)
        return ERR_CONFLICT;
    c.released = true;
    return claim_write(s, txn, &c);
}

enum err store_claim_handed_over(struct store *s, const struct stream_key *key, uint64_t old_epoch)
{
    MDB_txn *txn;
    const enum err e = write_begin(&s->live, &txn);
    return e == ERR_OK ? write_end(txn, hand_over(s, txn, key, old_epoch)) : e;
}

/* ---- sweeping, listing ---- */

/* A hint that is over; ERR_NOT_FOUND: there is none. They are in the order of time. */
static enum err oldest_hint(struct store *s, MDB_txn *txn, uint64_t hold_ms, uint64_t now_ms,
                            MDB_val *key, MDB_val *stream)
{
    uint8_t ahead[8];
    enum err e = db_first(txn, s->db[DB_HINTS], val_of(NULL, 0), key, stream);
    if (e != ERR_OK)
        return e;
    if (key->mv_size != HINT_KEY_BYTES)
        return ERR_CORRUPT;
    if (!store_is_recent(number_at(key->mv_data), now_ms, hold_ms))
        return ERR_OK;
    number_put(ahead, now_ms + hold_ms); /* from before the clock was set back */
    return db_first(txn, s->db[DB_HINTS], val_of(ahead, sizeof ahead), key, stream);
}

static enum err sweep_hints(struct store *s, MDB_txn *txn, uint64_t hold_ms, uint64_t now_ms,
                            uint32_t *removed)
{
    MDB_val k, stream;
    enum err e = ERR_OK;
    uint32_t n = 0;
    while (n < STORE_WRITE_RECORDS &&
           (e = oldest_hint(s, txn, hold_ms, now_ms, &k, &stream)) == ERR_OK) {
        uint8_t hint[HINT_KEY_BYTES], text[STREAM_KEY_MAX];
        if (stream.mv_size > sizeof text)
            return ERR_CORRUPT;
        memcpy(hint, k.mv_data, sizeof hint);
        memcpy(text, stream.mv_data, stream.mv_size);
        e = db_delete(txn, s->db[DB_CLAIMS], val_of(text, stream.mv_size));
        if (e == ERR_OK)
            e = db_delete(txn, s->db[DB_HINTS], val_of(hint, sizeof hint));
        if (e != ERR_OK)
            return e;
        n++;
    }
    *removed = n;
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

enum err store_claims_sweep(struct store *s, uint64_t hold_ms, uint64_t now_ms, uint32_t *removed)
{
    MDB_txn *txn;
    MDB_val k, v;
    uint32_t n = 0;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = oldest_hint(s, txn, hold_ms, now_ms, &k, &v); /* mostly none: no writer's lock for that */
    read_end(&s->live, txn);
    if (e == ERR_OK)
        e = write_begin(&s->live, &txn);
    if (e == ERR_OK)
        e = write_end(txn, sweep_hints(s, txn, hold_ms, now_ms, &n));
    if (e != ERR_OK && e != ERR_NOT_FOUND)
        return e;
    *removed = n;
    return ERR_OK;
}

struct claim_lister {
    bool (*cb)(void *arg, const struct claim *c);
    void *arg;
    const char *after;
};

static enum err list_claim(void *arg, MDB_val key, MDB_val value, bool *more)
{
    const struct claim_lister *l = arg;
    struct claim c;
    (void)key;
    const enum err e = claim_record_parse(value.mv_data, value.mv_size, &c);
    if (e == ERR_OK && c.state == CLAIM_LIVE && strcmp(c.key.text, l->after) != 0)
        *more = l->cb(l->arg, &c);
    return e;
}

static enum err list_owned(struct store *s, MDB_txn *txn, uint64_t epoch, MDB_val value, void *arg,
                           bool *more)
{
    const struct claim_lister *l = arg;
    struct stream_key key = {.len = (uint16_t)value.mv_size};
    struct claim c;
    if (value.mv_size >= sizeof key.text)
        return ERR_CORRUPT;
    memcpy(key.text, value.mv_data, value.mv_size);
    const enum err e = claim_read(s, txn, &key, &c);
    if (e == ERR_OK && c.state == CLAIM_LIVE && c.epoch == epoch)
        *more = l->cb(l->arg, &c);
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

enum err store_claims_of(struct store *s, const struct worker_id *id,
                         bool (*cb)(void *arg, const struct claim *c), void *arg)
{
    struct claim_lister l = {.cb = cb, .arg = arg};
    return owned_scan(s, id, OWNED_CLAIM, list_owned, &l);
}

enum err store_claims_list(struct store *s, const char *after,
                           bool (*cb)(void *arg, const struct claim *c), void *arg)
{
    struct claim_lister l = {.cb = cb, .arg = arg, .after = after ? after : ""};
    return live_scan(s, DB_CLAIMS, val_of(l.after, strlen(l.after)), list_claim, &l);
}
