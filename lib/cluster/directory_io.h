/* cluster/directory_io.h - the directories of the store, made when they are first needed. */
#ifndef WEIR_CLUSTER_DIRECTORY_IO_H
#define WEIR_CLUSTER_DIRECTORY_IO_H

#include "base/attr.h"
#include "base/err.h"
#include "config/config.h"

/* Makes path and what is missing above it. ERR_INVALID: it cannot be one's name. ERR_IO: errno, and
 * failed is the directory that could not be made. */
MUST_CHECK enum err directory_make(const char *path, char failed[CONFIG_PATH_MAX]);

#endif
