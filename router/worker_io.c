#define _GNU_SOURCE
#include "router/worker_io.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "router/audience_io.h"
#include "router/changes_io.h"
#include "router/linger_io.h"
#include "router/move_io.h"
#include "router/place_io.h"
#include "router/reconcile_io.h"
#include "router/record_io.h"
#include "router/session_io.h"
#include "router/share_io.h"

enum {
    SESSION_IDS_AT_ONCE = 1024,
    SLOW_SWEEP_TICKS = 10,
    SESSIONS_PER_LOOK = 2000,    /* more are looked through every other second, every third ... */
    HINT_WRITES = 10,            /* at a time: 20,000 hints a second at most, more than can come */
    TURN_SHORT_US = 2500,        /* of wall clock: its CPU time need not be asked for */
    CPU_ASKED_US = 10 * 1000000, /* behind one that was longer: asking is a system call */
    CPU_AGE_US = 2000,           /* and not done for each turn */
    WORKER_GONE_MS = 10000,      /* without a heartbeat */
    WORKER_LATE_MS = 4000,       /* a little before its claims count as hints */
    CLOCK_STEP_MS = 1000,   /* by so much a clock moves when it is set, not when it is adjusted */
    CLOCK_SETTLE_MS = 5000, /* then all have told the store their new time */
    HEAP_SPARE_BYTES = 32 * 1024 * 1024, /* free memory a worker keeps */
    HEAP_PIECE_BYTES = 4 * 1024 * 1024,  /* larger ones go back at once */
    CLOSE_WITHIN_US = 100000,            /* in a turn, at the end */
    CLOSE_REST_MS = 1,
    CLEAN_WITHIN_US = 20000, /* what dead workers have left; then at the next poll */
    DEAD_MAX = 4 * WORKERS_MAX,
    ACCEPT_PAUSE_MS = 100, /* out of descriptors: try again then */
};

/* ---- for the other files ---- */

bool worker_store_ok(struct worker *w, enum err e, const char *what)
{
    w->store_missed = w->store_missed || e != ERR_OK;
    w->process.store_errors += e != ERR_OK;
    if (e == ERR_OK && w->outage.on) {
        if (store_outage_worked(&w->outage, clock_mono_ms()))
            LOG(&w->log, LOG_WARN, EV_STORE_RECOVERED, log_text(K_DETAIL, what));
    } else if (e != ERR_OK && store_outage_failed(&w->outage, clock_mono_ms())) {
        LOG(&w->log, LOG_ERROR, EV_STORE_FAILED, log_text(K_DETAIL, what),
            log_text(K_ERROR, err_name(e)));
    }
    return e == ERR_OK;
}

void worker_ring(struct worker *w, uint64_t slots)
{
    const uint64_t one = 1;
    for (uint32_t i = 0; i < w->worker_count; i++) {
        if (i == w->index || !(slots & UINT64_C(1) << (w->first_slot + i)))
            continue;
        if (write(w->doorbells[i], &one, sizeof one) < 0)
            continue; /* full: it rings already */
    }
}

uint64_t worker_session_id(struct worker *w)
{
    if (w->session_ids_left == 0) {
        uint64_t first;
        if (w->store && worker_store_ok(w, store_session_id(w->store, &first, SESSION_IDS_AT_ONCE),
                                        "session ids"))
            w->next_session_id = first;
        else /* unique enough while the store is away: time, then slot */
            w->next_session_id =
                clock_wall_ms() << 20 | (uint64_t)w->id.slot << 14 | (clock_mono_us() & 0x3fff);
        w->session_ids_left = SESSION_IDS_AT_ONCE;
    }
    w->session_ids_left--;
    return w->next_session_id++;
}

bool worker_may_log(struct worker *w, enum close_why why)
{
    return w->unrouted_lines[why]++ < w->config->log.unrouted;
}

/* Once a second: what was kept back, and a new second's lines. */
static void log_suppressed(struct worker *w)
{
    const uint32_t most = w->config->log.unrouted;
    for (unsigned why = 0; why < WHY_COUNT; why++) {
        if (w->unrouted_lines[why] > most)
            LOG(&w->log, LOG_WARN, EV_LINES_SUPPRESSED,
                log_text(K_WHY, close_why_name((enum close_why)why)),
                log_u64(K_COUNT, w->unrouted_lines[why] - most));
        w->unrouted_lines[why] = 0;
    }
}

