/* cluster/node_table.h - the RTMP nodes we may place streams on, and what we know about each: a process's snapshot of the store.
 * Facts only; decisions are in cluster/placement.h.
 * Owner:  main() creates one, frees it last. Across a return to the loop keep a node id, never a node pointer.
 * Thread: the process's only thread.
 * Errors: enum err; out-parameters change on ERR_OK only.      Tests: tests/unit/cluster/test_node_table.c */
#ifndef WEIR_CLUSTER_NODE_TABLE_H
#define WEIR_CLUSTER_NODE_TABLE_H

#include <sys/socket.h>

#include "config/config.h"

enum node_admin { NODE_ENABLED = 0, NODE_DRAIN, NODE_DISABLED }; /* what the operator says */
enum node_health { NODE_UNKNOWN = 0, NODE_UP, NODE_DOWN };       /* what healthd says; UNKNOWN without a fresh heartbeat */
enum node_source { NODE_FROM_CONFIG = 0, NODE_FROM_API };
const char *node_admin_name(enum node_admin a);   /* "enabled", "drain", "disabled" */
const char *node_health_name(enum node_health h); /* "unknown", "up", "down" */
enum err node_admin_parse(const char *s, enum node_admin *out);

/* What this process has found out itself of a node; it stays while the node is in the list. Monotonic times; 0: never. */
struct node_notes {
    uint64_t dial_failed_ms; /* last time it could not be dialled */
    uint64_t dial_told_ms;   /* when healthd was last told of that */
    bool answers_pings;      /* RTMP ones */
    uint32_t generations;    /* of its process, that healthd has seen; 0: not known */
    uint64_t reloaded_ms;    /* when there was another one */
};

struct node {
    struct config_node conf; /* id, address, weight, limits */
    enum node_admin admin;
    enum node_source source;
    bool leaving;            /* dropped from the file: takes nothing new, vanishes when empty */
    enum node_health health;
    uint64_t health_since_ms; /* Unix time of the last change of health: slow start */
    struct sockaddr_storage addr; /* resolved when the record was written; ss_family 0: not resolved */
    uint64_t seed;           /* of its id and the cluster: what is hashed with the stream key */
    uint32_t streams, sessions; /* carried now */
    uint64_t bandwidth;      /* bit/s, in or out, whichever is more; from healthd */
    struct node_notes notes;
};

struct node_table {
    struct node *nodes; /* sorted by id */
    uint32_t count;
    uint64_t version;   /* of the list this was read from */
    uint64_t cluster_seed;
};

MUST_CHECK enum err node_table_create(const char *cluster_name, struct node_table **out);
void node_table_destroy(struct node_table *t); /* NULL is allowed */
/* NULL: no node has that id. Valid until the table changes. */
struct node *node_table_find(struct node_table *t, const char *id);
const struct node *node_table_get(const struct node_table *t, const char *id);
/* Its max_streams, max_sessions; UINT32_MAX: none, or no node (NULL). */
uint32_t node_streams_limit(const struct node *n);
uint32_t node_sessions_limit(const struct node *n);
/* Adds or replaces the node with n's id; seed is set here; streams, sessions and notes of a replaced one stay. ERR_FULL: NODES_MAX. */
MUST_CHECK enum err node_table_put(struct node_table *t, const struct node *n);
/* What was found out of the node is for its new record, too; but at another address another one answers pings, or not. */
void node_keep_notes(struct node *fresh, const struct node *known);
MUST_CHECK enum err node_table_remove(struct node_table *t, const char *id);
/* Seeds for weighted rendezvous hashing: XXH3-64 of the id with the cluster's seed (hash of cluster.name). */
uint64_t node_seed(uint64_t cluster_seed, const char *id);
uint64_t cluster_seed(const char *cluster_name);

/* Which address it is; never 0. */
uint64_t node_address_hash(const struct sockaddr_storage *addr);
/* Resolves conf->rtmp (blocking: not in an event loop). Of several addresses *out stays if it is one of them, else it is the first in
 * the order of their bytes, which is the same whoever asks and whenever. ERR_INVALID: no such host. */
MUST_CHECK enum err node_resolve(const struct config_node *conf, struct sockaddr_storage *out);

#endif
