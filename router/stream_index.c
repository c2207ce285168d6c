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
            next = m->next_stream;
            struct stream_member **b = bucket(&bigger, m->hash);
            m->next_stream = *b;
            *b = m;
        }
    }
    free(x->buckets);
    x->buckets = bigger.buckets;
    x->bucket_count = bigger.bucket_count;
}

static bool same_key(const struct stream_member *m, uint64_t hash, const struct stream_key *key)
{
    return m->hash == hash && m->key->len == key->len &&
           memcmp(m->key->text, key->text, key->len) == 0;
}

struct stream_member *stream_index_first(const struct stream_index *x, const struct stream_key *key)
{
    const uint64_t hash = stream_key_hash(key);
    struct stream_member *m = *bucket(x, hash);
    while (m && !same_key(m, hash, key))
        m = m->next_stream;
    return m;
}

struct stream_member *stream_index_next(const struct stream_member *m)
{
    return m->next;
}

void stream_index_add(struct stream_index *x, struct stream_member *m, const struct stream_key *key)
{
    struct stream_member *first = stream_index_first(x, key);
    *m = (struct stream_member){.key = key, .hash = stream_key_hash(key)};
    if (first) { /* behind it: it stays the first */
        m->prev = first;
        m->next = first->next;
        if (m->next)
            m->next->prev = m;
        first->next = m;
        return;
    }
    if (x->streams >= x->bucket_count)
        grow(x);
    struct stream_member **b = bucket(x, m->hash);
    m->next_stream = *b;
    *b = m;
    x->streams++;
}

/* ---- what is to be done ---- */

static void append(struct stream_index *x, enum stream_task task, struct stream_member *m)
{
    m->tasks[task] = (struct stream_place){.prev = x->tasks[task].last, .in = true};
    *(x->tasks[task].last ? &x->tasks[task].last->tasks[task].next : &x->tasks[task].first) = m;
    x->tasks[task].last = m;
}

static void drop(struct stream_index *x, enum stream_task task, struct stream_member *m)
{
    const struct stream_place *at = &m->tasks[task];
    *(at->prev ? &at->prev->tasks[task].next : &x->tasks[task].first) = at->next;
    *(at->next ? &at->next->tasks[task].prev : &x->tasks[task].last) = at->prev;
    m->tasks[task] = (struct stream_place){0};
}

void stream_index_want(struct stream_index *x, enum stream_task task, const struct stream_key *key)
{
    struct stream_member *m = stream_index_first(x, key);
    if (m && !m->tasks[task].in)
        append(x, task, m);
}

bool stream_index_wanted(const struct stream_index *x, enum stream_task task,
                         const struct stream_key *key)
{
    const struct stream_member *m = stream_index_first(x, key);
    return m && m->tasks[task].in;
}

struct stream_member *stream_index_take(struct stream_index *x, enum stream_task task)
{
    struct stream_member *m = x->tasks[task].first;
    if (m)
        drop(x, task, m);
    return m;
}

/* ---- leaving ---- */

/* The next one of its stream is the first one now; there may be none. */
static void remove_first(struct stream_index *x, struct stream_member *m)
{
    struct stream_member *heir = m->next, **at = bucket(x, m->hash);
    while (*at != m)
        at = &(*at)->next_stream;
    *at = heir ? heir : m->next_stream;
    if (heir) {
        heir->prev = NULL;
        heir->next_stream = m->next_stream;
    }
    x->streams -= !heir;
    for (enum stream_task task = 0; task < STREAM_TASKS; task++) {
        if (!m->tasks[task].in)
            continue;
        drop(x, task, m);
        if (heir)
            append(x, task, heir);
    }
}

void stream_index_remove(struct stream_index *x, struct stream_member *m)
{
    if (!m->key)
        return;
    if (m->prev) {
        m->prev->next = m->next;
        if (m->next)
            m->next->prev = m->prev;
    } else {
        remove_first(x, m);
    }
    *m = (struct stream_member){0};
}