void worker_log_refused(struct worker *w, enum close_why why, const char *client)
{
    w->process.refused++;
    if (!worker_may_log(w, why))
        return;
    LOG(&w->log, LOG_WARN, EV_CONNECTION_REFUSED, log_text(K_WHY, close_why_name(why)),
        log_text(K_CLIENT, client), log_u64(K_COUNT, w->process.refused));
}

void worker_refuse(struct worker *w, enum close_why why, const char *client)
{
    w->process.closed[why]++;
    worker_log_refused(w, why, client);
}

const char *worker_stream_text(const struct worker *w, const struct stream_key *key, char *buf)
{
    if (w->log.stream_names)
        memcpy(buf, key->text, key->len + 1u);
    else
        stream_key_short(key, buf);
    return buf;
}

/* ---- accepting ---- */

static void watch_listeners(struct worker *w, bool on)
{
    for (uint32_t i = 0; i < w->listener_count; i++) {
        if (on)
            ev_io_start(w->loop, &w->listeners[i].watcher);
        else
            ev_io_stop(w->loop, &w->listeners[i].watcher);
    }
}

static void on_accept_pause_over(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct worker *w = timer->data;
    if (!w->stopping)
        watch_listeners(w, true);
}

/* At most `most` connections from one listener. False: no more are waiting. */
static bool accept_some(struct worker *w, const struct worker_listener *l, uint32_t most)
{
    for (uint32_t i = 0; i < most; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof peer;
        const int fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            session_accept(w, l, fd, &peer);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            worker_refuse(w, WHY_LIMIT_CONNECTIONS, strerror(errno));
            watch_listeners(w, false);
            ev_timer_set(&w->accept_pause, ACCEPT_PAUSE_MS / 1000.0, 0.0);
            ev_timer_start(w->loop, &w->accept_pause);
        }
        if (errno != ECONNABORTED && errno != EINTR)
            return false;
    }
    return true;
}

static void on_accept(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    struct worker_listener *l = watcher->data;
    (void)accept_some(l->worker, l, ACCEPT_BATCH);
}

/* ---- nodes ---- */

/* The file's nodes with the addresses that the parent has resolved. Returns how many. */
static uint32_t nodes_of_config(const struct worker *w, struct node *out)
{
    const struct config *c = w->config;
    for (uint32_t i = 0; i < c->node_count; i++) {
        out[i] = (struct node){.conf = c->nodes[i], .source = NODE_FROM_CONFIG};
        for (uint32_t k = 0; k < w->shared->address_count; k++)
            if (strcmp(w->shared->addresses[k].id, c->nodes[i].id) == 0)
                out[i].addr = w->shared->addresses[k].addr;
    }
    return c->node_count;
}

static void log_nodes(struct worker *w, const char *reason)
{
    LOG(&w->log, LOG_INFO, EV_NODES_CHANGED, log_text(K_REASON, reason),
        log_u64(K_NODES, w->nodes->count), log_u64(K_VERSION, w->nodes->version));
}

/* The first worker writes the file's nodes into the store; without a store they are used as they
 * are. */
static void use_config_nodes(struct worker *w)
{
    struct node *nodes = calloc(w->config->node_count + 1u, sizeof *nodes);
    if (!nodes) {
        (void)worker_store_ok(w, ERR_NO_MEMORY, "nodes");
        return;
    }
    const uint32_t count = nodes_of_config(w, nodes);
    for (uint32_t i = 0; i < count && w->nodes->version == 0; i++)
        if (node_table_put(w->nodes, &nodes[i]) != ERR_OK)
            break;
    uint32_t changed = 0;
    if (w->store && w->index == 0)
        (void)worker_store_ok(w, store_nodes_from_config(w->store, nodes, count, &changed),
                              "nodes");
    free(nodes);
}

static bool clock_is_settled(struct worker *w)
{
    return worker_now_ms(w) - w->clock_set_ms >= CLOCK_SETTLE_MS;
}

