#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "router/stream_index.h"

enum { STREAMS = 700, MEMBERS = 3 };

static void key_of(struct stream_key *k, unsigned n)
{
    char text[32];
    snprintf(text, sizeof text, "live/cam%u", n);
    assert_int_equal(stream_key_parse(text, k), ERR_OK);
}

static uint32_t members_of(const struct stream_index *x, const struct stream_key *key)
{
    uint32_t n = 0;
    for (const struct stream_member *m = stream_index_first(x, key); m; m = stream_index_next(m)) {
        assert_string_equal(m->key->text, key->text);
        n++;
    }
    return n;
}

static void finds_all_members_of_a_stream(void **state)
{
    (void)state;
    struct stream_index x;
    struct stream_key *keys = calloc(STREAMS, sizeof *keys);
    struct stream_member *members = calloc((size_t)STREAMS * MEMBERS, sizeof *members);
    assert_non_null(keys);
    assert_non_null(members);
    assert_int_equal(stream_index_init(&x), ERR_OK);
    for (unsigned i = 0; i < STREAMS; i++)
        key_of(&keys[i], i);
    for (unsigned m = 0; m < MEMBERS; m++) /* growing on the way */
        for (unsigned i = 0; i < STREAMS; i++)
            stream_index_add(&x, &members[i * MEMBERS + m], &keys[i]);
    assert_int_equal(x.streams, STREAMS);
    assert_true(x.bucket_count > 256);
    for (unsigned i = 0; i < STREAMS; i++)
        assert_int_equal(members_of(&x, &keys[i]), MEMBERS);
    for (unsigned i = 0; i < STREAMS; i++) { /* the first, the middle or the last one */
        stream_index_remove(&x, &members[i * MEMBERS + i % MEMBERS]);
        assert_int_equal(members_of(&x, &keys[i]), MEMBERS - 1);
    }
    assert_int_equal(x.streams, STREAMS);
    stream_index_deinit(&x);
    free(members);
    free(keys);
}

static void removing_twice_is_nothing(void **state)
{
    (void)state;
    struct stream_index x;
    struct stream_key k;
    struct stream_member m = {0};
    assert_int_equal(stream_index_init(&x), ERR_OK);
    key_of(&k, 1);
    stream_index_remove(&x, &m); /* never added */
    stream_index_add(&x, &m, &k);
    stream_index_remove(&x, &m);
    stream_index_remove(&x, &m);
    assert_int_equal(x.streams, 0);
    assert_null(stream_index_first(&x, &k));
    stream_index_add(&x, &m, &k);
    assert_ptr_equal(stream_index_first(&x, &k), &m);
    assert_null(stream_index_next(&m));
    stream_index_deinit(&x);
}

static void unknown_streams_have_no_members(void **state)
{
    (void)state;
    struct stream_index x;
    struct stream_key a, b;
    struct stream_member m = {0};
    assert_int_equal(stream_index_init(&x), ERR_OK);
    key_of(&a, 1);
    key_of(&b, 2);
    assert_null(stream_index_first(&x, &a));
    stream_index_add(&x, &m, &a);
    assert_null(stream_index_first(&x, &b));
    /* the same hash is not the same stream */
    m.hash = stream_key_hash(&b);
    struct stream_member **bucket = &x.buckets[m.hash & (x.bucket_count - 1)];
    for (uint32_t i = 0; i < x.bucket_count; i++)
        x.buckets[i] = NULL;
    *bucket = &m;
    assert_null(stream_index_first(&x, &b));
    stream_index_deinit(&x);
}

/* Whichever of its members leave, and in whatever order, what is to be done for a stream is kept
 * while one is left: against a plain model. */
static void tasks_stay_with_their_stream(void **state)
{
    (void)state;
    enum { KEYS = 5, ALL = 40, STEPS = 20000 };
    struct stream_index x;
    struct stream_key keys[KEYS];
    struct stream_member members[ALL] = {0};
    bool wanted[STREAM_TASKS][KEYS] = {0};
    uint32_t left[KEYS] = {0};
    uint64_t random = 1;
    assert_int_equal(stream_index_init(&x), ERR_OK);
    for (unsigned k = 0; k < KEYS; k++)
        key_of(&keys[k], k);
    for (int step = 0; step < STEPS; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        const unsigned what = (unsigned)(random >> 33) & 7, k = (unsigned)(random >> 40) % KEYS;
        const enum stream_task task = random >> 50 & 1;
        struct stream_member *m = &members[(random >> 52) % ALL];
        if (what < 3 && !m->key) {
            stream_index_add(&x, m, &keys[k]);
            left[k]++;
        } else if (what < 6 && m->key) {
            const ptrdiff_t of = m->key - keys;
            stream_index_remove(&x, m);
            if (--left[of] == 0)
                wanted[STREAM_TELL][of] = wanted[STREAM_AUDIENCE][of] = false;
        } else if (what == 6) {
            stream_index_want(&x, task, &keys[k]);
            wanted[task][k] = left[k] > 0;
        } else if (what == 7) {
            const struct stream_member *taken = stream_index_take(&x, task);
            bool any = false;
            for (unsigned i = 0; i < KEYS; i++)
                any = any || wanted[task][i];
            assert_int_equal(taken != NULL, any);
            if (taken) {
                assert_true(wanted[task][taken->key - keys]);
                wanted[task][taken->key - keys] = false;
            }
        }
        for (unsigned i = 0; i < KEYS; i++) {
            assert_int_equal(members_of(&x, &keys[i]), left[i]);
            for (enum stream_task t = 0; t < STREAM_TASKS; t++)
                assert_int_equal(stream_index_wanted(&x, t, &keys[i]), wanted[t][i]);
        }
    }
    stream_index_deinit(&x);
}

static void tasks_are_taken_in_turn(void **state)
{
    (void)state;
    struct stream_index x;
    struct stream_key keys[3];
    struct stream_member members[3] = {0};
    assert_int_equal(stream_index_init(&x), ERR_OK);
    for (unsigned i = 0; i < 3; i++) {
        key_of(&keys[i], i);
        stream_index_want(&x, STREAM_TELL, &keys[i]); /* of nobody: nothing */
        stream_index_add(&x, &members[i], &keys[i]);
    }
    assert_null(stream_index_take(&x, STREAM_TELL));
    stream_index_want(&x, STREAM_TELL, &keys[1]);
    stream_index_want(&x, STREAM_TELL, &keys[0]);
    stream_index_want(&x, STREAM_TELL, &keys[1]);
    assert_null(stream_index_take(&x, STREAM_AUDIENCE));
    assert_ptr_equal(stream_index_take(&x, STREAM_TELL), &members[1]);
    stream_index_want(&x, STREAM_TELL, &keys[1]);
    assert_ptr_equal(stream_index_take(&x, STREAM_TELL), &members[0]);
    assert_ptr_equal(stream_index_take(&x, STREAM_TELL), &members[1]);
    assert_null(stream_index_take(&x, STREAM_TELL));
    stream_index_deinit(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_all_members_of_a_stream),
        cmocka_unit_test(removing_twice_is_nothing),
        cmocka_unit_test(unknown_streams_have_no_members),
        cmocka_unit_test(tasks_stay_with_their_stream),
        cmocka_unit_test(tasks_are_taken_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
