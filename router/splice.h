/* router/splice.h - a player gets every message of its stream once, whichever nodes it comes from.
 * Per type the last time passed on and how many messages at that time; what a new node link
 * repeats is counted against that (rehoming-notes 8 to 11). Sequence headers and metadata are taken
 * out first, and passed on only when they changed.
 * Pure. Owner: a player's session; zero-initialised.   Tests: tests/unit/router/test_splice.c */
#ifndef WEIR_ROUTER_SPLICE_H
#define WEIR_ROUTER_SPLICE_H

#include "router/media.h"

enum { SPLICE_STATES_MAX = 24 };

struct splice_count {
    bool seen;
    uint32_t time, at; /* the last time, and how many messages at it */
};

/* What the player has. */
struct splice {
    struct splice_count passed[MEDIA_CLASS_COUNT];
    uint32_t last_time; /* of audio and video */
    bool any;
    bool stepped; /* of two links one is on another clock that the encoder has begun */
    bool blind;   /* frames without their keyframe were held back, since that time */
    uint32_t blind_time;
    bool rebased; /* the player's clock is not the publisher's: no link continues it */
    uint32_t state_keys[SPLICE_STATES_MAX];
    uint64_t state_hashes[SPLICE_STATES_MAX];
    uint32_t state_count;
};

enum splice_mode {
    FEED_LIVE = 0, /* the only link there is: all of it passes */
    FEED_JOINING,  /* replaces a link that is gone: what the player has is dropped */
    FEED_REBASED, /* of a node with a clock of its own: from a keyframe on, on the player's clock */
    FEED_SHARED,  /* one of two links that carry the stream: whichever is first with a message */
};

/* What one node link has delivered. */
struct splice_feed {
    enum splice_mode mode;
    bool overlap; /* SHARED, the new one: a type counts from where the link is behind the player */
    bool expects; /* a first message of that time: another one shows that the clock is another */
    bool begins;  /* it did begin so */
    bool whole;   /* and its first video is of that time: nothing is missing behind it */
    uint32_t expected_time;
    uint32_t offset; /* REBASED: from the node's clock to the player's */
    bool began;      /* REBASED: the offset is known */
    bool stepped;    /* its times have stepped back: the encoder has begun another clock */
    struct splice_count had[MEDIA_CLASS_COUNT];
    bool joined[MEDIA_CLASS_COUNT];           /* SHARED with overlap */
    bool through[MEDIA_CLASS_COUNT];          /* JOINING: beyond what the player has */
    struct rtmp_msg *held[SPLICE_STATES_MAX]; /* state that waits for its type's first frame */
    uint32_t held_keys[SPLICE_STATES_MAX];
    uint32_t held_count;
};

void splice_feed_reset(struct splice_feed *f, enum splice_mode mode, bool overlap);

/* What the link is given first has that time; to be said before its first message. */
void splice_feed_expect(struct splice_feed *f, uint32_t time);

/* The time m is passed on with. */
static inline uint32_t splice_time(const struct splice_feed *f, const struct rtmp_msg *m)
{
    return f->mode == FEED_REBASED ? m->timestamp + f->offset : m->timestamp;
}

/* True: to be passed on, behind what splice_next_state() gives. */
MUST_CHECK bool splice_passes(struct splice *s, struct splice_feed *f, struct rtmp_msg *m);
/* State to be passed on before m, one at a time, stamped with m's time; NULL: no more. The
 * reference is the caller's. */
struct rtmp_msg *splice_next_state(struct splice *s, struct splice_feed *f,
                                   const struct rtmp_msg *m);

/* The old link of two. */
void splice_feed_share(struct splice_feed *f);
/* The new link has delivered, for audio and video as far as the player has had them, something
 * strictly older than the last passed, or the beginning of what is replayed: nothing is missing
 * between the two (rehoming-notes 5). Where their clocks differ, a keyframe. */
bool splice_caught_up(const struct splice *s, const struct splice_feed *f);
/* The new link is the only one from now on. */
void splice_feed_alone(struct splice_feed *f);
/* Another publication: its times have nothing to do with what was passed, its state is news. */
void splice_forget(struct splice *s);

#endif
