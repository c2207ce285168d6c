#include "router/changes_io.h"

#include <string.h>

#include "base/clock_io.h"

enum {
    TELL_WITHIN_US = 4000, /* in a turn of the loop sessions are told of changes */
    TELL_AT_ONCE = 32,
    ASTRAY_MS = 8000, /* at most, before a player tries again the node that its stream is on */
};

/* The node that has its stream did not take it, or the claim seemed to lag, and where it went
 * instead it has had nothing. It is sent back after as long as it has gone on so. */
static bool is_stranded(const struct session_conn *c)
{
    const struct session *s = &c->s;
    const uint64_t frames_ms = s->rehome.frames_ms;
    if (!c->astray || c->dead || s->state != SESS_RELAY || frames_ms >= s->node_started_ms)
        return false;
    const uint64_t since_ms = frames_ms > s->started_ms ? frames_ms : s->started_ms;
    const uint64_t so_far_ms = s->node_started_ms - since_ms;
    const uint64_t pause_ms = so_far_ms < ASTRAY_MS ? so_far_ms : ASTRAY_MS;
    return worker_now_ms(c->w) >= s->node_started_ms + pause_ms;
}

static bool concerns_player(const struct session_conn *c, const struct claim *claim,
                            struct session_event *ev)
{
    const struct session *s = &c->s;
    const bool moving = claim->next[0] != '\0';
    const bool elsewhere = strcmp(s->node, claim->node) != 0;
    if (!s->placed)
        return false;
    if (claim->epoch <= c->told_epoch && !(is_stranded(c) && elsewhere && !moving)) {
        *ev = (struct session_event){.kind = SE_STREAM_SETTLED};
        return claim->epoch == s->rehome.followed_epoch && !moving && s->state == SESS_REHOME &&
               s->current >= 0;
    }
    *ev = (struct session_event){.kind = SE_STREAM_MOVED,
                                 .node = claim_serving(claim),
                                 .epoch = claim->epoch,
                                 .publication = claim->publication,
                                 .follow = moving,
                                 .planned = moving && claim->planned,
                                 .stays = claim->stays,
                                 .time = claim->replay_time};
    const bool known = s->rehome.publication == claim->publication;
    const bool missed = c->told_epoch != 0 && !claim->stays; /* it was published there anew */
    return moving || elsewhere || !known || missed || s->state == SESS_REHOME;
}

/* What a claim as it is now means for one session. True: *ev is for it. */
static bool concerns(const struct session_conn *c, const struct claim *claim,
                     struct session_event *ev)
{
    const struct session *s = &c->s;
    if (c->dead || claim->state != CLAIM_LIVE)
        return false;
    if (s->kind == SESSION_PLAY)
        return concerns_player(c, claim, ev);
    if (claim->session == s->id) {
        *ev = (struct session_event){.kind = SE_RELEASED};
        return claim->released && s->state == SESS_PLACE && s->phase == PHASE_WAIT_RELEASE;
    }
    *ev = (struct session_event){.kind = SE_TAKEN_OVER};
    return s->claim_epoch != 0 && claim->epoch > s->claim_epoch;
}

static void log_player_moved(struct session_conn *c, const struct claim *claim)
{
    char stream[STREAM_KEY_MAX];
    c->w->process.players_moved++;
    LOG(&c->w->log, c->said.failed ? LOG_DEBUG : LOG_INFO, EV_PLAYER_MOVED, log_u64(K_SID, c->s.id),
        log_text(K_CLIENT, c->client),
        log_text(K_STREAM, worker_stream_text(c->w, &claim->key, stream)),
        log_text(K_NODE, claim->node), log_u64(K_EPOCH, claim->epoch));
}

static bool is_late(const struct worker *w)
{
    return clock_mono_us() >= w->tell_until_us;
}

static void tell_session(struct session_conn *c, const struct claim *claim)
{
    struct session_event ev;
    if (!concerns(c, claim, &ev))
        return;
    c->mover = claim->worker;
    if (claim->epoch > c->told_epoch)
        c->said.failed = c->said.astray = false;
    if (ev.kind == SE_STREAM_MOVED && !ev.follow && strcmp(c->s.node, ev.node) != 0)
        log_player_moved(c, claim);
    c->told_epoch = claim->epoch;
    session_post(c, &ev);
}

