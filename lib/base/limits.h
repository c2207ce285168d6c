/* base/limits.h - every hard bound, with its unit and its reason. What an operator may tune is a row of the
 * key table (config/keys.c) instead; a row here is what no configuration may exceed. */
#ifndef WEIR_BASE_LIMITS_H
#define WEIR_BASE_LIMITS_H

enum {
    /* Memory blocks */
    BLOCK_BYTES = 64 * 1024,   /* payload of a standard block: one large read, one epoll wake-up */
    BLOCK_POOL_KEEP_BYTES = 4 * 1024 * 1024, /* in free blocks of a size a worker keeps */
    BLOCK_POOL_KEEP = 1024,    /* but no more of them */
    BLOCK_POOL_SHARE = 8,      /* or one for so many live ones, if that is more */
    MESSAGE_POOL_KEEP = 4096,  /* free message objects a worker keeps */
    MESSAGE_POOL_SHARE = 8,    /* or one for so many live ones, if that is more */
    GATHER_BELOW_BYTES = 2048, /* incoming chunks smaller than this are gathered by one copy */

    /* RTMP */
    RTMP_HANDSHAKE_BYTES = 1536,
    RTMP_DEFAULT_CHUNK_BYTES = 128,         /* RTMP 1.0 section 5.4.1 */
    RTMP_OUR_CHUNK_BYTES = 60000,           /* what we announce and send: a media message is mostly one chunk */
    RTMP_CHUNK_BYTES_MAX = 0xffffff,        /* section 5.4.1: larger values mean the same as this one */
    RTMP_WINDOW_BYTES = 5000000,            /* announced to peers, what nginx-rtmp announces */
    RTMP_CSIDS_IN_USE_MAX = 64,             /* chunk streams of one link; clients use 2 to 6 of them */
    RTMP_AGGREGATE_TAGS_MAX = 4096,         /* tags of one aggregate message */
    AMF_DEPTH_MAX = 16,                     /* nested objects and arrays */
    AMF_PROPERTIES_MAX = 256,               /* values of one command, nested ones counted */
    AMF_STRING_MAX = 4096,                  /* bytes of one string in a command */
    COMMAND_BYTES_MAX = 64 * 1024,          /* one command message */
    RTMP_TAG_PEEK_BYTES = 64,               /* of a payload, enough to tell keyframes and sequence headers */

    /* Clients that have not published or played yet (docs/security.md has the sum) */
    UNROUTED_SESSION_BYTES = 64 * 1024, /* memory of one, all told: session_accept_io.c checks the sum */
    UNROUTED_MESSAGE_BYTES = 10 * 1024, /* its longest message, and all it may have begun */
    UNROUTED_CSIDS_MAX = 16,            /* its chunk streams */
    CREATE_STREAMS_MAX = 8,             /* before a publish or play; each one is answered */
    PROXY_BLOCK_BYTES = 8 * 1024,       /* read at once of a client whose PROXY header is not whole */

    /* Names */
    APP_MAX = 256,         /* bytes with the terminating NUL; nginx-rtmp cuts at 255 */
    STREAM_NAME_MAX = 2048, /* name with its query: tokens travel there */
    TC_URL_MAX = 2048,
    STREAM_KEY_MAX = 480, /* canonical key with NUL; LMDB keys end at 511 bytes */
    NODE_ID_MAX = 64,
    HOST_MAX = 256,
    CLUSTER_NAME_MAX = 64,
    ROUTER_ID_MAX = 32,
    ADDRESS_TEXT_MAX = 64, /* "[ipv6]:port" with NUL */

    /* Cluster */
    NODES_MAX = 1024,
    WORKERS_MAX = 64,         /* slots of one router process */
    STORE_WRITE_RECORDS = 100, /* most records per write: no event loop waits long for the writer */
    STORE_READERS_MAX = 4096,
    STORE_CHANGES_KEEP = 16384, /* entries of the change log */
    STORE_EVENTS_KEEP = 10000,

    /* Log */
    LOG_LINE_MAX = 4096,
    LOG_VALUE_MAX = 256, /* bytes of one peer-given value in a line, before quoting */

    /* Router process */
    LISTENERS_MAX = 16,
    RULES_MAX = 256, /* of access; every publish and play walks them */
    LISTEN_BACKLOG = 4096, /* connections the kernel keeps until we accept them */
    ACCEPT_BATCH = 64,          /* connections accepted per loop turn: a flood does not starve sessions */
    WORKER_BEAT_TIMEOUT_MS = 5000, /* a worker whose loop has not turned for so long is killed */
    STORE_POLL_MS = 50,            /* how soon a change elsewhere is seen without a doorbell */
    RUN_STEP_MS = 2 * STORE_POLL_MS, /* a loop that polls the store and has not turned for longer did not run */
    IOV_BATCH = 128,               /* pieces of one writev */
    SETUPS_PER_NODE = 64,          /* links of what moves that a worker sets up to a node at once, */
    SETUPS_OF_ALL = 512,           /* ... and all of a router's: nodes accept so many without being asked (nginx: 511) */
};

#endif
