/* healthd/rounds_io.h - watches every node of the list: runs its rounds of checks when they are
 * due, logs and stores what comes of them. One log line per change of verdict, generation or skew;
 * nothing per check. Owner:  struct healthd.   Thread: the process's only thread.   Tests:
 * tests/system/test_healthd.py */
#ifndef WEIR_HEALTHD_ROUNDS_IO_H
#define WEIR_HEALTHD_ROUNDS_IO_H

#include "healthd/healthd_io.h"

/* False: no random numbers to be had. */
MUST_CHECK bool rounds_init(struct healthd *h);
void rounds_deinit(struct healthd *h);
/* The configuration is another one: running checks start anew. Called before the old one is
 * destroyed. */
void rounds_set_config(struct healthd *h, const struct config *config);
/* Watches the nodes of h->nodes, and no others; a new one goes on with the status that is stored.
 */
void rounds_set_nodes(struct healthd *h);
/* Watches none any more; forgets all. */
void rounds_stop(struct healthd *h);

/* Writes what is new into the store. Often. */
void rounds_flush(struct healthd *h);
/* Reads which nodes routers could not dial. Several times a second. */
void rounds_read_dial_failures(struct healthd *h);
/* Reads what publishers have sent. Every few seconds. */
void rounds_read_sent(struct healthd *h);

#endif
