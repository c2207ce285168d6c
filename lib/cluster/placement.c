#include "cluster/placement.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { DIAL_FAILED_LATE_MS = 1000 };
static const double slow_start_floor = 0.1;

static const char *const why_names[PLACE_WHY_COUNT] = {
    [PLACE_OK] = "ok",
    [PLACE_EXCLUDED] = "excluded",
    [PLACE_DISABLED] = "disabled",
    [PLACE_DRAINING] = "draining",
    [PLACE_LEAVING] = "leaving",
    [PLACE_DOWN] = "down",
    [PLACE_WEIGHT_ZERO] = "weight_zero",
    [PLACE_UNRESOLVED] = "unresolved",
    [PLACE_LOAD_BOUND] = "load_bound",
    [PLACE_MAX_STREAMS] = "max_streams",
    [PLACE_MAX_SESSIONS] = "max_sessions",
    [PLACE_MAX_BANDWIDTH] = "max_bandwidth",
};

static const char *const reason_names[PLACE_REASON_COUNT] = {
    [PLACED_CLAIM] = "claim",       [PLACED_HINT] = "hint",       [PLACED_HASH] = "hash",
    [PLACED_FALLBACK] = "fallback", [PLACED_NOWHERE] = "nowhere",
};

const char *place_why_name(enum place_why w)
{
    return why_names[w];
}

const char *place_reason_name(enum place_reason r)
{
    return reason_names[r];
}

double place_weight(const struct node *n, const struct config_placement *policy,
                    uint64_t now_wall_ms)
{
    const double weight = n->conf.weight;
    if (n->health != NODE_UP || policy->slow_start_ms == 0)
        return weight;
    const bool ahead = n->health_since_ms > now_wall_ms; /* the clock was set back */
    const uint64_t off_ms =
        ahead ? n->health_since_ms - now_wall_ms : now_wall_ms - n->health_since_ms;
    if (off_ms >= policy->slow_start_ms)
        return weight;
    const uint64_t up_ms = ahead ? 0 : off_ms;
    const double part = (double)up_ms / (double)policy->slow_start_ms;
    return weight * (slow_start_floor + (1 - slow_start_floor) * part);
}

/* What is the same for all nodes of one request. */
struct round {
    const struct config_placement *policy;
    const struct place_request *req;
    bool panic;
    double weights;   /* of the nodes that share what there is */
    uint64_t streams; /* they carry */
};

/* What speaks against the node whatever it carries. */
static enum place_why standing(const struct node *n, bool panic)
{
    if (n->admin == NODE_DISABLED)
        return PLACE_DISABLED;
    if (n->admin == NODE_DRAIN)
        return PLACE_DRAINING;
    if (n->leaving)
        return PLACE_LEAVING;
    if (n->conf.weight == 0)
        return PLACE_WEIGHT_ZERO;
    if (n->health == NODE_DOWN && !panic)
        return PLACE_DOWN;
    if (n->addr.ss_family == 0)
        return PLACE_UNRESOLVED;
    return PLACE_OK;
}

static bool excluded(const struct place_request *req, const struct node *n)
{
    for (uint32_t i = 0; i < req->exclude_count; i++) {
        if (strcmp(req->exclude[i], n->conf.id) == 0)
            return true;
    }
    return false;
}

static bool is_late(const struct place_request *req, const struct node *n)
{
    return n->notes.dial_failed_ms != 0 &&
           req->now_mono_ms < n->notes.dial_failed_ms + DIAL_FAILED_LATE_MS;
}

static bool is_node(const char *id, const struct node *n)
{
    return id && strcmp(id, n->conf.id) == 0;
}

/* Of others. */
static uint32_t streams_of(const struct place_request *req, const struct node *n)
{
    const bool counted = is_node(req->here, n) || is_node(req->next, n);
    return n->streams - (req->kind == PLACE_PUBLISH && n->streams > 0 && counted);
}

static uint32_t sessions_of(const struct place_request *req, const struct node *n)
{
    const uint32_t own = !is_node(req->here, n) ? 0 : req->here_sessions ? req->here_sessions : 1;
    return n->sessions > own ? n->sessions - own : 0;
}

