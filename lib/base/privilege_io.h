/* base/privilege_io.h - gives up what a daemon does not need once it has its sockets. */
#ifndef WEIR_BASE_PRIVILEGE_IO_H
#define WEIR_BASE_PRIVILEGE_IO_H

#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"

/* A process of root's becomes `user`, with that one's groups and without a way back; "" or not
 * root: it stays who it is. In any case no program that it runs gets privileges that it does not
 * have. ERR_NOT_FOUND, ERR_IO: error says why; the process must end then. */
MUST_CHECK enum err privilege_drop(const char *user, char *error, size_t cap);

#endif
