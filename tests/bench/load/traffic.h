/* load/traffic.h - what is sent, when, and what is looked at on arrival: streams like an encoder's
 * (video with keyframes, audio between), every message with its stream, number, time of sending
 * and a checksum. Pure but for the clock value handed in; making a message copies only its head.
 * Owner:  caller; one struct traffic per process, one struct source per stream sent, one struct
 *         arrival per stream received.
 * Errors: ERR_NO_MEMORY. */
#ifndef WEIR_LOAD_TRAFFIC_H
#define WEIR_LOAD_TRAFFIC_H

#include <stdbool.h>

#include "bench/load/histogram.h"
#include "rtmp/message.h"

enum traffic_kind { TRAFFIC_AUDIO = 0, TRAFFIC_VIDEO };
enum { TRAFFIC_KINDS = TRAFFIC_VIDEO + 1 };

struct traffic_rate {
    uint32_t kbits;     /* per second, audio included */
    uint32_t fps;       /* video messages per second */
    uint32_t audio_us;  /* from one audio message to the next */
    uint32_t gop_ms;    /* from one keyframe to the next */
    uint32_t slow_down; /* messages of the same mean size come so many times slower */
};

enum { TRAFFIC_VARIANTS = 64 };
struct traffic_piece { /* a part of the noise, as the body of a message */
    uint32_t off, len;
    uint64_t hash;
};

struct traffic {
    struct rtmp_pool *pool;
    struct block *noise;
    uint64_t every_ns[TRAFFIC_KINDS];
    uint32_t frames_per_group;
    struct traffic_piece audio[TRAFFIC_VARIANTS], inter[TRAFFIC_VARIANTS], key[TRAFFIC_VARIANTS];
};

struct source {
    uint32_t stream;
    uint64_t begun_ns;
    uint64_t next_ns[TRAFFIC_KINDS];
    uint32_t number[TRAFFIC_KINDS];
    uint32_t next_key; /* the video message that is one */
};

struct arrival {
    bool any[TRAFFIC_KINDS];
    uint32_t next[TRAFFIC_KINDS]; /* the number expected */
};

struct tally {
    uint64_t messages, bytes;
    uint64_t lost, repeated, corrupt;
    struct histogram latency;
};

MUST_CHECK enum err traffic_init(struct traffic *t, struct rtmp_pool *pool,
                                 const struct traffic_rate *rate);
void traffic_deinit(struct traffic *t);

/* phase: 0..UINT32_MAX, where in its interval the first message falls, and how long the first group
 * is, so that streams begun at once do not beat together */
void source_begin(struct source *s, const struct traffic *t, uint32_t stream, uint64_t now_ns,
                  uint32_t phase);
uint64_t source_due_ns(const struct source *s);
/* The next message, stamped now_ns. NULL: no memory. */
MUST_CHECK struct rtmp_msg *source_next(struct source *s, struct traffic *t, uint64_t now_ns);

/* Counts m in tally; other messages than source_next()'s (metadata, sequence headers) are passed
 * over. */
void traffic_look(const struct rtmp_msg *m, uint32_t stream, struct arrival *a, struct tally *tally,
                  uint64_t now_ns);

#endif
