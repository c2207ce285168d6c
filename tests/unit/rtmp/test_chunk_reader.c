#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/limits.h"
#include "rtmp/chunk_reader.h"
#include "tests/unit/rtmp/chunk_wire.h"

enum { WIRE_MAX = 300000, EXPECTED_MAX = 16, NO_SEED = 0xffffffff };

struct expected {
    uint32_t csid, msid, timestamp, len;
    uint8_t type;
    uint32_t seed; /* of the payload's pattern; NO_SEED: not looked at */
};

struct script { /* what a case sends, and what must come of it */
    struct wr w;
    struct expected e[EXPECTED_MAX];
    uint32_t count;
};

static void expect(struct script *s, uint32_t csid, uint32_t time, uint32_t len, uint8_t type,
                   uint32_t msid, uint32_t seed)
{
    assert_true(s->count < EXPECTED_MAX);
    s->e[s->count++] = (struct expected){csid, msid, time, len, type, seed};
}

static void put_chunk_size(struct script *s, uint32_t bytes)
{
    put_fmt0(&s->w, 2, 0, 4, RTMP_SET_CHUNK_SIZE, 0);
    wr_u32be(&s->w, bytes);
    expect(s, 2, 0, 4, RTMP_SET_CHUNK_SIZE, 0, NO_SEED);
}

/* Section 5.3.2.1, example 1: four audio messages on csid 3, bytes as in the table */
static void spec_example_1(struct script *s)
{
    struct wr *w = &s->w;
    wr_bytes(w, "\x03\x00\x03\xe8\x00\x00\x20\x08\x39\x30\x00\x00", 12);
    put_pattern(w, 1, 0, 32);
    wr_bytes(w, "\x83\x00\x00\x14", 4);
    put_pattern(w, 2, 0, 32);
    wr_bytes(w, "\xc3", 1);
    put_pattern(w, 3, 0, 32);
    wr_bytes(w, "\xc3", 1);
    put_pattern(w, 4, 0, 32);
    expect(s, 3, 1000, 32, RTMP_AUDIO, 12345, 1);
    expect(s, 3, 1020, 32, RTMP_AUDIO, 12345, 2);
    expect(s, 3, 1040, 32, RTMP_AUDIO, 12345, 3);
    expect(s, 3, 1060, 32, RTMP_AUDIO, 12345, 4);
}

/* Section 5.3.2.2, example 2: a video message of 307 bytes in chunks of 128, 128 and 51 */
static void spec_example_2(struct script *s)
{
    struct wr *w = &s->w;
    wr_bytes(w, "\x04\x00\x03\xe8\x00\x01\x33\x09\x3a\x30\x00\x00", 12);
    put_pattern(w, 1, 0, 128);
    wr_bytes(w, "\xc4", 1);
    put_pattern(w, 1, 128, 128);
    wr_bytes(w, "\xc4", 1);
    put_pattern(w, 1, 256, 51);
    expect(s, 4, 1000, 307, RTMP_VIDEO, 12346, 1);
}

static void all_formats(struct script *s)
{
    put_fmt0(&s->w, 5, 100, 10, RTMP_AUDIO, 1);
    put_pattern(&s->w, 1, 0, 10);
    put_fmt1(&s->w, 5, 20, 12, RTMP_VIDEO);
    put_pattern(&s->w, 2, 0, 12);
    put_fmt2(&s->w, 5, 5);
    put_pattern(&s->w, 3, 0, 12);
    put_fmt3(&s->w, 5);
    put_pattern(&s->w, 4, 0, 12);
    put_fmt0(&s->w, 5, 50, 3, RTMP_DATA_AMF0, 2);
    put_pattern(&s->w, 5, 0, 3);
    expect(s, 5, 100, 10, RTMP_AUDIO, 1, 1);
    expect(s, 5, 120, 12, RTMP_VIDEO, 1, 2);
    expect(s, 5, 125, 12, RTMP_VIDEO, 1, 3);
    expect(s, 5, 130, 12, RTMP_VIDEO, 1, 4);
    expect(s, 5, 50, 3, RTMP_DATA_AMF0, 2, 5);
}

/* fmt 3 opening a message after fmt 0: the absolute timestamp is added again */
static void fmt3_after_fmt0(struct script *s)
{
    put_fmt0(&s->w, 4, 1000, 6, RTMP_AUDIO, 1);
    put_pattern(&s->w, 1, 0, 6);
    for (uint32_t i = 2; i <= 3; i++) {
        put_fmt3(&s->w, 4);
        put_pattern(&s->w, i, 0, 6);
    }
    for (uint32_t i = 1; i <= 3; i++)
        expect(s, 4, 1000 * i, 6, RTMP_AUDIO, 1, i);
}