static uint32_t collect_concerned(const struct worker *w, const struct claim *claim,
                                  struct session_conn *some[TELL_AT_ONCE])
{
    uint32_t count = 0;
    struct session_event ev;
    for (struct stream_member *m = stream_index_first(&w->streams, &claim->key);
         m && count < TELL_AT_ONCE; m = stream_index_next(m))
        if (concerns(session_conn_of(m), claim, &ev))
            some[count++] = session_conn_of(m);
    return count;
}

/* The index changes while sessions act on the news: who has acted is no longer concerned. Of
 * thousands the last ones are told in later turns of the loop. */
static void tell_sessions(struct worker *w, const struct claim *claim)
{
    struct session_conn *some[TELL_AT_ONCE];
    uint32_t count;
    while ((count = collect_concerned(w, claim, some)) > 0) {
        for (uint32_t i = 0; i < count; i++)
            if (some[i]->member.key && strcmp(some[i]->s.key.text, claim->key.text) == 0)
                tell_session(some[i], claim);
        if (is_late(w)) {
            stream_index_want(&w->streams, STREAM_TELL, &claim->key);
            return;
        }
    }
}

struct change_batch {
    uint32_t count;
    struct claim claims[STORE_WRITE_RECORDS];
};

static void collect(void *arg, const struct store_change *change)
{
    struct change_batch *b =
        arg; /* acted on after the call: sessions write to the store themselves */
    if (b->count < STORE_WRITE_RECORDS)
        b->claims[b->count++] = change->claim;
}

static bool is_placed(const struct session_conn *c)
{
    return c->s.placed;
}

/* The claims of those sessions' streams are to be asked for. */
static void recheck_those(struct worker *w, bool (*which)(const struct session_conn *c))
{
    for (const struct session_conn *c = w->conns; c; c = c->next)
        if (which(c))
            stream_index_want(&w->streams, STREAM_TELL, &c->s.key);
}

/* False: nothing more to read. */
static bool read_batch(struct worker *w)
{
    struct change_batch batch = {0};
    bool lost = false;
    if (!worker_store_ok(w, store_changes_read(w->store, &w->change_seq, &lost, collect, &batch),
                         "changes"))
        return false;
    if (lost) /* we fell behind the change log */
        recheck_those(w, is_placed);
    for (uint32_t i = 0; i < batch.count; i++) {
        if (is_late(w))
            stream_index_want(&w->streams, STREAM_TELL, &batch.claims[i].key);
        else
            tell_sessions(w, &batch.claims[i]);
    }
    return batch.count > 0;
}

void changes_read(struct worker *w)
{
    if (!w->store ||
        w->reading_changes) /* what a session does about a change is read by the loop below */
        return;
    w->reading_changes = true;
    w->tell_until_us = clock_mono_us() + TELL_WITHIN_US;
    while (read_batch(w))
        ;
    w->reading_changes = false;
}

static void on_claim_again(void *arg, enum err e, const struct claim *claim)
{
    struct worker *w = arg;
    if (e == ERR_NOT_FOUND)
        return;
    if (!worker_store_ok(w, e, "claim")) {
        w->recheck_due = true;
        return;
    }
    stream_index_want(&w->streams, STREAM_AUDIENCE, &claim->key);
    tell_sessions(w, claim);
}

void changes_tell_more(struct worker *w)
{
    struct stream_member *m;
    if (!w->store || w->reading_changes)
        return;
    w->reading_changes = true;
    w->tell_until_us = clock_mono_us() + TELL_WITHIN_US;
    do {
        m = stream_index_take(&w->streams, STREAM_TELL);
        if (!m)
            break;
        const struct stream_key key = *m->key;
        store_claim_get(w->store, &key, w->config->placement.hold_ms, worker_claims_ms(w),
                        on_claim_again, w);
    } while (!is_late(w));
    w->reading_changes = false;
    changes_read(w); /* what they did about it */
}

void changes_look_again(struct worker *w)
{
    recheck_those(w, w->recheck_due ? is_placed : is_stranded);
    w->recheck_due = false;
}
