/* What players of one stream get who share it, with a made-up clock: each link's queue is read back
 * as a player would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "router/share.h"

enum { PLAYERS = 3, BUFFER = 64 * 1024, HEARD_MAX = 4096 };

struct player {
    struct rtmp_link link;
    struct rtmp_chunk_reader in;
    struct share_seat seat;
    char heard[HEARD_MAX]; /* a word for each message */
};

struct bed {
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct share share;
    struct player players[PLAYERS];
    uint64_t now_ms;
};

static const struct rtmp_chunk_limits limits = {
    .message_bytes = 1 << 20, .unfinished_bytes = 1 << 21, .chunk_streams = 16};

static int setup(void **state)
{
    static struct bed b;
    b = (struct bed){.now_ms = 1000};
    block_pool_init(&b.blocks, 0);
    rtmp_pool_init(&b.pool, &b.blocks);
    share_init(&b.share, BUFFER, 1 << 20);
    for (int i = 0; i < PLAYERS; i++) {
        rtmp_link_init(&b.players[i].link, &b.pool, &limits);
        rtmp_chunk_reader_init(&b.players[i].in, &b.pool, &limits);
    }
    *state = &b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;
    for (int i = 0; i < PLAYERS; i++) {
        share_leave_seat(&b->players[i].seat);
        rtmp_link_deinit(&b->players[i].link);
        rtmp_chunk_reader_deinit(&b->players[i].in);
    }
    assert_int_equal(b->share.count, 0);
    share_deinit(&b->share);
    assert_int_equal(b->pool.live, 0);
    rtmp_pool_deinit(&b->pool);
    block_pool_deinit(&b->blocks);
    return 0;
}

/* "k": keyframe, "f": another frame, "a": audio, "h": video header, "m": metadata, "s": a status */
static void push(struct bed *b, char what, size_t len)
{
    static uint8_t buf[BUFFER * 2];
    static const struct {
        char what;
        uint8_t type;
        const char *head;
        size_t head_len;
    } kinds[] = {
        {'k', RTMP_VIDEO, "\x17\x01", 2},
        {'f', RTMP_VIDEO, "\x27\x01", 2},
        {'a', RTMP_AUDIO, "\xaf\x01", 2},
        {'h', RTMP_VIDEO, "\x17\x00", 2},
        {'m', RTMP_DATA_AMF0, "\x02\x00\x0aonMetaData", 13},
        {'s', RTMP_COMMAND_AMF0, "\x02\x00\x08onStatus", 11},
    };
    size_t i = 0;
    while (kinds[i].what != what)
        i++;
    memset(buf, what, len);
    memcpy(buf, kinds[i].head, kinds[i].head_len);
    b->now_ms += 40;
    struct rtmp_msg *m =
        rtmp_msg_from_bytes(&b->pool, kinds[i].type, 1, (uint32_t)b->now_ms, buf, len);
    assert_non_null(m);
    share_push(&b->share, m, 1, m->timestamp, b->now_ms);
    rtmp_msg_unref(m);
}

static void push_all(struct bed *b, const char *what)
{
    for (; *what; what++)
        push(b, *what, 100);
}

static char kind_of(const struct rtmp_msg *m)
{
    uint8_t head[2] = {0};
    (void)rtmp_msg_peek(m, head, 2);
    if (m->type == RTMP_AUDIO)
        return 'a';
    if (m->type == RTMP_VIDEO)
        return head[1] == 0 ? 'h' : head[0] == 0x17 ? 'k' : 'f';
    return m->type == RTMP_DATA_AMF0 ? 'm' : 's';
}

/* What has come since the last time, as push_all() takes it; times never step back. */
static const char *heard(struct player *p)
{
    struct iovec iov[8];
    size_t n, at = 0;
    uint32_t last = 0;
    while ((n = rtmp_chunk_writer_iov(&p->link.out, iov, 8, 1 << 20)) > 0) {
        size_t done = 0;
        for (size_t i = 0; i < n; i++) {
            struct block *block = block_create(p->link.pool->blocks, (uint32_t)iov[i].iov_len);
            memcpy(block->data, iov[i].iov_base, iov[i].iov_len);
            block->used = (uint32_t)iov[i].iov_len;
            struct slice in = {.block = block, .len = block->used};
            struct rtmp_msg *m;
            while (rtmp_chunk_reader_next(&p->in, &in, &m) == PARSE_OK) {
                p->heard[at++] = kind_of(m);
                assert_true(at < HEARD_MAX && m->timestamp >= last);
                last = m->timestamp;
                rtmp_msg_unref(m);
            }
            block_unref(block);
            done += iov[i].iov_len;
        }
        rtmp_chunk_writer_advance(&p->link.out, done);
    }
    p->heard[at] = '\0';
    return p->heard;
}

