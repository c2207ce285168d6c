#include "router/record_io.h"

#include <string.h>

#include "base/clock_io.h"
#include "router/share_io.h"

enum {
    REFRESH_EVERY_MS = 5000, /* how often a session's counters are written */
    REFRESH_AT_ONCE = 40,    /* of more than 4,000 sessions each is written less often than that */
    REFRESH_FEW = 8,         /* so few wait for those of the next turns: one commit for all */
    REFRESH_TURNS = 5,
};

/* A node that has answered a ping once is judged by its answers from its next connection's first
 * moment on. */
void record_note_pings(const struct session_conn *c)
{
    const struct session *s = &c->s;
    const bool answered = s->current >= 0 && s->links[s->current].link.pings_answered > 0;
    struct node *n = answered ? node_table_find(c->w->nodes, s->node) : NULL;
    if (n)
        n->notes.answers_pings = true;
}

struct session_record record_of(struct session_conn *c, const char *node)
{
    const struct session *s = &c->s;
    if (!c->recorded)
        c->stream_began_ms = clock_wall_ms();
    struct session_record r = {.id = s->id,
                               .kind = s->kind,
                               .worker = c->w->id,
                               .key = s->key,
                               .started_ms = c->stream_began_ms,
                               .bytes_in = s->client.bytes_in,
                               .bytes_out = s->bytes_out,
                               .rehomes = s->rehome.count};
    memcpy(r.client, c->client, sizeof r.client);
    memcpy(r.node, node, strlen(node) + 1);
    return r;
}

void record_note_written(struct session_conn *c, bool written)
{
    c->record_stale = !written;
    c->recorded = c->recorded || written;
    c->refresh_bytes = c->s.client.bytes_in + c->s.bytes_out;
    c->refresh_ms = clock_mono_ms();
}

void record_put(struct session_conn *c)
{
    struct worker *w = c->w;
    record_note_pings(c);
    if (c->s.leads) {
        share_put_records(c);
        return;
    }
    if (!w->store)
        return;
    const struct session_record r = record_of(c, c->s.node);
    record_note_written(c, worker_store_ok(w, store_session_put(w->store, &r), "session record"));
}

uint64_t record_forget(struct session_conn *c)
{
    const bool there = c->recorded && c->w->store;
    c->record_stale = false;
    if (there)
        c->recorded = false;
    return there ? c->s.id : 0;
}

void record_delete(struct session_conn *c)
{
    const uint64_t id = record_forget(c);
    const enum err e = id ? store_session_delete(c->w->store, id) : ERR_NOT_FOUND;
    if (e != ERR_NOT_FOUND)
        (void)worker_store_ok(c->w, e, "session record");
}

void record_refresh_some(struct worker *w)
{
    struct session_record r[REFRESH_AT_ONCE];
    const uint32_t turns = REFRESH_EVERY_MS / STORE_POLL_MS;
    uint32_t want = w->conn_count / turns + 1, count = 0;
    if (!w->store)
        return;
    if (want <= REFRESH_FEW) {
        if (++w->refresh_waits < REFRESH_TURNS)
            return;
        w->refresh_waits = 0;
        want *= REFRESH_TURNS;
    }
    if (want > REFRESH_AT_ONCE)
        want = REFRESH_AT_ONCE;
    const uint64_t now = clock_mono_ms();
    for (uint32_t seen = 0; seen < want; seen++) {
        struct session_conn *c = w->refresh_at ? w->refresh_at : w->conns;
        if (!c)
            break;
        w->refresh_at = c->next;
        if (c->record_stale)
            record_put(c);
        if (!c->recorded || now - c->refresh_ms < REFRESH_EVERY_MS / 2)
            continue;
        record_note_pings(c);
        const uint64_t bytes = c->s.client.bytes_in + c->s.bytes_out;
        r[count++] = (struct session_record){
            .id = c->s.id,
            .bytes_in = c->s.client.bytes_in,
            .bytes_out = c->s.bytes_out,
            .bitrate = (bytes - c->refresh_bytes) * 8000 / (now - c->refresh_ms),
            .rehomes = c->s.rehome.count,
        };
        c->refresh_bytes = bytes;
        c->refresh_ms = now;
    }
    if (count > 0)
        (void)worker_store_ok(w, store_sessions_refresh(w->store, r, count), "session counters");
}
