/* cluster/store_outage.h - whether the store fails, as the log says it: once when it begins, and
 * once when it is over. While a disk or a map is full some writes fail, others do not, and reads
 * never do: so it is over when calls succeed and none has failed for longer than it takes until
 * whatever is written regularly is tried again. Zero-initialised.   Tests:
 * tests/unit/cluster/test_store_outage.c */
#ifndef WEIR_CLUSTER_STORE_OUTAGE_H
#define WEIR_CLUSTER_STORE_OUTAGE_H

#include <stdbool.h>
#include <stdint.h>

enum { STORE_QUIET_MS = 15000 };

struct store_outage {
    bool on;
    uint64_t failed_ms; /* the last call that did */
};

/* A call has failed. True: that is news. */
bool store_outage_failed(struct store_outage *o, uint64_t now_ms);
/* A call has succeeded. True: it is over with that. */
bool store_outage_worked(struct store_outage *o, uint64_t now_ms);

#endif
