#include "healthd/probe_io.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/socket_io.h"

enum { HEAR_MS = 10 };

static void set_deadline(struct probe *p, uint64_t wait_ms)
{
    ev_now_update(p->env->loop); /* it counts from now, not from the beginning of this turn */
    ev_timer_set(&p->deadline, (double)wait_ms / 1000.0, 0.0);
    ev_timer_start(p->env->loop, &p->deadline);
}

/* It comes too early where we did not run meanwhile; and before what has come to the sockets: that
 * is heard first. */
static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct probe *p = timer->data;
    const uint64_t now_ms = probe_now_ms(p->env);
    if (now_ms < p->until_ms) {
        set_deadline(p, p->until_ms - now_ms);
        return;
    }
    if (!p->over) {
        p->over = true;
        set_deadline(p, HEAR_MS);
        return;
    }
    probe_note(p, "time is up");
    p->on_deadline(p);
}

void probe_init(struct probe *p, enum health_check check, struct probe_env *env,
                const struct probe_target *target, uint64_t limit_ms)
{
    p->env = env;
    p->target = target;
    p->result.check = check;
    transcript_init(&p->result.transcript, clock_mono_us());
    p->until_ms = probe_now_ms(env) + limit_ms;
    ev_timer_init(&p->deadline, on_deadline, 0.0, 0.0);
    p->deadline.data = p;
    set_deadline(p, limit_ms);
}

struct probe *probe_start(enum health_check check, struct probe_env *env,
                          const struct probe_target *target, probe_done *done, void *arg)
{
    static struct probe *(*const start[HEALTH_CHECK_COUNT])(struct probe_env *,
                                                            const struct probe_target *) = {
        [CHECK_TCP] = probe_tcp_start,
        [CHECK_RTMP] = probe_rtmp_start,
        [CHECK_STAT] = probe_stat_start,
        [CHECK_LOOP] = probe_loop_start,
    };
    struct probe *p = start[check](env, target);
    if (p) {
        p->done = done;
        p->arg = arg;
    }
    return p;
}

void probe_cancel(struct probe *p)
{
    if (!p)
        return;
    ev_timer_stop(p->env->loop, &p->deadline);
    p->destroy(p);
}

void probe_note(struct probe *p, const char *format, ...)
{
    char text[TRANSCRIPT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    transcript_add(&p->result.transcript, clock_mono_us(), "%s", text);
}

void probe_note_error(struct probe *p, int error)
{
    p->result.ours = socket_error_is_ours(error);
}

bool probe_pass(struct probe *p, const struct stat_report *report)
{
    p->result.good = true;
    p->result.latency_us = (uint32_t)(clock_mono_us() - p->result.transcript.started_us);
    p->done(p->arg, &p->result, report);
    probe_cancel(p);
    return false;
}

bool probe_fail(struct probe *p, const char *format, ...)
{
    char text[STATUS_REASON_MAX - 8];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(p->result.reason, sizeof p->result.reason, "%s: %s",
             health_check_name(p->result.check), text);
    p->done(p->arg, &p->result, NULL);
    probe_cancel(p);
    return false;
}
