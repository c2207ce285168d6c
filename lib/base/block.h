/* base/block.h - reference-counted memory blocks that sockets are read into, and slices of them.
 * Payload is never copied on its way through: it stays in the block it was received into until the
 * last slice of it is released.
 * Owner:  one block_pool per worker; it outlives every block made from it (deinit asserts so).
 * Thread: the process's only thread; counts are not atomic.
 * Memory: free blocks of a size are kept for reuse: an eighth as many as are live, or some
 *         megabytes if that is more (base/limits.h); max_bytes does not count them. The rest goes
 *         to libc.
 * Errors: creation gives NULL when memory is short or the pool's bound is met.
 * Tests:  tests/unit/base/test_block.c */
#ifndef WEIR_BASE_BLOCK_H
#define WEIR_BASE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct block_pool;

struct block {
    uint32_t refs;
    uint32_t cap;  /* bytes of data[] */
    uint32_t used; /* bytes filled so far; only the owner that reads into it advances this */
    uint32_t kept; /* slices of it that a stream's memory counts (router/stream_keep.h) */
    struct block_pool *pool;
    struct block *next_free;
    uint8_t data[];
};

enum { BLOCK_CLASSES = 10 }; /* powers of two, the last one is BLOCK_BYTES */

struct block_pool {
    struct block *free[BLOCK_CLASSES]; /* ready for use, by size */
    uint32_t free_count[BLOCK_CLASSES], live_count[BLOCK_CLASSES];
    uint64_t live_bytes; /* caps of all blocks that somebody holds */
    uint64_t max_bytes;  /* bound on live_bytes; 0: none */
};

/* A part of a block; holds one reference of it. */
struct slice {
    struct block *block;
    uint32_t off, len;
};

/* Three quarters are in use: what could be done without goes, so that the rest can go on. */
static inline bool block_pool_is_short(const struct block_pool *pool)
{
    return pool->max_bytes != 0 && pool->live_bytes > pool->max_bytes / 4 * 3;
}
void block_pool_init(struct block_pool *pool, uint64_t max_bytes);
void block_pool_deinit(struct block_pool *pool); /* frees the free blocks; no block may be live */

/* A block with one reference and at least cap bytes of room: up to BLOCK_BYTES rounded up to a
 * power of two and taken from a free list, larger ones exact and from libc. NULL: no memory, or the
 * bound is met. */
MUST_CHECK struct block *block_create(struct block_pool *pool, uint32_t cap);
struct block *block_ref(struct block *b); /* returns b */
void block_unref(struct block *b);        /* NULL is allowed */

static inline const uint8_t *slice_data(const struct slice *s)
{
    return s->block->data + s->off;
}

#endif
