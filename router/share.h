/* router/share.h - one stream's messages to all players of a worker: what comes over the one node
 * link that they share goes into every player's queue by reference. A player begins with metadata,
 * sequence headers and the last group of pictures; where that is too long, not whole, or there is
 * no memory to keep it, with the headers and what comes next, and video from the next keyframe on
 * if there are any. One whose queue is full gets nothing until the queue has gone down, and then
 * begins anew at a keyframe: it never slows the others.
 * Pure. Owner: whoever has the node link. Seats are the players' own and leave before they go.
 * Errors: memory short: the seat is `failed`, its player has to be closed.   Time: monotonic ms.
 * Tests: tests/unit/router/test_share.c */
#ifndef WEIR_ROUTER_SHARE_H
#define WEIR_ROUTER_SHARE_H

#include "router/stream_keep.h"
#include "rtmp/link.h"

struct share;

struct share_seat {
    struct share *share;    /* NULL: not seated */
    struct rtmp_link *link; /* to the player */
    uint32_t at;            /* in share.seats */
    bool open;              /* the player has had its Play.Start */
    bool playing;           /* gets all that comes; else it begins when it may */
    bool blind;             /* but for video, until there is a keyframe */
    uint64_t blind_ms;      /* since when */
    uint64_t
        begun_bytes; /* what it began with and has not taken yet: its queue may be longer by that */
    bool failed;     /* no memory */
    bool news;       /* something was queued, or failed, since the owner looked */
};

struct share_taken {
    struct share_seat *seat;
    struct rtmp_link *link;
};

struct session;

struct share {
    const struct session *lead; /* has the link */
    struct share_taken *seats;
    uint32_t count, cap;
    struct stream_keep keep; /* since the last keyframe */
    uint64_t heard_ms;       /* last media */
    uint64_t key_ms;         /* last keyframe; 0: none */
    uint32_t timestamp;      /* of the last media */
    bool started;            /* the node has answered */
    uint64_t buffer_bytes;   /* a player's queue is full with so many */
    uint64_t keep_bytes;     /* most bytes of a group of pictures that is kept */
    uint64_t skips;          /* how often a player's queue was full */
};

void share_init(struct share *sh, uint64_t buffer_bytes, uint64_t keep_bytes);
void share_deinit(struct share *sh); /* no seat may be taken */
/* Other ones from now on. */
void share_set_limits(struct share *sh, uint64_t buffer_bytes, uint64_t keep_bytes);

/* False: no memory. */
MUST_CHECK bool share_take_seat(struct share *sh, struct share_seat *seat, struct rtmp_link *link);
void share_leave_seat(struct share_seat *seat); /* not seated: nothing */

/* The player has had its Play.Start: begins with what is kept, if there is any. */
void share_open(struct share_seat *seat, uint64_t now_ms);
/* From the node to all: media as (CLIENT_MSID, timestamp), anything else as (msid, timestamp). */
void share_push(struct share *sh, struct rtmp_msg *m, uint32_t msid, uint32_t timestamp,
                uint64_t now_ms);
/* What is kept belongs to a publication that is over. */
void share_forget(struct share *sh);

#endif
