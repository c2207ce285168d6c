#include "base/query.h"

struct view query_path(struct view text)
{
    const uint8_t *q = text.len ? memchr(text.p, '?', text.len) : NULL;
    if (q)
        text.len = (size_t)(q - text.p);
    return text;
}

struct view query_args(struct view text)
{
    const size_t path = query_path(text).len;
    if (path == text.len)
        return (struct view){0};
    return (struct view){.p = text.p + path, .len = text.len - path};
}

/* Takes one argument off the front, with the '?' or '&' before it. False: no more. */
static bool next_arg(struct view *args, struct view *arg)
{
    size_t end = 1;
    if (args->len == 0)
        return false;
    while (end < args->len && args->p[end] != '&' && args->p[end] != '?')
        end++;
    *arg = (struct view){.p = args->p, .len = end};
    args->p += end;
    args->len -= end;
    return true;
}

/* arg: with the separator before it. */
static bool is_called(struct view arg, const char *name)
{
    const size_t n = strlen(name);
    return arg.len >= n + 2 && arg.p[n + 1] == '=' && memcmp(arg.p + 1, name, n) == 0;
}

struct view query_get(struct view text, const char *name)
{
    struct view args = query_args(text), arg;
    const size_t head = strlen(name) + 2; /* "?name=" */
    while (next_arg(&args, &arg))
        if (is_called(arg, name) && arg.len > head)
            return (struct view){.p = arg.p + head, .len = arg.len - head};
    return (struct view){0};
}

static bool is_one_of(struct view arg, const char *const *names)
{
    while (*names && !is_called(arg, *names))
        names++;
    return *names != NULL;
}

void query_write_without(struct wr *w, struct view text, const char *const *names)
{
    const struct view path = query_path(text);
    struct view args = query_args(text), arg;
    bool first = true;
    wr_bytes(w, path.p, path.len);
    while (next_arg(&args, &arg)) {
        if (is_one_of(arg, names))
            continue;
        wr_u8(w, first ? '?' : arg.p[0]);
        wr_bytes(w, arg.p + 1, arg.len - 1);
        first = false;
    }
}
