#include "healthd/stat_json.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/json_text.h"

enum { NAME_UTF8_MAX = STREAM_NAME_MAX * 2 }; /* a name, each byte of it as UTF-8 */

/* Numbers come as numbers, and some as text ("pid": "1"). */
static uint64_t number_of(const json_t *v)
{
    if (json_is_string(v))
        return stat_number((struct view){.p = (const uint8_t *)json_string_value(v),
                                         .len = json_string_length(v)});
    const double d = json_number_value(v); /* 0 of what is no number */
    return d >= 1 && d < 1e18 ? (uint64_t)d : 0;
}

/* The bytes of a string; buf: NAME_UTF8_MAX. Longer ones are cut. */
static struct view bytes_of(const json_t *v, uint8_t *buf)
{
    size_t len = json_string_length(v);
    if (len > NAME_UTF8_MAX)
        len = NAME_UTF8_MAX;
    if (len > 0)
        memcpy(buf, json_string_value(v), len);
    return (struct view){.p = buf, .len = stat_bytes_of_utf8(buf, len)};
}

static enum err read_stream(const json_t *s, struct stat_report *out)
{
    uint8_t app[NAME_UTF8_MAX], name[NAME_UTF8_MAX];
    const json_t *rate = json_object_get(s, "kbps");
    const uint64_t clients = number_of(json_object_get(s, "clients"));
    out->clients += clients <= INT_MAX ? (uint32_t)clients : 0;
    out->bandwidth_in += number_of(json_object_get(rate, "recv_30s")) * 1000;
    out->bandwidth_out += number_of(json_object_get(rate, "send_30s")) * 1000;
    if (!json_is_true(json_object_get(json_object_get(s, "publish"), "active")))
        return ERR_OK;
    return stat_report_add(out, bytes_of(json_object_get(s, "app"), app),
                           bytes_of(json_object_get(s, "name"), name),
                           number_of(json_object_get(s, "recv_bytes")));
}

static enum err read_streams(const json_t *streams, struct stat_report *out)
{
    size_t i;
    json_t *s;
    json_array_foreach(streams, i, s)
    {
        const enum err e = read_stream(s, out);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

static void read_self(const json_t *self, struct stat_report *out)
{
    const char *version = json_string_value(json_object_get(self, "version"));
    const uint64_t pid = number_of(json_object_get(self, "pid"));
    out->pid = pid <= UINT32_MAX ? (uint32_t)pid : 0;
    out->uptime_ms = number_of(json_object_get(self, "srs_uptime")) * 1000;
    if (version)
        snprintf(out->version, sizeof out->version, "SRS %.*s", STATUS_VERSION_MAX - 8, version);
}

/* Latin-1 as UTF-8, so that jansson takes whatever bytes are in names. NULL: no memory. */
static uint8_t *utf8_of_latin1(const uint8_t *buf, size_t len, size_t *out_len)
{
    uint8_t *out = malloc(len * 2 + 1);
    size_t n = 0;
    for (size_t i = 0; out && i < len; i++) {
        if (buf[i] < 0x80) {
            out[n++] = buf[i];
        } else {
            out[n++] = (uint8_t)(0xc0 | buf[i] >> 6);
            out[n++] = (uint8_t)(0x80 | (buf[i] & 0x3f));
        }
    }
    *out_len = n;
    return out;
}

enum err stat_json_parse(uint8_t *buf, size_t len, struct stat_report *out)
{
    size_t text_len;
    stat_clean(buf, len);
    uint8_t *text = utf8_of_latin1(buf, len, &text_len);
    if (!text)
        return ERR_NO_MEMORY;
    json_t *root = json_text_parse((const char *)text, text_len, JSON_ALLOW_NUL, NULL);
    free(text);
    const json_t *streams = json_object_get(root, "streams");
    const json_t *self = json_object_get(json_object_get(root, "data"), "self");
    enum err e = ERR_OK;
    if (json_is_array(streams))
        e = read_streams(streams, out);
    else if (json_is_object(self))
        read_self(self, out);
    else
        e = ERR_INVALID;
    json_decref(root);
    return e;
}
