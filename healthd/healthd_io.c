#define _GNU_SOURCE
#include "healthd/healthd_io.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "base/net_io.h"
#include "base/notify_io.h"
#include "healthd/rounds_io.h"

enum {
    LEASE_MS = 3000,
    TICK_MS = 500, /* renews the lease; a dead healthd is replaced within LEASE_MS + TICK_MS */
    TICKS_PER_SECOND = 2,
    SENT_TICKS = 6, /* sessions refresh their counters every few seconds */
    READERS_CHECK_TICKS = 20,
};

static const char lease_name[] = "healthd";

bool healthd_store_ok(struct healthd *h, enum err e, const char *what)
{
    if (e == ERR_OK && h->outage.on) {
        if (store_outage_worked(&h->outage, clock_mono_ms()))
            LOG(&h->log, LOG_WARN, EV_STORE_RECOVERED, log_text(K_DETAIL, what));
    } else if (e != ERR_OK && store_outage_failed(&h->outage, clock_mono_ms())) {
        LOG(&h->log, LOG_ERROR, EV_STORE_FAILED, log_text(K_DETAIL, what),
            log_text(K_ERROR, err_name(e)));
    }
    return e == ERR_OK;
}

void healthd_ping_watchdog(struct healthd *h)
{
    if (h->watchdog_ms == 0)
        return;
    notify_send("WATCHDOG=1");
    h->watchdog_at_ms = clock_mono_ms() + h->watchdog_ms;
}

/* ---- the lease ---- */

/* A standby has a record of its own, so that it is seen; its totals are what it did itself:
 * nothing. */
static void start_record(struct healthd *h, uint32_t slot)
{
    struct process_record before;
    const struct worker_id id = {.router = "", .slot = slot};
    h->process = (struct process_record){.kind = PROCESS_HEALTHD, .id = id};
    if (store_process_get(h->store, PROCESS_HEALTHD, &id, &before) == ERR_OK)
        h->process = before; /* counters go on */
    h->process.pid = (uint32_t)getpid();
    h->process.started_ms = clock_wall_ms();
    snprintf(h->process.version, sizeof h->process.version, "%s", WEIR_VERSION);
}

static void beat(struct healthd *h)
{
    h->process.beat_ms = clock_wall_ms();
    h->process.memory_bytes = h->rounds.env.blocks.live_bytes;
    h->process.lines_lost += log_count_lost(&h->log);
    (void)healthd_store_ok(h, store_process_beat(h->store, &h->process), "heartbeat");
}

/* True if the node list in h->nodes is another one. */
static bool read_nodes(struct healthd *h)
{
    uint64_t version;
    return healthd_store_ok(h, store_nodes_version(h->store, &version), "node list") &&
           version != h->nodes->version &&
           healthd_store_ok(h, store_nodes_read(h->store, h->nodes, clock_wall_ms()), "node list");
}

static void become_active(struct healthd *h)
{
    h->active = true;
    start_record(h, HEALTHD_ACTIVE_SLOT);
    beat(h); /* first: without it verdicts read as unknown */
    (void)read_nodes(h);
    rounds_set_nodes(h);
    LOG(&h->log, LOG_INFO, EV_HEALTHD_ACTIVE, log_u64(K_NODES, h->nodes->count));
}

static void become_standby(struct healthd *h)
{
    h->active = false;
    rounds_stop(h);
    start_record(h, HEALTHD_STANDBY_SLOT);
    beat(h);
    LOG(&h->log, LOG_INFO, EV_HEALTHD_STANDBY, log_u64(K_NODES, h->nodes->count));
}

static void renew_lease(struct healthd *h)
{
    const enum err e = store_lease_take(h->store, lease_name, h->holder, LEASE_MS, clock_wall_ms());
    if (e == ERR_OK)
        h->leased_ms = clock_mono_ms();
    if (e == ERR_CONFLICT ? h->active : e == ERR_OK && !h->active) {
        if (h->active)
            become_standby(h);
        else
            become_active(h);
    }
    if (e != ERR_CONFLICT)
        (void)healthd_store_ok(h, e, "lease");
}

bool healthd_works(const struct healthd *h)
{
    return h->active && clock_mono_ms() - h->leased_ms < LEASE_MS;
}

/* ---- time ---- */

static void on_poll(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct healthd *h = timer->data;
    (void)loop;
    (void)events;
    (void)probe_now_ms(&h->rounds.env);
    if (!healthd_works(h))
        return;
    if (read_nodes(h))
        rounds_set_nodes(h);
    rounds_flush(h);
}

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct healthd *h = timer->data;
    uint32_t removed = 0;
    (void)loop;
    (void)events;
    h->ticks++;
    renew_lease(h);
    if (h->ticks % TICKS_PER_SECOND == 0)
        beat(h);
    if (h->ticks % READERS_CHECK_TICKS == 0)
        store_check_readers(h->store);
    if (h->active) {
        rounds_read_dial_failures(h);
        if (h->ticks % SENT_TICKS == 0)
            rounds_read_sent(h);
        (void)healthd_store_ok(h, store_found_sweep(h->store, clock_wall_ms(), &removed),
                               "found streams");
    }
    if (clock_mono_ms() >= h->watchdog_at_ms)
        healthd_ping_watchdog(h);
}

/* ---- configuration ---- */

