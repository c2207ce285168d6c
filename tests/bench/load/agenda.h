/* load/agenda.h - sources by the time their next message is due: a binary heap.
 * Owner: caller; all zero is empty. Errors: ERR_NO_MEMORY. */
#ifndef WEIR_LOAD_AGENDA_H
#define WEIR_LOAD_AGENDA_H

#include "bench/load/traffic.h"

struct stream;
struct agenda {
    struct stream **heap;
    uint32_t count, cap;
};

MUST_CHECK enum err agenda_add(struct agenda *a, struct stream *st);
void agenda_remove(struct agenda *a, struct stream *st); /* idempotent */
void agenda_later(struct agenda *a, struct stream *st);  /* its time has moved on */
void agenda_deinit(struct agenda *a);

/* A stream that is sent: by a publisher of ours, or made up by a node for its players. */
struct peer;
struct stream {
    struct source source;
    uint32_t agenda_place; /* 1..; 0: not in it */
    struct peer *publisher;
    struct peer **players; /* of a node */
    uint32_t player_count, player_cap;
};

#endif
