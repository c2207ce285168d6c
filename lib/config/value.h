/* config/value.h - one value of the configuration: from text, to text, and what is allowed in
 * words. Internal to lib/config. base is the struct that row's offset counts from. Lists of maps
 * are not values: see value_list_of().   Tests: tests/unit/config/test_config.c */
#ifndef WEIR_CONFIG_VALUE_H
#define WEIR_CONFIG_VALUE_H

#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"
#include "config/config.h"
#include "config/keys.h"

enum {
    VALUE_TEXT_MAX = CONFIG_APPS_MAX * (2 * APP_MAX + 4), /* longer than any other value */
    VALUE_HINT_MAX = 512,
    VALUE_QUOTED_MAX = 96,
    VALUE_REFUSAL_MAX = 2 * VALUE_HINT_MAX,
};

/* Stores text's value; of KEY_SET, KEY_CIDRS and KEY_APPS one more item. ERR_INVALID: not of the
 * type, or not of the form; ERR_LIMIT: out of range or too long. */
MUST_CHECK enum err value_parse(const struct key_row *row, const char *text, void *base);
/* Every field of the map at prefix (as in key_below) its default; lists are left empty. */
void value_set_defaults(const char *prefix, void *base);
/* The value as YAML. buf: VALUE_TEXT_MAX. */
void value_print(const struct key_row *row, const void *base, char *buf);
/* "500ms to 1h", "one of off, v1, v2", ... buf: VALUE_HINT_MAX. */
void value_allowed(const struct key_row *row, char *buf);
/* Any text, on one line and not too long. buf: VALUE_QUOTED_MAX. */
void value_quote(const char *text, char *buf);
/* "found ..., allowed: ...", for what value_parse() said e to. buf: VALUE_REFUSAL_MAX. */
void value_refusal(const struct key_row *row, const char *text, enum err e, char *buf);

/* A list of maps (KEY_NODES, KEY_LISTENS, KEY_RULES) as it is held. */
struct value_list {
    const char *prefix; /* of its items' rows */
    const void *items;
    uint32_t count;
    size_t item_bytes;
};
struct value_list value_list_of(const struct key_row *row, const struct config *c);

#endif
