/* admin/server_io.h - the HTTP server: libmicrohttpd in our own loop, single-threaded. It turns connections into requests for admin/api.h and
 * replies into bytes, waits for commands, and feeds event streams.
 * A connection that does not get its request sent within admin.request_timeout is closed, and so is the one that has been slow for longest
 * when all admin.max_connections are taken: slow clients cannot keep others out.
 * Owner:  main().   Errors: `error` is a sentence for the operator.   Tests: tests/system/test_admin.py */
#ifndef WEIR_ADMIN_SERVER_IO_H
#define WEIR_ADMIN_SERVER_IO_H

#include "admin/api.h"

struct server;

/* Listens where a->config says. error: CONFIG_ERROR_MAX. */
MUST_CHECK enum err server_create(struct api *a, struct server **out, char *error);
/* To be waited for: readable when server_turn() has something to do. */
int server_descriptor(const struct server *s);
/* Milliseconds until server_turn() is due without that; at most max_ms. */
uint64_t server_wait_ms(const struct server *s, uint64_t max_ms);
void server_turn(struct server *s);
/* Ends all event streams: whoever is still allowed comes back. */
void server_end_streams(struct server *s);
/* Accepts nothing more; what is under way goes on. True: nothing is left. */
bool server_quiesce(struct server *s);
void server_destroy(struct server *s); /* NULL is allowed */

#endif
