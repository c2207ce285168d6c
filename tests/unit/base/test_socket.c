#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/socket_io.h"

enum { PATTERN_BYTES = 200 * 1000 };

struct pair {
    int ours, peers;
    struct block_pool pool;
    struct block *spare;
    struct intake in;
    uint8_t pattern[PATTERN_BYTES];
};

static int setup(void **state)
{
    struct pair *p = calloc(1, sizeof *p);
    int fds[2];
    assert_non_null(p);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    p->ours = fds[0];
    p->peers = fds[1];
    block_pool_init(&p->pool, 0);
    for (size_t i = 0; i < sizeof p->pattern; i++)
        p->pattern[i] = (uint8_t)(i * 7 + i / 251);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct pair *p = *state;
    intake_close(&p->in);
    block_unref(p->spare);
    block_pool_deinit(&p->pool);
    close(p->ours);
    if (p->peers >= 0)
        close(p->peers);
    free(p);
    return 0;
}

static ssize_t intake(struct pair *p, struct slice *out, bool *more)
{
    return intake_read(&p->in, &p->pool, &p->spare, p->ours, out, more);
}

/* The peer sends len bytes; they are read and, as a stream's would be, held until the end. */
static void take_all(struct pair *p, size_t len, struct block **held, uint32_t *count)
{
    assert_int_equal(send(p->peers, p->pattern, len, 0), (ssize_t)len);
    for (size_t got = 0; got < len;) {
        struct slice s;
        bool more;
        const ssize_t n = intake(p, &s, &more);
        assert_true(n > 0);
        assert_memory_equal(slice_data(&s), p->pattern + got, (size_t)n);
        got += (size_t)n;
        assert_int_equal(more, s.off + s.len == s.block->cap);
        if (*count == 0 || held[*count - 1] != s.block)
            held[(*count)++] = block_ref(s.block);
    }
}

static void what_is_read_stays_where_it_was_read_to(void **state)
{
    struct pair *p = *state;
    struct block *held[8];
    uint32_t count = 0;
    for (int i = 0; i < 10; i++)
        take_all(p, 9000, held, &count);
    assert_int_equal(count, 2);
    assert_int_equal(held[0]->cap, BLOCK_BYTES);
    assert_int_equal(held[0]->used + held[1]->used, 90000);
    for (uint32_t i = 0; i < count; i++)
        block_unref(held[i]);
}

static void the_end_and_nothing_are_told_apart(void **state)
{
    struct pair *p = *state;
    struct slice s;
    bool more = true;
    assert_int_equal(intake(p, &s, &more), -1);
    assert_int_equal(errno, EAGAIN);
    assert_false(more);
    close(p->peers);
    p->peers = -1;
    assert_int_equal(intake(p, &s, &more), 0);
    assert_false(more);
}

static void no_memory_is_an_error(void **state)
{
    struct pair *p = *state;
    struct slice s;
    bool more;
    p->pool.max_bytes = BLOCK_BYTES - 1;
    assert_int_equal(send(p->peers, "x", 1, 0), 1);
    assert_int_equal(intake(p, &s, &more), -1);
    assert_int_equal(errno, ENOMEM);
    p->pool.max_bytes = BLOCK_BYTES;
    assert_int_equal(intake(p, &s, &more), 1);
}

static void a_block_of_which_nothing_is_held_goes_back(void **state)
{
    struct pair *p = *state;
    struct slice s;
    bool more;
    assert_int_equal(send(p->peers, "ab", 2, 0), 2);
    assert_int_equal(intake(p, &s, &more), 2);
    struct block *b = block_ref(s.block);
    intake_rest(&p->in, &p->spare);
    assert_ptr_equal(p->in.block, b);
    block_unref(b);
    intake_rest(&p->in, &p->spare);
    assert_null(p->in.block);
    assert_ptr_equal(p->spare, b);
    assert_int_equal(send(p->peers, "c", 1, 0), 1);
    assert_int_equal(intake(p, &s, &more), 1);
    assert_ptr_equal(s.block, b);
    assert_int_equal(s.off, 0);
    assert_null(p->spare);
}

/* Sends frames of so many bytes, so many ms apart, and holds the last few blocks, as what is kept
 * of a stream does. The size of the last one. */
static uint32_t cap_after(struct pair *p, size_t frame, uint32_t every_ms, int frames)
{
    struct block *held[16];
    uint32_t count = 0;
    for (int i = 0; i < frames; i++) {
        p->in.since_ms -= p->in.since_ms ? every_ms : 0;
        take_all(p, frame, held, &count);
        while (count > 4) {
            block_unref(held[0]);
            memmove(held, held + 1, --count * sizeof held[0]);
        }
    }
    const uint32_t cap = held[count - 1]->cap;
    for (uint32_t i = 0; i < count; i++)
        block_unref(held[i]);
    return cap;
}