/* True: the wall clock has been set, or we stood still, and so it is ahead by as much. */
static bool follow_clock(struct worker *w)
{
    const uint64_t now_ms = worker_now_ms(w), was = w->env.wall_offset_ms;
    w->env.wall_offset_ms = clock_wall_ms() - now_ms;
    if (store_is_recent(was, w->env.wall_offset_ms, CLOCK_STEP_MS))
        return false;
    const uint64_t step_ms =
        was != 0 && w->env.wall_offset_ms > was ? w->env.wall_offset_ms - was : 0;
    if (step_ms > w->clock_step_ms || step_ms == 0 || clock_is_settled(w))
        w->clock_step_ms = step_ms;
    w->clock_set_ms = now_ms;
    return true;
}

/* Says at once that the new list is in force: operators wait for that. */
static void read_nodes_if_changed(struct worker *w)
{
    uint64_t version;
    if (!w->store || !worker_store_ok(w, store_nodes_version(w->store, &version), "node list") ||
        version == w->nodes->version)
        return;
    const bool known = w->nodes->version != 0;
    if (!worker_store_ok(w, store_nodes_read(w->store, w->nodes, clock_wall_ms()), "node list"))
        return;
    w->process.nodes_version = w->nodes->version;
    if (!known)
        return;
    log_nodes(w, "store");
    (void)worker_store_ok(w, store_process_beat(w->store, &w->process), "heartbeat");
}

/* ---- time ---- */

/* Who publishes name after name leaves hints faster than one write a second takes away. */
static void sweep_hints(struct worker *w)
{
    uint32_t removed = STORE_WRITE_RECORDS;
    for (int i = 0; i < HINT_WRITES && removed == STORE_WRITE_RECORDS; i++) {
        removed = 0;
        (void)worker_store_ok(
            w,
            store_claims_sweep(w->store, w->config->placement.hold_ms, clock_wall_ms(), &removed),
            "hints");
    }
    w->hints_left = removed == STORE_WRITE_RECORDS;
}

/* The parent does not open the store: what its log lost is counted by the first worker. */
static void count_lost_lines(struct worker *w)
{
    w->process.lines_lost += log_count_lost(&w->log);
    if (w->index == 0)
        w->process.lines_lost += atomic_exchange(&w->shared->lines_lost, 0);
}

/* What is counted by looking at each session. */
static void take_census(struct worker *w)
{
    struct process_record *p = &w->process;
    p->sessions = p->publishers = p->players = 0;
    p->kept_bytes = p->kept_stream_bytes = p->shared_links = 0;
    for (struct session_conn *c = w->conns; c; c = c->next) {
        if (c->s.leads) {
            p->shared_links++;
            p->share_skips += c->s.leads->skips;
            c->s.leads->skips = 0;
            continue; /* it is nobody's connection */
        }
        p->sessions++;
        if (c->s.state != SESS_RELAY && c->s.state != SESS_REHOME)
            continue;
        const uint64_t kept = c->s.rehome.keep.bytes;
        p->kept_bytes += kept;
        if (kept > p->kept_stream_bytes)
            p->kept_stream_bytes = kept;
        p->kept_cuts += c->s.rehome.cuts;
        c->s.rehome.cuts = 0;
        if (c->s.kind == SESSION_PUBLISH)
            p->publishers++;
        else
            p->players++;
    }
}

/* Time in which we stood still counts, too: others went on. */
static void note_beat(struct worker *w)
{
    const uint64_t now_ms = clock_mono_ms();
    if (w->beat_ms != 0 && now_ms - w->beat_ms >= WORKER_LATE_MS)
        w->absent = w->store_missed = w->recheck_due = true;
    if (w->beat_ms == 0 || w->absent)
        w->beating_since_ms = now_ms;
    w->beat_ms = now_ms;
}

static void beat(struct worker *w)
{
    struct process_record *p = &w->process;
    p->beat_ms = clock_wall_ms();
    p->memory_bytes = w->blocks.live_bytes;
    p->loop_turn_max_us = w->turn_max_us;
    w->turn_max_us = 0;
    count_lost_lines(w);
    if (worker_store_ok(w, store_process_beat(w->store, p), "heartbeat"))
        note_beat(w);
}

/* Once it has been set, the others take us for dead until the next heartbeat. One that took long is
 * time in which we stood still, too, but no reason for another. */
