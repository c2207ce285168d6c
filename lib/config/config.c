#include "config/config.h"

#include <stdlib.h>
#include <string.h>

#include "config/keys.h"
#include "config/value.h"

void config_destroy(struct config *c)
{
    if (!c)
        return;
    free(c->nodes);
    free(c->router.listen);
    free(c);
}

static bool value_equal(const struct key_row *row, const void *a, const void *b)
{
    char text_a[VALUE_TEXT_MAX], text_b[VALUE_TEXT_MAX];
    value_print(row, a, text_a);
    value_print(row, b, text_b);
    return strcmp(text_a, text_b) == 0;
}

static bool list_equal(const struct value_list *a, const struct value_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < key_row_count; i++) {
        if (!key_below(&key_rows[i], a->prefix))
            continue;
        for (size_t item = 0; item < a->count; item++) {
            const size_t at = item * a->item_bytes;
            if (!value_equal(&key_rows[i], (const char *)a->items + at,
                             (const char *)b->items + at))
                return false;
        }
    }
    return true;
}

const char *config_needs_restart(const struct config *from, const struct config *to)
{
    for (size_t i = 0; i < key_row_count; i++) {
        const struct key_row *row = &key_rows[i];
        if (row->reloadable ||
            strchr(row->path, '[')) /* rows of items are compared with their list */
            continue;
        bool equal;
        if (row->type == KEY_NODES || row->type == KEY_LISTENS) {
            const struct value_list a = value_list_of(row, from), b = value_list_of(row, to);
            equal = list_equal(&a, &b);
        } else {
            equal = value_equal(row, from, to);
        }
        if (!equal)
            return row->path;
    }
    return NULL;
}
