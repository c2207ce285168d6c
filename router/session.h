/* router/session.h - one client connection, publisher or player, from its first byte to its last:
 * the machine of DESIGN 6.1. handshake -> command -> place -> relay -> closing, and back to command
 * when a publication or play ends. Pure: session_step() takes one event and a clock and returns
 * actions; router/session_io.c performs them. Bytes to send wait in client.link.out and
 * links[i].link.out; which sockets should exist is read from links[i].state. Owner:  session_io;
 * init/deinit.   Thread: the process's only thread.   Tests: tests/unit/router/test_session.c,
 * tests/replay */
#ifndef WEIR_ROUTER_SESSION_H
#define WEIR_ROUTER_SESSION_H

#include "cluster/close_why.h"
#include "cluster/placement.h"
#include "cluster/store.h"
#include "router/access.h"
#include "router/admission.h"
#include "router/client_side.h"
#include "router/link_ends.h"
#include "router/node_link.h"
#include "router/pending.h"
#include "router/share.h"
#include "router/splice.h"
#include "router/stream_keep.h"

enum session_state {
    SESS_HANDSHAKE = 0, /* C0 C1 C2 expected (section 5.2) */
    SESS_COMMAND,       /* connect .. publish or play (section 7.2) */
    SESS_PLACE,         /* owner being found, node side connecting and replaying */
    SESS_RELAY,         /* messages flow */
    SESS_REHOME,        /* node side lost or leaving, another one being attached */
    SESS_CLOSING,       /* flush, then close; no new reads */
};
enum { SESS_STATE_COUNT = SESS_CLOSING + 1 };
const char *session_state_name(enum session_state s);

/* Inside SESS_PLACE */
enum place_phase {
    PHASE_LOOKUP = 0,   /* the answer to ACT_PLACE is awaited */
    PHASE_WAIT_RELEASE, /* the publisher we take over from is closing its node link */
    PHASE_LINK,         /* dial .. the node's answer */
    PHASE_CHECK,        /* the node closed on us: does it answer a dial? */
    PHASE_PAUSE,        /* before asking the same node again (ghost publisher) */
    PHASE_HELD,         /* before a node is looked for (again): a player that plays already, or a
                           client that begins stream after stream */
    PHASE_SHARE,        /* player: the answer to the one that plays for all */
};

/* Inside SESS_REHOME */
enum rehome_phase {
    RH_NONE = 0,
    RH_WAIT,     /* before asking again: for a node, or for the claim to change */
    RH_LOOKUP,   /* the answer to ACT_PLACE is awaited */
    RH_LINK,     /* dial .. the node's answer; for players: to the ping behind their play */
    RH_CHECK,    /* the node closed on us again: does it answer a dial? */
    RH_CLAIM,    /* publisher: the answer to ACT_MOVE */
    RH_AUDIENCE, /* publisher: players are being attached */
    RH_REPLAY,   /* publisher: what was kept, paced */
    RH_OVERLAP,  /* both nodes carry the stream; players: to be cut over */
};

/* Why a node was given up before the client was told anything. */
enum node_fail {
    FAIL_NONE = 0,
    FAIL_DIAL,           /* refused, unreachable */
    FAIL_DIAL_TIMEOUT,   /* no TCP connection, or no handshake, in router.dial_timeout */
    FAIL_ANSWER_TIMEOUT, /* no answer to publish or play in router.answer_timeout */
    FAIL_DIED,           /* closed, and does not answer a dial */
    FAIL_GHOST,          /* keeps saying BadName although no other claim is valid */
    FAIL_BAD,            /* not RTMP */
    FAIL_REFUSED,        /* while re-homing: this node does not want it */
    FAIL_FULL,           /* while re-homing: it has got its max_streams meanwhile */
};
enum { NODE_FAIL_COUNT = FAIL_FULL + 1 };
const char *node_fail_name(enum node_fail f);

/* What all sessions of a worker share; changed by a reload between steps only. */
struct session_env {
    struct rtmp_pool *pool;
    const struct config_router *router;
    const struct config_relay *relay;
    const struct config_failover *failover;
    struct rtmp_chunk_limits unrouted_limits; /* before publish or play */
    struct rtmp_chunk_limits client_limits;
    struct rtmp_chunk_limits node_limits;
    uint32_t unrouted_bytes;
    bool vhost;
    struct access access;
    struct admission *admission; /* sessions per application */
    struct link_ends *ends;
    uint64_t wall_offset_ms;     /* Unix time less that of the sessions */
    uint8_t noise[RTMP_HANDSHAKE_BYTES];
};

