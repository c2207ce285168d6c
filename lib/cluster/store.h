/* cluster/store.h - what the processes of a cluster share: nodes, their status, claims, found streams, audience, sessions, processes,
 * leases, commands, events.
 * One interface; today's engine is store_lmdb.c ("lmdb:DIR"): a durable environment for nodes in DIR, a volatile one in
 * options.live for all else. Calls another engine would have to wait for (claims) take a callback; LMDB calls back before it returns.
 * Owner:  each process opens one, after fork, and closes it last.   Thread: the process's only thread.
 * Errors: ERR_IO: cannot be reached now, go on with what is known; ERR_VERSION: another schema; ERR_FULL: the map is full.
 * No call holds a transaction open when it returns. Time: Unix ms.   Tests: tests/unit/cluster/test_store*.c */
#ifndef WEIR_CLUSTER_STORE_H
#define WEIR_CLUSTER_STORE_H

#include "cluster/close_why.h"
#include "cluster/process_histogram.h"
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

/* What happened at that time is less than ms ago. The wall clock may be set, so that is also said of less than ms ahead, and no more. */
static inline bool store_is_recent(uint64_t at_ms, uint64_t now_ms, uint64_t ms)
{
    return (now_ms > at_ms ? now_ms - at_ms : at_ms - now_ms) < ms;
}

/* A worker: a slot of a router. Its text form "router/slot" is the key of its records. */
struct worker_id {
    char router[ROUTER_ID_MAX];
    uint32_t slot;
};
bool worker_id_equal(const struct worker_id *a, const struct worker_id *b);

/* ---- nodes: durable, synced to disk before the call returns ---- */

/* Changes whenever a node record or a verdict does. Two reads, cheap: asked every STORE_POLL_MS. */
MUST_CHECK enum err store_nodes_version(struct store *s, uint64_t *version);
/* Replaces t's nodes by the store's, with health and loads; keeps its notes. What healthd says (health,
 * bandwidth) counts only while its heartbeat (process record) is fresh at now_ms. */
MUST_CHECK enum err store_nodes_read(struct store *s, struct node_table *t, uint64_t now_ms);
/* Only streams, sessions, bandwidth. Asked once a second. */
MUST_CHECK enum err store_loads_read(struct store *s, struct node_table *t, uint64_t now_ms);
/* Writes the configuration's nodes: added or changed ones are put (admin state of known ones stays), known ones from the
 * configuration that are missing now become `leaving` and vanish when they carry nothing. Nodes from the API are left alone.
 * *changed: how many records differ from before. */
MUST_CHECK enum err store_nodes_from_config(struct store *s, const struct node *nodes, uint32_t count, uint32_t *changed);
MUST_CHECK enum err store_node_put(struct store *s, const struct node *n);
MUST_CHECK enum err store_node_delete(struct store *s, const char *id);
/* Removes leaving nodes that carry nothing. */
MUST_CHECK enum err store_nodes_sweep(struct store *s, uint32_t *removed);

/* ---- one node, for the API: as above, but only if the record is still the one that was read ---- */

/* The etag is of the record's content as the operator wrote it, nothing measured: equal records have equal etags, so that a change
 * that was undone meanwhile is no conflict. */
#define STORE_ETAG_ANY UINT64_C(0)     /* whatever is there, or nothing */
#define STORE_ETAG_NONE UINT64_MAX     /* only if nothing is there */
/* *out as store_nodes_read() has it, but for the seed. ERR_NOT_FOUND. */
MUST_CHECK enum err store_node_get(struct store *s, const char *id, struct node *out, uint64_t *etag);
/* ERR_CONFLICT: another record is there, or one where none should be, or none where one should be. ERR_FULL: NODES_MAX. */
MUST_CHECK enum err store_node_put_if(struct store *s, const struct node *n, uint64_t etag, uint64_t *new_etag);
/* ERR_NOT_FOUND: nothing is there; ERR_CONFLICT: another record is. */
MUST_CHECK enum err store_node_delete_if(struct store *s, const char *id, uint64_t etag);

/* ---- what healthd knows of a node ---- */

