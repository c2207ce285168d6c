#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "healthd/node_watch.h"

enum {
    TCP = 1u << CHECK_TCP,
    RTMP = 1u << CHECK_RTMP,
    STAT = 1u << CHECK_STAT,
    LOOP = 1u << CHECK_LOOP,
    ALL = TCP | RTMP | STAT | LOOP,
};

static const uint64_t wall0 = 1700000000000u;

static const struct config_healthd policy = {
    .interval_ms = 1000,
    .timeout_ms = 1000,
    .fast_interval_ms = 250,
    .rise = 2,
    .fall = 3,
    .checks = TCP | RTMP | STAT,
    .loop_interval_ms = 30000,
    .stuck_after_ms = 15000,
};

static struct watch_time at(uint64_t ms)
{
    return (struct watch_time){.mono_ms = ms, .wall_ms = wall0 + ms};
}

static struct node_watch fresh(const struct node_status *stored)
{
    struct node_watch w;
    node_watch_init(&w, "n1", stored, &policy, 42, 0);
    return w;
}

static struct check_result good(enum health_check c)
{
    return (struct check_result){.check = c, .good = true, .latency_us = 400};
}

static struct check_result bad(enum health_check c)
{
    struct check_result r = {.check = c};
    snprintf(r.reason, sizeof r.reason, "%s: broken", health_check_name(c));
    return r;
}

/* A round in which every check but `failing` (ALL + 1: none) passes. */
static uint32_t round_at(struct node_watch *w, const struct config_healthd *p, uint32_t possible,
                         uint32_t failing, const struct stat_report *report, uint64_t ms)
{
    const struct watch_time now = at(ms);
    const uint32_t run = node_watch_begin(w, p, possible, &now);
    uint32_t changed = 0;
    for (enum health_check c = CHECK_TCP; c <= CHECK_LOOP; c++) {
        if (!(run & 1u << c))
            continue;
        const struct check_result r = failing & 1u << c ? bad(c) : good(c);
        changed |= node_watch_result(w, p, &r, c == CHECK_STAT && r.good ? report : NULL, &now);
    }
    return changed;
}

static struct node_watch up_at(uint64_t ms)
{
    struct node_watch w = fresh(NULL);
    assert_int_equal(round_at(&w, &policy, ALL, 0, NULL, ms), WATCH_ROUND_DONE);
    assert_int_equal(round_at(&w, &policy, ALL, 0, NULL, ms + 250),
                     WATCH_ROUND_DONE | WATCH_VERDICT);
    return w;
}

static void test_which_checks_run(void **state)
{
    (void)state;
    static const struct {
        uint32_t asked, possible, run;
    } rows[] = {
        {TCP | RTMP | STAT, ALL, RTMP | STAT}, /* tcp is the first half of rtmp */
        {TCP | RTMP | STAT, ALL & ~STAT, RTMP}, {TCP, ALL, TCP},
        {TCP | STAT, ALL, TCP | STAT},          {STAT, ALL & ~STAT, 0},
        {RTMP | LOOP, ALL, RTMP | LOOP},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config_healthd p = policy;
        struct node_watch w = fresh(NULL);
        const struct watch_time now = at(1000);
        p.checks = rows[i].asked;
        assert_int_equal(node_watch_begin(&w, &p, rows[i].possible, &now), rows[i].run);
        if (rows[i].run == 0)
            assert_int_equal(w.next_ms, 2000);
    }
}

