#include "router/link_ends.h"

#include <stdio.h>
#include <string.h>

enum {
    TOGETHER_MS = 2000, /* until the node was asked whether it is well, and has answered */
    SEVERAL = 2,
};

void link_ends_note(struct link_ends *e, const char *node, uint64_t session, uint64_t now_ms)
{
    struct link_end *end = &e->last[e->next++ % LINK_ENDS_KEPT];
    *end = (struct link_end){.session = session, .at_ms = now_ms};
    (void)snprintf(end->node, sizeof end->node, "%s", node);
}

bool link_ends_with_others(const struct link_ends *e, const char *node, uint64_t session,
                           uint64_t now_ms)
{
    uint32_t others = 0;
    for (uint32_t i = 0; i < LINK_ENDS_KEPT; i++) {
        const struct link_end *end = &e->last[i];
        others += end->session != 0 && end->session != session &&
                  now_ms - end->at_ms < TOGETHER_MS && strcmp(end->node, node) == 0;
    }
    return others >= SEVERAL;
}