static void mind_clock(struct worker *w)
{
    if (!follow_clock(w) || !w->store)
        return;
    beat(w);
    (void)follow_clock(w);
}

uint64_t worker_claims_ms(struct worker *w)
{
    mind_clock(w);
    return clock_wall_ms() - (clock_is_settled(w) ? 0 : w->clock_step_ms);
}

static void log_lost_time(struct worker *w)
{
    const uint64_t lost_ms = run_clock_lost_ms(&w->clock);
    if (lost_ms - w->lost_ms >= CLOCK_STEP_MS)
        LOG(&w->log, LOG_WARN, EV_WORKER_STOOD_STILL, log_u64(K_MS, lost_ms - w->lost_ms));
    w->lost_ms = lost_ms;
}

struct dead_workers {
    const struct worker_id *self;
    uint64_t now_ms;
    uint32_t count;
    struct worker_id ids[DEAD_MAX];
};

static bool collect_dead(void *arg, const struct process_record *p)
{
    struct dead_workers *d = arg;
    if (p->kind == PROCESS_ROUTER && !worker_id_equal(&p->id, d->self) &&
        !store_is_recent(p->beat_ms, d->now_ms, WORKER_GONE_MS))
        d->ids[d->count++] = p->id;
    return d->count < DEAD_MAX;
}

/* False: nothing, or it cannot be told now. */
static bool has_left(struct worker *w, const struct worker_id *id)
{
    bool left = false;
    return worker_store_ok(w, store_slot_left(w->store, id, &left), "slot") && left;
}

/* A worker that comes back cleans its own slot; one that never does (another router.id, other
 * slots) leaves it to us. */
static void clean_dead_workers(struct worker *w)
{
    struct dead_workers dead = {.self = &w->id, .now_ms = clock_wall_ms()};
    const uint64_t until_us = clock_mono_us() + CLEAN_WITHIN_US;
    w->dead_left = false;
    if (!worker_store_ok(w, store_processes_list(w->store, collect_dead, &dead), "processes"))
        return;
    mind_clock(w); /* afterwards: what was listed may be of another time */
    if (!clock_is_settled(w) || clock_mono_ms() - w->beating_since_ms < WORKER_LATE_MS)
        return; /* what kept us from writing may have kept the others, too */
    for (uint32_t i = 0; i < dead.count; i++) {
        bool left = has_left(w, &dead.ids[i]);
        while (left) {
            w->dead_left = clock_mono_us() >= until_us;
            if (w->dead_left ||
                !worker_store_ok(w, store_slot_clean(w->store, &dead.ids[i], dead.now_ms, &left),
                                 "slot"))
                return;
        }
    }
}

static void on_poll(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct worker *w = timer->data;
    atomic_store(&w->shared->slots[w->index].beat_ms, clock_mono_ms());
    mind_clock(w);
    log_lost_time(w);
    read_nodes_if_changed(w);
    changes_read(w);
    record_refresh_some(w);
    move_run_commands(w);
    move_planned(w);
    if (w->hints_left)
        sweep_hints(w);
    if (w->missed_more)
        reconcile(w);
    if (w->dead_left)
        clean_dead_workers(w);
    rest_decide(&w->rest, clock_mono_us(), clock_thread_sleeps(), w->relay_events,
                w->config->relay.coalesce_us);
    w->relay_events = 0;
}

static void on_doorbell(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    struct worker *w = watcher->data;
    uint64_t count;
    if (read(watcher->fd, &count, sizeof count) < 0 && errno != EAGAIN)
        return;
    changes_read(w);
}

/* Housekeeping for the whole router, by one of its workers. */
static void sweep(struct worker *w)
{
    uint32_t removed = 0;
    sweep_hints(w);
    (void)worker_store_ok(w, store_nodes_sweep(w->store, &removed), "nodes");
    (void)worker_store_ok(w, store_commands_sweep(w->store, clock_wall_ms(), &removed), "commands");
    if (w->ticks % SLOW_SWEEP_TICKS == 0) {
        store_check_readers(w->store);
        clean_dead_workers(w);
    }
}

