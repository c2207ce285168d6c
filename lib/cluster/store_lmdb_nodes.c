/* Node records (durable) and loads (volatile). */
#include "cluster/store_lmdb.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/clock_io.h"

static const struct worker_id healthd_id = {.router = "", .slot = 0};

/* ---- loads ---- */

enum err load_get(struct store *s, MDB_txn *txn, const char *node, struct load_record *out)
{
    MDB_val v;
    const enum err e = db_get(txn, s->db[DB_LOADS], text_val(node), &v);
    if (e == ERR_NOT_FOUND) {
        *out = (struct load_record){0};
        return ERR_OK;
    }
    return e == ERR_OK ? load_record_parse(v.mv_data, v.mv_size, out) : e;
}

static uint32_t add_clamped(uint32_t value, int change)
{
    const int64_t sum = (int64_t)value + change;
    return sum < 0 ? 0 : sum > UINT32_MAX ? UINT32_MAX : (uint32_t)sum;
}

enum err load_add(struct store *s, MDB_txn *txn, const char *node, int streams, int sessions)
{
    if (node[0] == '\0' || (streams == 0 && sessions == 0))
        return ERR_OK;
    struct load_record l;
    uint8_t buf[STORE_RECORD_MAX];
    const enum err e = load_get(s, txn, node, &l);
    if (e != ERR_OK)
        return e;
    l.streams = add_clamped(l.streams, streams);
    l.sessions = add_clamped(l.sessions, sessions);
    if (l.streams == 0 && l.sessions == 0)
        return db_delete(txn, s->db[DB_LOADS], text_val(node));
    const size_t len = load_record_write(&l, buf);
    return db_put(txn, s->db[DB_LOADS], text_val(node), val_of(buf, len));
}

/* ---- reading ---- */

/* The durable part counts its own commits, so a change is seen even if its writer died right after
 * it. Asked of a transaction, as the records are: mdb_env_info() counts a commit that is still on
 * its way to the disk, and the old records would be read as that commit's. */
static enum err durable_version(struct store *s, uint64_t *version)
{
    MDB_txn *txn;
    const enum err e = read_begin(&s->durable, &txn);
    if (e != ERR_OK)
        return e;
    *version = mdb_txn_id(txn);
    read_end(&s->durable, txn);
    return ERR_OK;
}

/* Whether healthd is alive belongs to it too: without healthd every verdict turns into "unknown".
 */
static enum err nodes_version(struct store *s, MDB_txn *txn, uint64_t now_ms, uint64_t *version)
{
    uint64_t count = 0, durable = 0;
    bool alive = false;
    enum err e = counter_get(s, txn, COUNTER_NODES, &count);
    if (e == ERR_OK)
        e = process_alive(s, txn, PROCESS_HEALTHD, &healthd_id, now_ms, &alive);
    if (e == ERR_OK)
        e = durable_version(s, &durable);
    if (e == ERR_OK)
        *version = (count + durable) << 1 | (alive ? 1 : 0);
    return e;
}

enum err store_nodes_version(struct store *s, uint64_t *version)
{
    MDB_txn *txn;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = nodes_version(s, txn, clock_wall_ms(), version);
    read_end(&s->live, txn);
    return e;
}

static enum err put_in_table(void *arg, MDB_val key, MDB_val value, bool *more)
{
    struct node n;
    (void)key;
    (void)more;
    const enum err e = node_record_parse(value.mv_data, value.mv_size, &n);
    return e == ERR_OK ? node_table_put(arg, &n) : e;
}

/* Adds all node records to t. */
static enum err load_records(struct store *s, MDB_txn *txn, struct node_table *t)
{
    return db_scan(txn, s->nodes, val_of(NULL, 0), put_in_table, t);
}

static enum err read_records(struct store *s, struct node_table *t)
{
    MDB_txn *txn;
    enum err e = read_begin(&s->durable, &txn);
    if (e != ERR_OK)
        return e;
    e = load_records(s, txn, t);
    read_end(&s->durable, txn);
    return e;
}

