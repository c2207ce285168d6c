#include "router/reconcile_io.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock_io.h"
#include "router/move_io.h"
#include "router/place_io.h"
#include "router/session_io.h"

enum {
    WRITE_WITHIN_US = 10000, /* in a call; the rest soon */
    ERRORS_MAX = 8,          /* it is no use, and not only for one of them */
};

struct left_claim {
    struct stream_key key;
    uint64_t epoch;
};

struct moved_stream {
    struct session_conn *publisher;
    bool on_its_way; /* that is written, that it has arrived is not */
};

struct left {
    struct worker *w;
    struct session_conn **own; /* by session id */
    uint32_t own_count;
    uint64_t sessions[STORE_WRITE_RECORDS];
    uint32_t session_count;
    struct left_claim claims[STORE_WRITE_RECORDS];
    uint32_t claim_count;
    struct moved_stream *moved; /* a session has one stream: own_count of them at most */
    uint32_t moved_count;
    bool moving;       /* of some it is not known yet where they will be */
    uint64_t until_us; /* monotonic */
    uint64_t errors;   /* of the store, before */
};

/* What else there is to be written waits for the next call. */
static bool is_enough(const struct left *l)
{
    return l->w->process.store_errors - l->errors >= ERRORS_MAX || clock_mono_us() >= l->until_us;
}

static int by_id(const void *a, const void *b)
{
    const uint64_t x = (*(struct session_conn *const *)a)->s.id;
    const uint64_t y = (*(struct session_conn *const *)b)->s.id;
    return x < y ? -1 : x > y;
}

static bool collect_own(struct left *l)
{
    l->own = malloc((l->w->conn_count + 1) * sizeof(struct session_conn *));
    l->moved = malloc((l->w->conn_count + 1) * sizeof *l->moved);
    if (!l->own || !l->moved)
        return false;
    for (struct session_conn *c = l->w->conns; c; c = c->next) {
        c->seen_record = c->seen_claim = false;
        if (!c->dead && !c->s.leads)
            l->own[l->own_count++] = c;
    }
    qsort(l->own, l->own_count, sizeof(struct session_conn *), by_id);
    return true;
}

