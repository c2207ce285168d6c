/* admin/api.h - the API of DESIGN 8 over the store: a request in, a reply out. No sockets and no clock: the caller sets the time, so that tests
 * drive it with a store and made-up requests. Routes are in admin/routes.c, their handlers in api_*.c.
 * Owner:  main() fills in a struct api; it owns what the pointers point to.   Thread: the process's only thread.
 * Tests:  tests/unit/admin/test_api.c */
#ifndef WEIR_ADMIN_API_H
#define WEIR_ADMIN_API_H

#include "admin/http.h"
#include "admin/tokens.h"
#include "base/log.h"
#include "cluster/store.h"

struct route;

enum { KICK_WAIT_MS = 2000 }; /* a worker that has not carried out a command by then is not asked further */

struct api {
    struct store *store;
    const struct config *config;
    const char *file; /* of the configuration */
    const struct tokens *tokens;
    struct log *log;
    uint64_t now_ms, mono_ms; /* set before each call */
    uint64_t denied_log_ms;   /* when a refused token was last logged */
    uint64_t requests;
    uint64_t requests_recorded; /* in the store: the total that /metrics shows, so that a successor can go on from it */
    uint32_t connections, event_streams, event_streams_max;
};

/* One request on its way. */
struct api_call {
    const struct route *route;
    const char *param; /* the {part} of the path, decoded; "" if the route has none */
    char who[TOKEN_NAME_MAX];
    enum token_scope scope; /* what they may do; SCOPE_NONE where the route asks for none */
    char client[ADDRESS_TEXT_MAX];
    char forwarded[64];
    char detail[LOG_VALUE_MAX];
    uint64_t deadline_ms; /* of the command that is waited for */
    /* what it is about, for the audit line */
    char node[NODE_ID_MAX];
    struct stream_key key;
    uint64_t session;
};

/* Everything that can be said before the body is read: route, method, token, query, type and length of the body. False: *reply is the answer. */
bool api_admit(struct api *a, const struct http_request *req, size_t body_len, struct api_call *call, struct http_reply *reply);
/* The answer to an admitted request with its whole body. */
void api_answer(struct api *a, const struct http_request *req, struct api_call *call, struct http_reply *reply);
/* A reply of kind HTTP_REPLY_WAIT: true when it has become the answer. */
bool api_poll(struct api *a, struct api_call *call, struct http_reply *reply);

/* ---- for the handlers ---- */

typedef void api_handler(struct api *a, const struct http_request *req, struct api_call *call, struct http_reply *reply);

/* 503 or 507: the store failed. */
void api_store_failed(struct http_reply *reply, enum err e);
/* The body as JSON; NULL: *reply says what is wrong. */
json_t *api_body(const struct http_request *req, struct http_reply *reply);
/* ?limit= and ?cursor=; false: *reply says what is wrong. */
bool api_page_params(const struct http_request *req, uint32_t *limit, const char **cursor, struct http_reply *reply);
/* A parameter that is true or false; left as it is where it is not given. False: *reply says what is wrong. */
bool api_flag_param(const struct http_request *req, const char *name, bool *out, struct http_reply *reply);
/* Asks the session's worker to end it; the reply waits. */
void api_kick(struct api *a, const struct session_record *session, struct api_call *call, struct http_reply *reply);
/* The same for moving a live publisher's stream to a node; done when the move has begun. */
void api_move(struct api *a, const struct session_record *publisher, const char *node, struct api_call *call, struct http_reply *reply);
/* The stream that text names: app/name or, as logs show it, "#" and 8 hex digits of a live one. ERR_INVALID, ERR_NOT_FOUND; ERR_CONFLICT:
 * several live streams have that hash. */
MUST_CHECK enum err api_stream_named(struct api *a, const char *text, struct stream_key *out);
/* The answer to each of those errors. */
void api_stream_unknown(struct http_reply *reply, enum err e, const char *text);

struct api_claim {
    enum err e;
    struct claim claim;
};
/* Its claim now: live, held or found. */
struct api_claim api_claim_of(struct api *a, const struct stream_key *key);

api_handler api_node_list, api_node_get, api_node_put, api_node_patch, api_node_delete, api_node_state_put;
api_handler api_stream_list, api_stream_get, api_stream_delete, api_stream_move;
api_handler api_session_list, api_session_get, api_session_delete;
api_handler api_lookup, api_worker_list, api_cluster_get, api_config_get, api_event_stream;
api_handler api_metrics, api_healthz, api_readyz, api_openapi, api_dashboard;

#endif
