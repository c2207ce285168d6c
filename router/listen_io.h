/* router/listen_io.h - the listening sockets. The parent makes one per listener and worker slot
 * (SO_REUSEPORT) and keeps them across a worker's death: a closed one would reset the connections
 * in its queue. Errors: a sentence for the operator in error (CONFIG_ERROR_MAX). */
#ifndef WEIR_ROUTER_LISTEN_IO_H
#define WEIR_ROUTER_LISTEN_IO_H

#include "config/config.h"

struct listen_set {
    int fds[LISTENERS_MAX][WORKERS_MAX]; /* -1: none */
    uint32_t listeners, workers;
};

/* An address that something else holds is an error, not a silent share of its connections. */
MUST_CHECK enum err listen_open(const struct config *c, uint32_t workers, struct listen_set *out,
                                char *error);
/* Closes all sockets but those of slot `keep` (WORKERS_MAX: keeps none). */
void listen_close(struct listen_set *set, uint32_t keep);

#endif
