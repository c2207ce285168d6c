#define _GNU_SOURCE
#include "router/parent_io.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "base/net_io.h"
#include "base/notify_io.h"
#include "base/privilege_io.h"
#include "base/run_clock.h"
#include "cluster/node_table.h"
#include "cluster/router_lock_io.h"
#include "router/access_io.h"
#include "router/listen_io.h"
#include "router/shared.h"
#include "router/worker_io.h"

enum {
    TURN_MS = 200,           /* how often the parent looks around without a signal */
    STEP_MS = 2 * TURN_MS,   /* what takes longer it did not run */
    RESTART_EARLY_MS = 1000, /* a worker that dies sooner than this after its start ... */
    RESTART_DELAY_MS = 300,  /* ... is restarted after this: no fork storm */
    WORKERS_AUTO_MAX = WORKERS_MAX / 2, /* a successor may start while they end */
    KILL_EVERY_MS = 1000,               /* a hung one */
    READY_MS = 15000,                   /* a first worker that is not ready by then has failed */
};

struct parent_slot {
    pid_t pid; /* 0: none runs */
    uint64_t started_ms;
    uint64_t restart_at_ms;
    uint64_t beat_ms, beat_seen_ms; /* its last heartbeat, and when we saw it first */
};

struct parent {
    const char *path;
    struct config *config;
    struct log log;
    struct shared *shared;
    struct listen_set listen;
    int doorbells[WORKERS_MAX];
    uint32_t workers, first_slot; /* in the store; everywhere else they are counted from 0 */
    struct parent_slot slots[WORKERS_MAX];
    sigset_t signals; /* blocked; a worker unblocks them when its handlers are in place */
    int id_lock; /* while others with our id may not start; -1: they may. Workers have it for the
                    slots */
    bool began;  /* all workers have started once */
    bool stopping, failed;
    uint64_t killed_ms;                   /* one that had hung, by the run clock; 0: none */
    struct run_clock clock;               /* after a pause of the machine no worker has hung */
    uint64_t watchdog_ms, watchdog_at_ms; /* systemd's, by the monotonic clock; 0: none */
};

static uint64_t now_ms(struct parent *p)
{
    return run_clock_ms(&p->clock, clock_mono_ms());
}

/* ---- configuration ---- */

static void ping_watchdog(struct parent *p)
{
    if (p->watchdog_ms == 0)
        return;
    notify_send("WATCHDOG=1");
    p->watchdog_at_ms = clock_mono_ms() + p->watchdog_ms;
}

/* To look a name up may take long. systemd waits so long from now on, for a router that has not
 * begun. */
static void expect_name(struct parent *p, const char *address)
{
    char host[HOST_MAX];
    uint16_t port;
    struct config_cidr addr;
    if (config_split_address(address, 0, host, &port) != ERR_OK ||
        config_parse_cidr(host, &addr) == ERR_OK)
        return;
    ping_watchdog(p);
    if (!p->began)
        notify_send("EXTEND_TIMEOUT_USEC=30000000");
}

static struct shared_address known_address(const struct shared_address *list, uint32_t count,
                                           const char *id)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(list[i].id, id) == 0)
            return list[i];
    return (struct shared_address){0};
}

/* Name servers that do not answer take some seconds for each name. */
static void resolve_nodes(struct parent *p, const struct config *c)
{
    static struct shared_address before[NODES_MAX];
    const uint32_t count = p->shared->address_count;
    memcpy(before, p->shared->addresses, sizeof before);
    p->shared->address_count = c->node_count < NODES_MAX ? c->node_count : NODES_MAX;
    for (uint32_t i = 0; i < p->shared->address_count; i++) {
        struct shared_address *a = &p->shared->addresses[i];
        expect_name(p, c->nodes[i].rtmp);
        *a = known_address(before, count, c->nodes[i].id);
        memcpy(a->id, c->nodes[i].id, sizeof a->id);
        if (node_resolve(&c->nodes[i], &a->addr) != ERR_OK) {
            a->addr = (struct sockaddr_storage){0};
            LOG(&p->log, LOG_WARN, EV_NODE_UNRESOLVED, log_text(K_NODE, c->nodes[i].id),
                log_text(K_ADDRESS, c->nodes[i].rtmp));
        }
    }
}

