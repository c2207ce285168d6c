/* rtmp/message.c - see message.h. */
#include "rtmp/message.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

/* A free message keeps an array of up to this many slices, so that large frames do not allocate one
 * each time. */
enum { KEEP_SLICES = 64 };

void rtmp_pool_init(struct rtmp_pool *pool, struct block_pool *blocks)
{
    *pool = (struct rtmp_pool){.blocks = blocks};
}

static void msg_free(struct rtmp_msg *m)
{
    if (m->slices != m->inline_slices)
        free(m->slices);
    free(m);
}

static void free_one(struct rtmp_pool *pool)
{
    struct rtmp_msg *m = pool->free;
    pool->free = m->next_free;
    pool->free_count--;
    msg_free(m);
}

void rtmp_pool_deinit(struct rtmp_pool *pool)
{
    assert(pool->live == 0);
    while (pool->free)
        free_one(pool);
}

static struct rtmp_msg *msg_take(struct rtmp_pool *pool)
{
    struct rtmp_msg *m = pool->free;
    if (m) {
        pool->free = m->next_free;
        pool->free_count--;
        return m;
    }
    m = malloc(sizeof *m);
    if (m) {
        m->slices = m->inline_slices;
        m->slice_cap = RTMP_INLINE_SLICES;
    }
    return m;
}

struct rtmp_msg *rtmp_msg_create(struct rtmp_pool *pool, uint8_t type, uint32_t msid,
                                 uint32_t timestamp)
{
    struct rtmp_msg *m = msg_take(pool);
    if (!m)
        return NULL;
    m->refs = 1;
    m->type = type;
    m->csid = 0;
    m->msid = msid;
    m->timestamp = timestamp;
    m->len = 0;
    m->slice_count = 0;
    m->pool = pool;
    m->next_free = NULL;
    pool->live++;
    return m;
}

struct rtmp_msg *rtmp_msg_from_bytes(struct rtmp_pool *pool, uint8_t type, uint32_t msid,
                                     uint32_t timestamp, const void *buf, size_t len)
{
    struct rtmp_msg *m = NULL;
    struct block *b = NULL;
    if (len > RTMP_MESSAGE_BYTES_MAX)
        return NULL;
    m = rtmp_msg_create(pool, type, msid, timestamp);
    if (!m || len == 0)
        return m;
    b = block_create(pool->blocks, (uint32_t)len);
    if (!b)
        goto fail;
    memcpy(b->data, buf, len);
    b->used = (uint32_t)len;
    if (rtmp_msg_append(m, b, 0, (uint32_t)len) != ERR_OK)
        goto fail;
    block_unref(b);
    return m;
fail:
    block_unref(b);
    rtmp_msg_unref(m);
    return NULL;
}

struct rtmp_msg *rtmp_msg_share(const struct rtmp_msg *m, uint8_t type, uint32_t msid,
                                uint32_t timestamp, uint32_t skip_bytes)
{
    struct rtmp_msg *shared = rtmp_msg_create(m->pool, type, msid, timestamp);
    if (!shared)
        return NULL;
    shared->csid = m->csid;
    const uint32_t skip = skip_bytes < m->len ? skip_bytes : m->len;
    if (rtmp_msg_append_part(shared, m, skip, m->len - skip) != ERR_OK) {
        rtmp_msg_unref(shared);
        return NULL;
    }
    return shared;
}

struct rtmp_msg *rtmp_msg_ref(struct rtmp_msg *m)
{
    assert(m->refs > 0 && m->refs < UINT32_MAX);
    m->refs++;
    return m;
}

static void slices_release(struct rtmp_msg *m)
{
    for (uint32_t i = 0; i < m->slice_count; i++)
        block_unref(m->slices[i].block);
    m->slice_count = 0;
}