static void csid_forms(struct script *s)
{
    static const uint32_t csids[] = {2, 63, 64, 319, 320, 65599};
    for (uint32_t i = 0; i < sizeof csids / sizeof csids[0]; i++) {
        put_fmt0(&s->w, csids[i], i, 200, RTMP_VIDEO, i);
        put_pattern(&s->w, i, 0, 128);
        put_fmt3(&s->w, csids[i]);
        put_pattern(&s->w, i, 128, 72);
        expect(s, csids[i], i, 200, RTMP_VIDEO, i, i);
    }
    /* csid 64 in the three-byte form is the same chunk stream */
    wr_bytes(&s->w, "\x81\x00\x00\x00\x00\x07", 6);
    put_pattern(&s->w, 9, 0, 128);
    put_fmt3(&s->w, 64);
    put_pattern(&s->w, 9, 128, 72);
    expect(s, 64, 2 + 7, 200, RTMP_VIDEO, 2, 9);
}

/* librtmp's PingResponse as the first message of csid 2 */
static void fmt1_first(struct script *s)
{
    wr_bytes(&s->w, "\x42\x00\x00\x05\x00\x00\x06\x04\x00\x07\x00\x00\x00\x01", 14);
    expect(s, 2, 5, 6, RTMP_USER_CONTROL, 0, NO_SEED);
}

static void zero_lengths(struct script *s)
{
    put_fmt0(&s->w, 4, 10, 0, RTMP_AUDIO, 1);
    put_fmt2(&s->w, 4, 10);
    put_fmt3(&s->w, 4);
    put_fmt0(&s->w, 6, 0x1000000, 0, RTMP_VIDEO, 1);
    put_fmt3(&s->w, 6);
    wr_u32be(&s->w, 0x1000000); /* repeated, opening a message */
    put_fmt3(&s->w, 6);         /* not repeated: the next bytes are a header */
    put_fmt0(&s->w, 4, 5, 1, RTMP_AUDIO, 1);
    put_pattern(&s->w, 1, 0, 1);
    for (uint32_t i = 1; i <= 3; i++)
        expect(s, 4, 10 * i, 0, RTMP_AUDIO, 1, NO_SEED);
    for (uint32_t i = 1; i <= 3; i++)
        expect(s, 6, 0x1000000 * i, 0, RTMP_VIDEO, 1, NO_SEED);
    expect(s, 4, 5, 1, RTMP_AUDIO, 1, 1);
}

static void interleaved(struct script *s)
{
    struct wr *w = &s->w;
    put_fmt0(w, 6, 40, 300, RTMP_VIDEO, 1);
    put_pattern(w, 1, 0, 128);
    put_fmt0(w, 4, 41, 150, RTMP_AUDIO, 1);
    put_pattern(w, 2, 0, 128);
    put_fmt3(w, 6);
    put_pattern(w, 1, 128, 128);
    put_fmt3(w, 4);
    put_pattern(w, 2, 128, 22);
    put_fmt1(w, 4, 23, 5, RTMP_AUDIO);
    put_pattern(w, 3, 0, 5);
    put_fmt3(w, 6);
    put_pattern(w, 1, 256, 44);
    expect(s, 4, 41, 150, RTMP_AUDIO, 1, 2);
    expect(s, 4, 64, 5, RTMP_AUDIO, 1, 3);
    expect(s, 6, 40, 300, RTMP_VIDEO, 1, 1);
}

/* Takes effect at once, also for the rest of a half-received message, upwards and downwards. */
static void chunk_size_changes(struct script *s)
{
    struct wr *w = &s->w;
    put_fmt0(w, 6, 0, 1000, RTMP_VIDEO, 1);
    put_pattern(w, 1, 0, 128);
    put_chunk_size(s, 500);
    put_fmt3(w, 6);
    put_pattern(w, 1, 128, 500);
    put_chunk_size(s, 1);
    put_fmt3(w, 6);
    put_pattern(w, 1, 628, 1);
    /* chunks of one byte: the message that ends this is in four of them */
    put_fmt0(w, 2, 0, 4, RTMP_SET_CHUNK_SIZE, 0);
    wr_bytes(w, "\x7f\xc2\xff\xc2\xff\xc2\xff", 7);
    expect(s, 2, 0, 4, RTMP_SET_CHUNK_SIZE, 0, NO_SEED);
    put_fmt3(w, 6);
    put_pattern(w, 1, 629, 371);
    expect(s, 6, 0, 1000, RTMP_VIDEO, 1, 1);
}

