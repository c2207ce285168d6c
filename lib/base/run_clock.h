/* base/run_clock.h - the time in which a loop ran. It does not count the time in which the process
 * stood still (the machine was paused or swapped, others had the processors): what a peer has sent
 * meanwhile waits to be read, and what it waits for we have not sent, so that such time says
 * nothing of the peer. Limits on peers are judged by this clock. A loop that reads it whenever it
 * turns, at least every step_ms / 2, never leaves out more than that it did not run: from one
 * reading to the next it goes on by step_ms at most, and so it goes on also where each turn takes
 * longer. Begins as the monotonic clock, and is later slower than that, never faster.
 * Owner: the loop's; step_ms is set, the rest zero.   Tests: tests/unit/base/test_run_clock.c */
#ifndef WEIR_BASE_RUN_CLOCK_H
#define WEIR_BASE_RUN_CLOCK_H

#include <stdint.h>

struct run_clock {
    uint64_t step_ms;
    uint64_t mono_ms, run_ms; /* the last reading */
};

/* mono_ms: the monotonic clock now. */
uint64_t run_clock_ms(struct run_clock *c, uint64_t mono_ms);
/* How much has been left out so far. */
uint64_t run_clock_lost_ms(const struct run_clock *c);

#endif
