#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store_fixture.h"

/* ---- leases ---- */

static void test_leases(void **state)
{
    struct fixture *f = *state;
    enum { TTL_MS = 3000 };
    enum { DROP = -1, TAKE = 1 };
    static const struct {
        const char *name;
        int what;
        uint64_t holder, at;
        enum err want;
    } steps[] = {
        {"healthd", DROP, 1, 0, ERR_NOT_FOUND},
        {"healthd", TAKE, 1, 0, ERR_OK},
        {"healthd", TAKE, 2, 0, ERR_CONFLICT},
        {"admin", TAKE, 2, 0, ERR_OK}, /* another lease */
        {"healthd", TAKE, 1, 2000, ERR_OK},
        {"healthd", TAKE, 2, 4999, ERR_CONFLICT}, /* it was renewed */
        {"healthd", TAKE, 2, 5000, ERR_OK},
        {"healthd", TAKE, 1, 5000, ERR_CONFLICT},
        {"healthd", DROP, 1, 5000, ERR_NOT_FOUND}, /* not its own any more */
        {"healthd", TAKE, 1, 5001, ERR_CONFLICT},
        {"healthd", DROP, 2, 5001, ERR_OK},
        {"healthd", TAKE, 1, 5001, ERR_OK},
        {"admin", TAKE, 3, 2999, ERR_CONFLICT},
        {"", TAKE, 1, 0, ERR_INVALID},
        {"healthd", TAKE, 0, 9000, ERR_INVALID},
        {"a-name-that-is-longer-than-names-are", TAKE, 1, 0, ERR_INVALID},
        {"a-name-that-is-longer-than-names-are", DROP, 1, 0, ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        const enum err e = steps[i].what == TAKE
                               ? store_lease_take(f->store, steps[i].name, steps[i].holder, TTL_MS,
                                                  t0 + steps[i].at)
                               : store_lease_drop(f->store, steps[i].name, steps[i].holder);
        if (e != steps[i].want)
            fail_msg("step %zu: %s, not %s", i, err_name(e), err_name(steps[i].want));
    }
    /* a clock that was set back makes no lease last */
    assert_int_equal(store_lease_take(f->store, "x", 1, TTL_MS, t0), ERR_OK);
    assert_int_equal(store_lease_take(f->store, "x", 2, TTL_MS, t0 - 1000), ERR_CONFLICT);
    assert_int_equal(store_lease_take(f->store, "x", 2, TTL_MS, t0 - TTL_MS), ERR_OK);
}

/* ---- commands ---- */

static uint64_t post(struct store *s, uint32_t slot, uint64_t session, uint64_t at)
{
    struct store_command c = {.kind = COMMAND_KICK,
                              .worker = worker(slot),
                              .session = session,
                              .posted_ms = at,
                              .deadline_ms = at + 2000,
                              .state = COMMAND_FAILED};
    assert_int_equal(store_command_post(s, &c), ERR_OK);
    assert_true(c.id != 0);
    assert_int_equal(c.state, COMMAND_PENDING);
    return c.id;
}

struct commands {
    struct store *s; /* finish each, if given */
    uint32_t count, stop_after;
    uint64_t sessions[STORE_COMMANDS_AT_ONCE + 1];
};

static bool keep_command(void *arg, const struct store_command *c)
{
    struct commands *l = arg;
    assert_in_range(l->count, 0, STORE_COMMANDS_AT_ONCE);
    l->sessions[l->count++] = c->session;
    if (l->s)
        assert_int_equal(store_command_finish(l->s, c->id, COMMAND_DONE, "closed"), ERR_OK);
    return l->count != l->stop_after;
}

static uint32_t pending(struct store *s, uint32_t slot, uint64_t now_ms)
{
    struct commands l = {.count = 0};
    const struct worker_id w = worker(slot);
    assert_int_equal(store_commands_pending(s, &w, now_ms, keep_command, &l), ERR_OK);
    return l.count;
}

static void test_command_life(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct store_command c = {.session = 99};
    assert_int_equal(pending(s, 1, t0), 0);
    const uint64_t a = post(s, 1, 10, t0), b = post(s, 2, 20, t0), d = post(s, 1, 30, t0 + 1);
    assert_true(b > a && d > b);
    assert_int_equal(pending(s, 1, t0), 2);
    assert_int_equal(pending(s, 2, t0), 1);
    assert_int_equal(pending(s, 0, t0), 0);
    assert_int_equal(pending(s, 10, t0), 0);
    assert_int_equal(pending(s, 1, t0 + 2001), 1); /* the deadline of the first has passed */
    assert_int_equal(pending(s, 1, t0 + 2002), 0);

    reopen(f);
    s = f->store;
    struct commands l = {.s = s}; /* the callback uses the store */
    const struct worker_id w1 = worker(1);
    assert_int_equal(store_commands_pending(s, &w1, t0, keep_command, &l), ERR_OK);
    assert_int_equal(l.count, 2);
    assert_int_equal(l.sessions[0], 10); /* oldest first */
    assert_int_equal(l.sessions[1], 30);
    assert_int_equal(pending(s, 1, t0), 0);
    assert_int_equal(store_command_get(s, a, &c), ERR_OK);
    assert_int_equal(c.id, a);
    assert_int_equal(c.session, 10);
    assert_int_equal(c.state, COMMAND_DONE);
    assert_string_equal(c.result, "closed");
    assert_true(worker_id_equal(&c.worker, &w1));
    assert_int_equal(c.deadline_ms - c.posted_ms, 2000);

    assert_int_equal(store_command_withdraw(s, a), ERR_CONFLICT); /* it is done */
    assert_int_equal(store_command_finish(s, a, COMMAND_FAILED, ""), ERR_CONFLICT);
    assert_int_equal(store_command_withdraw(s, b), ERR_OK);
    assert_int_equal(pending(s, 2, t0), 0);
    assert_int_equal(store_command_get(s, b, &c), ERR_NOT_FOUND);
    assert_int_equal(store_command_finish(s, b, COMMAND_DONE, "closed"), ERR_NOT_FOUND);
    assert_int_equal(store_command_withdraw(s, b), ERR_NOT_FOUND);
}

static void test_long_result(void **state)
{
    struct fixture *f = *state;
    struct store_command c;
    char text[200];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    const uint64_t id = post(f->store, 1, 10, t0);
    assert_int_equal(store_command_finish(f->store, id, COMMAND_FAILED, text), ERR_OK);
    assert_int_equal(store_command_get(f->store, id, &c), ERR_OK);
    assert_int_equal(c.state, COMMAND_FAILED);
    assert_int_equal(strlen(c.result), COMMAND_RESULT_MAX - 1);
}

static void test_many_commands(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    const struct worker_id w1 = worker(1);
    for (uint64_t i = 0; i < STORE_COMMANDS_AT_ONCE; i++) /* overdue: they stand in nobody's way */
        (void)post(s, 1, 1000 + i, t0 - 5000);
    for (uint64_t i = 0; i < STORE_COMMANDS_AT_ONCE + 3; i++)
        (void)post(s, 1, i, t0);
    struct commands l = {.s = s};
    assert_int_equal(store_commands_pending(s, &w1, t0, keep_command, &l), ERR_OK);
    assert_int_equal(l.count, STORE_COMMANDS_AT_ONCE);
    assert_int_equal(l.sessions[0], 0);
    l = (struct commands){.s = s, .stop_after = 2};
    assert_int_equal(store_commands_pending(s, &w1, t0, keep_command, &l), ERR_OK);
    assert_int_equal(l.count, 2);
    assert_int_equal(l.sessions[0], STORE_COMMANDS_AT_ONCE);
    assert_int_equal(pending(s, 1, t0), 1);
}

static void test_commands_sweep(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct store_command c;
    uint32_t removed = 99;
    assert_int_equal(store_commands_sweep(s, t0, &removed), ERR_OK);
    assert_int_equal(removed, 0);
    for (uint64_t i = 0; i < STORE_WRITE_RECORDS + 5; i++)
        (void)post(s, 1, i, t0);
    const uint64_t later = post(s, 1, 777, t0 + 10);
    assert_int_equal(store_commands_sweep(s, t0 + STORE_COMMAND_KEEP_MS - 1, &removed), ERR_OK);
    assert_int_equal(removed, 0);
    assert_int_equal(store_commands_sweep(s, t0 + STORE_COMMAND_KEEP_MS, &removed), ERR_OK);
    assert_int_equal(removed, STORE_WRITE_RECORDS);
    assert_int_equal(store_commands_sweep(s, t0 + STORE_COMMAND_KEEP_MS, &removed), ERR_OK);
    assert_int_equal(removed, 5);
    assert_int_equal(store_command_get(s, later, &c), ERR_OK);
    assert_int_equal(pending(s, 1, t0 + 10), 1); /* nothing is left in the index either */
}

/* ---- what else the API reads ---- */

static void test_session_get(void **state)
{
    struct fixture *f = *state;
    struct session_record out = {.rehomes = 99};
    const struct session_record r = {.id = 5,
                                     .kind = SESSION_PLAY,
                                     .worker = worker(1),
                                     .key = key_of("live/a"),
                                     .client = "10.0.0.9:5",
                                     .node = "n1",
                                     .bytes_out = 7};
    assert_int_equal(store_session_get(f->store, 5, &out), ERR_NOT_FOUND);
    assert_int_equal(out.rehomes, 99);
    assert_int_equal(store_session_put(f->store, &r), ERR_OK);
    assert_int_equal(store_session_get(f->store, 5, &out), ERR_OK);
    assert_int_equal(out.id, 5);
    assert_int_equal(out.kind, SESSION_PLAY);
    assert_string_equal(out.key.text, "live/a");
    assert_string_equal(out.client, "10.0.0.9:5");
    assert_int_equal(out.bytes_out, 7);
    assert_int_equal(store_session_delete(f->store, 5), ERR_OK);
    assert_int_equal(store_session_get(f->store, 5, &out), ERR_NOT_FOUND);
}

struct processes {
    uint32_t count, of_kind[PROCESS_ADMIN + 1], stop_after;
};

static bool keep_process(void *arg, const struct process_record *p)
{
    struct processes *l = arg;
    l->count++;
    l->of_kind[p->kind]++;
    return l->count != l->stop_after;
}

static void test_processes_list(void **state)
{
    struct fixture *f = *state;
    const struct worker_id none = {.slot = 0};
    struct processes l = {0};
    assert_int_equal(store_processes_list(f->store, keep_process, &l), ERR_OK);
    assert_int_equal(l.count, 0);
    beat(f->store, PROCESS_ROUTER, worker(0), t0);
    beat(f->store, PROCESS_ROUTER, worker(1), 1); /* long dead: its counters still count */
    beat(f->store, PROCESS_HEALTHD, none, t0);
    beat(f->store, PROCESS_ADMIN, none, t0);
    assert_int_equal(store_processes_list(f->store, keep_process, &l), ERR_OK);
    assert_int_equal(l.of_kind[PROCESS_ROUTER], 2);
    assert_int_equal(l.of_kind[PROCESS_HEALTHD], 1);
    assert_int_equal(l.of_kind[PROCESS_ADMIN], 1);
    l = (struct processes){.stop_after = 2};
    assert_int_equal(store_processes_list(f->store, keep_process, &l), ERR_OK);
    assert_int_equal(l.count, 2);
}

static void test_names(void **state)
{
    (void)state;
    for (int i = 0; i < SETUP_PHASE_COUNT; i++) {
        assert_non_null(setup_phase_name((enum setup_phase)i));
        for (int k = 0; k < i; k++)
            assert_string_not_equal(setup_phase_name((enum setup_phase)i),
                                    setup_phase_name((enum setup_phase)k));
    }
    for (int i = 0; i < WHY_COUNT; i++)
        assert_non_null(close_why_name((enum close_why)i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_leases),         STORE_TEST(test_command_life),
        STORE_TEST(test_long_result),    STORE_TEST(test_many_commands),
        STORE_TEST(test_commands_sweep), STORE_TEST(test_session_get),
        STORE_TEST(test_processes_list), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
