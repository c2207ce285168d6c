#include "cluster/process_histogram.h"

const uint32_t process_histogram_bounds_us[PROCESS_HISTOGRAM_BUCKETS] = {
    100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 500000, 2000000};

const uint32_t process_gap_bounds_us[PROCESS_HISTOGRAM_BUCKETS] = {
    10000,   25000,   50000,   100000,  250000,   500000,
    1000000, 2000000, 3000000, 5000000, 10000000, 30000000};

static void add(struct process_histogram *h, const uint32_t bounds_us[PROCESS_HISTOGRAM_BUCKETS],
                uint64_t us)
{
    h->count++;
    h->sum_us += us;
    for (unsigned i = 0; i < PROCESS_HISTOGRAM_BUCKETS; i++) {
        if (us <= bounds_us[i]) {
            h->bucket[i]++;
            return;
        }
    }
}

void process_histogram_add(struct process_histogram *h, uint64_t us)
{
    add(h, process_histogram_bounds_us, us);
}

void process_histogram_add_gap(struct process_histogram *h, uint64_t us)
{
    add(h, process_gap_bounds_us, us);
}
