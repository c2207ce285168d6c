/* router/rehome_parts.h - what rehome.c, rehome_replay.c (a publisher's new node) and rehome_play.c
 * (players) have of each other. Nobody else includes it. */
#ifndef WEIR_ROUTER_REHOME_PARTS_H
#define WEIR_ROUTER_REHOME_PARTS_H

#include "router/session_parts.h"

enum { LIVE_BEHIND_MS = 30000 }; /* a stream that is live on a node is no further behind a player */

/* ---- rehome.c ---- */

/* The link that is being set up; NULL: there is none. */
struct node_link *rehome_fresh_link(struct session *s);
void rehome_close_fresh(struct session *s);
void rehome_close_current(struct session *s);
/* deadline_ms 0: the phase ends by an event. */
void rehome_enter(struct session *s, enum rehome_phase phase, uint64_t deadline_ms);
/* A link of its own beside the current one; an older one that is still being flushed gives way. */
void rehome_dial(struct session *s, const char *node, enum rehome_phase phase, uint64_t now_ms);
/* The new link is the current one. */
void rehome_take_over_link(struct session *s, uint64_t now_ms);
void rehome_look_up(struct session *s);
void rehome_begin(struct session *s, enum rehome_cause cause, uint64_t now_ms);
/* The node closed right after it had taken the stream, or twice in a row: if it is well, it means
 * us. */
bool rehome_may_be_refusal(const struct session *s, enum rehome_cause cause, uint64_t now_ms);
/* A planned move that comes to nothing: the stream stays where it is. */
void rehome_stay(struct session *s, uint64_t now_ms);

/* ---- rehome_replay.c ---- */

void rehome_ask_audience(struct session *s);
/* The publisher's new node: it has read what was sent before this once it has answered. */
void rehome_ask_new_node(struct session *s, uint64_t now_ms);
bool rehome_new_node_has_read(const struct session *s);
/* The next batch is due. */
void rehome_replay_batch(struct session *s, uint64_t now_ms);

/* ---- rehome_play.c ---- */

/* The publisher's worker judges the node, and the claim will tell; only without it we ask again. */
void rehome_player_lost(struct session *s, enum rehome_cause cause, uint64_t now_ms);
/* To the link being set up, what rehome_remember() took. */
MUST_CHECK enum err rehome_send_controls(struct session *s);
/* The player's new link is where the replay will reach it. */
void rehome_attached(struct session *s, uint64_t now_ms);
/* The player leaves the old one of two links: its node has been left by the publisher. */
void rehome_cut_over(struct session *s, uint64_t now_ms);

#endif
