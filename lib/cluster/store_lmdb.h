/* cluster/store_lmdb.h - what the files of the LMDB engine share: environments, transactions,
 * counters, the records' get and put. Included by store_lmdb*.c only. A write transaction ends in
 * write_end() on every way out; a read transaction in read_end(), in the function that began it.
 * Two environments are never written in one transaction: the nodes' commit comes first, the
 * volatile part follows. */
#ifndef WEIR_CLUSTER_STORE_LMDB_H
#define WEIR_CLUSTER_STORE_LMDB_H

#include <string.h>

#include <lmdb.h>

#include "cluster/store.h"
#include "cluster/store_record.h"

enum { PROCESS_GONE_MS = 5000 }; /* without a heartbeat */

/* The databases of the volatile environment. */
enum live_db {
    DB_META = 0,  /* schema and counters, by name */
    DB_STATUS,    /* node id -> node_status */
    DB_LOADS,     /* node id -> load_record */
    DB_CLAIMS,    /* stream key -> claim */
    DB_HINTS,     /* since, epoch -> stream key: the order in which hints end */
    DB_OWNED,     /* worker, kind, epoch or session id -> stream key: what a slot leaves behind */
    DB_CHANGES,   /* number -> claim */
    DB_SESSIONS,  /* id -> session_record */
    DB_AUDIENCE,  /* hash of the stream key, worker -> audience_record */
    DB_PROCESSES, /* kind/router/slot -> process_record */
    DB_EVENTS,    /* number -> store_event */
    DB_DIALS,     /* node id -> dial_failures */
    DB_FOUND,     /* hash of the stream key, node id -> found_record */
    DB_LEASES,    /* name -> lease_record */
    DB_COMMANDS,  /* id -> store_command */
    DB_PENDING,   /* worker, command id -> nothing: what a worker has to do */
};
enum { LIVE_DB_COUNT = DB_PENDING + 1 };

/* Counters in DB_META. A new environment's begin at the wall clock, so that they go on growing when
 * /run was wiped. */
enum counter {
    COUNTER_EPOCH = 0,
    COUNTER_NODES,
    COUNTER_CHANGE,
    COUNTER_SESSION,
    COUNTER_EVENT,
    COUNTER_COMMAND,
};
enum { COUNTER_COUNT = COUNTER_COMMAND + 1 };

struct store_env {
    MDB_env *env;
    MDB_txn *reader; /* reset between uses */
    bool reader_busy;
};

struct store {
    struct store_env durable; /* nodes */
    struct store_env live;    /* all else */
    MDB_dbi durable_meta, nodes;
    MDB_dbi db[LIVE_DB_COUNT];    /* of live */
    struct store_change *changes; /* room for one store_changes_read() */
};

enum err store_err(int mdb);
/* ERR_OK: end it with read_end() before returning. Calls may nest. */
MUST_CHECK enum err read_begin(struct store_env *e, MDB_txn **txn);
void read_end(struct store_env *e, MDB_txn *txn);
MUST_CHECK enum err write_begin(struct store_env *e, MDB_txn **txn);
/* Commits if e is ERR_OK, else aborts; gives what came of it. */
MUST_CHECK enum err write_end(MDB_txn *txn, enum err e);

static inline MDB_val val_of(const void *p, size_t len)
{
    return (MDB_val){.mv_size = len, .mv_data = (void *)(uintptr_t)p};
}

MUST_CHECK enum err db_get(MDB_txn *txn, MDB_dbi db, MDB_val key, MDB_val *value);
MUST_CHECK enum err db_put(MDB_txn *txn, MDB_dbi db, MDB_val key, MDB_val value);
/* A record that is not there is no error. */
MUST_CHECK enum err db_delete(MDB_txn *txn, MDB_dbi db, MDB_val key);

/* The first record at or after `from` (an empty key: the first of all). What it gives is the map's
 * own memory: gone with the next write. */
MUST_CHECK enum err db_first(MDB_txn *txn, MDB_dbi db, MDB_val from, MDB_val *key, MDB_val *value);
/* Calls fn for each record from there on, until it gives an error or clears *more. */
typedef enum err db_scan_fn(void *arg, MDB_val key, MDB_val value, bool *more);
MUST_CHECK enum err db_scan(MDB_txn *txn, MDB_dbi db, MDB_val from, db_scan_fn *fn, void *arg);
/* The same in a read transaction of its own. */
MUST_CHECK enum err live_scan(struct store *s, enum live_db db, MDB_val from, db_scan_fn *fn,
                              void *arg);

