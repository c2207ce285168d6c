/* One node, key by key. */
#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "config/keys.h"
#include "config/suggest.h"
#include "config/value.h"

static const char prefix[] = "nodes[]";

static const struct key_row *row_of(const char *key)
{
    for (size_t i = 0; i < key_row_count; i++) {
        const char *rest = key_below(&key_rows[i], prefix);
        if (rest && strcmp(rest, key) == 0)
            return &key_rows[i];
    }
    return NULL;
}

void config_node_init(struct config_node *n)
{
    *n = (struct config_node){0};
    value_set_defaults(prefix, n);
}

enum err config_node_set(struct config_node *n, const char *key, const char *value, char *error)
{
    char text[VALUE_REFUSAL_MAX];
    struct config_node changed = *n;
    const struct key_row *row = row_of(key);
    if (!row) {
        char quoted[VALUE_QUOTED_MAX];
        value_quote(key, quoted);
        suggest_key(prefix, key, text, sizeof text);
        snprintf(error, CONFIG_ERROR_MAX, "%s: unknown key%.800s", quoted, text);
        return ERR_NOT_FOUND;
    }
    const enum err e = value_parse(row, value, &changed);
    if (e == ERR_OK) {
        *n = changed;
        return ERR_OK;
    }
    value_refusal(row, value, e, text);
    snprintf(error, CONFIG_ERROR_MAX, "%s: %.960s", key, text);
    return ERR_INVALID;
}

enum err config_node_check(const struct config_node *n, char *error)
{
    for (size_t i = 0; i < key_row_count; i++) {
        const struct key_row *row = &key_rows[i];
        const char *key = key_below(row, prefix);
        if (!key || row->initial || ((const char *)n)[row->offset] != '\0')
            continue; /* what must be given is text */
        char allowed[VALUE_HINT_MAX];
        value_allowed(row, allowed);
        snprintf(error, CONFIG_ERROR_MAX, "%s is missing: %s", key, allowed);
        return ERR_INVALID;
    }
    return ERR_OK;
}
