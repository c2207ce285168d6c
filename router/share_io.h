/* router/share_io.h - which players of a worker share a node link, and who plays for them. */
#ifndef WEIR_ROUTER_SHARE_IO_H
#define WEIR_ROUTER_SHARE_IO_H

#include "router/session_io.h"

/* A share of this worker, with the session that has its node link. Freed with that. */
struct shared_stream {
    struct share share;
    struct session_conn *lead;
    struct stream_member member; /* of worker.shares, while players may come */
};

/* True: the player has a seat and is placed by that; else it needs a node link of its own. */
bool share_place(struct session_conn *c);
/* The player has left its seat, maybe: the last one ends the sharing. */
void share_left(struct session_conn *c);
/* What the lead's turn has brought goes to the players: media, the start, the end. */
void share_spread(struct session_conn *lead);
/* The records of the players say what the lead's would. */
void share_put_records(struct session_conn *lead);
void share_free(struct session_conn *lead);
/* The configuration has changed: what of it is for links that are there. */
void share_apply_config(struct worker *w);
/* The next of those who have something to be sent; bounded. */
void share_deliver(struct worker *w);

#endif