/* Takes the next n numbers, *first the lowest. */
MUST_CHECK enum err counter_take(struct store *s, MDB_txn *txn, enum counter c, uint64_t n,
                                 uint64_t *first);
MUST_CHECK enum err counter_get(struct store *s, MDB_txn *txn, enum counter c, uint64_t *value);

static inline MDB_val text_val(const char *s)
{
    return val_of(s, strlen(s));
}

static inline bool begins_with(MDB_val v, MDB_val prefix)
{
    return v.mv_size >= prefix.mv_size && memcmp(v.mv_data, prefix.mv_data, prefix.mv_size) == 0;
}

/* DB_OWNED and DB_PENDING keys: everything of one worker has the same prefix. */
enum owned_kind { OWNED_CLAIM = 'c', OWNED_COMMAND = 'k', OWNED_SESSION = 's' };
enum { OWNED_KEY_MAX = ROUTER_ID_MAX + 1 + 4 + 1 + 8 };
MDB_val owned_prefix(const struct worker_id *id, uint8_t buf[OWNED_KEY_MAX]);
MDB_val owned_key(const struct worker_id *id, enum owned_kind kind, uint64_t number,
                  uint8_t buf[OWNED_KEY_MAX]);
/* value: the stream key. *more false: enough. */
typedef enum err owned_fn(struct store *s, MDB_txn *txn, uint64_t number, MDB_val value, void *arg,
                          bool *more);
MUST_CHECK enum err owned_scan(struct store *s, const struct worker_id *id, enum owned_kind kind,
                               owned_fn *fn, void *arg);
/* A key of a database ends at 511 bytes, too few for a stream and something else: the stream counts
 * by its hash. */
enum { STREAM_HASH_BYTES = 16 };
MDB_val stream_prefix(const struct stream_key *k, uint8_t buf[STREAM_HASH_BYTES]);
uint64_t number_at(const uint8_t *p); /* 8 bytes, big-endian */
void number_put(uint8_t *p, uint64_t v);

/* Adds to what a node carries; never below zero. node "": nothing. */
MUST_CHECK enum err load_add(struct store *s, MDB_txn *txn, const char *node, int streams,
                             int sessions);
/* Zero if nothing is known of it. */
MUST_CHECK enum err load_get(struct store *s, MDB_txn *txn, const char *node,
                             struct load_record *out);

/* Whether there is a record of the node. */
MUST_CHECK enum err node_known(struct store *s, const char *id, bool *known);
/* ERR_OK and all zero: healthd has not written of it. */
MUST_CHECK enum err status_get(struct store *s, MDB_txn *txn, const char *node,
                               struct node_status *out);
/* The node is gone, and what was measured of it. */
MUST_CHECK enum err status_forget(struct store *s, MDB_txn *txn, const char *node);
/* Where healthd saw the stream; ERR_NOT_FOUND. */
MUST_CHECK enum err found_get(struct store *s, MDB_txn *txn, const struct stream_key *key,
                              uint64_t now_ms, struct found_record *out);

MUST_CHECK enum err event_append(struct store *s, MDB_txn *txn, uint64_t now_ms, const char *kind,
                                 const char *subject, const char *node);

MUST_CHECK enum err process_get(struct store *s, MDB_txn *txn, enum process_kind kind,
                                const struct worker_id *id, struct process_record *out);
/* Its heartbeat is younger than PROCESS_GONE_MS. */
MUST_CHECK enum err process_alive(struct store *s, MDB_txn *txn, enum process_kind kind,
                                  const struct worker_id *id, uint64_t now_ms, bool *alive);

/* A part of store_slot_clean(): the claim becomes a hint if it still has that epoch. */
MUST_CHECK enum err claim_leave(struct store *s, MDB_txn *txn, const struct stream_key *key,
                                uint64_t epoch, bool keep, uint64_t now_ms);
/* store_session_put() and store_session_delete() within another change. */
MUST_CHECK enum err session_place(struct store *s, MDB_txn *txn, const struct session_record *r);
MUST_CHECK enum err session_end(struct store *s, MDB_txn *txn, uint64_t id, uint64_t now_ms);

#endif