void rtmp_msg_unref(struct rtmp_msg *m)
{
    if (!m)
        return;
    assert(m->refs > 0);
    if (--m->refs > 0)
        return;
    struct rtmp_pool *pool = m->pool;
    slices_release(m);
    pool->live--;
    if (m->slice_cap > KEEP_SLICES) {
        msg_free(m);
        return;
    }
    m->next_free = pool->free;
    pool->free = m;
    pool->free_count++;
    const uint64_t share = pool->live / MESSAGE_POOL_SHARE;
    const uint64_t keep = share > MESSAGE_POOL_KEEP ? share : MESSAGE_POOL_KEEP;
    for (int i = 0; i < 2 && pool->free_count > keep; i++) /* two: what is kept shrinks, too */
        free_one(pool);
}

static enum err slices_grow(struct rtmp_msg *m)
{
    const bool on_heap = m->slices != m->inline_slices;
    const uint32_t cap = m->slice_cap * 2;
    assert(cap > m->slice_cap);
    struct slice *grown = realloc(on_heap ? m->slices : NULL, cap * sizeof *grown);
    if (!grown)
        return ERR_NO_MEMORY;
    if (!on_heap)
        memcpy(grown, m->inline_slices, m->slice_count * sizeof *grown);
    m->slices = grown;
    m->slice_cap = cap;
    return ERR_OK;
}

enum err rtmp_msg_append(struct rtmp_msg *m, struct block *b, uint32_t off, uint32_t len)
{
    assert(off <= b->cap && len <= b->cap - off);
    if (len > RTMP_MESSAGE_BYTES_MAX - m->len)
        return ERR_LIMIT;
    if (len == 0)
        return ERR_OK;
    if (m->slice_count > 0) {
        struct slice *last = &m->slices[m->slice_count - 1];
        if (last->block == b && last->off + last->len == off) {
            last->len += len;
            m->len += len;
            return ERR_OK;
        }
    }
    if (m->slice_count == m->slice_cap && slices_grow(m) != ERR_OK)
        return ERR_NO_MEMORY;
    m->slices[m->slice_count++] = (struct slice){.block = block_ref(b), .off = off, .len = len};
    m->len += len;
    return ERR_OK;
}

enum err rtmp_msg_append_part(struct rtmp_msg *m, const struct rtmp_msg *from, uint32_t off,
                              uint32_t len)
{
    assert(off <= from->len && len <= from->len - off);
    for (uint32_t i = 0; len > 0; i++) {
        const struct slice *s = &from->slices[i];
        if (off >= s->len) {
            off -= s->len;
            continue;
        }
        const uint32_t n = s->len - off < len ? s->len - off : len;
        const enum err e = rtmp_msg_append(m, s->block, s->off + off, n);
        if (e != ERR_OK)
            return e;
        off = 0;
        len -= n;
    }
    return ERR_OK;
}

size_t rtmp_msg_peek(const struct rtmp_msg *m, void *buf, size_t n)
{
    return rtmp_msg_copy(m, 0, buf, n);
}

size_t rtmp_msg_copy(const struct rtmp_msg *m, uint32_t off, void *buf, size_t n)
{
    uint8_t *to = buf;
    size_t done = 0;
    for (uint32_t i = 0; i < m->slice_count && done < n; i++) {
        const struct slice *s = &m->slices[i];
        if (off >= s->len) {
            off -= s->len;
            continue;
        }
        const size_t part = s->len - off < n - done ? s->len - off : n - done;
        memcpy(to + done, slice_data(s) + off, part);
        done += part;
        off = 0;
    }
    return done;
}

enum err rtmp_msg_flatten(struct rtmp_msg *m, const uint8_t **data)
{
    static const uint8_t nothing[1] = {0};
    if (m->slice_count == 0) {
        *data = nothing;
        return ERR_OK;
    }
    if (m->slice_count > 1) {
        struct block *b = block_create(m->pool->blocks, m->len);
        if (!b)
            return ERR_NO_MEMORY;
        b->used = (uint32_t)rtmp_msg_copy(m, 0, b->data, m->len);
        slices_release(m);
        m->slices[0] = (struct slice){.block = b, .off = 0, .len = m->len};
        m->slice_count = 1;
    }
    *data = slice_data(&m->slices[0]);
    return ERR_OK;
}
