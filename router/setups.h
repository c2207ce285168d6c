/* router/setups.h - how many links this worker is setting up to each node for streams that move,
 * and for players that go after theirs, and who waits for its turn. A node that gets those of
 * another one all at once is given them some at a time. Pure. Owner: the worker.
 * Who waits stops waiting before it goes. Tests: tests/unit/router/test_setups.c */
#ifndef WEIR_ROUTER_SETUPS_H
#define WEIR_ROUTER_SETUPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/limits.h"

/* Zero-initialised. */
struct setups_waiter {
    struct setups_waiter *next, *prev;
    struct setups_node *at; /* NULL: it does not wait */
};

struct setups_node {
    char node[NODE_ID_MAX];
    uint32_t count;
    struct setups_waiter *first, *last; /* first come, first served */
};

struct setups {
    struct setups_node of[NODES_MAX];
    uint32_t used;
    uint32_t most; /* to a node at once */
    bool left; /* one has left since this was last cleared: others may enter */
};

void setups_init(struct setups *s, uint32_t workers); /* that share what a node can be given */
/* What setups_leave() wants back. -1: as many as may be are under way to that node; it waits for that
 * one from now on, and keeps its place if it did so before. */
MUST_CHECK int setups_enter(struct setups *s, const char *node, struct setups_waiter *who);
void setups_leave(struct setups *s, int at);
/* Of of[at]: who is to try again; it waits no more. NULL: there is no room, or nobody. Who does not
 * want to enter any more lets the next one try. */
struct setups_waiter *setups_next(struct setups *s, uint32_t at);
/* True: setups_next() has another one. */
bool setups_waits(const struct setups *s, uint32_t at);
void setups_stop_waiting(struct setups_waiter *who); /* does not wait: nothing */

#endif
