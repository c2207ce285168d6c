/* healthd/rtmp_client.h - the client's side of an RTMP connection, for probes: connects, and if
 * wanted publishes or plays. Pure: bytes in by slices, bytes out in link.out; everything up to
 * connect is queued at once. Source: RTMP 1.0 section 7.2; which order nodes take: the router's
 * node link does the same. Owner:  a probe.   Tests: tests/unit/healthd/test_rtmp_client.c */
#ifndef WEIR_HEALTHD_RTMP_CLIENT_H
#define WEIR_HEALTHD_RTMP_CLIENT_H

#include "rtmp/command.h"
#include "rtmp/link.h"

enum rtmp_client_goal { GOAL_CONNECT = 0, GOAL_PUBLISH, GOAL_PLAY };

enum rtmp_client_state {
    CLIENT_HANDSHAKE = 0, /* S0 S1 S2 to come */
    CLIENT_CONNECT,       /* connect's _result to come */
    CLIENT_STREAM,        /* createStream's */
    CLIENT_START,         /* Publish.Start, Play.Start */
    CLIENT_LIVE,
};

enum rtmp_client_event {
    CLIENT_EV_HANDSHAKE = 0,
    CLIENT_EV_CONNECTED,
    CLIENT_EV_STARTED,
    CLIENT_EV_VIDEO,   /* a frame, not a sequence header */
    CLIENT_EV_REFUSED, /* code says how */
};

struct rtmp_client_hello {
    const uint8_t *proxy; /* header that goes first, or NULL */
    size_t proxy_len;
    const uint8_t *noise; /* RTMP_HANDSHAKE_BYTES */
    uint32_t now_ms;
    const char *app, *tc_url;
    const char *name; /* of the stream; not looked at for GOAL_CONNECT; outlives the client */
};

struct rtmp_client {
    enum rtmp_client_goal goal;
    enum rtmp_client_state state;
    struct rtmp_link link;
    uint32_t handshake_left;
    bool version_seen;
    uint32_t msid;
    const char *name;
    char code[64]; /* of a refusal: "NetConnection.Connect.Rejected" */
};

/* Queues C0 C1 C2 and connect. */
MUST_CHECK enum err rtmp_client_init(struct rtmp_client *c, struct rtmp_pool *pool,
                                     const struct rtmp_chunk_limits *limits,
                                     enum rtmp_client_goal goal, const struct rtmp_client_hello *h);
void rtmp_client_deinit(struct rtmp_client *c);
/* Reads from in until something happens. PARSE_NEED_MORE: all of in was taken. PARSE_BAD: this is
 * no RTMP server. */
MUST_CHECK enum parse_result rtmp_client_next(struct rtmp_client *c, struct slice *in,
                                              enum rtmp_client_event *out);
/* What it waits for, as an operator reads it: "handshake", "_result of connect". */
const char *rtmp_client_waits_for(const struct rtmp_client *c);

#endif