enum { STATUS_REASON_MAX = 160, STATUS_VERSION_MAX = 64 };
struct node_status {
    char id[NODE_ID_MAX];
    enum node_health health;
    uint64_t since_ms;                    /* of health */
    uint64_t checked_ms;                  /* when the last round of checks ended */
    char reason[STATUS_REASON_MAX];       /* of the verdict: "rtmp: no handshake within 1000 ms" */
    uint32_t latency_us;                  /* of the last good rtmp check; 0: none yet */
    uint64_t bandwidth_in, bandwidth_out; /* bit/s, from stat; so for the next line */
    uint32_t clients, publishers;
    char version[STATUS_VERSION_MAX];     /* "nginx 1.22.1, nginx-rtmp 1.1.4" */
    uint32_t pid;
    uint64_t process_started_ms;          /* with pid: the generation */
    uint32_t generations;                 /* how many were seen, the first one included; 0: none yet */
    bool skewed, stuck, flapping;
    uint64_t checks, failures, transitions; /* totals */
};
/* Up to STORE_WRITE_RECORDS at once; those of nodes that are no longer there are left out. The version of the node list changes only if
 * a health or its since_ms does. Appends node_up, node_down when health becomes that, node_reloaded when generations grows beyond 1. */
MUST_CHECK enum err store_status_put(struct store *s, const struct node_status *st, uint32_t count, uint64_t now_ms);
/* As last written, whether or not healthd is alive. The list ends when cb returns false. */
MUST_CHECK enum err store_status_list(struct store *s, bool (*cb)(void *arg, const struct node_status *st), void *arg);
MUST_CHECK enum err store_status_get(struct store *s, const char *id, struct node_status *out);

/* Passive checks: a router could not dial the node, which healthd counts as a failed probe. A node that is not there is left out. */
struct dial_failures {
    char node[NODE_ID_MAX];
    uint64_t count, last_ms;
};
MUST_CHECK enum err store_dial_failed(struct store *s, const char *node, uint64_t now_ms);
MUST_CHECK enum err store_dial_failures_list(struct store *s, bool (*cb)(void *arg, const struct dial_failures *f), void *arg);

/* ---- claims ---- */

/* FOUND: no claim at all; healthd saw the stream live on the node. A hint for players, nothing to a publisher: it may be a ghost. */
enum claim_state { CLAIM_LIVE = 0, CLAIM_HINT, CLAIM_FOUND };
struct claim {
    struct stream_key key;
    char node[NODE_ID_MAX]; /* the owner */
    char next[NODE_ID_MAX]; /* LIVE and being moved there; "": not moving */
    bool planned;           /* and the old node still has it: players leave it when the new one has caught up */
    bool stays;             /* the move was called back: the stream has never left the connection that it was to leave */
    uint32_t replay_time;   /* RTMP time of the first message that next is given */
    enum claim_state state;
    struct worker_id worker; /* that holds the publisher (LIVE) */
    uint64_t session;        /* the publisher's session id */
    uint64_t epoch;          /* cluster-wide, only grows */
    uint64_t publication;    /* the epoch it was first taken at: the same through all moves of a publication */
    uint64_t since_ms;       /* LIVE: taken; HINT: left; FOUND: first seen (worker, session, epoch are empty) */
    struct worker_id previous; /* taken over from it; the publisher there closes, then releases */
    uint64_t previous_epoch; /* of the claim taken over; 0: none */
    bool released;           /* the previous publisher's node link is closed */
    uint8_t client_addr[16]; /* the publisher's own address, v4 mapped; zero when it is a proxy's */
    uint64_t args_hash;      /* of its publish arguments; 0: none (takeover_same_client) */
};
/* Where players are to be: the node it moves to, or the owner. */
static inline const char *claim_serving(const struct claim *c)
{
    return c->next[0] ? c->next : c->node;
}
struct session_record;
typedef void store_claim_cb(void *arg, enum err e, const struct claim *c);

/* ERR_NOT_FOUND: neither live, nor a hint younger than hold_ms, nor found within STORE_FOUND_MS. A LIVE claim whose worker's
 * process record is gone (5 s without heartbeat) reads as a HINT. */
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
    const struct session_record *record; /* the publisher's, put with the claim as by store_session_put(); NULL: none */
};
/* Compare and set: ERR_OK: *c is ours, with its epoch, and the record is written. ERR_CONFLICT: another live claim than expect_epoch's is
 * there, *c is it: decide again. ERR_FULL: the node is at its bound: place again (*c is not set). The counts per node change in the same
 * transaction. */
