/* cluster/placement.h - which node owns a stream: one pure function over (nodes, claim, stream key, exclusions), that can explain
 * itself (DESIGN 4). Weighted rendezvous hashing: score = -weight / ln(h), h from XXH3-64 of the stream key with the node's seed, mapped to
 * (0,1); highest first. Bounded load: ceil(factor * weight / weights * (streams + 1)).
 * No clock, no allocation beyond the caller's arrays.   Tests: tests/unit/cluster/test_placement.c */
#ifndef WEIR_CLUSTER_PLACEMENT_H
#define WEIR_CLUSTER_PLACEMENT_H

#include "cluster/node_table.h"
#include "cluster/stream_key.h"

enum place_kind { PLACE_PUBLISH = 0, PLACE_PLAY };

/* Why a node was or was not chosen. */
enum place_why {
    PLACE_OK = 0,
    PLACE_EXCLUDED,      /* this session already tried it */
    PLACE_DISABLED,
    PLACE_DRAINING,
    PLACE_LEAVING,       /* dropped from the configuration */
    PLACE_DOWN,
    PLACE_WEIGHT_ZERO,
    PLACE_UNRESOLVED,    /* its host name has no address */
    PLACE_LOAD_BOUND,    /* over its weighted share times placement.max_load_factor */
    PLACE_MAX_STREAMS,
    PLACE_MAX_SESSIONS,
    PLACE_MAX_BANDWIDTH,
};
enum { PLACE_WHY_COUNT = PLACE_MAX_BANDWIDTH + 1 };
const char *place_why_name(enum place_why w); /* "ok", "excluded", ... */

/* How the answer came about. */
enum place_reason {
    PLACED_CLAIM = 0, /* the stream is live there */
    PLACED_HINT,      /* it was there until lately (placement.hold) */
    PLACED_HASH,      /* first of the order */
    PLACED_FALLBACK,  /* a later one of the order */
    PLACED_NOWHERE,
};
enum { PLACE_REASON_COUNT = PLACED_NOWHERE + 1 };
const char *place_reason_name(enum place_reason r); /* "claim", "hint", "hash", "fallback", "nowhere" */

struct place_request {
    const struct stream_key *key;
    enum place_kind kind;
    const char *owner;    /* node of a valid claim, or NULL */
    const char *hint;     /* node of a claim that is held or a hint, or NULL */
    const char *here;     /* the node that counts this session already: it has room for that; or NULL */
    uint32_t here_sessions; /* as so many: a node link that players share is one for each; 0: as one */
    const char *next;     /* the one that counts its stream, too, while that moves; or NULL */
    const char (*exclude)[NODE_ID_MAX]; /* nodes not to use */
    uint32_t exclude_count;
    bool calm;            /* it is well where it is: not to a node that is down, however few are up */
    uint64_t now_wall_ms, now_mono_ms;
};

struct place_candidate {
    const struct node *node;
    double score;       /* higher is earlier; slow start lowers it */
    enum place_why why; /* PLACE_OK: eligible */
    bool late;          /* its last dial failed within the last second: comes after the others */
    uint32_t bound;     /* streams it may carry by bounded load and max_streams; UINT32_MAX: no bound */
};

struct place_result {
    const struct node *node; /* NULL: nowhere */
    enum place_reason reason;
    uint32_t bound;          /* for the claim's transaction: streams the node may carry, this one included */
    bool panic;              /* placed among all enabled nodes: too few are up */
    bool all_sessions_full;  /* a player found its node at max_sessions */
    uint32_t candidate_count;
};

/* candidates: room for nodes->count of them, or NULL when no explanation is wanted; filled in placement order. A
 * live stream's owner is the answer whatever its load; only a player can be refused there, by max_sessions. */
void place(const struct node_table *nodes, const struct config_placement *policy, const struct place_request *req,
           struct place_candidate *candidates, struct place_result *out);

/* weight after slow start: 10 % when it just came up, all of it after policy->slow_start_ms, or so long before: of a clock set back. */
double place_weight(const struct node *n, const struct config_placement *policy, uint64_t now_wall_ms);

#endif
