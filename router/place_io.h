/* router/place_io.h - sessions and the cluster: finds their nodes, takes and gives up claims, keeps
 * their records, and tells them what changed. Written for a store that calls back later, too. */
#ifndef WEIR_ROUTER_PLACE_IO_H
#define WEIR_ROUTER_PLACE_IO_H

#include "router/session_io.h"

void place_node_failed(struct session_conn *c); /* ACT_NODE_FAILED */
void place_session(struct session_conn *c);     /* ACT_PLACE; answers by session_post() */
void place_release(struct session_conn *c);     /* ACT_RELEASE */
void place_handed_over(struct session_conn *c); /* ACT_HANDED_OVER */
void place_rehoming(struct session_conn *c);    /* ACT_REHOMING */
void place_move(struct session_conn *c);        /* ACT_MOVE */
void place_audience(struct session_conn *c);    /* ACT_AUDIENCE */
void place_attached(struct session_conn *c);    /* ACT_ATTACHED */
void place_arrived(struct session_conn *c);     /* ACT_ARRIVED */
void place_resumed(struct session_conn *c);     /* ACT_RESUMED */
void place_ends(struct session_conn *c);        /* ACT_ENDS */
/* Reads the change log and wakes the sessions concerned. */
void place_read_changes(struct worker *w);
/* Counters of a slice of the sessions go into the store. */
void place_refresh_records(struct worker *w);
/* Begins the moves that draining nodes and reloaded ones call for, so many at a time. */
void place_move_planned(struct worker *w);
/* What healthd saw of the nodes' processes, once a second. */
void place_read_generations(struct worker *w);
/* Carries out what the API asks of this worker. */
void place_run_commands(struct worker *w);

#endif
