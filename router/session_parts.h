/* router/session_parts.h - what session.c, session_place.c, session_node.c, entry.c, rehome*.c,
 * link_watch.c, shared_play.c and flow.c, the files of the session's machine, have of each other.
 * Nobody else includes it. */
#ifndef WEIR_ROUTER_SESSION_PARTS_H
#define WEIR_ROUTER_SESSION_PARTS_H

#include "router/session.h"

enum {
    REFUSED_WITHIN_MS = 1000, /* a node that closes so soon after its Start has refused */
    REHOME_AGAIN_MS = 200,    /* before a player asks for its node again, or a publisher for any */
};

/* ---- session.c ---- */

void session_enter(struct session *s, enum session_state next, uint64_t now_ms);
void session_close(struct session *s, enum close_why why, uint64_t now_ms);
/* Tells the client in the protocol's own words, then closes. */
void session_refuse(struct session *s, enum close_why why, const char *code, const char *text,
                    uint64_t now_ms);
const char *session_failed_code(const struct session *s);
/* The link in use, without what waits in it. */
void session_abort_link(struct session *s);
/* The player is sent to where its stream is; 0: it is not live. What the player had of another
 * publication says nothing about this one. */
void session_note_publication(struct session *s, uint64_t publication);

/* Less than range, of each session its own: those that began together do not do something regular
 * together for ever. */
static inline uint64_t session_part_of(const struct session *s, uint64_t range)
{
    return (s->id * UINT64_C(0x9e3779b97f4a7c15) >> 32) * range >> 32;
}

/* The current node link; NULL: there is none. */
static inline struct node_link *session_link_in_use(struct session *s)
{
    return s->current < 0 ? NULL : &s->links[s->current];
}

/* ---- session_place.c: SESS_PLACE, up to the node's answer ---- */

/* A node is to be found. */
void session_look_up(struct session *s);
void session_on_placed(struct session *s, const struct session_event *ev, uint64_t now_ms);
void session_on_unplaced(struct session *s, const struct session_event *ev, uint64_t now_ms);
/* s->node, to publish or play there, or to see whether it answers (PHASE_CHECK). */
void session_dial(struct session *s, enum place_phase phase, uint64_t now_ms);
void session_on_node_dialled(struct session *s, const struct session_event *ev, uint64_t now_ms);
void session_on_node_connected(struct session *s, const struct session_event *ev, uint64_t now_ms);
/* Everything up to publish or play, for a link that is connected. */
MUST_CHECK enum err session_send_hello(struct session *s, const struct session_event *ev,
                                       uint64_t now_ms);
/* It has shaken hands. */
void session_on_node_alive(struct session *s, uint64_t now_ms);
/* It has taken the publication or play. */
void session_node_started(struct session *s, uint64_t now_ms);
/* The client gets its Publish.Start or Play.Start from us. */
void session_tell_start(struct session *s, uint64_t now_ms);
/* The node is out of the question: the next one. */
void session_give_up_node(struct session *s, enum node_fail fail, uint64_t now_ms);
/* The node's own verdict: passed on, and no other node is asked. */
void session_refused_by_node(struct session *s, uint64_t now_ms);
/* The node says that somebody else publishes the stream. */
void session_retry_ghost(struct session *s, uint64_t now_ms);
void session_on_phase_deadline(struct session *s, uint64_t now_ms);
void session_on_play_start_due(struct session *s, uint64_t now_ms);

/* ---- session_node.c: what the node in use says ---- */

void session_on_node_bytes(struct session *s, const struct session_event *ev, uint64_t now_ms);
void session_on_node_failed(struct session *s, const struct session_event *ev, uint64_t now_ms);
void session_on_node_ended(struct session *s, const struct session_event *ev, uint64_t now_ms);
void session_to_client(struct session *s, struct rtmp_msg *m, uint32_t msid, uint32_t timestamp,
                       uint64_t now_ms);
/* Whether the stream has its publisher: what its end depends on that the node has told of. */
void session_on_publisher(struct session *s, const struct session_event *ev, uint64_t now_ms);
/* What was held back of the stream's end; it is passed on, or forgotten. */
void session_pass_ends(struct session *s, bool to_the_client, uint64_t now_ms);

/* ---- entry.c ---- */

/* The client's publish or play, s->kind: fills key, app, token, args_hash, stream and command.
 * False: it has been refused, or the session closed. */
