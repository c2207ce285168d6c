/* rtmp/message.h - one RTMP message: what chunks reassemble to (RTMP 1.0 section 6.1).
 * Immutable once complete, reference-counted, so that one message can wait in several queues; its
 * payload is a list of slices of the blocks it was received into.
 * Owner:  one rtmp_pool per worker; it outlives every message.
 * Thread: the process's only thread.
 * Errors: NULL or ERR_NO_MEMORY; NULL or ERR_LIMIT over RTMP_MESSAGE_BYTES_MAX.
 * Tests:  tests/unit/rtmp/test_message.c */
#ifndef WEIR_RTMP_MESSAGE_H
#define WEIR_RTMP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/block.h"
#include "base/err.h"

/* RTMP 1.0 sections 5.4 (1..6) and 7.1 (8..22) */
enum rtmp_type {
    RTMP_SET_CHUNK_SIZE = 1,
    RTMP_ABORT = 2,
    RTMP_ACK = 3,
    RTMP_USER_CONTROL = 4,
    RTMP_WINDOW_ACK_SIZE = 5,
    RTMP_SET_PEER_BANDWIDTH = 6,
    RTMP_AUDIO = 8,
    RTMP_VIDEO = 9,
    RTMP_DATA_AMF3 = 15,
    RTMP_SHARED_OBJECT_AMF3 = 16,
    RTMP_COMMAND_AMF3 = 17,
    RTMP_DATA_AMF0 = 18,
    RTMP_SHARED_OBJECT_AMF0 = 19,
    RTMP_COMMAND_AMF0 = 20,
    RTMP_AGGREGATE = 22,
};

enum {
    RTMP_INLINE_SLICES = 8, /* a frame of 32 KiB in the chunks that encoders send */
    RTMP_MESSAGE_BYTES_MAX = 0xffffff, /* the length field has three bytes, section 5.3.1.2.1 */
};

struct rtmp_pool {
    struct block_pool *blocks;
    struct rtmp_msg *free; /* message objects, ready for use */
    uint32_t free_count;
    uint64_t live; /* messages somebody holds */
};

struct rtmp_msg {
    uint32_t refs;
    uint8_t type;       /* enum rtmp_type, or anything else a peer sent */
    uint32_t csid;      /* as received; the writer chooses its own */
    uint32_t msid;      /* message stream id, as received */
    uint32_t timestamp; /* absolute, ms, mod 2^32 */
    uint32_t len;       /* payload bytes: the sum of the slices */
    uint32_t slice_count, slice_cap;
    struct slice *slices; /* inline_slices, or an array on the heap */
    struct slice inline_slices[RTMP_INLINE_SLICES];
    struct rtmp_pool *pool;
    struct rtmp_msg *next_free;
};

void rtmp_pool_init(struct rtmp_pool *pool, struct block_pool *blocks);
void rtmp_pool_deinit(struct rtmp_pool *pool); /* no message may be live */

/* An empty message with one reference. */
MUST_CHECK struct rtmp_msg *rtmp_msg_create(struct rtmp_pool *pool, uint8_t type, uint32_t msid,
                                            uint32_t timestamp);
/* The same with a payload copied from buf. */
MUST_CHECK struct rtmp_msg *rtmp_msg_from_bytes(struct rtmp_pool *pool, uint8_t type, uint32_t msid,
                                                uint32_t timestamp, const void *buf, size_t len);
/* Another message with the same payload blocks (referenced, not copied). */
MUST_CHECK struct rtmp_msg *rtmp_msg_share(const struct rtmp_msg *m, uint8_t type, uint32_t msid,
                                           uint32_t timestamp, uint32_t skip_bytes);
struct rtmp_msg *rtmp_msg_ref(struct rtmp_msg *m);
void rtmp_msg_unref(struct rtmp_msg *m); /* NULL is allowed */

/* Appends block[off, off+len) and takes a reference of the block; a slice that continues the last
 * one extends it. */
MUST_CHECK enum err rtmp_msg_append(struct rtmp_msg *m, struct block *b, uint32_t off,
                                    uint32_t len);
/* Appends payload[off, off+len) of from, which has that much, by reference. */
MUST_CHECK enum err rtmp_msg_append_part(struct rtmp_msg *m, const struct rtmp_msg *from,
                                         uint32_t off, uint32_t len);

/* Copies the first n bytes of the payload, fewer if it is shorter; returns how many. */
size_t rtmp_msg_peek(const struct rtmp_msg *m, void *buf, size_t n);
/* Copies payload[off, off+n), fewer at the end; returns how many. */
size_t rtmp_msg_copy(const struct rtmp_msg *m, uint32_t off, void *buf, size_t n);
/* The payload in one piece, never NULL: the only slice itself, or the slices gathered into a new
 * block that replaces them. */
MUST_CHECK enum err rtmp_msg_flatten(struct rtmp_msg *m, const uint8_t **data);

#endif
