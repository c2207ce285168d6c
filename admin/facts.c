#include "admin/facts.h"

#include <stdlib.h>

static bool keep_status(void *arg, const struct node_status *st)
{
    const struct facts *f = arg;
    const struct node *n = node_table_get(f->nodes, st->id);
    if (n)
        f->status[n - f->nodes->nodes] = *st;
    return true;
}

static bool keep_failures(void *arg, const struct dial_failures *d)
{
    const struct facts *f = arg;
    const struct node *n = node_table_get(f->nodes, d->node);
    if (n)
        f->failed[n - f->nodes->nodes] = *d;
    return true;
}

void facts_clear(struct facts *f)
{
    node_table_destroy(f->nodes);
    free(f->status);
    free(f->failed);
    *f = (struct facts){0};
}

enum err facts_read(struct store *s, const char *cluster_name, uint64_t now_ms, struct facts *out)
{
    struct facts f = {0};
    enum err e = node_table_create(cluster_name, &f.nodes);
    if (e == ERR_OK)
        e = store_nodes_read(s, f.nodes, now_ms);
    if (e == ERR_OK) {
        f.status = calloc(f.nodes->count + 1u, sizeof *f.status);
        f.failed = calloc(f.nodes->count + 1u, sizeof *f.failed);
        if (!f.status || !f.failed)
            e = ERR_NO_MEMORY;
    }
    if (e == ERR_OK)
        e = store_status_list(s, keep_status, &f);
    if (e == ERR_OK)
        e = store_dial_failures_list(s, keep_failures, &f);
    if (e == ERR_OK)
        *out = f;
    else
        facts_clear(&f);
    return e;
}

struct view_node facts_view(const struct facts *f, uint32_t i)
{
    return (struct view_node){
        .node = &f->nodes->nodes[i],
        .status = f->status[i].id[0] ? &f->status[i] : NULL,
        .failed = f->failed[i].node[0] ? &f->failed[i] : NULL,
    };
}
