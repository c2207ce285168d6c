#define _GNU_SOURCE
#include "router/share_io.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock_io.h"
#include "router/record_io.h"

enum {
    DELIVER_WITHIN_US = 2000, /* of a turn of the loop */
    DELIVER_CLOCK_EVERY = 8,
    UNSENT_BYTES = 256 * 1024,
    RECORDS_AT_ONCE = 8, /* the others when their counters are written */
};

static struct shared_stream *stream_of(struct session_conn *lead)
{
    return (struct shared_stream *)lead->s.leads;
}

static struct session_conn *player_of(struct share_seat *seat)
{
    return (struct session_conn *)((char *)seat - offsetof(struct session_conn, s.seat));
}

/* ---- seats ---- */

static bool app_shares(const struct config_relay *r, struct view app)
{
    const uint8_t *query = app.len ? memchr(app.p, '?', app.len) : NULL;
    const size_t len = query ? (size_t)(query - app.p) : app.len;
    for (uint32_t i = 0; i < r->share_apps.count; i++)
        if (strlen(r->share_apps.names[i]) == len &&
            memcmp(r->share_apps.names[i], app.p, len) == 0)
            return true;
    return r->share_apps.count == 0;
}

static struct session_conn *create_lead(struct session_conn *player)
{
    struct worker *w = player->w;
    struct shared_stream *st = calloc(1, sizeof *st);
    struct session_conn *c = st ? session_conn_create(w, -1, &player->peer) : NULL;
    if (!c) {
        free(st);
        return NULL;
    }
    share_init(&st->share, w->config->relay.buffer_bytes, w->config->failover.gop_bytes);
    st->lead = c;
    c->local = player->local;
    snprintf(c->client, sizeof c->client, "shared");
    c->todo = session_init_lead(&c->s, &w->env, c->s.id, &st->share, &player->s, worker_now_ms(w));
    c->s.leads = &st->share; /* also if that failed: it is freed with the session */
    c->s.key = player->s.key;
    stream_index_add(&w->shares, &st->member, &c->s.key);
    return c;
}

static struct session_conn *find_lead(struct session_conn *player)
{
    for (struct stream_member *m = stream_index_first(&player->w->shares, &player->s.key); m;
         m = stream_index_next(m)) {
        const struct shared_stream *st =
            (struct shared_stream *)((char *)m - offsetof(struct shared_stream, member));
        if (st->lead->s.state != SESS_CLOSING)
            return st->lead;
    }
    return NULL;
}

static void tell_started(struct session_conn *player, const struct session_conn *lead)
{
    session_post(player, &(struct session_event){.kind = SE_SHARE_STARTED,
                                                 .node = lead->s.node,
                                                 .reason = lead->s.placed_by});
}

/* What a slow player has not taken waits here, where it is the same memory for all and can be left
 * out, rather than in the kernel. */
static void limit_unsent(int fd)
{
    socket_set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES);
}

bool share_place(struct session_conn *c)
{
    struct worker *w = c->w;
    if (!w->config->relay.share_playback || !session_may_share(&c->s) ||
        !app_shares(&w->config->relay, c->s.client.info.app))
        return false;
    struct session_conn *lead = find_lead(c);
    const struct node *n = lead ? node_table_get(w->nodes, lead->s.node) : NULL;
    if (n && n->sessions >= node_sessions_limit(n))
        return false; /* what becomes of it is for placement to say */
    const bool fresh = !lead;
    if (fresh && !(lead = create_lead(c)))
        return false;
    c->lead = lead;
    limit_unsent(c->fd);
    session_post(c, &(struct session_event){.kind = SE_SHARED, .share = lead->s.leads});
    memcpy(c->s.node, lead->s.node, sizeof c->s.node);
    if (fresh) {
        if (lead->todo == 0)
            session_post(lead, &(struct session_event){.kind = SE_CLOSE, .why = WHY_LIMIT_MEMORY});
        else
            session_run(lead);
        return true;
    }
    if (!c->s.seat.share) { /* no memory: it ends, and nobody would take its record away */
        c->lead = NULL;
        return true;
    }
    if (c->s.node[0] != '\0')
        record_put(c);
    if (stream_of(lead)->share.started)
        tell_started(c, lead);
    return true;
}

