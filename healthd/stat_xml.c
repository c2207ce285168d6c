#include "healthd/stat_xml.h"

#include <expat.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELD_DEPTH = 2 }; /* <rtmp><pid>: what concerns the whole server */

struct stat_xml {
    XML_Parser parser;
    struct stat_report *out;
    enum err error;
    uint32_t depth;
    uint32_t app_depth, stream_depth; /* of the element we are in; 0: in none */
    bool leaf;                        /* nothing but text since the last start tag */
    uint8_t text[STREAM_NAME_MAX];
    size_t text_len;
    uint8_t app[STREAM_NAME_MAX], name[STREAM_NAME_MAX]; /* of the application, the stream */
    size_t app_len, name_len;
    bool publishing;
    uint64_t bytes_in;
    char nginx[STATUS_VERSION_MAX / 2 - 8], module[STATUS_VERSION_MAX / 2 - 16];
    const char *module_name;
};

static void fail(struct stat_xml *x, enum err e)
{
    x->error = e;
    (void)XML_StopParser(x->parser, XML_FALSE); /* fails only if it is stopped already */
}

static void XMLCALL on_start(void *arg, const XML_Char *tag, const XML_Char **attributes)
{
    struct stat_xml *x = arg;
    (void)attributes;
    x->depth++;
    x->leaf = true;
    x->text_len = 0;
    if (x->app_depth == 0 && strcmp(tag, "application") == 0) {
        x->app_depth = x->depth;
        x->app_len = 0;
    } else if (x->app_depth != 0 && x->stream_depth == 0 && strcmp(tag, "stream") == 0) {
        x->stream_depth = x->depth;
        x->name_len = 0;
        x->bytes_in = 0;
        x->publishing = false;
    } else if (x->stream_depth != 0 && x->depth == x->stream_depth + 1 &&
               strcmp(tag, "publishing") == 0) {
        x->publishing = true;
    }
}

static void XMLCALL on_text(void *arg, const XML_Char *s, int len)
{
    struct stat_xml *x = arg;
    const size_t room = sizeof x->text - x->text_len;
    const size_t n = (size_t)len < room ? (size_t)len : room;
    memcpy(x->text + x->text_len, s, n);
    x->text_len += n;
}

static void keep_text(const struct stat_xml *x, uint8_t *to, size_t *len)
{
    memcpy(to, x->text, x->text_len);
    *len = x->text_len;
}

static void keep_version(const struct stat_xml *x, char *to, size_t cap)
{
    snprintf(to, cap, "%.*s", (int)x->text_len, (const char *)x->text);
}

static void end_stream_field(struct stat_xml *x, const char *tag)
{
    if (strcmp(tag, "name") == 0)
        keep_text(x, x->name, &x->name_len);
    else if (strcmp(tag, "bytes_in") == 0)
        x->bytes_in = stat_number((struct view){.p = x->text, .len = x->text_len});
}

static void end_stream(struct stat_xml *x)
{
    x->stream_depth = 0;
    if (!x->publishing)
        return;
    const enum err e =
        stat_report_add(x->out, (struct view){.p = x->app, .len = x->app_len},
                        (struct view){.p = x->name, .len = x->name_len}, x->bytes_in);
    if (e != ERR_OK)
        fail(x, e);
}

static void end_server_field(struct stat_xml *x, const char *tag)
{
    struct stat_report *r = x->out;
    const uint64_t n = stat_number((struct view){.p = x->text, .len = x->text_len});
    if (strcmp(tag, "nginx_version") == 0) {
        keep_version(x, x->nginx, sizeof x->nginx);
    } else if (strcmp(tag, "nginx_rtmp_version") == 0) {
        x->module_name = "nginx-rtmp";
        keep_version(x, x->module, sizeof x->module);
    } else if (strcmp(tag, "nginx_http_flv_version") == 0) {
        x->module_name = "nginx-http-flv";
        keep_version(x, x->module, sizeof x->module);
    } else if (strcmp(tag, "pid") == 0) {
        r->pid = n <= UINT32_MAX ? (uint32_t)n : 0;
    } else if (strcmp(tag, "uptime") == 0) {
        r->uptime_ms = n <= UINT32_MAX ? n * 1000 : 0;
    } else if (strcmp(tag, "bw_in") == 0) {
        r->bandwidth_in = n;
    } else if (strcmp(tag, "bw_out") == 0) {
        r->bandwidth_out = n;
    }
}