static bool sessions_full(const struct place_request *req, const struct node *n)
{
    return sessions_of(req, n) >= node_sessions_limit(n);
}

/* Its own limits. */
static enum place_why fullness(const struct place_request *req, const struct node *n)
{
    if (streams_of(req, n) >= node_streams_limit(n))
        return PLACE_MAX_STREAMS;
    if (sessions_full(req, n))
        return PLACE_MAX_SESSIONS;
    if (n->conf.max_bandwidth != 0 && n->bandwidth >= n->conf.max_bandwidth)
        return PLACE_MAX_BANDWIDTH;
    return PLACE_OK;
}

static bool too_few_up(const struct node_table *nodes, double threshold)
{
    uint32_t enabled = 0, up = 0;
    for (uint32_t i = 0; i < nodes->count; i++) {
        const struct node *n = &nodes->nodes[i];
        if (n->admin != NODE_ENABLED || n->leaving || n->conf.weight == 0)
            continue;
        enabled++;
        up += n->health != NODE_DOWN;
    }
    return up < threshold * enabled;
}

/* Only who may take one more has a share of the streams, so that one of them is always under its
 * bound: not a node that is full, or down and used in panic only, or that this session has tried in
 * vain or nobody could dial just now, with healthd's verdict still to come. */
static bool shares(const struct node *n, bool panic, const struct place_request *req)
{
    return standing(n, panic) == PLACE_OK && n->health != NODE_DOWN && !excluded(req, n) &&
           !is_late(req, n) && fullness(req, n) == PLACE_OK;
}

static struct round round_start(const struct node_table *nodes,
                                const struct config_placement *policy,
                                const struct place_request *req)
{
    struct round r = {.policy = policy,
                      .req = req,
                      .panic = !req->calm && too_few_up(nodes, policy->panic_threshold)};
    for (uint32_t i = 0; i < nodes->count; i++) {
        const struct node *n = &nodes->nodes[i];
        if (!shares(n, r.panic, req))
            continue;
        r.weights += place_weight(n, policy, req->now_wall_ms);
        r.streams += streams_of(req, n);
    }
    return r;
}

static uint32_t load_bound(const struct round *r, double weight)
{
    if (r->policy->max_load_factor <= 0 || r->weights <= 0)
        return UINT32_MAX;
    const double share = weight / r->weights * ((double)r->streams + 1);
    /* a hair less, so that 25.000000000000004 is not 26 */
    const double bound = ceil(r->policy->max_load_factor * share - 1e-9);
    return bound < UINT32_MAX ? (uint32_t)bound : UINT32_MAX;
}

/* bound_load false: a stream that comes back where it was is not turned away by the others' shares.
 */
static struct place_candidate judge(const struct round *r, const struct node *n, bool bound_load)
{
    struct place_candidate c = {.node = n,
                                .why = standing(n, r->panic),
                                .late = is_late(r->req, n),
                                .bound = node_streams_limit(n)};
    if (c.why != PLACE_OK)
        return c;
    const uint32_t share =
        bound_load ? load_bound(r, place_weight(n, r->policy, r->req->now_wall_ms)) : UINT32_MAX;
    c.why = excluded(r->req, n) ? PLACE_EXCLUDED : fullness(r->req, n);
    if (c.why == PLACE_OK && streams_of(r->req, n) >= share)
        c.why = PLACE_LOAD_BOUND;
    if (share < c.bound)
        c.bound = share;
    return c;
}

/* The hash in (0,1): 52 bits and a half, so that neither end is reached. */
static double unit_hash(const struct stream_key *key, const struct node *n)
{
    const uint64_t h = XXH3_64bits_withSeed(key->text, key->len, n->seed);
    return ((double)(h >> 12) + 0.5) * 0x1p-52;
}

/* The node's score, or 0 if it cannot exceed `beat`: -ln(h) >= 1 - h, which saves most logarithms.
 */
static double score_above(const struct round *r, const struct node *n, double beat)
{
    const double weight = place_weight(n, r->policy, r->req->now_wall_ms);
    const double h = unit_hash(r->req->key, n);
    if (weight <= beat * (1 - h))
        return 0;
    return -weight / log(h);
}

