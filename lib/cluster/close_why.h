/* cluster/close_why.h - how a session can end. The names are the log's why=, the metric's label and
 * what tests expect. */
#ifndef WEIR_CLUSTER_CLOSE_WHY_H
#define WEIR_CLUSTER_CLOSE_WHY_H

enum close_why {
    WHY_NONE = 0,
    /* the client's doing */
    WHY_CLIENT_CLOSED, /* end of file */
    WHY_CLIENT_RESET,
    WHY_CLIENT_SILENT, /* nothing, not even an answer to pings, for router.ping_timeout */
    /* openings that are not RTMP */
    WHY_RTMPE,
    WHY_TLS,
    WHY_HTTP,
    WHY_SSH,
    WHY_PROXY_UNEXPECTED, /* a PROXY header on a listener that takes none */
    WHY_VERSION_BAD,
    WHY_PROXY_BAD,       /* malformed or missing PROXY header */
    WHY_PROXY_UNTRUSTED, /* from an address that may not send one */
    WHY_PROXY_LOCAL,     /* a health check of the proxy: no log line */
    /* time */
    WHY_HANDSHAKE_TIMEOUT,
    WHY_IDLE_TIMEOUT, /* neither published nor played in time */
    /* protocol */
    WHY_CHUNK_BAD,
    WHY_MESSAGE_LONG,
    WHY_COMMAND_BAD,
    WHY_NAME_BAD,
    WHY_UNROUTED_BYTES, /* too much before publish or play */
    /* access */
    WHY_ACCESS_DENIED, /* by a rule, or because none fits */
    WHY_TOKEN_MISSING,
    WHY_TOKEN_BAD, /* of another stream, forged, or of a key that is gone */
    WHY_TOKEN_EXPIRED,
    /* placing */
    WHY_DUPLICATE,    /* the stream is live and placement.duplicate_publish keeps it */
    WHY_NO_NODE,      /* no node could take it */
    WHY_NODE_REFUSED, /* the node's own verdict on this client */
    /* relaying */
    WHY_NODE_LOST,
    WHY_NODE_STALLED, /* took no media for relay.stall_timeout */
    WHY_NODE_BAD,     /* sent what is not RTMP */
    WHY_MAX_MOVES,    /* lost more nodes than failover.max_moves within a minute */
    WHY_TAKEN_OVER,   /* its publisher came back on another connection */
    WHY_STALLED,      /* a player that did not read */
    /* limits */
    WHY_LIMIT_CONNECTIONS,
    WHY_LIMIT_ADDRESS,
    WHY_LIMIT_RATE,
    WHY_LIMIT_APP,      /* sessions of one application */
    WHY_LIMIT_APP_RATE, /* new ones per second */
    WHY_LIMIT_MEMORY,
    /* ours */
    WHY_KICKED, /* by the operator, through the API */
    WHY_SHUTDOWN,
    /* new ones at the end: process records count by number */
    WHY_LIMIT_UNROUTED, /* the oldest of too many that neither publish nor play */
};
enum { WHY_COUNT = WHY_LIMIT_UNROUTED + 1 };

const char *close_why_name(enum close_why why);

#endif
