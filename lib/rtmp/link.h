/* rtmp/link.h - one RTMP connection after its handshake: chunk reader, chunk writer, and everything
 * that is hop by hop (RTMP 1.0 sections 5.4 and 7.1.7), answered here and never forwarded: Set
 * Chunk Size, Abort, Acknowledgement, Window Acknowledgement Size, Set Peer Bandwidth, ping.
 * Aggregates come out split, AMF3-wrapped commands (type 17) and data (15) as types 20 and 18
 * without their leading 0x00. Used by the router for both sides, by probes and by test clients.
 * Owner:  caller; init/deinit.   Thread: the process's only thread.
 * No I/O: bytes in by slices, out by the writer.   Tests: tests/unit/rtmp/test_link.c */
#ifndef WEIR_RTMP_LINK_H
#define WEIR_RTMP_LINK_H

#include "rtmp/aggregate.h"
#include "rtmp/chunk_reader.h"
#include "rtmp/chunk_writer.h"

/* User control events, section 7.1.7 */
enum rtmp_user_event {
    RTMP_STREAM_BEGIN = 0,
    RTMP_STREAM_EOF = 1,
    RTMP_STREAM_DRY = 2,
    RTMP_SET_BUFFER_LENGTH = 3,
    RTMP_STREAM_IS_RECORDED = 4,
    RTMP_PING_REQUEST = 6,
    RTMP_PING_RESPONSE = 7,
};

enum { RTMP_PONGS_MAX = 8 }; /* PingResponses that may wait to be sent */

struct rtmp_link {
    struct rtmp_pool *pool;
    struct rtmp_chunk_reader in;
    struct rtmp_chunk_writer out;
    uint64_t bytes_in;       /* after the handshake */
    uint32_t peer_window;    /* the peer's Window Acknowledgement Size; 0: never asked */
    uint64_t acked_in;       /* bytes_in when we last acknowledged: every half of the window */
    uint32_t pings_answered; /* PingResponses seen from the peer */
    struct rtmp_msg *pongs[RTMP_PONGS_MAX]; /* our last ones; while all wait, pings go unanswered */
    struct rtmp_msg *aggregate;             /* being split */
    struct rtmp_aggregate walk;
};

void rtmp_link_init(struct rtmp_link *l, struct rtmp_pool *pool,
                    const struct rtmp_chunk_limits *limits);
void rtmp_link_deinit(struct rtmp_link *l);

/* As rtmp_chunk_reader_next(), but only messages that concern the layer above come out: commands,
 * data, audio, video, user control other than pings, shared objects, unknown types. On PARSE_BAD
 * l->in.why says why. */
MUST_CHECK enum parse_result rtmp_link_next(struct rtmp_link *l, struct slice *in,
                                            struct rtmp_msg **out);

/* Queues; m keeps its owner's reference. */
MUST_CHECK enum err rtmp_link_send(struct rtmp_link *l, struct rtmp_msg *m, uint32_t msid,
                                   uint32_t timestamp);
MUST_CHECK enum err rtmp_link_send_bytes(struct rtmp_link *l, uint8_t type, uint32_t msid,
                                         const void *payload, size_t len); /* timestamp 0 */
MUST_CHECK enum err rtmp_link_send_chunk_size(struct rtmp_link *l, uint32_t bytes);
MUST_CHECK enum err rtmp_link_send_window(struct rtmp_link *l, uint32_t bytes);
MUST_CHECK enum err rtmp_link_send_peer_bandwidth(struct rtmp_link *l, uint32_t bytes,
                                                  uint8_t limit_type);
/* event with one 4-byte argument; RTMP_SET_BUFFER_LENGTH takes two */
MUST_CHECK enum err rtmp_link_send_user(struct rtmp_link *l, enum rtmp_user_event event,
                                        uint32_t arg, uint32_t arg2);

#endif