void share_left(struct session_conn *c)
{
    struct session_conn *lead = c->lead;
    if (!lead || c->s.seat.share)
        return;
    c->lead = NULL;
    if (stream_of(lead)->share.count == 0)
        session_post(lead, &(struct session_event){.kind = SE_CLOSE, .why = WHY_CLIENT_CLOSED});
}

void share_apply_config(struct worker *w)
{
    for (struct session_conn *c = w->conns; c; c = c->next)
        if (c->s.leads)
            share_set_limits(c->s.leads, w->config->relay.buffer_bytes,
                             w->config->failover.gop_bytes);
}

void share_free(struct session_conn *lead)
{
    struct shared_stream *st = stream_of(lead);
    lead->w->process.share_skips += st->share.skips;
    share_deinit(&st->share);
    free(st);
}

/* ---- what the lead's turn has brought ---- */

static void enqueue(struct worker *w, struct session_conn *c)
{
    if (c->deliver_queued)
        return;
    c->deliver_queued = true;
    c->deliver_next = NULL;
    if (w->deliver_last)
        w->deliver_last->deliver_next = c;
    else
        w->deliver_first = c;
    w->deliver_last = c;
}

/* What session_flush() looks at, while those before it are served. */
static void fetch(const struct session_conn *c)
{
    __builtin_prefetch(&c->s.state);
    __builtin_prefetch(&c->s.node_paused);
    __builtin_prefetch(&c->s.bytes_out, 1);
    __builtin_prefetch(&c->fd);
    __builtin_prefetch(&c->wr);
}

static void enqueue_all(struct session_conn *lead)
{
    for (uint32_t i = 0; i < lead->s.leads->count; i++)
        enqueue(lead->w, player_of(lead->s.leads->seats[i].seat));
}

void share_spread(struct session_conn *lead)
{
    struct worker *w = lead->w;
    struct share *sh = lead->s.leads;
    struct shared_stream *st = stream_of(lead);
    if (lead->s.state == SESS_CLOSING && st->member.key) {
        stream_index_remove(&w->shares, &st->member);
        enqueue_all(lead);
    } else if (!sh->started && lead->s.told_start) {
        sh->started = true;
        enqueue_all(lead);
    }
    for (uint32_t i = 0; i < sh->count; i++) {
        struct share_seat *seat = sh->seats[i].seat;
        if (!seat->news)
            continue;
        seat->news = false;
        fetch(player_of(seat));
        enqueue(w, player_of(seat));
    }
    share_deliver(w);
}

/* ---- delivery ---- */

static void deliver(struct session_conn *c)
{
    const struct session_conn *lead = c->s.seat.share ? c->lead : NULL;
    if (lead && lead->s.state == SESS_CLOSING)
        session_post(c, &(struct session_event){
                            .kind = SE_SHARE_ENDED, .why = lead->s.why, .node = lead->s.refusal});
    else if (c->s.seat.failed)
        session_post(c, &(struct session_event){.kind = SE_CLOSE, .why = WHY_LIMIT_MEMORY});
    else if (lead && lead->s.leads->started && c->s.state == SESS_PLACE)
        tell_started(c, lead);
    else
        session_flush(c);
}

/* A thousand players are not served in one turn of the loop. */
void share_deliver(struct worker *w)
{
    const uint64_t until_us = w->turn_began_us + DELIVER_WITHIN_US;
    if (w->delivering) /* a player has gone, and its link with it: we go on below */
        return;
    w->delivering = true;
    for (uint32_t n = 1; w->deliver_first; n++) {
        struct session_conn *c = w->deliver_first;
        w->deliver_first = c->deliver_next;
        if (!w->deliver_first)
            w->deliver_last = NULL;
        c->deliver_queued = false;
        if (!c->dead)
            deliver(c);
        if (n % DELIVER_CLOCK_EVERY == 0 && clock_mono_us() >= until_us)
            break;
    }
    w->delivering = false;
    if (w->deliver_first)
        ev_idle_start(w->loop, &w->deliver);
    else
        ev_idle_stop(w->loop, &w->deliver);
}

/* ---- records ---- */

void share_put_records(struct session_conn *lead)
{
    for (uint32_t n = 0; n < lead->s.leads->count; n++) {
        struct session_conn *c = player_of(lead->s.leads->seats[n].seat);
        memcpy(c->s.node, lead->s.node, sizeof c->s.node);
        c->s.rehome.count = lead->s.rehome.count;
        c->record_stale = n >= RECORDS_AT_ONCE;
        if (!c->record_stale)
            record_put(c);
    }
}
