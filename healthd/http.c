#include "healthd/http.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { HTTP_PORT = 80 };

enum err http_url_parse(const char *text, struct http_url *out)
{
    static const char scheme[] = "http://";
    struct http_url u = {0};
    char authority[HOST_MAX];
    if (strncasecmp(text, scheme, sizeof scheme - 1) != 0)
        return ERR_INVALID;
    text += sizeof scheme - 1;
    const size_t len = strcspn(text, "/?#");
    if (len == 0 || len >= sizeof authority || memchr(text, '@', len))
        return ERR_INVALID;
    memcpy(authority, text, len);
    authority[len] = '\0';
    if (config_split_address(authority, HTTP_PORT, u.host, &u.port) != ERR_OK || !u.host[0])
        return ERR_INVALID;
    text += len;
    const size_t target = strcspn(text, "#");
    for (size_t i = 0; i < target; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
            return ERR_INVALID;
    if (target + 2 > sizeof u.target)
        return ERR_INVALID;
    snprintf(u.target, sizeof u.target, "%s%.*s", text[0] == '/' ? "" : "/", (int)target, text);
    *out = u;
    return ERR_OK;
}

size_t http_request_write(const struct http_url *url, char *buf)
{
    const bool v6 = strchr(url->host, ':') != NULL;
    const int n =
        snprintf(buf, HTTP_REQUEST_MAX,
                 "GET %s HTTP/1.1\r\nHost: %s%s%s:%u\r\nUser-Agent: weir-healthd/%s\r\n"
                 "Accept: application/xml, text/xml, application/json\r\n"
                 "Connection: close\r\n\r\n",
                 url->target, v6 ? "[" : "", url->host, v6 ? "]" : "", url->port, WEIR_VERSION);
    return (size_t)n;
}

void http_reader_init(struct http_reader *r)
{
    memset(r, 0, sizeof *r);
}

/* PARSE_OK: r->line is the next line, without its end. */
static enum parse_result take_line(struct http_reader *r, struct view *in)
{
    while (in->len > 0) {
        const char c = (char)*in->p++;
        in->len--;
        if (++r->head_bytes > HTTP_HEAD_MAX)
            return PARSE_BAD;
        if (c == '\n') {
            if (r->line_len > 0 && r->line[r->line_len - 1] == '\r')
                r->line_len--;
            r->line[r->line_len] = '\0';
            r->line_len = 0;
            return PARSE_OK;
        }
        if (r->line_len == sizeof r->line - 1)
            return PARSE_BAD;
        r->line[r->line_len++] = c;
    }
    return PARSE_NEED_MORE;
}

static bool read_number(const char *s, unsigned base, uint64_t *out)
{
    uint64_t n = 0;
    const char *p = s;
    for (;; p++) {
        unsigned digit = base;
        if (*p >= '0' && *p <= '9')
            digit = (unsigned)(*p - '0');
        else if ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f')
            digit = (unsigned)((*p | 0x20) - 'a') + 10;
        if (digit >= base)
            break;
        n = n * base + digit;
        if (n > HTTP_BODY_MAX)
            return false;
    }
    *out = n;
    return p > s && (*p == '\0' || *p == ' ' || *p == ';');
}

static bool on_status_line(struct http_reader *r)
{
    const char *s = r->line;
    if (strncmp(s, "HTTP/1.", 7) != 0 || (s[7] != '0' && s[7] != '1') || s[8] != ' ')
        return false;
    for (int i = 9; i < 12; i++)
        if (s[i] < '0' || s[i] > '9')
            return false;
    r->status = (s[9] - '0') * 100 + (s[10] - '0') * 10 + (s[11] - '0');
    r->state = HTTP_HEADERS;
    return s[12] == ' ' || s[12] == '\0';
}

static bool on_header(struct http_reader *r)
{
    char *colon = strchr(r->line, ':');
    if (!colon || colon == r->line)
        return false;
    *colon = '\0';
    const char *value = colon + 1 + strspn(colon + 1, " \t");
    if (strcasecmp(r->line, "transfer-encoding") == 0) {
        r->chunked = strcasecmp(value, "chunked") == 0;
        return r->chunked;
    }
    if (strcasecmp(r->line, "content-length") == 0) {
        r->has_length = true;
        return read_number(value, 10, &r->left);
    }
    return true;
}

static bool on_head_end(struct http_reader *r)
{
    if (r->status < 200) { /* 100, 103: the real one follows */
        r->state = HTTP_STATUS_LINE;
        r->chunked = r->has_length = false;
    } else if (r->status == 204 || r->status == 304) {
        r->state = HTTP_DONE;
    } else if (r->chunked) {
        r->state = HTTP_CHUNK_SIZE;
    } else if (r->has_length) {
        r->state = r->left > 0 ? HTTP_BODY : HTTP_DONE;
    } else {
        r->state = HTTP_BODY_TO_END;
    }
    return true;
}

static bool on_line(struct http_reader *r)
{
    switch (r->state) {
    case HTTP_STATUS_LINE:
        return on_status_line(r);
    case HTTP_HEADERS:
        return r->line[0] ? on_header(r) : on_head_end(r);
    case HTTP_CHUNK_SIZE:
        r->head_bytes = 0; /* chunk sizes are not part of the head; each is bounded by itself */
        if (!read_number(r->line, 16, &r->left))
            return false;
        r->state = r->left > 0 ? HTTP_CHUNK_DATA : HTTP_TRAILERS;
        return true;
    case HTTP_CHUNK_END:
        r->state = HTTP_CHUNK_SIZE;
        return r->line[0] == '\0';
    case HTTP_TRAILERS:
        if (!r->line[0])
            r->state = HTTP_DONE;
        return true;
    case HTTP_BODY:
    case HTTP_BODY_TO_END:
    case HTTP_CHUNK_DATA:
    case HTTP_DONE:
        break;
    }
    return false;
}

static enum parse_result take_body(struct http_reader *r, struct view *in, struct view *body)
{
    size_t n = in->len;
    if (n == 0)
        return PARSE_NEED_MORE;
    if (r->state != HTTP_BODY_TO_END && n > r->left)
        n = (size_t)r->left;
    r->body_bytes += n;
    if (r->body_bytes > HTTP_BODY_MAX)
        return PARSE_BAD;
    *body = (struct view){.p = in->p, .len = n};
    in->p += n;
    in->len -= n;
    if (r->state == HTTP_BODY_TO_END)
        return PARSE_OK;
    r->left -= n;
    if (r->left == 0)
        r->state = r->state == HTTP_BODY ? HTTP_DONE : HTTP_CHUNK_END;
    return PARSE_OK;
}

enum parse_result http_reader_next(struct http_reader *r, struct view *in, struct view *body)
{
    for (;;) {
        if (r->state == HTTP_DONE) {
            *body = (struct view){0};
            return PARSE_OK;
        }
        if (r->state == HTTP_BODY || r->state == HTTP_BODY_TO_END || r->state == HTTP_CHUNK_DATA)
            return take_body(r, in, body);
        const enum parse_result p = take_line(r, in);
        if (p != PARSE_OK)
            return p;
        if (!on_line(r))
            return PARSE_BAD;
    }
}

bool http_reader_end(struct http_reader *r)
{
    if (r->state == HTTP_BODY_TO_END)
        r->state = HTTP_DONE;
    return r->state == HTTP_DONE;
}