static void abort_drops_the_partial_message(struct script *s)
{
    struct wr *w = &s->w;
    put_fmt0(w, 6, 40, 300, RTMP_VIDEO, 1);
    put_pattern(w, 1, 0, 128);
    put_fmt0(w, 4, 50, 200, RTMP_AUDIO, 1);
    put_pattern(w, 2, 0, 128);
    put_fmt0(w, 2, 0, 4, RTMP_ABORT, 0);
    wr_u32be(w, 6);
    put_fmt0(w, 2, 0, 4, RTMP_ABORT, 0);
    wr_u32be(w, 77); /* not in use */
    put_fmt0(w, 2, 0, 2, RTMP_ABORT, 0);
    wr_u16be(w, 4); /* too short to name one */
    put_fmt3(w, 4);
    put_pattern(w, 2, 128, 72);
    put_fmt1(w, 6, 40, 20, RTMP_VIDEO);
    put_pattern(w, 3, 0, 20);
    expect(s, 4, 50, 200, RTMP_AUDIO, 1, 2);
    expect(s, 6, 80, 20, RTMP_VIDEO, 1, 3);
}

/* A full header in the middle that says the same goes on with the message, whatever its time. */
static void header_repeated_inside(struct script *s)
{
    struct wr *w = &s->w;
    put_fmt0(w, 6, 40, 500, RTMP_VIDEO, 1);
    put_pattern(w, 1, 0, 128);
    put_fmt0(w, 6, 99, 500, RTMP_VIDEO, 1);
    put_pattern(w, 1, 128, 128);
    put_fmt1(w, 6, 0x2000000, 500, RTMP_VIDEO);
    put_pattern(w, 1, 256, 128);
    put_fmt2(w, 6, 3);
    put_pattern(w, 1, 384, 116);
    put_fmt2(w, 6, 10);
    put_pattern(w, 2, 0, 128);
    for (uint32_t off = 128; off < 500; off += 128) {
        put_fmt3(w, 6);
        put_pattern(w, 2, off, 500 - off < 128 ? 500 - off : 128);
    }
    expect(s, 6, 40, 500, RTMP_VIDEO, 1, 1);
    expect(s, 6, 50, 500, RTMP_VIDEO, 1, 2);
}

static void extended_message(struct script *s, uint32_t time, bool repeated)
{
    put_fmt0(&s->w, 6, time, 300, RTMP_VIDEO, 1);
    put_pattern(&s->w, time, 0, 128);
    for (uint32_t off = 128; off < 300; off += 128) {
        put_fmt3(&s->w, 6);
        if (repeated)
            put_extended(&s->w, time);
        put_pattern(&s->w, time, off, 300 - off < 128 ? 300 - off : 128);
    }
    expect(s, 6, time, 300, RTMP_VIDEO, 1, time);
}

static const uint32_t edge_times[] = {0xfffffe, 0xffffff, 0x1000000, 0xfffffffe, 0xffffffff};

static void extended_repeated(struct script *s)
{
    for (size_t i = 0; i < sizeof edge_times / sizeof edge_times[0]; i++)
        extended_message(s, edge_times[i], true);
}

static void extended_not_repeated(struct script *s)
{
    for (size_t i = 0; i < sizeof edge_times / sizeof edge_times[0]; i++)
        extended_message(s, edge_times[i], false);
}

/* The field is extended though its value would fit: the form counts, not the value. */
static void extended_small_value(struct script *s)
{
    struct wr *w = &s->w;
    wr_bytes(w, "\x06\xff\xff\xff\x00\x00\x82\x09\x01\x00\x00\x00\x00\x00\x00\x05", 16);
    put_pattern(w, 1, 0, 128);
    wr_bytes(w, "\xc6\x00\x00\x00\x05", 5);
    put_pattern(w, 1, 128, 2);
    expect(s, 6, 5, 130, RTMP_VIDEO, 1, 1);
}

/* Payload that looks like the timestamp for up to three bytes, and short last chunks behind such
 * bytes. */
static void extended_near_misses(struct script *s)
{
    struct wr *w = &s->w;
    for (uint32_t same = 0; same <= 3; same++) {
        for (uint32_t last = 1; last <= 5; last += 2) {
            if (same > last)
                continue;
            put_fmt0(w, 6, 0x01020304, 128 + last, RTMP_VIDEO, 1);
            put_pattern(w, 1, 0, 128);
            put_fmt3(w, 6);
            wr_bytes(w, "\x01\x02\x03", same);
            put_pattern(w, 1, 0, last - same);
            expect(s, 6, 0x01020304, 128 + last, RTMP_VIDEO, 1, NO_SEED);
        }
    }
    put_fmt0(w, 4, 7, 3, RTMP_AUDIO, 1);
    put_pattern(w, 2, 0, 3);
    expect(s, 4, 7, 3, RTMP_AUDIO, 1, 2);
}

