/* router/reconcile_io.h - after the store could not be written (disk full): what it still says of
 * this worker and is over, goes, where streams of ours are by now is written, and publishers that
 * were placed meanwhile get their claims. Owner:  nothing outlives the call.   Thread: the worker's
 * only thread. Errors: what cannot be done now is done at the next call.   Tests:
 * tests/system/test_failures.py, test_soak.py */
#ifndef WEIR_ROUTER_RECONCILE_IO_H
#define WEIR_ROUTER_RECONCILE_IO_H

#include "router/worker_io.h"

/* Once a second, while w->store_missed; at the next poll already when it sets w->missed_more: there
 * is more to write than in a call. */
void reconcile(struct worker *w);

#endif
