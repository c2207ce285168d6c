/* router/session_io.h - the sockets of a session: performs what session_step() asks for. */
#ifndef WEIR_ROUTER_SESSION_IO_H
#define WEIR_ROUTER_SESSION_IO_H

#include "base/socket_io.h"
#include "router/worker_io.h"

struct node_socket {
    int fd;              /* -1: none */
    uint32_t generation; /* of the link it was opened for */
    bool connecting;
    bool broken;         /* writing failed: read to the end, which tells why */
    uint64_t dialled_ms; /* the node's process of then has it; monotonic */
    uint64_t address;    /* node_address_hash() of where it was dialled */
    int setup; /* one of those that are counted while they are set up: what setups_leave() wants;
                  -1: it is not */
    ev_io rd, wr;
    struct intake in;
};

struct session_conn {
    struct session s;
    struct worker *w;
    struct session_conn *next, *prev;
    struct session_conn *unrouted_next, *unrouted_prev;
    bool unrouted; /* in that list */
    struct stream_member member;
    int fd;
    ev_io rd, wr;
    struct intake in;
    struct node_socket nodes[SESSION_LINKS];
    struct setups_waiter waiter; /* its link waits until others are set up */
    ev_timer timer;
    uint64_t timer_at_ms; /* when it will fire; 0: stopped */
    bool proxy_expected;  /* a PROXY header comes before C0 */
    bool identified;      /* counted by admission under addr */
    bool running, dead;
    bool runs_soon; /* in worker.soon */
    unsigned todo;  /* enum session_action, not yet performed */
    /* playing over a shared link (share_io.c) */
    struct session_conn *lead; /* has the link */
    struct session_conn *deliver_next;
    bool deliver_queued;
    bool record_stale; /* says another node, or is missing */
    /* placing (place_io.c) */
    uint32_t place_serial; /* an answer to an older one is stale */
    uint32_t place_rounds;
    uint32_t place_waiting;       /* store calls that have not called back: not to be freed yet */
    bool found_live, found_hint;  /* what s.stream->found is */
    uint64_t move_after_ms;       /* no planned move before; monotonic */
    uint32_t move_tries;          /* since one has arrived, MOVE_DOUBLINGS_MAX at most */
    struct worker_id mover;       /* player: who moves its stream */
    bool astray;                  /* player: not sent where its stream is by the claim */
    uint64_t told_epoch;          /* of the last claim that this session has acted on */
    bool recorded;                /* has a session record */
    bool seen_record, seen_claim; /* in the store, by reconcile() */
    bool undialled;               /* its last link waits for its turn, or has not had it */
    /* What its lines have said of its tries, since it was where its stream is. */
    struct {
        bool failed;   /* that a node did not take it */
        bool again;    /* it began anew after that: at debug level from then on */
        bool astray;   /* that it is where its stream is not */
        uint32_t more; /* failures that were only counted */
    } said;
    int dial_error; /* errno of the last connection to a node that could not be made; 0: none */
    uint64_t asked_us, placed_us, dialled_us, alive_us; /* how long setting up takes; monotonic */
    uint64_t stream_began_ms;           /* Unix time: its record says so, also after a move */
    uint64_t refresh_bytes, refresh_ms; /* of the last refresh: bitrate */
    struct sockaddr_storage peer, local;
    uint8_t addr[16]; /* the client's, v4 mapped */
    bool addr_own;    /* and not a proxy's */
    char client[ADDRESS_TEXT_MAX];
    uint64_t opened_ms;    /* monotonic */
    uint64_t acked_before; /* by the client's system, when a player was last pinged */
};

/* Whose membership of its stream it is. */
static inline struct session_conn *session_conn_of(struct stream_member *m)
{
    return (struct session_conn *)((char *)m - offsetof(struct session_conn, member));
}

void session_accept(struct worker *w, const struct worker_listener *l, int fd,
                    const struct sockaddr_storage *peer);
/* An event from outside the session's own sockets. */
void session_post(struct session_conn *c, const struct session_event *ev);
/* fd -1: without a client. NULL: no memory. */
MUST_CHECK struct session_conn *session_conn_create(struct worker *w, int fd,
                                                    const struct sockaddr_storage *peer);
/* Performs what is to be done, sends what waits. */
void session_run(struct session_conn *c);
/* The same for those whose turn it is at the end of the loop's. */
void session_run_soon(struct worker *w);
/* Sends what a shared link has brought its player. */
void session_flush(struct session_conn *c);
/* At the end of a loop turn: dials what waited for others; frees those that ended in it. */
void session_dial_waiting(struct worker *w);
void session_free_dead(struct worker *w);

#endif
