/* What is kept of a stream, with a made-up clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/limits.h"
#include "router/stream_keep.h"
#include "tests/alloc/alloc_fail.h"

struct bed {
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct stream_keep keep;
    struct keep_policy policy;
};

static struct bed open_bed(void)
{
    struct bed b = {.policy = {.reach_ms = 3000, .max_bytes = 1 << 20}};
    return b;
}

static void start(struct bed *b)
{
    block_pool_init(&b->blocks, 0);
    rtmp_pool_init(&b->pool, &b->blocks);
}

static void finish(struct bed *b)
{
    stream_keep_clear(&b->keep);
    assert_int_equal(b->pool.live, 0);
    rtmp_pool_deinit(&b->pool);
    block_pool_deinit(&b->blocks);
}

static void put(struct bed *b, uint8_t type, const void *payload, size_t len, uint64_t ms)
{
    struct rtmp_msg *m = rtmp_msg_from_bytes(&b->pool, type, 1, (uint32_t)ms, payload, len);
    assert_non_null(m);
    stream_keep_push(&b->keep, m, &b->policy, ms);
    rtmp_msg_unref(m);
}

static void put_sized(struct bed *b, uint8_t type, const char *head, size_t len, uint64_t ms)
{
    uint8_t buf[64 * 1024] = {0};
    memcpy(buf, head, 2);
    put(b, type, buf, len, ms);
}

static void key(struct bed *b, uint64_t ms, size_t len)
{
    put_sized(b, RTMP_VIDEO, "\x17\x01", len, ms);
}

static void inter(struct bed *b, uint64_t ms, size_t len)
{
    put_sized(b, RTMP_VIDEO, "\x27\x01", len, ms);
}

static void audio(struct bed *b, uint64_t ms, size_t len)
{
    put_sized(b, RTMP_AUDIO, "\xaf\x01", len, ms);
}

static void test_begins_at_an_old_keyframe(void **state)
{
    (void)state;
    struct bed b = open_bed();
    start(&b);
    put(&b, RTMP_DATA_AMF0, "\x02\x00\x0aonMetaData\x05", 14, 0);
    put(&b, RTMP_VIDEO, "\x17\x00head", 6, 0);
    put(&b, RTMP_AUDIO, "\xaf\x00head", 6, 0);
    for (uint64_t ms = 0; ms < 20000; ms += 40) {
        if (ms % 2000 == 0)
            key(&b, ms, 500);
        else
            inter(&b, ms, 100);
        audio(&b, ms, 50);
        const struct kept *first = stream_keep_at(&b.keep, b.keep.first);
        if (ms >= 5000) {
            assert_int_equal(first->info.kind, MEDIA_KEYFRAME);
            assert_true(first->at_ms + 3000 <= ms);
            assert_true(first->at_ms + 5000 >= ms);
        }
    }
    assert_int_equal(b.keep.state_count, 3);
    assert_int_equal(b.keep.dropped_groups, 0);
    /* new state becomes the state when what follows it is all that is kept */
    put(&b, RTMP_VIDEO, "\x17\x00other", 7, 20000);
    assert_int_equal(b.keep.states[1]->len, 6);
    for (uint64_t ms = 20000; ms < 26000; ms += 1000)
        key(&b, ms, 10);
    assert_int_equal(b.keep.state_count, 3);
    assert_int_equal(b.keep.states[1]->len, 7);
    finish(&b);
}

static void at_time(struct bed *b, uint8_t type, const char *head, uint32_t time, uint64_t ms)
{
    struct rtmp_msg *m = rtmp_msg_from_bytes(&b->pool, type, 1, time, head, 2);
    assert_non_null(m);
    stream_keep_push(&b->keep, m, &b->policy, ms);
    rtmp_msg_unref(m);
}