/* Where the held-back bytes are the last payload byte and the next headers: all in carry[]. */
static void extended_held_back_headers(struct script *s)
{
    struct wr *w = &s->w;
    put_fmt0(w, 4, 9, 1, RTMP_AUDIO, 1);
    wr_u8(w, 0xaa);
    /* extended value c1 c4 c4 ..: payload c1, then fmt 3 of csid 4 with payload c4 */
    put_fmt0(w, 6, 0xc1c4c4ff, 129, RTMP_VIDEO, 1);
    put_pattern(w, 1, 0, 128);
    put_fmt3(w, 6);
    wr_bytes(w, "\xc1\xc4\xc4", 3);
    put_fmt2(w, 4, 1);
    wr_u8(w, 0xbb);
    expect(s, 4, 9, 1, RTMP_AUDIO, 1, NO_SEED);
    expect(s, 6, 0xc1c4c4ff, 129, RTMP_VIDEO, 1, NO_SEED);
    expect(s, 4, 18, 1, RTMP_AUDIO, 1, NO_SEED);
    expect(s, 4, 19, 1, RTMP_AUDIO, 1, NO_SEED);
}

static void extended_deltas(struct script *s)
{
    struct wr *w = &s->w;
    put_fmt0(w, 6, 5, 130, RTMP_VIDEO, 1);
    put_pattern(w, 1, 0, 128);
    put_fmt3(w, 6);
    put_pattern(w, 1, 128, 2);
    put_fmt1(w, 6, 0x1000000, 130, RTMP_VIDEO);
    put_pattern(w, 2, 0, 128);
    put_fmt3(w, 6);
    wr_u32be(w, 0x1000000); /* the delta, not the time */
    put_pattern(w, 2, 128, 2);
    put_fmt3(w, 6); /* opens: the extended delta again */
    wr_u32be(w, 0x1000000);
    put_pattern(w, 3, 0, 128);
    put_fmt3(w, 6);
    wr_u32be(w, 0x1000000);
    put_pattern(w, 3, 128, 2);
    put_fmt3(w, 6); /* opens, not repeated */
    put_pattern(w, 4, 0, 128);
    put_fmt3(w, 6);
    put_pattern(w, 4, 128, 2);
    put_fmt2(w, 6, 0xffffffd8); /* -40 */
    put_pattern(w, 5, 0, 128);
    put_fmt3(w, 6);
    wr_u32be(w, 0xffffffd8);
    put_pattern(w, 5, 128, 2);
    expect(s, 6, 5, 130, RTMP_VIDEO, 1, 1);
    expect(s, 6, 0x1000005, 130, RTMP_VIDEO, 1, 2);
    expect(s, 6, 0x2000005, 130, RTMP_VIDEO, 1, 3);
    expect(s, 6, 0x3000005, 130, RTMP_VIDEO, 1, 4);
    expect(s, 6, 0x3000005 - 40, 130, RTMP_VIDEO, 1, 5);
}

static void time_wraps(struct script *s)
{
    put_fmt0(&s->w, 6, 0xfffffff0, 1, RTMP_VIDEO, 1);
    put_pattern(&s->w, 1, 0, 1);
    put_fmt2(&s->w, 6, 32);
    put_pattern(&s->w, 2, 0, 1);
    put_fmt3(&s->w, 6);
    put_pattern(&s->w, 3, 0, 1);
    expect(s, 6, 0xfffffff0, 1, RTMP_VIDEO, 1, 1);
    expect(s, 6, 16, 1, RTMP_VIDEO, 1, 2);
    expect(s, 6, 48, 1, RTMP_VIDEO, 1, 3);
}

static void header_first(struct script *s)
{
    put_fmt0(&s->w, 3, 0, 1, RTMP_AUDIO, 1);
    put_pattern(&s->w, 1, 0, 1);
    expect(s, 3, 0, 1, RTMP_AUDIO, 1, 1);
    put_fmt2(&s->w, 4, 0);
}

static void header_first_fmt3(struct script *s)
{
    put_fmt3(&s->w, 4);
}

static void message_long(struct script *s)
{
    put_fmt0(&s->w, 3, 0, 2000, RTMP_AUDIO, 1); /* the limit itself is fine */
    for (uint32_t off = 0; off < 2000; off += 128) {
        if (off)
            put_fmt3(&s->w, 3);
        put_pattern(&s->w, 1, off, 2000 - off < 128 ? 2000 - off : 128);
    }
    expect(s, 3, 0, 2000, RTMP_AUDIO, 1, 1);
    put_fmt1(&s->w, 3, 0, 2001, RTMP_AUDIO);
}

static void unfinished_sum(struct script *s)
{
    for (uint32_t csid = 10; csid < 10 + 24; csid++) { /* 24 * 128 > 3000 */
        put_fmt0(&s->w, csid, 0, 1000, RTMP_VIDEO, 1);
        put_pattern(&s->w, 1, 0, 128);
    }
}

