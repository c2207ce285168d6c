/* admin/views.h - records as the API shows them: JSON with snake_case names, units in names, times in ISO 8601 UTC. The field names are
 * those of admin/openapi.json.
 * Errors: NULL when memory is short; NULLs may be packed on, and end in a 500.   Tests: tests/unit/admin/test_views.c */
#ifndef WEIR_ADMIN_VIEWS_H
#define WEIR_ADMIN_VIEWS_H

#include <jansson.h>

#include "cluster/store.h"

enum { VIEW_TIME_MAX = 32, VIEW_ID_MAX = 24, VIEW_WORKER_MAX = ROUTER_ID_MAX + 12 };

/* "2026-01-31T20:15:00.123Z". */
void view_time_text(uint64_t ms, char buf[VIEW_TIME_MAX]);
json_t *view_time(uint64_t ms);         /* null for 0 */
json_t *view_text(const char *s);       /* peer text: what is not UTF-8 shows as U+FFFD */
json_t *view_text_or_null(const char *s); /* null for "" */
/* "router1/0" */
void view_worker_text(const struct worker_id *w, char buf[VIEW_WORKER_MAX]);
/* Sessions show as the log shows them, as a string: not every JSON reader keeps 64 bits. */
void view_session_id(uint64_t id, char buf[VIEW_ID_MAX]);
/* ERR_INVALID: not a session id. */
MUST_CHECK enum err view_session_id_parse(const char *text, uint64_t *id);

struct view_node {
    const struct node *node;
    const struct node_status *status;   /* NULL: healthd knows nothing of it */
    const struct dial_failures *failed; /* NULL: none */
};
json_t *view_node(const struct view_node *v);

struct view_stream {
    struct claim claim;
    char home[NODE_ID_MAX];          /* where the hash alone would put it; "": nowhere */
    struct session_record publisher; /* id 0: not known */
    uint32_t players;
    bool movable; /* if it is live and not moving: the routers move streams at all */
};
json_t *view_stream(const struct view_stream *v);
json_t *view_session(const struct session_record *r);
json_t *view_process(const struct process_record *p, uint64_t now_ms);
json_t *view_candidate(const struct place_candidate *c);
json_t *view_event(const struct store_event *e);
/* {"items": items, "next": next or null}; takes over items. */
json_t *view_list(json_t *items, const char *next);

#endif
