#include "healthd/node_watch.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
    /* Routers refresh the counters of their sessions every 5 s, and they are read every 3 s. */
    SENT_LATE_MS = 8000,
    /* Uptimes are whole seconds: one start seen twice differs by less than this. */
    SAME_START_MS = 1500,
    YOUNG_MS = 30000,  /* at its first answer: a process that may be of a reload */
    LEAVING_MS = 1000, /* an old worker may still take a connection so long after the new ones */
    ANSWERS_EACH = 8,
    JITTER_PERCENT = 20, /* the whole width */
};

static uint64_t random_next(struct node_watch *w) /* xorshift64 */
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

static uint64_t fast_ms(const struct config_healthd *policy)
{
    return policy->fast_interval_ms < policy->interval_ms ? policy->fast_interval_ms
                                                          : policy->interval_ms;
}

static bool has_pid(const uint32_t *list, uint32_t count, uint32_t pid)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i] == pid)
            return true;
    return false;
}

static void begin_generation(struct generation_pids *p, uint32_t pid)
{
    if (p->fresh_count > 0 && has_pid(p->fresh, p->fresh_count, pid)) {
        memcpy(p->known, p->fresh, sizeof p->known);
        p->known_count = p->fresh_count;
    } else {
        p->known[0] = pid;
        p->known_count = 1;
    }
    p->fresh_count = p->answers = 0;
}

void node_watch_init(struct node_watch *w, const char *id, const struct node_status *stored,
                     const struct config_healthd *policy, uint64_t seed, uint64_t mono_ms)
{
    memset(w, 0, sizeof *w);
    if (stored)
        w->status = *stored;
    if (stored && stored->generations > 0)
        begin_generation(&w->pids, stored->pid);
    snprintf(w->status.id, sizeof w->status.id, "%s", id);
    verdict_init(&w->verdict, w->status.health, w->status.since_ms);
    w->random = seed | 1;
    w->next_ms = mono_ms + random_next(w) % (fast_ms(policy) + 1);
    w->loop_due_ms = w->next_ms;
    w->input_moved_ms = w->sent_grew_ms = mono_ms;
}

/* Counted from the beginning of the round, so that slow answers do not make it rare. */
static void schedule(struct node_watch *w, const struct config_healthd *policy,
                     const struct watch_time *now)
{
    uint64_t wait = fast_ms(policy);
    if (!verdict_in_balance(&w->verdict, now->wall_ms)) {
        const uint64_t width = policy->interval_ms * JITTER_PERCENT / 100;
        wait = policy->interval_ms - width / 2 + random_next(w) % (width + 1);
    }
    w->next_ms = w->round_ms + wait;
    if (w->next_ms < now->mono_ms)
        w->next_ms = now->mono_ms;
}

/* Nobody knows any more what it carries. */
static void forget_load(struct node_status *st)
{
    st->bandwidth_in = st->bandwidth_out = 0;
    st->clients = st->publishers = 0;
}

/* Its statistics are no longer read. */
static void forget_report(struct node_watch *w)
{
    forget_load(&w->status);
    memset(w->status.version, 0, sizeof w->status.version);
    w->apps_hash = 0;
    w->input_known = false;
}

uint32_t node_watch_begin(struct node_watch *w, const struct config_healthd *policy,
                          uint32_t possible, const struct watch_time *now)
{
    assert(w->running == 0);
    uint32_t run = policy->checks & possible;
    if (run & 1u << CHECK_RTMP)
        run &= ~(1u << CHECK_TCP);
    if (now->mono_ms < w->loop_due_ms)
        run &= ~(1u << CHECK_LOOP);
    w->running = run;
    w->round_ms = now->mono_ms;
    w->failed = w->unknown = false;
    w->round = (struct check_result){0};
    if (!(run & 1u << CHECK_STAT))
        forget_report(w);
    if (run == 0)
        w->next_ms = now->mono_ms + policy->interval_ms;
    return run;
}

/* ---- what stat says ---- */

/* The start of the process is of the wall clock, and moves with it when that is set. */
static void follow_clock(struct node_watch *w, const struct watch_time *now)
{
    struct node_status *st = &w->status;
    const int64_t ahead_ms = (int64_t)now->wall_ms - (int64_t)now->mono_ms;
    const int64_t step = w->clock_known ? ahead_ms - w->clock_ahead_ms : 0;
    const bool is_set = step > SAME_START_MS || step < -SAME_START_MS;
    if (is_set || !w->clock_known)
        w->clock_ahead_ms = ahead_ms;
    w->clock_known = true;
    if (is_set)
        w->started_before_ms = st->process_started_ms;
    if (is_set && st->process_started_ms != 0)
        st->process_started_ms = (uint64_t)((int64_t)st->process_started_ms + step);
    if (st->process_started_ms > now->wall_ms) /* from a healthd before us, and before it was set */
        st->process_started_ms = now->wall_ms;
}

