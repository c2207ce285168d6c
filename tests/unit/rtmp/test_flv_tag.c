#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rtmp/flv_tag.h"

/* what a case expects */
enum {
    ENH = 1,
    SEQ = 2,
    END = 4,
    KEY = 8,
    FRAME = 16,
    SIDE = 32,
    MULTI = 64,
};
#define BYTES(s) (s), sizeof(s) - 1
static const uint32_t hvc1 = 0x68766331, av01 = 0x61763031, avc1 = 0x61766331, opus = 0x4f707573,
                      mp4a = 0x6d703461;

struct tag_case {
    const char *name;
    const char *bytes;
    size_t len;
    unsigned want;
    const uint32_t *fourcc; /* NULL: codec */
    uint32_t codec;
    uint8_t track;
};

static unsigned flags_of(const struct flv_tag *t)
{
    return (t->enhanced ? ENH : 0u) | (t->sequence_header ? SEQ : 0u) |
           (t->sequence_end ? END : 0u) | (t->keyframe ? KEY : 0u) | (t->coded_frame ? FRAME : 0u) |
           (t->side_data ? SIDE : 0u) | (t->multitrack ? MULTI : 0u);
}

static void check(const struct tag_case *c, struct flv_tag (*inspect)(const uint8_t *, size_t))
{
    /* every truncation in a buffer of that size: no read beyond it, and never more known than from
     * the whole */
    for (size_t n = 0; n <= c->len; n++) {
        uint8_t *buf = malloc(n ? n : 1);
        memcpy(buf, c->bytes, n);
        const struct flv_tag t = inspect(buf, n);
        free(buf);
        if (n < c->len) {
            if (flags_of(&t) & ~c->want)
                fail_msg("%s cut at %zu: %x", c->name, n, flags_of(&t));
            continue;
        }
        const uint32_t codec = c->fourcc ? *c->fourcc : c->codec;
        if (flags_of(&t) != c->want || t.codec != codec || t.track_id != c->track)
            fail_msg("%s: flags %x codec %x track %u", c->name, flags_of(&t), (unsigned)t.codec,
                     (unsigned)t.track_id);
    }
}

static const struct tag_case video[] = {
    {"empty", BYTES(""), 0, NULL, 0, 0},
    {"one byte", BYTES("\x17"), 0, NULL, 7, 0},
    {"AVC sequence header", BYTES("\x17\0\0\0\0\1\x42"), SEQ, NULL, 7, 0},
    {"AVC keyframe", BYTES("\x17\1\0\0\0"), KEY | FRAME, NULL, 7, 0},
    {"AVC inter frame", BYTES("\x27\1\0\0\0"), FRAME, NULL, 7, 0},
    {"AVC disposable frame", BYTES("\x37\1\0\0\0"), FRAME, NULL, 7, 0},
    {"AVC end of sequence", BYTES("\x17\2\0\0\0"), END, NULL, 7, 0},
    {"AVC unknown packet type", BYTES("\x17\3\0\0\0"), 0, NULL, 7, 0},
    {"AVC seek command, not a sequence header", BYTES("\x57\0"), 0, NULL, 7, 0},
    {"frame type 0", BYTES("\x07\1"), 0, NULL, 7, 0},
    {"HEVC by convention: header", BYTES("\x1c\0\0\0\0"), SEQ, NULL, 12, 0},
    {"HEVC by convention: key", BYTES("\x1c\1\0\0\0"), KEY | FRAME, NULL, 12, 0},
    {"AV1 by convention: inter", BYTES("\x2d\1\0\0\0"), FRAME, NULL, 13, 0},
    {"H.263 key", BYTES("\x12\0\0"), KEY | FRAME, NULL, 2, 0},
    {"H.263 inter", BYTES("\x22\0\0"), FRAME, NULL, 2, 0},
    {"VP6 generated key", BYTES("\x44\0\0"), FRAME, NULL, 4, 0},
    {"SequenceStart", BYTES("\x90hvc1\1\2"), ENH | SEQ, &hvc1, 0, 0},
    {"CodedFrames key", BYTES("\x91hvc1\0\0\0x"), ENH | KEY | FRAME, &hvc1, 0, 0},
    {"CodedFrames inter", BYTES("\xa1hvc1\0\0\0x"), ENH | FRAME, &hvc1, 0, 0},
    {"SequenceEnd", BYTES("\x92hvc1"), ENH | END, &hvc1, 0, 0},
    {"CodedFramesX key",
     BYTES("\x93"
           "av01x"),
     ENH | KEY | FRAME, &av01, 0, 0},
    {"CodedFramesX inter",
     BYTES("\xa3"
           "av01x"),
     ENH | FRAME, &av01, 0, 0},
    {"Metadata of a key frame type", BYTES("\x94hvc1x"), ENH | SIDE, &hvc1, 0, 0},
    {"Metadata of a command frame type", BYTES("\xd4hvc1x"), ENH | SIDE, &hvc1, 0, 0},
    {"MPEG2TSSequenceStart",
     BYTES("\x95"
           "av01x"),
     ENH | SEQ, &av01, 0, 0},
    {"command", BYTES("\xd0\0"), ENH, NULL, 0, 0},
    {"unknown packet type", BYTES("\x9fhvc1"), ENH, &hvc1, 0, 0},
    {"ModEx", BYTES("\x97\2abc\1hvc1\0\0\0"), ENH | KEY | FRAME, &hvc1, 0, 0},
    {"ModEx twice", BYTES("\x97\0a\7\1bc\0hvc1"), ENH | SEQ, &hvc1, 0, 0},
    {"ModEx, long size",
     BYTES("\x97\xff\0\3abcd\3"
           "av01"),
     ENH | KEY | FRAME, &av01, 0, 0},
    {"ModEx beyond the end",
     BYTES("\x97\x40"
           "abc\1hvc1"),
     ENH, NULL, 0, 0},
    {"OneTrack", BYTES("\x96\0hvc1\2x"), ENH | MULTI | SEQ, &hvc1, 0, 2},
    {"ManyTracks",
     BYTES("\x96\x11"
           "avc1\1\0\0\1x\2\0\0\1y"),
     ENH | MULTI | KEY | FRAME, &avc1, 0, 1},
    {"ManyTracksManyCodecs",
     BYTES("\xa6\x23"
           "av01\7\0\0\1x"),
     ENH | MULTI | FRAME, &av01, 0, 7},
    {"ModEx around multitrack", BYTES("\x97\0a\6\0hvc1\1x"), ENH | MULTI | SEQ, &hvc1, 0, 1},
    {"multitrack in multitrack", BYTES("\x96\6hvc1\1x"), ENH | MULTI, NULL, 0, 0},
    {"reserved multitrack type", BYTES("\x96\x31hvc1\1x"), ENH | MULTI, NULL, 0, 0},
};

