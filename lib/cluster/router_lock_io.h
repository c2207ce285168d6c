/* cluster/router_lock_io.h - of the routers with one router.id one takes clients at a time, and no
 * two workers have one slot: the second one would take the records of the first one for what the
 * dead have left, and remove them. The locks are on a file in cluster.live. The id's goes with the
 * process that took it; the slots' are inherited, and held until the last child has ended: one that
 * starts while its predecessor's sessions end has other slots.   Tests: tests/system/test_process.py
 */
#ifndef WEIR_CLUSTER_ROUTER_LOCK_IO_H
#define WEIR_CLUSTER_ROUTER_LOCK_IO_H

#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

/* live: the directory, which is made if need be. *first_slot: of as many as there are workers. *fd:
 * to be closed when others may have the id. ERR_CONFLICT: another process has it, or there are not
 * so many slots left; ERR_IO, ERR_INVALID: the file cannot be used. error, of CONFIG_ERROR_MAX
 * bytes, says so. */
MUST_CHECK enum err router_lock_take(const char *live, const char *router, uint32_t workers,
                                     uint32_t *first_slot, int *fd, char *error);

#endif