/* healthd_works false: what it measured last says nothing of now. */
static enum err read_load(struct store *s, MDB_txn *txn, bool healthd_works, struct node *n,
                          struct node_status *st)
{
    struct load_record load = {0};
    enum err e = load_get(s, txn, n->conf.id, &load);
    if (e == ERR_OK)
        e = status_get(s, txn, n->conf.id, st);
    if (e != ERR_OK)
        return e;
    n->streams = load.streams;
    n->sessions = load.sessions;
    /* lines carry as much one way as the other: the fuller one counts */
    n->bandwidth = !healthd_works                         ? 0
                   : st->bandwidth_in > st->bandwidth_out ? st->bandwidth_in
                                                          : st->bandwidth_out;
    return ERR_OK;
}

/* Health and loads of all of t's nodes, as of one moment. */
static enum err read_measured(struct store *s, MDB_txn *txn, struct node_table *t, uint64_t now_ms)
{
    bool fresh = false;
    enum err e = process_alive(s, txn, PROCESS_HEALTHD, &healthd_id, now_ms, &fresh);
    for (uint32_t i = 0; e == ERR_OK && i < t->count; i++) {
        struct node *n = &t->nodes[i];
        struct node_status st;
        e = read_load(s, txn, fresh, n, &st);
        if (e == ERR_OK && fresh) {
            n->health = st.health;
            n->health_since_ms = st.since_ms;
        }
    }
    return e;
}

static enum err read_all(struct store *s, struct node_table *t, uint64_t now_ms)
{
    MDB_txn *txn;
    /* the version first: what changes while we read gives another one, and is read again */
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = nodes_version(s, txn, now_ms, &t->version);
    if (e == ERR_OK)
        e = read_records(s, t);
    if (e == ERR_OK)
        e = read_measured(s, txn, t, now_ms);
    read_end(&s->live, txn);
    return e;
}

enum err store_nodes_read(struct store *s, struct node_table *t, uint64_t now_ms)
{
    struct node_table fresh = {.nodes = calloc(NODES_MAX, sizeof *t->nodes),
                               .cluster_seed = t->cluster_seed};
    if (!fresh.nodes)
        return ERR_NO_MEMORY;
    const enum err e = read_all(s, &fresh, now_ms);
    if (e == ERR_OK) {
        for (uint32_t i = 0; i < fresh.count; i++) {
            const struct node *known = node_table_get(t, fresh.nodes[i].conf.id);
            if (known)
                node_keep_notes(&fresh.nodes[i], known);
        }
        struct node *old = t->nodes;
        *t = fresh;
        fresh.nodes = old;
    }
    free(fresh.nodes);
    return e;
}

enum err store_loads_read(struct store *s, struct node_table *t, uint64_t now_ms)
{
    MDB_txn *txn;
    bool fresh = false;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = process_alive(s, txn, PROCESS_HEALTHD, &healthd_id, now_ms, &fresh);
    for (uint32_t i = 0; e == ERR_OK && i < t->count; i++) {
        struct node_status st;
        e = read_load(s, txn, fresh, &t->nodes[i], &st);
    }
    read_end(&s->live, txn);
    return e;
}

static uint64_t etag_of(MDB_val record)
{
    const uint64_t hash = XXH3_64bits(record.mv_data, record.mv_size);
    return hash == STORE_ETAG_ANY || hash == STORE_ETAG_NONE ? 1 : hash;
}

/* ERR_NOT_FOUND; *etag as of the record in *out. */
static enum err read_record(struct store *s, const char *id, struct node *out, uint64_t *etag)
{
    MDB_txn *txn;
    MDB_val v;
    if (id[0] == '\0' || strlen(id) >= NODE_ID_MAX)
        return ERR_NOT_FOUND;
    enum err e = read_begin(&s->durable, &txn);
    if (e != ERR_OK)
        return e;
    e = db_get(txn, s->nodes, text_val(id), &v);
    if (e == ERR_OK)
        e = node_record_parse(v.mv_data, v.mv_size, out);
    if (e == ERR_OK)
        *etag = etag_of(v);
    read_end(&s->durable, txn);
    return e;
}