static const struct tag_case audio[] = {
    {"empty, as nginx sends with wait_video", BYTES(""), 0, NULL, 0, 0},
    {"AAC sequence header", BYTES("\xaf\0\x12\x10"), SEQ, NULL, 10, 0},
    {"AAC frame", BYTES("\xaf\1x"), FRAME, NULL, 10, 0},
    {"AAC unknown packet type", BYTES("\xaf\2x"), 0, NULL, 10, 0},
    {"AAC, one byte", BYTES("\xaf"), 0, NULL, 10, 0},
    {"MP3", BYTES("\x2f\xff\xfb"), FRAME, NULL, 2, 0},
    {"Speex", BYTES("\xb2\0"), FRAME, NULL, 11, 0},
    {"SequenceStart", BYTES("\x90Opusx"), ENH | SEQ, &opus, 0, 0},
    {"CodedFrames", BYTES("\x91Opusx"), ENH | FRAME, &opus, 0, 0},
    {"SequenceEnd", BYTES("\x92mp4a"), ENH | END, &mp4a, 0, 0},
    {"MultichannelConfig", BYTES("\x94mp4a\1\2"), ENH | SIDE, &mp4a, 0, 0},
    {"ModEx", BYTES("\x97\2abc\1mp4a"), ENH | FRAME, &mp4a, 0, 0},
    {"OneTrack", BYTES("\x95\0Opus\3x"), ENH | MULTI | SEQ, &opus, 0, 3},
    {"ManyTracks", BYTES("\x95\x11mp4a\1\0\0\1x"), ENH | MULTI | FRAME, &mp4a, 0, 1},
    {"multitrack in multitrack", BYTES("\x95\5mp4a\1"), ENH | MULTI, NULL, 0, 0},
    {"packet type 3 is not audio's", BYTES("\x93mp4a"), ENH, &mp4a, 0, 0},
};

static void test_video(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof video / sizeof video[0]; i++)
        check(&video[i], flv_video_inspect);
}

static void test_audio(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof audio / sizeof audio[0]; i++)
        check(&audio[i], flv_audio_inspect);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_video),
        cmocka_unit_test(test_audio),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
