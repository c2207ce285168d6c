#include "admin/api.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "admin/page.h"
#include "admin/routes.h"
#include "config/json_text.h"

enum { DENIED_LOG_EVERY_MS = 1000 };

/* ---- admission ---- */

static bool is_type(const char *header, const char *type)
{
    const size_t n = strlen(type);
    return header && strncmp(header, type, n) == 0 &&
           (header[n] == '\0' || header[n] == ';' || header[n] == ' ');
}

static bool takes_type(const struct route *r, const char *header)
{
    return is_type(header, "application/json") ||
           (r->body == BODY_MERGE_PATCH && is_type(header, "application/merge-patch+json"));
}

/* Names of streams are often secrets: the lines have the route's pattern and the stream's short
 * form. */
static void audit(struct api *a, enum log_level level, enum log_event event,
                  const struct api_call *call, unsigned status)
{
    char stream[10] = "";
    if (call->key.len)
        stream_key_short(&call->key, stream);
    struct log_field fields[10];
    size_t n = 0;
    fields[n++] = log_text(K_USER, call->who);
    fields[n++] = log_text(K_METHOD, http_method_name(call->route->method));
    fields[n++] = log_text(K_PATH, call->route->pattern);
    fields[n++] = log_u64(K_STATUS, status);
    fields[n++] = log_text(K_NODE, call->node);
    fields[n++] =
        log_text(K_STREAM, call->key.len && a->config->log.stream_names ? call->key.text : stream);
    if (call->session)
        fields[n++] = log_u64(K_SID, call->session);
    fields[n++] = log_text(K_CLIENT, call->client);
    fields[n++] = log_text(K_FORWARDED, call->forwarded);
    fields[n++] = log_text(K_DETAIL, call->detail);
    log_write(a->log, level, event, fields, n);
}

static void log_denied(struct api *a, const struct api_call *call, unsigned status)
{
    if (a->mono_ms - a->denied_log_ms < DENIED_LOG_EVERY_MS)
        return;
    a->denied_log_ms = a->mono_ms;
    audit(a, LOG_WARN, EV_API_DENIED, call, status);
}

/* Not by a name that anybody on the Internet may have pointed to this machine. */
static bool names_this_machine(const char *authority)
{
    char host[HOST_MAX];
    uint16_t port;
    struct config_cidr address;
    return config_split_address(authority, 0, host, &port) == ERR_OK &&
           (strcasecmp(host, "localhost") == 0 || config_parse_cidr(host, &address) == ERR_OK);
}

/* Without tokens loopback is trusted; a proxy on this machine comes from there with requests of
 * everybody, and a browser with those of every page it shows (DNS rebinding). Their health checks
 * are welcome. */
static bool comes_from_others(struct api *a, const struct http_request *req, struct api_call *call,
                              struct http_reply *reply)
{
    api_handler *handler = call->route->handler;
    const bool renamed = req->host && !names_this_machine(req->host);
    if (a->tokens->required || handler == api_healthz || handler == api_readyz ||
        (!req->proxied && !renamed))
        return false;
    if (req->proxied)
        http_reply_problem(
            reply, 403, "requests through a proxy need tokens: set admin.tokens to a token file");
    else
        http_reply_problem(reply, 403,
                           "without tokens ask localhost, or an address such as 127.0.0.1, not "
                           "another name: or set admin.tokens to a token file");
    (void)snprintf(call->who, sizeof call->who, "anonymous");
    log_denied(a, call, reply->status);
    return true;
}

static bool may(struct api *a, const struct http_request *req, struct api_call *call,
                struct http_reply *reply)
{
    const struct token *who;
    const enum token_scope needed = call->route->scope;
    if (needed == SCOPE_NONE)
        return true;
    const enum token_scope has = tokens_check(a->tokens, req->authorization, &who);
    call->scope = has;
    (void)snprintf(call->who, sizeof call->who, "%s", who ? who->name : "anonymous");
    if (has >= needed)
        return true;
    reply->authenticate = has == SCOPE_NONE;
    if (has == SCOPE_NONE)
        http_reply_problem(reply, 401, "%s",
                           req->authorization ? "the token is not known"
                                              : "a token is needed: Authorization: Bearer TOKEN");
    else
        http_reply_problem(reply, 403, "the token has scope %s, %s is needed",
                           token_scope_name(has), token_scope_name(needed));
    if (req->authorization)
        log_denied(a, call, reply->status);
    return false;
}