/* Times of two clocks cannot be compared: neither trimmed by nor replayed. */
static void test_encoder_begins_its_clock_anew(void **state)
{
    (void)state;
    struct bed b = open_bed();
    start(&b);
    put(&b, RTMP_VIDEO, "\x17\x00head", 6, 0);
    for (uint32_t ms = 0; ms < 60000; ms += 500) {
        const uint32_t time = ms < 30000 ? 10000000 + ms : ms - 30000;
        assert_false(b.keep.headless);
        at_time(&b, RTMP_VIDEO, ms % 1000 == 0 ? "\x17\x01" : "\x27\x01", time, ms);
        at_time(&b, RTMP_AUDIO, "\xaf\x01", time, ms);
        at_time(&b, RTMP_DATA_AMF0, "\2\0", 0, ms); /* stamped as they often are */
        assert_true(b.keep.count <= 3 * 10);
        assert_true(ms != 30000 || b.keep.count == 3);
    }
    for (uint64_t n = b.keep.first; n < stream_keep_end(&b.keep); n++)
        assert_true(stream_keep_at(&b.keep, n)->timestamp < 30000);
    assert_int_equal(b.keep.state_count, 1);
    assert_int_equal(b.keep.dropped_groups, 0);
    finish(&b);
}

static void test_data_stamped_0_goes_with_what_is_around_it(void **state)
{
    (void)state;
    struct bed b = open_bed();
    start(&b);
    for (uint32_t ms = 0; ms < 20000; ms += 20) {
        at_time(&b, RTMP_AUDIO, "\xaf\x01", 3000000000u + ms, ms);
        if (ms % 1000 == 0)
            at_time(&b, RTMP_DATA_AMF0, "\2\0", 0, ms);
        assert_true(b.keep.count < 3000 / 20 + 10);
    }
    finish(&b);
}

static void test_audio_alone_by_time(void **state)
{
    (void)state;
    struct bed b = open_bed();
    start(&b);
    for (uint64_t ms = 0; ms < 20000; ms += 20)
        audio(&b, ms, 100);
    assert_int_equal(stream_keep_at(&b.keep, b.keep.first)->at_ms, 19980 - 3000);
    finish(&b);
}

static void test_suspicion_stops_trimming(void **state)
{
    (void)state;
    struct bed b = open_bed();
    start(&b);
    key(&b, 0, 100);
    b.keep.held = true;
    for (uint64_t ms = 1000; ms < 10000; ms += 1000)
        key(&b, ms, 100);
    assert_int_equal(b.keep.first, 0);
    b.keep.held = false;
    key(&b, 10000, 100);
    assert_int_equal(stream_keep_at(&b.keep, b.keep.first)->at_ms, 7000);
    finish(&b);
}

static void test_groups_go_whole(void **state)
{
    (void)state;
    struct bed b = open_bed();
    b.policy = (struct keep_policy){.reach_ms = 1000000, .max_bytes = 300000};
    start(&b);
    for (uint64_t ms = 0; ms < 10000; ms += 100) {
        if (ms % 1000 == 0)
            key(&b, ms, 8000);
        else
            inter(&b, ms, 8000);
        assert_true(b.keep.bytes <= b.policy.max_bytes);
        assert_int_equal(stream_keep_at(&b.keep, b.keep.first)->info.kind, MEDIA_KEYFRAME);
    }
    assert_true(b.keep.dropped_groups > 0);
    assert_int_equal(b.keep.dropped_messages, b.keep.dropped_groups * 10);
    finish(&b);
}

static void test_no_keyframe_for_long(void **state)
{
    (void)state;
    struct bed b = open_bed();
    b.policy = (struct keep_policy){.reach_ms = 1000, .max_bytes = 300000};
    start(&b);
    key(&b, 0, 8000);
    uint64_t ms = 0;
    while (!b.keep.headless)
        inter(&b, ms += 40, 8000);
    assert_int_equal(b.keep.count, 0);
    inter(&b, ms += 40, 8000);
    assert_int_equal(b.keep.count, 0); /* of no use without its keyframe */
    audio(&b, ms, 100);
    assert_int_equal(b.keep.count, 1);
    key(&b, ms += 40, 8000);
    inter(&b, ms += 40, 8000);
    assert_false(b.keep.headless);
    assert_int_equal(b.keep.count, 3);
    finish(&b);
}