static void test_verdict_and_pace(void **state)
{
    (void)state;
    struct node_watch w = fresh(NULL);
    assert_true(w.next_ms <= 250);
    assert_int_equal(round_at(&w, &policy, ALL, 0, NULL, 100), WATCH_ROUND_DONE);
    assert_int_equal(w.status.health, NODE_UNKNOWN);
    assert_int_equal(w.next_ms, 350); /* in the balance */
    assert_int_equal(round_at(&w, &policy, ALL, 0, NULL, 350), WATCH_ROUND_DONE | WATCH_VERDICT);
    assert_int_equal(w.status.health, NODE_UP);
    assert_int_equal(w.status.since_ms, wall0 + 350);
    assert_int_equal(w.status.latency_us, 400);
    assert_true(w.next_ms >= 350 + 900 && w.next_ms <= 350 + 1100);
    assert_int_equal(round_at(&w, &policy, ALL, RTMP, NULL, 1400), WATCH_ROUND_DONE);
    assert_int_equal(w.next_ms, 1650);
    assert_int_equal(round_at(&w, &policy, ALL, STAT, NULL, 1650), WATCH_ROUND_DONE);
    assert_int_equal(round_at(&w, &policy, ALL, RTMP | STAT, NULL, 1900),
                     WATCH_ROUND_DONE | WATCH_VERDICT);
    assert_int_equal(w.status.health, NODE_DOWN);
    assert_string_equal(w.status.reason, "rtmp: broken"); /* the first of them */
    assert_string_equal(w.cause.reason, "rtmp: broken");
    assert_int_equal(w.status.checks, 5);
    assert_int_equal(w.status.failures, 3);
    assert_int_equal(w.status.transitions, 2);
    assert_true(w.next_ms >= 1900 + 900);
}

static void test_slow_round(void **state)
{
    (void)state;
    struct node_watch w = fresh(NULL);
    const struct watch_time begin = at(100), end = at(1100);
    const struct check_result r = bad(CHECK_RTMP);
    assert_int_equal(node_watch_begin(&w, &policy, RTMP, &begin), RTMP);
    assert_int_equal(node_watch_result(&w, &policy, &r, NULL, &end), WATCH_ROUND_DONE);
    assert_int_equal(w.next_ms, 1100); /* at once: it is late */
}

static void test_rtmp_that_came_no_further_than_tcp(void **state)
{
    (void)state;
    struct node_watch w = fresh(NULL);
    const struct watch_time now = at(100);
    const struct check_result tcp = bad(CHECK_TCP), stat = bad(CHECK_STAT);
    assert_int_equal(node_watch_begin(&w, &policy, ALL, &now), RTMP | STAT);
    assert_int_equal(node_watch_result(&w, &policy, &stat, NULL, &now), 0);
    assert_int_equal(node_watch_result(&w, &policy, &tcp, NULL, &now), WATCH_ROUND_DONE);
    assert_string_equal(w.round.reason, "tcp: broken");
}

static void test_jitter(void **state)
{
    (void)state;
    struct node_watch w = up_at(0);
    uint64_t now = w.next_ms, least = UINT64_MAX, most = 0, sum = 0;
    for (int i = 0; i < 1000; i++) {
        (void)round_at(&w, &policy, ALL, 0, NULL, now);
        const uint64_t wait = w.next_ms - now;
        least = wait < least ? wait : least;
        most = wait > most ? wait : most;
        sum += wait;
        now = w.next_ms;
    }
    assert_in_range(least, 900, 910);
    assert_in_range(most, 1090, 1100);
    assert_in_range(sum / 1000, 985, 1015);
}

static void test_stored_status_goes_on(void **state)
{
    (void)state;
    const struct node_status stored = {.id = "n1",
                                       .health = NODE_UP,
                                       .since_ms = 1234,
                                       .checks = 70,
                                       .transitions = 9,
                                       .pid = 5,
                                       .process_started_ms = wall0,
                                       .generations = 3};
    struct node_watch w = fresh(&stored);
    assert_int_equal(round_at(&w, &policy, ALL, 0, NULL, 100), WATCH_ROUND_DONE);
    assert_int_equal(w.status.since_ms, 1234);
    assert_int_equal(w.status.checks, 71);
    assert_int_equal(w.status.generations, 3);
}

static void test_loop_is_rare_until_it_fails(void **state)
{
    (void)state;
    struct config_healthd p = policy;
    struct node_watch w = fresh(NULL);
    p.checks = RTMP | LOOP;
    (void)round_at(&w, &p, ALL, 0, NULL, 1000);
    struct watch_time now = at(2000);
    assert_int_equal(node_watch_begin(&w, &p, ALL, &now), RTMP);
    const struct check_result ok = good(CHECK_RTMP);
    assert_int_equal(node_watch_result(&w, &p, &ok, NULL, &now), WATCH_ROUND_DONE | WATCH_VERDICT);
    (void)round_at(&w, &p, ALL, LOOP, NULL, 31000); /* due again, fails */
    assert_int_equal(w.verdict.bad, 1);
    (void)round_at(&w, &p, ALL, LOOP, NULL, 31250); /* and runs in every round now */
    assert_true(round_at(&w, &p, ALL, LOOP, NULL, 31500) & WATCH_VERDICT);
    assert_string_equal(w.status.reason, "loop: broken");
    (void)round_at(&w, &p, ALL, 0, NULL, 32500);
    now = at(33000);
    assert_int_equal(node_watch_begin(&w, &p, ALL, &now), RTMP); /* passed: rare again */
}

