/* cluster/router_lock_io.h - of the routers with one router.id one runs at a time: a second one's
 * workers would take the records of the first one's for what the dead have left, and remove them.
 * The lock is on a file in cluster.live and goes with the process that took it; children do not
 * have it.   Tests: tests/system/test_process.py */
#ifndef WEIR_CLUSTER_ROUTER_LOCK_IO_H
#define WEIR_CLUSTER_ROUTER_LOCK_IO_H

#include "base/attr.h"
#include "base/err.h"

/* live: the directory, which is made if need be. *fd: to be closed when others may have the id.
 * ERR_CONFLICT: another process has it; ERR_IO, ERR_INVALID: the file cannot be used. error, of
 * CONFIG_ERROR_MAX bytes, says so. */
MUST_CHECK enum err router_lock_take(const char *live, const char *router, int *fd, char *error);

#endif