enum session_event_kind {
    SE_CLIENT_BYTES,   /* bytes */
    SE_CLIENT_TAKES,   /* a player's system acknowledges what it is sent, though it says nothing */
    SE_CLIENT_ENDED,   /* why: WHY_CLIENT_CLOSED or WHY_CLIENT_RESET */
    SE_PLACED,         /* answer to ACT_PLACE: node, epoch, wait_release, took_over */
    SE_UNPLACED,       /* answer to ACT_PLACE: why (WHY_NO_NODE, WHY_DUPLICATE) */
    SE_SHARED,         /* answer to ACT_PLACE: share: play from it instead */
    SE_SHARE_STARTED,  /* node, reason: its node link is live */
    SE_SHARE_ENDED,    /* why, node: the status code of the node's refusal, if it was one */
    SE_RELEASED,       /* the publisher we take over from has closed its node link */
    SE_NODE_CONNECTED, /* link, proxy, answers_pings */
    SE_NODE_DIALLED,   /* link: it had to wait for its turn, which has come */
    SE_NODE_FAILED,    /* link: could not connect */
    SE_NODE_BYTES,     /* link, bytes */
    SE_NODE_ENDED,     /* link: end of file or reset */
    SE_STREAM_MOVED, /* our stream is live on another node now: node, epoch, publication; follow: it
                        is on its way there, attach at once; planned: the old node still has it */
    SE_STREAM_SETTLED, /* it has arrived where it was on its way to */
    SE_CLAIM_MOVED,    /* answer to ACT_MOVE: epoch; 0: the store is away, or the node is full */
    SE_AUDIENCE,       /* answer to ACT_AUDIENCE: ready */
    SE_PUBLISHER,      /* answer to ACT_ENDS: ready: the stream has its publisher still */
    SE_SUSPECT,        /* another link to our node has had no answer to its ping */
    SE_MOVE,           /* cause, node ("": wherever): move with the new node ready first */
    SE_TAKEN_OVER,     /* another publisher has our claim */
    SE_FLUSHED,        /* something queued has left */
    SE_CLOSE,          /* why: from outside (shutdown, limits) */
    SE_TICK,           /* a deadline has come */
};

struct session_event {
    enum session_event_kind kind;
    struct slice *bytes; /* consumed from */
    enum close_why why;
    int link;         /* index into links */
    const char *node; /* SE_PLACED: id. SE_NODE_CONNECTED: its address, for a client without tcUrl.
                         SE_STREAM_MOVED: id */
    uint64_t epoch;
    bool wait_release, took_over;
    enum place_reason reason;
    const uint8_t *proxy;
    size_t proxy_len;
    bool answers_pings; /* SE_NODE_CONNECTED: the node has answered some before */
    bool reset;         /* SE_NODE_ENDED */
    bool full;          /* SE_CLAIM_MOVED: the node; it is to be another one */
    bool follow, planned, ready;
    bool stays;           /* SE_STREAM_MOVED, SE_PLACED: the claim says so (cluster/store.h) */
    uint64_t publication; /* SE_PLACED, SE_STREAM_MOVED: of the claim found; 0: none */
    enum rehome_cause cause;
    struct share *share;
    uint32_t time; /* SE_STREAM_MOVED, SE_PLACED, with follow: of the first message that the node is
                      given */
};

/* In the order they are performed. */
enum session_action {
    ACT_NODE_FAILED = 1 << 0, /* failed_node was given up because of last_fail: say so */
    ACT_HANDED_OVER =
        1 << 1,            /* our node link is closed: tell the publisher that took over (ended) */
    ACT_RELEASE = 1 << 2,  /* give up the claim and the session's record (ended) */
    ACT_REHOMING = 1 << 3, /* a move begins: log it */
    ACT_PLACE = 1 << 4,    /* find a node; answer by SE_PLACED or SE_UNPLACED */
    ACT_MOVE = 1 << 5,     /* the claim to rehome.node; answer by SE_CLAIM_MOVED or SE_TAKEN_OVER */
    ACT_AUDIENCE = 1 << 6, /* have all workers followed? answer by SE_AUDIENCE */
    ACT_ATTACHED = 1 << 7, /* this player has followed the claim of followed_epoch, or cannot */
    ACT_STARTED = 1 << 8,  /* the node has answered: log it */
    ACT_ARRIVED = 1 << 9,  /* the claim: its next node is the owner */
    ACT_RESUMED = 1 << 10, /* the player has media again, rehome.gap_ms after the last */
    ACT_ENDS = 1 << 11,    /* has the stream a publisher? answer by SE_PUBLISHER */
    ACT_SUSPECT = 1 << 12, /* the node has not answered a ping: SE_SUSPECT to its other sessions */
    ACT_SHUTDOWN =
        1 << 13,        /* all has left: send no more, but hear the client out: it must read it */
    ACT_FREE = 1 << 14, /* close the sockets and free */
};

