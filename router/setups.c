#include "router/setups.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* The node's entry, or one that nobody needs; -1: there is none. */
static int entry_of(struct setups *s, const char *node)
{
    int idle = -1;
    for (uint32_t i = 0; i < s->used; i++) {
        if (strcmp(s->of[i].node, node) == 0)
            return (int)i;
        if (s->of[i].count == 0 && idle < 0)
            idle = (int)i;
    }
    if (idle < 0 && s->used < NODES_MAX)
        idle = (int)s->used++;
    if (idle >= 0)
        snprintf(s->of[idle].node, sizeof s->of[idle].node, "%s", node);
    return idle;
}

int setups_enter(struct setups *s, const char *node)
{
    const int at = entry_of(s, node);
    if (at < 0 || s->of[at].count >= SETUPS_PER_NODE)
        return -1;
    s->of[at].count++;
    return at;
}

void setups_leave(struct setups *s, int at)
{
    assert(at >= 0 && (uint32_t)at < s->used && s->of[at].count > 0);
    s->of[at].count--;
    s->left = true;
}
