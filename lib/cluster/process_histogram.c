#include "cluster/process_histogram.h"

const uint32_t process_histogram_bounds_us[PROCESS_HISTOGRAM_BUCKETS] = {
    100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 500000, 2000000};

void process_histogram_add(struct process_histogram *h, uint64_t us)
{
    h->count++;
    h->sum_us += us;
    for (unsigned i = 0; i < PROCESS_HISTOGRAM_BUCKETS; i++) {
        if (us <= process_histogram_bounds_us[i]) {
            h->bucket[i]++;
            return;
        }
    }
}
