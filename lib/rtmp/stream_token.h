/* rtmp/stream_token.h - what lets a client publish or play one stream until a given second:
 *
 *   token = hex(HMAC-SHA256(key, "publish 1790000000 live/cam1"))
 *
 * of the kind (publish or play), the expiry in Unix seconds and the canonical stream key, which
 * hold no blank before the last one. Several keys are good at a time, so that one can be replaced.
 * Pure.   Tests: tests/unit/rtmp/test_stream_token.c */
#ifndef WEIR_RTMP_STREAM_TOKEN_H
#define WEIR_RTMP_STREAM_TOKEN_H

#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/rd.h"

enum {
    SIGNING_KEYS_MAX = 16,
    SIGNING_KEY_BYTES_MIN = 32, /* of text: 16 bytes in hex */
    SIGNING_KEY_BYTES_MAX = 128,
    SIGNING_KEYS_TEXT_MAX = 8 * 1024, /* of the file */
    SIGNING_KEYS_ERROR_MAX = 160,
    STREAM_TOKEN_BYTES = 64,
};

struct signing_key {
    char text[SIGNING_KEY_BYTES_MAX + 1];
};

struct signing_keys {
    uint32_t count;
    struct signing_key list[SIGNING_KEYS_MAX]; /* the first one signs */
};

enum stream_token {
    STREAM_TOKEN_GOOD = 0,
    STREAM_TOKEN_MISSING,
    STREAM_TOKEN_BAD,     /* of another stream or kind, changed, or signed by no key of ours */
    STREAM_TOKEN_EXPIRED, /* otherwise good */
};

/* A file of keys: a line each, printable and without blanks; '#' begins a comment. *out changes on
 * ERR_OK only. ERR_INVALID: error says which line and why, and nothing of a key. */
MUST_CHECK enum err signing_keys_parse(const char *text, size_t len, struct signing_keys *out,
                                       char error[SIGNING_KEYS_ERROR_MAX]);

/* ERR_NO_MEMORY: the library could not compute it. */
MUST_CHECK enum err stream_token_make(const struct signing_key *key, const char *kind,
                                      struct view stream, uint64_t expires_s,
                                      char out[STREAM_TOKEN_BYTES + 1]);
/* Compared in constant time, with every key. */
MUST_CHECK enum stream_token stream_token_check(const struct signing_keys *keys, const char *kind,
                                                struct view stream, struct view token,
                                                struct view expires, uint64_t now_s);

#endif
