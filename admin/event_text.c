#include "admin/event_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/views.h"
#include "config/json_text.h"

static bool append(char *buf, size_t cap, size_t *len, uint64_t id, const char *kind,
                   const char *data)
{
    const size_t room = cap - *len;
    const int n =
        snprintf(buf + *len, room, "id: %" PRIu64 "\nevent: %s\ndata: %s\n\n", id, kind, data);
    if (n < 0 || (size_t)n >= room)
        return false;
    *len += (size_t)n;
    return true;
}

bool event_is_of_session(const struct store_event *e)
{
    static const char prefix[] = "session_";
    return strncmp(e->kind, prefix, sizeof prefix - 1) == 0;
}

bool event_text_append(const struct store_event *e, char *buf, size_t cap, size_t *len)
{
    json_t *json = view_event(e);
    char *data = json ? json_text(json) : NULL; /* one line: control bytes are escaped */
    const bool good = data && append(buf, cap, len, e->id, e->kind, data);
    free(data);
    json_decref(json);
    return good;
}

bool event_text_append_lost(uint64_t id, char *buf, size_t cap, size_t *len)
{
    return append(buf, cap, len, id, "events_lost", "{}");
}
