/* load/histogram.c - see histogram.h. */
#include "bench/load/histogram.h"

/* Below 64 us one bucket each; above, the 6 bits behind the first one. */
static uint32_t bucket_of(uint64_t us)
{
    uint32_t shift = 0;
    while (us >> shift >= 2ull * HISTOGRAM_SUB)
        shift++;
    const uint64_t at = (uint64_t)shift * HISTOGRAM_SUB + (us >> shift);
    return at < HISTOGRAM_BUCKETS ? (uint32_t)at : HISTOGRAM_BUCKETS - 1;
}

static uint64_t value_of(uint32_t bucket)
{
    const uint32_t shift = bucket < 2 * HISTOGRAM_SUB ? 0 : bucket / HISTOGRAM_SUB - 1;
    return (uint64_t)(bucket - shift * HISTOGRAM_SUB) << shift;
}

void histogram_add(struct histogram *h, uint64_t us)
{
    h->count++;
    h->buckets[bucket_of(us)]++;
    if (us > h->max_us)
        h->max_us = us;
}

uint64_t histogram_quantile(const struct histogram *h, double share)
{
    uint64_t left = (uint64_t)((double)h->count * share);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (h->buckets[i] > left)
            return value_of(i);
        left -= h->buckets[i];
    }
    return h->max_us;
}