static void length_changed(struct script *s)
{
    put_fmt0(&s->w, 6, 0, 300, RTMP_VIDEO, 1);
    put_pattern(&s->w, 1, 0, 128);
    put_fmt1(&s->w, 6, 0, 301, RTMP_VIDEO);
}

static void type_changed(struct script *s)
{
    put_fmt0(&s->w, 6, 0, 300, RTMP_VIDEO, 1);
    put_pattern(&s->w, 1, 0, 128);
    put_fmt0(&s->w, 6, 0, 300, RTMP_AUDIO, 1);
}

static void streams_limit(struct script *s)
{
    for (uint32_t i = 0; i < 40; i++) {
        put_fmt0(&s->w, 1000 + i, 0, 0, RTMP_AUDIO, 1);
        if (i < 4)
            expect(s, 1000 + i, 0, 0, RTMP_AUDIO, 1, NO_SEED);
    }
}

static void size_zero(struct script *s)
{
    put_fmt0(&s->w, 2, 0, 4, RTMP_SET_CHUNK_SIZE, 0);
    wr_u32be(&s->w, 0);
}

static void size_high_bit(struct script *s)
{
    put_fmt0(&s->w, 2, 0, 4, RTMP_SET_CHUNK_SIZE, 0);
    wr_u32be(&s->w, 0x80001000);
}

static void size_short(struct script *s)
{
    put_fmt0(&s->w, 2, 0, 3, RTMP_SET_CHUNK_SIZE, 0);
    wr_u24be(&s->w, 4096);
}

static const struct {
    const char *name;
    void (*build)(struct script *s);
    enum rtmp_chunk_why why;
    uint32_t streams; /* limit; 0: 64 */
} cases[] = {
    {"section 5.3.2.1", spec_example_1, .why = RTMP_CHUNK_FINE},
    {"section 5.3.2.2", spec_example_2, .why = RTMP_CHUNK_FINE},
    {"all formats", all_formats, .why = RTMP_CHUNK_FINE},
    {"fmt 3 after fmt 0", fmt3_after_fmt0, .why = RTMP_CHUNK_FINE},
    {"csid forms", csid_forms, .why = RTMP_CHUNK_FINE},
    {"fmt 1 first", fmt1_first, .why = RTMP_CHUNK_FINE},
    {"zero lengths", zero_lengths, .why = RTMP_CHUNK_FINE},
    {"interleaved", interleaved, .why = RTMP_CHUNK_FINE},
    {"chunk size changes", chunk_size_changes, .why = RTMP_CHUNK_FINE},
    {"abort", abort_drops_the_partial_message, .why = RTMP_CHUNK_FINE},
    {"header repeated inside", header_repeated_inside, .why = RTMP_CHUNK_FINE},
    {"extended repeated", extended_repeated, .why = RTMP_CHUNK_FINE},
    {"extended not repeated", extended_not_repeated, .why = RTMP_CHUNK_FINE},
    {"extended small value", extended_small_value, .why = RTMP_CHUNK_FINE},
    {"extended near misses", extended_near_misses, .why = RTMP_CHUNK_FINE},
    {"extended held back headers", extended_held_back_headers, .why = RTMP_CHUNK_FINE},
    {"extended deltas", extended_deltas, .why = RTMP_CHUNK_FINE},
    {"time wraps", time_wraps, .why = RTMP_CHUNK_FINE},
    {"fmt 2 first", header_first, .why = RTMP_CHUNK_HEADER_FIRST},
    {"fmt 3 first", header_first_fmt3, .why = RTMP_CHUNK_HEADER_FIRST},
    {"message long", message_long, .why = RTMP_CHUNK_MESSAGE_LONG},
    {"unfinished sum", unfinished_sum, .why = RTMP_CHUNK_UNFINISHED},
    {"length changed", length_changed, .why = RTMP_CHUNK_LENGTH_CHANGED},
    {"type changed", type_changed, .why = RTMP_CHUNK_LENGTH_CHANGED},
    {"streams", streams_limit, .why = RTMP_CHUNK_STREAMS, .streams = 4},
    {"chunk size 0", size_zero, .why = RTMP_CHUNK_SIZE_BAD},
    {"chunk size with high bit", size_high_bit, .why = RTMP_CHUNK_SIZE_BAD},
    {"chunk size short", size_short, .why = RTMP_CHUNK_SIZE_BAD},
};

struct bench { /* a reader and what it has given */
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct rtmp_chunk_limits limits;
    struct rtmp_chunk_reader reader;
};

static void bench_init(struct bench *b, uint64_t max_bytes)
{
    block_pool_init(&b->blocks, max_bytes);
    rtmp_pool_init(&b->pool, &b->blocks);
    b->limits = (struct rtmp_chunk_limits){
        .message_bytes = 2000, .unfinished_bytes = 3000, .chunk_streams = 64};
    rtmp_chunk_reader_init(&b->reader, &b->pool, &b->limits);
}

