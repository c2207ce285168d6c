/* tests/unit/rtmp/chunk_wire.h - chunks written by hand, and input in heap blocks of exactly its
 * size, so that AddressSanitizer sees a read past it. */
#ifndef WEIR_TESTS_CHUNK_WIRE_H
#define WEIR_TESTS_CHUNK_WIRE_H

#include <stdlib.h>
#include <string.h>

#include "base/block.h"
#include "base/wr.h"

/* The caller holds the block's only reference. */
static inline struct slice exact_slice(struct block_pool *pool, const uint8_t *p, uint32_t len)
{
    struct block *b = malloc(sizeof *b + len);
    if (!b)
        abort();
    *b = (struct block){.refs = 1, .cap = len, .used = len, .pool = pool};
    if (len)
        memcpy(b->data, p, len);
    pool->live_bytes += len;
    return (struct slice){.block = b, .off = 0, .len = len};
}

static inline uint8_t pattern(uint32_t seed, uint32_t i)
{
    return (uint8_t)((seed * 2654435761u + i * 40503u) >> 8);
}

static inline void put_pattern(struct wr *w, uint32_t seed, uint32_t off, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        wr_u8(w, pattern(seed, off + i));
}

static inline void put_basic(struct wr *w, uint32_t fmt, uint32_t csid)
{
    if (csid < 64) {
        wr_u8(w, fmt << 6 | csid);
    } else if (csid < 320) {
        wr_u8(w, fmt << 6);
        wr_u8(w, csid - 64);
    } else {
        wr_u8(w, fmt << 6 | 1);
        wr_u8(w, (csid - 64) & 0xff);
        wr_u8(w, (csid - 64) >> 8);
    }
}

static inline void put_field(struct wr *w, uint32_t field)
{
    wr_u24be(w, field < 0xffffff ? field : 0xffffff);
}

static inline void put_extended(struct wr *w, uint32_t field)
{
    if (field >= 0xffffff)
        wr_u32be(w, field);
}

static inline void put_fmt0(struct wr *w, uint32_t csid, uint32_t time, uint32_t len, uint8_t type,
                            uint32_t msid)
{
    put_basic(w, 0, csid);
    put_field(w, time);
    wr_u24be(w, len);
    wr_u8(w, type);
    wr_u32le(w, msid);
    put_extended(w, time);
}

static inline void put_fmt1(struct wr *w, uint32_t csid, uint32_t delta, uint32_t len, uint8_t type)
{
    put_basic(w, 1, csid);
    put_field(w, delta);
    wr_u24be(w, len);
    wr_u8(w, type);
    put_extended(w, delta);
}

static inline void put_fmt2(struct wr *w, uint32_t csid, uint32_t delta)
{
    put_basic(w, 2, csid);
    put_field(w, delta);
    put_extended(w, delta);
}

static inline void put_fmt3(struct wr *w, uint32_t csid)
{
    put_basic(w, 3, csid);
}

#endif
