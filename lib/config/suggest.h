/* config/suggest.h - what a misspelt key may have been meant to be.
 * Internal to lib/config.   Tests: tests/unit/config/test_config.c */
#ifndef WEIR_CONFIG_SUGGEST_H
#define WEIR_CONFIG_SUGGEST_H

#include <stddef.h>

/* For a key that the map at prefix (as in key_below) does not have: "; did you mean ...?", or the
 * keys it has. */
void suggest_key(const char *prefix, const char *key, char *buf, size_t cap);

#endif
