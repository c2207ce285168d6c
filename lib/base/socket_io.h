/* base/socket_io.h - what a stream socket brings goes into blocks; pieces of them leave.
 * Owner:  whoever has the socket has an intake for it; zero is an empty one.
 * Thread: the pool's.
 * Errors: as read(2) and send(2) have them, in errno; ENOMEM also where the pool's bound is met.
 * Tests:  tests/unit/base/test_socket.c */
#ifndef WEIR_BASE_SOCKET_IO_H
#define WEIR_BASE_SOCKET_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "base/block.h"

struct intake {
    struct block *block; /* being read into, while somebody refers to what is in it */
    uint32_t cap;        /* of the next block; 0: BLOCK_BYTES */
    uint32_t filled;     /* bytes of blocks left since then */
    uint64_t since_ms;   /* when cap was last chosen; monotonic */
};

/* Reads once. The bytes read; 0: the end; -1: errno. *out: where they are. *more: there was no room
 * for more of them, so there may be more. *spare: a standard block ready for use, or NULL.
 * A stream that takes long to fill its blocks gets smaller ones: those that are kept of it are then
 * not mostly empty. */
MUST_CHECK ssize_t intake_read(struct intake *in, struct block_pool *pool, struct block **spare,
                               int fd, struct slice *out, bool *more);
/* A block that nobody refers to goes back, so that idle sessions hold none. */
void intake_rest(struct intake *in, struct block **spare);
void intake_close(struct intake *in);

/* An option that costs only speed where it cannot be set. */
void socket_set(int fd, int level, int option, int value);

/* Whether it is ready to be written to now, or has failed: a connection that was being made has
 * come to its end. */
MUST_CHECK bool socket_writable(int fd);

/* What this machine has too little of (descriptors, memory, local ports) is no fault of the peer's. */
MUST_CHECK bool socket_error_is_ours(int error);

/* Sends count pieces as sendmsg() does, without waiting and without SIGPIPE. */
MUST_CHECK ssize_t socket_send(int fd, struct iovec *iov, size_t count);

#endif