MUST_CHECK bool entry_take(struct session *s, const struct client_event *ev, uint64_t now_ms);
/* A command as nodes get it, in memory of its own. NULL: there is none. */
MUST_CHECK struct rtmp_msg *entry_command(const struct session *s, struct rtmp_msg *m);

/* ---- flow.c: session_reads_client() and session_reads_node() too ---- */

/* After a step: whether a queue has become too long, or short again. */
void flow_update(struct session *s, uint64_t now_ms);

/* ---- rehome.c, rehome_replay.c, rehome_play.c ---- */

/* False: streams are not moved. */
bool rehome_enabled(const struct session *s);
/* The publisher's media, before anything else is done with it. */
void rehome_keep(struct session *s, struct rtmp_msg *m, uint64_t now_ms);
/* A player's message that nodes have to hear again: pause, buffer length. */
void rehome_remember(struct session *s, struct rtmp_msg *m);
/* A player is placed anew: what rehome_remember() took is for the next node, too. */
void rehome_ask_again(struct session *s, uint64_t now_ms);
/* A player's message for the node that is being attached, too. */
MUST_CHECK enum err rehome_pass(struct session *s, struct rtmp_msg *m);
/* The link in use is lost while relaying, or on its way out. */
void rehome_link_lost(struct session *s, enum rehome_cause cause, uint64_t now_ms);
/* Moves with the new node ready first. */
void rehome_planned(struct session *s, enum rehome_cause cause, const char *node, uint64_t now_ms);
/* The link is to go on where the player is, if it has had media of its stream. */
void rehome_join(struct session *s, int link);
/* Media of a player, from whichever link. */
void rehome_player_media(struct session *s, int link, struct rtmp_msg *m, uint64_t now_ms);
/* While the session is SESS_REHOME: more of the publisher's media, which is kept already. */
void rehome_publisher_media(struct session *s, struct rtmp_msg *m, uint64_t now_ms);
/* Everything that happens to the link being set up. */
void rehome_node_dialled(struct session *s, uint64_t now_ms);
void rehome_node_connected(struct session *s, const struct session_event *ev, uint64_t now_ms);
void rehome_node_event(struct session *s, const struct node_event *ev, uint64_t now_ms);
void rehome_node_heard(struct session *s, uint64_t now_ms);
void rehome_node_failed(struct session *s, enum node_fail fail, uint64_t now_ms);
/* Answers. */
void rehome_placed(struct session *s, const struct session_event *ev, uint64_t now_ms);
void rehome_unplaced(struct session *s, uint64_t now_ms);
void rehome_claim_moved(struct session *s, const struct session_event *ev, uint64_t now_ms);
void rehome_audience(struct session *s, const struct session_event *ev, uint64_t now_ms);
/* The player's stream does not leave after all, and the player has not left either: it stays. */
bool rehome_called_back(struct session *s, const struct session_event *ev, uint64_t now_ms);
/* The player's stream moves, or has arrived. */
void rehome_follow(struct session *s, const struct session_event *ev, uint64_t now_ms);
void rehome_settled(struct session *s, uint64_t now_ms);
void rehome_phase_deadline(struct session *s, uint64_t now_ms);
void rehome_state_deadline(struct session *s, uint64_t now_ms);
/* Ends whatever of it is going on, links included but for the current one. */
void rehome_abandon(struct session *s);
/* Another publication or play begins on the connection. */
void rehome_forget(struct session *s);

/* ---- shared_play.c ---- */

/* The session's place in the share, and what becomes of that. */
void shared_play_seated(struct session *s, const struct session_event *ev, uint64_t now_ms);
void shared_play_started(struct session *s, const struct session_event *ev, uint64_t now_ms);
void shared_play_ended(struct session *s, const struct session_event *ev, uint64_t now_ms);
/* What the player asks for now would be answered to all: it gets a link of its own. */
void shared_play_leave(struct session *s, uint64_t now_ms);

/* ---- link_watch.c ---- */

/* Another link is the current one. */
void link_watch_begin(struct session *s, uint64_t now_ms);
/* Whether the node, when link_ping_ms has come, may be given up for what it has not said. */
bool link_watch_judges(const struct session *s);
/* link_ping_ms has come. */
void link_watch_due(struct session *s, uint64_t now_ms);
/* Another link to the node is silent: asked out of turn, though not all at the same moment. */
void link_watch_suspect(struct session *s, uint64_t now_ms);

#endif
