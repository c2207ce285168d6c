/* router/record_io.h - what the store says of each session of this worker: its record, and the
 * counters in it. A record that could not be written is written by a later refresh. */
#ifndef WEIR_ROUTER_RECORD_IO_H
#define WEIR_ROUTER_RECORD_IO_H

#include "router/session_io.h"

/* Writes the session's record, or those of all players of its shared link. */
void record_put(struct session_conn *c);
/* What is to be written together with a claim, for the node that it names, and what came of that. */
struct session_record record_of(struct session_conn *c, const char *node);
void record_note_written(struct session_conn *c, bool written);
/* Deletes it, or gives the id of what is to be deleted together with a claim; 0: there is none. */
void record_delete(struct session_conn *c);
uint64_t record_forget(struct session_conn *c);
/* At each poll: the counters of a slice of the sessions go into the store. */
void record_refresh_some(struct worker *w);
/* Notes of the session's node that it answers pings, if its link has answered one. */
void record_note_pings(const struct session_conn *c);

#endif
