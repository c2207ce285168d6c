/* router/move_io.h - live streams on their way to another node (DESIGN 6.3): the claim and the
 * audience of a move, its log lines, the moves that draining and reloaded nodes call for, and those
 * that the API asks for. */
#ifndef WEIR_ROUTER_MOVE_IO_H
#define WEIR_ROUTER_MOVE_IO_H

#include "router/session_io.h"

void move_log_begun(struct session_conn *c);    /* ACT_REHOMING */
void move_claim(struct session_conn *c);        /* ACT_MOVE; answers by SE_CLAIM_MOVED */
void move_ask_audience(struct session_conn *c); /* ACT_AUDIENCE; answers by SE_AUDIENCE */
void move_attached(struct session_conn *c);     /* ACT_ATTACHED */
void move_arrived(struct session_conn *c);      /* ACT_ARRIVED */
/* The publisher's stream has been moved while its claim could not be written: it is now, and
 * players follow. on_its_way: the claim says that much already. */
void move_write_claim(struct session_conn *c, bool on_its_way);
void move_resumed(struct session_conn *c);       /* ACT_RESUMED */
void move_ask_publisher(struct session_conn *c); /* ACT_ENDS; answers by SE_PUBLISHER */
void move_suspect(struct session_conn *c);       /* ACT_SUSPECT */
/* How far apart the pings of each node link are, by how many links its node has here: once a
 * second. */
void move_space_pings(struct worker *w);
/* Begins the moves that draining nodes and reloaded ones call for, so many at a time. */
void move_planned(struct worker *w);
/* What healthd saw of the nodes' processes, once a second. */
void move_read_generations(struct worker *w);
/* Carries out what the API asks of this worker. */
void move_run_commands(struct worker *w);

#endif
