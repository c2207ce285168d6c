/* router/link_ends.h - node links of this worker that have ended lately. When the same node ends a
 * client's link again, that may be meant for the client; when it ends those of others with it, the
 * node has crashed or was restarted. Pure.
 * Owner:  the worker; zero-initialised.   Tests: tests/replay/scenarios/rehome_refused.txt,
 * rehome_ended_with_others.txt, rehome_player_ended_with_others.txt */
#ifndef WEIR_ROUTER_LINK_ENDS_H
#define WEIR_ROUTER_LINK_ENDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

enum { LINK_ENDS_KEPT = 32 };

struct link_ends {
    struct link_end {
        char node[NODE_ID_MAX];
        uint64_t session, at_ms;
    } last[LINK_ENDS_KEPT]; /* the newest in place of the oldest */
    uint32_t next;
};

void link_ends_note(struct link_ends *e, const char *node, uint64_t session, uint64_t now_ms);
/* The node has ended those of several other sessions, too, just now. */
bool link_ends_with_others(const struct link_ends *e, const char *node, uint64_t session,
                           uint64_t now_ms);

#endif