static void slow_streams_get_small_blocks(void **state)
{
    struct pair *p = *state;
    assert_int_equal(cap_after(p, 20000, 1, 20), BLOCK_BYTES);
    assert_int_equal(cap_after(p, 20000, 2000, 20), BLOCK_BYTES / 2);
    assert_int_equal(cap_after(p, 1000, 3600000, 200), BLOCK_BYTES / 2);
    assert_int_equal(cap_after(p, 20000, 1, 20), BLOCK_BYTES);
}

/* Each fills blocks within a moment: that does not make the stream fast. */
static void frames_do_not_make_a_slow_stream_fast(void **state)
{
    struct pair *p = *state;
    (void)cap_after(p, 26000, 3000, 10);
    for (int i = 0; i < 20; i++)
        assert_int_equal(cap_after(p, 26000, 3000, 1), BLOCK_BYTES / 2);
}

/* As what is left of a frame at the end of a block and copied: the block after it is not held. */
static void a_block_that_is_not_held_changes_no_size(void **state)
{
    struct pair *p = *state;
    struct slice s;
    bool more;
    assert_int_equal(cap_after(p, 20000, 2000, 20), BLOCK_BYTES / 2);
    intake_rest(&p->in, &p->spare);
    assert_int_equal(send(p->peers, "c", 1, 0), 1);
    assert_int_equal(intake(p, &s, &more), 1);
    assert_int_equal(s.block->cap, BLOCK_BYTES / 2);
}

/* A stream of which nothing is held never leaves a full block: it counts all the same. */
static void who_holds_nothing_gets_as_large_blocks(void **state)
{
    struct pair *p = *state;
    struct slice s;
    bool more;
    assert_int_equal(cap_after(p, 20000, 2000, 20), BLOCK_BYTES / 2);
    for (int i = 0; i < 20; i++) {
        intake_rest(&p->in, &p->spare);
        assert_int_equal(send(p->peers, p->pattern, 20000, 0), 20000);
        assert_int_equal(intake(p, &s, &more), 20000);
    }
    assert_int_equal(s.block->cap, BLOCK_BYTES);
}

static void pieces_leave_in_order(void **state)
{
    struct pair *p = *state;
    static const uint32_t rows[][4] = {{1, 0, 0, 0},      {500, 0, 0, 0},      {12, 400, 0, 0},
                                       {12, 1012, 0, 0},  {12, 1013, 0, 0},    {1, 1, 1, 1},
                                       {12, 4096, 1, 70}, {1024, 1, 0, 0},     {0, 0, 0, 0},
                                       {30000, 0, 0, 0},  {300, 300, 300, 300}};
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        struct iovec iov[4];
        size_t count = 0, at = 0;
        for (; count < 4 && rows[r][count] > 0; count++) {
            iov[count] = (struct iovec){.iov_base = p->pattern + at, .iov_len = rows[r][count]};
            at += rows[r][count];
        }
        uint8_t got[40000];
        assert_int_equal(socket_send(p->ours, iov, count), (ssize_t)at);
        assert_int_equal(at == 0 ? 0 : recv(p->peers, got, sizeof got, MSG_DONTWAIT), (ssize_t)at);
        assert_memory_equal(got, p->pattern, at);
    }
}

static void a_full_socket_and_one_that_is_gone(void **state)
{
    struct pair *p = *state;
    struct iovec iov = {.iov_base = p->pattern, .iov_len = sizeof p->pattern};
    ssize_t n = 1;
    while (n > 0)
        n = socket_send(p->ours, &iov, 1);
    assert_int_equal(errno, EAGAIN);
    close(p->peers);
    p->peers = -1;
    assert_int_equal(socket_send(p->ours, &iov, 1), -1); /* and no SIGPIPE */
    assert_int_equal(errno, EPIPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_read_stays_where_it_was_read_to, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_and_nothing_are_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(no_memory_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(a_block_of_which_nothing_is_held_goes_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(slow_streams_get_small_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(frames_do_not_make_a_slow_stream_fast, setup, teardown),
        cmocka_unit_test_setup_teardown(a_block_that_is_not_held_changes_no_size, setup, teardown),
        cmocka_unit_test_setup_teardown(who_holds_nothing_gets_as_large_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(pieces_leave_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_socket_and_one_that_is_gone, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
