/* router/stream_keep.h - what is kept of a live stream, so that another node can be given it: the
 * state (metadata, sequence headers) in force before the first message kept, and all messages since
 * a keyframe at least `reach` old, or since the first of those before it that have its time; audio
 * alone is kept by time. Messages are referenced, not copied; the budget counts whole blocks, each
 * once. An encoder that begins its clock anew begins what is kept, too: times of two clocks cannot
 * be compared. From half of the budget on, messages in blocks that hold little else are copied out
 * of them, a few at a time and each once; beyond it whole groups of pictures are dropped, and
 * counted. Of one stream only are the messages in a block; and they keep their slices while they
 * are here.
 * Owner:  a publisher's session, or a share; zero-initialised, stream_keep_clear() empties it.
 * Errors: none. Without memory what was kept is dropped like a group over the budget, but for the
 *         state; keeping begins anew.   Time: monotonic ms.
 * Tests:  tests/unit/router/test_stream_keep.c */
#ifndef WEIR_ROUTER_STREAM_KEEP_H
#define WEIR_ROUTER_STREAM_KEEP_H

#include "base/err.h"
#include "router/media.h"

enum {
    STREAM_STATES_MAX = 24,             /* OBS has 16 tracks at most, each with a header */
    STREAM_STATE_BYTES_MAX = 256 * 1024 /* a larger one is none: it is not kept for long */
};

#define NO_KEYFRAME UINT64_MAX

struct kept {
    struct rtmp_msg *msg;
    uint64_t at_ms; /* when it arrived */
    struct media_info info;
    uint32_t timestamp; /* its own: who looks for a time need not touch the message */
};

struct stream_keep {
    struct kept *ring; /* ring_cap a power of two */
    uint32_t ring_cap, head, count;
    uint64_t first;     /* number of the first message kept; they are numbered from 0 on */
    uint64_t same;      /* those before it have the time of the first one */
    uint64_t searched;  /* there is no keyframe between them and this one */
    uint64_t key_at_ms; /* when the keyframe there arrived; NO_KEYFRAME; 0: to be looked at */
    uint64_t compacted; /* those before it are in as little memory as they need */
    uint32_t videos;    /* frames among them */
    uint32_t times[CLASS_DATA]; /* of the last audio and the last video frame */
    bool timed[CLASS_DATA];     /* there was one */
    struct rtmp_msg *states[STREAM_STATES_MAX];
    uint32_t state_keys[STREAM_STATES_MAX];
    uint32_t state_count;
    uint64_t bytes;         /* held: whole blocks and the messages themselves */
    uint64_t payload_bytes; /* of which payload */
    bool held;              /* nothing is given up for its age: it may be needed any moment */
    bool headless;          /* a group was dropped before its end: no video until a keyframe */
    uint64_t dropped_groups, dropped_messages;
};

struct keep_policy {
    uint64_t reach_ms;
    uint64_t max_bytes;
};

void stream_keep_clear(struct stream_keep *k);
void stream_keep_push(struct stream_keep *k, struct rtmp_msg *m, const struct keep_policy *p,
                      uint64_t now_ms);
/* All messages go, uncounted, the state stays; with video among them nothing is kept of that until
 * a keyframe. */
void stream_keep_drop(struct stream_keep *k);
/* Number of the message after the last. */
static inline uint64_t stream_keep_end(const struct stream_keep *k)
{
    return k->first + k->count;
}
/* n between first and end. */
const struct kept *stream_keep_at(const struct stream_keep *k, uint64_t n);

#endif
