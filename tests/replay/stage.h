/* tests/replay/stage.h - one session on a made-up stage: its client and its nodes are RTMP peers of
 * the test's own, the clock is turned by hand, and all that comes out is written into a trace, a
 * line each. Does what router/session*_io.c do, without sockets. Used by replay.c and the unit
 * tests of router/session. Anything that cannot happen aborts. */
#ifndef WEIR_TESTS_STAGE_H
#define WEIR_TESTS_STAGE_H

#include "base/wr.h"
#include "router/session.h"

enum { STAGE_TRACE_MAX = 64 * 1024, STAGE_MESSAGE_MAX = 1024 * 1024, STAGE_RULES_MAX = 4 };

struct stage_peer { /* the far end of one connection */
    struct rtmp_chunk_reader in;
    struct rtmp_chunk_writer out;
    uint32_t raw_left;   /* bytes of the session's handshake still to come */
    uint64_t reads_most; /* bytes it will still read; UINT64_MAX: all */
    uint32_t generation; /* of the node link it talks to */
};

/* Told as it happens; to be acted on later, not from there. All may be NULL. */
struct stage_ears {
    void (*heard)(void *arg, int link, struct rtmp_msg *m); /* link -1: by the client, else by that
                                                               node; m NULL: its handshake */
    void (*acted)(void *arg, unsigned actions);
    void *arg;
};

struct stage {
    struct stage_ears ears;
    struct block_pool blocks, peer_blocks;
    struct rtmp_pool pool, peer_pool;
    struct config_router router; /* to be changed before stage_open() */
    struct config_relay relay;
    struct config_failover failover; /* max_moves 0 unless set: streams are not moved */
    struct config_rule rules[STAGE_RULES_MAX];
    struct config_access access; /* no rules unless set; Unix time is the session's clock */
    struct admission admission;
    struct link_ends ends;
    struct session_env env;
    struct rtmp_chunk_limits peer_limits;
    struct session s;
    struct stage_peer client, nodes[SESSION_LINKS];
    uint64_t now_ms; /* the session's clock; a scenario's 0 is STAGE_START_MS */
    uint32_t cut;    /* bytes per event of what peers send; 0: as sent */
    bool holding;    /* the client gathers what it says, to send it in one piece */
    bool quiet;      /* no trace of messages and ticks */
    bool opened, over;
    enum session_state state_seen;
    bool client_held, node_held; /* back-pressure: not read */
    bool link_seen[SESSION_LINKS];
    struct stage *lead;   /* plays for the client, and is on the same clock; NULL: nobody yet */
    struct stage *player; /* of a lead: for whom; the trace and the pools are that one's */
    struct share share;   /* of a lead */
    bool shares, sharing; /* the player has a seat; what follows from that is being done */
    size_t trace_len;
    char trace[STAGE_TRACE_MAX];
};
enum { STAGE_START_MS = 1000000 };

void stage_init(struct stage *t);
void stage_open(struct stage *t);
/* The session is torn down in whatever state it is; nothing of it may be left. */
void stage_deinit(struct stage *t);

/* One event and all that follows from it at once. */
void stage_step(struct stage *t, const struct session_event *ev);
/* On to that moment, with a tick whenever one is due. */
void stage_run_until(struct stage *t, uint64_t ms);
/* Nothing more will happen: to the client, and to the one that plays for it. */
bool stage_is_over(const struct stage *t);

/* The player is to play over a link that may be shared (router/share_io.h): as the answer to
 * ACT_PLACE. */
bool stage_may_share(const struct stage *t);
void stage_share(struct stage *t);

/* The trace since the last call. */
const char *stage_take(struct stage *t, char out[STAGE_TRACE_MAX]);

/* What session_io.c guarantees: a peer is read only when the session says so, and only while it is
 * connected. */
bool stage_client_may_speak(const struct stage *t);
bool stage_node_may_speak(const struct stage *t, int link);
/* What peers say. raw: bytes as they are, in an allocation of exactly their size. */
void stage_client_raw(struct stage *t, const void *buf, size_t len);
void stage_client_says(struct stage *t, uint8_t type, uint32_t msid, uint32_t time_ms,
                       const void *payload, size_t len);
void stage_client_send(struct stage *t); /* what was held */
void stage_node_raw(struct stage *t, int link, const void *buf, size_t len);
void stage_node_says(struct stage *t, int link, uint8_t type, uint32_t msid, uint32_t time_ms,
                     const void *payload, size_t len);
/* The client reads that much more of what waits for it, or the node. */
void stage_client_reads(struct stage *t, uint64_t bytes);
void stage_node_reads(struct stage *t, int link, uint64_t bytes);

#endif
