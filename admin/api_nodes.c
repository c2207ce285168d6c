#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/api.h"
#include "admin/facts.h"
#include "admin/node_input.h"
#include "admin/page.h"

enum { CHANGE_TRIES = 4 }; /* of a change without If-Match, when somebody else was first */

/* ---- reading ---- */

struct node_filter {
    const char *cursor, *state, *health; /* NULL: any */
};

static bool wanted(const struct node *n, const struct node_filter *f)
{
    return (!f->cursor || strcmp(n->conf.id, f->cursor) > 0) &&
           (!f->state || strcmp(node_admin_name(n->admin), f->state) == 0) &&
           (!f->health || strcmp(node_health_name(n->health), f->health) == 0);
}

static json_t *list_nodes(const struct facts *facts, const struct node_filter *f, uint32_t limit)
{
    const char *last = NULL, *next = NULL; /* nodes are in order of their ids */
    json_t *items = json_array();
    uint32_t count = 0;
    for (uint32_t i = 0; i < facts->nodes->count && !next; i++) {
        const struct node *n = &facts->nodes->nodes[i];
        if (!wanted(n, f))
            continue;
        if (count == limit) {
            next = last;
            break;
        }
        const struct view_node v = facts_view(facts, i);
        if (json_array_append_new(items, view_node(&v)) != 0) {
            json_decref(items);
            return NULL;
        }
        last = n->conf.id;
        count++;
    }
    return view_list(items, next);
}

static bool is_health(const char *name)
{
    for (enum node_health h = NODE_UNKNOWN; h <= NODE_DOWN; h++)
        if (strcmp(name, node_health_name(h)) == 0)
            return true;
    return false;
}

static bool read_filter(const struct http_request *req, struct node_filter *f,
                        struct http_reply *reply)
{
    enum node_admin state;
    f->state = http_param(req->target, "state");
    f->health = http_param(req->target, "health");
    if (f->state && node_admin_parse(f->state, &state) != ERR_OK)
        http_reply_problem(reply, 400, "state: enabled, drain or disabled is allowed");
    else if (f->health && !is_health(f->health))
        http_reply_problem(reply, 400, "health: up, down or unknown is allowed");
    else
        return true;
    return false;
}

void api_node_list(struct api *a, const struct http_request *req, struct api_call *call,
                   struct http_reply *reply)
{
    (void)call;
    struct node_filter f = {0};
    struct facts facts;
    uint32_t limit;
    if (!api_page_params(req, &limit, &f.cursor, reply) || !read_filter(req, &f, reply))
        return;
    const enum err e = facts_read(a->store, a->config->cluster_name, a->now_ms, &facts);
    if (e != ERR_OK) {
        api_store_failed(reply, e);
        return;
    }
    http_reply_json(reply, 200, list_nodes(&facts, &f, limit));
    facts_clear(&facts);
}

static void write_etag(char *buf, uint64_t etag)
{
    (void)snprintf(buf, HTTP_HEADER_MAX, "\"%016llx\"", (unsigned long long)etag);
}

static bool keep_failures_of(void *arg, const struct dial_failures *d)
{
    struct dial_failures *want = arg;
    if (strcmp(d->node, want->node) != 0)
        return true;
    *want = *d;
    return false;
}

/* The node as it is in the store now. */
static void reply_node(struct api *a, const char *id, unsigned status, struct http_reply *reply)
{
    struct node n;
    struct node_status status_now;
    struct dial_failures failed = {0};
    uint64_t etag;
    (void)snprintf(failed.node, sizeof failed.node, "%s", id);
    enum err e = store_node_get(a->store, id, &n, &etag);
    if (e == ERR_NOT_FOUND) {
        http_reply_problem(reply, 404, "no node %s", id);
        return;
    }
    if (e == ERR_OK)
        e = store_dial_failures_list(a->store, keep_failures_of, &failed);
    const enum err known = e == ERR_OK ? store_status_get(a->store, id, &status_now) : e;
    if (known != ERR_OK && known != ERR_NOT_FOUND) {
        api_store_failed(reply, known);
        return;
    }
    const struct view_node v = {.node = &n,
                                .status = known == ERR_OK ? &status_now : NULL,
                                .failed = failed.count ? &failed : NULL};
    http_reply_json(reply, status, view_node(&v));
    write_etag(reply->etag, etag);
}

void api_node_get(struct api *a, const struct http_request *req, struct api_call *call,
                  struct http_reply *reply)
{
    (void)req;
    reply_node(a, call->param, 200, reply);
}

/* ---- preconditions ---- */

/* Whether one of the header's entity tags is the record's; weak ones never are (RFC 9110
 * section 13.1.1). */
static bool lists_etag(const char *header, uint64_t etag)
{
    char text[HTTP_HEADER_MAX];
    write_etag(text, etag);
    const char *at = strstr(header, text);
    return at && !(at - header >= 2 && strncmp(at - 2, "W/", 2) == 0);
}

/* exists: etag is the record's. False: 412 is said. */
static bool precondition_holds(const struct http_request *req, bool exists, uint64_t etag,
                               struct http_reply *reply)
{
    const char *match = req->if_match, *none = req->if_none_match;
    const bool any = match && strcmp(match, "*") == 0;
    if (match && (!exists || (!any && !lists_etag(match, etag)))) {
        http_reply_problem(reply, 412, "%s",
                           exists ? "the node was changed since: read it again"
                                  : "there is no such node");
        return false;
    }
    if (none && exists && (strcmp(none, "*") == 0 || lists_etag(none, etag))) {
        http_reply_problem(reply, 412, "the node exists");
        return false;
    }
    return true;
}

