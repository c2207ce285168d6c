/* healthd/healthd_io.h - the daemon: its loop, its place among other healthds, its time. Of several
 * healthds the one with the lease works; the others wait. Started by main(). Owner:  healthd_run()
 * makes one on the heap; rounds_io.c has its part of it. Thread: the process's only thread. Tests:
 * tests/system/test_healthd.py */
#ifndef WEIR_HEALTHD_HEALTHD_IO_H
#define WEIR_HEALTHD_HEALTHD_IO_H

#include "cluster/store_outage.h"
#include "healthd/probe_io.h"

struct watch; /* one node: healthd/rounds_io.c */

/* The nodes and what is known of them; healthd/rounds_io.h. */
struct rounds {
    struct probe_env env;
    struct watch **watches; /* sorted by node id */
    uint32_t count;
    bool vhost;        /* stream keys have a host, which statistics pages do not tell */
    bool skew_changed; /* versions or applications have changed since they were compared */
    struct node_status batch[STORE_WRITE_RECORDS];
};

struct healthd {
    const char *path;
    struct config *config;
    struct log log;
    struct store *store;
    struct store_outage outage;
    struct node_table *nodes;
    struct rounds rounds;
    struct process_record process;
    bool active;                          /* has the lease */
    uint64_t holder, leased_ms;           /* monotonic; when the lease was last renewed */
    uint64_t watchdog_ms, watchdog_at_ms; /* systemd's; 0: none */
    uint64_t shortage_ms; /* when a line said last that checks cannot be made; monotonic */
    uint32_t ticks;
    struct ev_loop *loop;
    ev_timer poll, tick;
    ev_signal hup, term, interrupt;
};

/* Runs until SIGTERM; takes config. Returns the exit code. */
int healthd_run(const char *path, struct config *config);
/* It has the lease. False after a long stop of this process: another one may work meanwhile. */
bool healthd_works(const struct healthd *h);
/* Logs that the store fails and that it has recovered (cluster/store_outage.h). True: e is ERR_OK.
 */
bool healthd_store_ok(struct healthd *h, enum err e, const char *what);
/* Before what may block for some seconds. */
void healthd_ping_watchdog(struct healthd *h);

#endif