static void bench_deinit(struct bench *b)
{
    rtmp_chunk_reader_deinit(&b->reader);
    assert_int_equal(b->pool.live, 0);
    assert_int_equal(b->blocks.live_bytes, 0);
    rtmp_pool_deinit(&b->pool);
    block_pool_deinit(&b->blocks);
}

static void message_check(const struct rtmp_msg *m, const struct expected *e)
{
    static uint8_t payload[WIRE_MAX];
    assert_int_equal(m->csid, e->csid);
    assert_int_equal(m->type, e->type);
    assert_int_equal(m->msid, e->msid);
    assert_int_equal(m->timestamp, e->timestamp);
    assert_int_equal(m->len, e->len);
    assert_int_equal(rtmp_msg_peek(m, payload, sizeof payload), e->len);
    for (uint32_t i = 0; e->seed != NO_SEED && i < e->len; i++)
        assert_int_equal(payload[i], pattern(e->seed, i));
}

static enum parse_result feed(struct bench *b, const uint8_t *p, uint32_t len,
                              const struct script *s, uint32_t *got)
{
    struct slice in = exact_slice(&b->blocks, p, len);
    struct block *block = in.block;
    struct rtmp_msg *m = NULL;
    enum parse_result result;
    while ((result = rtmp_chunk_reader_next(&b->reader, &in, &m)) == PARSE_OK) {
        assert_true(*got < s->count);
        message_check(m, &s->e[(*got)++]);
        rtmp_msg_unref(m);
    }
    if (result == PARSE_NEED_MORE)
        assert_int_equal(in.len, 0);
    block_unref(block);
    return result;
}

/* Input cut in pieces of `first`, then of `piece` bytes. */
static void run_cut(const struct script *s, enum rtmp_chunk_why why, uint32_t streams,
                    uint32_t first, uint32_t piece)
{
    struct bench b;
    uint32_t got = 0;
    enum parse_result result = PARSE_NEED_MORE;
    bench_init(&b, 0);
    if (streams)
        b.limits.chunk_streams = streams;
    b.limits.frugal = first % 2;
    const uint32_t len = (uint32_t)s->w.len;
    for (uint32_t off = 0, n = first; off < len && result != PARSE_BAD; off += n, n = piece) {
        if (n > len - off)
            n = len - off;
        result = feed(&b, s->w.p + off, n, s, &got);
    }
    assert_int_equal(got, s->count);
    assert_int_equal(b.reader.why, why);
    assert_int_equal(result, why == RTMP_CHUNK_FINE ? PARSE_NEED_MORE : PARSE_BAD);
    if (why == RTMP_CHUNK_FINE)
        assert_true(rtmp_chunk_reader_idle(&b.reader));
    else
        assert_int_equal(feed(&b, s->w.p, len, s, &got), PARSE_BAD); /* final */
    bench_deinit(&b);
}

static void chunk_size_has_a_limit(void **state)
{
    (void)state;
    for (uint32_t bytes = 4096; bytes <= 4097; bytes++) {
        const bool over = bytes > 4096;
        struct bench b;
        struct rtmp_msg *m = NULL;
        bench_init(&b, 0);
        b.limits.chunk_bytes = 4096;
        struct block *block = block_create(&b.blocks, 64);
        struct wr w = wr_over(block->data, 64);
        put_fmt0(&w, 2, 0, 4, RTMP_SET_CHUNK_SIZE, 0);
        wr_u32be(&w, bytes);
        struct slice in = {.block = block, .off = 0, .len = (uint32_t)w.len};
        assert_int_equal(rtmp_chunk_reader_next(&b.reader, &in, &m), over ? PARSE_BAD : PARSE_OK);
        assert_int_equal(b.reader.why, over ? RTMP_CHUNK_SIZE_BAD : RTMP_CHUNK_FINE);
        assert_int_equal(b.reader.chunk_bytes, over ? RTMP_DEFAULT_CHUNK_BYTES : 4096);
        rtmp_msg_unref(m);
        block_unref(block);
        bench_deinit(&b);
    }
}

static void every_cut_gives_the_same(void **state)
{
    (void)state;
    static uint8_t bytes[WIRE_MAX];
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct script s = {.w = wr_over(bytes, sizeof bytes)};
        cases[c].build(&s);
        assert_false(s.w.full);
        const uint32_t len = (uint32_t)s.w.len;
        printf("  %s\n", cases[c].name);
        for (uint32_t cut = 1; cut <= len; cut++)
            run_cut(&s, cases[c].why, cases[c].streams, cut, len);
        for (uint32_t piece = 1; piece < 20 && piece < len; piece++)
            run_cut(&s, cases[c].why, cases[c].streams, piece, piece);
    }
}