enum err node_known(struct store *s, const char *id, bool *known)
{
    MDB_txn *txn;
    MDB_val v;
    *known = false;
    if (id[0] == '\0' || strlen(id) >= NODE_ID_MAX)
        return ERR_OK;
    enum err e = read_begin(&s->durable, &txn);
    if (e != ERR_OK)
        return e;
    e = db_get(txn, s->nodes, text_val(id), &v);
    *known = e == ERR_OK;
    read_end(&s->durable, txn);
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

enum err store_node_get(struct store *s, const char *id, struct node *out, uint64_t *etag)
{
    struct node n;
    struct node_table one = {.nodes = &n, .count = 1};
    uint64_t found = 0;
    MDB_txn *txn;
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = read_record(s, id, &n, &found);
    if (e == ERR_OK)
        e = read_measured(s, txn, &one, clock_wall_ms());
    read_end(&s->live, txn);
    if (e != ERR_OK)
        return e;
    *out = n;
    *etag = found;
    return ERR_OK;
}

static enum err carries_nothing(struct store *s, const char *id, bool *empty)
{
    MDB_txn *txn;
    struct load_record l = {0};
    enum err e = read_begin(&s->live, &txn);
    if (e != ERR_OK)
        return e;
    e = load_get(s, txn, id, &l);
    read_end(&s->live, txn);
    *empty = l.streams == 0 && l.sessions == 0;
    return e;
}

/* ---- writing ---- */

static const char event_added[] = "node_added";
static const char event_changed[] = "node_changed";
static const char event_removed[] = "node_removed";

/* What became of one record, to be told once the commit is on disk. */
struct node_change {
    char id[NODE_ID_MAX];
    const char *event;
};

struct node_changes {
    struct node_change *list;
    uint32_t count;
};

static void note(struct node_changes *c, const char *id, const char *event)
{
    struct node_change *n = &c->list[c->count++];
    memcpy(n->id, id, strlen(id) + 1);
    n->event = event;
}

/* The volatile part follows the durable one. A failure here takes nothing back: the nodes are as
 * they were asked to be, and the version shows it. */
static void tell(struct store *s, const struct node_changes *c)
{
    MDB_txn *txn;
    if (c->count == 0 || write_begin(&s->live, &txn) != ERR_OK)
        return;
    enum err e = ERR_OK;
    const uint64_t now_ms = clock_wall_ms();
    for (uint32_t i = 0; e == ERR_OK && i < c->count; i++) {
        const struct node_change *n = &c->list[i];
        if (n->event == event_removed)
            e = status_forget(s, txn, n->id);
        if (e == ERR_OK)
            e = event_append(s, txn, now_ms, n->event, n->id, n->id);
    }
    e = write_end(txn, e);
    (void)e;
}

/* Puts the record unless it is there already, word for word. */
static enum err put_record(struct store *s, MDB_txn *txn, const struct node *n,
                           struct node_changes *changes)
{
    char *text = NULL;
    MDB_val old;
    enum err e = node_record_write(n, &text);
    if (e != ERR_OK)
        return e;
    const MDB_val key = text_val(n->conf.id), fresh = val_of(text, strlen(text));
    const enum err known = db_get(txn, s->nodes, key, &old);
    if (known == ERR_NOT_FOUND) {
        MDB_stat st;
        e = store_err(mdb_stat(txn, s->nodes, &st));
        if (e == ERR_OK && st.ms_entries >= NODES_MAX)
            e = ERR_FULL;
    } else {
        e = known;
    }
    const bool same = known == ERR_OK && old.mv_size == fresh.mv_size &&
                      memcmp(old.mv_data, fresh.mv_data, old.mv_size) == 0;
    if (e == ERR_OK && !same) {
        e = db_put(txn, s->nodes, key, fresh);
        note(changes, n->conf.id, known == ERR_OK ? event_changed : event_added);
    }
    free(text);
    return e;
}

/* ERR_NOT_FOUND: nothing is there. */
static enum err etag_read(struct store *s, MDB_txn *txn, const char *id, uint64_t *etag)
{
    MDB_val v;
    const enum err e = db_get(txn, s->nodes, text_val(id), &v);
    if (e != ERR_OK)
        return e;
    *etag = etag_of(v);
    return ERR_OK;
}

static enum err etag_check(struct store *s, MDB_txn *txn, const char *id, uint64_t expected)
{
    uint64_t etag = 0;
    enum err e = etag_read(s, txn, id, &etag);
    if (e == ERR_NOT_FOUND) {
        e = ERR_OK;
        etag = STORE_ETAG_NONE;
    }
    if (e == ERR_OK && expected != STORE_ETAG_ANY && expected != etag)
        e = ERR_CONFLICT;
    return e;
}

static enum err put_if(struct store *s, MDB_txn *txn, const struct node *n, uint64_t etag,
                       uint64_t *new_etag, struct node_changes *changes)
{
    enum err e = etag_check(s, txn, n->conf.id, etag);
    if (e == ERR_OK)
        e = put_record(s, txn, n, changes);
    if (e == ERR_OK)
        e = etag_read(s, txn, n->conf.id, new_etag);
    return e;
}

enum err store_node_put_if(struct store *s, const struct node *n, uint64_t etag, uint64_t *new_etag)
{
    struct node_change room;
    struct node_changes changes = {.list = &room};
    uint64_t written = 0;
    MDB_txn *txn;
    if (n->conf.id[0] == '\0')
        return ERR_INVALID;
    enum err e = write_begin(&s->durable, &txn);
    if (e != ERR_OK)
        return e;
    e = write_end(txn, put_if(s, txn, n, etag, &written, &changes));
    if (e != ERR_OK)
        return e;
    tell(s, &changes);
    *new_etag = written;
    return ERR_OK;
}

enum err store_node_put(struct store *s, const struct node *n)
{
    uint64_t etag;
    return store_node_put_if(s, n, STORE_ETAG_ANY, &etag);
}

static enum err delete_if(struct store *s, MDB_txn *txn, const char *id, uint64_t etag)
{
    MDB_val key = text_val(id);
    uint64_t found = 0;
    enum err e = etag_read(s, txn, id, &found);
    if (e == ERR_OK)
        e = etag_check(s, txn, id, etag);
    return e == ERR_OK ? store_err(mdb_del(txn, s->nodes, &key, NULL)) : e;
}

enum err store_node_delete_if(struct store *s, const char *id, uint64_t etag)
{
    struct node_change room;
    struct node_changes changes = {.list = &room};
    MDB_txn *txn;
    if (id[0] == '\0' || strlen(id) >= NODE_ID_MAX)
        return ERR_NOT_FOUND;
    enum err e = write_begin(&s->durable, &txn);
    if (e != ERR_OK)
        return e;
    e = write_end(txn, delete_if(s, txn, id, etag));
    if (e == ERR_OK) {
        note(&changes, id, event_removed);
        tell(s, &changes);
    }
    return e;
}

enum err store_node_delete(struct store *s, const char *id)
{
    return store_node_delete_if(s, id, STORE_ETAG_ANY);
}

/* A node that is leaving goes once it carries nothing. */
static enum err remove_if_empty(struct store *s, MDB_txn *txn, const char *id,
                                struct node_changes *changes, bool *gone)
{
    enum err e = carries_nothing(s, id, gone);
    if (e != ERR_OK || !*gone)
        return e;
    e = db_delete(txn, s->nodes, text_val(id));
    if (e == ERR_OK)
        note(changes, id, event_removed);
    return e;
}

struct replacing {
    struct node_table *known;
    const struct node *nodes;
    uint32_t count;
    struct node_changes changes;
};

static bool listed(const struct replacing *r, const char *id)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (strcmp(r->nodes[i].conf.id, id) == 0)
            return true;
    }
    return false;
}

