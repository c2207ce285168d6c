/* rtmp/handshake.h - C0 C1 C2 / S0 S1 S2, RTMP 1.0 section 5.2, in both roles, in the simple and in
 * the digest form (Flash's: a version in bytes 4..7, HMAC-SHA256 of C1/S1 inside it and of the
 * peer's digest at the end of C2/S2). Pure: randomness is handed in. C2 is never checked: what
 * encoders send there differs (nginx push sends noise).
 * Tests: tests/unit/rtmp/test_handshake.c, tests/fuzz/fuzz_handshake.c */
#ifndef WEIR_RTMP_HANDSHAKE_H
#define WEIR_RTMP_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/limits.h"

enum {
    RTMP_VERSION = 3,
    RTMP_C0C1_BYTES = 1 + RTMP_HANDSHAKE_BYTES,
    RTMP_S0S1S2_BYTES = 1 + 2 * RTMP_HANDSHAKE_BYTES,
};

/* What the first bytes of a connection are. Everything but RTMP is refused, each with its own
 * reason. */
enum rtmp_opening {
    RTMP_OPENING_RTMP = 0,
    RTMP_OPENING_RTMPE,   /* version 6, 8 or 9: encrypted RTMP */
    RTMP_OPENING_TLS,     /* 0x16: a TLS hello; RTMPS on the wrong port */
    RTMP_OPENING_HTTP,    /* an HTTP method, RTMPT included */
    RTMP_OPENING_SSH,     /* "SSH-" */
    RTMP_OPENING_PROXY,   /* a PROXY header on a listener that takes none */
    RTMP_OPENING_UNKNOWN, /* any other version byte */
};
enum { RTMP_OPENING_COUNT = RTMP_OPENING_UNKNOWN + 1 };
const char *rtmp_opening_name(enum rtmp_opening o); /* "rtmp", "rtmpe", "tls", ... */
/* Decides from the first byte alone whether it is RTMP; more bytes, when there, only make a better
 * name. len >= 1. */
enum rtmp_opening rtmp_opening_detect(const uint8_t *buf, size_t len);

/* Server role. c1: 1536 bytes. Fills s0s1s2 (RTMP_S0S1S2_BYTES): simple form (S1 version 0, random;
 * S2 = C1). random: RTMP_HANDSHAKE_BYTES of it. */
void rtmp_handshake_reply_simple(const uint8_t *c1, uint32_t time_ms, const uint8_t *random,
                                 uint8_t *s0s1s2);
/* The digest form, when c1 carries a valid digest (either of the two layouts). ERR_INVALID: it does
 * not: answer simply. */
MUST_CHECK enum err rtmp_handshake_reply_digest(const uint8_t *c1, uint32_t time_ms,
                                                const uint8_t *random, uint8_t *s0s1s2);

/* Client role: C0 C1 (RTMP_C0C1_BYTES), simple or with a digest (layout 0). */
void rtmp_handshake_hello_simple(uint32_t time_ms, const uint8_t *random, uint8_t *c0c1);
MUST_CHECK enum err rtmp_handshake_hello_digest(uint32_t time_ms, const uint8_t *random,
                                                uint8_t *c0c1);
/* C2 for a server's S1: signed when S1 carries a valid digest, else S1 itself. c2: 1536 bytes;
 * *digest says which. */
MUST_CHECK enum err rtmp_handshake_confirm(const uint8_t *s1, const uint8_t *random, uint8_t *c2,
                                           bool *digest);
/* True if s2 is signed for the digest in our own c1. */
bool rtmp_handshake_s2_valid(const uint8_t *c1, const uint8_t *s2);

#endif
