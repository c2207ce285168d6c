/* admin/page.h - one page of a list: of all records offered, in any order, the `limit` smallest after a cursor. Memory is bound
 * by the page, not by the list.   Owner: the handler of a request.   Tests: tests/unit/admin/test_page.c */
#ifndef WEIR_ADMIN_PAGE_H
#define WEIR_ADMIN_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

enum { PAGE_LIMIT_DEFAULT = 100, PAGE_LIMIT_MAX = 1000 };

struct page {
    char *items; /* in order */
    size_t item_bytes;
    uint32_t count, limit;
    bool more; /* something was left out behind the last item */
    int (*compare)(const void *a, const void *b);
};

MUST_CHECK enum err page_init(struct page *p, uint32_t limit, size_t item_bytes,
                              int (*compare)(const void *a, const void *b));
void page_deinit(struct page *p);
void page_offer(struct page *p, const void *item);
const void *page_item(const struct page *p, uint32_t i);
/* "1".."1000"; NULL: the default. ERR_INVALID. */
MUST_CHECK enum err page_limit_parse(const char *text, uint32_t *out);

#endif
