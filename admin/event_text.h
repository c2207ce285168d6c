/* admin/event_text.h - events as server-sent events.   Source: HTML Living Standard section 9.2.   Tests: tests/unit/admin/test_views.c */
#ifndef WEIR_ADMIN_EVENT_TEXT_H
#define WEIR_ADMIN_EVENT_TEXT_H

#include "cluster/store.h"

enum { EVENT_TEXT_MAX = 4096 }; /* of one event: a key of which every byte is escaped still fits */

/* Of a session: as many as clients come and go. */
bool event_is_of_session(const struct store_event *e);
/* Appends e to buf; false and nothing written if there is no room. *len: bytes in buf. */
bool event_text_append(const struct store_event *e, char *buf, size_t cap, size_t *len);
/* Tells the reader that events before `id` were missed. */
bool event_text_append_lost(uint64_t id, char *buf, size_t cap, size_t *len);

#endif