static enum err put_configured(struct store *s, MDB_txn *txn, struct replacing *r)
{
    enum err e = ERR_OK;
    for (uint32_t i = 0; e == ERR_OK && i < r->count; i++) {
        struct node n = r->nodes[i];
        const struct node *known = node_table_get(r->known, n.conf.id);
        if (known)
            n.admin = known->admin; /* the operator's word outlives a reload */
        if (known && n.addr.ss_family == 0 && strcmp(known->conf.rtmp, n.conf.rtmp) == 0)
            n.addr = known->addr; /* no name server now is no reason to lose the node */
        n.source = NODE_FROM_CONFIG;
        n.leaving = false;
        e = put_record(s, txn, &n, &r->changes);
    }
    return e;
}

static enum err drop_unlisted(struct store *s, MDB_txn *txn, struct replacing *r)
{
    enum err e = ERR_OK;
    for (uint32_t i = 0; e == ERR_OK && i < r->known->count; i++) {
        struct node n = r->known->nodes[i];
        bool gone;
        if (n.source != NODE_FROM_CONFIG || listed(r, n.conf.id))
            continue;
        e = remove_if_empty(s, txn, n.conf.id, &r->changes, &gone);
        if (e != ERR_OK || gone)
            continue;
        n.leaving = true;
        e = put_record(s, txn, &n, &r->changes);
    }
    return e;
}