static void test_skipped_loop(void **state)
{
    (void)state;
    struct config_healthd p = policy;
    struct node_watch w = fresh(NULL);
    const struct watch_time now = at(1000);
    const struct check_result r = bad(CHECK_RTMP);
    p.checks = RTMP | LOOP;
    assert_int_equal(node_watch_begin(&w, &p, ALL, &now), RTMP | LOOP);
    node_watch_skip(&w, CHECK_LOOP);
    assert_int_equal(node_watch_result(&w, &p, &r, NULL, &now), WATCH_ROUND_DONE);
    assert_int_equal(node_watch_begin(&w, &p, ALL, &now), RTMP | LOOP); /* still due */
}

static void test_passive_failures(void **state)
{
    (void)state;
    struct node_watch w = up_at(0);
    struct watch_time now = at(500);
    assert_int_equal(node_watch_dial_failures(&w, &policy, 7, &now), 0); /* from before our time */
    assert_true(w.next_ms > 500);
    assert_int_equal(node_watch_dial_failures(&w, &policy, 7, &now), 0);
    assert_int_equal(node_watch_dial_failures(&w, &policy, 107, &now),
                     WATCH_ROUND_DONE); /* one, however many */
    assert_int_equal(w.verdict.bad, 1);
    assert_int_equal(w.next_ms, 500); /* check now */
    (void)round_at(&w, &policy, ALL, 0, NULL, 500);
    assert_int_equal(w.verdict.bad, 0); /* the probe knows better */
    for (uint64_t i = 1; i <= 3; i++) {
        now = at(500 + i);
        const uint32_t changed = node_watch_dial_failures(&w, &policy, 107 + i, &now);
        assert_int_equal(changed & WATCH_VERDICT, i == 3 ? WATCH_VERDICT : 0);
    }
    assert_string_equal(w.status.reason, "dial: a router could not connect to it");
    assert_int_equal(w.status.checks, 3 + 4);
}

static void test_passive_failures_of_a_node_without_checks(void **state)
{
    (void)state;
    struct node_watch w = fresh(NULL);
    const struct watch_time now = at(100);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(node_watch_dial_failures(&w, &policy, i, &now), 0);
    assert_int_equal(w.status.health, NODE_UNKNOWN);
}

static uint32_t generation_seen(struct node_watch *w, uint32_t pid, uint64_t uptime_s, uint64_t ms)
{
    struct stat_report r = {.version = "nginx 1", .pid = pid, .uptime_ms = uptime_s * 1000};
    return round_at(w, &policy, ALL, 0, &r, ms) & WATCH_RELOADED;
}

