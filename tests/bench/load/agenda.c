/* load/agenda.c - see agenda.h. */
#include "bench/load/agenda.h"

#include <stdlib.h>

static void put(struct agenda *a, uint32_t at, struct stream *st)
{
    a->heap[at] = st;
    st->agenda_place = at + 1;
}

static uint64_t due(const struct agenda *a, uint32_t at)
{
    return source_due_ns(&a->heap[at]->source);
}

static void settle(struct agenda *a, uint32_t at)
{
    struct stream *st = a->heap[at];
    const uint64_t ns = source_due_ns(&st->source);
    while (at > 0 && due(a, (at - 1) / 2) > ns) {
        put(a, at, a->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < a->count && due(a, child + 1) < due(a, child))
            child++;
        if (child >= a->count || due(a, child) >= ns)
            break;
        put(a, at, a->heap[child]);
        at = child;
    }
    put(a, at, st);
}

enum err agenda_add(struct agenda *a, struct stream *st)
{
    if (a->count == a->cap) {
        const uint32_t cap = a->cap ? 2 * a->cap : 256;
        struct stream **heap = realloc(a->heap, cap * sizeof *heap);
        if (!heap)
            return ERR_NO_MEMORY;
        a->heap = heap;
        a->cap = cap;
    }
    put(a, a->count++, st);
    settle(a, a->count - 1);
    return ERR_OK;
}

void agenda_remove(struct agenda *a, struct stream *st)
{
    if (!st->agenda_place)
        return;
    const uint32_t at = st->agenda_place - 1;
    st->agenda_place = 0;
    if (at != --a->count) {
        put(a, at, a->heap[a->count]);
        settle(a, at);
    }
}

void agenda_later(struct agenda *a, struct stream *st)
{
    settle(a, st->agenda_place - 1);
}

void agenda_deinit(struct agenda *a)
{
    free(a->heap);
    *a = (struct agenda){0};
}
