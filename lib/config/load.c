#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/keys.h"
#include "config/suggest.h"
#include "config/tree.h"
#include "config/value.h"

enum {
    SHOWN_MAX = 160,
    REACH_MARGIN_MS = 1000, /* what a hung node has taken meanwhile, and the lag of players */
};

struct loader {
    const char *name; /* of the text */
    char *error;      /* CONFIG_ERROR_MAX */
    struct config *c;
    const struct tree_node *root;
};

/* A map being read. */
struct scope {
    const char *prefix;    /* of its rows: "router", "nodes[]" */
    char shown[SHOWN_MAX]; /* the same for people: "nodes[2]" */
    void *base;            /* what the rows' offsets count from */
};

/* "file:line:column: key: what is wrong"; key may be empty, the position unknown. */
PRINTF_LIKE(4, 5)
static enum err refuse(const struct loader *l, struct tree_mark at, const char *key,
                       const char *fmt, ...)
{
    char position[32] = "", wrong[CONFIG_ERROR_MAX];
    if (at.line > 0)
        snprintf(position, sizeof position, "%u:%u:", at.line, at.column);
    va_list args;
    va_start(args, fmt);
    vsnprintf(wrong, sizeof wrong, fmt, args);
    va_end(args);
    const int n = snprintf(l->error, CONFIG_ERROR_MAX, "%s:%s %s%s%s", l->name, position, key,
                           *key ? ": " : "", wrong);
    assert(n > 0);
    (void)n;
    return ERR_INVALID;
}

/* A node as error texts name it. */
static const char *found(const struct tree_node *n, char buf[VALUE_QUOTED_MAX])
{
    if (n->kind == TREE_LIST)
        return "a list";
    if (n->kind == TREE_MAP)
        return "a map";
    if (n->null)
        return "nothing";
    value_quote(n->text, buf);
    return buf;
}

/* No key of the table is so long that the cut could make a known one of an unknown one. */
static void join(const char *prefix, const char *key, char out[SHOWN_MAX])
{
    snprintf(out, SHOWN_MAX, "%.80s%s%.64s", prefix, *prefix ? "." : "", key);
}

/* The same for people, whatever bytes the key has. */
static void join_shown(const char *prefix, const char *key, char out[SHOWN_MAX])
{
    char quoted[VALUE_QUOTED_MAX];
    value_quote(key, quoted);
    join(prefix, quoted, out);
}

static const struct tree_node *child(const struct tree_node *map, const char *key, size_t len)
{
    const struct tree_node *n = map->kind == TREE_MAP ? map->first : NULL;
    while (n && (strlen(n->key) != len || memcmp(n->key, key, len) != 0))
        n = n->next;
    return n;
}

/* What the text gives for a path without lists in it, or NULL. */
static const struct tree_node *given(const struct loader *l, const char *path)
{
    const struct tree_node *n = l->root;
    while (n) {
        const size_t len = key_component(path);
        n = child(n, path, len);
        if (path[len] == '\0')
            break;
        path += len + 1;
    }
    return n;
}

static struct tree_mark given_at(const struct loader *l, const char *path)
{
    const struct tree_node *n = given(l, path);
    return n ? n->mark : (struct tree_mark){0};
}

static const struct tree_node *item_at(const struct tree_node *list, uint32_t index)
{
    const struct tree_node *n = list->first;
    while (index-- > 0)
        n = n->next;
    return n;
}

/* ---- values ---- */

static enum err load_text(const struct loader *l, const struct key_row *row,
                          const struct tree_node *n, const char *shown, void *base)
{
    char what[VALUE_QUOTED_MAX], allowed[VALUE_HINT_MAX], refusal[VALUE_REFUSAL_MAX];
    if (n->kind != TREE_SCALAR || n->null) {
        value_allowed(row, allowed);
        return refuse(l, n->mark, shown, "found %s, allowed: %s", found(n, what), allowed);
    }
    const enum err e = value_parse(row, n->text, base);
    if (e == ERR_OK)
        return ERR_OK;
    value_refusal(row, n->text, e, refusal);
    return refuse(l, n->mark, shown, "%s", refusal);
}

