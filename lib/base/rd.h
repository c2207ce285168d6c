/* base/rd.h - the only cursor that moves over wire bytes. A read past the end sets `bad` and gives zeros, so a
 * parser may read on and ask once.   Owner: caller, on the stack.   Byte order: as the name says. */
#ifndef WEIR_BASE_RD_H
#define WEIR_BASE_RD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct rd {
    const uint8_t *p;
    size_t left;
    bool bad; /* something was asked for beyond the end */
};

/* Bytes that belong to somebody else; not NUL-terminated. */
struct view {
    const uint8_t *p;
    size_t len;
};

static inline struct rd rd_over(const void *buf, size_t len)
{
    return (struct rd){.p = buf, .left = len, .bad = false};
}

/* The next n bytes, or NULL (and bad). */
static inline const uint8_t *rd_take(struct rd *r, size_t n)
{
    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += n;
    r->left -= n;
    return p;
}

static inline uint8_t rd_u8(struct rd *r)
{
    const uint8_t *p = rd_take(r, 1);
    return p ? p[0] : 0;
}

static inline uint16_t rd_u16be(struct rd *r)
{
    const uint8_t *p = rd_take(r, 2);
    return p ? (uint16_t)(p[0] << 8 | p[1]) : 0;
}

static inline uint32_t rd_u24be(struct rd *r)
{
    const uint8_t *p = rd_take(r, 3);
    return p ? (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2] : 0;
}

static inline uint32_t rd_u32be(struct rd *r)
{
    const uint8_t *p = rd_take(r, 4);
    return p ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;
}

static inline uint32_t rd_u32le(struct rd *r)
{
    const uint8_t *p = rd_take(r, 4);
    return p ? (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0] : 0;
}

static inline double rd_f64be(struct rd *r)
{
    const uint64_t hi = rd_u32be(r), lo = rd_u32be(r);
    const uint64_t bits = hi << 32 | lo;
    double d;
    memcpy(&d, &bits, sizeof d);
    return r->bad ? 0 : d;
}

static inline struct view rd_view(struct rd *r, size_t n)
{
    const uint8_t *p = rd_take(r, n);
    return (struct view){.p = p, .len = p ? n : 0};
}

#endif
