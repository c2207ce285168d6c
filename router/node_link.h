/* router/node_link.h - one connection to a node for one publication or play. Pure: bytes in by
 * slices, bytes out in link.out. Everything from the PROXY header and C0 to publish/play is queued
 * at once, so that set-up costs one round trip. Owner:  the session; a link is NODE_OFF when not in
 * use.     Tests: tests/unit/router/test_node_link.c */
#ifndef WEIR_ROUTER_NODE_LINK_H
#define WEIR_ROUTER_NODE_LINK_H

#include "rtmp/command.h"
#include "rtmp/link.h"

enum node_link_state {
    NODE_OFF = 0,   /* no connection; its socket, if any, is to be closed */
    NODE_DIAL,      /* TCP connect under way */
    NODE_HANDSHAKE, /* everything sent, S0 S1 S2 to come */
    NODE_COMMAND,   /* the answer to publish or play to come */
    NODE_LIVE,
    NODE_CLOSING, /* what is queued leaves, then off */
};

enum node_event_kind {
    NODE_EV_ALIVE,   /* handshake done: it is an RTMP server that works */
    NODE_EV_STARTED, /* Publish.Start, Play.Start */
    NODE_EV_REFUSED, /* an error status, or _error of connect */
    NODE_EV_STATUS,  /* any other onStatus */
    NODE_EV_MEDIA,
    NODE_EV_USER, /* StreamBegin and so on */
};

struct node_event {
    enum node_event_kind kind;
    struct rtmp_msg *msg;      /* one reference is the receiver's; NULL for ALIVE */
    struct rtmp_status status; /* STARTED, REFUSED, STATUS; views into msg */
};

struct node_link {
    enum node_link_state state;
    uint32_t generation; /* a new one at every dial */
    struct rtmp_link link;
    uint32_t handshake_left;
    bool version_seen;
    bool connected;           /* _result of connect */
    bool created;             /* the first _result of createStream: there is no other */
    bool answers_pings;       /* the node is known to, so its silence says something */
    bool no_memory;           /* after PARSE_BAD: we are short of it, the node did nothing wrong */
    bool check_only;          /* only the handshake is wanted: is the node alive? */
    uint32_t msid;            /* of our publish or play */
    struct rtmp_msg *command; /* publish or play, as the client sent it */
    uint32_t largest_sent;    /* bytes; nodes close on messages beyond their own limit */
};

struct node_hello {
    const uint8_t *proxy; /* header, or NULL */
    size_t proxy_len;
    const uint8_t *noise;   /* RTMP_HANDSHAKE_BYTES */
    const uint8_t *connect; /* the client's connect command */
    size_t connect_len;
    const char *tc_url;         /* used if the client gave none */
    const char *const *without; /* arguments that the node is not to see, or NULL */
    uint32_t now_ms;
};

/* From NODE_OFF to NODE_DIAL. command: referenced; NULL: check only. */
void node_link_open(struct node_link *n, struct rtmp_pool *pool,
                    const struct rtmp_chunk_limits *limits, struct rtmp_msg *command);
/* The socket is connected: queues everything up to publish/play. */
MUST_CHECK enum err node_link_connected(struct node_link *n, const struct node_hello *h);
/* To NODE_OFF at once. */
void node_link_close(struct node_link *n);
/* To NODE_CLOSING if anything is queued, else to NODE_OFF. */
void node_link_finish(struct node_link *n);

/* As client_side_next(). */
MUST_CHECK enum parse_result node_link_next(struct node_link *n, struct slice *in,
                                            struct node_event *out);
/* Media and commands of the client, with the node's stream id. */
MUST_CHECK enum err node_link_send(struct node_link *n, struct rtmp_msg *m);

#endif
