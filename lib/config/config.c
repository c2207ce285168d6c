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
    free(c->access.rules);
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

static bool is_section_of_another(const struct key_row *row, const char *daemon)
{
    static const char *const daemons[] = {"router", "healthd", "admin"};
    for (size_t i = 0; i < sizeof daemons / sizeof daemons[0]; i++) {
        if (key_below(row, daemons[i]))
            return strcmp(daemons[i], daemon) != 0;
    }
    return false;
}

static bool row_equal(const struct key_row *row, const struct config *from, const struct config *to)
{
    if (!key_is_map_list(row))
        return value_equal(row, from, to);
    const struct value_list a = value_list_of(row, from), b = value_list_of(row, to);
    return list_equal(&a, &b);
}

/* daemon NULL: any. */
static const char *first_fixed(const char *daemon, const struct config *from,
                               const struct config *to)
{
    for (size_t i = 0; i < key_row_count; i++) {
        const struct key_row *row = &key_rows[i];
        if (row->reloadable || (daemon && is_section_of_another(row, daemon)) ||
            strchr(row->path, '[')) /* rows of items are compared with their list */
            continue;
        if (!row_equal(row, from, to))
            return row->path;
    }
    return NULL;
}

const char *config_needs_restart(const struct config *from, const struct config *to)
{
    return first_fixed(NULL, from, to);
}

const char *config_needs_restart_of(const char *daemon, const struct config *from,
                                    const struct config *to)
{
    return first_fixed(daemon, from, to);
}