/* ---- changing ---- */

/* One change of one node: what apply() makes of the record that is there. */
struct node_change {
    const json_t *body;
    bool may_create;
    bool state_only; /* allowed for nodes of the configuration too */
    enum node_input_mode mode;
};

static bool from_file(struct api *a, const struct node *n, struct http_reply *reply)
{
    if (n->source != NODE_FROM_CONFIG)
        return false;
    http_reply_problem(reply, 409,
                       "node %s comes from the configuration, %s: change it there and reload the "
                       "routers; only its state can be set here",
                       n->conf.id, a->file);
    return true;
}

/* The record to be written. False: *reply says why not. */
static bool make_record(const struct node_change *c, struct node *n, struct http_reply *reply)
{
    struct http_field_errors errors = {0};
    if (c->state_only)
        node_input_state(c->body, &n->admin, &errors);
    else
        node_input_apply(c->body, c->mode, n, &errors);
    if (errors.count)
        http_reply_invalid(reply, &errors);
    return errors.count == 0;
}

static bool set_id(struct node *n, const char *id, struct http_reply *reply)
{
    char error[CONFIG_ERROR_MAX] = "";
    config_node_init(&n->conf);
    if (config_node_set(&n->conf, "id", id, error) == ERR_OK)
        return true;
    struct http_field_errors errors = {0};
    http_field_errors_add(&errors, "id", "%s", error);
    http_reply_invalid(reply, &errors);
    return false;
}

/* ERR_CONFLICT: somebody else was first. ERR_OK: *reply is the answer. */
static enum err try_change(struct api *a, const struct http_request *req, const char *id,
                           const struct node_change *c, struct http_reply *reply)
{
    struct node n = {.source = NODE_FROM_API};
    uint64_t etag = 0, fresh;
    enum err e = store_node_get(a->store, id, &n, &etag);
    const bool exists = e == ERR_OK;
    if (!exists && e != ERR_NOT_FOUND)
        return e;
    if (!exists && !c->may_create && !req->if_match) {
        http_reply_problem(reply, 404, "no node %s", id);
        return ERR_OK;
    }
    if (!precondition_holds(req, exists, etag, reply) ||
        (exists && !c->state_only && from_file(a, &n, reply)) ||
        (!exists && !set_id(&n, id, reply)) || !make_record(c, &n, reply))
        return ERR_OK;
    e = store_node_put_if(a->store, &n, exists ? etag : STORE_ETAG_NONE, &fresh);
    if (e != ERR_OK)
        return e;
    reply_node(a, id, exists ? 200 : 201, reply);
    if (!exists)
        (void)snprintf(reply->location, sizeof reply->location, "/api/v1/nodes/%s", id);
    return ERR_OK;
}

static void change(struct api *a, const struct http_request *req, struct api_call *call,
                   struct node_change *c, struct http_reply *reply)
{
    json_t *body = api_body(req, reply);
    if (!body)
        return;
    c->body = body;
    (void)snprintf(call->node, sizeof call->node, "%s", call->param);
    enum err e = ERR_CONFLICT;
    for (unsigned i = 0; e == ERR_CONFLICT && i < CHANGE_TRIES; i++)
        e = try_change(a, req, call->param, c, reply);
    json_decref(body);
    if (e == ERR_CONFLICT)
        http_reply_problem(reply, 409, "the node is being changed by others: try again");
    else if (e == ERR_FULL)
        http_reply_problem(reply, 507, "the store is full, or has %d nodes, which is the most",
                           NODES_MAX);
    else if (e != ERR_OK)
        api_store_failed(reply, e);
}

void api_node_put(struct api *a, const struct http_request *req, struct api_call *call,
                  struct http_reply *reply)
{
    struct node_change c = {.may_create = true, .mode = NODE_INPUT_PUT};
    change(a, req, call, &c, reply);
}

void api_node_patch(struct api *a, const struct http_request *req, struct api_call *call,
                    struct http_reply *reply)
{
    struct node_change c = {.mode = NODE_INPUT_PATCH};
    change(a, req, call, &c, reply);
}

void api_node_state_put(struct api *a, const struct http_request *req, struct api_call *call,
                        struct http_reply *reply)
{
    struct node_change c = {.state_only = true};
    change(a, req, call, &c, reply);
}

/* ---- removing ---- */

void api_node_delete(struct api *a, const struct http_request *req, struct api_call *call,
                     struct http_reply *reply)
{
    struct node n;
    uint64_t etag;
    bool force = false;
    (void)snprintf(call->node, sizeof call->node, "%s", call->param);
    if (!api_flag_param(req, "force", &force, reply))
        return;
    enum err e = store_node_get(a->store, call->param, &n, &etag);
    if (e == ERR_OK) {
        if (!precondition_holds(req, true, etag, reply) || from_file(a, &n, reply))
            return;
        if (n.streams > 0 && !force) {
            http_reply_problem(reply, 409,
                               "node %s carries %u streams: drain it first, or add ?force=true",
                               call->param, (unsigned)n.streams);
            return;
        }
        e = store_node_delete_if(a->store, call->param, etag);
    }
    if (e == ERR_NOT_FOUND)
        http_reply_problem(reply, 404, "no node %s", call->param);
    else if (e == ERR_CONFLICT)
        http_reply_problem(reply, 409, "the node is being changed by others: try again");
    else if (e != ERR_OK)
        api_store_failed(reply, e);
    else
        http_reply_empty(reply, 204);
}
