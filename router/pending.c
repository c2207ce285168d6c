#include "router/pending.h"

#include <stdlib.h>

enum { FIRST_CAP = 16, ITEM_BYTES = 128 /* what a message weighs besides its payload */ };

enum err pending_push(struct pending *p, struct rtmp_msg *m)
{
    if (p->count == p->cap) {
        const uint32_t cap = p->cap ? p->cap * 2 : FIRST_CAP;
        struct rtmp_msg **items = realloc(p->items, cap * sizeof *items);
        if (!items)
            return ERR_NO_MEMORY;
        p->items = items;
        p->cap = cap;
    }
    p->items[p->count++] = rtmp_msg_ref(m);
    p->bytes += m->len + ITEM_BYTES;
    return ERR_OK;
}

void pending_clear(struct pending *p)
{
    for (uint32_t i = 0; i < p->count; i++)
        rtmp_msg_unref(p->items[i]);
    free(p->items);
    *p = (struct pending){0};
}