static void on_second(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct worker *w = timer->data;
    w->ticks++;
    log_suppressed(w);
    if (!w->store)
        return;
    const bool look = w->ticks % (1 + w->conn_count / SESSIONS_PER_LOOK) == 0;
    if (look) {
        move_space_pings(w);
        take_census(w);
    }
    beat(w);
    (void)worker_store_ok(w, store_loads_read(w->store, w->nodes, clock_wall_ms()), "loads");
    move_read_generations(w);
    if (w->store_missed)
        reconcile(w);
    if (w->recheck_due || (!w->store_missed && look))
        changes_look_again(w);
    if (w->index == 0)
        sweep(w);
}

/* CPU time, in which a machine that does other things has no part; the wall clock is no less. Nor
 * is what was worked since the time was asked for, a little before the turn. */
static void count_turn(struct worker *w)
{
    const uint64_t wall_us = w->turn_began_us ? clock_mono_us() - w->turn_began_us : 0;
    uint64_t took_us = wall_us;
    if (wall_us == 0)
        return;
    if (wall_us >= TURN_SHORT_US) {
        const uint64_t cpu_us = w->cpu_us ? clock_thread_us() - w->cpu_us : wall_us;
        if (cpu_us < wall_us)
            took_us = cpu_us;
        w->cpu_asked_until_us = w->turn_began_us + CPU_ASKED_US;
    }
    process_histogram_add(&w->process.loop_turns, took_us);
    if (wall_us > w->turn_max_us)
        w->turn_max_us = wall_us < UINT32_MAX ? (uint32_t)wall_us : UINT32_MAX;
}

static void on_tell(struct ev_loop *loop, ev_idle *watcher, int events)
{
    (void)loop;
    (void)events;
    changes_tell_more(watcher->data);
}

/* Some are told in the next turn, and that is at once. */
static void watch_untold(struct worker *w)
{
    const bool any = w->streams.tasks[STREAM_TELL].first != NULL;
    if (any && !ev_is_active(&w->tell))
        ev_idle_start(w->loop, &w->tell);
    else if (!any && ev_is_active(&w->tell))
        ev_idle_stop(w->loop, &w->tell);
}

/* The loop goes to sleep: what it did since it woke was one turn. */
static void on_turn_end(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    (void)events;
    struct worker *w = watcher->data;
    session_run_soon(w);
    session_dial_waiting(w);
    audience_mark_changed(w);
    watch_untold(w);
    session_free_dead(w);
    ev_set_io_collect_interval(loop, w->setting_up ? 0.0 : (double)w->rest.us / 1e6);
    w->setting_up = false;
    count_turn(w);
    if (w->stopping && w->conn_count == 0)
        ev_break(w->loop, EVBREAK_ALL);
}

static void on_turn_begin(struct ev_loop *loop, ev_check *watcher, int events)
{
    (void)loop;
    (void)events;
    struct worker *w = watcher->data;
    const uint64_t now_us = clock_mono_us();
    w->turn_began_us = now_us;
    if (now_us >= w->cpu_asked_until_us) {
        w->cpu_us = 0;
    } else if (w->cpu_us == 0 || now_us - w->cpu_at_us >= CPU_AGE_US) {
        w->cpu_us = clock_thread_us();
        w->cpu_at_us = now_us;
    }
}

static void on_deliver(struct ev_loop *loop, ev_idle *watcher, int events)
{
    (void)loop;
    (void)events;
    share_deliver(watcher->data);
}

/* ---- configuration ---- */