static void payload_is_delivered_once(void **state)
{
    (void)state;
    struct bench b;
    static const uint8_t tail[] = {0x01, 0x02, 0x03, 0x55, 0x66};
    for (uint32_t piece = 1; piece < 160; piece++) {
        uint8_t bytes[256], got[200];
        struct wr w = wr_over(bytes, sizeof bytes);
        put_fmt0(&w, 6, 0x01020304, 128 + sizeof tail, RTMP_VIDEO, 1);
        put_pattern(&w, 1, 0, 128);
        put_fmt3(&w, 6);
        wr_bytes(&w, tail, sizeof tail);
        struct rtmp_msg *m = NULL;
        bench_init(&b, 0);
        for (uint32_t off = 0; off < w.len; off += piece) {
            const uint32_t n = w.len - off < piece ? (uint32_t)w.len - off : piece;
            struct slice in = exact_slice(&b.blocks, bytes + off, n);
            const enum parse_result want = off + n == w.len ? PARSE_OK : PARSE_NEED_MORE;
            assert_int_equal(rtmp_chunk_reader_next(&b.reader, &in, &m), want);
            block_unref(in.block);
        }
        assert_int_equal(rtmp_msg_peek(m, got, sizeof got), 128 + sizeof tail);
        assert_memory_equal(got + 128, tail, sizeof tail);
        rtmp_msg_unref(m);
        bench_deinit(&b);
    }
}

static void large_chunks_are_not_copied(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b, 0);
    b.limits.message_bytes = b.limits.unfinished_bytes = 1 << 20;
    static uint8_t bytes[20000];
    struct script s = {.w = wr_over(bytes, sizeof bytes)};
    put_chunk_size(&s, 4096);
    put_fmt0(&s.w, 6, 0, 2 * 4096 + 3000, RTMP_VIDEO, 1);
    put_pattern(&s.w, 1, 0, 4096);
    put_fmt3(&s.w, 6);
    put_pattern(&s.w, 1, 4096, 4096);
    put_fmt3(&s.w, 6);
    put_pattern(&s.w, 1, 8192, 3000);
    put_fmt0(&s.w, 4, 0, 100, RTMP_AUDIO, 1); /* small but whole */
    put_pattern(&s.w, 2, 0, 100);
    struct slice in = exact_slice(&b.blocks, bytes, (uint32_t)s.w.len);
    struct block *block = in.block;
    for (uint32_t i = 0; i < 3; i++) {
        struct rtmp_msg *m = NULL;
        assert_int_equal(rtmp_chunk_reader_next(&b.reader, &in, &m), PARSE_OK);
        for (uint32_t k = 0; k < m->slice_count; k++)
            assert_ptr_equal(m->slices[k].block, block);
        assert_int_equal(m->slice_count, i == 1 ? 3 : 1);
        rtmp_msg_unref(m);
    }
    assert_int_equal(block->refs, 1);
    block_unref(block);
    bench_deinit(&b);
}

/* Memory follows what arrives, in few slices, and none of it pins the input. */
static void small_chunks_are_gathered(void **state)
{
    (void)state;
    enum { LEN = 250000 };
    struct bench b;
    bench_init(&b, 0);
    b.limits.message_bytes = b.limits.unfinished_bytes = RTMP_MESSAGE_BYTES_MAX;
    static uint8_t bytes[WIRE_MAX];
    struct wr w = wr_over(bytes, sizeof bytes);
    put_fmt0(&w, 6, 0, LEN, RTMP_VIDEO, 1);
    for (uint32_t off = 0; off < LEN; off += 128) {
        if (off)
            put_fmt3(&w, 6);
        put_pattern(&w, 1, off, LEN - off < 128 ? LEN - off : 128);
    }
    struct rtmp_msg *m = NULL;
    for (uint32_t off = 0; off < w.len; off++) {
        struct slice in = exact_slice(&b.blocks, bytes + off, 1);
        const enum parse_result want = off + 1 == w.len ? PARSE_OK : PARSE_NEED_MORE;
        assert_int_equal(rtmp_chunk_reader_next(&b.reader, &in, &m), want);
        block_unref(in.block);
        assert_true(b.blocks.live_bytes <= 4096 + 3 * (uint64_t)off);
    }
    assert_true(m->slice_count < 16);
    message_check(m, &(struct expected){6, 1, 0, LEN, RTMP_VIDEO, 1});
    rtmp_msg_unref(m);
    bench_deinit(&b);
}

