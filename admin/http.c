#include "admin/http.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/json_text.h"

static const char *const method_names[HTTP_METHOD_COUNT] = {
    [HTTP_GET] = "GET",   [HTTP_PUT] = "PUT",       [HTTP_PATCH] = "PATCH",
    [HTTP_POST] = "POST", [HTTP_DELETE] = "DELETE",
};

enum http_method http_method_parse(const char *name)
{
    if (strcmp(name, "HEAD") == 0)
        return HTTP_GET;
    for (unsigned m = 0; m < HTTP_METHOD_COUNT; m++) {
        if (strcmp(name, method_names[m]) == 0)
            return (enum http_method)m;
    }
    return HTTP_UNKNOWN;
}

const char *http_method_name(enum http_method m)
{
    return m < HTTP_UNKNOWN ? method_names[m] : "other";
}

/* ---- percent encoding ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

enum err http_percent_decode(const char *text, char *buf, size_t cap)
{
    size_t len = 0;
    for (; *text; text++) {
        char c = *text;
        if (c == '%') {
            const int high = hex_digit(text[1]), low = high < 0 ? -1 : hex_digit(text[2]);
            if (low < 0 || (high == 0 && low == 0))
                return ERR_INVALID;
            c = (char)(high << 4 | low);
            text += 2;
        }
        if (len + 1 >= cap)
            return ERR_LIMIT;
        buf[len++] = c;
    }
    buf[len] = '\0';
    return ERR_OK;
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

enum err http_percent_encode(const char *text, char *buf, size_t cap)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t len = 0;
    for (; *text; text++) {
        if (len + 4 > cap)
            return ERR_LIMIT;
        if (is_unreserved(*text)) {
            buf[len++] = *text;
        } else {
            buf[len++] = '%';
            buf[len++] = digits[(unsigned char)*text >> 4];
            buf[len++] = digits[(unsigned char)*text & 15];
        }
    }
    if (len >= cap)
        return ERR_LIMIT;
    buf[len] = '\0';
    return ERR_OK;
}

/* ---- the target ---- */

/* Decoding never makes a text longer, so it is done where it stands. */
static enum err decode_in_place(char *text)
{
    return http_percent_decode(text, text, strlen(text) + 1);
}

static enum err split_path(char *path, struct http_target *out)
{
    out->segment_count = 0;
    if (strcmp(path, "/") == 0)
        return ERR_OK;
    for (char *at = path; at;) {
        char *segment = at + 1;
        at = strchr(segment, '/');
        if (at)
            *at = '\0';
        if (out->segment_count == HTTP_SEGMENTS_MAX)
            return ERR_LIMIT;
        if (decode_in_place(segment) != ERR_OK)
            return ERR_INVALID;
        out->segments[out->segment_count++] = segment;
    }
    return ERR_OK;
}

static void plus_to_space(char *text)
{
    for (; *text; text++)
        if (*text == '+')
            *text = ' ';
}

static enum err split_query(char *query, struct http_target *out)
{
    out->param_count = 0;
    while (query && *query) {
        char *name = query;
        query = strchr(name, '&');
        if (query)
            *query++ = '\0';
        if (*name == '\0')
            continue;
        char *value = strchr(name, '=');
        if (value)
            *value++ = '\0';
        else
            value = name + strlen(name);
        plus_to_space(name);
        plus_to_space(value);
        if (out->param_count == HTTP_PARAMS_MAX)
            return ERR_LIMIT;
        if (decode_in_place(name) != ERR_OK || decode_in_place(value) != ERR_OK)
            return ERR_INVALID;
        out->params[out->param_count++] = (struct http_param){name, value};
    }
    return ERR_OK;
}

enum err http_target_parse(const char *raw, struct http_target *out)
{
    const size_t len = strlen(raw);
    if (len >= sizeof out->text)
        return ERR_LIMIT;
    if (raw[0] != '/')
        return ERR_INVALID;
    memcpy(out->text, raw, len + 1);
    char *query = strchr(out->text, '?');
    if (query)
        *query++ = '\0';
    const enum err e = split_path(out->text, out);
    return e == ERR_OK ? split_query(query, out) : e;
}