static void apply_config(struct worker *w)
{
    const struct config *c = w->config;
    const struct config_limits *l = &c->limits;
    w->log.level = c->log.level;
    w->log.format = c->log.format;
    w->log.stream_names = c->log.stream_names;
    w->env.router = &c->router;
    w->env.relay = &c->relay;
    w->env.failover = &c->failover;
    w->env.vhost = c->placement.vhost;
    w->env.access.config = &c->access;
    w->env.admission = &w->admission;
    w->env.ends = &w->ends;
    w->env.unrouted_bytes = l->unrouted_bytes;
    const uint32_t unrouted =
        l->unrouted_bytes < UNROUTED_MESSAGE_BYTES ? l->unrouted_bytes : UNROUTED_MESSAGE_BYTES;
    w->env.unrouted_limits = (struct rtmp_chunk_limits){.message_bytes = unrouted,
                                                        .unfinished_bytes = unrouted,
                                                        .chunk_streams = UNROUTED_CSIDS_MAX,
                                                        .chunk_bytes = l->chunk_bytes,
                                                        .frugal = true};
    w->env.client_limits = (struct rtmp_chunk_limits){.message_bytes = l->message_bytes,
                                                      .unfinished_bytes = l->unfinished_bytes,
                                                      .chunk_streams = RTMP_CSIDS_IN_USE_MAX,
                                                      .chunk_bytes = l->chunk_bytes};
    w->env.node_limits = w->env.client_limits;
    w->blocks.max_bytes = l->memory_bytes / w->worker_count;
    const struct admission_limits limits = {.connections = l->connections,
                                            .per_address = l->connections_per_address,
                                            .rate_per_address = l->connection_rate_per_address,
                                            .sessions_per_app = l->sessions_per_app,
                                            .session_rate_per_app = l->session_rate_per_app,
                                            .unrouted =
                                                (uint32_t)ceil(l->unrouted_share * l->connections)};
    admission_set_limits(&w->admission, &limits, w->worker_count);
}

/* A copy of the text and the keys that the parent has checked; NULL while they are being written:
 * the parent is at it again then and will signal again; or without memory. */
static char *copy_shared_text(struct worker *w, size_t *len, struct signing_keys *keys)
{
    struct shared *shared = w->shared;
    const uint64_t before = atomic_load(&shared->config_version);
    *len = shared->text_len;
    char *text = malloc(*len + 1);
    if (!text) {
        LOG(&w->log, LOG_ERROR, EV_CONFIG_REFUSED, log_text(K_ERROR, err_name(ERR_NO_MEMORY)));
        return NULL;
    }
    memcpy(text, shared->text, *len);
    *keys = shared->keys;
    if (before % 2 == 0 && atomic_load(&shared->config_version) == before)
        return text;
    free(text);
    return NULL;
}

static void on_hup(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop;
    (void)events;
    struct worker *w = watcher->data;
    char error[CONFIG_ERROR_MAX] = "";
    struct config *fresh = NULL;
    struct signing_keys keys;
    size_t len = 0;
    char *text = copy_shared_text(w, &len, &keys);
    if (!text)
        return;
    const enum err e = config_load_buffer("configuration", text, len, &fresh, error);
    free(text);
    if (e != ERR_OK) {
        LOG(&w->log, LOG_ERROR, EV_CONFIG_REFUSED, log_text(K_ERROR, error));
        return;
    }
    struct config *old = w->config;
    w->config = fresh;
    w->env.access.keys = keys;
    apply_config(w);
    config_destroy(old);
    share_apply_config(w);
    use_config_nodes(w);
    read_nodes_if_changed(w);
    LOG(&w->log, LOG_INFO, EV_CONFIG_RELOADED, log_u64(K_NODES, w->config->node_count));
}

/* ---- the end ---- */

static struct session_conn *client_from(struct session_conn *c)
{
    while (c && c->s.leads)
        c = c->next;
    return c;
}

/* A shared link goes with its last player, so it is not the one to go on from. False: there was no
 * time for all of them; tens of thousands that end in one turn would seem to have hung. */
static bool close_some(struct worker *w)
{
    const uint64_t until_us = clock_mono_us() + CLOSE_WITHIN_US;
    for (struct session_conn *c = client_from(w->conns), *next; c; c = next) {
        next = client_from(c->next);
        if (c->s.state != SESS_CLOSING)
            session_post(c, &(struct session_event){.kind = SE_CLOSE, .why = WHY_SHUTDOWN});
        if (next && (next->dead || clock_mono_us() >= until_us))
            return false;
    }
    return true;
}

static void on_grace_over(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)events;
    if (close_some(timer->data))
        return;
    ev_timer_set(timer, CLOSE_REST_MS / 1000.0, 0.0);
    ev_timer_start(loop, timer);
}

/* The first time: accept what is queued, then no more, and let sessions end for
 * router.shutdown_grace. When the parent was told twice: close now. A signal to the whole group
 * reaches a worker itself, and by its parent once more; so does the parent's end. */