static enum err replace_configured(struct store *s, MDB_txn *txn, struct replacing *r)
{
    enum err e = load_records(s, txn, r->known);
    if (e == ERR_OK)
        e = drop_unlisted(s, txn, r); /* first: it makes room */
    if (e == ERR_OK)
        e = put_configured(s, txn, r);
    return e;
}

enum err store_nodes_from_config(struct store *s, const struct node *nodes, uint32_t count,
                                 uint32_t *changed)
{
    struct replacing r = {.nodes = nodes, .count = count};
    MDB_txn *txn;
    if (count > NODES_MAX)
        return ERR_LIMIT;
    enum err e = node_table_create("", &r.known);
    if (e != ERR_OK)
        return e;
    r.changes.list = calloc((size_t)2 * NODES_MAX, sizeof *r.changes.list);
    if (!r.changes.list)
        e = ERR_NO_MEMORY;
    if (e == ERR_OK)
        e = write_begin(&s->durable, &txn);
    if (e == ERR_OK) /* an unchanged transaction writes nothing and costs no sync */
        e = write_end(txn, replace_configured(s, txn, &r));
    if (e == ERR_OK) {
        tell(s, &r.changes);
        *changed = r.changes.count;
    }
    free(r.changes.list);
    node_table_destroy(r.known);
    return e;
}

static enum err remove_leaving(struct store *s, MDB_txn *txn, const struct node_table *known,
                               struct node_changes *changes)
{
    enum err e = ERR_OK;
    for (uint32_t i = 0; e == ERR_OK && i < known->count; i++) {
        bool gone;
        if (known->nodes[i].leaving)
            e = remove_if_empty(s, txn, known->nodes[i].conf.id, changes, &gone);
    }
    return e;
}

static bool any_leaving_empty(const struct node_table *t)
{
    for (uint32_t i = 0; i < t->count; i++) {
        const struct node *n = &t->nodes[i];
        if (n->leaving && n->streams == 0 && n->sessions == 0)
            return true;
    }
    return false;
}

static enum err sweep_now(struct store *s, struct node_table *known, struct node_changes *changes)
{
    MDB_txn *txn;
    enum err e = write_begin(&s->durable, &txn);
    if (e != ERR_OK)
        return e;
    known->count = 0; /* again, now that nobody else can change them */
    e = load_records(s, txn, known);
    if (e == ERR_OK)
        e = remove_leaving(s, txn, known, changes);
    return write_end(txn, e);
}

enum err store_nodes_sweep(struct store *s, uint32_t *removed)
{
    struct node_table *known;
    struct node_changes changes = {0};
    enum err e = node_table_create("", &known);
    if (e != ERR_OK)
        return e;
    /* mostly there is nothing to do: look before taking the writer's lock */
    e = read_all(s, known, clock_wall_ms());
    if (e == ERR_OK && any_leaving_empty(known)) {
        changes.list = calloc(NODES_MAX, sizeof *changes.list);
        e = changes.list ? sweep_now(s, known, &changes) : ERR_NO_MEMORY;
    }
    if (e == ERR_OK) {
        tell(s, &changes);
        *removed = changes.count;
    }
    free(changes.list);
    node_table_destroy(known);
    return e;
}