void store_claim_take(struct store *s, const struct claim_request *req, store_claim_cb *cb, void *arg);
enum claim_way {
    CLAIM_WAY_LOST = 0, /* the old node has it no more */
    CLAIM_WAY_PLANNED,  /* claim.planned */
    CLAIM_WAY_BACK,     /* claim.stays: next is where it is */
};
struct claim_move {
    const struct stream_key *key;
    uint64_t epoch; /* ours */
    const char *next;
    uint32_t bound; /* most streams next may carry with this one; UINT32_MAX: any */
    enum claim_way way;
    uint32_t replay_time;
    uint64_t now_ms;
};
/* Ours moves to the node next, which has the publication already: a new epoch, which players follow. May be called again while it
 * moves. next may be the owner itself, for players have to attach anew. ERR_CONFLICT: no longer ours. ERR_FULL: next is at its bound:
 * place again. Event stream_moving. */
void store_claim_move(struct store *s, const struct claim_move *move, store_claim_cb *cb, void *arg);
/* next is the owner now; the epoch stays. Event stream_moved. record: the publisher's, put with it; NULL: none. ERR_CONFLICT: no longer
 * ours, or not moving; the record is put all the same. */
MUST_CHECK enum err store_claim_arrived(struct store *s, const struct stream_key *key, uint64_t epoch, const struct session_record *record,
                                        uint64_t now_ms);
struct claim_end {
    const struct stream_key *key;
    uint64_t epoch;   /* ours */
    bool keep;        /* as a hint; false: forget it (it never started) */
    uint64_t session; /* whose record is deleted with it; 0: nobody's */
    uint64_t now_ms;
};
/* The publisher left: LIVE of ours becomes HINT. ERR_CONFLICT: no longer ours; the record is gone all the same. */
MUST_CHECK enum err store_claim_release(struct store *s, const struct claim_end *end);
/* Taken over from us: our node link is closed (the new holder waits for it). */
MUST_CHECK enum err store_claim_handed_over(struct store *s, const struct stream_key *key, uint64_t old_epoch);
/* Hints older than hold_ms go, at most STORE_WRITE_RECORDS a call. */
MUST_CHECK enum err store_claims_sweep(struct store *s, uint64_t hold_ms, uint64_t now_ms, uint32_t *removed);
/* Live claims: a worker's; all, for listings and tests, in the order of their keys, after that one (NULL: from the first). Stop when cb
 * returns false. */
MUST_CHECK enum err store_claims_of(struct store *s, const struct worker_id *id, bool (*cb)(void *arg, const struct claim *c), void *arg);
MUST_CHECK enum err store_claims_list(struct store *s, const char *after, bool (*cb)(void *arg, const struct claim *c), void *arg);

/* ---- found streams: live on a node by its own word, whoever published them ---- */

enum { STORE_FOUND_MS = 10000 }; /* so long after it was last seen a stream counts as live there */
/* Seen on the node now, up to STORE_WRITE_RECORDS at once; to be repeated well within STORE_FOUND_MS. Of several nodes with the same stream
 * the one where it appeared last is given. */
MUST_CHECK enum err store_found_put(struct store *s, const char *node, const struct stream_key *keys, uint32_t count, uint64_t now_ms);
/* Those not seen for STORE_FOUND_MS go, at most STORE_WRITE_RECORDS a call. */
MUST_CHECK enum err store_found_sweep(struct store *s, uint64_t now_ms, uint32_t *removed);

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
/* A session got its node (or another one): its record, the node's count, and for a player the audience record. The first time it is
 * an event too, and so is its end. */
MUST_CHECK enum err store_session_put(struct store *s, const struct session_record *r);
/* Counters only, of sessions that exist. count up to STORE_WRITE_RECORDS. */
MUST_CHECK enum err store_sessions_refresh(struct store *s, const struct session_record *r, uint32_t count);
MUST_CHECK enum err store_session_get(struct store *s, uint64_t id, struct session_record *out);
MUST_CHECK enum err store_session_delete(struct store *s, uint64_t id);
/* A worker's; all with greater ids, in their order. Stop when cb returns false. */
MUST_CHECK enum err store_sessions_of(struct store *s, const struct worker_id *id, bool (*cb)(void *arg, uint64_t id), void *arg);
MUST_CHECK enum err store_sessions_list(struct store *s, uint64_t after, bool (*cb)(void *arg, const struct session_record *r), void *arg);
/* Workers that have players of the stream, those of `router` as a bit per slot: whom to ring. */
MUST_CHECK enum err store_audience(struct store *s, const struct stream_key *key, const char *router, uint64_t *slots,
                                   uint32_t *players);

