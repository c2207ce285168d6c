/* admin/census.h - the cluster counted: nodes by state, sessions, processes. For /api/v1/cluster
 * and /metrics. Tests: tests/unit/admin/test_api.c */
#ifndef WEIR_ADMIN_CENSUS_H
#define WEIR_ADMIN_CENSUS_H

#include "admin/facts.h"

struct census {
    uint64_t nodes, nodes_enabled, nodes_drain, nodes_disabled, nodes_leaving;
    uint64_t nodes_up, nodes_down, nodes_unknown; /* of all, whatever their state */
    uint64_t streams;                             /* live */
    uint64_t sessions, publishers, players;       /* of the routers that are alive */
    uint64_t routers, workers, healthds, admins;  /* alive */
    uint64_t bandwidth_in, bandwidth_out;         /* bit/s, as the nodes see it */
    uint64_t nodes_version;
    uint64_t workers_behind; /* alive, but do not act on that version yet */
    bool panic;              /* so few nodes are up that streams are placed on all */
};

/* streams: from census_streams(). */
void census_take(const struct facts *f, const struct process_record *processes, uint32_t count,
                 uint64_t streams, const struct config_placement *policy, uint64_t now_ms,
                 struct census *out);
/* Of any kind; gone after 5 s without a heartbeat. */
bool census_alive(const struct process_record *p, uint64_t now_ms);
/* A weir-healthd that does not work has a record beside that of the one that does. */
bool census_stands_by(const struct process_record *p);

/* Live ones. The nodes' own counts have a stream that moves twice. */
MUST_CHECK enum err census_streams(struct store *s, uint64_t *out);
/* All process records, the dead ones too, in an array from malloc. */
MUST_CHECK enum err census_processes(struct store *s, struct process_record **out, uint32_t *count);

#endif
