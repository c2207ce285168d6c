/* rtmp/chunk_writer.h - the send queue of one connection: messages to chunks, in canonical form,
 * and raw bytes before them.
 * Source: RTMP 1.0 section 5.3.
 * csid by type: 2 control, 3 command, 4 audio, 5 data, 6 video, 7 any other, 8 unused.
 * First message of a csid fmt 0, then fmt 1 (fmt 2 when length and type are as before); fmt 0 again
 * when the message stream changes, or time goes backwards or 0xffffff ms or more ahead (readers
 * disagree on extended deltas); never fmt 3 to open a message; the extended timestamp repeated on
 * every fmt 3. Headers are made when a message first gets into rtmp_chunk_writer_iov(), so what has
 * not begun to leave can be dropped.
 * Owner:  caller; init/deinit. Messages are referenced, not copied.
 * Errors: ERR_NO_MEMORY; ERR_INVALID for a bad Set Chunk Size.
 * Tests:  tests/unit/rtmp/test_chunk_writer.c, tests/fuzz/fuzz_chunk.c */
#ifndef WEIR_RTMP_CHUNK_WRITER_H
#define WEIR_RTMP_CHUNK_WRITER_H

#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "rtmp/message.h"

enum { RTMP_WRITER_CSIDS = 8 };

struct rtmp_out_entry; /* a queued message, its own header once made */

struct rtmp_writer_csid { /* what the peer remembers of this csid, section 5.3.1.2 */
    uint32_t timestamp, len, msid;
    uint8_t type;
    bool used;
};

struct rtmp_chunk_writer {
    struct rtmp_pool *pool;
    uint32_t chunk_bytes;      /* as it will be after everything queued */
    uint32_t wire_chunk_bytes; /* as it is for the next message whose header is made */
    struct rtmp_writer_csid csids[RTMP_WRITER_CSIDS];
    struct rtmp_out_entry *ring; /* cap a power of two; given back when empty and large */
    uint32_t ring_cap, head, count;
    uint64_t head_sent;    /* wire bytes of the first entry that have left */
    uint64_t queued_bytes; /* payload and raw bytes not yet gone: what back-pressure looks at */
};

void rtmp_chunk_writer_init(struct rtmp_chunk_writer *w, struct rtmp_pool *pool);
void rtmp_chunk_writer_deinit(struct rtmp_chunk_writer *w);

/* Queues a message as (msid, timestamp), which may differ from its own; takes a reference of its
 * own. A RTMP_SET_CHUNK_SIZE message also changes the size of all messages queued after it. */
MUST_CHECK enum err rtmp_chunk_writer_push(struct rtmp_chunk_writer *w, struct rtmp_msg *m,
                                           uint32_t msid, uint32_t timestamp);
/* Queues bytes that go out as they are (handshake, PROXY header); copied. */
MUST_CHECK enum err rtmp_chunk_writer_push_raw(struct rtmp_chunk_writer *w, const void *buf,
                                               size_t len);

/* Fills iov with what is to leave next; returns how many pieces (0: nothing queued). Valid until
 * the next call. Stops after the piece that reaches max_bytes. */
size_t rtmp_chunk_writer_iov(struct rtmp_chunk_writer *w, struct iovec *iov, size_t max,
                             size_t max_bytes);
/* n bytes of that have left. */
void rtmp_chunk_writer_advance(struct rtmp_chunk_writer *w, size_t n);

/* Forgets what was queued and of which no byte has left. The partly sent message, if any, stays.
 * Returns messages dropped. */
uint32_t rtmp_chunk_writer_drop_unsent(struct rtmp_chunk_writer *w);

static inline bool rtmp_chunk_writer_empty(const struct rtmp_chunk_writer *w)
{
    return w->count == 0;
}

#endif