/* best->node NULL: none yet. */
static void keep_best(struct place_candidate *best, const struct place_candidate *c)
{
    if (!best->node || c->score > best->score)
        *best = *c;
}

static int by_order(const void *a, const void *b)
{
    const struct place_candidate *x = a, *y = b;
    if (x->late != y->late)
        return x->late ? 1 : -1;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return strcmp(x->node->conf.id, y->node->conf.id);
}

static void choose(struct place_result *out, const struct place_candidate *c,
                   enum place_reason reason)
{
    out->node = c->node;
    out->bound = c->bound;
    out->reason = reason;
}

/* The order decides. Every node is looked at once; sorted only when somebody wants to see the
 * order. */
static void by_hash(const struct node_table *nodes, const struct round *r,
                    struct place_candidate *candidates, struct place_result *out)
{
    struct place_candidate first = {0}; /* of all that may take streams, full ones too */
    struct place_candidate prompt = {0}, late = {0};
    bool met_full_sessions = false;
    for (uint32_t i = 0; i < nodes->count; i++) {
        const struct node *n = &nodes->nodes[i];
        struct place_candidate c = judge(r, n, true);
        const bool eligible = c.why == PLACE_OK;
        const bool in_order = eligible || standing(n, r->panic) == PLACE_OK;
        if (!candidates && !in_order)
            continue;
        const struct place_candidate *rival = !eligible ? &first : c.late ? &late : &prompt;
        c.score = score_above(r, n, candidates ? 0 : rival->score);
        if (candidates)
            candidates[i] = c;
        met_full_sessions |= c.why == PLACE_MAX_SESSIONS;
        if (in_order && c.score > 0)
            keep_best(&first, &c);
        if (eligible && c.score > 0)
            keep_best(c.late ? &late : &prompt, &c);
    }
    if (candidates) {
        qsort(candidates, nodes->count, sizeof *candidates, by_order);
        out->candidate_count = nodes->count;
    }
    const struct place_candidate *won = prompt.node ? &prompt : &late;
    if (won->node)
        choose(out, won, won->node == first.node ? PLACED_HASH : PLACED_FALLBACK);
    else
        out->all_sessions_full = r->req->kind == PLACE_PLAY && met_full_sessions;
}

/* A live stream stays where it is, whatever that node's load or health. True: decided. */
static bool by_owner(const struct node_table *nodes, const struct place_request *req,
                     struct place_result *out)
{
    const struct node *n = req->owner ? node_table_get(nodes, req->owner) : NULL;
    if (!n || n->addr.ss_family == 0 || excluded(req, n))
        return false;
    if (req->kind == PLACE_PLAY && sessions_full(req, n)) {
        out->all_sessions_full = true;
        return true;
    }
    choose(out, &(struct place_candidate){.node = n, .bound = UINT32_MAX}, PLACED_CLAIM);
    return true;
}

/* A late node's hint waits: the order puts the node last, and takes it when there is no other. */
static bool by_hint(const struct node_table *nodes, const struct round *r, struct place_result *out)
{
    const struct node *n = r->req->hint ? node_table_get(nodes, r->req->hint) : NULL;
    if (!n)
        return false;
    const struct place_candidate c = judge(r, n, false);
    if (c.why != PLACE_OK || c.late)
        return false;
    choose(out, &c, PLACED_HINT);
    return true;
}

void place(const struct node_table *nodes, const struct config_placement *policy,
           const struct place_request *req, struct place_candidate *candidates,
           struct place_result *out)
{
    const struct round r = round_start(nodes, policy, req);
    struct place_result hashed = {.reason = PLACED_NOWHERE, .panic = r.panic};
    struct place_result pinned = hashed;
    const bool decided = by_owner(nodes, req, &pinned) || by_hint(nodes, &r, &pinned);
    if (!decided || candidates)
        by_hash(nodes, &r, candidates, &hashed);
    pinned.candidate_count = hashed.candidate_count;
    *out = decided ? pinned : hashed;
}
