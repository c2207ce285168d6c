#include "router/setups.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

void setups_init(struct setups *s, uint32_t workers)
{
    const uint32_t most = SETUPS_OF_ALL / workers;
    *s = (struct setups){.most = most < SETUPS_PER_NODE ? most : SETUPS_PER_NODE};
}

/* The node's, or one that nobody needs; if there is none, the last one's. */
static struct setups_node *find(struct setups *s, const char *node)
{
    struct setups_node *idle = NULL;
    for (struct setups_node *n = s->of; n < s->of + s->used; n++) {
        if (strcmp(n->node, node) == 0)
            return n;
        if (n->count == 0 && !n->first && !idle)
            idle = n;
    }
    if (!idle && s->used == NODES_MAX)
        return &s->of[NODES_MAX - 1];
    if (!idle)
        idle = &s->of[s->used++];
    snprintf(idle->node, sizeof idle->node, "%s", node);
    return idle;
}

static void wait_at(struct setups_node *n, struct setups_waiter *who)
{
    if (who->at == n)
        return;
    setups_stop_waiting(who);
    *who = (struct setups_waiter){.prev = n->last, .at = n};
    *(n->last ? &n->last->next : &n->first) = who;
    n->last = who;
}

int setups_enter(struct setups *s, const char *node, struct setups_waiter *who)
{
    struct setups_node *n = find(s, node);
    if (n->count >= s->most) {
        wait_at(n, who);
        return -1;
    }
    n->count++;
    return (int)(n - s->of);
}

void setups_leave(struct setups *s, int at)
{
    assert(at >= 0 && (uint32_t)at < s->used && s->of[at].count > 0);
    s->of[at].count--;
    s->left = true;
}

bool setups_waits(const struct setups *s, uint32_t at)
{
    return s->of[at].first && s->of[at].count < s->most;
}

struct setups_waiter *setups_next(struct setups *s, uint32_t at)
{
    struct setups_waiter *who = s->of[at].first;
    if (!setups_waits(s, at))
        return NULL;
    setups_stop_waiting(who);
    return who;
}

void setups_stop_waiting(struct setups_waiter *who)
{
    struct setups_node *n = who->at;
    if (!n)
        return;
    *(who->prev ? &who->prev->next : &n->first) = who->next;
    *(who->next ? &who->next->prev : &n->last) = who->prev;
    *who = (struct setups_waiter){0};
}
