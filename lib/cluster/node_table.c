#include "cluster/node_table.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { RTMP_PORT = 1935 };

static const char *const admin_names[] = {
    [NODE_ENABLED] = "enabled",
    [NODE_DRAIN] = "drain",
    [NODE_DISABLED] = "disabled",
};

static const char *const health_names[] = {
    [NODE_UNKNOWN] = "unknown",
    [NODE_UP] = "up",
    [NODE_DOWN] = "down",
};

const char *node_admin_name(enum node_admin a)
{
    return admin_names[a];
}

const char *node_health_name(enum node_health h)
{
    return health_names[h];
}

enum err node_admin_parse(const char *s, enum node_admin *out)
{
    for (size_t i = 0; i < sizeof admin_names / sizeof admin_names[0]; i++) {
        if (strcmp(s, admin_names[i]) == 0) {
            *out = (enum node_admin)i;
            return ERR_OK;
        }
    }
    return ERR_INVALID;
}

uint64_t cluster_seed(const char *cluster_name)
{
    return XXH3_64bits(cluster_name, strlen(cluster_name));
}

uint64_t node_seed(uint64_t cluster_seed, const char *id)
{
    return XXH3_64bits_withSeed(id, strlen(id), cluster_seed);
}

enum err node_table_create(const char *cluster_name, struct node_table **out)
{
    struct node_table *t = calloc(1, sizeof *t);
    if (!t)
        return ERR_NO_MEMORY;
    /* room for all at once: untouched pages cost nothing, and no put can fail for want of memory */
    t->nodes = calloc(NODES_MAX, sizeof *t->nodes);
    if (!t->nodes) {
        free(t);
        return ERR_NO_MEMORY;
    }
    t->cluster_seed = cluster_seed(cluster_name);
    *out = t;
    return ERR_OK;
}

void node_table_destroy(struct node_table *t)
{
    if (!t)
        return;
    free(t->nodes);
    free(t);
}

/* Where id is or belongs. */
static uint32_t position(const struct node_table *t, const char *id, bool *found)
{
    uint32_t low = 0, high = t->count;
    *found = false;
    while (low < high && !*found) {
        const uint32_t middle = low + (high - low) / 2;
        const int order = strcmp(t->nodes[middle].conf.id, id);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
        if (order == 0) {
            *found = true;
            low = middle;
        }
    }
    return low;
}

struct node *node_table_find(struct node_table *t, const char *id)
{
    bool found;
    const uint32_t at = position(t, id, &found);
    return found ? &t->nodes[at] : NULL;
}

const struct node *node_table_get(const struct node_table *t, const char *id)
{
    bool found;
    const uint32_t at = position(t, id, &found);
    return found ? &t->nodes[at] : NULL;
}

void node_keep_notes(struct node *fresh, const struct node *known)
{
    fresh->notes = known->notes;
    if (known->addr.ss_family != 0 && memcmp(&known->addr, &fresh->addr, sizeof fresh->addr) != 0)
        fresh->notes.answers_pings = false;
}

enum err node_table_put(struct node_table *t, const struct node *n)
{
    bool found;
    const uint32_t at = position(t, n->conf.id, &found);
    if (!found && t->count == NODES_MAX)
        return ERR_FULL;
    struct node fresh = *n;
    fresh.seed = node_seed(t->cluster_seed, n->conf.id);
    struct node *slot = &t->nodes[at];
    if (found) {
        fresh.streams = slot->streams;
        fresh.sessions = slot->sessions;
        node_keep_notes(&fresh, slot);
    } else {
        memmove(slot + 1, slot, (t->count - at) * sizeof *slot);
        t->count++;
    }
    *slot = fresh;
    return ERR_OK;
}

enum err node_table_remove(struct node_table *t, const char *id)
{
    bool found;
    const uint32_t at = position(t, id, &found);
    if (!found)
        return ERR_NOT_FOUND;
    t->count--;
    memmove(&t->nodes[at], &t->nodes[at + 1], (t->count - at) * sizeof *t->nodes);
    return ERR_OK;
}

uint32_t node_streams_limit(const struct node *n)
{
    return n && n->conf.max_streams != 0 ? n->conf.max_streams : UINT32_MAX;
}

uint32_t node_sessions_limit(const struct node *n)
{
    return n && n->conf.max_sessions != 0 ? n->conf.max_sessions : UINT32_MAX;
}

uint64_t node_address_hash(const struct sockaddr_storage *addr)
{
    return XXH3_64bits(addr, sizeof *addr) | 1;
}

enum err node_resolve(const struct config_node *conf, struct sockaddr_storage *out)
{
    char host[HOST_MAX], service[8];
    uint16_t port;
    const enum err e = config_split_address(conf->rtmp, RTMP_PORT, host, &port);
    if (e != ERR_OK)
        return e;
    if (host[0] == '\0')
        return ERR_INVALID;
    (void)snprintf(service, sizeof service, "%u", (unsigned)port);
    const struct addrinfo want = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, service, &want, &found) != 0 || !found)
        return ERR_INVALID;
    const struct addrinfo *best = found;
    bool same = false;
    for (const struct addrinfo *a = found; a; a = a->ai_next) {
        same = same || memcmp(out, a->ai_addr, a->ai_addrlen) == 0;
        if (a->ai_family == best->ai_family && memcmp(a->ai_addr, best->ai_addr, a->ai_addrlen) < 0)
            best = a;
    }
    if (!same) {
        *out = (struct sockaddr_storage){0};
        memcpy(out, best->ai_addr, best->ai_addrlen);
    }
    freeaddrinfo(found);
    return ERR_OK;
}