void node_watch_readdressed(struct node_watch *w)
{
    w->elsewhere = true;
    w->input_known = false;
}

static void begin_elsewhere(struct node_watch *w, uint32_t pid, uint64_t uptime_ms,
                            uint64_t started_ms)
{
    w->elsewhere = false;
    w->pids.fresh_count = 0;
    begin_generation(&w->pids, pid);
    w->started_before_ms = 0;
    w->uptime_ms = uptime_ms;
    w->uptime_known = true;
    w->status.pid = pid;
    w->status.process_started_ms = started_ms;
}

/* Several workers of one generation answer in turn, each at random. With so many answers for each
 * new one, and none of an old one, the old ones are gone. */
static bool has_replaced(struct generation_pids *p, uint32_t pid, uint64_t uptime_ms,
                         uint64_t now_ms)
{
    if (has_pid(p->known, p->known_count, pid)) {
        if (p->fresh_count > 0 && now_ms - p->fresh_ms < LEAVING_MS)
            return false; /* it may be on its way out */
        for (uint32_t i = 0; i < p->fresh_count && p->known_count < GENERATION_PIDS; i++)
            p->known[p->known_count++] = p->fresh[i];
        p->fresh_count = p->answers = 0;
        return false;
    }
    const bool first = !has_pid(p->fresh, p->fresh_count, pid);
    if (first && uptime_ms > YOUNG_MS) { /* a worker that takes a connection rarely */
        if (p->known_count < GENERATION_PIDS)
            p->known[p->known_count++] = pid;
        return false;
    }
    if (p->fresh_count == 0)
        p->fresh_ms = now_ms;
    if (first && p->fresh_count == GENERATION_PIDS)
        return false;
    if (first)
        p->fresh[p->fresh_count++] = pid;
    return ++p->answers >= ANSWERS_EACH * (p->fresh_count + 1);
}

/* With several processes per node any one of them may answer, so another pid alone says nothing: a
 * generation is new when its process started later than any before. One that started within
 * SAME_START_MS of those is known by its pid, in time. */
static uint32_t read_generation(struct node_watch *w, const struct stat_report *r, bool goes_on,
                                const struct watch_time *now)
{
    struct node_status *st = &w->status;
    if (r->pid == 0)
        return 0;
    follow_clock(w, now);
    const uint64_t started = now->wall_ms > r->uptime_ms ? now->wall_ms - r->uptime_ms : 0;
    if (w->elsewhere && st->generations > 0) {
        begin_elsewhere(w, r->pid, r->uptime_ms, started);
        return 0;
    }
    const bool same_pid = r->pid == st->pid;
    const bool grown = same_pid && ((w->uptime_known && r->uptime_ms >= w->uptime_ms) || goes_on);
    /* A node on this machine has its uptime by the clock that was set */
    const bool as_before = same_pid && started <= w->started_before_ms + SAME_START_MS &&
                           started + SAME_START_MS >= w->started_before_ms;
    if (as_before)
        st->process_started_ms = w->started_before_ms;
    const bool as_old = st->generations > 0 && started <= st->process_started_ms + SAME_START_MS;
    const bool known =
        (grown || as_old) && !has_replaced(&w->pids, r->pid, r->uptime_ms, now->mono_ms);
    if (same_pid || !known) {
        w->uptime_ms = r->uptime_ms;
        w->uptime_known = true;
    }
    if (known)
        return 0;
    begin_generation(&w->pids, r->pid);
    w->started_before_ms = 0;
    st->pid = r->pid;
    if (started > st->process_started_ms || !as_old)
        st->process_started_ms = started;
    st->generations++;
    return st->generations > 1 ? WATCH_RELOADED : 0;
}

static uint32_t read_report(struct node_watch *w, const struct stat_report *r,
                            const struct watch_time *now)
{
    struct node_status *st = &w->status;
    st->bandwidth_in = r->bandwidth_in;
    st->bandwidth_out = r->bandwidth_out;
    st->clients = r->clients;
    st->publishers = r->publishers;
    memcpy(st->version, r->version, sizeof st->version);
    w->apps_hash = r->apps_hash;
    /* since its process started, whatever its clock says */
    const bool goes_on = w->input_known && w->input_bytes > 0 && r->bytes_in >= w->input_bytes;
    if (r->bytes_in != w->input_bytes || r->publishers == 0 || !w->input_known) {
        w->input_known = true;
        w->input_bytes = r->bytes_in;
        w->input_moved_ms = now->mono_ms;
    }
    return read_generation(w, r, goes_on, now);
}