static enum err check_list(const struct loader *l, const struct key_row *row,
                           const struct tree_node *n, const char *shown)
{
    char what[VALUE_QUOTED_MAX], allowed[VALUE_HINT_MAX];
    value_allowed(row, allowed);
    if (n->kind != TREE_LIST)
        return refuse(l, n->mark, shown, "found %s, allowed: %s", found(n, what), allowed);
    if (n->count < row->min || n->count > row->max)
        return refuse(l, n->mark, shown, "found a list of %u, allowed: %s", n->count, allowed);
    return ERR_OK;
}

/* A list of plain values. */
static enum err load_values(const struct loader *l, const struct key_row *row,
                            const struct tree_node *n, const char *shown, void *base)
{
    if (n->null && row->type == KEY_SET)
        return ERR_OK; /* all items commented out: as if it were not there */
    enum err e = check_list(l, row, n, shown);
    for (const struct tree_node *item = n->first; e == ERR_OK && item; item = item->next)
        e = load_text(l, row, item, shown, base);
    return e;
}

/* ---- maps and lists ---- */

static enum err load_map(const struct loader *l, const struct scope *s,
                         const struct tree_node *map);

static enum err load_item(const struct loader *l, const struct scope *s,
                          const struct tree_node *item)
{
    char what[VALUE_QUOTED_MAX];
    if (item->kind != TREE_MAP)
        return refuse(l, item->mark, s->shown, "found %s, allowed: a map of keys",
                      found(item, what));
    value_set_defaults(s->prefix, s->base);
    const enum err e = load_map(l, s, item);
    if (e != ERR_OK)
        return e;
    for (size_t i = 0; i < key_row_count; i++) {
        const char *key = key_below(&key_rows[i], s->prefix);
        if (key && !key_rows[i].initial && !child(item, key, strlen(key))) {
            char allowed[VALUE_HINT_MAX];
            value_allowed(&key_rows[i], allowed);
            return refuse(l, item->mark, s->shown, "%s is missing: %s", key, allowed);
        }
    }
    return ERR_OK;
}

static void *make_list(struct config *c, const struct key_row *row, uint32_t count)
{
    if (row->type == KEY_NODES) {
        c->nodes = calloc(count, sizeof *c->nodes);
        c->node_count = c->nodes ? count : 0;
        return c->nodes;
    }
    if (row->type == KEY_RULES) {
        c->access.rules = calloc(count, sizeof *c->access.rules);
        c->access.rule_count = c->access.rules ? count : 0;
        return c->access.rules;
    }
    c->router.listen = calloc(count, sizeof *c->router.listen);
    c->router.listen_count = c->router.listen ? count : 0;
    return c->router.listen;
}

static enum err load_list(const struct loader *l, const struct key_row *row,
                          const struct tree_node *n, const char *shown)
{
    if (n->null)
        return ERR_OK; /* all items commented out: as if it were not there */
    enum err e = check_list(l, row, n, shown);
    if (e != ERR_OK || n->count == 0)
        return e;
    char *items = make_list(l->c, row, n->count);
    if (!items)
        return ERR_NO_MEMORY;
    const struct value_list list = value_list_of(row, l->c);
    uint32_t index = 0;
    for (const struct tree_node *item = n->first; e == ERR_OK && item; item = item->next, index++) {
        struct scope s = {.prefix = list.prefix, .base = items + index * list.item_bytes};
        snprintf(s.shown, sizeof s.shown, "%.100s[%u]", shown, index);
        e = load_item(l, &s, item);
    }
    return e;
}

static bool is_section(const char *path)
{
    for (size_t i = 0; i < key_row_count; i++) {
        if (key_below(&key_rows[i], path))
            return true;
    }
    return false;
}

static enum err load_section(const struct loader *l, const char *path, const struct tree_node *n)
{
    char what[VALUE_QUOTED_MAX];
    if (n->kind == TREE_SCALAR && n->null)
        return ERR_OK; /* all keys commented out */
    if (n->kind != TREE_MAP)
        return refuse(l, n->mark, path, "found %s, allowed: a map of keys", found(n, what));
    struct scope s = {.prefix = path, .base = l->c};
    snprintf(s.shown, sizeof s.shown, "%s", path);
    return load_map(l, &s, n);
}