static struct session_conn *find_own(const struct left *l, uint64_t id)
{
    uint32_t low = 0, high = l->own_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (l->own[middle]->s.id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < l->own_count && l->own[low]->s.id == id ? l->own[low] : NULL;
}

static bool look_at_session(void *arg, uint64_t id)
{
    struct left *l = arg;
    struct session_conn *c = find_own(l, id);
    if (!c || !(c->recorded || c->s.placed))
        l->sessions[l->session_count++] = id;
    else
        c->seen_record = true;
    return l->session_count < STORE_WRITE_RECORDS;
}

/* It is on its way, and its claim does not say so. */
static bool is_moving(const struct session *s)
{
    return s->state == SESS_REHOME && !s->rehome.claimed;
}

/* Where the stream is by its claim is not where it is. */
static bool has_moved(const struct session *s, const struct claim *claim)
{
    return s->state == SESS_RELAY && s->claim_epoch == claim->epoch &&
           (claim->next[0] || strcmp(claim->node, s->node) != 0);
}

/* It says so much that only its arrival is missing. */
static bool says_where(const struct claim *claim, const struct session *s)
{
    return strcmp(claim->next, s->node) == 0 && (claim->stays || !s->rehome.returned);
}

static bool look_at_claim(void *arg, const struct claim *claim)
{
    struct left *l = arg;
    struct session_conn *c = find_own(l, claim->session);
    if (c)
        c->seen_claim = true;
    if (!c || !c->s.placed || strcmp(c->s.key.text, claim->key.text) != 0)
        l->claims[l->claim_count++] = (struct left_claim){.key = claim->key, .epoch = claim->epoch};
    else if (has_moved(&c->s, claim))
        l->moved[l->moved_count++] =
            (struct moved_stream){.publisher = c, .on_its_way = says_where(claim, &c->s)};
    else
        l->moving = l->moving || is_moving(&c->s);
    return l->claim_count < STORE_WRITE_RECORDS;
}

static void remove_left(const struct left *l)
{
    struct worker *w = l->w;
    uint32_t sessions = 0, claims = 0;
    for (; sessions < l->session_count && !is_enough(l); sessions++) {
        const enum err e = store_session_delete(w->store, l->sessions[sessions]);
        if (e != ERR_NOT_FOUND)
            (void)worker_store_ok(w, e, "session record");
    }
    for (; claims < l->claim_count && !is_enough(l); claims++) {
        const struct left_claim *c = &l->claims[claims];
        const struct claim_end end = {
            .key = &c->key, .epoch = c->epoch, .keep = true, .now_ms = clock_wall_ms()};
        const enum err e = store_claim_release(w->store, &end);
        if (e != ERR_NOT_FOUND && e != ERR_CONFLICT)
            (void)worker_store_ok(w, e, "claim");
    }
    if (sessions < l->session_count || sessions == STORE_WRITE_RECORDS || claims < l->claim_count ||
        claims == STORE_WRITE_RECORDS)
        w->missed_more = true;
}

static void write_moved(const struct left *l)
{
    for (uint32_t i = 0; i < l->moved_count; i++) {
        if (is_enough(l)) {
            l->w->missed_more = true;
            return;
        }
        if (!l->moved[i].publisher->dead)
            move_write_claim(l->moved[i].publisher, l->moved[i].on_its_way);
    }
}

/* Publishers that were placed without one; of those on their way the next call knows more. */
static void take_missed(struct left *l)
{
    struct worker *w = l->w;
    for (uint32_t i = 0; i < l->own_count; i++) {
        struct session_conn *c = l->own[i];
        const struct session *s = &c->s;
        if (c->dead || s->kind != SESSION_PUBLISH || !s->placed || s->claim_epoch != 0)
            continue;
        if (!place_misses_claim(c)) {
            l->moving = true;
        } else if (is_enough(l)) {
            w->missed_more = true;
            return;
        } else {
            place_take_missed_claim(c);
        }
    }
}

/* What others have taken away is written again: the records in turn, claims as of publishers that
 * were placed without one. */
static void put_back(struct left *l)
{
    bool moving = false;
    if (l->session_count == STORE_WRITE_RECORDS || l->claim_count == STORE_WRITE_RECORDS)
        return; /* there are more of which nothing is known yet */
    for (uint32_t i = 0; i < l->own_count; i++) {
        struct session_conn *c = l->own[i];
        c->record_stale = c->record_stale || (c->recorded && !c->seen_record);
        if (c->s.kind != SESSION_PUBLISH || c->s.claim_epoch == 0 || c->seen_claim)
            continue;
        if (c->s.state == SESS_RELAY)
            c->s.claim_epoch = 0;
        else
            moving = true;
    }
    l->w->absent = moving;
    l->moving = l->moving || moving;
}

/* Whatever fails sets store_missed. */
static void reconcile_all(struct left *l)
{
    struct worker *w = l->w;
    if (!collect_own(l)) {
        w->store_missed = true;
        return;
    }
    if (!worker_store_ok(w, store_sessions_of(w->store, &w->id, look_at_session, l), "sessions") ||
        !worker_store_ok(w, store_claims_of(w->store, &w->id, look_at_claim, l), "claims"))
        return;
    if (w->absent)
        put_back(l);
    l->until_us = clock_mono_us() + WRITE_WITHIN_US;
    remove_left(l);
    write_moved(l);
    take_missed(l);
}

void reconcile(struct worker *w)
{
    struct left l = {
        .w = w, .errors = w->process.store_errors, .until_us = clock_mono_us() + WRITE_WITHIN_US};
    w->store_missed = w->missed_more = false;
    reconcile_all(&l);
    w->missed_more = w->missed_more && w->process.store_errors == l.errors;
    w->store_missed = w->store_missed || w->missed_more || l.moving;
    free(l.own);
    free(l.moved);
}
