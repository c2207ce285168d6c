/* base/wr.h - a bounded cursor for writing wire bytes. A write past the end sets `full` and writes nothing, so a
 * writer may go on and ask once.   Owner: caller; the buffer is the caller's.   Byte order: big endian unless named. */
#ifndef WEIR_BASE_WR_H
#define WEIR_BASE_WR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct wr {
    uint8_t *p;
    size_t cap, len;
    bool full;
};

static inline struct wr wr_over(void *buf, size_t cap)
{
    return (struct wr){.p = buf, .cap = cap, .len = 0, .full = false};
}

/* Room for n bytes at the end, now counted as written; NULL (and full) if there is none. */
static inline uint8_t *wr_room(struct wr *w, size_t n)
{
    if (w->full || n > w->cap - w->len) {
        w->full = true;
        return NULL;
    }
    uint8_t *p = w->p + w->len;
    w->len += n;
    return p;
}

static inline void wr_bytes(struct wr *w, const void *src, size_t n)
{
    uint8_t *p = wr_room(w, n);
    if (p && n)
        memcpy(p, src, n);
}

static inline void wr_u8(struct wr *w, uint32_t v)
{
    uint8_t *p = wr_room(w, 1);
    if (p)
        p[0] = (uint8_t)v;
}

static inline void wr_u16be(struct wr *w, uint32_t v)
{
    uint8_t *p = wr_room(w, 2);
    if (p) {
        p[0] = (uint8_t)(v >> 8);
        p[1] = (uint8_t)v;
    }
}

static inline void wr_u24be(struct wr *w, uint32_t v)
{
    uint8_t *p = wr_room(w, 3);
    if (p) {
        p[0] = (uint8_t)(v >> 16);
        p[1] = (uint8_t)(v >> 8);
        p[2] = (uint8_t)v;
    }
}

static inline void wr_u32be(struct wr *w, uint32_t v)
{
    uint8_t *p = wr_room(w, 4);
    if (p) {
        p[0] = (uint8_t)(v >> 24);
        p[1] = (uint8_t)(v >> 16);
        p[2] = (uint8_t)(v >> 8);
        p[3] = (uint8_t)v;
    }
}

static inline void wr_u32le(struct wr *w, uint32_t v)
{
    uint8_t *p = wr_room(w, 4);
    if (p) {
        p[0] = (uint8_t)v;
        p[1] = (uint8_t)(v >> 8);
        p[2] = (uint8_t)(v >> 16);
        p[3] = (uint8_t)(v >> 24);
    }
}

static inline void wr_f64be(struct wr *w, double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    wr_u32be(w, (uint32_t)(bits >> 32));
    wr_u32be(w, (uint32_t)bits);
}

#endif
