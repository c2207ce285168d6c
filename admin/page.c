#include "admin/page.h"

#include <stdlib.h>
#include <string.h>

enum err page_init(struct page *p, uint32_t limit, size_t item_bytes,
                   int (*compare)(const void *a, const void *b))
{
    char *items = calloc(limit, item_bytes);
    if (!items)
        return ERR_NO_MEMORY;
    *p =
        (struct page){.items = items, .item_bytes = item_bytes, .limit = limit, .compare = compare};
    return ERR_OK;
}

void page_deinit(struct page *p)
{
    free(p->items);
    *p = (struct page){0};
}

static char *slot(const struct page *p, uint32_t i)
{
    return p->items + (size_t)i * p->item_bytes;
}

const void *page_item(const struct page *p, uint32_t i)
{
    return slot(p, i);
}

void page_offer(struct page *p, const void *item)
{
    if (p->count == p->limit) {
        p->more = true;
        if (p->compare(item, slot(p, p->count - 1)) >= 0)
            return;
        p->count--; /* the last one falls off */
    }
    uint32_t at = p->count; /* stores list in order, mostly: look from behind */
    while (at > 0 && p->compare(item, slot(p, at - 1)) < 0)
        at--;
    memmove(slot(p, at + 1), slot(p, at), (p->count - at) * p->item_bytes);
    memcpy(slot(p, at), item, p->item_bytes);
    p->count++;
}

enum err page_limit_parse(const char *text, uint32_t *out)
{
    if (!text) {
        *out = PAGE_LIMIT_DEFAULT;
        return ERR_OK;
    }
    uint32_t v = 0;
    if (*text == '\0' || strlen(text) > 4 || strspn(text, "0123456789") != strlen(text))
        return ERR_INVALID;
    for (; *text; text++)
        v = v * 10 + (uint32_t)(*text - '0');
    if (v == 0 || v > PAGE_LIMIT_MAX)
        return ERR_INVALID;
    *out = v;
    return ERR_OK;
}
