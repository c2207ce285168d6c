/* rtmp/chunk_reader.h - bytes of one direction of one connection, after the handshake, to messages.
 * Source: RTMP 1.0 section 5.3. The same messages come out however the input is cut.
 * Set Chunk Size and Abort act inside; Set Chunk Size is returned as well, Abort is not.
 * Field facts: fmt 3 opening a message repeats the last delta, or after fmt 0 the absolute time
 * (section 5.3.1.2.4); behind a fmt 3 header 4 bytes are an extended timestamp only if they equal
 * the last field's value, since some senders repeat it and some do not. A fmt 0..2 header inside a
 * message goes on with it, if length and type are the same; its time is not looked at.
 * Owner:  caller; init/deinit.
 * Errors: PARSE_BAD is final, `why` says what was wrong; memory short: RTMP_CHUNK_NO_MEMORY.
 * Tests:  tests/unit/rtmp/test_chunk_reader.c, tests/fuzz/fuzz_chunk.c */
#ifndef WEIR_RTMP_CHUNK_READER_H
#define WEIR_RTMP_CHUNK_READER_H

#include <stdint.h>

#include "base/err.h"
#include "rtmp/message.h"

struct rtmp_chunk_limits {
    uint32_t message_bytes;    /* longest message */
    uint32_t unfinished_bytes; /* received of messages not yet whole; a begun chunk counts whole, so
                                  that the verdict does not depend on how the input is cut */
    uint32_t chunk_streams;    /* csids in use at once */
    uint32_t chunk_bytes;      /* largest Set Chunk Size taken; 0: any */
    bool frugal;               /* messages in pieces hold memory for what has come of them, and never
                                  the block it came in */
};

enum rtmp_chunk_why {
    RTMP_CHUNK_FINE = 0,
    RTMP_CHUNK_HEADER_FIRST,   /* fmt 2 or 3 opens a csid (fmt 1 may: librtmp does) */
    RTMP_CHUNK_MESSAGE_LONG,   /* over limits.message_bytes */
    RTMP_CHUNK_UNFINISHED,     /* over limits.unfinished_bytes */
    RTMP_CHUNK_LENGTH_CHANGED, /* fmt 0..2 in the middle of a message with another length or type */
    RTMP_CHUNK_STREAMS,        /* too many chunk streams */
    RTMP_CHUNK_SIZE_BAD,       /* Set Chunk Size 0, high bit set, shorter than 4 bytes, or over the limit */
    RTMP_CHUNK_NO_MEMORY,
    RTMP_CHUNK_AGGREGATE, /* set by rtmp/link.h: an aggregate that cannot be split */
};
enum { RTMP_CHUNK_WHY_COUNT = RTMP_CHUNK_AGGREGATE + 1 };
const char *rtmp_chunk_why_name(enum rtmp_chunk_why why); /* "header_first", ... */

struct rtmp_chunk_stream; /* header memory and the message being received */

struct rtmp_chunk_reader {
    struct rtmp_pool *pool;
    const struct rtmp_chunk_limits *limits;
    uint32_t chunk_bytes; /* the peer's, section 5.4.1 */
    uint64_t unfinished;  /* bytes held of messages that are not whole */
    enum rtmp_chunk_why why;
    struct rtmp_chunk_stream *streams; /* stream_count of stream_cap; looked up by csid */
    uint32_t stream_count, stream_cap;
    uint32_t current;   /* index of the stream whose chunk body is being read */
    uint32_t body_left; /* bytes of the current chunk's body still to come; 0: a header is next */
    uint8_t carry[18];  /* the beginning of a header that was cut; 3 + 11 + 4 bytes at most */
    uint8_t carry_len;
    bool body_pending; /* a header is parsed and its body (maybe empty) is not done */
};

void rtmp_chunk_reader_init(struct rtmp_chunk_reader *r, struct rtmp_pool *pool,
                            const struct rtmp_chunk_limits *limits);
void rtmp_chunk_reader_deinit(struct rtmp_chunk_reader *r);

/* Reads from in (advancing in->off, shrinking in->len; the caller keeps its reference) until a
 * message is whole.
 * PARSE_OK: *out holds it and one reference is the caller's; call again, there may be more.
 * PARSE_NEED_MORE: all of in was taken.   PARSE_BAD: see r->why; the link must end. */
MUST_CHECK enum parse_result rtmp_chunk_reader_next(struct rtmp_chunk_reader *r, struct slice *in,
                                                    struct rtmp_msg **out);

/* True between messages: all that has been received is returned. */
bool rtmp_chunk_reader_idle(const struct rtmp_chunk_reader *r);

#endif
