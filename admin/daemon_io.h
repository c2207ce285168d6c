/* admin/daemon_io.h - weir-admin as a process: signals, heartbeat, reload, the loop around the server. */
#ifndef WEIR_ADMIN_DAEMON_IO_H
#define WEIR_ADMIN_DAEMON_IO_H

#include "admin/tokens.h"
#include "config/config.h"

/* The file of admin.tokens; without one everybody on the machine may do everything. ERR_INVALID, ERR_IO: error (CONFIG_ERROR_MAX) says why. */
MUST_CHECK enum err daemon_read_tokens(const struct config *config, struct tokens *out, char *error);
/* Runs until SIGTERM; takes over config. The exit code. */
int daemon_run(const char *path, struct config *config);

#endif
