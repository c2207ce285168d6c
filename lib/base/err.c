#include "base/err.h"

#include <assert.h>

static const char *const names[ERR_COUNT] = {
    [ERR_OK] = "ok",
    [ERR_NO_MEMORY] = "no_memory",
    [ERR_INVALID] = "invalid",
    [ERR_NOT_FOUND] = "not_found",
    [ERR_EXISTS] = "exists",
    [ERR_CONFLICT] = "conflict",
    [ERR_LIMIT] = "limit",
    [ERR_FULL] = "full",
    [ERR_IO] = "io",
    [ERR_TIMEOUT] = "timeout",
    [ERR_CORRUPT] = "corrupt",
    [ERR_VERSION] = "version",
};

const char *err_name(enum err e)
{
    assert((unsigned)e < ERR_COUNT);
    return names[e];
}
