/* admin/http.h - one HTTP exchange as values: what was asked, and what is answered. The server (server_io.c) makes the one from
 * the wire and puts the other on it; everything between is pure.
 * Owner:  the server; a reply's body is freed by http_reply_clear().
 * Source: RFC 9110, RFC 3986 (percent encoding), RFC 9457 (problems).   Tests: tests/unit/admin/test_http.c */
#ifndef WEIR_ADMIN_HTTP_H
#define WEIR_ADMIN_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/attr.h"
#include "base/err.h"

enum http_method { HTTP_GET = 0, HTTP_PUT, HTTP_PATCH, HTTP_POST, HTTP_DELETE, HTTP_UNKNOWN };
enum { HTTP_METHOD_COUNT = HTTP_UNKNOWN };
enum http_method http_method_parse(const char *name); /* HEAD reads as GET */
const char *http_method_name(enum http_method m);

enum {
    HTTP_TARGET_MAX = 4096, /* path and query as sent, with NUL */
    HTTP_SEGMENTS_MAX = 8,
    HTTP_PARAMS_MAX = 16,
    HTTP_HEADER_MAX = 128, /* of a header that we set */
    HTTP_ERRORS_MAX = 16,  /* fields named in one problem */
};

struct http_param {
    const char *name, *value;
};

/* The target taken apart first and decoded after, so that "live%2Fcam1" is one segment. */
struct http_target {
    char text[HTTP_TARGET_MAX]; /* what the pointers below point into */
    const char *segments[HTTP_SEGMENTS_MAX];
    uint32_t segment_count;
    struct http_param params[HTTP_PARAMS_MAX];
    uint32_t param_count;
};

/* ERR_LIMIT: too long or too many parts; ERR_INVALID: no path, a broken escape or a NUL. *out is filled in place: not to be moved. */
MUST_CHECK enum err http_target_parse(const char *raw, struct http_target *out);
const char *http_param(const struct http_target *t, const char *name); /* NULL: not given */
/* One path segment or query value; buf: 3 * strlen(text) + 1 bytes are always enough. ERR_LIMIT. */
MUST_CHECK enum err http_percent_encode(const char *text, char *buf, size_t cap);
/* ERR_INVALID: a broken escape or a NUL; ERR_LIMIT: buf is too short. */
MUST_CHECK enum err http_percent_decode(const char *text, char *buf, size_t cap);

struct http_request {
    enum http_method method;
    const struct http_target *target;
    const char *content_type, *authorization, *if_match, *if_none_match, *last_event_id; /* NULL: not sent */
    const char *host;      /* NULL: not sent */
    const char *client;    /* address of the connection */
    const char *forwarded; /* X-Forwarded-For: what a proxy in front says; NULL: none */
    bool proxied;          /* by its headers the request has come through a proxy */
    const char *body;
    size_t body_len;
};

enum http_reply_kind {
    HTTP_REPLY_NOW = 0,
    HTTP_REPLY_WAIT,   /* until a worker has carried out `command`: ask api_poll() */
    HTTP_REPLY_EVENTS, /* a stream of events that come after `after` */
};

struct http_reply {
    enum http_reply_kind kind;
    unsigned status;
    const char *content_type; /* a constant; NULL: no body */
    char *body;               /* from malloc; or shared */
    const void *shared;       /* a body that is not freed */
    size_t len;
    const char *cache_control;
    char policy[512]; /* Content-Security-Policy, or "" */
    char etag[HTTP_HEADER_MAX], location[3 * HTTP_HEADER_MAX], allow[HTTP_HEADER_MAX];
    bool authenticate; /* WWW-Authenticate: Bearer */
    uint32_t retry_after_s;
    uint64_t command;
    uint64_t after;
    bool without_sessions;
};

void http_reply_clear(struct http_reply *r);
/* Takes over json; NULL stands for "no memory" and answers 500. */
void http_reply_json(struct http_reply *r, unsigned status, json_t *json);
void http_reply_empty(struct http_reply *r, unsigned status);
/* application/problem+json. */
void http_reply_problem(struct http_reply *r, unsigned status, const char *fmt, ...) PRINTF_LIKE(3, 4);
const char *http_status_title(unsigned status);

/* What is wrong with which field of a body. */
struct http_field_error {
    char pointer[128]; /* RFC 6901 */
    char detail[512];
};
struct http_field_errors {
    struct http_field_error list[HTTP_ERRORS_MAX];
    uint32_t count; /* further ones are dropped */
};
void http_field_errors_add(struct http_field_errors *e, const char *field, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* 422 with "errors": [{"pointer", "detail"}]. */
void http_reply_invalid(struct http_reply *r, const struct http_field_errors *errors);

#endif
