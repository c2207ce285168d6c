/* router/place_io.h - sessions and the cluster: finds their nodes, takes and gives up claims, keeps
 * their records, and tells them what changed. Written for a store that calls back later, too. */
#ifndef WEIR_ROUTER_PLACE_IO_H
#define WEIR_ROUTER_PLACE_IO_H

#include "router/session_io.h"

void place_node_failed(struct session_conn *c); /* ACT_NODE_FAILED */
void place_session(struct session_conn *c);     /* ACT_PLACE; answers by session_post() */
void place_release(struct session_conn *c);     /* ACT_RELEASE */
void place_handed_over(struct session_conn *c); /* ACT_HANDED_OVER */
void place_started(struct session_conn *c);     /* ACT_STARTED */
/* A publisher: there is a node, by what is known now, that could take it from the one where it is.
 */
bool place_finds_another(const struct session_conn *c);
/* Reads the change log and wakes the sessions concerned. */
void place_read_changes(struct worker *w);
/* While there is STREAM_TELL to do, some in each turn of the loop: asks for the streams' claims and
 * wakes who is concerned. */
void place_tell_more(struct worker *w);
/* At the end of a turn: what has changed of STREAM_AUDIENCE goes into the store. */
void place_mark_audiences(struct worker *w);
/* Every second or less often, when all has been written: players that were not sent where their
 * stream is, and have nothing where they are; all sessions, where a claim could not be read. */
void place_look_again(struct worker *w);
/* A live publisher that was placed while the store could not be written. Its claim is taken now, in
 * place of what was there then; if another one is there meanwhile, that is the publisher and this
 * one ends. For reconcile_io.c. */
bool place_misses_claim(const struct session_conn *c);
void place_take_missed_claim(struct session_conn *c);
/* Counters of a slice of the sessions go into the store. */
void place_refresh_records(struct worker *w);
/* The node carries a stream more, or less, until the loads are read again: placements of the
 * meantime must see those before them. */
void place_count_stream(struct worker *w, const char *node, bool more);
/* For move_io.c: the session's record and its counts, or what is to be written with something else
 * and came of that; how far this worker's players of the stream have followed a move; wakes the
 * workers that have players of it, and those in the bit set. */
void place_put_record(struct session_conn *c);
struct session_record place_record_of(struct session_conn *c, const char *node);
void place_note_recorded(struct session_conn *c, bool written);
/* The session's node, if its link has answered a ping. */
void place_note_pings(const struct session_conn *c);
void place_audience_changed(struct worker *w, const struct stream_key *key);
void place_ring(struct worker *w, const struct stream_key *key, uint64_t more_slots);

#endif
