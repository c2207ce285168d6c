#include "config/json_text.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

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

static struct { /* malloc() has no argument to carry it */
    json_malloc_t allocate;
    bool failed;
} watch;

static void *watched_malloc(size_t size)
{
    void *p = watch.allocate(size);
    watch.failed = watch.failed || !p;
    return p;
}

json_t *json_text_parse(const char *text, size_t len, size_t flags, json_error_t *error)
{
    json_free_t release;
    json_get_alloc_funcs(&watch.allocate, &release);
    watch.failed = false;
    json_set_alloc_funcs(watched_malloc, release);
    json_t *json = json_loadb(text, len, flags, error);
    json_set_alloc_funcs(watch.allocate, release);
    if (!watch.failed)
        return json;
    json_decref(json);
    if (error) /* where json_error_code() looks */
        error->text[sizeof error->text - 1] = json_error_out_of_memory;
    return NULL;
}

static bool is_utf8(const char *s, size_t len)
{
    uint32_t point;
    size_t n = 1;
    for (; len && n; s += n, len -= n)
        n = utf8_parse((const uint8_t *)s, len, &point);
    return n != 0;
}

json_t *json_text_string(const char *s)
{
    static const char replacement[] = "\xef\xbf\xbd";
    char buf[3 * 512 + 1];
    size_t len = 0, left = strlen(s);
    if (is_utf8(s, left))
        return json_stringn(s, left);
    while (left && len + sizeof replacement < sizeof buf) {
        uint32_t point;
        const size_t n = utf8_parse((const uint8_t *)s, left, &point);
        const size_t take = n ? n : sizeof replacement - 1, step = n ? n : 1;
        memcpy(buf + len, n ? s : replacement, take);
        len += take;
        s += step;
        left -= step;
    }
    return json_stringn(buf, len);
}
