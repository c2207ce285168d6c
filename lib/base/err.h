/* base/err.h - the outcomes of fallible functions. ERR_OK is 0; out-parameters change on ERR_OK only. */
#ifndef WEIR_BASE_ERR_H
#define WEIR_BASE_ERR_H

enum err {
    ERR_OK = 0,
    ERR_NO_MEMORY, /* allocation failed, or a memory bound was met */
    ERR_INVALID,   /* the argument or input is not of the form asked for */
    ERR_NOT_FOUND,
    ERR_EXISTS,
    ERR_CONFLICT, /* somebody else changed it first: read again */
    ERR_LIMIT,    /* a hard limit of base/limits.h or the key table */
    ERR_FULL,     /* no room now; may be retried later */
    ERR_IO,       /* the operating system refused; errno tells why */
    ERR_TIMEOUT,
    ERR_CORRUPT, /* stored data is not what was written */
    ERR_VERSION, /* stored by an incompatible version */
};
enum { ERR_COUNT = ERR_VERSION + 1 };

/* "ok", "no_memory", ...: stable, for logs. */
const char *err_name(enum err e);

/* What a pure parser says of the bytes it was given. */
enum parse_result { PARSE_OK = 0, PARSE_NEED_MORE, PARSE_BAD };

#endif