static enum err load_entry(const struct loader *l, const struct scope *s,
                           const struct tree_node *map, const struct tree_node *n)
{
    char path[SHOWN_MAX], shown[SHOWN_MAX], hint[VALUE_HINT_MAX];
    join(s->prefix, n->key, path);
    join_shown(s->shown, n->key, shown);
    const struct tree_node *before = child(map, n->key, strlen(n->key));
    if (before != n)
        return refuse(l, n->key_mark, shown,
                      "found twice, the first time in line %u; allowed: once",
                      before->key_mark.line);
    /* A dot in a key would look like a path of sections. */
    const struct key_row *row = strpbrk(n->key, ".[") ? NULL : key_find(path);
    if (row && key_is_map_list(row))
        return load_list(l, row, n, shown);
    if (row && (row->type == KEY_SET || row->type == KEY_CIDRS || row->type == KEY_APPS))
        return load_values(l, row, n, shown, s->base);
    if (row)
        return load_text(l, row, n, shown, s->base);
    if (!strpbrk(n->key, ".[") && is_section(path))
        return load_section(l, path, n);
    suggest_key(s->prefix, n->key, hint, sizeof hint);
    return refuse(l, n->key_mark, shown, "unknown key%s", hint);
}

/* Sections nest as deep as the table's paths, which bounds the recursion whatever the text is. */
static enum err load_map(const struct loader *l, const struct scope *s, const struct tree_node *map)
{
    for (const struct tree_node *n = map->first; n; n = n->next) {
        const enum err e = load_entry(l, s, map, n);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

/* ---- what no row can say alone ---- */

static enum err check_nodes(const struct loader *l)
{
    const struct config *c = l->c;
    for (uint32_t i = 1; i < c->node_count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(c->nodes[i].id, c->nodes[k].id) != 0)
                continue;
            char shown[SHOWN_MAX];
            snprintf(shown, sizeof shown, "nodes[%u].id", i);
            const struct tree_node *list = given(l, "nodes");
            return refuse(l, child(item_at(list, i), "id", 2)->mark, shown,
                          "found %s, which nodes[%u] in line %u has already; allowed: a unique id",
                          c->nodes[i].id, k, child(item_at(list, k), "id", 2)->mark.line);
        }
    }
    return ERR_OK;
}

static bool same_address(const char *a, const char *b)
{
    char host_a[HOST_MAX], host_b[HOST_MAX];
    uint16_t port_a = 0, port_b = 0;
    const enum err e_a = config_split_address(a, 0, host_a, &port_a);
    const enum err e_b = config_split_address(b, 0, host_b, &port_b);
    return e_a == ERR_OK && e_b == ERR_OK && port_a == port_b && strcmp(host_a, host_b) == 0;
}

enum reach { REACH_ONE = 0, REACH_V4, REACH_ALL }; /* of what is listened on */

static enum reach reach_of(const char *host)
{
    static const uint8_t any[16];
    struct config_cidr addr;
    if (host[0] == '\0')
        return REACH_ALL;
    if (config_parse_cidr(host, &addr) != ERR_OK)
        return REACH_ONE;
    if (memcmp(addr.addr, any, sizeof any) == 0)
        return REACH_ALL;
    return strcmp(host, "0.0.0.0") == 0 ? REACH_V4 : REACH_ONE;
}

/* One is among what the other takes. [::] beside 0.0.0.0 takes IPv6 only. */
static bool overlap(const char *a, const char *b)
{
    char host_a[HOST_MAX], host_b[HOST_MAX];
    uint16_t port_a = 0, port_b = 0;
    struct config_cidr addr;
    if (config_split_address(a, 0, host_a, &port_a) != ERR_OK ||
        config_split_address(b, 0, host_b, &port_b) != ERR_OK || port_a != port_b)
        return false;
    const enum reach reach_a = reach_of(host_a), reach_b = reach_of(host_b);
    if (reach_a == REACH_ALL || reach_b == REACH_ALL)
        return reach_a != REACH_V4 && reach_b != REACH_V4;
    const bool v4_a = config_parse_cidr(host_a, &addr) == ERR_OK && !strchr(host_a, ':');
    const bool v4_b = config_parse_cidr(host_b, &addr) == ERR_OK && !strchr(host_b, ':');
    return v4_a && v4_b && (reach_a == REACH_V4 || reach_b == REACH_V4);
}

