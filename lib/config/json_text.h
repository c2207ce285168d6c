/* config/json_text.h - a JSON value as text, on one line. Unlike json_dumps(), which leaves a key
 * out when memory is short (jansson 2.14), it is the whole text or none. */
#ifndef WEIR_CONFIG_JSON_TEXT_H
#define WEIR_CONFIG_JSON_TEXT_H

#include <jansson.h>

/* For free(). NULL: no memory. */
char *json_text(const json_t *json);

#endif
