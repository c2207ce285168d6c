/* tests/unit/rtmp/captures.h - the recordings in tests/fixtures/captures: both directions of
 * connections of real clients to real servers, the first 16 KiB of each. */
#ifndef WEIR_TESTS_CAPTURES_H
#define WEIR_TESTS_CAPTURES_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rd.h"

enum { CAPTURE_MAX = 16 * 1024, CAPTURE_HANDSHAKE = 1 + 2 * 1536 };

struct capture {
    uint8_t buf[CAPTURE_MAX];
    size_t len;
};

static const struct capture_name {
    const char *name;
    bool c1_digest; /* the client's C1 carries one, and so does S1 */
    bool c2_digest; /* C2 is signed */
} capture_names[] = {
    {"ffmpeg-play-live.nginx-rtmp", true, true},
    {"ffmpeg-play-live.nms2", true, false},
    {"ffmpeg-play.nginx-rtmp", true, true},
    {"ffmpeg-play.nms2", true, false},
    {"ffmpeg-play.nms4", true, false},
    {"ffmpeg-play.srs7", true, false},
    {"ffmpeg-publish.nginx-rtmp", true, false},
    {"ffmpeg-publish.nms2", true, false},
    {"ffmpeg-publish.nms4", true, false},
    {"ffmpeg-publish.srs7", true, false},
    {"nginx-pull-relay.nginx-rtmp", true, true},
    {"nginx-pull-relay.nms2", true, true},
    {"nginx-push-relay.nginx-rtmp", true, true},
    {"nginx-push-relay.nms2", true, true},
    {"rtmpdump-play.nginx-rtmp", false, false},
    {"rtmpdump-play.nms2", false, false},
    {"rtmpdump-play.nms4", false, false},
    {"synthetic-ertmp-hevc-publish.nginx-rtmp", false, false},
    {"synthetic-ertmp-hevc-publish.srs7", false, false},
};
enum { CAPTURE_COUNT = sizeof capture_names / sizeof capture_names[0] };

/* direction: "c2s" or "s2c" */
static inline void capture_load(struct capture *c, const char *name, const char *direction)
{
    char path[512];
    snprintf(path, sizeof path, "%s/fixtures/captures/%s.%s.bin", FIXTURES, name, direction);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    c->len = fread(c->buf, 1, sizeof c->buf, f);
    fclose(f);
    assert_true(c->len > CAPTURE_HANDSHAKE);
}

/* The payload of the first command behind the handshake: all before it is in one chunk each.
 * Returns its length. */
static inline size_t capture_first_command(const struct capture *c, uint8_t *out, size_t cap)
{
    struct rd r = rd_over(c->buf + CAPTURE_HANDSHAKE, c->len - CAPTURE_HANDSHAKE);
    uint32_t chunk = 128;
    for (;;) {
        assert_true(rd_u8(&r) < 64); /* fmt 0 */
        (void)rd_u24be(&r);
        const uint32_t len = rd_u24be(&r);
        const uint8_t type = rd_u8(&r);
        (void)rd_u32be(&r);
        assert_true(len <= cap);
        for (uint32_t got = 0, n; got < len; got += n) {
            if (got > 0)
                assert_int_equal(rd_u8(&r) >> 6, 3);
            n = len - got < chunk ? len - got : chunk;
            const uint8_t *p = rd_take(&r, n);
            assert_non_null(p);
            memcpy(out + got, p, n);
        }
        if (type == 20)
            return len;
        struct rd body = rd_over(out, len);
        if (type == 1)
            chunk = rd_u32be(&body);
    }
}

/* A copy of exactly that size, so that AddressSanitizer sees any read beyond it. The caller frees
 * it. */
static inline uint8_t *exact_copy(const void *buf, size_t len)
{
    uint8_t *p = malloc(len > 0 ? len : 1);
    assert_non_null(p);
    if (len > 0)
        memcpy(p, buf, len);
    return p;
}

#endif
