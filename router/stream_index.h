/* router/stream_index.h - which sessions of this worker belong to a stream, and which streams there
 * is something to do for: a hash table with members inside the sessions. Nothing takes longer for
 * members that are many. Owner: the worker; members are the sessions' own and must be removed
 * before they go. Tests: tests/unit/router/test_stream_index.c */
#ifndef WEIR_ROUTER_STREAM_INDEX_H
#define WEIR_ROUTER_STREAM_INDEX_H

#include "cluster/stream_key.h"

/* What is still to be done for a stream, once for all of its members. */
enum stream_task {
    STREAM_TELL,     /* some of them do not know of a change yet */
    STREAM_AUDIENCE, /* how far they have followed a move is to be written */
    STREAM_TASKS,
};

struct stream_place {
    struct stream_member *next, *prev;
    bool in;
};

struct stream_member {
    const struct stream_key *key;      /* NULL: not in the index; must not change while it is */
    struct stream_member *next, *prev; /* of the same stream */
    uint64_t hash;
    /* of a stream's first one only */
    struct stream_member *next_stream;
    struct stream_place tasks[STREAM_TASKS];
};

struct stream_index {
    struct stream_member **buckets; /* first ones */
    uint32_t bucket_count;          /* a power of two */
    uint32_t streams;
    struct {
        struct stream_member *first, *last;
    } tasks[STREAM_TASKS];
};

MUST_CHECK enum err stream_index_init(struct stream_index *x);
void stream_index_deinit(struct stream_index *x);
void stream_index_add(struct stream_index *x, struct stream_member *m,
                      const struct stream_key *key);
/* What is to be done for the stream stays so while it has members. Not in it: nothing. */
void stream_index_remove(struct stream_index *x, struct stream_member *m);
/* All members of one stream: first, then next; NULL at the end. The index must not change
 * meanwhile. */
struct stream_member *stream_index_first(const struct stream_index *x,
                                         const struct stream_key *key);
struct stream_member *stream_index_next(const struct stream_member *m);

/* Without members: nothing. Twice is once. */
void stream_index_want(struct stream_index *x, enum stream_task task, const struct stream_key *key);
bool stream_index_wanted(const struct stream_index *x, enum stream_task task,
                         const struct stream_key *key);
/* A member of a stream for which it was to be done, and is no more. NULL: none. */
struct stream_member *stream_index_take(struct stream_index *x, enum stream_task task);

#endif
