/* healthd/http.h - just enough HTTP/1.1 to fetch a statistics page: one GET per connection, and its
 * answer in any of its three framings (length, chunks, until the end). Pure; bounded. Source: RFC
 * 9112.   Tests: tests/unit/healthd/test_http.c */
#ifndef WEIR_HEALTHD_HTTP_H
#define WEIR_HEALTHD_HTTP_H

#include "base/rd.h"
#include "config/config.h"

enum {
    HTTP_LINE_MAX = 4096,             /* a status line, a header, a chunk size */
    HTTP_HEAD_MAX = 32 * 1024,        /* all of them */
    HTTP_BODY_MAX = 16 * 1024 * 1024, /* a page of 10,000 streams has 5 MiB */
    HTTP_REQUEST_MAX = CONFIG_URL_MAX + HOST_MAX + 256,
};

struct http_url {
    char host[HOST_MAX]; /* without brackets */
    uint16_t port;
    char target[CONFIG_URL_MAX]; /* path and query */
};
/* "http://host:port/path?query". ERR_INVALID, also for https. */
MUST_CHECK enum err http_url_parse(const char *text, struct http_url *out);

/* Returns the length; buf: HTTP_REQUEST_MAX. */
size_t http_request_write(const struct http_url *url, char *buf);

enum http_state {
    HTTP_STATUS_LINE = 0,
    HTTP_HEADERS,
    HTTP_BODY, /* `left` bytes of it */
    HTTP_BODY_TO_END,
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK_DATA, /* `left` bytes of it */
    HTTP_CHUNK_END,  /* the line end behind it */
    HTTP_TRAILERS,
    HTTP_DONE,
};

struct http_reader {
    enum http_state state;
    int status;
    bool chunked, has_length;
    uint64_t left, body_bytes;
    size_t head_bytes;
    char line[HTTP_LINE_MAX];
    size_t line_len;
};

void http_reader_init(struct http_reader *r);
/* Takes bytes from *in; PARSE_OK: *body is the next piece of the body, or empty: the answer is
 * whole. PARSE_NEED_MORE: all of *in was taken. PARSE_BAD: is not HTTP, or over a limit. */
MUST_CHECK enum parse_result http_reader_next(struct http_reader *r, struct view *in,
                                              struct view *body);
/* The connection has ended: was the answer whole? */
bool http_reader_end(struct http_reader *r);

#endif
