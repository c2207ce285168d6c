#include "config/suggest.h"

#include <stdio.h>
#include <string.h>

#include "config/keys.h"

enum { WORD_MAX = 48, FAR = WORD_MAX };

static size_t least(size_t a, size_t b, size_t c)
{
    const size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Edit distance (Levenshtein); FAR for words that are too long to be a key. */
static size_t distance(const char *a, const char *b, size_t b_len)
{
    size_t row[WORD_MAX + 1];
    const size_t a_len = strlen(a);
    if (a_len > WORD_MAX || b_len > WORD_MAX)
        return FAR;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            const size_t above = row[j];
            row[j] = least(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[b_len];
}

/* The key of this very map that looks most like it; a third of its letters may differ. */
static const char *nearest_here(const char *prefix, const char *key, size_t *len)
{
    const char *best = NULL;
    size_t best_distance = strlen(key) / 3 + 2;
    for (size_t i = 0; i < key_row_count; i++) {
        const char *rest = key_below(&key_rows[i], prefix);
        if (!rest)
            continue;
        const size_t n = key_component(rest), d = distance(key, rest, n);
        if (d < best_distance) {
            best_distance = d;
            best = rest;
            *len = n;
        }
    }
    return best;
}

/* A key of that name, or the like, elsewhere: right word, wrong section. */
static const char *same_elsewhere(const char *key)
{
    for (size_t i = 0; i < key_row_count; i++) {
        const char *dot = strrchr(key_rows[i].path, '.');
        if (dot && distance(key, dot + 1, strlen(dot + 1)) <= 1)
            return key_rows[i].path;
    }
    return NULL;
}

static void list_keys(const char *prefix, char *buf, size_t cap)
{
    const char *last = "";
    size_t last_len = 0, used = (size_t)snprintf(buf, cap, "; known here:");
    for (size_t i = 0; i < key_row_count && used < cap; i++) {
        const char *rest = key_below(&key_rows[i], prefix);
        if (!rest)
            continue;
        const size_t n = key_component(rest);
        if (n == last_len && strncmp(rest, last, n) == 0)
            continue;
        used += (size_t)snprintf(buf + used, cap - used, "%s %.*s", last_len > 0 ? "," : "", (int)n,
                                 rest);
        last = rest;
        last_len = n;
    }
}

void suggest_key(const char *prefix, const char *key, char *buf, size_t cap)
{
    size_t len = 0;
    const char *near = nearest_here(prefix, key, &len);
    const char *elsewhere = near ? NULL : same_elsewhere(key);
    if (near)
        snprintf(buf, cap, "; did you mean %.*s?", (int)len, near);
    else if (elsewhere)
        snprintf(buf, cap, "; did you mean %s?", elsewhere);
    else
        list_keys(prefix, buf, cap);
}
