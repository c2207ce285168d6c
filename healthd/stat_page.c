#include "healthd/stat_page.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "healthd/http.h"
#include "healthd/stat_json.h"

enum { JSON_FIRST = 16 * 1024 };

void stat_page_init(struct stat_page *p, struct stat_report *out)
{
    *p = (struct stat_page){.out = out};
}

void stat_page_deinit(struct stat_page *p)
{
    stat_xml_destroy(p->xml);
    free(p->json);
    *p = (struct stat_page){0};
}

static enum err keep_json(struct stat_page *p, const uint8_t *buf, size_t len)
{
    if (len > HTTP_BODY_MAX - p->json_len)
        return ERR_LIMIT;
    if (!p->json || p->json_len + len > p->json_cap) {
        size_t cap = p->json_cap ? p->json_cap : JSON_FIRST;
        while (cap < p->json_len + len)
            cap *= 2;
        uint8_t *grown = realloc(p->json, cap);
        if (!grown)
            return ERR_NO_MEMORY;
        p->json = grown;
        p->json_cap = cap;
    }
    memcpy(p->json + p->json_len, buf, len);
    p->json_len += len;
    return ERR_OK;
}

enum err stat_page_feed(struct stat_page *p, uint8_t *buf, size_t len)
{
    if (len == 0)
        return ERR_OK;
    if (p->json)
        return keep_json(p, buf, len);
    if (!p->xml) {
        while (len > 0 && (*buf == ' ' || *buf == '\t' || *buf == '\r' || *buf == '\n')) {
            buf++;
            len--;
        }
        if (len == 0)
            return ERR_OK;
        if (*buf == '{')
            return keep_json(p, buf, len);
        const enum err e = *buf == '<' ? stat_xml_create(p->out, &p->xml) : ERR_INVALID;
        if (e != ERR_OK)
            return e;
    }
    return stat_xml_feed(p->xml, buf, len);
}

enum err stat_page_finish(struct stat_page *p)
{
    if (p->xml)
        return stat_xml_finish(p->xml);
    return p->json ? stat_json_parse(p->json, p->json_len, p->out) : ERR_INVALID;
}

const char *stat_page_second(char *target)
{
    static const char base[] = "/api/v1";
    static const char streams[] = "/streams";
    if (strncmp(target, base, sizeof base - 1) != 0)
        return NULL;
    const char *rest = target + sizeof base - 1;
    const bool bare = strcmp(rest, "") == 0 || strcmp(rest, "/") == 0;
    const bool listed = strcmp(rest, streams) == 0 || strcmp(rest, "/streams/") == 0;
    /* Without a slash SRS answers with a redirect, and without a count with ten streams */
    if (bare || listed)
        snprintf(target, CONFIG_URL_MAX, "%s%s/?count=%d", base, streams, STAT_STREAMS_MAX);
    else if (strncmp(rest, streams, sizeof streams - 1) != 0)
        return NULL;
    return "/api/v1/summaries";
}