static bool knows_params(const struct http_request *req, const struct route *r,
                         struct http_reply *reply)
{
    for (uint32_t i = 0; i < req->target->param_count; i++) {
        const char *name = req->target->params[i].name;
        if (route_knows_param(r, name))
            continue;
        http_reply_problem(reply, 400, "unknown query parameter %.64s; known are: %s", name,
                           r->params[0] ? r->params : "none");
        return false;
    }
    return true;
}

bool api_admit(struct api *a, const struct http_request *req, size_t body_len,
               struct api_call *call, struct http_reply *reply)
{
    a->requests++;
    *call = (struct api_call){0};
    (void)snprintf(call->client, sizeof call->client, "%s", req->client);
    (void)snprintf(call->forwarded, sizeof call->forwarded, "%s",
                   req->forwarded ? req->forwarded : "");
    call->route = routes_find(req->method, req->target, &call->param, reply->allow);
    if (!call->route && reply->allow[0]) {
        http_reply_problem(reply, 405, "this path knows %s", reply->allow);
        return false;
    }
    if (!call->route) {
        http_reply_problem(reply, 404, "there is no such path; /openapi.json lists all");
        return false;
    }
    if (comes_from_others(a, req, call, reply) || !may(a, req, call, reply) ||
        !knows_params(req, call->route, reply))
        return false;
    if (body_len > a->config->admin.max_request_bytes) {
        http_reply_problem(reply, 413, "a body may have %u bytes (admin.max_request)",
                           (unsigned)a->config->admin.max_request_bytes);
        return false;
    }
    if (call->route->body != BODY_NONE && !takes_type(call->route, req->content_type)) {
        http_reply_problem(reply, 415, "the body must be application/json");
        return false;
    }
    return true;
}

/* ---- answers ---- */

static void audit_change(struct api *a, const struct api_call *call, const struct http_reply *reply)
{
    if (call->route->method != HTTP_GET && reply->status >= 200 && reply->status < 300)
        audit(a, LOG_INFO, EV_API_CHANGE, call, reply->status);
}

void api_answer(struct api *a, const struct http_request *req, struct api_call *call,
                struct http_reply *reply)
{
    (void)snprintf(call->detail, sizeof call->detail, "%.*s", (int)req->body_len,
                   req->body ? req->body : "");
    call->route->handler(a, req, call, reply);
    if (reply->kind == HTTP_REPLY_NOW)
        audit_change(a, call, reply);
}

/* What became of the command; COMMAND_PENDING: nothing yet. */
static enum err command_state(struct api *a, uint64_t id, struct store_command *c)
{
    const enum err e = store_command_get(a->store, id, c);
    if (e != ERR_OK || c->state != COMMAND_PENDING)
        return e;
    return ERR_TIMEOUT;
}

bool api_poll(struct api *a, struct api_call *call, struct http_reply *reply)
{
    struct store_command c;
    enum err e = command_state(a, reply->command, &c);
    if (e == ERR_TIMEOUT && a->mono_ms < call->deadline_ms)
        return false;
    if (e == ERR_TIMEOUT) {
        e = store_command_withdraw(a->store, reply->command);
        if (e == ERR_CONFLICT) /* in the last moment it was carried out after all */
            e = command_state(a, reply->command, &c);
        else if (e == ERR_OK)
            e = ERR_TIMEOUT;
    }
    if (e == ERR_TIMEOUT || e == ERR_NOT_FOUND)
        http_reply_problem(reply, 503, "the worker did not answer within %d ms; nothing was done",
                           KICK_WAIT_MS);
    else if (e != ERR_OK)
        api_store_failed(reply, e);
    else if (c.state == COMMAND_DONE)
        http_reply_empty(reply, 204);
    else
        http_reply_problem(reply, c.kind == COMMAND_MOVE ? 409 : 404, "the worker says: %s",
                           c.result);
    audit_change(a, call, reply);
    return true;
}

/* ---- for the handlers ---- */

void api_store_failed(struct http_reply *reply, enum err e)
{
    if (e == ERR_FULL)
        http_reply_problem(reply, 507, "the store is full");
    else if (e == ERR_NO_MEMORY)
        http_reply_problem(reply, 500, "out of memory");
    else
        http_reply_problem(reply, 503, "the store cannot be used now (%s)", err_name(e));
}