/* The worker's players of the stream are attached where the claim of that epoch wants them; cut: they have left the old node, too.
 * ERR_NOT_FOUND: it has no players. */
MUST_CHECK enum err store_audience_mark(struct store *s, const struct stream_key *key, const struct worker_id *worker, uint64_t epoch,
                                        bool cut);
/* How many live workers with players of the stream have not marked that epoch, or not as cut. */
MUST_CHECK enum err store_audience_behind(struct store *s, const struct stream_key *key, uint64_t epoch, bool cut, uint64_t now_ms,
                                          uint32_t *behind);

/* ---- processes ---- */

enum process_kind { PROCESS_ROUTER = 0, PROCESS_HEALTHD, PROCESS_ADMIN };
/* What a session waits for until its stream starts. */
enum setup_phase {
    SETUP_LOOKUP = 0, /* claim and placement */
    SETUP_DIAL,       /* TCP connect and the node's handshake */
    SETUP_ANSWER,     /* the node's answer to publish or play */
    SETUP_TOTAL,      /* the client's publish or play, until it is answered */
};
enum { SETUP_PHASE_COUNT = SETUP_TOTAL + 1 };
const char *setup_phase_name(enum setup_phase p); /* "lookup", "dial", "answer", "total" */

/* Why a live stream is moved. */
enum rehome_cause {
    REHOME_ENDED = 0, /* its node closed the connection */
    REHOME_SILENT,    /* neither bytes nor an answer to pings for failover.stall */
    REHOME_BAD,       /* what it sent was not RTMP */
    REHOME_DRAIN,     /* drained, disabled or dropped from the configuration */
    REHOME_RELOAD,    /* another generation of the node takes new connections */
    REHOME_COMMAND,   /* by the operator, through the API */
};
enum { REHOME_CAUSE_COUNT = REHOME_COMMAND + 1 };
const char *rehome_cause_name(enum rehome_cause c); /* "ended", "silent", "bad", "drain", "reload", "command" */

enum { HEALTHD_ACTIVE_SLOT = 0, /* routers look at this one's heartbeat */ HEALTHD_STANDBY_SLOT };
enum { PROCESS_CLOSED_COUNT = 64 }; /* room for reasons to come */
_Static_assert((int)WHY_COUNT <= (int)PROCESS_CLOSED_COUNT, "a reason has no counter");
struct process_record {
    enum process_kind kind;
    struct worker_id id; /* routers; the others: router "", slot 0; a healthd that stands by: HEALTHD_STANDBY_SLOT */
    uint32_t pid;
    char version[32];
    uint64_t started_ms, beat_ms;
    uint32_t sessions, publishers, players;
    /* Totals; they continue a predecessor's. */
    uint64_t accepted, refused, placed, retried, failed_dials, taken_over, players_moved, bytes_in, bytes_out, store_errors;
    uint64_t closed[PROCESS_CLOSED_COUNT]; /* sessions, by enum close_why */
    struct process_histogram setup[SETUP_PHASE_COUNT];
    uint64_t rehomed[REHOME_CAUSE_COUNT];  /* publishers that came through a move */
    uint64_t rehome_failed;                /* those whose move ended the session */
    uint64_t rehomed_players;
    uint64_t rehome_dropped;               /* messages given up while there was no node, beyond failover.gop_bytes */
    struct process_histogram rehome_gap;   /* without media at a player */
    uint64_t kept_cuts;                    /* groups of pictures given up beyond failover.gop_bytes, or for want of memory */
    uint64_t kept_bytes;                   /* now, of all publishers: for failover.reach */
    uint64_t kept_stream_bytes;            /* now, of the publisher with the most */
    uint64_t shared_links;                 /* now: node links that several players may share */
    uint64_t share_skips;                  /* a player of one was so slow that it missed a group of pictures */
    uint64_t checks, check_failures, transitions; /* healthd: of all nodes, deleted ones too */
    uint64_t requests;                            /* admin */
    uint64_t lines_lost;                          /* of its log; with those of a router's parent in slot 0 */
    uint64_t memory_bytes;                        /* in use now: blocks of the pool */
    uint32_t loop_turn_max_us;                    /* longest turn of the event loop since the last beat, by wall clock */
    struct process_histogram loop_turns;          /* CPU time of all */
    uint64_t nodes_version;                       /* a worker: of the node list that it acts on; told at once, not at the next beat */
};
/* Heartbeat, once a second; gone after 5 s without. */
MUST_CHECK enum err store_process_beat(struct store *s, const struct process_record *p);
MUST_CHECK enum err store_process_get(struct store *s, enum process_kind kind, const struct worker_id *id, struct process_record *out);
/* All there ever were, dead ones too: their counters go on counting. */
MUST_CHECK enum err store_processes_list(struct store *s, bool (*cb)(void *arg, const struct process_record *p), void *arg);
MUST_CHECK enum err store_process_delete(struct store *s, enum process_kind kind, const struct worker_id *id);
/* A new worker first clears its slot: its predecessor's sessions and audience go, its claims become hints. At most STORE_WRITE_RECORDS
 * a call; *left false when done. */