static void declared_length_costs_nothing(void **state)
{
    (void)state;
    struct bench b;
    uint8_t bytes[32];
    bench_init(&b, 0);
    b.limits.message_bytes = b.limits.unfinished_bytes = RTMP_MESSAGE_BYTES_MAX;
    struct wr w = wr_over(bytes, sizeof bytes);
    put_fmt0(&w, 6, 0, RTMP_MESSAGE_BYTES_MAX, RTMP_VIDEO, 1);
    wr_u8(&w, 1);
    struct slice in = exact_slice(&b.blocks, bytes, (uint32_t)w.len);
    struct rtmp_msg *m = NULL;
    assert_int_equal(rtmp_chunk_reader_next(&b.reader, &in, &m), PARSE_NEED_MORE);
    block_unref(in.block);
    assert_true(b.blocks.live_bytes <= 4096);
    assert_int_equal(b.reader.unfinished, 1);
    assert_false(rtmp_chunk_reader_idle(&b.reader));
    bench_deinit(&b);
}

/* Of messages in pieces only what has come weighs, however large the pieces. */
static void frugal_readers_hold_no_receive_block(void **state)
{
    (void)state;
    static uint8_t bytes[9000];
    struct bench b;
    struct rtmp_msg *m = NULL;
    bench_init(&b, 0);
    b.limits = (struct rtmp_chunk_limits){
        .message_bytes = 10000, .unfinished_bytes = 10000, .chunk_streams = 16, .frugal = true};
    b.reader.chunk_bytes = 10000;
    for (uint32_t csid = 3; csid < 18; csid++) { /* a byte on each: a smallest block each */
        struct wr w = wr_over(bytes, sizeof bytes);
        put_fmt0(&w, csid, 0, 600, RTMP_VIDEO, 1);
        wr_u8(&w, 1);
        struct slice in = exact_slice(&b.blocks, bytes, (uint32_t)w.len);
        struct block *block = in.block;
        assert_int_equal(rtmp_chunk_reader_next(&b.reader, &in, &m), PARSE_NEED_MORE);
        assert_int_equal(block->refs, 1);
        block_unref(block);
        struct slice rest = exact_slice(&b.blocks, bytes, 599);
        block = rest.block;
        if (csid > 3)
            assert_int_equal(b.blocks.live_bytes, block->cap + 128);
        assert_int_equal(rtmp_chunk_reader_next(&b.reader, &rest, &m), PARSE_OK);
        rtmp_msg_unref(m);
        block_unref(block);
        assert_int_equal(b.blocks.live_bytes, 0);
    }
    struct wr w = wr_over(bytes, sizeof bytes);
    put_fmt0(&w, 6, 0, 9000, RTMP_VIDEO, 1);
    put_pattern(&w, 1, 0, 8000);
    struct slice in = exact_slice(&b.blocks, bytes, (uint32_t)w.len);
    struct block *block = in.block;
    assert_int_equal(rtmp_chunk_reader_next(&b.reader, &in, &m), PARSE_NEED_MORE);
    assert_int_equal(block->refs, 1);
    block_unref(block);
    assert_true(b.blocks.live_bytes <= 2 * 8000 + 128);
    bench_deinit(&b);
}

static void memory_bound_is_a_clean_end(void **state)
{
    (void)state;
    static uint8_t bytes[WIRE_MAX];
    struct script s = {.w = wr_over(bytes, sizeof bytes)};
    interleaved(&s);
    uint32_t ended = 0;
    for (uint64_t max = 1; max < 2048; max += 64) {
        struct bench b;
        uint32_t got = 0;
        enum parse_result result = PARSE_NEED_MORE;
        bench_init(&b, max);
        for (uint32_t off = 0; off < s.w.len && result != PARSE_BAD; off++)
            result = feed(&b, bytes + off, 1, &s, &got);
        if (result == PARSE_BAD)
            assert_int_equal(b.reader.why, RTMP_CHUNK_NO_MEMORY);
        ended += result == PARSE_BAD ? 1 : 0;
        bench_deinit(&b);
    }
    assert_in_range(ended, 1, 31);
}

static void why_has_names(void **state)
{
    (void)state;
    assert_string_equal(rtmp_chunk_why_name(RTMP_CHUNK_HEADER_FIRST), "header_first");
    for (int i = 0; i < RTMP_CHUNK_WHY_COUNT; i++)
        assert_non_null(rtmp_chunk_why_name((enum rtmp_chunk_why)i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_gives_the_same),
        cmocka_unit_test(chunk_size_has_a_limit),
        cmocka_unit_test(payload_is_delivered_once),
        cmocka_unit_test(large_chunks_are_not_copied),
        cmocka_unit_test(small_chunks_are_gathered),
        cmocka_unit_test(declared_length_costs_nothing),
        cmocka_unit_test(frugal_readers_hold_no_receive_block),
        cmocka_unit_test(memory_bound_is_a_clean_end),
        cmocka_unit_test(why_has_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