/* The file as text: the workers load exactly what the parent has checked. NULL: errno. */
static char *read_text(const char *path, size_t *len)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = fd < 0 ? NULL : malloc(SHARED_TEXT_MAX);
    *len = 0;
    while (text && *len < SHARED_TEXT_MAX) {
        const ssize_t n = read(fd, text + *len, SHARED_TEXT_MAX - *len);
        if (n <= 0) {
            if (n == 0)
                break;
            free(text);
            text = NULL;
        } else {
            *len += (size_t)n;
        }
    }
    if (fd >= 0)
        close(fd);
    return text;
}

static void share_text(struct shared *s, const char *text, size_t len)
{
    memcpy(s->text, text, len);
    s->text_len = (uint32_t)len;
}

/* The text as a configuration that can be taken while running, and its keys; else error says why.
 * *fresh is the caller's in any case. */
static enum err check_text(const struct parent *p, const char *text, size_t len,
                           struct config **fresh, struct signing_keys *keys, char *error)
{
    enum err e = config_load_buffer(p->path, text, len, fresh, error);
    if (e != ERR_OK)
        return e;
    const char *fixed = config_needs_restart_of("router", p->config, *fresh);
    if (!fixed)
        return access_keys_read(*fresh, keys, error);
    snprintf(error, CONFIG_ERROR_MAX, "%s: %s cannot change while running: restart the router",
             p->path, fixed);
    return ERR_INVALID;
}

static void reload(struct parent *p)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct config *fresh = NULL;
    struct signing_keys keys;
    size_t len;
    notify_send("RELOADING=1");
    char *text = read_text(p->path, &len);
    if (!text)
        snprintf(error, sizeof error, "%s: %s", p->path, strerror(errno));
    if (!text || check_text(p, text, len, &fresh, &keys, error) != ERR_OK) {
        LOG(&p->log, LOG_ERROR, EV_CONFIG_REFUSED, log_text(K_ERROR, error));
        config_destroy(fresh);
    } else {
        atomic_fetch_add(&p->shared->config_version, 1);
        share_text(p->shared, text, len);
        resolve_nodes(p, fresh);
        p->shared->keys = keys;
        atomic_fetch_add(&p->shared->config_version, 1);
        config_destroy(p->config);
        p->config = fresh;
        p->log.level = fresh->log.level;
        p->log.format = fresh->log.format;
        for (uint32_t i = 0; i < p->workers; i++)
            if (p->slots[i].pid > 0)
                kill(p->slots[i].pid, SIGHUP);
        LOG(&p->log, LOG_INFO, EV_CONFIG_RELOADED, log_text(K_FILE, p->path),
            log_u64(K_NODES, fresh->node_count));
    }
    free(text);
    notify_send("READY=1");
}

/* ---- workers ---- */

static int run_worker(struct parent *p, uint32_t slot, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        return 1; /* it died before we asked to be told */
    listen_close(&p->listen, slot);
    return worker_run(p->config, &p->listen, p->shared, p->doorbells, slot, p->first_slot,
                      p->workers, p->log.fd);
}

static void start_worker(struct parent *p, uint32_t slot)
{
    struct parent_slot *s = &p->slots[slot];
    const pid_t parent = getpid();
    atomic_store(&p->shared->slots[slot].ready, 0);
    s->started_ms = s->beat_seen_ms = now_ms(p);
    s->restart_at_ms = 0;
    s->pid = fork();
    if (s->pid == 0)
        exit(run_worker(p, slot, parent));
    if (s->pid < 0) {
        s->pid = 0;
        s->restart_at_ms = now_ms(p) + RESTART_DELAY_MS;
        LOG(&p->log, LOG_ERROR, EV_WORKER_EXITED, log_u64(K_WORKER, p->first_slot + slot),
            log_text(K_ERROR, strerror(errno)));
    }
}

static void signal_workers(struct parent *p, int signal)
{
    for (uint32_t i = 0; i < p->workers; i++)
        if (p->slots[i].pid > 0)
            kill(p->slots[i].pid, signal);
}

static void worker_ended(struct parent *p, uint32_t slot, int status)
{
    struct parent_slot *s = &p->slots[slot];
    const uint64_t now = now_ms(p);
    const bool early = now - s->started_ms < RESTART_EARLY_MS;
    const bool well = p->stopping && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!well)
        LOG(&p->log, LOG_ERROR, EV_WORKER_EXITED, log_u64(K_WORKER, p->first_slot + slot),
            log_i64(K_PID, s->pid),
            log_text(K_SIGNAL, WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : ""),
            log_i64(K_STATUS, WIFEXITED(status) ? WEXITSTATUS(status) : -1));
    s->pid = 0;
    if (p->stopping) {
        p->failed = p->failed || !well;
        return;
    }
    s->restart_at_ms = early ? now + RESTART_DELAY_MS : now;
}

