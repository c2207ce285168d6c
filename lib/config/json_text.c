#include "config/json_text.h"

#include <stdlib.h>

char *json_text(const json_t *json)
{
    const size_t len = json_dumpb(json, NULL, 0, JSON_COMPACT);
    char *text = len ? malloc(len + 1) : NULL;
    if (!text)
        return NULL;
    if (json_dumpb(json, text, len, JSON_COMPACT) != len) {
        free(text);
        return NULL;
    }
    text[len] = '\0';
    return text;
}