static void on_stop(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)events;
    struct worker *w = watcher->data;
    const bool now = atomic_load(&w->shared->stops) > 1;
    if (w->stopping && !now)
        return;
    ev_timer_stop(loop, &w->grace);
    if (w->stopping) {
        on_grace_over(loop, &w->grace, 0);
        return;
    }
    w->stopping = true;
    for (uint32_t i = 0; i < w->listener_count; i++) {
        (void)accept_some(w, &w->listeners[i], LISTEN_BACKLOG);
        ev_io_stop(loop, &w->listeners[i].watcher);
        close(w->listeners[i].fd);
    }
    ev_timer_stop(loop, &w->accept_pause);
    if (now) { /* told twice before it could listen */
        on_grace_over(loop, &w->grace, 0);
        return;
    }
    ev_timer_set(&w->grace, (double)w->config->router.shutdown_grace_ms / 1000.0, 0.0);
    ev_timer_start(loop, &w->grace);
}

/* ---- the beginning ---- */

/* The predecessor in our slot died with its sessions: what it left in the store goes, its counters
 * continue. */
static void clean_slot(struct worker *w)
{
    struct process_record before;
    bool left = true;
    if (store_process_get(w->store, PROCESS_ROUTER, &w->id, &before) == ERR_OK) {
        w->process = before;
        LOG(&w->log, LOG_INFO, EV_WORKER_CLEANED, log_u64(K_PID, before.pid),
            log_u64(K_SESSIONS, before.sessions));
    }
    while (left)
        if (!worker_store_ok(w, store_slot_clean(w->store, &w->id, clock_wall_ms(), &left), "slot"))
            break;
}

static bool open_store(struct worker *w)
{
    char error[CONFIG_ERROR_MAX] = "";
    const struct store_options o = {.url = w->config->store, .live = w->config->live};
    const enum err e = store_open(&o, &w->store, error);
    if (e != ERR_OK) {
        LOG(&w->log, LOG_ERROR, EV_STORE_FAILED, log_text(K_ERROR, err_name(e)),
            log_text(K_DETAIL, error));
        return false;
    }
    return true;
}

static void start_process_record(struct worker *w)
{
    struct process_record *p = &w->process;
    p->kind = PROCESS_ROUTER;
    p->id = w->id;
    p->pid = (uint32_t)getpid();
    p->started_ms = clock_wall_ms();
    snprintf(p->version, sizeof p->version, "%s", WEIR_VERSION);
}

static void start_listeners(struct worker *w, const struct listen_set *set)
{
    w->listener_count = set->listeners;
    for (uint32_t i = 0; i < set->listeners; i++) {
        struct worker_listener *l = &w->listeners[i];
        *l = (struct worker_listener){.worker = w,
                                      .index = i,
                                      .fd = set->fds[i][w->index],
                                      .conf = w->config->router.listen[i]};
        ev_io_init(&l->watcher, on_accept, l->fd, EV_READ);
        l->watcher.data = l;
    }
    watch_listeners(w, true);
}