/* Small messages in blocks that are otherwise empty: copied together before anything is lost. */
static void test_sparse_blocks_are_compacted(void **state)
{
    (void)state;
    struct bed b = open_bed();
    start(&b);
    for (uint64_t ms = 0; ms < 3000; ms += 20) {
        struct block *block = block_create(&b.blocks, BLOCK_BYTES);
        assert_non_null(block);
        memcpy(block->data, "\xaf\x01", 2);
        struct rtmp_msg *m = rtmp_msg_create(&b.pool, RTMP_AUDIO, 1, (uint32_t)ms);
        assert_int_equal(rtmp_msg_append(m, block, 0, 100), ERR_OK);
        block_unref(block);
        stream_keep_push(&b.keep, m, &b.policy, ms);
        rtmp_msg_unref(m);
        assert_true(b.keep.bytes <= b.policy.max_bytes);
    }
    assert_int_equal(b.keep.count, 150);
    assert_int_equal(b.keep.dropped_messages, 0);
    finish(&b);
}

static struct rtmp_msg *slice_of(struct bed *b, struct block *block, uint32_t off, uint32_t len,
                                 uint64_t ms)
{
    memcpy(block->data + off, "\x27\x01", 2);
    struct rtmp_msg *m = rtmp_msg_create(&b->pool, RTMP_VIDEO, 1, (uint32_t)ms);
    assert_non_null(m);
    assert_int_equal(rtmp_msg_append(m, block, off, len), ERR_OK);
    return m;
}

/* A block is counted once, whatever lies between the messages that are in it, and as long as one of
 * them is kept. */
static void test_a_block_is_counted_once(void **state)
{
    (void)state;
    struct bed b = open_bed();
    start(&b);
    key(&b, 0, 100);
    const uint64_t before = b.keep.bytes;
    struct block *block = block_create(&b.blocks, BLOCK_BYTES);
    assert_non_null(block);
    for (uint32_t i = 0; i < 8; i++) {
        struct rtmp_msg *m = slice_of(&b, block, i * 8000, 7000, i + 1);
        struct block *tail = block_create(&b.blocks, 512); /* a small last chunk, copied */
        assert_non_null(tail);
        assert_int_equal(rtmp_msg_append(m, tail, 0, 512), ERR_OK);
        block_unref(tail);
        stream_keep_push(&b.keep, m, &b.policy, i + 1);
        rtmp_msg_unref(m);
        const uint64_t items = b.keep.count - 1;
        assert_in_range(b.keep.bytes - before, BLOCK_BYTES + items * 512,
                        BLOCK_BYTES + items * 1024);
    }
    for (uint64_t ms = 5000; ms <= 15000; ms += 5000)
        key(&b, ms, 100);
    assert_int_equal(block->kept, 0);
    assert_int_equal(block->refs, 1);
    block_unref(block);
    assert_true(b.keep.bytes < 1024);
    finish(&b);
}

/* What is kept has reached its bound and goes on: what was copied out of sparse blocks stays as it
 * is until its group goes. */
static void test_each_message_is_copied_once(void **state)
{
    (void)state;
    struct bed b = open_bed();
    b.policy.reach_ms = 1000000;
    start(&b);
    const struct rtmp_msg *copied = NULL;
    uint64_t number = 0, checks = 0;
    for (uint64_t ms = 0; ms < 100000; ms += 20) {
        struct block *block = block_create(&b.blocks, BLOCK_BYTES);
        assert_non_null(block);
        struct rtmp_msg *m = slice_of(&b, block, 0, 3000, ms);
        if (ms % 1000 == 0)
            memcpy(block->data, "\x17", 1);
        block_unref(block);
        stream_keep_push(&b.keep, m, &b.policy, ms);
        rtmp_msg_unref(m);
        assert_true(b.keep.bytes <= b.policy.max_bytes);
        if (copied && number >= b.keep.first) {
            assert_ptr_equal(stream_keep_at(&b.keep, number)->msg, copied);
            checks++;
        } else if (b.keep.compacted > b.keep.first) {
            number = b.keep.compacted - 1;
            copied = stream_keep_at(&b.keep, number)->msg;
        }
    }
    assert_true(b.keep.dropped_groups > 10);
    assert_true(checks > 4000);
    finish(&b);
}

