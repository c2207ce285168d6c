#define _GNU_SOURCE
#include "healthd/rounds_io.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock_io.h"
#include "healthd/node_watch.h"
#include "healthd/skew.h"

enum {
    RESOLVE_AGAIN_MS = 30000,            /* a stat host without an address is asked for again */
    FOUND_AGAIN_MS = STORE_FOUND_MS / 4, /* the same streams are written again */
    PROBE_MESSAGE_BYTES = 256 * 1024,    /* what a node may send to a probe in one message */
    SENT_LEAST_BPS = 500,                /* less is no media */
    SHORTAGE_LINE_MS = 10000,
};

struct watch {
    struct healthd *h;
    struct node_watch w;
    struct config_node conf;
    bool disabled; /* by the operator: checked, but not compared with the others */
    struct probe_target target;
    uint64_t resolved_ms; /* when the stat host was last looked up; monotonic */
    bool resolve_due;     /* it is to be looked up again although it has an address */
    ev_timer timer;       /* the next round */
    struct probe *probes[HEALTH_CHECK_COUNT];
    bool dirty;  /* the status is to be stored */
    bool judged; /* a round has ended */
    enum skew skew;
    char skew_version[STATUS_VERSION_MAX]; /* with which that was logged */
    uint64_t found_hash, found_ms;         /* the streams last written, and when; monotonic */
    uint64_t sent_bytes, dial_failures;    /* being read from the store */
};

static struct watch_time time_now(void)
{
    return (struct watch_time){.mono_ms = clock_mono_ms(), .wall_ms = clock_wall_ms()};
}