static void test_generations(void **state)
{
    (void)state;
    struct node_watch w = fresh(NULL);
    assert_int_equal(generation_seen(&w, 0, 0, 0), 0); /* does not tell */
    assert_int_equal(w.status.generations, 0);
    assert_int_equal(generation_seen(&w, 100, 60, 1000), 0); /* the first is not news */
    assert_int_equal(w.status.generations, 1);
    assert_int_equal(generation_seen(&w, 100, 60, 1900), 0); /* whole seconds */
    assert_int_equal(generation_seen(&w, 100, 62, 2000), 0);
    assert_int_equal(generation_seen(&w, 101, 62, 3000), 0); /* its sibling, as old */
    assert_int_equal(generation_seen(&w, 100, 64, 5000), 0);
    assert_int_equal(generation_seen(&w, 102, 0, 8000), WATCH_RELOADED);
    assert_int_equal(w.status.pid, 102);
    assert_int_equal(w.status.generations, 2);
    assert_int_equal(w.status.process_started_ms, wall0 + 8000);
    assert_int_equal(generation_seen(&w, 100, 68, 9000), 0); /* the old worker, still leaving */
    assert_int_equal(generation_seen(&w, 102, 2, 10000), 0);
    assert_int_equal(w.status.generations, 2);
    /* In a container every process has the same pid */
    assert_int_equal(generation_seen(&w, 102, 0, 20000), WATCH_RELOADED);
    /* Our own clock is set forward: the process did not start anew */
    assert_int_equal(generation_seen(&w, 102, 5, 3600000), 0);
    /* It was an hour ahead, and is set back */
    w.clock_ahead_ms += 3600000;
    w.status.process_started_ms += 3600000;
    assert_int_equal(generation_seen(&w, 102, 8, 3603000), 0);
    assert_int_equal(generation_seen(&w, 103, 0, 3610000), WATCH_RELOADED);
    assert_int_equal(w.status.process_started_ms, wall0 + 3610000);
    /* It had been so when the last healthd knew of the process */
    const struct node_status stored = {
        .pid = 103, .process_started_ms = wall0 + 7200000, .generations = 3};
    w = fresh(&stored);
    assert_int_equal(generation_seen(&w, 103, 9, 3619000), 0);
    assert_int_equal(generation_seen(&w, 104, 0, 3630000), WATCH_RELOADED);
}

/* Two reloads within seconds: by their starts, whole seconds, one process is as old as the other.
 */
/* Node and healthd on one machine whose clock is set back: uptimes are by that clock, too. And a
 * node's own, while it goes on taking in. */
static void test_clocks_set_back_are_no_reload(void **state)
{
    (void)state;
    struct node_watch w = fresh(NULL);
    assert_int_equal(generation_seen(&w, 102, 600, 1000), 0);
    w.clock_ahead_ms += 60000; /* our clock was ahead by a minute */
    w.status.process_started_ms += 60000;
    assert_int_equal(generation_seen(&w, 102, 541, 2000), 0);
    assert_int_equal(generation_seen(&w, 102, 542, 3000), 0);
    assert_int_equal(generation_seen(&w, 103, 0, 700000), WATCH_RELOADED);
    struct stat_report r = {.version = "nginx 1", .pid = 103, .uptime_ms = 10000, .bytes_in = 5000};
    assert_int_equal(round_at(&w, &policy, ALL, 0, &r, 710000) & WATCH_RELOADED, 0);
    r.uptime_ms = 2000;
    r.bytes_in = 6000;
    assert_int_equal(round_at(&w, &policy, ALL, 0, &r, 720000) & WATCH_RELOADED, 0);
    r.uptime_ms = 0;
    r.bytes_in = 10; /* in a container every process has the same pid */
    assert_int_equal(round_at(&w, &policy, ALL, 0, &r, 730000) & WATCH_RELOADED, WATCH_RELOADED);
}

static uint32_t second_of(struct node_watch *w, uint32_t pid, uint64_t *ms)
{
    *ms += 1000;
    return generation_seen(w, pid, (*ms - 2900) / 1000, *ms);
}

static void test_reload_soon_after_another(void **state)
{
    (void)state;
    struct node_watch w = fresh(NULL);
    uint64_t ms = 3000;
    uint32_t rounds = 1;
    assert_int_equal(generation_seen(&w, 100, 0, 1900), 0);
    assert_int_equal(generation_seen(&w, 101, 0, 2900), 0);
    assert_int_equal(generation_seen(&w, 100, 1, ms), 0); /* on its way out */
    while (rounds < 30 && !second_of(&w, 101, &ms))
        rounds++;
    assert_int_equal(rounds, 15);
    assert_int_equal(w.status.pid, 101);
    assert_int_equal(w.status.generations, 2);
    /* Another healthd knows of it by the store */
    const struct node_status stored = w.status;
    w = fresh(&stored);
    for (rounds = 1; rounds < 30 && !second_of(&w, 102, &ms);)
        rounds++;
    assert_int_equal(rounds, 16);
    /* One that has run for long and is heard of now only answers rarely */
    for (int i = 0; i < 50; i++)
        assert_int_equal(second_of(&w, 103, &ms), 0);
    /* At another address there is another process, which is no reload */
    node_watch_readdressed(&w);
    assert_int_equal(generation_seen(&w, 7, 5, 200000), 0);
    for (uint64_t s = 201; s < 250; s++)
        assert_int_equal(generation_seen(&w, 7, s - 195, s * 1000), 0);
    assert_int_equal(generation_seen(&w, 8, 0, 250000), WATCH_RELOADED);
}