static enum err check_listens(const struct loader *l)
{
    const struct config_router *r = &l->c->router;
    const struct tree_node *list = given(l, "router.listen");
    for (uint32_t i = 0; i < r->listen_count && list && !list->null; i++) {
        char shown[SHOWN_MAX];
        const struct tree_node *item = item_at(list, i);
        for (uint32_t k = 0; k < i; k++) {
            const bool same = same_address(r->listen[i].address, r->listen[k].address);
            if (!same && !overlap(r->listen[i].address, r->listen[k].address))
                continue;
            snprintf(shown, sizeof shown, "router.listen[%u].address", i);
            return refuse(
                l, child(item, "address", 7)->mark, shown,
                same ? "found %s, which router.listen[%u] has already; allowed: each address once"
                     : "found %s, which with router.listen[%u] is listened on twice; "
                       "allowed: every address of a port, or single ones",
                r->listen[i].address, k);
        }
        if (r->listen[i].proxy_protocol == LISTEN_PROXY_REQUIRED && r->listen[i].trust.count == 0) {
            const struct tree_node *trust = child(item, "trust", 5);
            snprintf(shown, sizeof shown, "router.listen[%u].trust", i);
            return refuse(
                l, trust ? trust->mark : item->mark, shown,
                "found nothing; with proxy_protocol: required, name who may send the header, "
                "such as [127.0.0.0/8]");
        }
        if (r->listen[i].proxy_protocol != LISTEN_PROXY_REQUIRED && r->listen[i].trust.count > 0) {
            snprintf(shown, sizeof shown, "router.listen[%u].trust", i);
            return refuse(l, child(item, "trust", 5)->mark, shown,
                          "has no effect without proxy_protocol: required; anybody can connect to "
                          "a listener that takes no PROXY header");
        }
    }
    return ERR_OK;
}

/* Two databases cannot be in one directory. */
static enum err check_store(const struct loader *l)
{
    const struct config *c = l->c;
    if (strcmp(c->store + sizeof KEY_STORE_PREFIX - 1, c->live) != 0)
        return ERR_OK;
    struct tree_mark at = given_at(l, "cluster.live");
    if (at.line == 0)
        at = given_at(l, "cluster.store");
    return refuse(l, at, "cluster.live", "found %s, allowed: another directory than cluster.store",
                  c->live);
}

static enum err check_pair(const struct loader *l, const char *greater_path, bool good,
                           const char *relation, const char *other_path)
{
    if (good)
        return ERR_OK;
    char found_text[VALUE_TEXT_MAX], other_text[VALUE_TEXT_MAX];
    value_print(key_find(greater_path), l->c, found_text);
    value_print(key_find(other_path), l->c, other_text);
    struct tree_mark at = given_at(l, greater_path);
    if (at.line == 0)
        at = given_at(l, other_path);
    return refuse(l, at, greater_path, "found %s, allowed: %s %s, which is %s", found_text,
                  relation, other_path, other_text);
}

static enum err check_admin(const struct loader *l)
{
    const struct config_admin *a = &l->c->admin;
    if (a->tokens[0] != '\0' || config_is_loopback(a->listen))
        return ERR_OK;
    struct tree_mark at = given_at(l, "admin.listen");
    if (at.line == 0)
        at = given_at(l, "admin.tokens");
    return refuse(l, at, "admin.listen",
                  "found %s, allowed: a loopback address such as 127.0.0.1:8090, or name a token "
                  "file in admin.tokens",
                  a->listen);
}

static enum err check_access(const struct loader *l)
{
    const struct config_access *a = &l->c->access;
    const struct tree_node *list = given(l, "access.rules");
    for (uint32_t i = 0; i < a->rule_count && a->keys[0] == '\0'; i++) {
        if (a->rules[i].action != ACCESS_TOKEN)
            continue;
        char shown[SHOWN_MAX];
        snprintf(shown, sizeof shown, "access.rules[%u].action", i);
        return refuse(l, child(item_at(list, i), "action", 6)->mark, shown,
                      "found token, allowed: allow or deny, or name a file of keys in access.keys");
    }
    return ERR_OK;
}

