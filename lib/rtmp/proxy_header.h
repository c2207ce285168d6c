/* rtmp/proxy_header.h - the PROXY protocol header that may stand before C0, versions 1 and 2.
 * Source: haproxy doc/proxy-protocol.txt. Pure.
 * Tests: tests/unit/rtmp/test_proxy_header.c, tests/fuzz/fuzz_proxy.c */
#ifndef WEIR_RTMP_PROXY_HEADER_H
#define WEIR_RTMP_PROXY_HEADER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/attr.h"
#include "base/err.h"

enum {
    PROXY_V1_MAX = 107,  /* with CRLF, section 2.1 */
    PROXY_V2_MAX = 1024, /* our bound on the whole header, TLVs included; HAProxy sends under 200 */
};

struct proxy_header {
    int version; /* 1 or 2 */
    bool local;  /* LOCAL, or UNKNOWN: a health check or no address known; addresses are unset */
    struct sockaddr_storage src, dst; /* AF_INET or AF_INET6 */
};
/* PARSE_OK: *used bytes belong to it. PARSE_BAD: is not one, is malformed or over the maximum. */
MUST_CHECK enum parse_result proxy_header_parse(const uint8_t *buf, size_t len,
                                                struct proxy_header *out, size_t *used);

/* Writes one for a connection from src to dst; returns its length (cap >= PROXY_V1_MAX + 1).
 * Families that differ, and anything but IPv4 and IPv6, give UNKNOWN (v1) or LOCAL (v2). An
 * IPv4-mapped IPv6 address is written as IPv4. */
size_t proxy_header_write(int version, const struct sockaddr *src, const struct sockaddr *dst,
                          uint8_t *buf, size_t cap);

#endif
