#include "healthd/stat_report.h"

#include <stdlib.h>
#include <string.h>

enum { DEL = 0x7f };

void stat_report_init(struct stat_report *r, const char *ignore_app)
{
    memset(r, 0, sizeof *r);
    r->ignore_app = ignore_app;
}

void stat_report_deinit(struct stat_report *r)
{
    free(r->keys);
    memset(r, 0, sizeof *r);
}

static enum err keep_key(struct stat_report *r, const struct stream_key *key)
{
    if (r->key_count == STAT_STREAMS_MAX)
        return ERR_OK;
    if (r->key_count == r->key_cap) {
        const uint32_t cap = r->key_cap ? r->key_cap * 2 : STAT_KEYS_FIRST;
        struct stream_key *grown = realloc(r->keys, cap * sizeof *grown);
        if (!grown)
            return ERR_NO_MEMORY;
        r->keys = grown;
        r->key_cap = cap;
    }
    r->keys[r->key_count++] = *key;
    return ERR_OK;
}

enum err stat_report_add(struct stat_report *r, struct view app, struct view name,
                         uint64_t bytes_in)
{
    struct stream_key key;
    if (app.len == strlen(r->ignore_app) && memcmp(app.p, r->ignore_app, app.len) == 0)
        return ERR_OK;
    r->publishers++;
    r->bytes_in += bytes_in;
    if (stream_key_make(app, name, (struct view){0}, &key) != ERR_OK)
        return ERR_OK;
    return keep_key(r, &key);
}

void stat_report_add_app(struct stat_report *r, struct view app)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < app.len; i++)
        h = (h ^ app.p[i]) * UINT64_C(0x100000001b3);
    r->apps_hash += h | 1; /* a sum: the order of the file does not count; never 0 by one name */
}

void stat_clean(uint8_t *buf, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (buf[i] < ' ' && buf[i] != '\t' && buf[i] != '\n' && buf[i] != '\r')
            buf[i] = DEL;
}

size_t stat_bytes_of_utf8(uint8_t *buf, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; n++) {
        const uint8_t c = buf[i++]; /* never before n: reading is ahead of writing */
        if (c < 0x80) {
            buf[n] = c;
            continue;
        }
        const bool latin1 = (c == 0xc2 || c == 0xc3) && i < len;
        buf[n] = latin1 ? (uint8_t)(c << 6 | (buf[i] & 0x3f)) : DEL;
        while (i < len && (buf[i] & 0xc0) == 0x80)
            i++;
    }
    return n;
}

uint64_t stat_number(struct view text)
{
    uint64_t n = 0;
    size_t i = 0;
    while (i < text.len && (text.p[i] == ' ' || (text.p[i] >= '\t' && text.p[i] <= '\r')))
        i++;
    for (; i < text.len && text.p[i] >= '0' && text.p[i] <= '9'; i++) {
        const uint64_t digit = (uint64_t)(text.p[i] - '0');
        if (n > (UINT64_MAX - digit) / 10)
            return UINT64_MAX;
        n = n * 10 + digit;
    }
    return n;
}
