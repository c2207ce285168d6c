/* config/json_text.h - JSON values and their text, whole or not at all: what jansson (2.14) itself leaves out when memory is short,
 * without a word, is a key while it writes and a character while it reads.
 * Thread: one of the process's.   Errors: NULL without memory.   Tests: tests/alloc/admin.c, tests/alloc/store.c, tests/unit/admin/test_views.c */
#ifndef WEIR_CONFIG_JSON_TEXT_H
#define WEIR_CONFIG_JSON_TEXT_H

#include <stddef.h>

#include <jansson.h>

/* On one line. For free(). */
char *json_text(const json_t *json);
/* As json_loadb(). Without memory json_error_code(error) is json_error_out_of_memory. error may be NULL. */
json_t *json_text_parse(const char *text, size_t len, size_t flags, json_error_t *error);
/* A string of whatever bytes a peer has sent: what is not UTF-8 shows as U+FFFD, then it may be cut. */
json_t *json_text_string(const char *s);

#endif
