/* load/histogram.h - times in microseconds, kept to within 2 %: a counter for each 1/64 of a power
 * of two. Owner: caller, a plain value; all zero is empty. */
#ifndef WEIR_LOAD_HISTOGRAM_H
#define WEIR_LOAD_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_SUB = 64, HISTOGRAM_BUCKETS = HISTOGRAM_SUB * 30 };

struct histogram {
    uint64_t count, max_us;
    uint32_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t us);
/* The value that `share` (0..1) of all do not exceed; 0 if there are none. */
uint64_t histogram_quantile(const struct histogram *h, double share);

#endif
