/* router/parent_io.h - the process that keeps the workers running: binds the sockets, forks a
 * worker per slot, replaces dead ones, kills hung ones, checks and hands on a new configuration. It
 * never opens the store. */
#ifndef WEIR_ROUTER_PARENT_IO_H
#define WEIR_ROUTER_PARENT_IO_H

#include "config/config.h"

/* Runs until told to stop; returns the exit code. Takes over config; path is read again at SIGHUP.
 */
int parent_run(const char *path, struct config *config);

#endif
