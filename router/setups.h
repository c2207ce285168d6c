/* router/setups.h - how many links this worker is setting up to each node for streams that move, and
 * for players that go after theirs. A node that gets those of another one all at once is given them
 * some at a time. Pure.
 * Owner: the worker; zero-initialised.   Tests: tests/unit/router/test_setups.c */
#ifndef WEIR_ROUTER_SETUPS_H
#define WEIR_ROUTER_SETUPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/limits.h"

struct setups {
    struct {
        char node[NODE_ID_MAX];
        uint32_t count;
    } of[NODES_MAX];
    uint32_t used;
    bool left; /* one has left since this was last cleared: others may enter */
};

/* What setups_leave() wants back. -1: SETUPS_PER_NODE are under way to that node. */
MUST_CHECK int setups_enter(struct setups *s, const char *node);
void setups_leave(struct setups *s, int at);

#endif
