#define _GNU_SOURCE
#include "base/socket_io.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock_io.h"
#include "base/limits.h"

enum {
    MIN_ROOM = 4096,               /* less than this left in a block: take another */
    SMALL_BLOCK_BYTES = 32 * 1024, /* a frame of a slow stream */
    BLOCK_LASTS_MS = 1000,         /* what is kept of a stream is a few seconds */
    GATHER_BYTES = 1024,           /* copied into one piece: costs less than to hand over several */
};

void socket_set(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof value);
}

/* ---- reading ---- */

/* As large a block comes next as the peer fills in BLOCK_LASTS_MS. A frame may fill several at
 * once: what comes in less time says something only if it is much. */
static void choose_cap(struct intake *in)
{
    const uint64_t took_ms = clock_mono_ms() - in->since_ms;
    if (took_ms < BLOCK_LASTS_MS && in->filled < BLOCK_BYTES)
        return;
    const uint64_t cap = (uint64_t)in->filled * BLOCK_LASTS_MS / (took_ms + 1);
    in->cap = cap < SMALL_BLOCK_BYTES ? SMALL_BLOCK_BYTES
              : cap < BLOCK_BYTES     ? (uint32_t)cap
                                      : BLOCK_BYTES;
    in->filled = 0;
    in->since_ms += took_ms;
}

static void leave_full_block(struct intake *in)
{
    in->filled += in->block->cap;
    choose_cap(in);
    block_unref(in->block);
    in->block = NULL;
}

static bool take_block(struct intake *in, struct block_pool *pool, struct block **spare)
{
    const uint32_t cap = in->cap ? in->cap : BLOCK_BYTES;
    if (cap == BLOCK_BYTES && *spare) {
        in->block = *spare;
        *spare = NULL;
    } else {
        in->block = block_create(pool, cap);
    }
    if (in->since_ms == 0)
        in->since_ms = clock_mono_ms();
    return in->block != NULL;
}

ssize_t intake_read(struct intake *in, struct block_pool *pool, struct block **spare, int fd,
                    struct slice *out, bool *more)
{
    if (in->block && in->block->cap - in->block->used < MIN_ROOM)
        leave_full_block(in);
    if (!in->block && !take_block(in, pool, spare)) {
        errno = ENOMEM;
        return -1;
    }
    struct block *b = in->block;
    const size_t room = b->cap - b->used;
    const ssize_t n = recv(fd, b->data + b->used, room, MSG_DONTWAIT);
    *more = n > 0 && (size_t)n == room;
    if (n > 0) {
        *out = (struct slice){.block = b, .off = b->used, .len = (uint32_t)n};
        b->used += (uint32_t)n;
    }
    return n;
}

void intake_rest(struct intake *in, struct block **spare)
{
    struct block *b = in->block;
    if (!b || b->refs > 1)
        return;
    in->block = NULL;
    in->filled += b->used;
    if (in->filled >= BLOCK_BYTES)
        choose_cap(in);
    b->used = 0;
    if (!*spare && b->cap == BLOCK_BYTES)
        *spare = b;
    else
        block_unref(b);
}

void intake_close(struct intake *in)
{
    block_unref(in->block);
    *in = (struct intake){0};
}

/* ---- writing ---- */

bool socket_writable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, 0) > 0;
}

ssize_t socket_send(int fd, struct iovec *iov, size_t count)
{
    uint8_t gathered[GATHER_BYTES];
    size_t bytes = 0;
    for (size_t i = 0; i < count && bytes <= sizeof gathered; i++)
        bytes += iov[i].iov_len;
    if (count > 1 && bytes > sizeof gathered) {
        const struct msghdr m = {.msg_iov = iov, .msg_iovlen = count};
        return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (count == 1)
        return send(fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    size_t at = 0;
    for (size_t i = 0; i < count; at += iov[i++].iov_len)
        memcpy(gathered + at, iov[i].iov_base, iov[i].iov_len);
    return send(fd, gathered, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool socket_error_is_ours(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
           error == EADDRNOTAVAIL;
}
