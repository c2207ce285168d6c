#include "router/stream_index.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKETS = 256 };

enum err stream_index_init(struct stream_index *x)
{
    *x = (struct stream_index){.buckets = calloc(FIRST_BUCKETS, sizeof *x->buckets),
                               .bucket_count = FIRST_BUCKETS};
    return x->buckets ? ERR_OK : ERR_NO_MEMORY;
}

void stream_index_deinit(struct stream_index *x)
{
    free(x->buckets);
    *x = (struct stream_index){0};
}

static struct stream_member **bucket(const struct stream_index *x, uint64_t hash)
{
    return &x->buckets[hash & (x->bucket_count - 1)];
}

/* A table that cannot grow is slower, not wrong. */
static void grow(struct stream_index *x)
{
    struct stream_index bigger = {.bucket_count = x->bucket_count * 2};
    bigger.buckets = calloc(bigger.bucket_count, sizeof *bigger.buckets);
    if (!bigger.buckets)
        return;
    for (uint32_t i = 0; i < x->bucket_count; i++) {
        for (struct stream_member *m = x->buckets[i], *next; m; m = next) {
            next = m->next;
            struct stream_member **b = bucket(&bigger, m->hash);
            m->next = *b;
            *b = m;
        }
    }
    free(x->buckets);
    x->buckets = bigger.buckets;
    x->bucket_count = bigger.bucket_count;
}

void stream_index_add(struct stream_index *x, struct stream_member *m, const struct stream_key *key)
{
    if (x->count >= x->bucket_count)
        grow(x);
    m->key = key;
    m->hash = stream_key_hash(key);
    struct stream_member **b = bucket(x, m->hash);
    m->next = *b;
    *b = m;
    x->count++;
}

void stream_index_remove(struct stream_index *x, struct stream_member *m)
{
    if (!m->key)
        return;
    struct stream_member **at = bucket(x, m->hash);
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    m->next = NULL;
    m->key = NULL;
    x->count--;
}

static struct stream_member *same_key(struct stream_member *m, uint64_t hash,
                                      const struct stream_key *key)
{
    while (m && (m->hash != hash || m->key->len != key->len ||
                 memcmp(m->key->text, key->text, key->len) != 0))
        m = m->next;
    return m;
}

struct stream_member *stream_index_first(const struct stream_index *x, const struct stream_key *key)
{
    const uint64_t hash = stream_key_hash(key);
    return same_key(*bucket(x, hash), hash, key);
}

struct stream_member *stream_index_next(const struct stream_member *m)
{
    return same_key(m->next, m->hash, m->key);
}
