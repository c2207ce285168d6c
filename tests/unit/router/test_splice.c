/* What a player gets when its stream comes from another node: tables of (what the links deliver,
 * what arrives). A word is a type (a, v, k: keyframe, d; A V: sequence headers, m: metadata, e:
 * empty audio), a time, and after a colon what it holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "router/splice.h"

struct bed {
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct splice s;
    struct splice_feed feeds[2];
    char out[4096];
};

static struct rtmp_msg *make(struct bed *b, const char *word)
{
    char *colon;
    const uint32_t time = (uint32_t)strtoul(word + 1, &colon, 10);
    const char *what = *colon == ':' ? colon + 1 : "";
    uint8_t buf[64];
    size_t len = 0;
    uint8_t type = strchr("aAe", word[0])   ? RTMP_AUDIO
                   : strchr("vVk", word[0]) ? RTMP_VIDEO
                                            : RTMP_DATA_AMF0;
    switch (word[0]) {
    case 'a':
    case 'A':
        memcpy(buf, word[0] == 'a' ? "\xaf\x01" : "\xaf\x00", len = 2);
        break;
    case 'k':
        memcpy(buf, "\x17\x01", len = 2);
        break;
    case 'v':
    case 'V':
        memcpy(buf, word[0] == 'v' ? "\x27\x01" : "\x17\x00", len = 2);
        break;
    case 'd':
        memcpy(buf, "\x02\x00\x02on", len = 5);
        break;
    case 'm':
        memcpy(buf, "\x02\x00\x0aonMetaData", len = 13);
        break;
    default:
        assert_int_equal(word[0], 'e');
    }
    const size_t n = word[0] == 'e' ? 0 : strlen(what);
    memcpy(buf + len, what, n);
    struct rtmp_msg *m = rtmp_msg_from_bytes(&b->pool, type, 1, time, buf, len + n);
    assert_non_null(m);
    return m;
}

static void note(struct bed *b, struct rtmp_msg *m, uint32_t time)
{
    const struct media_info i = media_inspect(m);
    const char letter = i.kind == MEDIA_EMPTY   ? 'e'
                        : i.kind == MEDIA_STATE ? "AVm"[i.class]
                                                : "avd"[i.class];
    uint8_t buf[64];
    const size_t head = m->type != RTMP_DATA_AMF0 ? 2 : i.kind == MEDIA_STATE ? 13 : 5;
    const size_t n = m->len > head ? rtmp_msg_copy(m, (uint32_t)head, buf, sizeof buf) : 0;
    const size_t at = strlen(b->out);
    snprintf(b->out + at, sizeof b->out - at, "%s%c%u%s%.*s", at ? " " : "", letter, time,
             n ? ":" : "", (int)n, (const char *)buf);
}

static void feed(struct bed *b, int link, const char *words)
{
    char text[1024];
    snprintf(text, sizeof text, "%s", words);
    for (char *save, *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        struct rtmp_msg *m = make(b, w);
        if (splice_passes(&b->s, &b->feeds[link], m)) {
            struct rtmp_msg *state;
            while ((state = splice_next_state(&b->s, &b->feeds[link], m))) {
                note(b, state, splice_time(&b->feeds[link], m));
                rtmp_msg_unref(state);
            }
            note(b, m, splice_time(&b->feeds[link], m));
        }
        rtmp_msg_unref(m);
    }
}

static void start(struct bed *b)
{
    memset(b, 0, sizeof *b);
    block_pool_init(&b->blocks, 0);
    rtmp_pool_init(&b->pool, &b->blocks);
}

static void finish(struct bed *b)
{
    for (int i = 0; i < 2; i++)
        splice_feed_reset(&b->feeds[i], FEED_LIVE, false);
    assert_int_equal(b->pool.live, 0);
    rtmp_pool_deinit(&b->pool);
    block_pool_deinit(&b->blocks);
}

static void test_a_dead_node_replaced(void **state)
{
    (void)state;
    static const struct {
        const char *name, *before, *replay, *arrives;
    } cases[] = {
        {"plain", "v0 a0 v40 a23 v80", "v0 a0 v40 a23 v80 a46 v120 a70", "a46 v120 a70"},
        {"equal times", "v0 v40 v40 v40", "v0 v40 v40 v40 v40 v80", "v40 v80"},
        {"equal times, the same bytes", "a0:s a0:s", "a0:s a0:s a0:s a20:s", "a0:s a20:s"},
        {"nothing yet of the last time's second", "a10:x", "a10:x a10:y", "a10:y"},
        {"wraps", "v4294967200 v4294967290", "v4294967200 v4294967290 v30 v70", "v30 v70"},
        {"goes on across half the clock", "v2147483640", "v2147483640 v2147483680", "v2147483680"},
        {"the same headers", "V0:h A0:h v0 a0", "m0 V0:h A0:h v0 a0 v40 a20", "m40 v40 a20"},
        {"changed header, before its first frame", "V0:h v0", "V0:h v0 V0:g v40", "V40:g v40"},
        {"an older header is not news", "V0:h v0 V0:g v40", "V0:h v0 V0:g v40 v80", "v80"},
        {"metadata once", "m0:x a0", "m0:x a0 m0:y a20 m0:z a40", "m20:y a20 m0:z a40"},
        {"empty audio", "a0 e0", "e0 a0 e5 a20 e20", "a20 e20"},
        {"a type never had, older", "a0 a1000", "v500 a1000 k1000 a1020 v1040",
         "v1000 a1020 v1040"},
        {"no picture without its keyframe", "a0 a1000", "k500 a1000 v1000 a1020 k1040 v1080",
         "a1020 v1040 v1080"},
        {"there are no keyframes", "a0 a1000", "v500 a1000 v1040 a5480 v5480 v5500 v5540",
         "a5480 v5500 v5540"},
        {"sound that was never had waits for nothing", "v0 v40", "v0 v40 a40 v80", "a40 v80"},
        {"another clock before", "v36000000 v36000040 v0 v40", "v0 v40 v80", "v80"},
        {"another clock on the way", "v36000000 v36000040", "v36000000 v36000040 v0 v40 v80",
         "v0 v40 v80"},
        {"another clock, both types", "v36000000 a36000010", "v36000000 a36000010 a0 v0 a20 v40",
         "a0 v0 a20 v40"},
        {"data stamped 0, of a high clock", "d0 a3000000000 v3000000000",
         "d0 a3000000000 v3000000000 a3000000020", "a3000000020"},
        {"data of a high clock", "d0 d0", "d0 d0 d3000000000", "d3000000000"},
        {"the same, and no picture yet", "d0 a3000000000", "d0 a3000000000 k3000000010",
         "v3000000010"},
        {"nothing had at all", "", "V0 v0 a0", "V0 v0 a0"},
        {"data events", "d0:1 d5:2 d5:3", "d0:1 d5:2 d5:3 d5:4 d9:5", "d5:4 d9:5"},
        {"the publisher's own steps back, later", "v0 v40", "v40 v80 v60 v100", "v80 v60 v100"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bed b;
        start(&b);
        feed(&b, 0, cases[i].before);
        assert_string_equal(b.out, cases[i].before); /* alone: all of it */
        b.out[0] = '\0';
        splice_feed_reset(&b.feeds[1], FEED_JOINING, false);
        feed(&b, 1, cases[i].replay);
        if (strcmp(b.out, cases[i].arrives) != 0)
            fail_msg("%s: %s, expected %s", cases[i].name, b.out, cases[i].arrives);
        finish(&b);
    }
}