const char *http_param(const struct http_target *t, const char *name)
{
    for (uint32_t i = 0; i < t->param_count; i++) {
        if (strcmp(t->params[i].name, name) == 0)
            return t->params[i].value;
    }
    return NULL;
}

/* ---- replies ---- */

const char *http_status_title(unsigned status)
{
    static const struct {
        unsigned status;
        const char *title;
    } titles[] = {
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {422, "Unprocessable Content"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++) {
        if (titles[i].status == status)
            return titles[i].title;
    }
    return "Error";
}

void http_reply_clear(struct http_reply *r)
{
    free(r->body);
    *r = (struct http_reply){0};
}

static void set_json(struct http_reply *r, unsigned status, const char *type, json_t *json)
{
    static const char no_memory[] =
        "{\"type\":\"about:blank\",\"title\":\"Internal Server Error\",\"status\":500,"
        "\"detail\":\"out of memory\"}";
    char *text = json ? json_text(json) : NULL;
    json_decref(json);
    free(r->body);
    r->kind = HTTP_REPLY_NOW;
    r->status = text ? status : 500;
    r->content_type = text ? type : "application/problem+json";
    r->body = text;
    r->shared = text ? NULL : no_memory;
    r->len = text ? strlen(text) : sizeof no_memory - 1;
    r->cache_control = "no-store";
}

void http_reply_json(struct http_reply *r, unsigned status, json_t *json)
{
    set_json(r, status, "application/json", json);
}

void http_reply_empty(struct http_reply *r, unsigned status)
{
    free(r->body);
    r->kind = HTTP_REPLY_NOW;
    r->status = status;
    r->content_type = NULL;
    r->body = NULL;
    r->shared = NULL;
    r->len = 0;
    r->cache_control = "no-store";
}

static json_t *problem(unsigned status, const char *detail)
{
    return json_pack("{s:s, s:s, s:i, s:o}", "type", "about:blank", "title",
                     http_status_title(status), "status", (int)status, "detail",
                     json_text_string(detail)); /* it quotes what the client sent */
}

void http_reply_problem(struct http_reply *r, unsigned status, const char *fmt, ...)
{
    char detail[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    set_json(r, status, "application/problem+json", problem(status, detail));
}

/* RFC 6901: '~' and '/' are written as ~0 and ~1. */
static void write_pointer(const char *field, char *buf, size_t cap)
{
    size_t len = 0;
    if (field[0] != '\0')
        buf[len++] = '/';
    for (; *field && len + 3 < cap; field++) {
        if (*field == '~' || *field == '/') {
            buf[len++] = '~';
            buf[len++] = *field == '~' ? '0' : '1';
        } else {
            buf[len++] = *field;
        }
    }
    buf[len] = '\0';
}

void http_field_errors_add(struct http_field_errors *e, const char *field, const char *fmt, ...)
{
    if (e->count == HTTP_ERRORS_MAX)
        return;
    struct http_field_error *f = &e->list[e->count++];
    write_pointer(field, f->pointer, sizeof f->pointer);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(f->detail, sizeof f->detail, fmt, ap);
    va_end(ap);
}

void http_reply_invalid(struct http_reply *r, const struct http_field_errors *errors)
{
    json_t *list = json_array();
    bool whole = true;
    for (uint32_t i = 0; i < errors->count && whole; i++) {
        const struct http_field_error *f = &errors->list[i];
        whole = json_array_append_new(list, json_pack("{s:o, s:o}", "pointer",
                                                      json_text_string(f->pointer), "detail",
                                                      json_text_string(f->detail))) == 0;
    }
    json_t *p = problem(422, errors->count == 1 ? errors->list[0].detail
                                                : "several fields are not valid; see errors");
    if (json_object_set_new(p, "errors", list) != 0 || !whole) {
        json_decref(p);
        p = NULL;
    }
    set_json(r, 422, "application/problem+json", p);
}