/* What is seen there is nobody's stream: all streams of clients would be overlooked. */
static enum err check_loop_app(const struct loader *l)
{
    const struct config_healthd *h = &l->c->healthd;
    if (strcmp(h->loop_app, h->app) != 0)
        return ERR_OK;
    struct tree_mark at = given_at(l, "healthd.loop_app");
    if (at.line == 0)
        at = given_at(l, "healthd.app");
    return refuse(l, at, "healthd.loop_app",
                  "found %s, allowed: another application than healthd.app", h->loop_app);
}

static enum err check_all(const struct loader *l)
{
    const struct config *c = l->c;
    enum err e = check_store(l);
    if (e == ERR_OK)
        e = check_nodes(l);
    if (e == ERR_OK)
        e = check_listens(l);
    if (e == ERR_OK)
        e = check_pair(l, "limits.unfinished",
                       c->limits.unfinished_bytes >= c->limits.message_bytes, "at least",
                       "limits.message");
    if (e == ERR_OK)
        e = check_pair(l, "router.ping_timeout",
                       c->router.ping_timeout_ms > c->router.ping_interval_ms, "more than",
                       "router.ping_interval");
    if (e == ERR_OK)
        e = check_pair(l, "failover.reach",
                       c->failover.reach_ms >= c->failover.stall_ms + REACH_MARGIN_MS,
                       "at least 1s more than", "failover.stall");
    if (e == ERR_OK)
        e = check_access(l);
    if (e == ERR_OK)
        e = check_loop_app(l);
    if (e == ERR_OK)
        e = check_admin(l);
    return e;
}

/* ---- the whole ---- */

static enum err load_initial_list(const struct loader *l, const struct key_row *row)
{
    struct tree tree;
    enum err e = tree_parse(&tree, row->initial, strlen(row->initial));
    if (e == ERR_OK)
        e = row->type == KEY_SET ? load_values(l, row, tree.root, row->path, l->c)
                                 : load_list(l, row, tree.root, row->path);
    tree_deinit(&tree);
    return e;
}

/* Defaults that depend on other keys, or are more than a value. */
static enum err complete(const struct loader *l)
{
    struct config *c = l->c;
    if (strcmp(c->live, KEY_LIVE_PARENT KEY_CLUSTER_MARK) == 0) {
        memset(c->live, 0, sizeof c->live);
        snprintf(c->live, sizeof c->live, KEY_LIVE_PARENT "%s", c->cluster_name);
    }
    if (c->failover.reach_ms == 0)
        c->failover.reach_ms = c->failover.stall_ms + REACH_MARGIN_MS;
    enum err e = c->router.listen ? ERR_OK : load_initial_list(l, key_find("router.listen"));
    if (e == ERR_OK && c->healthd.checks == 0)
        e = load_initial_list(l, key_find("healthd.checks"));
    return e;
}

static enum err load_tree(struct loader *l)
{
    char what[VALUE_QUOTED_MAX];
    const struct scope top = {.prefix = "", .shown = "", .base = l->c};
    value_set_defaults("", l->c);
    if (l->root && l->root->kind != TREE_MAP && !l->root->null)
        return refuse(l, l->root->mark, "", "found %s, allowed: a map of sections",
                      found(l->root, what));
    enum err e = l->root ? load_map(l, &top, l->root) : ERR_OK;
    if (e == ERR_OK)
        e = complete(l);
    return e == ERR_OK ? check_all(l) : e;
}

enum err config_load_buffer(const char *name, const char *text, size_t len, struct config **out,
                            char *error)
{
    struct tree tree;
    struct loader l = {.name = name, .error = error, .c = calloc(1, sizeof *l.c)};
    enum err e = tree_parse(&tree, text, len);
    if (!l.c)
        e = ERR_NO_MEMORY;
    if (e == ERR_INVALID)
        e = refuse(&l, tree.error_mark, "", "%s", tree.error);
    if (e == ERR_OK) {
        l.root = tree.root;
        e = load_tree(&l);
    }
    if (e == ERR_NO_MEMORY)
        snprintf(error, CONFIG_ERROR_MAX, "%s: out of memory", name);
    if (e == ERR_OK) {
        *out = l.c;
        l.c = NULL;
    }
    config_destroy(l.c);
    tree_deinit(&tree);
    return e;
}