/* Wherever the link is lost, and whatever had arrived of it. */
static void test_every_cut(void **state)
{
    (void)state;
    static const char *const words[] = {"V0:h", "A0:h", "v0",  "a0",  "a10", "v40", "v40", "a20",
                                        "a20",  "v80",  "a30", "v90", "a40", "a40", "v95", "a50"};
    enum { COUNT = sizeof words / sizeof words[0] };
    char all[256] = "";
    for (size_t i = 0; i < COUNT; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? " " : "", words[i]);
    for (size_t cut = 3; cut < COUNT; cut++) {
        struct bed b;
        start(&b);
        for (size_t i = 0; i < cut; i++)
            feed(&b, 0, words[i]);
        splice_feed_reset(&b.feeds[1], FEED_JOINING, false);
        feed(&b, 1, all);
        assert_string_equal(b.out, all);
        /* and once more */
        splice_feed_reset(&b.feeds[0], FEED_JOINING, false);
        feed(&b, 0, all);
        assert_string_equal(b.out, all);
        finish(&b);
    }
}

static void test_two_links(void **state)
{
    (void)state;
    struct bed b;
    start(&b);
    feed(&b, 0, "V0:h A0:h v0 a0 v40 a20 v80 a40");
    splice_feed_share(&b.feeds[0]);
    splice_feed_reset(&b.feeds[1], FEED_SHARED, true);
    b.out[0] = '\0';
    feed(&b, 1, "V0:h A0:h v80"); /* not strictly older: something may be missing in front of it */
    assert_false(splice_caught_up(&b.s, &b.feeds[1]));
    feed(&b, 0, "v120 a60");
    splice_feed_reset(&b.feeds[1], FEED_SHARED, true);
    feed(&b, 1, "V0:h A0:h v40 v80 v120 v160");
    assert_false(splice_caught_up(&b.s, &b.feeds[1]));
    feed(&b, 0, "v160 a80 v200");
    feed(&b, 1, "a20 a40 a60 a80 a100 v200 v240");
    assert_true(splice_caught_up(&b.s, &b.feeds[1]));
    feed(&b, 0, "a100 v240 v280");
    splice_feed_alone(&b.feeds[1]);
    feed(&b, 1, "v280 a120 v320");
    assert_string_equal(b.out, "v120 a60 v160 a80 v200 a100 v240 v280 a120 v320");
    finish(&b);
}

