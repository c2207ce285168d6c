/* router/access_io.h - the file of the keys that sign tokens (access.keys), and --new-token.
 * Errors: `error` (CONFIG_ERROR_MAX) says what is wrong, and nothing of a key. */
#ifndef WEIR_ROUTER_ACCESS_IO_H
#define WEIR_ROUTER_ACCESS_IO_H

#include "config/config.h"
#include "rtmp/stream_token.h"

/* *out is empty if no file is configured. ERR_IO: it cannot be read, or others than its owner and
 * group can; ERR_INVALID: what is in it. */
MUST_CHECK enum err access_keys_read(const struct config *config, struct signing_keys *out,
                                     char *error);
/* Prints "app/name?token=...&expires=..."; returns the exit code. kind: "publish" or "play"; time:
 * for how long, "24h". */
int access_new_token(const struct config *config, const char *kind, const char *stream,
                     const char *time);

#endif
