#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "healthd/conn_io.h"
#include "healthd/probe_io.h"
#include "healthd/stat_page.h"

enum { READ_BYTES = 16 * 1024 };

struct probe_stat {
    struct probe base;
    struct conn conn;
    struct rtmp_chunk_writer out; /* the request goes out as raw bytes */
    struct http_url url;
    const char *second; /* the target of the page to fetch after this one, or NULL */
    struct http_reader http;
    struct stat_page page;
    struct stat_report report;
};

static bool on_conn(struct conn *c, enum conn_event event, struct slice *in, int error);

static void destroy(struct probe *base)
{
    struct probe_stat *p = (struct probe_stat *)base;
    conn_close(&p->conn);
    rtmp_chunk_writer_deinit(&p->out);
    stat_page_deinit(&p->page);
    stat_report_deinit(&p->report);
    free(p);
}

static void on_deadline(struct probe *base)
{
    const struct probe_stat *p = (const struct probe_stat *)base;
    probe_fail(base, "no %s within %llu ms",
               p->conn.connecting                  ? "connection"
               : p->http.state == HTTP_STATUS_LINE ? "answer"
                                                   : "whole answer",
               (unsigned long long)base->env->policy->timeout_ms);
}

static void fetch(struct probe_stat *p)
{
    struct probe *b = &p->base;
    http_reader_init(&p->http);
    probe_note(b, "GET http://%s:%u%.64s", p->url.host, p->url.port, p->url.target);
    conn_open(&p->conn, b->env->loop, &b->env->blocks, READ_BYTES, &b->target->stat, on_conn, p);
    p->conn.out = &p->out;
}

static bool send_request(struct probe_stat *p)
{
    char request[HTTP_REQUEST_MAX];
    const size_t len = http_request_write(&p->url, request);
    if (rtmp_chunk_writer_push_raw(&p->out, request, len) != ERR_OK)
        return probe_fail(&p->base, "no memory");
    conn_flush(&p->conn);
    return true;
}

static bool bad_page(struct probe_stat *p, enum err e)
{
    return probe_fail(&p->base, "%s",
                      e == ERR_NO_MEMORY ? "no memory"
                      : e == ERR_LIMIT   ? "the page is too large"
                                         : "the page is neither nginx-rtmp's nor SRS's");
}

/* False, so that the handler can return it: the connection is closed, or a new one is open. */
static bool end_page(struct probe_stat *p)
{
    probe_note(&p->base, "got %llu bytes", (unsigned long long)p->http.body_bytes);
    const enum err e = stat_page_finish(&p->page);
    if (e != ERR_OK)
        return bad_page(p, e);
    if (!p->second)
        return probe_pass(&p->base, &p->report);
    conn_close(&p->conn);
    stat_page_deinit(&p->page);
    stat_page_init(&p->page, &p->report);
    snprintf(p->url.target, sizeof p->url.target, "%s", p->second);
    p->second = NULL;
    fetch(p);
    return false;
}

static bool on_bytes(struct probe_stat *p, struct slice *in)
{
    struct view rest = {.p = slice_data(in), .len = in->len}, body;
    for (;;) {
        const enum parse_result r = http_reader_next(&p->http, &rest, &body);
        if (r == PARSE_BAD)
            return probe_fail(&p->base, "the answer is not HTTP, or too long");
        if (r == PARSE_NEED_MORE)
            return true;
        if (p->http.status != 200)
            return probe_fail(&p->base, "HTTP status %d", p->http.status);
        if (body.len == 0)
            return end_page(p);
        /* The block is ours alone */
        uint8_t *bytes = in->block->data + (body.p - in->block->data);
        const enum err e = stat_page_feed(&p->page, bytes, body.len);
        if (e != ERR_OK)
            return bad_page(p, e);
    }
}

static bool on_conn(struct conn *c, enum conn_event event, struct slice *in, int error)
{
    struct probe_stat *p = c->owner;
    switch (event) {
    case CONN_CONNECTED:
        return send_request(p);
    case CONN_BYTES:
        return on_bytes(p, in);
    case CONN_ENDED:
        if (http_reader_end(&p->http) && p->http.status == 200)
            return end_page(p);
        return probe_fail(&p->base, "closed by the node before the answer was whole");
    case CONN_FAILED:
        break;
    }
    probe_note_error(&p->base, error);
    return probe_fail(&p->base, "%s", strerror(error));
}

struct probe *probe_stat_start(struct probe_env *env, const struct probe_target *t)
{
    struct probe_stat *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    probe_init(&p->base, CHECK_STAT, env, t, env->policy->timeout_ms);
    p->base.destroy = destroy;
    p->base.on_deadline = on_deadline;
    p->url = t->stat_url;
    p->second = stat_page_second(p->url.target);
    rtmp_chunk_writer_init(&p->out, &env->messages);
    stat_report_init(&p->report, env->policy->loop_app);
    stat_page_init(&p->page, &p->report);
    fetch(p);
    return &p->base;
}
