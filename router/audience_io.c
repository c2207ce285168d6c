#include "router/audience_io.h"

#include <string.h>

#include "router/changes_io.h"

void audience_ring(struct worker *w, const struct stream_key *key, uint64_t more_slots)
{
    uint64_t slots = 0;
    uint32_t players;
    if (store_audience(w->store, key, w->id.router, &slots, &players) != ERR_OK)
        slots = 0;
    worker_ring(w, slots | more_slots);
}

/* The claim that the player has followed. One that came when the stream was on its way is where
 * that will be once its node has answered. */
static uint64_t epoch_followed(const struct session_conn *c)
{
    const uint64_t followed = c->s.rehome.followed_epoch;
    return followed == 0 && c->s.state == SESS_RELAY ? c->told_epoch : followed;
}

/* Says in the store how far this worker's players of the stream are. */
static void mark(struct worker *w, struct stream_member *first)
{
    uint64_t epoch = 0;
    bool cut = true;
    struct worker_id mover = {0};
    for (struct stream_member *m = first; m; m = stream_index_next(m)) {
        const struct session_conn *c = session_conn_of(m);
        const struct session_rehome *r = &c->s.rehome;
        const uint64_t followed = epoch_followed(c);
        if (c->dead || c->s.kind != SESSION_PLAY || followed == 0)
            continue;
        if (c->s.state == SESS_REHOME && r->phase != RH_OVERLAP && !r->denied)
            return; /* not there yet */
        cut = cut && (c->s.state != SESS_REHOME || r->level);
        if (followed > epoch) {
            epoch = followed;
            mover = c->mover;
        }
    }
    if (epoch == 0 || !w->store)
        return;
    const enum err e = store_audience_mark(w->store, first->key, &w->id, epoch, cut);
    if (e != ERR_NOT_FOUND)
        (void)worker_store_ok(w, e, "audience");
    if (strcmp(mover.router, w->id.router) == 0 && mover.slot < WORKERS_MAX)
        worker_ring(w, UINT64_C(1) << mover.slot);
}

void audience_changed(struct worker *w, const struct stream_key *key)
{
    stream_index_want(&w->streams, STREAM_AUDIENCE, key);
}

/* Players that do not know of the move yet have not followed it: their stream waits until they do.
 */
void audience_mark_changed(struct worker *w)
{
    struct stream_member *m;
    while ((m = stream_index_take(&w->streams, STREAM_AUDIENCE)))
        if (!stream_index_wanted(&w->streams, STREAM_TELL, m->key))
            mark(w, m);
}

void audience_joined(struct session_conn *c)
{
    const struct stream_key key = c->s.key;
    if (c->s.kind != SESSION_PLAY || !c->found_live || c->s.stream->found.next[0] == '\0')
        return;
    changes_read(c->w); /* it asked; others of this worker may not have heard of the move yet */
    audience_changed(c->w, &key);
}