/* NULL: the change can be taken while running. */
static const char *fixed_key(const struct config *from, const struct config *to)
{
    if (strcmp(from->process.user, to->process.user) != 0)
        return "process.user";
    if (strcmp(from->cluster_name, to->cluster_name) != 0)
        return "cluster.name";
    if (strcmp(from->store, to->store) != 0)
        return "cluster.store";
    return strcmp(from->live, to->live) != 0 ? "cluster.live" : NULL;
}

static void use_log_settings(struct healthd *h)
{
    h->log.level = h->config->log.level;
    h->log.format = h->config->log.format;
    h->log.stream_names = h->config->log.stream_names;
}

static void on_hup(struct ev_loop *loop, ev_signal *watcher, int events)
{
    struct healthd *h = watcher->data;
    char error[CONFIG_ERROR_MAX] = "";
    struct config *fresh = NULL;
    const char *fixed = NULL;
    (void)loop;
    (void)events;
    notify_send("RELOADING=1");
    if (config_load_file(h->path, &fresh, error) == ERR_OK)
        fixed = fixed_key(h->config, fresh);
    if (fixed)
        snprintf(error, sizeof error, "%s: %s cannot change while running: restart weir-healthd",
                 h->path, fixed);
    if (error[0]) {
        LOG(&h->log, LOG_ERROR, EV_CONFIG_REFUSED, log_text(K_ERROR, error));
        config_destroy(fresh);
    } else {
        rounds_set_config(h, fresh);
        config_destroy(h->config);
        h->config = fresh;
        use_log_settings(h);
        LOG(&h->log, LOG_INFO, EV_CONFIG_RELOADED, log_text(K_FILE, h->path));
    }
    notify_send("READY=1");
}

/* ---- beginning and end ---- */

static void on_stop(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)watcher;
    (void)events;
    ev_break(loop, EVBREAK_ALL);
}

static void start_watchers(struct healthd *h)
{
    ev_timer_init(&h->poll, on_poll, 0.0, STORE_POLL_MS / 1000.0);
    ev_timer_init(&h->tick, on_tick, TICK_MS / 1000.0, TICK_MS / 1000.0);
    ev_signal_init(&h->hup, on_hup, SIGHUP);
    ev_signal_init(&h->term, on_stop, SIGTERM);
    ev_signal_init(&h->interrupt, on_stop, SIGINT);
    h->poll.data = h->tick.data = h->hup.data = h;
    ev_timer_start(h->loop, &h->poll);
    ev_timer_start(h->loop, &h->tick);
    ev_signal_start(h->loop, &h->hup);
    ev_signal_start(h->loop, &h->term);
    ev_signal_start(h->loop, &h->interrupt);
}

/* A few sockets per node at once are more than the usual 1,024. */
static void raise_descriptor_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

static bool init(struct healthd *h, char *error)
{
    const struct store_options o = {.url = h->config->store, .live = h->config->live};
    snprintf(error, CONFIG_ERROR_MAX, "no memory");
    h->loop = ev_loop_new(EVFLAG_NOENV);
    if (!h->loop || node_table_create(h->config->cluster_name, &h->nodes) != ERR_OK ||
        !rounds_init(h) || getrandom(&h->holder, sizeof h->holder, 0) < 0)
        return false;
    h->holder |= 1; /* never 0 */
    return store_open(&o, &h->store, error) == ERR_OK;
}

static void deinit(struct healthd *h)
{
    if (h->loop)
        rounds_deinit(h);
    if (h->active && h->store) {
        beat(h); /* the last counters */
        (void)healthd_store_ok(h, store_lease_drop(h->store, lease_name, h->holder), "lease");
    }
    if (h->store)
        store_close(h->store);
    node_table_destroy(h->nodes);
    if (h->loop)
        ev_loop_destroy(h->loop);
    config_destroy(h->config);
}

static void serve(struct healthd *h)
{
    start_watchers(h);
    renew_lease(h);
    if (!h->active)
        become_standby(h);
    LOG(&h->log, LOG_INFO, EV_HEALTHD_STARTED, log_text(K_VERSION, WEIR_VERSION),
        log_text(K_FILE, h->path), log_u64(K_PID, (uint64_t)getpid()));
    notify_send("READY=1");
    ev_run(h->loop, 0);
    notify_send("STOPPING=1");
    if (healthd_works(h))
        rounds_flush(h);
}

int healthd_run(const char *path, struct config *config)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct healthd *h = calloc(1, sizeof *h);
    if (!h) {
        config_destroy(config);
        return EXIT_FAILURE;
    }
    const char *watchdog_us = getenv("WATCHDOG_USEC");
    h->path = path;
    h->config = config;
    h->watchdog_ms = watchdog_us ? strtoull(watchdog_us, NULL, 10) / 2000 : 0;
    log_init(&h->log, log_open(STDERR_FILENO), config->log.level, config->log.format);
    use_log_settings(h);
    raise_descriptor_limit();
    net_resolve_briefly();
    signal(SIGPIPE, SIG_IGN); /* whoever reads the log may be gone */
    const bool well = init(h, error);
    if (well)
        serve(h);
    LOG(&h->log, well ? LOG_INFO : LOG_ERROR, EV_HEALTHD_STOPPED,
        log_text(K_ERROR, well ? "" : error));
    deinit(h);
    free(h);
    return well ? EXIT_SUCCESS : EXIT_FAILURE;
}
