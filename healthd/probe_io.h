/* healthd/probe_io.h - one check of one node: starts, and some time later, at the latest at its
 * deadline, tells what it found. tcp: connects. rtmp: handshake, connect, its _result. stat:
 * fetches and reads the statistics page. loop: publishes a tiny clip and plays it back. Owner:
 * whoever started it, until `done` was called; then it frees itself. Thread: the process's only
 * thread.   Errors: NULL: no memory.   Tests: tests/system/test_healthd.py */
#ifndef WEIR_HEALTHD_PROBE_IO_H
#define WEIR_HEALTHD_PROBE_IO_H

#include <ev.h>

#include "base/clock_io.h"
#include "base/run_clock.h"
#include "healthd/check.h"
#include "healthd/http.h"
#include "healthd/stat_report.h"
#include "rtmp/chunk_reader.h"

/* The same for all probes. */
struct probe_env {
    struct ev_loop *loop;
    struct run_clock clock; /* read at least every STORE_POLL_MS */
    struct block_pool blocks;
    struct rtmp_pool messages;
    struct rtmp_chunk_limits limits;
    uint8_t noise[RTMP_HANDSHAKE_BYTES];
    const struct config_healthd *policy; /* changes only while no probe runs */
};

/* The time that a node has for its answers. */
static inline uint64_t probe_now_ms(struct probe_env *env)
{
    return run_clock_ms(&env->clock, clock_mono_ms());
}

struct probe_target {
    const char *rtmp_text; /* host:port, for tcUrl and transcripts */
    struct sockaddr_storage rtmp;
    enum send_proxy send_proxy;
    struct http_url stat_url;
    struct sockaddr_storage stat;
};

/* report: what a good stat check has read, else NULL; the probe's own, as is r. */
typedef void probe_done(void *arg, const struct check_result *r, const struct stat_report *report);

struct probe {
    struct probe_env *env;
    const struct probe_target *target; /* outlives the probe */
    ev_timer deadline;
    uint64_t until_ms; /* by probe_now_ms() */
    bool over;         /* that has come; its node is listened to once more */
    struct check_result result;
    probe_done *done;
    void *arg;
    void (*on_deadline)(struct probe *p);
    void (*destroy)(struct probe *p);
};

MUST_CHECK struct probe *probe_start(enum health_check check, struct probe_env *env,
                                     const struct probe_target *target, probe_done *done,
                                     void *arg);
/* Ends it without calling done. NULL is allowed. */
void probe_cancel(struct probe *p);

/* ---- for the four kinds ---- */

MUST_CHECK struct probe *probe_tcp_start(struct probe_env *env, const struct probe_target *t);
MUST_CHECK struct probe *probe_rtmp_start(struct probe_env *env, const struct probe_target *t);
MUST_CHECK struct probe *probe_stat_start(struct probe_env *env, const struct probe_target *t);
MUST_CHECK struct probe *probe_loop_start(struct probe_env *env, const struct probe_target *t);

void probe_init(struct probe *p, enum health_check check, struct probe_env *env,
                const struct probe_target *target, uint64_t limit_ms);
/* A step for the transcript. */
void probe_note(struct probe *p, const char *format, ...) PRINTF_LIKE(2, 3);
/* Tells the outcome and destroys p. False, so that a handler can return it. */
bool probe_pass(struct probe *p, const struct stat_report *report);
bool probe_fail(struct probe *p, const char *format, ...) PRINTF_LIKE(2, 3);
/* Before probe_fail(): the connection failed with this errno. */
void probe_note_error(struct probe *p, int error);

#endif