static void test_workers_that_answer_in_turn_are_one_generation(void **state)
{
    (void)state;
    for (uint32_t workers = 2; workers <= 20; workers++) {
        struct node_watch w = fresh(NULL);
        uint64_t random = 88172645463325252u;
        for (uint64_t s = 0; s < 5000; s++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (void)generation_seen(&w, 100 + (uint32_t)(random % workers), s, 1000 * s);
        }
        assert_int_equal(w.status.generations, 1);
    }
}

/* A second of a node that is up and takes in `in` bytes, while routers have sent `sent` in all. */
static uint32_t second(struct node_watch *w, uint64_t in, uint64_t sent, uint64_t s)
{
    struct stat_report r = {.publishers = 1, .bytes_in = in};
    node_watch_sent(w, sent, s * 1000);
    return round_at(w, &policy, ALL, 0, &r, s * 1000);
}

static void test_stuck_node_goes_down(void **state)
{
    (void)state;
    struct node_watch w = up_at(0);
    uint64_t s = 1, in = 0, sent = 0, down_at = 0;
    for (; s <= 10; s++)
        (void)second(&w, in += 1000, sent += 1000, s);
    for (; s <= 60 && !down_at; s++)
        if (second(&w, in, sent += 1000, s) & WATCH_VERDICT)
            down_at = s;
    assert_int_equal(down_at, 10 + 15 + 2); /* stuck_after, then fall */
    assert_true(w.status.stuck);
    assert_memory_equal(w.status.reason, "stuck: ", 7);
    /* It moves again */
    (void)second(&w, in += 5, sent += 1000, s++);
    assert_false(w.status.stuck);
    assert_true(second(&w, in += 5, sent += 1000, s++) & WATCH_VERDICT);
    assert_int_equal(w.status.health, NODE_UP);
}

static void test_quiet_node_is_not_stuck(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t in_step, sent_step, stops_at;
        bool publishers;
    } rows[] = {
        {"nobody sends", 0, 0, 0, true},
        {"the encoder paused; its counters come late", 1000, 1000, 12, true},
        {"no publisher there", 0, 1000, 1000, false},
        {"all is well", 1000, 1000, 1000, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct node_watch w = up_at(0);
        uint64_t in = 1, sent = 1;
        for (uint64_t s = 1; s <= 120; s++) {
            struct stat_report r = {.publishers = rows[i].publishers};
            in += s < rows[i].stops_at ? rows[i].in_step : 0;
            sent += s < rows[i].stops_at + 5 ? rows[i].sent_step : 0; /* up to 5 s late */
            r.bytes_in = in;
            node_watch_sent(&w, sent, s * 1000);
            (void)round_at(&w, &policy, ALL, 0, &r, s * 1000);
            if (w.status.stuck)
                fail_msg("%s: stuck after %llu s", rows[i].name, (unsigned long long)s);
        }
    }
}

static void test_without_stat_nothing_is_stuck(void **state)
{
    (void)state;
    struct node_watch w = up_at(0);
    for (uint64_t s = 1; s <= 60; s++) {
        node_watch_sent(&w, s * 1000, s * 1000);
        (void)round_at(&w, &policy, ALL & ~STAT, 0, NULL, s * 1000);
        assert_false(w.status.stuck);
    }
    assert_int_equal(w.status.health, NODE_UP);
}