static void sit(struct bed *b, int i)
{
    assert_true(share_take_seat(&b->share, &b->players[i].seat, &b->players[i].link));
    share_open(&b->players[i].seat, b->now_ms);
}

static void all_get_the_same(void **state)
{
    struct bed *b = *state;
    sit(b, 0);
    sit(b, 1);
    push_all(b, "mhkafa");
    assert_string_equal(heard(&b->players[0]), "mhkafa");
    assert_string_equal(heard(&b->players[1]), "mhkafa");
    assert_true(b->players[0].seat.news);
}

static void who_comes_later_begins_with_the_last_group(void **state)
{
    struct bed *b = *state;
    sit(b, 0);
    push_all(b, "mhkaffakfaf");
    sit(b, 1);
    assert_string_equal(heard(&b->players[1]), "mhkfaf");
    push_all(b, "a");
    assert_string_equal(heard(&b->players[1]), "a");
    assert_string_equal(heard(&b->players[0]), "mhkaffakfafa");
}

static void before_its_start_a_player_gets_nothing(void **state)
{
    struct bed *b = *state;
    assert_true(share_take_seat(&b->share, &b->players[0].seat, &b->players[0].link));
    push_all(b, "mhkfs");
    assert_string_equal(heard(&b->players[0]), "");
    share_open(&b->players[0].seat, b->now_ms);
    assert_string_equal(heard(&b->players[0]), "mhkf");
    push_all(b, "s");
    assert_string_equal(heard(&b->players[0]), "s");
}

static void a_picture_in_parts_is_kept_whole(void **state)
{
    struct bed *b = *state;
    push_all(b, "mhkff");
    for (int i = 0; i < 3; i++) { /* tracks, slices: keyframes of one time */
        b->now_ms -= i > 0 ? 40 : 0;
        push(b, 'k', 100);
    }
    push_all(b, "ff");
    sit(b, 0);
    assert_string_equal(heard(&b->players[0]), "mhkkkff");
    push_all(b, "kf");
    sit(b, 1);
    assert_string_equal(heard(&b->players[1]), "mhkf");
}

static void audio_alone_begins_anywhere(void **state)
{
    struct bed *b = *state;
    push_all(b, "maaaa");
    sit(b, 0);
    push_all(b, "aa");
    assert_string_equal(heard(&b->players[0]), "maaa");
}

static void what_is_old_is_not_shown(void **state)
{
    struct bed *b = *state;
    push_all(b, "mhkff");
    b->now_ms += 6000;
    sit(b, 0);
    push_all(b, "fa");
    assert_string_equal(heard(&b->players[0]), "");
    push_all(b, "kf");
    assert_string_equal(heard(&b->players[0]), "mhkf");
}

/* Its state may be the next one's, which has been heard of late; new state replaces it. */
static void a_publication_that_is_over_is_not_shown(void **state)
{
    struct bed *b = *state;
    push_all(b, "mhkff");
    share_forget(&b->share);
    sit(b, 0);
    assert_string_equal(heard(&b->players[0]), "");
    push_all(b, "fhfk");
    assert_string_equal(heard(&b->players[0]), "mhhk");
    sit(b, 1);
    assert_string_equal(heard(&b->players[1]), "mhk");
}

/* Who has no keyframe has sound at once, and pictures from the next one on. */
static void where_the_group_is_lost_sound_begins(void **state)
{
    struct bed *b = *state;
    push_all(b, "mhk");
    for (int i = 0; i < 20; i++)
        push(b, 'f', 60 * 1024); /* more than is kept */
    assert_true(b->share.keep.headless);
    sit(b, 0);
    push_all(b, "fafa");
    assert_string_equal(heard(&b->players[0]), "mhaa");
    push_all(b, "fkfa");
    assert_string_equal(heard(&b->players[0]), "kfa");
}

static void nobody_waits_for_keyframes_that_do_not_come(void **state)
{
    struct bed *b = *state;
    push_all(b, "mhk");
    for (int i = 0; i < 600; i++) /* 24 s */
        push(b, i % 2 ? 'a' : 'f', 100);
    sit(b, 0);
    push_all(b, "fafa"); /* with the first it begins, but no frame is kept */
    assert_string_equal(heard(&b->players[0]), "mhaaa");
    for (int i = 0; i < 5000 / 40; i++)
        push(b, 'a', 100);
    heard(&b->players[0]);
    push_all(b, "fafa");
    assert_string_equal(heard(&b->players[0]), "fafa");
    push_all(b, "kf");
    sit(b, 1);
    assert_string_equal(heard(&b->players[1]), "mhkf");
}

static void nobody_begins_minutes_ago(void **state)
{
    struct bed *b = *state;
    push_all(b, "mhkf");
    for (int i = 0; i < 1500; i++) /* a minute */
        push(b, 'a', 100);
    sit(b, 0);
    push_all(b, "aa");
    assert_true(strlen(heard(&b->players[0])) <= strlen("mhaaa"));
    assert_memory_equal(b->players[0].heard, "mha", 3);
}

