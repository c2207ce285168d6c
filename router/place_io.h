/* router/place_io.h - sessions and the cluster: finds their nodes, takes and gives up claims.
 * Written for a store that calls back later, too. */
#ifndef WEIR_ROUTER_PLACE_IO_H
#define WEIR_ROUTER_PLACE_IO_H

#include "router/session_io.h"

void place_node_failed(struct session_conn *c); /* ACT_NODE_FAILED */
void place_session(struct session_conn *c);     /* ACT_PLACE; answers by session_post() */
void place_release(struct session_conn *c);     /* ACT_RELEASE */
void place_handed_over(struct session_conn *c); /* ACT_HANDED_OVER */
/* There is a node, by what is known now, that could take it from the one where it is. */
bool place_finds_another(const struct session_conn *c);
/* A live publisher that was placed while the store could not be written. Its claim is taken now, in
 * place of what was there then; if another one is there meanwhile, that is the publisher and this
 * one ends. For reconcile_io.c. */
bool place_misses_claim(const struct session_conn *c);
void place_take_missed_claim(struct session_conn *c);
/* The node carries a stream more, or less, until the loads are read again: placements of the
 * meantime must see those before them. */
void place_count_stream(struct worker *w, const char *node, bool more);

#endif
