/* cluster/process_histogram.h - how long something took, counted in buckets that are the same
 * everywhere, so that those of several processes can be added up.   Tests:
 * tests/unit/cluster/test_process_histogram.c */
#ifndef WEIR_CLUSTER_PROCESS_HISTOGRAM_H
#define WEIR_CLUSTER_PROCESS_HISTOGRAM_H

#include <stdint.h>

enum { PROCESS_HISTOGRAM_BUCKETS = 12 };
/* Upper bounds, inclusive. What took longer than the last is in count only. */
extern const uint32_t process_histogram_bounds_us[PROCESS_HISTOGRAM_BUCKETS];
/* Of the gaps of re-homed players, which last from nothing (make before break) over failover.stall
 * to failover.give_up. */
extern const uint32_t process_gap_bounds_us[PROCESS_HISTOGRAM_BUCKETS];

struct process_histogram {
    uint64_t bucket[PROCESS_HISTOGRAM_BUCKETS]; /* each counts its own: not cumulative */
    uint64_t count, sum_us;
};

void process_histogram_add(struct process_histogram *h, uint64_t us);
void process_histogram_add_gap(struct process_histogram *h, uint64_t us);

#endif