static void put_without_memory(struct bed *b, uint8_t type, const char *head, uint64_t ms)
{
    struct rtmp_msg *m = rtmp_msg_from_bytes(&b->pool, type, 1, (uint32_t)ms, head, 2);
    assert_non_null(m);
    alloc_fail_set(1);
    alloc_fail_enter();
    stream_keep_push(&b->keep, m, &b->policy, ms);
    alloc_fail_leave();
    rtmp_msg_unref(m);
}

/* Headers are sent once: they must outlive what was kept. */
static void test_no_memory_keeps_the_state(void **state)
{
    (void)state;
    struct bed b = open_bed();
    start(&b);
    put_without_memory(&b, RTMP_VIDEO, "\x17\x00", 0);
    assert_int_equal(b.keep.count, 0);
    assert_int_equal(b.keep.state_count, 1);
    key(&b, 0, 100);
    put(&b, RTMP_AUDIO, "\xaf\x00", 2, 0);
    while (b.keep.count < b.keep.ring_cap)
        inter(&b, 40, 100);
    const uint64_t end = stream_keep_end(&b.keep);
    put_without_memory(&b, RTMP_VIDEO, "\x27\x01", 80);
    assert_int_equal(b.keep.state_count, 2);
    assert_int_equal(b.keep.first, end);
    assert_int_equal(b.keep.dropped_messages, b.keep.ring_cap + 2);
    inter(&b, 120, 100);
    assert_int_equal(b.keep.count, 0);
    key(&b, 160, 100);
    inter(&b, 200, 100);
    assert_int_equal(b.keep.count, 2);
    finish(&b);
}

/* What came while a group was missing its keyframe may go too; video still waits for one. */
static void test_headless_until_a_keyframe(void **state)
{
    (void)state;
    struct bed b = open_bed();
    b.policy = (struct keep_policy){.reach_ms = 1000000, .max_bytes = 300000};
    start(&b);
    key(&b, 0, 8000);
    for (uint64_t ms = 40; ms < 4000; ms += 40)
        inter(&b, ms, 8000);
    for (uint64_t ms = 4000; ms < 8000; ms += 20)
        audio(&b, ms, 4000);
    assert_true(b.keep.dropped_groups > 1);
    assert_true(b.keep.headless);
    finish(&b);
}

/* Headers of many tracks are kept, what only looks like metadata is not, nor is what is too large.
 */
static void test_which_state_is_kept(void **state)
{
    (void)state;
    static const char meta[] = "\x02\0\x0d@setDataFrame\x02\0\x0aonMetaData\x05";
    static const char text[] = "\x02\0\x0d@setDataFrame\x02\0\x0aonTextData\x05";
    static uint8_t large[STREAM_STATE_BYTES_MAX + 1] = {0x17, 0};
    struct bed b = open_bed();
    start(&b);
    put(&b, RTMP_DATA_AMF0, meta, sizeof meta - 1, 0);
    put(&b, RTMP_DATA_AMF0, text, sizeof text - 1, 0);
    put(&b, RTMP_VIDEO, large, sizeof large, 0);
    for (uint8_t track = 1; track < STREAM_STATES_MAX; track++) { /* OneTrack, SequenceStart */
        const uint8_t header[] = {0x96, 0x00, 'a', 'v', 'c', '1', track, 1};
        put(&b, RTMP_VIDEO, header, sizeof header, 0);
    }
    for (uint64_t ms = 0; ms < 20000; ms += 500)
        key(&b, ms, 100);
    assert_true(b.keep.first > STREAM_STATES_MAX);
    assert_int_equal(b.keep.state_count, STREAM_STATES_MAX);
    assert_int_equal(b.keep.states[0]->len, sizeof meta - 1);
    for (uint32_t i = 0; i < b.keep.state_count; i++)
        assert_true(b.keep.states[i]->len < sizeof large);
    finish(&b);
}