/* What was sent before the input stopped is heard of up to SENT_LATE_MS later, and says nothing. */
static bool is_stuck(const struct node_watch *w, const struct config_healthd *policy,
                     uint64_t mono_ms)
{
    const uint64_t after = policy->stuck_after_ms;
    return w->input_known && after > 0 && mono_ms - w->input_moved_ms >= after &&
           w->sent_grew_ms > w->input_moved_ms + SENT_LATE_MS &&
           mono_ms - w->sent_grew_ms < after + SENT_LATE_MS;
}

void node_watch_sent(struct node_watch *w, uint64_t bytes, uint64_t mono_ms)
{
    if (bytes > w->sent_bytes)
        w->sent_grew_ms = mono_ms;
    w->sent_bytes = bytes;
}

/* ---- verdict ---- */

/* result: what the round, or a router, has found. */
static uint32_t judge(struct node_watch *w, const struct config_healthd *policy,
                      const struct check_result *result, const struct watch_time *now)
{
    struct node_status *st = &w->status;
    st->checks++;
    st->failures += !result->good;
    const bool changed = verdict_step(&w->verdict, result->good, policy, now->wall_ms);
    st->flapping = verdict_held(&w->verdict, now->wall_ms);
    if (!changed)
        return 0;
    w->cause = *result;
    memcpy(st->reason, result->reason, sizeof st->reason);
    st->health = w->verdict.health;
    st->since_ms = w->verdict.since_ms;
    st->transitions++;
    if (!result->good)
        forget_load(st);
    return WATCH_VERDICT;
}

static uint32_t end_round(struct node_watch *w, const struct config_healthd *policy,
                          const struct watch_time *now)
{
    struct check_result *r = &w->round;
    if (w->unknown && !w->failed) { /* then nothing has been found */
        schedule(w, policy, now);
        return 0;
    }
    w->status.stuck = is_stuck(w, policy, now->mono_ms);
    if (!w->failed && w->status.stuck) {
        r->good = false;
        snprintf(r->reason, sizeof r->reason,
                 "stuck: its input has stood still for %llu ms while routers send to it",
                 (unsigned long long)(now->mono_ms - w->input_moved_ms));
    }
    w->status.checked_ms = now->wall_ms;
    const uint32_t changed = WATCH_ROUND_DONE | judge(w, policy, r, now);
    schedule(w, policy, now);
    return changed;
}

/* Which of the round's results speaks for it. */
static void keep_result(struct node_watch *w, const struct check_result *r)
{
    const bool worse = !r->good && (!w->failed || r->check < w->round.check);
    const bool better = r->good && !w->failed && (!w->round.good || r->check == CHECK_RTMP);
    if (worse || better)
        w->round = *r;
    w->failed |= !r->good;
}

uint32_t node_watch_result(struct node_watch *w, const struct config_healthd *policy,
                           const struct check_result *r, const struct stat_report *report,
                           const struct watch_time *now)
{
    uint32_t changed = 0;
    assert(w->running & 1u << r->check || r->check == CHECK_TCP);
    /* The rtmp check calls itself tcp when it came no further than that */
    const enum health_check began = w->running & 1u << r->check ? r->check : CHECK_RTMP;
    w->running &= ~(1u << began);
    if (r->ours)
        w->unknown = true;
    else
        keep_result(w, r);
    if (r->good && r->check == CHECK_RTMP)
        w->status.latency_us = r->latency_us;
    if (r->check == CHECK_LOOP &&
        !r->ours) /* once failed, it has to pass again before the node comes up */
        w->loop_due_ms = now->mono_ms + (r->good ? policy->loop_interval_ms : 0);
    if (report)
        changed = read_report(w, report, now);
    return w->running == 0 ? changed | end_round(w, policy, now) : changed;
}

void node_watch_skip(struct node_watch *w, enum health_check check)
{
    w->running &= ~(1u << check);
}

uint32_t node_watch_dial_failures(struct node_watch *w, const struct config_healthd *policy,
                                  uint64_t count, const struct watch_time *now)
{
    /* A node that is not checked would never come up again */
    const bool more = w->dial_known && count > w->dial_failures && w->status.checks > 0;
    w->dial_failures = count;
    w->dial_known = true;
    if (!more)
        return 0;
    if (w->running == 0)
        w->next_ms = now->mono_ms;
    static const struct check_result failed = {.check = CHECK_TCP,
                                               .reason = "dial: a router could not connect to it"};
    return WATCH_ROUND_DONE | judge(w, policy, &failed, now);
}
