/* router/audience_io.h - which workers have players of a stream, and how far these have followed
 * its move: what a publisher that moves waits for. */
#ifndef WEIR_ROUTER_AUDIENCE_IO_H
#define WEIR_ROUTER_AUDIENCE_IO_H

#include "router/session_io.h"

/* Wakes the workers that have players of the stream, and those in the bit set. */
void audience_ring(struct worker *w, const struct stream_key *key, uint64_t more_slots);
/* How far this worker's players of the stream are may have changed: at the end of the turn
 * audience_mark_changed() writes it into the store, once for each stream. */
void audience_changed(struct worker *w, const struct stream_key *key);
void audience_mark_changed(struct worker *w);
/* ACT_STARTED: a player that came while its stream was on its way. */
void audience_joined(struct session_conn *c);

#endif
