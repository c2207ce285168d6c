/* cluster/store.h - what the processes of a cluster share: nodes, health, claims, audience, sessions, processes, commands' results, events.
 * One interface; today's engine is store_lmdb.c ("lmdb:DIR"): a durable environment for nodes in DIR, a volatile one in
 * options.live for all else. Calls another engine would have to wait for (claims) take a callback; LMDB calls back before it returns.
 * Owner:  each process opens one, after fork, and closes it last.   Thread: the process's only thread.
 * Errors: ERR_IO: cannot be reached now, go on with what is known; ERR_VERSION: another schema; ERR_FULL: the map is full.
 * No call holds a transaction open when it returns. Time: Unix ms.   Tests: tests/unit/cluster/test_store.c */
#ifndef WEIR_CLUSTER_STORE_H
#define WEIR_CLUSTER_STORE_H

#include "cluster/node_table.h"
#include "cluster/placement.h"
#include "cluster/stream_key.h"

struct store;

struct store_options {
    const char *url;  /* "lmdb:DIR" */
    const char *live; /* directory of the volatile part */
    bool read_only;   /* --explain: ERR_NOT_FOUND if there is no store yet; creates nothing */
};
/* error: CONFIG_ERROR_MAX bytes, a sentence for the operator. Creates directories (0750). */
MUST_CHECK enum err store_open(const struct store_options *o, struct store **out, char *error);
void store_close(struct store *s);

/* A worker: a slot of a router. Its text form "router/slot" is the key of its records. */
struct worker_id {
    char router[ROUTER_ID_MAX];
    uint32_t slot;
};
bool worker_id_equal(const struct worker_id *a, const struct worker_id *b);

/* ---- nodes: durable, synced to disk before the call returns ---- */

/* Changes whenever a node record or a verdict does. One read, cheap: asked every STORE_POLL_MS. */
MUST_CHECK enum err store_nodes_version(struct store *s, uint64_t *version);
/* Replaces t's nodes by the store's, with health and loads; keeps dial_failed_ms. healthd's verdicts count only while its
 * heartbeat (process record) is fresh at now_ms. */
MUST_CHECK enum err store_nodes_read(struct store *s, struct node_table *t, uint64_t now_ms);
/* Only streams, sessions, bandwidth. Asked once a second. */
MUST_CHECK enum err store_loads_read(struct store *s, struct node_table *t);
/* Writes the configuration's nodes: added or changed ones are put (admin state of known ones stays), known ones from the
 * configuration that are missing now become `leaving` and vanish when they carry nothing. Nodes from the API are left alone.
 * *changed: how many records differ from before. */
MUST_CHECK enum err store_nodes_from_config(struct store *s, const struct node *nodes, uint32_t count, uint32_t *changed);
MUST_CHECK enum err store_node_put(struct store *s, const struct node *n);
MUST_CHECK enum err store_node_delete(struct store *s, const char *id);
/* Removes leaving nodes that carry nothing. */
MUST_CHECK enum err store_nodes_sweep(struct store *s, uint32_t *removed);
/* healthd's verdict. */
MUST_CHECK enum err store_health_put(struct store *s, const char *id, enum node_health health, uint64_t since_ms,
                                     uint64_t bandwidth);

/* ---- claims ---- */

enum claim_state { CLAIM_LIVE = 0, CLAIM_HINT };
struct claim {
    struct stream_key key;
    char node[NODE_ID_MAX]; /* the owner */
    enum claim_state state;
    struct worker_id worker; /* that holds the publisher (LIVE) */
    uint64_t session;        /* the publisher's session id */
    uint64_t epoch;          /* cluster-wide, only grows */
    uint64_t since_ms;       /* LIVE: taken; HINT: left */
    struct worker_id previous; /* taken over from it; the publisher there closes, then releases */
    uint64_t previous_epoch; /* of the claim taken over; 0: none */
    bool released;           /* the previous publisher's node link is closed */
    uint8_t client_addr[16]; /* the publisher's own address, v4 mapped; zero when it is a proxy's */
    uint64_t args_hash;      /* of its publish arguments; 0: none (takeover_same_client) */
};
typedef void store_claim_cb(void *arg, enum err e, const struct claim *c);

/* ERR_NOT_FOUND: neither live nor a hint younger than hold_ms. A LIVE claim whose worker's process record is gone
 * (5 s without heartbeat) reads as a HINT. */
void store_claim_get(struct store *s, const struct stream_key *key, uint64_t hold_ms, uint64_t now_ms, store_claim_cb *cb,
                     void *arg);

struct claim_request {
    const struct stream_key *key;
    const char *node;
    uint32_t bound;        /* streams the node may carry with this one; UINT32_MAX: none */
    struct worker_id worker;
    uint64_t session;
    uint64_t expect_epoch; /* of the claim read before, to be taken over or moved on; 0: there was no live one */
    uint64_t now_ms;
    uint64_t hold_ms;
    uint8_t client_addr[16];
    uint64_t args_hash;
};
/* Compare and set: ERR_OK: *c is ours, with its epoch. ERR_CONFLICT: another live claim than expect_epoch's is there, *c is it: decide
 * again. ERR_FULL: the node is at its bound: place again (*c is not set). The counts per node change in the same transaction. */
