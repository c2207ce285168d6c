#include <stdlib.h>
#include <string.h>

#include "admin/api.h"
#include "admin/page.h"
#include "admin/views.h"

static int compare_streams(const void *a, const void *b)
{
    const struct view_stream *x = a, *y = b;
    return strcmp(x->claim.key.text, y->claim.key.text);
}

/* ---- what claims do not say ---- */

static enum err join_sessions(struct api *a, struct view_stream *v)
{
    uint64_t slots;
    struct session_record r;
    enum err e = store_audience(a->store, &v->claim.key, "", &slots, &v->players);
    if (e != ERR_OK)
        return e;
    e = store_session_get(a->store, v->claim.session, &r);
    if (e == ERR_OK && strcmp(r.key.text, v->claim.key.text) == 0)
        v->publisher = r;
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

static enum err complete(struct api *a, struct view_stream *list, uint32_t count)
{
    struct node_table *nodes = NULL;
    enum err e = node_table_create(a->config->cluster_name, &nodes);
    if (e == ERR_OK)
        e = store_nodes_read(a->store, nodes, a->now_ms);
    for (uint32_t i = 0; e == ERR_OK && i < count; i++) {
        const struct place_request req = {
            .key = &list[i].claim.key, .now_wall_ms = a->now_ms, .now_mono_ms = a->mono_ms};
        struct place_result r;
        place(nodes, &a->config->placement, &req, NULL, &r);
        list[i].movable = a->config->failover.max_moves > 0;
        if (r.node)
            memcpy(list[i].home, r.node->conf.id, sizeof list[i].home);
        e = join_sessions(a, &list[i]);
    }
    node_table_destroy(nodes);
    return e;
}

/* ---- handlers ---- */

struct stream_filter {
    struct page page;
    const char *node; /* NULL: any */
};

static bool offer_stream(void *arg, const struct claim *c)
{
    struct stream_filter *f = arg;
    const struct view_stream v = {.claim = *c};
    if (!f->node || strcmp(c->node, f->node) == 0)
        page_offer(&f->page, &v);
    return !f->page.more;
}

/* Keys are bytes: percent-encoded they are a cursor that any client can hand back. */
static json_t *stream_page(const struct page *p)
{
    char next[3 * STREAM_KEY_MAX] = "";
    json_t *items = json_array();
    for (uint32_t i = 0; i < p->count; i++) {
        const struct view_stream *v = page_item(p, i);
        if (json_array_append_new(items, view_stream(v)) != 0 ||
            (p->more && http_percent_encode(v->claim.key.text, next, sizeof next) != ERR_OK)) {
            json_decref(items);
            return NULL;
        }
    }
    return view_list(items, p->more ? next : NULL);
}

void api_stream_list(struct api *a, const struct http_request *req, struct api_call *call,
                     struct http_reply *reply)
{
    (void)call;
    struct stream_filter f = {.node = http_param(req->target, "node")};
    char after[STREAM_KEY_MAX];
    const char *cursor;
    uint32_t limit;
    if (!api_page_params(req, &limit, &cursor, reply))
        return;
    if (cursor && http_percent_decode(cursor, after, sizeof after) != ERR_OK) {
        http_reply_problem(reply, 400, "cursor: not one that a list gave");
        return;
    }
    enum err e = page_init(&f.page, limit, sizeof(struct view_stream), compare_streams);
    if (e == ERR_OK)
        e = store_claims_list(a->store, cursor ? after : NULL, offer_stream, &f);
    if (e == ERR_OK)
        e = complete(a, (struct view_stream *)(void *)f.page.items, f.page.count);
    if (e == ERR_OK)
        http_reply_json(reply, 200, stream_page(&f.page));
    else
        api_store_failed(reply, e);
    page_deinit(&f.page);
}

/* Its claim, whatever state it is in. False: *reply says why there is none. */
static bool named_claim(struct api *a, const char *text, struct claim *out,
                        struct http_reply *reply)
{
    struct stream_key key;
    enum err e = api_stream_named(a, text, &key);
    if (e == ERR_OK) {
        const struct api_claim c = api_claim_of(a, &key);
        e = c.e;
        *out = c.claim;
    }
    if (e != ERR_OK)
        api_stream_unknown(reply, e, text);
    return e == ERR_OK;
}

void api_stream_get(struct api *a, const struct http_request *req, struct api_call *call,
                    struct http_reply *reply)
{
    (void)req;
    struct view_stream v = {0};
    if (!named_claim(a, call->param, &v.claim, reply))
        return;
    const enum err e = complete(a, &v, 1);
    if (e == ERR_OK)
        http_reply_json(reply, 200, view_stream(&v));
    else
        api_store_failed(reply, e);
}

void api_stream_delete(struct api *a, const struct http_request *req, struct api_call *call,
                       struct http_reply *reply)
{
    (void)req;
    struct claim c;
    if (!named_claim(a, call->param, &c, reply))
        return;
    if (c.state != CLAIM_LIVE) {
        http_reply_problem(reply, 404, "the stream has no publisher that could be ended");
        return;
    }
    const struct session_record publisher = {.id = c.session, .worker = c.worker, .key = c.key};
    api_kick(a, &publisher, call, reply);
}

/* node "": wherever a router would place the stream. What is not OK is the store's failure. */
static enum err check_target(struct api *a, const json_t *body, char node[NODE_ID_MAX],
                             struct http_field_errors *errors)
{
    const char *name;
    json_t *value;
    struct node n;
    uint64_t etag;
    enum err e = ERR_OK;
    if (!json_is_object(body)) {
        http_field_errors_add(errors, "", "an object is expected");
        return ERR_OK;
    }
    json_object_foreach((json_t *)(uintptr_t)body, name, value) if (strcmp(name, "to") != 0)
        http_field_errors_add(errors, name, "%.64s: unknown field; only to is known", name);
    const json_t *given = json_object_get(body, "to");
    const char *to = json_string_value(given);
    if (json_is_null(given))
        node[0] = '\0';
    else if (!to)
        http_field_errors_add(errors, "to",
                              "to: the id of a node is expected, or null: wherever it fits");
    else if ((e = store_node_get(a->store, to, &n, &etag)) == ERR_NOT_FOUND)
        http_field_errors_add(errors, "to", "to: no node %.64s", to);
    else if (e == ERR_OK)
        memcpy(node, n.conf.id, NODE_ID_MAX);
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

void api_stream_move(struct api *a, const struct http_request *req, struct api_call *call,
                     struct http_reply *reply)
{
    struct http_field_errors errors = {0};
    char node[NODE_ID_MAX] = "";
    struct claim c;
    json_t *body = api_body(req, reply);
    if (!body)
        return;
    const enum err e = check_target(a, body, node, &errors);
    json_decref(body);
    if (e != ERR_OK) {
        api_store_failed(reply, e);
        return;
    }
    if (errors.count) {
        http_reply_invalid(reply, &errors);
        return;
    }
    if (!named_claim(a, call->param, &c, reply))
        return;
    if (c.state != CLAIM_LIVE) {
        http_reply_problem(reply, 404, "the stream is not live: there is nothing to move");
        return;
    }
    const struct session_record publisher = {.id = c.session, .worker = c.worker, .key = c.key};
    api_move(a, &publisher, node, call, reply);
}
