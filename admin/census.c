#include "admin/census.h"

#include <stdlib.h>
#include <string.h>

enum { ALIVE_MS = 5000 }; /* cluster/store.h: gone after 5 s without a heartbeat */

bool census_alive(const struct process_record *p, uint64_t now_ms)
{
    return store_is_recent(p->beat_ms, now_ms, ALIVE_MS);
}

bool census_stands_by(const struct process_record *p)
{
    return p->kind == PROCESS_HEALTHD && p->id.slot == HEALTHD_STANDBY_SLOT;
}

static void count_node(const struct node *n, struct census *out)
{
    out->nodes++;
    out->nodes_enabled += n->admin == NODE_ENABLED;
    out->nodes_drain += n->admin == NODE_DRAIN;
    out->nodes_disabled += n->admin == NODE_DISABLED;
    out->nodes_leaving += n->leaving;
    out->nodes_up += n->health == NODE_UP;
    out->nodes_down += n->health == NODE_DOWN;
    out->nodes_unknown += n->health == NODE_UNKNOWN;
}

/* A router is counted once, by the first of its workers that is alive. */
static bool is_first(const struct process_record *list, uint32_t i, uint64_t now_ms)
{
    for (uint32_t k = 0; k < i; k++) {
        if (list[k].kind == PROCESS_ROUTER && census_alive(&list[k], now_ms) &&
            strcmp(list[k].id.router, list[i].id.router) == 0)
            return false;
    }
    return true;
}

static void count_process(const struct process_record *list, uint32_t i, uint64_t now_ms,
                          struct census *out)
{
    const struct process_record *p = &list[i];
    if (!census_alive(p, now_ms))
        return;
    out->healthds += p->kind == PROCESS_HEALTHD;
    out->admins += p->kind == PROCESS_ADMIN;
    if (p->kind != PROCESS_ROUTER)
        return;
    out->workers++;
    out->workers_behind += p->nodes_version != out->nodes_version;
    out->routers += is_first(list, i, now_ms);
    out->sessions += p->sessions;
    out->publishers += p->publishers;
    out->players += p->players;
}

/* Placement knows best what it would do: asked for any stream. */
static bool would_panic(const struct node_table *nodes, const struct config_placement *policy,
                        uint64_t now_ms)
{
    static const struct stream_key any = {.text = "a/b", .len = 3};
    const struct place_request req = {.key = &any, .now_wall_ms = now_ms};
    struct place_result r;
    place(nodes, policy, &req, NULL, &r);
    return r.panic;
}

void census_take(const struct facts *f, const struct process_record *processes, uint32_t count,
                 uint64_t streams, const struct config_placement *policy, uint64_t now_ms,
                 struct census *out)
{
    *out = (struct census){.nodes_version = f->nodes->version, .streams = streams};
    for (uint32_t i = 0; i < f->nodes->count; i++) {
        count_node(&f->nodes->nodes[i], out);
        if (f->nodes->nodes[i].health == NODE_UNKNOWN)
            continue; /* it says what was once */
        out->bandwidth_in += f->status[i].bandwidth_in;
        out->bandwidth_out += f->status[i].bandwidth_out;
    }
    for (uint32_t i = 0; i < count; i++)
        count_process(processes, i, now_ms, out);
    out->panic = would_panic(f->nodes, policy, now_ms);
}

static bool count_claim(void *arg, const struct claim *c)
{
    uint64_t *streams = arg;
    (void)c;
    ++*streams;
    return true;
}

enum err census_streams(struct store *s, uint64_t *out)
{
    *out = 0;
    return store_claims_list(s, NULL, count_claim, out);
}

struct process_list {
    struct process_record *list;
    uint32_t count, room;
    bool failed;
};

static bool keep_process(void *arg, const struct process_record *p)
{
    struct process_list *l = arg;
    if (l->count == l->room) {
        const uint32_t room = l->room ? 2 * l->room : 16;
        struct process_record *more = realloc(l->list, room * sizeof *more);
        l->failed = !more;
        if (!more)
            return false;
        l->list = more;
        l->room = room;
    }
    l->list[l->count++] = *p;
    return true;
}

enum err census_processes(struct store *s, struct process_record **out, uint32_t *count)
{
    struct process_list l = {0};
    enum err e = store_processes_list(s, keep_process, &l);
    if (e == ERR_OK && l.failed)
        e = ERR_NO_MEMORY;
    if (e == ERR_OK) {
        *out = l.list;
        *count = l.count;
    } else {
        free(l.list);
    }
    return e;
}