static void end_app_field(struct stat_xml *x, const char *tag)
{
    if (x->depth == x->app_depth + 1 && strcmp(tag, "name") == 0) {
        keep_text(x, x->app, &x->app_len);
        stat_report_add_app(x->out, (struct view){.p = x->app, .len = x->app_len});
    } else if (x->depth == x->app_depth + 2 && strcmp(tag, "nclients") == 0) {
        const uint64_t n = stat_number((struct view){.p = x->text, .len = x->text_len});
        x->out->clients += n <= INT_MAX ? (uint32_t)n : 0;
    }
}

static void XMLCALL on_end(void *arg, const XML_Char *tag)
{
    struct stat_xml *x = arg;
    if (x->leaf)
        x->text_len = stat_bytes_of_utf8(x->text, x->text_len);
    if (x->stream_depth != 0) {
        if (x->depth == x->stream_depth)
            end_stream(x);
        else if (x->leaf && x->depth == x->stream_depth + 1)
            end_stream_field(x, tag);
    } else if (x->app_depth != 0) {
        if (x->depth == x->app_depth)
            x->app_depth = 0;
        else if (x->leaf)
            end_app_field(x, tag);
    } else if (x->leaf && x->depth == FIELD_DEPTH) {
        end_server_field(x, tag);
    }
    x->leaf = false;
    x->depth--;
}

/* Nobody's statistics need one, and what entities can do is best not done at all. */
static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *system_id,
                               const XML_Char *public_id, int internal)
{
    (void)name;
    (void)system_id;
    (void)public_id;
    (void)internal;
    fail(arg, ERR_INVALID);
}

enum err stat_xml_create(struct stat_report *out, struct stat_xml **result)
{
    struct stat_xml *x = calloc(1, sizeof *x);
    if (!x)
        return ERR_NO_MEMORY;
    x->out = out;
    x->parser = XML_ParserCreate("ISO-8859-1"); /* whatever the page says: see stat_clean() */
    if (!x->parser) {
        free(x);
        return ERR_NO_MEMORY;
    }
    XML_SetUserData(x->parser, x);
    XML_SetElementHandler(x->parser, on_start, on_end);
    XML_SetCharacterDataHandler(x->parser, on_text);
    XML_SetStartDoctypeDeclHandler(x->parser, on_doctype);
    *result = x;
    return ERR_OK;
}

static enum err parse(struct stat_xml *x, const uint8_t *buf, size_t len, bool last)
{
    if (x->error == ERR_OK &&
        XML_Parse(x->parser, (const char *)buf, (int)len, last) != XML_STATUS_OK &&
        x->error == ERR_OK)
        x->error = XML_GetErrorCode(x->parser) == XML_ERROR_NO_MEMORY ? ERR_NO_MEMORY : ERR_INVALID;
    return x->error;
}

enum err stat_xml_feed(struct stat_xml *x, uint8_t *buf, size_t len)
{
    if (len > INT_MAX)
        return ERR_LIMIT;
    stat_clean(buf, len);
    return parse(x, buf, len, false);
}

enum err stat_xml_finish(struct stat_xml *x)
{
    const enum err e = parse(x, NULL, 0, true);
    if (e != ERR_OK)
        return e;
    if (!x->module_name)
        return ERR_INVALID;
    snprintf(x->out->version, sizeof x->out->version, "nginx %s, %s %s", x->nginx, x->module_name,
             x->module);
    return ERR_OK;
}

void stat_xml_destroy(struct stat_xml *x)
{
    if (!x)
        return;
    XML_ParserFree(x->parser);
    free(x);
}
