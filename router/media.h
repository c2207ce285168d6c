/* router/media.h - what a message of a live stream is to those who keep or splice streams: a frame,
 * or state that a node or a player has to be told once. Pure.   Tests: test_stream_keep.c,
 * test_splice.c */
#ifndef WEIR_ROUTER_MEDIA_H
#define WEIR_ROUTER_MEDIA_H

#include "rtmp/message.h"

enum media_kind {
    MEDIA_FRAME = 0, /* audio, video, or a data event: counted by time */
    MEDIA_KEYFRAME,
    MEDIA_STATE, /* a sequence header, side data, onMetaData: replaces the last of its kind */
    MEDIA_EMPTY, /* no payload: nginx-rtmp adds one of audio with wait_video */
};

/* Audio, video, data: the types whose times are counted. */
enum media_class { CLASS_AUDIO = 0, CLASS_VIDEO, CLASS_DATA };
enum { MEDIA_CLASS_COUNT = CLASS_DATA + 1 };

struct media_info {
    enum media_kind kind;
    enum media_class class;
    uint32_t state_key; /* MEDIA_STATE: same key, same kind of state (type, form or track) */
};

/* m: audio, video or data. */
struct media_info media_inspect(const struct rtmp_msg *m);

/* a is before b, on a clock of 32 bits that wraps. */
static inline bool media_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

/* A frame at `time` so far behind one of its class at `last` is of another clock: encoders that
 * begin theirs anew. What is replayed steps back less. */
enum { MEDIA_STEP_MS = 900000 };
static inline bool media_steps_back(uint32_t last, uint32_t time)
{
    return (int32_t)(last - time) > MEDIA_STEP_MS;
}

#endif