static void reap(struct parent *p)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (uint32_t i = 0; i < p->workers; i++)
            if (p->slots[i].pid == pid)
                worker_ended(p, i, status);
}

static bool has_hung(struct parent *p, uint32_t slot, uint64_t now)
{
    struct parent_slot *s = &p->slots[slot];
    const uint64_t beat = atomic_load(&p->shared->slots[slot].beat_ms);
    if (beat != s->beat_ms)
        s->beat_seen_ms = now;
    s->beat_ms = beat;
    const bool starting =
        !atomic_load(&p->shared->slots[slot].ready) && now - s->started_ms < READY_MS;
    return s->pid > 0 && now - s->beat_seen_ms >= WORKER_BEAT_TIMEOUT_MS && !starting;
}

/* The one that has been silent for longest: others may only wait for it, with what it has locked in
 * the store, and go on when it is gone. */
static void kill_hung(struct parent *p, uint64_t now)
{
    uint32_t worst = p->workers;
    for (uint32_t i = 0; i < p->workers; i++)
        if (has_hung(p, i, now) &&
            (worst == p->workers || p->slots[i].beat_ms < p->slots[worst].beat_ms))
            worst = i;
    if (worst == p->workers || now - p->killed_ms < KILL_EVERY_MS)
        return;
    struct parent_slot *s = &p->slots[worst];
    LOG(&p->log, LOG_ERROR, EV_WORKER_HUNG, log_u64(K_WORKER, p->first_slot + worst),
        log_i64(K_PID, s->pid), log_u64(K_MS, now - s->beat_seen_ms));
    kill(s->pid, SIGKILL);
    s->beat_seen_ms = p->killed_ms = now; /* once */
}

static void restart_dead(struct parent *p, uint64_t now)
{
    for (uint32_t i = 0; i < p->workers && !p->stopping; i++)
        if (p->slots[i].pid == 0 && p->slots[i].restart_at_ms != 0 &&
            now >= p->slots[i].restart_at_ms)
            start_worker(p, i);
}

static bool any_left(const struct parent *p)
{
    for (uint32_t i = 0; i < p->workers; i++)
        if (p->slots[i].pid > 0)
            return true;
    return false;
}

/* ---- signals ---- */

static int next_signal(const struct parent *p)
{
    const struct timespec turn = {.tv_sec = 0, .tv_nsec = TURN_MS * 1000000L};
    return sigtimedwait(&p->signals, NULL, &turn);
}

static void stop(struct parent *p)
{
    if (!p->stopping) {
        notify_send("STOPPING=1");
        listen_close(&p->listen, WORKERS_MAX);
        if (p->id_lock >= 0)
            close(p->id_lock); /* a successor need not wait for our last sessions */
        p->id_lock = -1;
        LOG(&p->log, LOG_INFO, EV_ROUTER_STOPPING,
            log_u64(K_MS, p->config->router.shutdown_grace_ms));
    }
    p->stopping = true;
    atomic_fetch_add(&p->shared->stops, 1);
    signal_workers(p, SIGTERM);
}

static void handle(struct parent *p, int signal)
{
    if (signal == SIGHUP && !p->stopping)
        reload(p);
    else if (signal == SIGTERM || signal == SIGINT)
        stop(p);
}

static void turn(struct parent *p)
{
    handle(p, next_signal(p));
    reap(p);
    const uint64_t now = now_ms(p);
    kill_hung(p, now);
    restart_dead(p, now);
    atomic_fetch_add(&p->shared->lines_lost, log_count_lost(&p->log));
    if (clock_mono_ms() >= p->watchdog_at_ms)
        ping_watchdog(p);
}

/* ---- beginning and end ---- */

/* False: it ended without having been asked to, or took too long. */
static bool wait_ready(struct parent *p, uint32_t slot)
{
    const uint64_t until = now_ms(p) + READY_MS;
    while (!p->stopping && !atomic_load(&p->shared->slots[slot].ready)) {
        handle(p, next_signal(p));
        reap(p);
        if (p->slots[slot].pid == 0 || now_ms(p) > until)
            return p->stopping;
    }
    return true;
}

