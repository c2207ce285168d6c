#include "cluster/stream_key.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "base/query.h"

static const char definst[] = "/_definst_";

static struct view view_of(const char *s, size_t len)
{
    return (struct view){.p = (const uint8_t *)s, .len = len};
}

static struct view without_trailing_slashes(struct view v)
{
    while (v.len && v.p[v.len - 1] == '/')
        v.len--;
    return v;
}

static struct view without_definst(struct view app)
{
    const size_t n = sizeof definst - 1;
    app = without_trailing_slashes(app);
    if (app.len >= n && memcmp(app.p + app.len - n, definst, n) == 0)
        app.len -= n;
    return app;
}

static bool has_control_byte(struct view v)
{
    for (size_t i = 0; i < v.len; i++) {
        if (v.p[i] < 0x20 || v.p[i] == 0x7f)
            return true;
    }
    return false;
}

/* "." or "..", from p to the next slash: nodes make paths of files of what they are given. */
static bool is_dot_segment(const uint8_t *p, size_t left)
{
    size_t len = 0;
    while (len < left && p[len] == '.')
        len++;
    return len > 0 && len <= 2 && (len == left || p[len] == '/');
}

/* Appends v's segments, each after a '/' unless it is the first of the key. ERR_INVALID: v has
 * none, or one that cannot be a name. */
static enum err append_path(struct stream_key *k, struct view v)
{
    if (has_control_byte(v))
        return ERR_INVALID;
    const size_t before = k->len;
    for (size_t i = 0; i < v.len; i++) {
        if (v.p[i] == '/')
            continue;
        const bool starts_segment = i == 0 || v.p[i - 1] == '/';
        if (starts_segment && is_dot_segment(v.p + i, v.len - i))
            return ERR_INVALID;
        const size_t need = starts_segment && k->len > 0 ? 2 : 1;
        if (k->len + need > sizeof k->text - 1)
            return ERR_LIMIT;
        if (need == 2)
            k->text[k->len++] = '/';
        k->text[k->len++] = (char)v.p[i];
    }
    return k->len == before ? ERR_INVALID : ERR_OK;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static enum err append_host(struct stream_key *k, struct view host)
{
    if (host.len == 0)
        return ERR_OK;
    /* a slash would let one vhost write itself into the apps of another */
    if (memchr(host.p, '/', host.len))
        return ERR_INVALID;
    const enum err e = append_path(k, host);
    for (size_t i = 0; i < k->len; i++)
        k->text[i] = lower(k->text[i]);
    return e;
}

enum err stream_key_make(struct view app, struct view name, struct view vhost,
                         struct stream_key *out)
{
    struct stream_key k = {.len = 0};
    enum err e = append_host(&k, vhost);
    if (e == ERR_OK)
        e = append_path(&k, without_definst(query_path(app)));
    if (e == ERR_OK)
        e = append_path(&k, query_path(name));
    if (e == ERR_OK)
        *out = k; /* the rest of text is zero: it is NUL-terminated */
    return e;
}

enum err stream_key_parse(const char *text, struct stream_key *out)
{
    const struct view whole = without_trailing_slashes(query_path(view_of(text, strlen(text))));
    size_t split = whole.len;
    while (split && whole.p[split - 1] != '/')
        split--;
    const struct view app = {.p = whole.p, .len = split};
    const struct view name = {.p = whole.p + split, .len = whole.len - split};
    return stream_key_make(app, name, (struct view){0}, out);
}

/* Of "host", "host:port", "[v6]:port", "v6": the host, without brackets. */
static struct view without_port(struct view v)
{
    const uint8_t *end;
    if (v.len && v.p[0] == '[') {
        end = memchr(v.p, ']', v.len);
        return end ? (struct view){.p = v.p + 1, .len = (size_t)(end - v.p - 1)} : v;
    }
    end = v.len ? memchr(v.p, ':', v.len) : NULL;
    if (end && !memchr(end + 1, ':', v.len - (size_t)(end + 1 - v.p)))
        v.len = (size_t)(end - v.p);
    return v;
}

static struct view host_of_url(struct view url)
{
    static const char mark[] = "://";
    size_t i = 0;
    while (i + 3 <= url.len && memcmp(url.p + i, mark, 3) != 0)
        i++;
    if (i + 3 > url.len)
        return (struct view){0};
    const size_t from = i + 3;
    size_t start = from, end = from;
    for (; end < url.len && url.p[end] != '/' && url.p[end] != '?'; end++) {
        if (url.p[end] == '@') /* user:password@ */
            start = end + 1;
    }
    return (struct view){.p = url.p + start, .len = end - start};
}

static struct view first_vhost(const struct view *places, size_t count, struct view url)
{
    struct view v = {0};
    for (size_t i = 0; i < count && v.len == 0; i++)
        v = query_get(places[i], "vhost");
    return without_port(v.len > 0 ? v : host_of_url(url));
}

struct view stream_key_vhost(struct view tc_url, struct view app, struct view name)
{
    return first_vhost((const struct view[]){app, name, tc_url}, 3, tc_url);
}

struct view stream_key_url_vhost(struct view tc_url, struct view name)
{
    return first_vhost((const struct view[]){tc_url, name}, 2, tc_url);
}

struct view stream_key_url_app(struct view tc_url)
{
    tc_url = query_path(tc_url);
    for (int slashes = 0; tc_url.len > 0 && slashes < 3; tc_url.p++, tc_url.len--)
        slashes += *tc_url.p == '/';
    return tc_url;
}

uint64_t stream_key_hash(const struct stream_key *k)
{
    return XXH3_64bits(k->text, k->len);
}

void stream_key_short(const struct stream_key *k, char buf[10])
{
    (void)snprintf(buf, 10, "#%08x", (unsigned)(stream_key_hash(k) & 0xffffffffu));
}
