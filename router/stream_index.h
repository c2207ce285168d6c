/* router/stream_index.h - which sessions of this worker belong to a stream: a hash table with
 * members inside the sessions. Owner: the worker; members are the sessions' own and must be removed
 * before they go. Tests: tests/unit/router/test_stream_index.c */
#ifndef WEIR_ROUTER_STREAM_INDEX_H
#define WEIR_ROUTER_STREAM_INDEX_H

#include "cluster/stream_key.h"

struct stream_member {
    struct stream_member *next;
    const struct stream_key *key; /* NULL: not in the index; must not change while it is */
    uint64_t hash;
};

struct stream_index {
    struct stream_member **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count;
};

MUST_CHECK enum err stream_index_init(struct stream_index *x);
void stream_index_deinit(struct stream_index *x);
void stream_index_add(struct stream_index *x, struct stream_member *m,
                      const struct stream_key *key);
void stream_index_remove(struct stream_index *x, struct stream_member *m); /* not in it: nothing */
/* All members of one stream: first, then next; NULL at the end. The index must not change
 * meanwhile. */
struct stream_member *stream_index_first(const struct stream_index *x,
                                         const struct stream_key *key);
struct stream_member *stream_index_next(const struct stream_member *m);

#endif
