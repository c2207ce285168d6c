#define _GNU_SOURCE
#include "admin/daemon_io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "admin/server_io.h"
#include "base/clock_io.h"
#include "base/net_io.h"
#include "base/notify_io.h"
#include "cluster/store_outage.h"

enum {
    BEAT_MS = 1000,
    HOUSEKEEPING_MS = 10000,
    STOP_GRACE_MS = 5000, /* requests under way may end; the longest waits 2 s for a worker */
    TURN_MAX_MS = 1000,
};

struct daemon_state {
    const char *path;
    struct config *config;
    struct tokens tokens;
    struct log log;
    struct store *store;
    struct api api;
    struct server *server;
    struct process_record record;
    uint64_t beat_at_ms, housekeeping_at_ms;
    uint64_t watchdog_ms, watchdog_at_ms; /* systemd's; 0: none */
    int signals;
    struct store_outage outage;
    uint64_t stop_at_ms; /* 0: not stopping */
};

/* ---- tokens ---- */

/* NULL: errno. */
static char *read_file(const char *path, size_t *len)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = fd < 0 ? NULL : malloc(TOKEN_FILE_MAX);
    ssize_t n = 1;
    *len = 0;
    while (text && n > 0 && *len < TOKEN_FILE_MAX) {
        n = read(fd, text + *len, TOKEN_FILE_MAX - *len);
        *len += n > 0 ? (size_t)n : 0;
    }
    const int why = errno;
    if (n < 0 || *len == TOKEN_FILE_MAX) {
        free(text);
        text = NULL;
    }
    if (fd >= 0)
        close(fd);
    errno = n < 0 || !text ? (n < 0 || *len < TOKEN_FILE_MAX ? why : EFBIG) : 0;
    return text;
}

enum err daemon_read_tokens(const struct config *config, struct tokens *out, char *error)
{
    const char *path = config->admin.tokens;
    char wrong[TOKEN_ERROR_MAX];
    size_t len;
    if (path[0] == '\0') {
        *out = (struct tokens){0};
        return ERR_OK;
    }
    char *text = read_file(path, &len);
    if (!text) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "admin.tokens: %s: %s", path, strerror(errno));
        return ERR_IO;
    }
    const enum err e = tokens_parse(text, len, out, wrong);
    if (e != ERR_OK)
        (void)snprintf(error, CONFIG_ERROR_MAX, "admin.tokens: %s: %s", path, wrong);
    free(text);
    return e;
}

/* ---- reload ---- */

static void take_config(struct daemon_state *d, struct config *fresh)
{
    config_destroy(d->config);
    d->config = fresh;
    d->api.config = fresh;
    d->log.level = fresh->log.level;
    d->log.format = fresh->log.format;
    d->log.stream_names = fresh->log.stream_names;
}

static void reload(struct daemon_state *d)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct config *fresh = NULL;
    struct tokens tokens;
    notify_send("RELOADING=1");
    enum err e = config_load_file(d->path, &fresh, error);
    const char *fixed = e == ERR_OK ? config_needs_restart_of("admin", d->config, fresh) : NULL;
    if (fixed) {
        (void)snprintf(error, sizeof error,
                       "%s: %s cannot change while running: restart weir-admin", d->path, fixed);
        e = ERR_INVALID;
    }
    if (e == ERR_OK)
        e = daemon_read_tokens(fresh, &tokens, error);
    if (e == ERR_OK) {
        take_config(d, fresh);
        d->tokens = tokens;
        server_end_streams(d->server);
        LOG(&d->log, LOG_INFO, EV_CONFIG_RELOADED, log_text(K_FILE, d->path));
    } else {
        config_destroy(fresh);
        LOG(&d->log, LOG_ERROR, EV_CONFIG_REFUSED, log_text(K_ERROR, error));
    }
    notify_send("READY=1");
}

/* ---- the loop ---- */

static void note_store(struct daemon_state *d, enum err e)
{
    if (e == ERR_OK && d->outage.on) {
        if (store_outage_worked(&d->outage, clock_mono_ms()))
            LOG(&d->log, LOG_WARN, EV_STORE_RECOVERED, log_text(K_ERROR, ""));
    } else if (e != ERR_OK && store_outage_failed(&d->outage, clock_mono_ms())) {
        LOG(&d->log, LOG_ERROR, EV_STORE_FAILED, log_text(K_ERROR, err_name(e)));
    }
}

static void beat(struct daemon_state *d, uint64_t now)
{
    d->beat_at_ms = now + BEAT_MS;
    d->record.beat_ms = clock_wall_ms();
    d->record.requests = d->api.requests;
    d->record.lines_lost += log_count_lost(&d->log);
    const enum err e = store_process_beat(d->store, &d->record);
    if (e == ERR_OK)
        d->api.requests_recorded = d->record.requests;
    note_store(d, e);
}