static void start_watchers(struct worker *w)
{
    struct ev_loop *loop = w->loop;
    ev_timer_init(&w->poll, on_poll, 0.0, STORE_POLL_MS / 1000.0);
    ev_timer_init(&w->second, on_second, 1.0, 1.0);
    ev_timer_init(&w->accept_pause, on_accept_pause_over, 0.0, 0.0);
    ev_timer_init(&w->grace, on_grace_over, 0.0, 0.0);
    ev_io_init(&w->doorbell, on_doorbell, w->doorbells[w->index], EV_READ);
    ev_signal_init(&w->hup, on_hup, SIGHUP);
    ev_signal_init(&w->term, on_stop, SIGTERM);
    signal(SIGINT,
           SIG_IGN); /* Ctrl-C reaches the whole group: the parent passes it on as SIGTERM */
    ev_prepare_init(&w->turn_end, on_turn_end);
    ev_check_init(&w->turn_begin, on_turn_begin);
    ev_set_priority(&w->turn_begin, EV_MAXPRI);
    ev_idle_init(&w->deliver, on_deliver);
    ev_set_priority(&w->deliver, EV_MAXPRI); /* other events do not put it off */
    ev_idle_init(&w->tell, on_tell);
    ev_set_priority(&w->tell, EV_MAXPRI);
    w->poll.data = w->second.data = w->accept_pause.data = w->grace.data = w;
    w->doorbell.data = w->hup.data = w->term.data = w->turn_end.data = w->turn_begin.data = w;
    w->deliver.data = w->tell.data = w;
    ev_timer_start(loop, &w->poll);
    ev_timer_start(loop, &w->second);
    ev_io_start(loop, &w->doorbell);
    ev_signal_start(loop, &w->hup);
    ev_signal_start(loop, &w->term);
    ev_prepare_start(loop, &w->turn_end);
    ev_check_start(loop, &w->turn_begin);
    sigset_t none; /* the parent has blocked them, so that none was lost until here */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool init(struct worker *w)
{
    w->loop = ev_loop_new(EVFLAG_NOENV);
    if (!w->loop || stream_index_init(&w->streams) != ERR_OK ||
        stream_index_init(&w->shares) != ERR_OK ||
        node_table_create(w->config->cluster_name, &w->nodes) != ERR_OK)
        return false;
    if (getrandom(w->env.noise, sizeof w->env.noise, 0) != (ssize_t)sizeof w->env.noise)
        return false;
    block_pool_init(&w->blocks, 0);
    rtmp_pool_init(&w->messages, &w->blocks);
    w->env.pool = &w->messages;
    admission_init(&w->admission);
    setups_init(&w->setups, w->worker_count);
    w->env.access.keys = w->shared->keys;
    apply_config(w);
    (void)follow_clock(w);
    if (!open_store(w))
        return false;
    clean_slot(w);
    start_process_record(w);
    use_config_nodes(w);
    read_nodes_if_changed(w);
    take_census(w); /* the predecessor's numbers are in its record */
    beat(w);
    return true;
}

static void deinit(struct worker *w)
{
    while (w->deliver_first) /* whoever is in that list has ended */
        share_deliver(w);
    session_free_dead(w);
    if (w->store) {
        bool left = true;
        while (left && store_slot_clean(w->store, &w->id, clock_wall_ms(), &left) == ERR_OK)
            ;
        count_lost_lines(w);
        (void)worker_store_ok(w, store_process_beat(w->store, &w->process), "heartbeat");
        store_close(w->store);
    }
    if (w->spare)
        block_unref(w->spare);
    rtmp_pool_deinit(&w->messages);
    block_pool_deinit(&w->blocks);
    admission_deinit(&w->admission);
    stream_index_deinit(&w->streams);
    stream_index_deinit(&w->shares);
    node_table_destroy(w->nodes);
    linger_end(w);
    if (w->loop)
        ev_loop_destroy(w->loop);
    config_destroy(w->config);
}

int worker_run(struct config *config, const struct listen_set *set, struct shared *shared,
               const int *doorbells, uint32_t index, uint32_t first_slot, uint32_t worker_count,
               int log_fd)
{
    /* What one stream gives up the next one takes: by way of the system it would be cleared. */
    (void)mallopt(M_TRIM_THRESHOLD, HEAP_SPARE_BYTES);
    (void)mallopt(M_MMAP_THRESHOLD, HEAP_PIECE_BYTES);
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return 1;
    w->config = config;
    w->shared = shared;
    w->doorbells = doorbells;
    w->worker_count = worker_count;
    w->clock.step_ms = RUN_STEP_MS;
    w->index = index;
    w->first_slot = first_slot;
    w->id.slot = first_slot + index;
    snprintf(w->id.router, sizeof w->id.router, "%s", config->router.id);
    log_init(&w->log, log_fd, config->log.level, config->log.format);
    w->log.worker = (int)w->id.slot;
    w->exit_code = 1;
    if (init(w)) {
        start_listeners(w, set);
        start_watchers(w);
        atomic_store(&shared->slots[index].beat_ms, clock_mono_ms());
        atomic_store(&shared->slots[index].ready, 1);
        LOG(&w->log, LOG_INFO, EV_WORKER_STARTED, log_u64(K_PID, (uint64_t)getpid()),
            log_u64(K_NODES, w->nodes->count));
        ev_run(w->loop, 0);
        log_suppressed(w);
        w->exit_code = 0;
    }
    const int code = w->exit_code;
    deinit(w);
    free(w);
    return code;
}