static void test_load_is_kept_while_up(void **state)
{
    (void)state;
    struct node_watch w = up_at(0);
    struct stat_report r = {
        .version = "nginx 1", .bandwidth_in = 5, .bandwidth_out = 6, .clients = 7, .publishers = 2};
    (void)round_at(&w, &policy, ALL, 0, &r, 1000);
    (void)round_at(&w, &policy, ALL, STAT, NULL, 2000);
    assert_int_equal(w.status.bandwidth_out, 6);
    assert_int_equal(w.status.clients, 7);
    (void)round_at(&w, &policy, ALL, STAT, NULL, 2250);
    assert_true(round_at(&w, &policy, ALL, STAT, NULL, 2500) & WATCH_VERDICT);
    assert_int_equal(w.status.bandwidth_out, 0);
    assert_int_equal(w.status.clients, 0);
    assert_string_equal(w.status.version, "nginx 1");
}

static uint32_t impossible_at(struct node_watch *w, uint32_t impossible, uint32_t failing,
                              uint64_t ms)
{
    const struct watch_time now = at(ms);
    const uint32_t run = node_watch_begin(w, &policy, ALL, &now);
    uint32_t changed = 0;
    for (enum health_check c = CHECK_TCP; c <= CHECK_LOOP; c++) {
        if (!(run & 1u << c))
            continue;
        struct check_result r = (failing | impossible) & 1u << c ? bad(c) : good(c);
        r.ours = impossible & 1u << c;
        changed |= node_watch_result(w, &policy, &r, NULL, &now);
    }
    return changed;
}

static void test_what_we_lack_says_nothing_of_the_node(void **state)
{
    (void)state;
    struct node_watch w = up_at(0);
    const struct node_status before = w.status;
    for (uint64_t ms = 1000; ms < 20000; ms += 1000) {
        assert_int_equal(impossible_at(&w, ms % 2000 ? RTMP : RTMP | STAT, 0, ms), 0);
        assert_true(w.next_ms > ms && w.next_ms <= ms + 1100);
    }
    assert_memory_equal(&w.status, &before, sizeof before);
    /* what was found all the same counts */
    assert_int_equal(impossible_at(&w, RTMP, STAT, 20000), WATCH_ROUND_DONE);
    assert_int_equal(impossible_at(&w, RTMP, STAT, 21000), WATCH_ROUND_DONE);
    assert_true(impossible_at(&w, RTMP, STAT, 22000) & WATCH_VERDICT);
    assert_string_equal(w.status.reason, "stat: broken");
}

static void test_statistics_that_are_no_longer_read_are_forgotten(void **state)
{
    (void)state;
    struct node_watch w = up_at(0);
    struct stat_report r = {
        .version = "nginx 1", .bandwidth_in = 5, .clients = 7, .publishers = 2, .apps_hash = 9};
    struct config_healthd without = policy;
    without.checks = RTMP;
    (void)round_at(&w, &policy, ALL, 0, &r, 1000);
    assert_int_equal(w.status.bandwidth_in, 5);
    (void)round_at(&w, &without, ALL, 0, NULL, 2000);
    assert_int_equal(w.status.bandwidth_in, 0);
    assert_int_equal(w.status.clients, 0);
    assert_string_equal(w.status.version, "");
    assert_int_equal(w.apps_hash, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_we_lack_says_nothing_of_the_node),
        cmocka_unit_test(test_statistics_that_are_no_longer_read_are_forgotten),
        cmocka_unit_test(test_which_checks_run),
        cmocka_unit_test(test_verdict_and_pace),
        cmocka_unit_test(test_slow_round),
        cmocka_unit_test(test_rtmp_that_came_no_further_than_tcp),
        cmocka_unit_test(test_jitter),
        cmocka_unit_test(test_stored_status_goes_on),
        cmocka_unit_test(test_loop_is_rare_until_it_fails),
        cmocka_unit_test(test_skipped_loop),
        cmocka_unit_test(test_passive_failures),
        cmocka_unit_test(test_passive_failures_of_a_node_without_checks),
        cmocka_unit_test(test_generations),
        cmocka_unit_test(test_clocks_set_back_are_no_reload),
        cmocka_unit_test(test_reload_soon_after_another),
        cmocka_unit_test(test_workers_that_answer_in_turn_are_one_generation),
        cmocka_unit_test(test_stuck_node_goes_down),
        cmocka_unit_test(test_quiet_node_is_not_stuck),
        cmocka_unit_test(test_without_stat_nothing_is_stuck),
        cmocka_unit_test(test_load_is_kept_while_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
