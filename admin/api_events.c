#include <stdlib.h>

#include "admin/api.h"
#include "admin/event_text.h"
#include "admin/views.h"

/* ---- the last so many ---- */

/* The ids of the last `room` events that are wanted, in a ring. */
struct last_events {
    uint64_t *ids;
    uint64_t room, seen;
    bool without_sessions;
};

static bool keep_id(void *arg, const struct store_event *e)
{
    struct last_events *l = arg;
    if (!l->without_sessions || !event_is_of_session(e))
        l->ids[l->seen++ % l->room] = e->id;
    return true;
}

/* *after: the event before them; as it was if there are none. */
static enum err find_last(struct store *s, uint64_t count, bool without_sessions, uint64_t *after)
{
    struct last_events l = {.room = count, .without_sessions = without_sessions};
    l.ids = calloc(count, sizeof *l.ids);
    if (!l.ids)
        return ERR_NO_MEMORY;
    const enum err e = store_events_list(s, 0, keep_id, &l);
    if (e == ERR_OK && l.seen > 0)
        *after = l.ids[l.seen < l.room ? 0 : l.seen % l.room] - 1;
    free(l.ids);
    return e;
}

/* ---- where a stream begins ---- */

struct start {
    uint64_t after; /* UINT64_MAX: from now on */
    uint64_t last;  /* 0: not asked for */
    bool sessions;
};

static bool read_start(const struct http_request *req, struct start *out, struct http_reply *reply)
{
    const char *after = http_param(req->target, "after"), *last = http_param(req->target, "last");
    *out = (struct start){.after = UINT64_MAX, .sessions = true};
    if (last && (view_session_id_parse(last, &out->last) != ERR_OK || out->last == 0 ||
                 out->last > STORE_EVENTS_KEEP)) {
        http_reply_problem(reply, 400, "last: 1 to %d is allowed", STORE_EVENTS_KEEP);
        return false;
    }
    if (after && last) {
        http_reply_problem(reply, 400, "after and last cannot both be given");
        return false;
    }
    if (!after)
        after = req->last_event_id; /* a browser that comes back asks with both: it goes on */
    if (after)
        out->last = 0;
    if (after && view_session_id_parse(after, &out->after) != ERR_OK) {
        http_reply_problem(reply, 400, "after, Last-Event-ID: the number of an event is expected");
        return false;
    }
    return api_flag_param(req, "sessions", &out->sessions, reply);
}

void api_event_stream(struct api *a, const struct http_request *req, struct api_call *call,
                      struct http_reply *reply)
{
    struct start start;
    enum err e = ERR_OK;
    (void)call;
    if (!read_start(req, &start, reply))
        return;
    if (a->event_streams >= a->event_streams_max) {
        http_reply_problem(reply, 503, "there are %u event streams, which is the most",
                           (unsigned)a->event_streams);
        reply->retry_after_s = 5;
        return;
    }
    if (start.last > 0)
        e = find_last(a->store, start.last, !start.sessions, &start.after);
    if (e != ERR_OK) {
        api_store_failed(reply, e);
        return;
    }
    http_reply_empty(reply, 200);
    reply->kind = HTTP_REPLY_EVENTS;
    reply->content_type = "text/event-stream";
    reply->after = start.after;
    reply->without_sessions = !start.sessions;
}
