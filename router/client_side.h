/* router/client_side.h - the conversation with a client up to publish or play, and what it says
 * afterwards. Handshake, connect and createStream (always stream id 1: the nginx push relay assumes
 * it) are answered here at once; what needs a node comes out as events. Source: RTMP 1.0
 * sections 5.2, 7.2.   Pure: bytes in by slices, bytes out in link.out. Owner:  the session;
 * init/deinit.     Tests: tests/unit/router/test_client_side.c */
#ifndef WEIR_ROUTER_CLIENT_SIDE_H
#define WEIR_ROUTER_CLIENT_SIDE_H

#include "cluster/close_why.h"
#include "rtmp/command.h"
#include "rtmp/link.h"

enum { CLIENT_MSID = 1 };

enum client_phase { CLIENT_C0C1 = 0, CLIENT_C2, CLIENT_MESSAGES };

enum client_event_kind {
    CLIENT_PUBLISH,
    CLIENT_PLAY,
    CLIENT_MEDIA, /* audio, video, data */
    CLIENT_PASS,  /* for the node: pause, seek, receiveAudio, SetBufferLength, commands we do not
                     know */
    CLIENT_END,   /* deleteStream, closeStream */
};

struct client_event {
    enum client_event_kind kind;
    struct rtmp_msg *msg;    /* one reference is the receiver's */
    struct rtmp_command cmd; /* PUBLISH and PLAY; views into msg */
};

struct client_side {
    struct rtmp_link link;
    enum client_phase phase;
    uint8_t *hello; /* C0 C1 while they come in pieces */
    uint32_t hello_len;
    uint32_t c2_left;
    uint64_t bytes_in; /* handshake included */
    uint8_t *connect;  /* the client's connect command, for nodes; NULL before it */
    size_t connect_len;
    struct rtmp_connect info; /* views into connect */
    uint32_t streams_created; /* since the last publish or play */
    bool stream_created;      /* ever */
    enum close_why why; /* after PARSE_BAD */
};

void client_side_init(struct client_side *c, struct rtmp_pool *pool,
                      const struct rtmp_chunk_limits *limits);
void client_side_deinit(struct client_side *c);

/* Reads from in until there is an event. PARSE_OK: *out; call again. PARSE_NEED_MORE: all taken.
 * PARSE_BAD: c->why. noise: RTMP_HANDSHAKE_BYTES for S1. */
MUST_CHECK enum parse_result client_side_next(struct client_side *c, struct slice *in,
                                              const uint8_t *noise, uint32_t now_ms,
                                              struct client_event *out);

/* onStatus on the client's stream; level "status" or "error". */
MUST_CHECK enum err client_side_status(struct client_side *c, const char *level, const char *code,
                                       const char *description);

#endif
