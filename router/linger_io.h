/* router/linger_io.h - closes connections to nodes without losing what is on its way. A node that
 * is behind still has to read what the kernel holds; it answers our pings meanwhile, and a socket
 * that is closed takes that for a reason to give everything up.
 * Owner:  the worker. Errors: without memory it is closed at once.
 * Tests:  tests/system/test_publishers.py */
#ifndef WEIR_ROUTER_LINGER_IO_H
#define WEIR_ROUTER_LINGER_IO_H

#include "router/worker_io.h"

/* fd is closed: at once if the node has acknowledged all, else when it has, and has closed its side,
 * after 5 s at the latest. */
void linger_close(struct worker *w, int fd);
/* The worker ends: all of them at once. */
void linger_end(struct worker *w);

#endif