/* The first worker writes the node list into the store; the others start when it serves. */
static bool start_all(struct parent *p)
{
    start_worker(p, 0);
    if (!wait_ready(p, 0))
        return false;
    for (uint32_t i = 1; i < p->workers && !p->stopping; i++)
        start_worker(p, i);
    for (uint32_t i = 1; i < p->workers; i++)
        if (!wait_ready(p, i))
            return false;
    return true;
}

static bool prepare(struct parent *p, char *error)
{
    size_t len;
    p->shared =
        mmap(NULL, sizeof *p->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p->shared == MAP_FAILED) {
        snprintf(error, CONFIG_ERROR_MAX, "out of memory");
        return false;
    }
    char *text = read_text(p->path, &len);
    if (text)
        share_text(p->shared, text, len);
    free(text);
    for (uint32_t i = 0; i < p->workers; i++) {
        p->doorbells[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (p->doorbells[i] < 0) {
            snprintf(error, CONFIG_ERROR_MAX, "cannot make an eventfd: %s", strerror(errno));
            return false;
        }
    }
    resolve_nodes(p, p->config);
    if (access_keys_read(p->config, &p->shared->keys, error) != ERR_OK)
        return false;
    return listen_open(p->config, p->workers, &p->listen, error) == ERR_OK &&
           privilege_drop(p->config->process.user, error, CONFIG_ERROR_MAX) == ERR_OK &&
           router_lock_take(p->config->live, p->config->router.id, p->workers, &p->first_slot,
                            &p->id_lock, error) == ERR_OK;
}

/* Two descriptors a session: as many as the system lets us have. */
static void raise_descriptor_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

static void block_signals(struct parent *p)
{
    sigemptyset(&p->signals);
    sigaddset(&p->signals, SIGHUP);
    sigaddset(&p->signals, SIGTERM);
    sigaddset(&p->signals, SIGINT);
    sigaddset(&p->signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &p->signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static uint64_t watchdog_interval_ms(void)
{
    const char *usec = getenv("WATCHDOG_USEC");
    return usec ? strtoull(usec, NULL, 10) / 2000 : 0;
}

/* One for each processor that we may run on. */
static uint32_t workers_auto(void)
{
    cpu_set_t ours;
    const long cpus = sched_getaffinity(0, sizeof ours, &ours) == 0
                          ? CPU_COUNT(&ours)
                          : sysconf(_SC_NPROCESSORS_ONLN); /* there are more than fit in there */
    if (cpus < 1)
        return 1;
    return cpus < WORKERS_AUTO_MAX ? (uint32_t)cpus : WORKERS_AUTO_MAX;
}

int parent_run(const char *path, struct config *config)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct parent *p = calloc(1, sizeof *p);
    if (!p)
        return 1;
    p->path = path;
    p->config = config;
    p->id_lock = -1;
    p->clock.step_ms = STEP_MS;
    p->workers = config->router.workers ? config->router.workers : workers_auto();
    p->watchdog_ms = watchdog_interval_ms();
    log_init(&p->log, log_open(STDERR_FILENO), config->log.level, config->log.format);
    net_resolve_briefly();
    block_signals(p);
    raise_descriptor_limit();
    const bool prepared = prepare(p, error), started = prepared && start_all(p);
    if (prepared && !started) {
        snprintf(error, sizeof error, "a worker did not start; its log lines say why");
        stop(p);
    } else if (started && !p->stopping) {
        p->began = true;
        LOG(&p->log, LOG_INFO, EV_ROUTER_STARTED, log_text(K_VERSION, WEIR_VERSION),
            log_text(K_FILE, path), log_u64(K_WORKERS, p->workers),
            log_u64(K_NODES, config->node_count),
            log_text(K_ADDRESS, config->router.listen[0].address));
        notify_send("READY=1");
    }
    while ((started && !p->stopping) || any_left(p))
        turn(p);
    const bool well = started && !p->failed;
    LOG(&p->log, well ? LOG_INFO : LOG_ERROR, EV_ROUTER_STOPPED,
        log_text(K_STATE, well ? "clean" : "failed"), log_text(K_ERROR, error));
    config_destroy(p->config);
    free(p);
    return well ? 0 : 1;
}
