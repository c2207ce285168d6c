/* base/utf8.h - text of peers, character by character.
 * Source: RFC 3629.   Tests: tests/unit/base/test_log.c, tests/unit/admin/test_views.c */
#ifndef WEIR_BASE_UTF8_H
#define WEIR_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Length of the sequence at s (no overlong forms, no surrogates) and its code point; 0: not valid. */
size_t utf8_parse(const uint8_t *s, size_t len, uint32_t *point);

#endif