json_t *api_body(const struct http_request *req, struct http_reply *reply)
{
    json_error_t error;
    json_t *body = json_text_parse(req->body ? req->body : "", req->body_len,
                                   JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!body && json_error_code(&error) == json_error_out_of_memory)
        api_store_failed(reply, ERR_NO_MEMORY);
    else if (!body)
        http_reply_problem(reply, 400, "the body is not JSON: line %d, column %d: %s", error.line,
                           error.column, error.text);
    return body;
}

bool api_page_params(const struct http_request *req, uint32_t *limit, const char **cursor,
                     struct http_reply *reply)
{
    *cursor = http_param(req->target, "cursor");
    if (page_limit_parse(http_param(req->target, "limit"), limit) == ERR_OK)
        return true;
    http_reply_problem(reply, 400, "limit: 1 to %d is allowed", PAGE_LIMIT_MAX);
    return false;
}

bool api_flag_param(const struct http_request *req, const char *name, bool *out,
                    struct http_reply *reply)
{
    const char *text = http_param(req->target, name);
    if (!text)
        return true;
    *out = strcmp(text, "true") == 0;
    if (*out || strcmp(text, "false") == 0)
        return true;
    http_reply_problem(reply, 400, "%s: true or false is allowed", name);
    return false;
}

/* node "": none */
static void command_session(struct api *a, enum command_kind kind,
                            const struct session_record *session, const char *node,
                            struct api_call *call, struct http_reply *reply)
{
    struct store_command c = {
        .kind = kind,
        .worker = session->worker,
        .session = session->id,
        .posted_ms = a->now_ms,
        .deadline_ms = a->now_ms + KICK_WAIT_MS,
    };
    (void)snprintf(c.node, sizeof c.node, "%s", node);
    call->session = session->id;
    call->key = session->key;
    const enum err e = store_command_post(a->store, &c);
    if (e != ERR_OK) {
        api_store_failed(reply, e);
        return;
    }
    reply->kind = HTTP_REPLY_WAIT;
    reply->command = c.id;
    call->deadline_ms = a->mono_ms + KICK_WAIT_MS;
}

void api_kick(struct api *a, const struct session_record *session, struct api_call *call,
              struct http_reply *reply)
{
    command_session(a, COMMAND_KICK, session, "", call, reply);
}

void api_move(struct api *a, const struct session_record *publisher, const char *node,
              struct api_call *call, struct http_reply *reply)
{
    command_session(a, COMMAND_MOVE, publisher, node, call, reply);
}

static void keep_claim(void *arg, enum err e, const struct claim *c)
{
    struct api_claim *out = arg;
    out->e = e;
    if (e == ERR_OK)
        out->claim = *c;
}

struct api_claim api_claim_of(struct api *a, const struct stream_key *key)
{
    struct api_claim c = {.e = ERR_NOT_FOUND};
    store_claim_get(a->store, key, a->config->placement.hold_ms, a->now_ms, keep_claim, &c);
    return c;
}

struct hash_search {
    const char *hash;
    struct stream_key key;
    uint32_t found;
};

static bool compare_hash(void *arg, const struct claim *c)
{
    struct hash_search *s = arg;
    char text[10];
    stream_key_short(&c->key, text);
    if (strcmp(text, s->hash) == 0) {
        s->key = c->key;
        s->found++;
    }
    return s->found < 2;
}

enum err api_stream_named(struct api *a, const char *text, struct stream_key *out)
{
    if (text[0] != '#')
        return stream_key_parse(text, out);
    struct hash_search s = {.hash = text};
    const enum err e = store_claims_list(a->store, NULL, compare_hash, &s);
    if (e != ERR_OK)
        return e;
    if (s.found != 1)
        return s.found ? ERR_CONFLICT : ERR_NOT_FOUND;
    *out = s.key;
    return ERR_OK;
}

void api_stream_unknown(struct http_reply *reply, enum err e, const char *text)
{
    if (e == ERR_INVALID || e == ERR_LIMIT)
        http_reply_problem(reply, 400,
                           "a stream is app/name, as in live/cam1, or its short form #1a2b3c4d");
    else if (e == ERR_NOT_FOUND)
        http_reply_problem(reply, 404, "no stream %s", text);
    else if (e == ERR_CONFLICT)
        http_reply_problem(reply, 409, "several live streams are %s: name it in full", text);
    else
        api_store_failed(reply, e);
}
