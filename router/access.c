#include "router/access.h"

#include <string.h>

#include "base/query.h"

enum { ARG_TOKEN = 0, ARG_EXPIRES };
const char *const access_args[] = {[ARG_TOKEN] = "token", [ARG_EXPIRES] = "expires", NULL};

const char *access_kind_name(enum session_kind kind)
{
    return kind == SESSION_PUBLISH ? "publish" : "play";
}

/* Whether the pattern fits the name or whole parts at its beginning. A '*' ends at the next '/', so
 * only the last one has to be tried at other lengths. */
static bool fits(const char *pattern, const char *name)
{
    const char *star = NULL, *again = NULL;
    for (;;) {
        if (*pattern == '*') {
            star = ++pattern;
            again = name;
        } else if (*pattern == '\0' && (*name == '/' || *name == '\0')) {
            return true;
        } else if (*pattern != '\0' && *pattern == *name) {
            pattern++;
            name++;
        } else if (star && *again != '/' && *again != '\0') {
            pattern = star;
            name = ++again;
        } else {
            return false;
        }
    }
}

static bool is_for(enum access_kind rule, enum session_kind kind)
{
    switch (rule) {
    case ACCESS_BOTH:
        return true;
    case ACCESS_PUBLISH:
        return kind == SESSION_PUBLISH;
    case ACCESS_PLAY:
        return kind == SESSION_PLAY;
    }
    return false;
}

static enum access_action action_for(const struct access *a, const struct access_request *r,
                                     const struct stream_key *name)
{
    for (uint32_t i = 0; i < a->config->rule_count; i++) {
        const struct config_rule *rule = &a->config->rules[i];
        if (is_for(rule->kind, r->kind) && fits(rule->app, name->text) &&
            (rule->from.count == 0 || config_cidrs_contain(&rule->from, r->addr)))
            return rule->action;
    }
    return ACCESS_DENY;
}

static enum close_why check_token(const struct access *a, const struct access_request *r)
{
    const struct view places[] = {r->name, r->app, r->tc_url};
    const struct view stream = {.p = (const uint8_t *)r->key->text, .len = r->key->len};
    struct view token = {0}, expires = {0};
    for (size_t i = 0; i < sizeof places / sizeof places[0] && token.len == 0; i++) {
        token = query_get(places[i], access_args[ARG_TOKEN]);
        expires = query_get(places[i], access_args[ARG_EXPIRES]);
    }
    switch (
        stream_token_check(&a->keys, access_kind_name(r->kind), stream, token, expires, r->now_s)) {
    case STREAM_TOKEN_GOOD:
        return WHY_NONE;
    case STREAM_TOKEN_MISSING:
        return WHY_TOKEN_MISSING;
    case STREAM_TOKEN_BAD:
        return WHY_TOKEN_BAD;
    case STREAM_TOKEN_EXPIRED:
        return WHY_TOKEN_EXPIRED;
    }
    return WHY_TOKEN_BAD;
}

/* vhost: with the app, the stream as one of the nodes may understand it. A token is for the one
 * stream of the key. */
static enum close_why check_as(const struct access *a, const struct access_request *r,
                               struct view app, struct view vhost, bool *token)
{
    struct stream_key name, whole;
    enum close_why why;
    if (stream_key_make(app, r->name, (struct view){0}, &name) != ERR_OK ||
        stream_key_make(app, r->name, vhost, &whole) != ERR_OK)
        return WHY_ACCESS_DENIED;
    switch (action_for(a, r, &name)) {
    case ACCESS_ALLOW:
        return WHY_NONE;
    case ACCESS_TOKEN:
        *token = true;
        why = check_token(a, r);
        return why == WHY_NONE && strcmp(whole.text, r->key->text) != 0 ? WHY_TOKEN_BAD : why;
    case ACCESS_DENY:
        break;
    }
    return WHY_ACCESS_DENIED;
}

/* Nodes take some of these for a '?', and leave others out. */
static bool has_odd_byte(struct view path)
{
    static const char odd[] = " #,=&";
    for (size_t i = 0; i < path.len; i++)
        if (strchr(odd, path.p[i]) || (i >= 2 && memcmp(path.p + i - 2, "...", 3) == 0))
            return true;
    return false;
}

/* A part of the path that nodes leave out, elsewhere than at the end, where we do so, too. */
static bool has_definst_within(struct view path)
{
    static const char definst[] = "_definst_";
    const size_t n = sizeof definst - 1;
    for (size_t i = 0; i + n < path.len; i++)
        if (memcmp(path.p + i, definst, n) == 0 && !(i + n + 1 == path.len && path.p[i + n] == '/'))
            return true;
    return false;
}

/* What no honest client sends, and nodes each read in their own way. */
static bool is_odd(const struct access_request *r)
{
    const struct view app = query_path(r->app), url = query_path(r->tc_url);
    const struct view other = stream_key_url_app(url);
    const uint8_t *colon = url.len > 0 ? memchr(url.p, ':', url.len) : NULL;
    const bool is_url = colon && colon + 2 < url.p + url.len && colon[1] == '/' && colon[2] == '/';
    return (url.len > 0 && !is_url) || has_odd_byte(app) || has_odd_byte(other) ||
           has_definst_within(app) || has_definst_within(other);
}

enum close_why access_check(const struct access *a, const struct access_request *r, bool *token)
{
    *token = false;
    if (a->config->rule_count == 0)
        return WHY_NONE;
    if (is_odd(r))
        return WHY_ACCESS_DENIED;
    enum close_why why = check_as(a, r, r->app, r->vhost, token);
    /* SRS goes by tcUrl, nginx-rtmp by app: a client that gives two must be allowed both */
    const struct view other = stream_key_url_app(r->tc_url);
    const struct view vhost =
        r->vhost.len > 0 ? stream_key_url_vhost(r->tc_url, r->name) : (struct view){0};
    if (why == WHY_NONE && other.len > 0)
        why = check_as(a, r, other, vhost, token);
    return why;
}