MUST_CHECK enum err store_slot_left(struct store *s, const struct worker_id *id, bool *left); /* read only */
MUST_CHECK enum err store_slot_clean(struct store *s, const struct worker_id *id, uint64_t now_ms, bool *left);
/* Every 10 s: frees what dead readers hold. */
void store_check_readers(struct store *s);

/* ---- leases: of several healthds one works ---- */

enum { LEASE_NAME_MAX = 32 };
/* Takes or renews it. holder: a random number, never 0. ERR_CONFLICT: somebody else renewed it less than ttl_ms ago. */
MUST_CHECK enum err store_lease_take(struct store *s, const char *name, uint64_t holder, uint64_t ttl_ms, uint64_t now_ms);
/* ERR_NOT_FOUND: it is not the holder's. */
MUST_CHECK enum err store_lease_drop(struct store *s, const char *name, uint64_t holder);

/* ---- commands: admin to a worker ---- */

enum command_kind { COMMAND_KICK = 0, COMMAND_MOVE }; /* MOVE: the publisher's stream, to node */
enum command_state { COMMAND_PENDING = 0, COMMAND_DONE, COMMAND_FAILED };
enum { COMMAND_RESULT_MAX = 64, STORE_COMMANDS_AT_ONCE = 16, STORE_COMMAND_KEEP_MS = 60000 };
struct store_command {
    uint64_t id;
    enum command_kind kind;
    struct worker_id worker;
    uint64_t session;
    char node[NODE_ID_MAX]; /* MOVE; "": wherever placement says */
    uint64_t posted_ms, deadline_ms;
    enum command_state state;
    char result[COMMAND_RESULT_MAX]; /* "closed", "no such session" */
};
/* id and state are set here. */
MUST_CHECK enum err store_command_post(struct store *s, struct store_command *c);
/* Pending ones for this worker whose deadline has not passed, oldest first, at most STORE_COMMANDS_AT_ONCE. One read when there are
 * none: asked every STORE_POLL_MS. cb may use the store. */
MUST_CHECK enum err store_commands_pending(struct store *s, const struct worker_id *w, uint64_t now_ms,
                                           bool (*cb)(void *arg, const struct store_command *c), void *arg);
/* ERR_NOT_FOUND: withdrawn or swept; ERR_CONFLICT: finished already. */
MUST_CHECK enum err store_command_finish(struct store *s, uint64_t id, enum command_state state, const char *result);
MUST_CHECK enum err store_command_get(struct store *s, uint64_t id, struct store_command *out);
/* Takes a pending one back: nobody will see it again. ERR_CONFLICT: it was carried out meanwhile. ERR_NOT_FOUND. */
MUST_CHECK enum err store_command_withdraw(struct store *s, uint64_t id);
/* Those posted STORE_COMMAND_KEEP_MS ago go, at most STORE_WRITE_RECORDS a call. */
MUST_CHECK enum err store_commands_sweep(struct store *s, uint64_t now_ms, uint32_t *removed);

/* ---- events: what happened, for people ---- */

/* Appended in the transaction of the change by the calls above; kinds: node_added, node_changed, node_removed, node_up, node_down,
 * node_reloaded, stream_started, stream_ended, stream_taken_over, stream_moving, stream_moved, session_started, session_ended. Newest
 * last; at most STORE_EVENTS_KEEP. */
struct store_event {
    uint64_t id, time_ms;
    char kind[32];
    char subject[STREAM_KEY_MAX]; /* node id or stream key */
    char node[NODE_ID_MAX];
};
MUST_CHECK enum err store_events_list(struct store *s, uint64_t after, bool (*cb)(void *arg, const struct store_event *e), void *arg);

#endif