void store_claim_take(struct store *s, const struct claim_request *req, store_claim_cb *cb, void *arg);
/* The publisher left: LIVE of ours (epoch) becomes HINT. keep false: forget it (it never started). ERR_CONFLICT: no longer ours. */
MUST_CHECK enum err store_claim_release(struct store *s, const struct stream_key *key, uint64_t epoch, bool keep, uint64_t now_ms);
/* Taken over from us: our node link is closed (the new holder waits for it). */
MUST_CHECK enum err store_claim_handed_over(struct store *s, const struct stream_key *key, uint64_t old_epoch);
/* Hints older than hold_ms go, at most STORE_WRITE_RECORDS a call. */
MUST_CHECK enum err store_claims_sweep(struct store *s, uint64_t hold_ms, uint64_t now_ms, uint32_t *removed);
/* Live claims, for listings and tests; stops when cb returns false. */
MUST_CHECK enum err store_claims_list(struct store *s, bool (*cb)(void *arg, const struct claim *c), void *arg);

/* ---- the change log: what happened to claims ---- */

struct store_change {
    uint64_t seq;
    struct claim claim; /* as it is after the change */
};
/* Calls back for changes after *seq, oldest first, at most STORE_WRITE_RECORDS, and advances *seq. *lost: the log no longer
 * reaches back so far: re-read what matters. *seq 0 on first use: starts at the end. */
MUST_CHECK enum err store_changes_read(struct store *s, uint64_t *seq, bool *lost,
                                       void (*cb)(void *arg, const struct store_change *c), void *arg);

/* ---- sessions, audience ---- */

enum session_kind { SESSION_PUBLISH = 0, SESSION_PLAY };
struct session_record {
    uint64_t id; /* unique in the cluster: see store_session_id() */
    enum session_kind kind;
    struct worker_id worker;
    struct stream_key key;
    char client[ADDRESS_TEXT_MAX];
    char node[NODE_ID_MAX];
    uint64_t started_ms;
    uint64_t bytes_in, bytes_out; /* from and to the client */
    uint64_t bitrate;             /* bit/s of media, over the last refresh */
    uint32_t rehomes;
};
/* Never zero, differs between processes and restarts. */
MUST_CHECK enum err store_session_id(struct store *s, uint64_t *first, uint32_t count);
/* A session got its node (or another one): its record, the node's count, and for a player the audience record. */
MUST_CHECK enum err store_session_put(struct store *s, const struct session_record *r);
/* Counters only, of sessions that exist. count up to STORE_WRITE_RECORDS. */
MUST_CHECK enum err store_sessions_refresh(struct store *s, const struct session_record *r, uint32_t count);
MUST_CHECK enum err store_session_delete(struct store *s, uint64_t id);
MUST_CHECK enum err store_sessions_list(struct store *s, bool (*cb)(void *arg, const struct session_record *r), void *arg);
/* Workers that have players of the stream, those of `router` as a bit per slot: whom to ring. */
MUST_CHECK enum err store_audience(struct store *s, const struct stream_key *key, const char *router, uint64_t *slots,
                                   uint32_t *players);

/* ---- processes ---- */

enum process_kind { PROCESS_ROUTER = 0, PROCESS_HEALTHD, PROCESS_ADMIN };
struct process_record {
    enum process_kind kind;
    struct worker_id id; /* routers; the others: slot 0, router "" */
    uint32_t pid;
    char version[32];
    uint64_t started_ms, beat_ms;
    uint32_t sessions, publishers, players;
    uint64_t accepted, refused, placed, retried, failed_dials, taken_over, bytes_in, bytes_out; /* totals; continue a predecessor's */
};
/* Heartbeat, once a second; gone after 5 s without. */
MUST_CHECK enum err store_process_beat(struct store *s, const struct process_record *p);
MUST_CHECK enum err store_process_get(struct store *s, enum process_kind kind, const struct worker_id *id, struct process_record *out);
MUST_CHECK enum err store_process_delete(struct store *s, enum process_kind kind, const struct worker_id *id);
/* A new worker first clears its slot: its predecessor's sessions and audience go, its claims become hints. At most STORE_WRITE_RECORDS
 * a call; *left false when done. */
MUST_CHECK enum err store_slot_clean(struct store *s, const struct worker_id *id, uint64_t now_ms, bool *left);
/* Every 10 s: frees what dead readers hold. */
void store_check_readers(struct store *s);

/* ---- events: what happened, for people ---- */

/* Appended in the transaction of the change by the calls above; kinds: node_added, node_changed, node_removed, stream_started, stream_ended,
 * stream_taken_over. Newest last; at most STORE_EVENTS_KEEP. */
struct store_event {
    uint64_t id, time_ms;
    char kind[32];
    char subject[STREAM_KEY_MAX]; /* node id or stream key */
    char node[NODE_ID_MAX];
};
MUST_CHECK enum err store_events_list(struct store *s, uint64_t after, bool (*cb)(void *arg, const struct store_event *e), void *arg);

#endif
