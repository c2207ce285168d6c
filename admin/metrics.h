/* admin/metrics.h - the metrics in Prometheus' text format 0.0.4, from one table (admin/metrics.c): name, kind, help, field. Labels are node,
 * worker, kind, reason, phase, and what an _info has; never a stream's name, a session or an address; never node with worker.
 * Source: prometheus.io, "Exposition formats", "Metric and label naming".   Tests: tests/unit/admin/test_metrics.c */
#ifndef WEIR_ADMIN_METRICS_H
#define WEIR_ADMIN_METRICS_H

#include "admin/census.h"

struct metrics_cluster {
    struct census census;
    uint64_t panic;
    uint64_t store_up, requests, connections, event_streams; /* this process's own: known without the store */
};

struct metrics_facts {
    const struct facts *facts; /* NULL: the store cannot be read */
    const struct process_record *processes;
    uint32_t process_count;
    uint64_t now_ms;
    struct metrics_cluster cluster;
};

/* From malloc, *len without the NUL; NULL: no memory. */
char *metrics_write(const struct metrics_facts *f, size_t *len);
/* docs/metrics.md's table, from the rows alone; from malloc. */
char *metrics_reference(void);

#endif
