/* base/block.c - see block.h. */
#include "base/block.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/limits.h"

enum { CLASS_SMALLEST_BYTES = BLOCK_BYTES >> (BLOCK_CLASSES - 1) };

static uint32_t class_bytes(uint32_t class)
{
    return (uint32_t)CLASS_SMALLEST_BYTES << class;
}

/* The smallest class that has room for cap; BLOCK_CLASSES if none has. */
static uint32_t class_for(uint32_t cap)
{
    uint32_t class = 0;
    while (class < BLOCK_CLASSES && class_bytes(class) < cap)
        class ++;
    return class;
}

/* Where many are live many come and go: those that went to libc would be split, and new memory be
 * taken from the system. */
static uint32_t class_keep(const struct block_pool *pool, uint32_t class)
{
    const uint32_t fit = BLOCK_POOL_KEEP_BYTES / class_bytes(class);
    const uint32_t least = fit < BLOCK_POOL_KEEP ? fit : BLOCK_POOL_KEEP;
    const uint32_t share = pool->live_count[class] / BLOCK_POOL_SHARE;
    return share > least ? share : least;
}

static void class_free_one(struct block_pool *pool, uint32_t class)
{
    struct block *b = pool->free[class];
    pool->free[class] = b->next_free;
    pool->free_count[class]--;
    free(b);
}

void block_pool_init(struct block_pool *pool, uint64_t max_bytes)
{
    *pool = (struct block_pool){.max_bytes = max_bytes};
}

void block_pool_deinit(struct block_pool *pool)
{
    assert(pool->live_bytes == 0);
    for (uint32_t class = 0; class < BLOCK_CLASSES; class ++) {
        while (pool->free[class])
            class_free_one(pool, class);
    }
}

struct block *block_create(struct block_pool *pool, uint32_t cap)
{
    const uint32_t class = class_for(cap);
    if (class < BLOCK_CLASSES)
        cap = class_bytes(class);
    if (pool->max_bytes && (cap > pool->max_bytes || pool->live_bytes > pool->max_bytes - cap))
        return NULL;
    struct block *b = NULL;
    if (class < BLOCK_CLASSES && pool->free[class]) {
        b = pool->free[class];
        pool->free[class] = b->next_free;
        pool->free_count[class]--;
    } else {
        b = malloc(sizeof *b + cap);
        if (!b)
            return NULL;
    }
    b->refs = 1;
    b->cap = cap;
    b->used = b->kept = 0;
    b->pool = pool;
    b->next_free = NULL;
    pool->live_bytes += cap;
    if (class < BLOCK_CLASSES)
        pool->live_count[class]++;
    return b;
}

struct block *block_ref(struct block *b)
{
    assert(b->refs > 0 && b->refs < UINT32_MAX);
    b->refs++;
    return b;
}

void block_unref(struct block *b)
{
    if (!b)
        return;
    assert(b->refs > 0);
    if (--b->refs > 0)
        return;
    struct block_pool *pool = b->pool;
    pool->live_bytes -= b->cap;
    const uint32_t class = class_for(b->cap);
    if (class == BLOCK_CLASSES || class_bytes(class) != b->cap) { /* an exact one */
        free(b);
        return;
    }
    pool->live_count[class]--;
    b->next_free = pool->free[class];
    pool->free[class] = b;
    pool->free_count[class]++;
    const uint32_t keep = class_keep(pool, class);
    /* two: what is kept shrinks, too */
    for (int i = 0; i < 2 && pool->free_count[class] > keep; i++)
        class_free_one(pool, class);
}