/* The old node hangs, and no sound has come for longer than what the new one is given. */
static void test_two_links_and_a_rare_type(void **state)
{
    (void)state;
    struct bed b;
    start(&b);
    feed(&b, 0, "V0:h A0:h k0 a0 v40 k80 v120");
    splice_feed_share(&b.feeds[0]);
    for (int whole = 0; whole < 2; whole++) { /* else what came first may have been missed */
        splice_feed_reset(&b.feeds[1], FEED_SHARED, true);
        splice_feed_expect(&b.feeds[1], whole ? 80 : 0);
        b.out[0] = '\0';
        feed(&b, 1, "V80:h A80:h k80 v120 a130 v160");
        assert_int_equal(splice_caught_up(&b.s, &b.feeds[1]), whole);
        assert_string_equal(b.out, whole ? "a130" : "v160");
    }
    finish(&b);
}

/* Whichever link is first with it, each header comes once, and none comes again. */
static void test_state_on_two_links(void **state)
{
    (void)state;
    struct bed b;
    start(&b);
    feed(&b, 0, "V0:g v0 a0 v40 a40");
    splice_feed_share(&b.feeds[0]);
    splice_feed_reset(&b.feeds[1], FEED_SHARED, true);
    feed(&b, 1, "V0:g v0 a0 v40 a40");
    b.out[0] = '\0';
    feed(&b, 1, "V80:h v80 V120:i v120");
    feed(&b, 0, "V80:h v80 V120:i v120 V160:j v160");
    feed(&b, 1, "V160:j v160");
    splice_feed_alone(&b.feeds[0]); /* called back */
    feed(&b, 0, "v200 V240:k v240");
    assert_string_equal(b.out, "V80:h v80 V120:i v120 V160:j v160 v200 V240:k v240");
    finish(&b);
}

