#include <stdio.h>
#include <string.h>

#include "admin/api.h"
#include "admin/page.h"
#include "admin/views.h"

struct session_filter {
    struct page page;
    uint64_t after;
    const char *node, *client; /* NULL: any */
    bool by_stream, by_kind;
    char stream_hash[12]; /* "#1a2b3c4d"; "": by key */
    struct stream_key key;
    enum session_kind kind;
};

static int compare_sessions(const void *a, const void *b)
{
    const struct session_record *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* "10.0.0.1" is any port of it, "10.0.0.1:5000" this one; v6 with or without brackets. */
static bool is_client(const char *address, const char *wanted)
{
    if (strcmp(address, wanted) == 0)
        return true;
    const bool v6 = address[0] == '[';
    const char *host = v6 ? address + 1 : address, *end = strrchr(address, v6 ? ']' : ':');
    const size_t n = strlen(wanted);
    return end && (((size_t)(end - host) == n && strncmp(host, wanted, n) == 0) ||
                   (v6 && (size_t)(end + 1 - address) == n && strncmp(address, wanted, n) == 0));
}

static bool is_stream(const struct stream_key *key, const struct session_filter *f)
{
    char text[10];
    if (!f->stream_hash[0])
        return strcmp(key->text, f->key.text) == 0;
    stream_key_short(key, text);
    return strcmp(text, f->stream_hash) == 0;
}

static bool offer_session(void *arg, const struct session_record *r)
{
    struct session_filter *f = arg;
    if ((!f->by_kind || r->kind == f->kind) && (!f->node || strcmp(r->node, f->node) == 0) &&
        (!f->client || is_client(r->client, f->client)) && (!f->by_stream || is_stream(&r->key, f)))
        page_offer(&f->page, r);
    return !f->page.more;
}

static bool read_stream_filter(const char *text, struct session_filter *f, struct http_reply *reply)
{
    if (!text)
        return true;
    f->by_stream = true;
    if (text[0] == '#' && strlen(text) < sizeof f->stream_hash) {
        (void)snprintf(f->stream_hash, sizeof f->stream_hash, "%s", text);
        return true;
    }
    if (stream_key_parse(text, &f->key) == ERR_OK)
        return true;
    api_stream_unknown(reply, ERR_INVALID, text);
    return false;
}

static bool read_filter(const struct http_request *req, struct session_filter *f,
                        const char *cursor, struct http_reply *reply)
{
    const char *kind = http_param(req->target, "kind");
    f->node = http_param(req->target, "node");
    f->client = http_param(req->target, "client");
    f->by_kind = kind != NULL;
    f->kind = kind && strcmp(kind, "play") == 0 ? SESSION_PLAY : SESSION_PUBLISH;
    if (kind && strcmp(kind, "play") != 0 && strcmp(kind, "publish") != 0) {
        http_reply_problem(reply, 400, "kind: publish or play is allowed");
        return false;
    }
    if (cursor && view_session_id_parse(cursor, &f->after) != ERR_OK) {
        http_reply_problem(reply, 400, "cursor: not one that a list gave");
        return false;
    }
    return read_stream_filter(http_param(req->target, "stream"), f, reply);
}

static json_t *session_page(const struct page *p)
{
    char next[VIEW_ID_MAX] = "";
    json_t *items = json_array();
    for (uint32_t i = 0; i < p->count; i++) {
        const struct session_record *r = page_item(p, i);
        if (json_array_append_new(items, view_session(r)) != 0) {
            json_decref(items);
            return NULL;
        }
        view_session_id(r->id, next);
    }
    return view_list(items, p->more ? next : NULL);
}

void api_session_list(struct api *a, const struct http_request *req, struct api_call *call,
                      struct http_reply *reply)
{
    (void)call;
    struct session_filter f = {0};
    const char *cursor;
    uint32_t limit;
    if (!api_page_params(req, &limit, &cursor, reply) || !read_filter(req, &f, cursor, reply))
        return;
    enum err e = page_init(&f.page, limit, sizeof(struct session_record), compare_sessions);
    if (e == ERR_OK)
        e = store_sessions_list(a->store, f.after, offer_session, &f);
    if (e == ERR_OK)
        http_reply_json(reply, 200, session_page(&f.page));
    else
        api_store_failed(reply, e);
    page_deinit(&f.page);
}

/* False: *reply says why there is none. */
static bool named_session(struct api *a, const char *text, struct session_record *out,
                          struct http_reply *reply)
{
    uint64_t id;
    enum err e = ERR_NOT_FOUND;
    if (view_session_id_parse(text, &id) == ERR_OK)
        e = store_session_get(a->store, id, out);
    if (e == ERR_NOT_FOUND)
        http_reply_problem(reply, 404, "no session %.32s", text);
    else if (e != ERR_OK)
        api_store_failed(reply, e);
    return e == ERR_OK;
}

void api_session_get(struct api *a, const struct http_request *req, struct api_call *call,
                     struct http_reply *reply)
{
    (void)req;
    struct session_record r;
    if (named_session(a, call->param, &r, reply))
        http_reply_json(reply, 200, view_session(&r));
}

void api_session_delete(struct api *a, const struct http_request *req, struct api_call *call,
                        struct http_reply *reply)
{
    (void)req;
    struct session_record r;
    if (named_session(a, call->param, &r, reply))
        api_kick(a, &r, call, reply);
}
