#include "router/explain_io.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock_io.h"
#include "cluster/placement.h"
#include "cluster/store.h"

struct found {
    enum err e;
    struct claim claim;
};

static void keep_claim(void *arg, enum err e, const struct claim *claim)
{
    struct found *f = arg;
    f->e = e;
    if (e == ERR_OK)
        f->claim = *claim;
}

static enum err nodes_from_config(const struct config *c, struct node_table *t)
{
    for (uint32_t i = 0; i < c->node_count; i++) {
        struct node n = {.conf = c->nodes[i], .source = NODE_FROM_CONFIG};
        if (node_resolve(&n.conf, &n.addr) != ERR_OK)
            n.addr.ss_family = 0; /* the explanation says so */
        const enum err e = node_table_put(t, &n);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

/* The store's nodes and the stream's claim; without a store what the file says. */
static enum err read_facts(const struct config *c, const struct stream_key *key,
                           struct node_table *t, struct found *f, bool *live)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct store *store = NULL;
    const struct store_options o = {.url = c->store, .live = c->live, .read_only = true};
    const uint64_t now = clock_wall_ms();
    enum err e = store_open(&o, &store, error);
    *live = e == ERR_OK;
    if (e == ERR_OK) {
        e = store_nodes_read(store, t, now);
        store_claim_get(store, key, c->placement.hold_ms, now, keep_claim, f);
        store_close(store);
    } else if (e == ERR_NOT_FOUND) {
        e = nodes_from_config(c, t);
    } else {
        fprintf(stderr, "weir-router: %s\n", error);
    }
    return e;
}

static void print_candidates(const struct place_candidate *list, const struct place_result *r)
{
    printf("\n%-4s %-20s %-24s %-9s %-8s %8s %8s %10s  %s\n", "", "node", "address", "state",
           "health", "streams", "bound", "score", "");
    for (uint32_t i = 0; i < r->candidate_count; i++) {
        const struct place_candidate *p = &list[i];
        const bool chosen = r->node && p->node == r->node;
        char bound[16] = "-";
        if (p->bound != UINT32_MAX)
            snprintf(bound, sizeof bound, "%u", p->bound);
        printf("%-4s %-20s %-24s %-9s %-8s %8u %8s %10.4g  %s%s\n", chosen ? "=>" : "",
               p->node->conf.id, p->node->conf.rtmp, node_admin_name(p->node->admin),
               node_health_name(p->node->health), p->node->streams, bound, p->score,
               chosen && r->reason == PLACED_CLAIM ? "live here" : place_why_name(p->why),
               p->late ? ", last dial failed" : "");
    }
}

int explain_stream(const struct config *config, const char *stream)
{
    struct stream_key key;
    struct node_table *nodes = NULL;
    struct place_candidate *list = NULL;
    struct found f = {.e = ERR_NOT_FOUND};
    bool live = false;
    int code = 1;
    if (stream_key_parse(stream, &key) != ERR_OK) {
        fprintf(stderr, "weir-router: %s is not a stream: app/name expected, as in live/cam1\n",
                stream);
        return 2;
    }
    if (node_table_create(config->cluster_name, &nodes) != ERR_OK ||
        read_facts(config, &key, nodes, &f, &live) != ERR_OK)
        goto out;
    list = calloc(nodes->count + 1u, sizeof *list);
    if (!list)
        goto out;
    const bool is_live = f.e == ERR_OK && f.claim.state == CLAIM_LIVE;
    const struct place_request req = {
        .key = &key,
        .kind = PLACE_PUBLISH,
        .owner = is_live ? claim_serving(&f.claim) : NULL,
        .hint = f.e == ERR_OK && f.claim.state == CLAIM_HINT ? f.claim.node : NULL,
        .now_wall_ms = clock_wall_ms(),
        .now_mono_ms = clock_mono_ms(),
    };
    struct place_result r;
    place(nodes, &config->placement, &req, list, &r);
    printf("stream  %s\nnode    %s\nreason  %s\nfacts   %s%s\n", key.text,
           r.node ? r.node->conf.id : "none", place_reason_name(r.reason),
           live ? "store" : "configuration only: the store does not exist yet",
           r.panic ? "; panic: too few nodes are up" : "");
    if (f.e == ERR_OK && f.claim.state == CLAIM_FOUND)
        printf(
            "found   live on %s without a claim: players go there, a publisher goes by placement\n",
            f.claim.node);
    print_candidates(list, &r);
    code = r.node ? 0 : 1;
out:
    free(list);
    node_table_destroy(nodes);
    return code;
}
