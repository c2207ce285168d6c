/* router/pending.h - a first-in-first-out list of messages that wait for a node: what a client sent
 * before its node was ready. Owner: a session; zero-initialised.   Errors: ERR_NO_MEMORY.   Tests:
 * tests/unit/router/test_pending.c */
#ifndef WEIR_ROUTER_PENDING_H
#define WEIR_ROUTER_PENDING_H

#include "base/err.h"
#include "rtmp/message.h"

struct pending {
    struct rtmp_msg **items;
    uint32_t count, cap;
    uint64_t bytes; /* held: payload and the messages themselves */
};

/* Takes a reference of its own. */
MUST_CHECK enum err pending_push(struct pending *p, struct rtmp_msg *m);
/* Releases everything. */
void pending_clear(struct pending *p);

#endif