static void housekeeping(struct daemon_state *d, uint64_t now)
{
    uint32_t removed;
    d->housekeeping_at_ms = now + HOUSEKEEPING_MS;
    store_check_readers(d->store);
    note_store(d, store_commands_sweep(d->store, clock_wall_ms(), &removed));
}

static void handle_signals(struct daemon_state *d, uint64_t now)
{
    struct signalfd_siginfo info;
    while (read(d->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP && !d->stop_at_ms) {
            reload(d);
        } else if (info.ssi_signo != SIGHUP) {
            /* a second one does not wait */
            notify_send("STOPPING=1");
            d->stop_at_ms = d->stop_at_ms ? now : now + STOP_GRACE_MS;
        }
    }
}

static void turn(struct daemon_state *d)
{
    const uint64_t before = clock_mono_ms();
    const uint64_t due = d->beat_at_ms > before ? d->beat_at_ms - before : 0;
    struct pollfd fds[] = {{.fd = server_descriptor(d->server), .events = POLLIN},
                           {.fd = d->signals, .events = POLLIN}};
    (void)poll(fds, 2, (int)server_wait_ms(d->server, due < TURN_MAX_MS ? due : TURN_MAX_MS));
    server_turn(d->server);
    const uint64_t now = clock_mono_ms();
    handle_signals(d, now);
    if (now >= d->beat_at_ms)
        beat(d, now);
    if (now >= d->housekeeping_at_ms)
        housekeeping(d, now);
    if (d->watchdog_ms && now >= d->watchdog_at_ms) {
        notify_send("WATCHDOG=1");
        d->watchdog_at_ms = now + d->watchdog_ms;
    }
}

static void loop(struct daemon_state *d)
{
    for (;;) {
        turn(d);
        if (d->stop_at_ms && (server_quiesce(d->server) || clock_mono_ms() >= d->stop_at_ms))
            return;
    }
}

/* ---- beginning and end ---- */

static int block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void raise_descriptor_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

static uint64_t watchdog_interval_ms(void)
{
    const char *usec = getenv("WATCHDOG_USEC");
    return usec ? strtoull(usec, NULL, 10) / 2000 : 0;
}

static void take_predecessor(struct daemon_state *d)
{
    struct process_record old;
    d->record = (struct process_record){
        .kind = PROCESS_ADMIN, .pid = (uint32_t)getpid(), .started_ms = clock_wall_ms()};
    (void)snprintf(d->record.version, sizeof d->record.version, "%s", WEIR_VERSION);
    if (store_process_get(d->store, PROCESS_ADMIN, &d->record.id, &old) == ERR_OK) {
        d->api.requests = d->api.requests_recorded = old.requests;
        d->record.lines_lost = old.lines_lost;
    }
}

static bool start(struct daemon_state *d, char *error)
{
    const struct store_options o = {.url = d->config->store, .live = d->config->live};
    d->signals = block_signals();
    if (d->signals < 0) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "cannot take signals: %s", strerror(errno));
        return false;
    }
    raise_descriptor_limit();
    net_resolve_briefly();
    if (store_open(&o, &d->store, error) != ERR_OK)
        return false;
    d->api = (struct api){.store = d->store,
                          .config = d->config,
                          .file = d->path,
                          .tokens = &d->tokens,
                          .log = &d->log};
    take_predecessor(d);
    if (server_create(&d->api, &d->server, error) != ERR_OK)
        return false;
    d->watchdog_ms = watchdog_interval_ms();
    return true;
}

static void finish(struct daemon_state *d)
{
    server_destroy(d->server);
    if (d->store)
        store_close(d->store);
    if (d->signals >= 0)
        close(d->signals);
    config_destroy(d->config);
    free(d);
}

int daemon_run(const char *path, struct config *config)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct daemon_state *d = calloc(1, sizeof *d);
    if (!d) {
        config_destroy(config);
        return 1;
    }
    d->path = path;
    d->config = config;
    d->signals = -1;
    log_init(&d->log, log_open(STDERR_FILENO), config->log.level, config->log.format);
    d->log.stream_names = config->log.stream_names;
    bool good = daemon_read_tokens(config, &d->tokens, error) == ERR_OK && start(d, error);
    if (good) {
        LOG(&d->log, LOG_INFO, EV_ADMIN_STARTED, log_text(K_ADDRESS, config->admin.listen),
            log_text(K_VERSION, WEIR_VERSION), log_u64(K_COUNT, d->tokens.count));
        notify_send("READY=1");
        loop(d);
        LOG(&d->log, LOG_INFO, EV_ADMIN_STOPPED, log_u64(K_COUNT, d->api.requests));
    } else {
        LOG(&d->log, LOG_ERROR, EV_ADMIN_STOPPED, log_text(K_ERROR, error));
    }
    finish(d);
    return good ? 0 : 1;
}
