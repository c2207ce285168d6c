#include "router/reconcile_io.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock_io.h"
#include "router/move_io.h"
#include "router/place_io.h"
#include "router/session_io.h"

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
    struct moved_stream moved[STORE_WRITE_RECORDS];
    uint32_t moved_count;
    bool moving; /* of some it is not known yet where they will be */
};

static int by_id(const void *a, const void *b)
{
    const uint64_t x = (*(struct session_conn *const *)a)->s.id;
    const uint64_t y = (*(struct session_conn *const *)b)->s.id;
    return x < y ? -1 : x > y;
}

static bool collect_own(struct left *l)
{
    l->own = malloc((l->w->conn_count + 1) * sizeof(struct session_conn *));
    if (!l->own)
        return false;
    for (struct session_conn *c = l->w->conns; c; c = c->next)
        if (!c->dead && !c->s.leads)
            l->own[l->own_count++] = c;
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

static bool look_at_session(void *arg, const struct session_record *r)
{
    struct left *l = arg;
    if (!worker_id_equal(&r->worker, &l->w->id))
        return true;
    const struct session_conn *c = find_own(l, r->id);
    if (!c || !(c->recorded || c->s.placed))
        l->sessions[l->session_count++] = r->id;
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
    if (!worker_id_equal(&claim->worker, &l->w->id))
        return true;
    struct session_conn *c = find_own(l, claim->session);
    if (!c || strcmp(c->s.key.text, claim->key.text) != 0)
        l->claims[l->claim_count++] = (struct left_claim){.key = claim->key, .epoch = claim->epoch};
    else if (has_moved(&c->s, claim))
        l->moved[l->moved_count++] =
            (struct moved_stream){.publisher = c, .on_its_way = says_where(claim, &c->s)};
    else
        l->moving = l->moving || is_moving(&c->s);
    return l->claim_count < STORE_WRITE_RECORDS && l->moved_count < STORE_WRITE_RECORDS;
}

/* False: not all of it could be done now. */
static bool remove_left(const struct left *l)
{
    struct worker *w = l->w;
    bool done = l->session_count < STORE_WRITE_RECORDS && l->claim_count < STORE_WRITE_RECORDS &&
                l->moved_count < STORE_WRITE_RECORDS;
    for (uint32_t i = 0; i < l->session_count; i++) {
        const enum err e = store_session_delete(w->store, l->sessions[i]);
        if (e != ERR_NOT_FOUND)
            done = worker_store_ok(w, e, "session record") && done;
    }
    for (uint32_t i = 0; i < l->claim_count; i++) {
        const struct left_claim *c = &l->claims[i];
        const enum err e = store_claim_release(w->store, &c->key, c->epoch, true, clock_wall_ms());
        if (e != ERR_NOT_FOUND && e != ERR_CONFLICT)
            done = worker_store_ok(w, e, "claim") && done;
    }
    return done;
}

/* What fails sets store_missed. */
static void write_moved(const struct left *l)
{
    for (uint32_t i = 0; i < l->moved_count; i++)
        if (!l->moved[i].publisher->dead)
            move_write_claim(l->moved[i].publisher, l->moved[i].on_its_way);
}

/* Publishers that were placed without one; of those on their way the next call knows more. */
static void take_missed(const struct left *l)
{
    struct worker *w = l->w;
    const uint64_t errors = w->process.store_errors;
    uint32_t taken = 0;
    for (uint32_t i = 0; i < l->own_count; i++) {
        struct session_conn *c = l->own[i];
        const struct session *s = &c->s;
        if (c->dead || s->kind != SESSION_PUBLISH || !s->placed || s->claim_epoch != 0)
            continue;
        if (!place_misses_claim(c) || w->process.store_errors != errors ||
            taken == STORE_WRITE_RECORDS) {
            w->store_missed = true;
            continue;
        }
        taken++;
        place_take_missed_claim(c);
    }
}

void reconcile(struct worker *w)
{
    struct left l = {.w = w};
    w->store_missed = false; /* whatever fails from here on sets it */
    if (!collect_own(&l)) {
        w->store_missed = true;
        return;
    }
    if (!worker_store_ok(w, store_sessions_list(w->store, look_at_session, &l), "sessions") ||
        !worker_store_ok(w, store_claims_list(w->store, look_at_claim, &l), "claims") ||
        !remove_left(&l))
        w->store_missed = true;
    else
        write_moved(&l);
    if (!w->store_missed)
        take_missed(&l);
    w->store_missed = w->store_missed || l.moving;
    free(l.own);
}