/* The publication or play that ACT_HANDED_OVER and ACT_RELEASE speak of: the session may be on its
 * next one already. */
struct session_ended {
    struct stream_key key;
    enum session_kind kind;
    char node[NODE_ID_MAX];
    uint64_t epoch; /* 0: no claim of ours */
    bool keep_hint; /* it was live: hold its node for the publisher's return */
};

enum { SESSION_LINKS = 2, SESSION_EXCLUDED_MAX = 17, SESSION_CONTROLS_MAX = 4 };

/* What moving takes. */
struct session_rehome {
    enum rehome_phase phase;
    enum rehome_cause cause;
    bool planned;           /* the old link is still in use */
    int link;               /* being set up, or -1 */
    char node[NODE_ID_MAX]; /* it goes to */
    uint64_t began_ms, grace_until_ms;
    uint64_t linked_ms; /* when the link being set up was connected */
    uint32_t rounds;   /* how often no node was found; in SESS_PLACE, too */
    uint64_t again_ms; /* when a link that had ended was last made anew; 0: never */
    bool waiting;      /* ACT_AUDIENCE is being answered */
    bool claimed;      /* publisher: the claim says that the stream is on its way to node */
    bool name_taken;   /* publisher: the node says that somebody has the stream there already */
    bool named;        /* publisher: by who moves it, node and no other */
    bool returned;     /* publisher: the claim is taken back, the stream stays where it is */
    bool again;        /* player: on its way back to the same node */
    bool again_here;   /* the link that was made anew is the one in use: the node is the same */
    bool suspect;      /* the same node ended it twice: is that a refusal? */
    bool denied;       /* player: the node that it followed its stream to does not want it */
    bool level;        /* player: has both links, and on the new one nothing is missing */
    /* publisher */
    struct stream_keep keep;
    bool replaying, states_sent, caught_up;
    uint64_t replay_at; /* number of the next message */
    uint64_t replayed;
    uint32_t pings_due; /* answers on the link when the last batch has been read there */
    uint64_t batch_ms;  /* of the last of them, or of its ping */
    struct rehome_losses {
        uint32_t count;
        uint64_t since_ms;
    } lost,         /* nodes, also on the way to them */
        called_off; /* nodes that did not survive a planned move there */
    uint64_t kept_dropped; /* messages given up during this move */
    uint64_t cuts;         /* groups given up for want of room; whoever counts them clears this */
    /* player */
    struct splice splice;
    struct rtmp_msg *controls[SESSION_CONTROLS_MAX];
    uint64_t followed_epoch, publication;
    uint64_t media_ms, gap_ms; /* last media; how long there was none */
    uint64_t
        frames_ms; /* last audio or video: a node also sends data of its own, |RtmpSampleAccess */
    bool resuming;
    struct pending ends; /* statuses that say the stream has ended, while that is being found out */
    uint64_t ends_due_ms;
    uint32_t count; /* moves of the session, for its record */
};

/* What only a publication or play needs, so that strangers do not weigh as much. */
struct session_stream {
    char excluded[SESSION_EXCLUDED_MAX][NODE_ID_MAX]; /* nodes that are out of the question */
    struct session_ended ended;
    struct splice_feed feeds[SESSION_LINKS]; /* what each link has delivered to the player */
    struct claim found;                      /* as last read, for whoever places the session */
};

struct session {
    const struct session_env *env;
    uint64_t id;
    uint8_t addr[16]; /* the client's, v4 mapped; zeros: not known. session_io sets it */
    enum session_state state;
    enum place_phase phase;
    enum session_kind kind;
    enum close_why why;

    struct client_side client;
    struct node_link links[SESSION_LINKS];
    char link_nodes[SESSION_LINKS][NODE_ID_MAX]; /* where they go */
    int current; /* the link in use, or -1; the other one, if not off, is being flushed or is
                    rehome.link */