/* SRS gives each player its own zero: from a keyframe on, on the player's clock, for good. */
static void test_a_clock_of_its_own(void **state)
{
    (void)state;
    struct bed b;
    start(&b);
    feed(&b, 0, "V0:h A0:h k100000 a100000 v100040 a100023");
    b.out[0] = '\0';
    splice_feed_reset(&b.feeds[1], FEED_JOINING, false);
    splice_feed_expect(&b.feeds[1], 98000);
    feed(&b, 1, "V0:h A0:h a0 v10 k20 a30 a10 v60");
    assert_string_equal(b.out, "v100080 a100090 v100120");
    /* the next node passes the publisher's time through, which the player has left */
    b.out[0] = '\0';
    splice_feed_reset(&b.feeds[0], FEED_JOINING, false);
    splice_feed_expect(&b.feeds[0], 98000);
    feed(&b, 0, "V0:g k98000 a98000 v98040");
    assert_string_equal(b.out, "V100160:g v100160 a100160 v100200");
    finish(&b);
}

/* As the old one of two links, too, and when it is the only one again; the new one takes over at
 * its keyframe. */
static void test_a_clock_of_its_own_is_left(void **state)
{
    (void)state;
    struct bed b;
    start(&b);
    feed(&b, 0, "k100000 v100040");
    splice_feed_reset(&b.feeds[1], FEED_JOINING, false);
    splice_feed_expect(&b.feeds[1], 98000);
    feed(&b, 1, "k0 v40");
    b.out[0] = '\0';
    splice_feed_share(&b.feeds[1]);
    splice_feed_reset(&b.feeds[0], FEED_SHARED, true);
    splice_feed_expect(&b.feeds[0], 98000);
    feed(&b, 1, "v80");
    assert_false(splice_caught_up(&b.s, &b.feeds[0]));
    splice_feed_alone(&b.feeds[1]); /* called back */
    feed(&b, 1, "v120");
    assert_string_equal(b.out, "v100160 v100200");
    splice_feed_share(&b.feeds[1]);
    splice_feed_reset(&b.feeds[0], FEED_SHARED, true);
    splice_feed_expect(&b.feeds[0], 98000);
    feed(&b, 0, "v5");
    assert_false(splice_caught_up(&b.s, &b.feeds[0]));
    feed(&b, 1, "v160");
    feed(&b, 0, "k10");
    assert_true(splice_caught_up(&b.s, &b.feeds[0]));
    assert_string_equal(b.out, "v100160 v100200 v100240 v100280");
    finish(&b);
}

static void test_a_late_start_is_no_other_clock(void **state)
{
    (void)state;
    struct bed b;
    start(&b);
    feed(&b, 0, "d0 v100000 a100000 v100040");
    splice_feed_reset(&b.feeds[1], FEED_JOINING, false);
    splice_feed_expect(&b.feeds[1], 98000);
    b.out[0] = '\0';
    feed(&b, 1, "d0 a99000 v100040 a100010");
    assert_string_equal(b.out, "a100010");
    finish(&b);
}

static void test_another_publication(void **state)
{
    (void)state;
    struct bed b;
    start(&b);
    feed(&b, 0, "V50000:h v50000 a50000");
    splice_forget(&b.s);
    splice_feed_reset(&b.feeds[1], FEED_JOINING, false);
    b.out[0] = '\0';
    feed(&b, 1, "V0:h v0 a0 v40");
    assert_string_equal(b.out, "V0:h v0 a0 v40");
    finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_dead_node_replaced),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_two_links),
        cmocka_unit_test(test_two_links_and_a_rare_type),
        cmocka_unit_test(test_state_on_two_links),
        cmocka_unit_test(test_a_clock_of_its_own),
        cmocka_unit_test(test_a_clock_of_its_own_is_left),
        cmocka_unit_test(test_a_late_start_is_no_other_clock),
        cmocka_unit_test(test_another_publication),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
