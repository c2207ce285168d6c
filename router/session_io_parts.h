/* router/session_io_parts.h - what session_io.c (a session's turn and its client),
 * session_node_io.c (its node links) and session_accept_io.c (how it begins) have of each other.
 * Nobody else includes it. */
#ifndef WEIR_ROUTER_SESSION_IO_PARTS_H
#define WEIR_ROUTER_SESSION_IO_PARTS_H

#include "router/session_io.h"

enum { SESSION_READS_PER_WAKE = 4 }; /* one busy session does not starve the others */

/* An event for the machine; what it asks for is still to be performed. */
static inline void session_take(struct session_conn *c, const struct session_event *ev)
{
    c->todo |= session_step(&c->s, ev, worker_now_ms(c->w));
}

static inline void session_watch(struct worker *w, ev_io *watcher, bool wanted)
{
    if (wanted && !ev_is_active(watcher))
        ev_io_start(w->loop, watcher);
    else if (!wanted && ev_is_active(watcher))
        ev_io_stop(w->loop, watcher);
}

/* ---- session_io.c ---- */

void session_client_ready(struct ev_loop *loop, ev_io *watcher, int events);
void session_on_timer(struct ev_loop *loop, ev_timer *timer, int events);
/* A socket of the session has news. */
void session_note_ready(const struct session_conn *c);
/* Runs it now, or, while it relays, at the end of the turn of the loop. */
void session_run_in_turn(struct session_conn *c);
/* Closes what the system holds at once; the memory goes at the end of the loop turn. */
void session_finish(struct session_conn *c);
/* 1: all gone, 0: the socket is full, -1: the peer is gone. */
int session_write_out(int fd, struct rtmp_chunk_writer *out, uint64_t *sent);
/* Linux falls back to delayed acks by itself; during set-up each would cost the peer 40 ms. */
void session_quick_ack(const struct session_conn *c, int fd);

/* ---- session_node_io.c ---- */

/* Both: true if there was news for the session, so that it has to go on. */
bool session_dial_new_links(struct session_conn *c);
bool session_flush_node(struct session_conn *c, int i);
/* Reads what has come from it, if it is to be read; a connection that is made by now is used. */
void session_hear_node(struct session_conn *c, int i);
void session_close_node_socket(struct session_conn *c, struct node_socket *n);
/* Sockets whose link is off, or is another one by now; those that are set up. */
void session_close_left_sockets(struct session_conn *c);

/* ---- session_accept_io.c ---- */

/* The PROXY header in front of C0, gathered in the read block. True: it is complete; in is what
 * follows it. */
bool session_read_proxy_header(struct session_conn *c, struct slice *in);

#endif