static struct watch *find(const struct rounds *r, const char *id)
{
    uint32_t low = 0, high = r->count;
    while (low < high) {
        const uint32_t mid = low + (high - low) / 2;
        const int order = strcmp(r->watches[mid]->conf.id, id);
        if (order == 0)
            return r->watches[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* ---- what comes of a round ---- */

static void log_verdict(struct watch *w, enum node_health before, uint64_t lasted_ms)
{
    const struct node_status *st = &w->w.status;
    const struct check_result *cause = &w->w.cause;
    LOG(&w->h->log, st->health == NODE_DOWN ? LOG_WARN : LOG_INFO, EV_NODE_VERDICT,
        log_text(K_NODE, w->conf.id), log_text(K_STATE, node_health_name(st->health)),
        log_text(K_PREVIOUS, node_health_name(before)), log_text(K_REASON, st->reason),
        log_text(K_ADDRESS, w->conf.rtmp), log_u64(K_DURATION_MS, lasted_ms),
        log_text(K_DETAIL, cause->transcript.text));
}

static void log_reloaded(struct watch *w)
{
    const struct node_status *st = &w->w.status;
    LOG(&w->h->log, LOG_INFO, EV_NODE_RELOADED, log_text(K_NODE, w->conf.id),
        log_u64(K_PID, st->pid), log_u64(K_COUNT, st->generations),
        log_text(K_VERSION, st->version));
}

static void set_timer(struct watch *w, uint64_t mono_ms)
{
    const uint64_t wait = w->w.next_ms > mono_ms ? w->w.next_ms - mono_ms : 0;
    ev_timer_stop(w->h->loop, &w->timer);
    ev_now_update(w->h->loop);
    ev_timer_set(&w->timer, (double)wait / 1000.0, 0.0);
    ev_timer_start(w->h->loop, &w->timer);
}

static void take_outcome(struct watch *w, const struct node_status *before, uint32_t changed,
                         const struct watch_time *now)
{
    if (changed & WATCH_RELOADED)
        log_reloaded(w);
    if (changed & WATCH_VERDICT) {
        w->h->process.transitions++;
        log_verdict(w, before->health,
                    before->since_ms && now->wall_ms > before->since_ms
                        ? now->wall_ms - before->since_ms
                        : 0);
    }
    if (changed & WATCH_ROUND_DONE) {
        if (!w->judged)
            w->h->rounds.skew_changed = true;
        w->judged = w->dirty = true;
    }
    if (w->w.running == 0)
        set_timer(w, now->mono_ms);
}

static void put_found(struct watch *w, const struct stat_report *r, uint64_t mono_ms)
{
    uint64_t hash = 0; /* of the set: the order does not matter */
    if (w->h->rounds.vhost)
        return;
    for (uint32_t i = 0; i < r->key_count; i++)
        hash += stream_key_hash(&r->keys[i]);
    if (r->key_count == 0 || (hash == w->found_hash && mono_ms - w->found_ms < FOUND_AGAIN_MS))
        return;
    for (uint32_t i = 0; i < r->key_count; i += STORE_WRITE_RECORDS) {
        const uint32_t left = r->key_count - i;
        if (!healthd_store_ok(
                w->h,
                store_found_put(w->h->store, w->conf.id, &r->keys[i],
                                left < STORE_WRITE_RECORDS ? left : STORE_WRITE_RECORDS,
                                clock_wall_ms()),
                "found streams"))
            return;
    }
    w->found_hash = hash;
    w->found_ms = mono_ms;
}

/* The same for all nodes, so one line now and then. */
static void log_shortage(struct healthd *h, const struct check_result *r)
{
    const uint64_t now_ms = clock_mono_ms();
    if (h->shortage_ms != 0 && now_ms - h->shortage_ms < SHORTAGE_LINE_MS)
        return;
    h->shortage_ms = now_ms;
    LOG(&h->log, LOG_ERROR, EV_CHECKS_IMPOSSIBLE, log_text(K_ERROR, r->reason));
}

static void on_result(struct watch *w, const struct check_result *r,
                      const struct stat_report *report)
{
    const struct watch_time now = time_now();
    const struct node_status before = w->w.status;
    const uint64_t apps = w->w.apps_hash;
    w->h->process.checks++;
    w->h->process.check_failures += !r->good;
    if (r->ours)
        log_shortage(w->h, r);
    if (!r->good && !r->ours &&
        w->probes[CHECK_LOOP]) { /* it takes longest, and the round is decided */
        probe_cancel(w->probes[CHECK_LOOP]);
        w->probes[CHECK_LOOP] = NULL;
        node_watch_skip(&w->w, CHECK_LOOP);
    }
    const uint32_t changed = node_watch_result(&w->w, w->h->rounds.env.policy, r, report, &now);
    if (report) {
        put_found(w, report, now.mono_ms);
        if (apps != w->w.apps_hash || strcmp(before.version, w->w.status.version) != 0)
            w->h->rounds.skew_changed = true;
    }
    take_outcome(w, &before, changed, &now);
    if (changed & WATCH_VERDICT && healthd_works(w->h))
        rounds_flush(w->h); /* the routers are waiting for it */
}

/* ---- a round ---- */

static void on_probe_done(void *arg, const struct check_result *r, const struct stat_report *report)
{
    struct watch *w = arg;
    /* The rtmp check calls itself tcp when it came no further than that */
    w->probes[w->probes[r->check] ? r->check : CHECK_RTMP] = NULL;
    on_result(w, r, report);
}

static void start_check(struct watch *w, enum health_check check)
{
    const struct sockaddr_storage *to = check == CHECK_STAT ? &w->target.stat : &w->target.rtmp;
    struct check_result r = {.check = check};
    if (to->ss_family == 0) {
        snprintf(r.reason, sizeof r.reason, "%s: its host name has no address",
                 health_check_name(check));
    } else {
        w->probes[check] = probe_start(check, &w->h->rounds.env, &w->target, on_probe_done, w);
        if (w->probes[check])
            return;
        r.ours = true;
        snprintf(r.reason, sizeof r.reason, "%s: no memory", health_check_name(check));
    }
    on_result(w, &r, NULL);
}

static void set_port(struct sockaddr_storage *a, uint16_t port)
{
    if (a->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)a)->sin6_port = htons(port);
    else if (a->ss_family == AF_INET)
        ((struct sockaddr_in *)a)->sin_port = htons(port);
}

/* The host of the statistics page. Names block here, so that operators should prefer addresses;
 * where it is the same name as that of the node itself, its address is known already. One that
 * cannot be looked up now keeps the address that it had. */
static void resolve_stat(struct watch *w)
{
    struct probe_target *t = &w->target;
    struct config_node as_node = {0};
    char host[HOST_MAX];
    uint16_t port;
    w->resolve_due = false;
    if (config_split_address(w->conf.rtmp, 0, host, &port) == ERR_OK &&
        strcmp(host, t->stat_url.host) == 0) {
        t->stat = t->rtmp;
    } else {
        const bool v6 = strchr(t->stat_url.host, ':') != NULL;
        snprintf(as_node.rtmp, sizeof as_node.rtmp, "%s%.*s%s:%u", v6 ? "[" : "", HOST_MAX - 16,
                 t->stat_url.host, v6 ? "]" : "", t->stat_url.port);
        healthd_ping_watchdog(w->h);
        if (node_resolve(&as_node, &t->stat) != ERR_OK)
            LOG(&w->h->log, LOG_WARN, EV_NODE_UNRESOLVED, log_text(K_NODE, w->conf.id),
                log_text(K_ADDRESS, w->conf.stat));
    }
    set_port(&t->stat, t->stat_url.port);
    w->resolved_ms = clock_mono_ms(); /* it may have taken long */
}

static uint32_t possible_checks(const struct watch *w)
{
    const uint32_t all = (1u << HEALTH_CHECK_COUNT) - 1;
    return w->target.stat_url.host[0] ? all : all & ~(1u << CHECK_STAT);
}

static void on_due(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct watch *w = timer->data;
    (void)loop;
    (void)events;
    const struct watch_time now = time_now();
    if (w->target.stat_url.host[0] &&
        (w->resolve_due ||
         (w->target.stat.ss_family == 0 && now.mono_ms - w->resolved_ms >= RESOLVE_AGAIN_MS)))
        resolve_stat(w);
    const uint32_t run = node_watch_begin(&w->w, w->h->rounds.env.policy, possible_checks(w), &now);
    if (run == 0)
        set_timer(w, now.mono_ms);
    for (enum health_check c = CHECK_TCP; c < (enum health_check)HEALTH_CHECK_COUNT; c++)
        if (run & 1u << c)
            start_check(w, c);
}

/* The round under way, if any, is forgotten. */
static void cancel_round(struct watch *w)
{
    for (int i = 0; i < HEALTH_CHECK_COUNT; i++) {
        probe_cancel(w->probes[i]);
        w->probes[i] = NULL;
    }
    w->w.running = 0;
}

static void restart_round(struct watch *w)
{
    cancel_round(w);
    w->w.next_ms = clock_mono_ms();
    set_timer(w, w->w.next_ms);
}

/* ---- the node list ---- */

static void set_address(struct watch *w, const struct node *n)
{
    struct probe_target *t = &w->target;
    w->conf = n->conf;
    *t = (struct probe_target){
        .rtmp_text = w->conf.rtmp, .rtmp = n->addr, .send_proxy = n->conf.send_proxy};
    if (!w->conf.stat[0])
        return;
    if (http_url_parse(w->conf.stat, &t->stat_url) == ERR_OK)
        resolve_stat(w);
    else
        LOG(&w->h->log, LOG_WARN, EV_NODE_UNRESOLVED, log_text(K_NODE, w->conf.id),
            log_text(K_ADDRESS, w->conf.stat));
}

static struct watch *watch_create(struct healthd *h, const struct node *n)
{
    struct watch *w = calloc(1, sizeof *w);
    struct node_status stored;
    uint64_t seed;
    if (!w)
        return NULL;
    w->h = h;
    set_address(w, n);
    const bool known = store_status_get(h->store, n->conf.id, &stored) == ERR_OK;
    memcpy(&seed, h->rounds.env.noise, sizeof seed);
    node_watch_init(&w->w, n->conf.id, known ? &stored : NULL, h->rounds.env.policy, seed ^ n->seed,
                    clock_mono_ms());
    ev_timer_init(&w->timer, on_due, 0.0, 0.0);
    w->timer.data = w;
    set_timer(w, clock_mono_ms());
    return w;
}

static void watch_destroy(struct watch *w)
{
    if (!w)
        return;
    cancel_round(w);
    ev_timer_stop(w->h->loop, &w->timer);
    free(w);
}

static bool same_target(const struct watch *w, const struct node *n)
{
    return strcmp(w->conf.rtmp, n->conf.rtmp) == 0 && strcmp(w->conf.stat, n->conf.stat) == 0 &&
           w->conf.send_proxy == n->conf.send_proxy &&
           memcmp(&w->target.rtmp, &n->addr, sizeof n->addr) == 0;
}

/* The watch of the node: the one there is, adapted, or a new one. NULL: no memory. */
static struct watch *watch_for(struct healthd *h, struct watch *old, const struct node *n)
{
    const bool disabled = n->admin == NODE_DISABLED;
    struct watch *w = old;
    if (!w) {
        w = watch_create(h, n);
    } else if (!same_target(w, n)) {
        cancel_round(w); /* its probes look at the target */
        if (memcmp(&w->target.rtmp, &n->addr, sizeof n->addr) != 0)
            node_watch_readdressed(&w->w);
        set_address(w, n);
        restart_round(w);
    }
    if (w && w->disabled != disabled) {
        w->disabled = disabled;
        h->rounds.skew_changed = true;
    }
    return w;
}

/* Both lists are sorted by id. */
void rounds_set_nodes(struct healthd *h)
{
    struct rounds *r = &h->rounds;
    struct watch **fresh = calloc(h->nodes->count + 1u, sizeof(struct watch *));
    uint32_t count = 0, at = 0;
    if (!fresh)
        return; /* the old list stays; the next change of it tries again */
    for (uint32_t i = 0; i < h->nodes->count; i++) {
        const struct node *n = &h->nodes->nodes[i];
        while (at < r->count && strcmp(r->watches[at]->conf.id, n->conf.id) < 0)
            watch_destroy(r->watches[at++]);
        struct watch *old = NULL;
        if (at < r->count && strcmp(r->watches[at]->conf.id, n->conf.id) == 0)
            old = r->watches[at++];
        struct watch *w = watch_for(h, old, n);
        if (w)
            fresh[count++] = w;
    }
    while (at < r->count)
        watch_destroy(r->watches[at++]);
    if (count != r->count)
        r->skew_changed = true;
    free(r->watches);
    r->watches = fresh;
    r->count = count;
    rounds_read_dial_failures(h); /* what there is now is what new ones count from */
}

void rounds_stop(struct healthd *h)
{
    struct rounds *r = &h->rounds;
    for (uint32_t i = 0; i < r->count; i++)
        watch_destroy(r->watches[i]);
    free(r->watches);
    r->watches = NULL;
    r->count = 0;
}

/* ---- skew ---- */

static void log_skew(struct watch *w, enum skew skew, const char *right)
{
    const struct node_status *st = &w->w.status;
    const bool again = skew != SKEW_NONE && strcmp(w->skew_version, st->version) != 0;
    if (skew == w->skew && !again)
        return;
    w->skew = skew;
    memcpy(w->skew_version, st->version, sizeof w->skew_version);
    LOG(&w->h->log, skew == SKEW_NONE ? LOG_INFO : LOG_WARN, EV_NODE_SKEW,
        log_text(K_NODE, w->conf.id), log_text(K_STATE, skew == SKEW_NONE ? "same" : "differs"),
        log_text(K_REASON, skew == SKEW_NONE ? "" : skew_name(skew)),
        log_text(K_VERSION, st->version), log_text(K_DETAIL, right));
}

/* Waits until every node had its say, or the first ones to answer would look wrong. */
static void compare_nodes(struct healthd *h)
{
    struct rounds *r = &h->rounds;
    char detail[STATUS_VERSION_MAX + 16];
    for (uint32_t i = 0; i < r->count; i++)
        if (!r->watches[i]->judged && possible_checks(r->watches[i]) & r->env.policy->checks)
            return;
    struct skew_node *all = calloc(r->count + 1u, sizeof *all);
    if (!all)
        return;
    r->skew_changed = false;
    for (uint32_t i = 0; i < r->count; i++) {
        const struct watch *w = r->watches[i];
        all[i] = (struct skew_node){.version = w->disabled ? "" : w->w.status.version,
                                    .apps_hash = w->w.apps_hash};
    }
    snprintf(detail, sizeof detail, "most run %s", skew_find(all, r->count));
    for (uint32_t i = 0; i < r->count; i++) {
        struct watch *w = r->watches[i];
        log_skew(w, all[i].skew, detail);
        if (w->w.status.skewed != (all[i].skew != SKEW_NONE)) {
            w->w.status.skewed = all[i].skew != SKEW_NONE;
            w->dirty = true;
        }
    }
    free(all);
}

/* ---- the store ---- */

void rounds_flush(struct healthd *h)
{
    struct rounds *r = &h->rounds;
    if (r->skew_changed)
        compare_nodes(h);
    for (uint32_t i = 0; i < r->count;) {
        const uint32_t first = i;
        uint32_t n = 0;
        for (; i < r->count && n < STORE_WRITE_RECORDS; i++)
            if (r->watches[i]->dirty)
                r->batch[n++] = r->watches[i]->w.status;
        if (n == 0)
            return;
        if (!healthd_store_ok(h, store_status_put(h->store, r->batch, n, clock_wall_ms()),
                              "status of nodes"))
            return; /* it stays dirty */
        for (uint32_t k = first; k < i; k++)
            r->watches[k]->dirty = false;
    }
}

static bool on_dial_failures(void *arg, const struct dial_failures *f)
{
    struct watch *w = find(arg, f->node);
    if (w)
        w->dial_failures = f->count;
    return true;
}

void rounds_read_dial_failures(struct healthd *h)
{
    struct rounds *r = &h->rounds;
    for (uint32_t i = 0; i < r->count; i++)
        r->watches[i]->dial_failures = 0;
    if (!healthd_store_ok(h, store_dial_failures_list(h->store, on_dial_failures, r),
                          "failed dials"))
        return;
    const struct watch_time now = time_now();
    for (uint32_t i = 0; i < r->count; i++) {
        struct watch *w = r->watches[i];
        const struct node_status before = w->w.status;
        const uint32_t changed =
            node_watch_dial_failures(&w->w, r->env.policy, w->dial_failures, &now);
        if (changed)
            take_outcome(w, &before, changed, &now);
    }
}

static bool on_session(void *arg, const struct session_record *s)
{
    /* Who sends no media answers the router's pings: nothing of that reaches the node. */
    const bool sends = s->kind == SESSION_PUBLISH && s->bitrate >= SENT_LEAST_BPS;
    struct watch *w = sends ? find(arg, s->node) : NULL;
    if (w)
        w->sent_bytes += s->bytes_in;
    return true;
}

void rounds_read_sent(struct healthd *h)
{
    struct rounds *r = &h->rounds;
    for (uint32_t i = 0; i < r->count; i++)
        r->watches[i]->sent_bytes = 0;
    if (!healthd_store_ok(h, store_sessions_list(h->store, 0, on_session, r), "sessions"))
        return;
    for (uint32_t i = 0; i < r->count; i++)
        node_watch_sent(&r->watches[i]->w, r->watches[i]->sent_bytes, clock_mono_ms());
}

/* ---- beginning and end ---- */

void rounds_set_config(struct healthd *h, const struct config *config)
{
    struct rounds *r = &h->rounds;
    for (uint32_t i = 0; i < r->count; i++)
        cancel_round(r->watches[i]);
    r->env.policy = &config->healthd;
    r->vhost = config->placement.vhost;
    for (uint32_t i = 0; i < r->count; i++) {
        r->watches[i]->resolve_due = true;
        restart_round(r->watches[i]);
    }
}

bool rounds_init(struct healthd *h)
{
    struct probe_env *env = &h->rounds.env;
    env->loop = h->loop;
    env->clock.step_ms = RUN_STEP_MS;
    env->limits = (struct rtmp_chunk_limits){.message_bytes = PROBE_MESSAGE_BYTES,
                                             .unfinished_bytes = PROBE_MESSAGE_BYTES,
                                             .chunk_streams = RTMP_CSIDS_IN_USE_MAX};
    block_pool_init(&env->blocks, 0);
    rtmp_pool_init(&env->messages, &env->blocks);
    rounds_set_config(h, h->config);
    return getrandom(env->noise, sizeof env->noise, 0) == (ssize_t)sizeof env->noise;
}

void rounds_deinit(struct healthd *h)
{
    rounds_stop(h);
    rtmp_pool_deinit(&h->rounds.env.messages);
    block_pool_deinit(&h->rounds.env.blocks);
}
