/* healthd/node_watch.h - one node under watch: when its next round of checks is due, what the
 * results mean, its generation, whether it is stuck. Pure; healthd/rounds_io.c runs the checks and
 * writes what comes out. Round: every healthd.interval, give or take 10 %; healthd.fast_interval
 * while the verdict is in the balance. All its checks run at once and must all pass. The tcp check
 * is the first half of the rtmp check where both are asked for. Times:  struct watch_time:
 * monotonic for what is due, Unix time for records. Tests:  tests/unit/healthd/test_node_watch.c */
#ifndef WEIR_HEALTHD_NODE_WATCH_H
#define WEIR_HEALTHD_NODE_WATCH_H

#include "healthd/check.h"
#include "healthd/stat_report.h"
#include "healthd/verdict.h"

struct watch_time {
    uint64_t mono_ms, wall_ms;
};

/* What changed, to be logged and stored. */
enum {
    WATCH_ROUND_DONE = 1u << 0, /* status has news */
    WATCH_VERDICT = 1u << 1,    /* health is another one */
    WATCH_RELOADED = 1u << 2,   /* a new generation */
};

enum { GENERATION_PIDS = 16 };

/* The processes of a node that have answered, as far as their starts do not tell two generations
 * apart: those of an earlier one never answer again. */
struct generation_pids {
    uint32_t known[GENERATION_PIDS], fresh[GENERATION_PIDS]; /* fresh: since fresh_ms only */
    uint32_t known_count, fresh_count;
    uint32_t answers; /* of fresh ones, since a known one has answered */
    uint64_t fresh_ms;
};

struct node_watch {
    struct verdict verdict;
    struct node_status status;
    uint32_t running; /* checks begun and not ended, a bit each */
    bool failed;      /* one of this round's */
    bool unknown;     /* one of them could not be made, for what this machine lacks */
    struct check_result
        round; /* the first that failed, in the order of enum health_check; else a good one */
    struct check_result cause;  /* of the verdict */
    uint64_t round_ms, next_ms; /* monotonic: when the round began, when the next one is due */
    uint64_t loop_due_ms;
    uint64_t random; /* state of the jitter */

    uint64_t dial_failures; /* as last read */
    bool dial_known;        /* dial_failures is a base to count from */

    uint64_t apps_hash;
    uint64_t uptime_ms; /* of the process of this generation, when it was last asked */
    bool uptime_known;
    bool elsewhere; /* at another address since the last report */
    struct generation_pids pids;
    uint64_t started_before_ms; /* status.process_started_ms, before our clock was set */
    int64_t clock_ahead_ms;     /* the wall clock, of the monotonic one */
    bool clock_known;
    bool input_known;                     /* stat is among the checks, and has answered */
    uint64_t input_bytes, input_moved_ms; /* by the node's own word; monotonic */
    uint64_t sent_bytes, sent_grew_ms;    /* by the routers' word */
};

/* stored: what the last healthd knew, or NULL. The first round is due at once, spread over
 * fast_interval. */
void node_watch_init(struct node_watch *w, const char *id, const struct node_status *stored,
                     const struct config_healthd *policy, uint64_t seed, uint64_t mono_ms);

/* The node is at another address: whatever process is there begins no new generation. */
void node_watch_readdressed(struct node_watch *w);

/* The checks to run now, a bit each; 0: none is possible, and the next round is scheduled.
 * possible: those that have an address. Calls for each node_watch_result(). */
MUST_CHECK uint32_t node_watch_begin(struct node_watch *w, const struct config_healthd *policy,
                                     uint32_t possible, const struct watch_time *now);
/* One check is over. report: of a good stat check, else NULL. Returns WATCH_*. */
MUST_CHECK uint32_t node_watch_result(struct node_watch *w, const struct config_healthd *policy,
                                      const struct check_result *r,
                                      const struct stat_report *report,
                                      const struct watch_time *now);
/* The check that was begun will not be ended: another one has failed, which decides the round. */
void node_watch_skip(struct node_watch *w, enum health_check check);
/* count: dials that failed in all, as the routers report. More than before count as one failed
 * round, and the next round is due now. Returns WATCH_*. */
MUST_CHECK uint32_t node_watch_dial_failures(struct node_watch *w,
                                             const struct config_healthd *policy, uint64_t count,
                                             const struct watch_time *now);
/* What publishers have sent towards the node in all; only growth matters. */
void node_watch_sent(struct node_watch *w, uint64_t bytes, uint64_t mono_ms);

#endif
