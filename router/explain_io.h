/* router/explain_io.h - "where would this stream go, and why": the look-up that the router itself
 * makes, in words. Reads the configuration and, if there is one, the store; changes nothing. */
#ifndef WEIR_ROUTER_EXPLAIN_IO_H
#define WEIR_ROUTER_EXPLAIN_IO_H

#include "config/config.h"

/* Prints to standard output; returns the exit code. */
int explain_stream(const struct config *config, const char *stream);

#endif