    /* the publication or play */
    struct session_stream *stream; /* NULL before the first one */
    struct stream_key key;
    struct admission_app app;
    bool token;               /* it was let in by one, which nodes do not get to see */
    struct rtmp_msg *command; /* publish or play for nodes, in memory of its own */
    uint64_t args_hash;       /* of the query strings; 0: none */
    char node[NODE_ID_MAX];
    enum place_reason placed_by;
    uint64_t claim_epoch; /* of our claim; 0: none */
    bool placed;          /* it has a node, and records in the store, that are to be given up */
    bool took_over;
    uint32_t excluded_count; /* of stream->excluded */
    uint32_t tries;
    enum node_fail last_fail;
    char failed_node[NODE_ID_MAX]; /* the last one given up */
    char refusal[96];              /* the node's status code */
    struct pending pending;        /* what the client sent before the node was ready */
    bool told_start;               /* the client has its Publish.Start or Play.Start */
    bool media_seen;               /* the player has had media from the present node */

    struct share *leads;    /* plays for all of it, without a client of its own; NULL: as usual */
    struct share_seat seat; /* player: gets its media there and has no node link */
    bool alone;             /* player: has asked for what a shared link cannot do */

    struct session_rehome rehome;
    uint64_t link_bytes_ms;               /* of the current link: the last bytes */
    uint64_t link_heard_ms, link_ping_ms; /* since when its silence counts; next look at it */
    uint64_t link_asked_ms;               /* first ping since it was heard; 0: none */
    uint64_t link_space_ms; /* between its pings, if more than a quarter of failover.stall: where
                               many links go to a node, they take turns; the owner sets it */
    bool link_suspected; /* asked because another link had no answer: nobody else need hear of it */
    uint32_t link_pings; /* sent on it */

    /* flow */
    bool client_paused, node_paused;
    uint64_t stall_mark, stall_taken; /* when the stall deadline was set: queued, bytes_out */
    bool client_gone;
    bool last_words; /* an error status is on its way to the client */
    bool lingering;  /* our side is shut down; waiting for the client to close */

    /* time, ms of the clock that session_step() is given: base/run_clock.h; 0: none */
    uint64_t asked_ms, started_ms, node_started_ms;
    uint64_t state_deadline_ms, phase_deadline_ms, play_start_ms, ghost_until_ms, stall_deadline_ms;
    uint64_t flush_deadline_ms; /* for node links that are not current */
    uint64_t heard_ms, pinged_ms;

    uint64_t begun_since_ms;
    uint32_t begun;         /* streams since then */
    uint64_t unrouted_base; /* client.bytes_in when routing began anew */
    uint64_t bytes_out;     /* to the client; session_io counts */
    unsigned actions;       /* collected during a step */
};

void session_init(struct session *s, const struct session_env *env, uint64_t id, uint64_t now_ms);
/* A player without a client, in the place of all that will take a seat in share: its stream, its
 * arguments, its connect object are those of `like`. Returns actions, as session_step(); 0: no
 * memory, and only session_deinit() may follow. */
MUST_CHECK unsigned session_init_lead(struct session *s, const struct session_env *env, uint64_t id,
                                      struct share *share, const struct session *like,
                                      uint64_t now_ms);
void session_deinit(struct session *s);
/* Whether the player may get its media over a link that others share: it gave no arguments, and has
 * asked for nothing but the live stream. */
bool session_may_share(const struct session *s);
/* A player whose stream is found elsewhere waits for a node as in a move. */
bool session_plays_already(const struct session *s);

/* One event; returns actions. After ACT_FREE nothing but session_deinit() may follow. */
MUST_CHECK unsigned session_step(struct session *s, const struct session_event *ev,
                                 uint64_t now_ms);

/* Back-pressure: whether to read now. */
bool session_reads_client(const struct session *s);
bool session_reads_node(const struct session *s, int link);
/* RTMP time of the first message that a new node will be given: for ACT_MOVE. */
uint32_t session_replay_time(const struct session *s);
/* When the next SE_TICK is due. Never 0. */
uint64_t session_deadline(const struct session *s);
/* SE_TICK would now say that a peer has let its time pass: what has come from it is to be heard
 * first. */
bool session_judges(const struct session *s, uint64_t now_ms);
/* The same of its client alone: it has not answered a ping. */
bool session_judges_client(const struct session *s, uint64_t now_ms);
/* Of a publisher: few nodes were lost within a minute in planned moves, so SE_MOVE is listened to. */
bool rehome_may_plan(const struct session *s, uint64_t now_ms);

#endif