static void nothing_is_kept_where_memory_is_short(void **state)
{
    struct bed *b = *state;
    push_all(b, "mhkf");
    struct block *others = block_create(&b->blocks, 1 << 20);
    b->blocks.max_bytes = b->blocks.live_bytes + b->blocks.live_bytes / 4;
    push_all(b, "fkf");
    assert_int_equal(b->share.keep.bytes, 0);
    block_unref(others);
    sit(b, 0);
    push_all(b, "fa");
    assert_string_equal(heard(&b->players[0]), "mha");
    b->blocks.max_bytes = 0;
    push_all(b, "kf");
    sit(b, 1);
    assert_string_equal(heard(&b->players[1]), "mhkf");
}

static void a_full_queue_skips_to_a_keyframe_and_nobody_else_does(void **state)
{
    struct bed *b = *state;
    sit(b, 0);
    sit(b, 1);
    push_all(b, "mhk");
    heard(&b->players[0]);
    for (int i = 0; i < 6; i++) {
        push(b, 'f', BUFFER / 4);
        assert_string_equal(heard(&b->players[0]), "f");
    }
    assert_true(b->players[1].link.out.queued_bytes < BUFFER + BUFFER / 4);
    assert_int_equal(b->share.skips, 1);
    push_all(b, "k"); /* too full still */
    assert_string_equal(heard(&b->players[1]), "mhkffff");
    push_all(b, "af");
    assert_string_equal(heard(&b->players[1]), "");
    push_all(b, "kfs");
    assert_string_equal(heard(&b->players[1]), "mhkfs");
    assert_string_equal(heard(&b->players[0]), "kafkfs");
}

static void statuses_do_not_fill_memory(void **state)
{
    struct bed *b = *state;
    sit(b, 0);
    push_all(b, "mhk");
    for (int i = 0; i < 100; i++)
        push(b, 's', BUFFER / 8);
    assert_true(b->players[0].link.out.queued_bytes <= 2 * BUFFER + BUFFER / 8);
    assert_false(b->players[0].seat.failed);
}

static void a_long_first_group_is_no_full_queue(void **state)
{
    struct bed *b = *state;
    push(b, 'k', BUFFER);
    push(b, 'f', BUFFER);
    sit(b, 0);
    push_all(b, "fff");
    assert_string_equal(heard(&b->players[0]), "kffff");
    push(b, 'f', BUFFER);
    push(b, 'f', BUFFER);
    assert_string_equal(heard(&b->players[0]), "f"); /* but now it is as full as any */
}

static void many_small_messages_fill_a_queue(void **state)
{
    struct bed *b = *state;
    sit(b, 0);
    for (int i = 0; i < 2000 && b->share.skips == 0; i++)
        push(b, 'a', 2);
    assert_int_equal(b->share.skips, 1);
    assert_true(b->players[0].link.out.queued_bytes < BUFFER / 8);
}

static void who_leaves_hears_no_more(void **state)
{
    struct bed *b = *state;
    for (int i = 0; i < PLAYERS; i++)
        sit(b, i);
    share_leave_seat(&b->players[1].seat);
    share_leave_seat(&b->players[1].seat);
    push_all(b, "k");
    assert_string_equal(heard(&b->players[1]), "");
    assert_string_equal(heard(&b->players[0]), "k");
    assert_string_equal(heard(&b->players[2]), "k");
    assert_int_equal(b->share.count, 2);
}

static void times_are_those_that_players_see(void **state)
{
    struct bed *b = *state;
    struct rtmp_msg *m = rtmp_msg_from_bytes(&b->pool, RTMP_VIDEO, 7, 5, "\x17\x01key", 5);
    share_push(&b->share, m, 1, 90000, b->now_ms);
    rtmp_msg_unref(m);
    const struct rtmp_msg *kept = stream_keep_at(&b->share.keep, b->share.keep.first)->msg;
    assert_int_equal(kept->timestamp, 90000);
    assert_int_equal(kept->msid, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_get_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(who_comes_later_begins_with_the_last_group, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(before_its_start_a_player_gets_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_picture_in_parts_is_kept_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(audio_alone_begins_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_old_is_not_shown, setup, teardown),
        cmocka_unit_test_setup_teardown(a_publication_that_is_over_is_not_shown, setup, teardown),
        cmocka_unit_test_setup_teardown(where_the_group_is_lost_sound_begins, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_waits_for_keyframes_that_do_not_come, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nobody_begins_minutes_ago, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_kept_where_memory_is_short, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_queue_skips_to_a_keyframe_and_nobody_else_does,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(statuses_do_not_fill_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_first_group_is_no_full_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(many_small_messages_fill_a_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(who_leaves_hears_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(times_are_those_that_players_see, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