/* Each track has its keyframes when it likes: what is kept begins with one of the first. */
static void test_keyframes_of_other_tracks(void **state)
{
    (void)state;
    static const uint8_t other[] = {0x96, 0x01, 'a', 'v', 'c', '1', 1, 9};
    struct bed b = open_bed();
    b.policy.reach_ms = 100;
    start(&b);
    key(&b, 0, 100);
    inter(&b, 500, 100);
    put(&b, RTMP_VIDEO, other, sizeof other, 1000);
    inter(&b, 1500, 100);
    inter(&b, 2000, 100);
    assert_int_equal(b.keep.first, 0);
    key(&b, 2500, 100);
    inter(&b, 3000, 100);
    assert_int_equal(b.keep.first, 5);
    finish(&b);
}

static void put_late(struct bed *b, uint8_t type, const char *head, uint32_t time, uint64_t ms)
{
    struct rtmp_msg *m = rtmp_msg_from_bytes(&b->pool, type, 1, time, head, 2);
    assert_non_null(m);
    stream_keep_push(&b->keep, m, &b->policy, ms);
    rtmp_msg_unref(m);
}

static void test_messages_of_one_time_stay_together(void **state)
{
    (void)state;
    struct bed b = open_bed();
    start(&b);
    put_late(&b, RTMP_AUDIO, "\xaf\x01", 72, 0);
    put_late(&b, RTMP_VIDEO, "\x17\x01", 72, 0);
    put_late(&b, RTMP_AUDIO, "\xaf\x01", 72, 3600); /* as old as the first: both are counted */
    assert_int_equal(b.keep.count, 3);
    put_late(&b, RTMP_AUDIO, "\xaf\x01", 80, 3610); /* a player may have no more of them than one */
    assert_int_equal(b.keep.count, 4);
    put_late(&b, RTMP_AUDIO, "\xaf\x01", 90, 3700);
    put_late(&b, RTMP_VIDEO, "\x17\x01", 90, 3700);
    put_late(&b, RTMP_VIDEO, "\x17\x01", 90, 3700);
    put_late(&b, RTMP_AUDIO, "\xaf\x01", 95, 7300);
    assert_int_equal(b.keep.count, 4);
    assert_int_equal(stream_keep_at(&b.keep, b.keep.first)->info.class, CLASS_AUDIO);
    put_late(&b, RTMP_AUDIO, "\xaf\x01", 95, 11000);
    assert_int_equal(b.keep.count, 5);
    finish(&b);
}

/* Of audio alone, too: however long a clock stands still, it costs one look at each message. */
static void test_a_clock_that_stands_still(void **state)
{
    (void)state;
    struct bed b = open_bed();
    b.policy.max_bytes = UINT64_MAX;
    start(&b);
    for (uint32_t n = 0; n < 20000; n++)
        put_late(&b, RTMP_AUDIO, "\xaf\x01", 40, n);
    assert_int_equal(b.keep.count, 20000);
    put_late(&b, RTMP_AUDIO, "\xaf\x01", 60, 20000);
    assert_int_equal(b.keep.count, 20001);
    put_late(&b, RTMP_AUDIO, "\xaf\x01", 80, 40000);
    assert_int_equal(b.keep.count, 1);
    finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_begins_at_an_old_keyframe),
        cmocka_unit_test(test_encoder_begins_its_clock_anew),
        cmocka_unit_test(test_data_stamped_0_goes_with_what_is_around_it),
        cmocka_unit_test(test_audio_alone_by_time),
        cmocka_unit_test(test_suspicion_stops_trimming),
        cmocka_unit_test(test_groups_go_whole),
        cmocka_unit_test(test_no_keyframe_for_long),
        cmocka_unit_test(test_sparse_blocks_are_compacted),
        cmocka_unit_test(test_a_block_is_counted_once),
        cmocka_unit_test(test_each_message_is_copied_once),
        cmocka_unit_test(test_no_memory_keeps_the_state),
        cmocka_unit_test(test_headless_until_a_keyframe),
        cmocka_unit_test(test_which_state_is_kept),
        cmocka_unit_test(test_keyframes_of_other_tracks),
        cmocka_unit_test(test_messages_of_one_time_stay_together),
        cmocka_unit_test(test_a_clock_that_stands_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
