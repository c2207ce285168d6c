/* Load for a relay, and the node behind it; thousands of connections in one process and thread.
 *   load node PORT [key=value ...]
 *   load client PORT [key=value ...]
 * A node takes publishers and feeds players: what is published, else streams that it makes up.
 * A client has publishers=N and players=N, spread over streams=N; or setups=N: so many at a time
 * are set up, closed and replaced.
 * Both: kbits=6000, fps=30, audio_us=23220, gop=2000 (ms), slow=1 (messages of the same size come
 * so many times slower), quiet=1 (no media), nagle=1 (no TCP_NODELAY).
 * Client: flat=1 (as fast as it goes), chunk=4096 (0: the server's), opening=32 (set-ups at a
 * time), addresses=16 (to connect from, 127.0.1.1 and following).
 * Says "started", a client also "ready" when all are set up. A line on standard input is answered
 * by a line of JSON; the end of it, or SIGTERM, ends the process with a last one. Counters go on,
 * histograms of times start anew with each line. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "bench/load/agenda.h"
#include "bench/load/peer_io.h"

enum {
    EVENTS = 256,
    STREAMS_MAX = 20000,
    QUEUE_MAX_BYTES = 8 << 20, /* of a connection; messages beyond are not sent, and counted */
    FLAT_BYTES = 512 << 10,    /* queued at once when sending as fast as it goes */
    LATE_NS = 10000000,        /* a message sent so much after its time: we are the bottleneck */
    ACCEPT_BACKLOG = 4096,
};

static struct process {
    struct load load;
    struct traffic_rate rate;
    struct traffic traffic;
    struct agenda agenda;
    struct stream *streams; /* STREAMS_MAX */
    bool node, stop;
    int listener, signals;
    uint32_t port, publishers, players, stream_count, setups, quiet, flat, addresses, opening;
    uint32_t chunk, nagle;
    uint32_t peers_opened, in_setup, live;
    uint64_t sent, sent_bytes, late, skipped, setups_done, failed, disconnects;
    struct histogram setup;
    uint32_t dice;
} g = {.rate = {.kbits = 6000, .fps = 30, .audio_us = 23220, .gop_ms = 2000, .slow_down = 1},
       .addresses = 16,
       .opening = 32,
       .chunk = 4096,
       .listener = -1,
       .dice = 1};

static uint32_t roll(void)
{
    g.dice = g.dice * 1664525u + 1013904223u;
    return g.dice;
}

static void must(bool ok, const char *what)
{
    if (!ok)
        load_die(what);
}

/* ---- sending ---- */

static void send_to(struct peer *p, struct rtmp_msg *m)
{
    if (p->link.out.queued_bytes > QUEUE_MAX_BYTES) {
        g.skipped++;
        return;
    }
    g.sent++;
    g.sent_bytes += m->len;
    peer_send(&g.load, p, m, m->timestamp);
}

static void fan_out(struct stream *st, struct rtmp_msg *m)
{
    for (uint32_t i = st->player_count; i-- > 0;) /* an ended one leaves the list: from the end */
        send_to(st->players[i], m);
}

static void begin(struct stream *st, uint32_t id)
{
    source_begin(&st->source, &g.traffic, id, load_now_ns(), roll());
    must(agenda_add(&g.agenda, st) == ERR_OK, "memory");
}

static void send_due(void)
{
    uint64_t now;
    while (g.agenda.count > 0 &&
           source_due_ns(&g.agenda.heap[0]->source) <= (now = load_now_ns())) {
        struct stream *st = g.agenda.heap[0];
        const bool late = now - source_due_ns(&st->source) > LATE_NS;
        const uint64_t sent = g.sent;
        struct rtmp_msg *m = source_next(&st->source, &g.traffic, now);
        must(m != NULL, "memory");
        agenda_later(&g.agenda, st);
        if (g.node)
            fan_out(st, m);
        else
            send_to(st->publisher, m);
        g.late += late ? g.sent - sent : 0;
        rtmp_msg_unref(m);
    }
}

/* A round per event, so that no peer starves the others. */
static void send_flat(struct peer *p)
{
    while (p->link.out.queued_bytes < FLAT_BYTES) {
        struct rtmp_msg *m = source_next(&p->stream->source, &g.traffic, load_now_ns());
        must(m != NULL, "memory");
        g.sent++;
        g.sent_bytes += m->len;
        peer_queue(p, m, m->timestamp);
        rtmp_msg_unref(m);
    }
    peer_flush(&g.load, p);
    peer_ask_writable(&g.load, p);
}

/* ---- the node ---- */

static void node_started(struct load *l, struct peer *p)
{
    must(p->stream_id < STREAMS_MAX, "stream number");
    struct stream *st = p->stream = &g.streams[p->stream_id];
    g.live++;
    if (p->kind == PEER_PUBLISHER) {
        agenda_remove(&g.agenda, st);
        st->publisher = p;
        return;
    }
    if (st->player_count == st->player_cap) {
        st->player_cap = st->player_cap ? 2 * st->player_cap : 4;
        st->players = realloc(st->players, st->player_cap * sizeof(struct peer *));
        must(st->players != NULL, "memory");
    }
    st->players[st->player_count++] = p;
    if (g.quiet)
        return;
    peer_send_headers(l, p);
    if (p->state != PEER_ENDED && st->player_count == 1 && !st->publisher)
        begin(st, p->stream_id);
}

static void node_message(struct load *l, struct peer *p, struct rtmp_msg *m)
{
    if (p->kind != PEER_PUBLISHER)
        return;
    traffic_look(m, p->stream_id, &p->arrival, &l->tally, load_now_ns());
    if (m->type == RTMP_AUDIO || m->type == RTMP_VIDEO)
        fan_out(p->stream, m);
}

static void node_writable(struct load *l, struct peer *p)
{
    (void)l;
    (void)p;
}

static void node_ended(struct load *l, struct peer *p)
{
    (void)l;
    struct stream *st = p->stream;
    if (!st)
        return;
    g.live--;
    if (st->publisher == p)
        st->publisher = NULL;
    for (uint32_t i = 0; i < st->player_count; i++) {
        if (st->players[i] == p)
            st->players[i] = st->players[--st->player_count];
    }
    if (st->player_count == 0)
        agenda_remove(&g.agenda, st);
}

static const struct load_role node_role = {node_started, node_message, node_writable, node_ended};

/* ---- the client ---- */

static void open_next(void)
{
    const uint32_t total = g.setups ? UINT32_MAX : g.publishers + g.players;
    const uint32_t at_once = g.setups ? g.setups : g.opening;
    while (!g.stop && g.in_setup < at_once && g.peers_opened < total) {
        const uint32_t i = g.peers_opened++;
        const bool player = g.setups ? g.players > 0 : i >= g.publishers;
        const uint32_t streams = g.stream_count;
        const uint32_t id = player && !g.setups ? (i - g.publishers) % streams : i % STREAMS_MAX;
        g.in_setup++;
        struct peer *p = peer_open(&g.load, player ? PEER_PLAYER : PEER_PUBLISHER, id);
        if (!player && !g.setups) {
            p->stream = &g.streams[id];
            p->stream->publisher = p;
        }
    }
}

static void client_started(struct load *l, struct peer *p)
{
    g.in_setup--;
    g.setups_done++;
    histogram_add(&g.setup, (load_now_ns() - p->opened_ns) / 1000);
    if (g.setups) {
        peer_end(l, p);
        return;
    }
    g.live++;
    if (p->kind == PEER_PLAYER || g.quiet)
        return;
    peer_send_headers(l, p);
    if (p->state == PEER_ENDED)
        return;
    if (g.flat) {
        source_begin(&p->stream->source, &g.traffic, p->stream_id, load_now_ns(), 0);
        send_flat(p);
    } else {
        begin(p->stream, p->stream_id);
    }
}

static void client_message(struct load *l, struct peer *p, struct rtmp_msg *m)
{
    if (p->kind == PEER_PLAYER)
        traffic_look(m, p->stream_id, &p->arrival, &l->tally, load_now_ns());
}

static void client_writable(struct load *l, struct peer *p)
{
    (void)l;
    if (g.flat && p->kind == PEER_PUBLISHER)
        send_flat(p);
}

static void client_ended(struct load *l, struct peer *p)
{
    (void)l;
    if (p->stream)
        agenda_remove(&g.agenda, p->stream);
    if (!p->was_live) {
        g.in_setup--;
        g.failed++;
    } else if (!g.setups) {
        g.live--;
        g.disconnects++;
    }
}

static const struct load_role client_role = {client_started, client_message, client_writable,
                                             client_ended};

/* ---- the process ---- */

static void print_times(const char *name, struct histogram *h)
{
    printf(
        ", \"%s\": {\"count\": %llu, \"p50\": %llu, \"p99\": %llu, \"p999\": %llu, \"max\": %llu}",
        name, (unsigned long long)h->count, (unsigned long long)histogram_quantile(h, 0.5),
        (unsigned long long)histogram_quantile(h, 0.99),
        (unsigned long long)histogram_quantile(h, 0.999), (unsigned long long)h->max_us);
    *h = (struct histogram){0};
}

static void report(void)
{
    struct tally *t = &g.load.tally;
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"live", g.live},          {"setups", g.setups_done},
        {"failed", g.failed},      {"disconnects", g.disconnects},
        {"sent", g.sent},          {"sent_bytes", g.sent_bytes},
        {"late", g.late},          {"skipped", g.skipped},
        {"received", t->messages}, {"received_bytes", t->bytes},
        {"lost", t->lost},         {"repeated", t->repeated},
        {"corrupt", t->corrupt},
    };
    printf("{\"ns\": %llu", (unsigned long long)load_now_ns());
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        printf(", \"%s\": %llu", counts[i].name, (unsigned long long)counts[i].value);
    print_times("latency_us", &t->latency);
    print_times("setup_us", &g.setup);
    puts("}");
    fflush(stdout);
}

static void accept_all(void)
{
    int fd;
    while ((fd = accept4(g.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        peer_adopt(&g.load, fd);
    must(errno == EAGAIN || errno == ECONNABORTED, "accept");
}

/* Each line asks for a report. */
static void take_input(void)
{
    char buf[256];
    const ssize_t n = read(STDIN_FILENO, buf, sizeof buf);
    if (n <= 0)
        g.stop = true;
    for (ssize_t i = 0; i < n; i++) {
        if (buf[i] == '\n')
            report();
    }
}

static void dispatch(const struct epoll_event *ev)
{
    if (ev->data.ptr == &g.listener)
        accept_all();
    else if (ev->data.ptr == &g.signals)
        g.stop = true;
    else if (ev->data.ptr == &g.stop)
        take_input();
    else
        peer_event(&g.load, ev->data.ptr, ev->events);
}

static void run(void)
{
    struct epoll_event events[EVENTS];
    bool ready = g.node || g.setups;
    while (!g.stop) {
        struct timespec wait = {.tv_sec = 3600};
        if (!g.node)
            open_next();
        if (g.agenda.count > 0) {
            const uint64_t now = load_now_ns();
            const uint64_t due = source_due_ns(&g.agenda.heap[0]->source);
            const uint64_t ns = due > now ? due - now : 0;
            wait = (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
                                     .tv_nsec = (long)(ns % 1000000000u)};
        }
        const int n = epoll_pwait2(g.load.epoll, events, EVENTS, &wait, NULL);
        must(n >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < n; i++)
            dispatch(&events[i]);
        send_due();
        peers_reap(&g.load);
        if (!ready && g.live + g.failed + g.disconnects >= g.publishers + g.players) {
            ready = true;
            puts("ready");
            fflush(stdout);
        }
    }
}

static void watch(int fd, void *mark)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = mark};
    must(epoll_ctl(g.load.epoll, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl");
}

static void listen_on(uint32_t port)
{
    const int one = 1;
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    g.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    must(g.listener >= 0, "socket");
    setsockopt(g.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    must(bind(g.listener, (const struct sockaddr *)&at, sizeof at) == 0, "bind");
    must(listen(g.listener, ACCEPT_BACKLOG) == 0, "listen");
    watch(g.listener, &g.listener);
}

static void start(void)
{
    struct rlimit files;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    must(sigprocmask(SIG_BLOCK, &set, NULL) == 0, "signals");
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        must(setrlimit(RLIMIT_NOFILE, &files) == 0, "descriptors");
    }
    prctl(PR_SET_TIMERSLACK, 1); /* paced to the microsecond */
    g.load.nagle = g.nagle != 0;
    g.load.chunk_bytes = g.chunk;
    g.load.source_addresses = g.addresses;
    g.load.role = g.node ? &node_role : &client_role;
    g.load.target = (struct sockaddr_in){.sin_family = AF_INET,
                                         .sin_port = htons((uint16_t)g.port),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    peer_io_init(&g.load);
    must(traffic_init(&g.traffic, &g.load.pool, &g.rate) == ERR_OK, "memory");
    g.streams = calloc(STREAMS_MAX, sizeof *g.streams);
    must(g.streams != NULL, "memory");
    g.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    must(g.signals >= 0, "signals");
    watch(g.signals, &g.signals);
    watch(STDIN_FILENO, &g.stop);
    if (g.node)
        listen_on(g.port);
}

static bool option(const char *arg)
{
    const struct {
        const char *name;
        uint32_t *to, min;
    } options[] = {
        {"kbits", &g.rate.kbits, 1},
        {"fps", &g.rate.fps, 1},
        {"audio_us", &g.rate.audio_us, 1000},
        {"gop", &g.rate.gop_ms, 1},
        {"slow", &g.rate.slow_down, 1},
        {"publishers", &g.publishers, 0},
        {"players", &g.players, 0},
        {"streams", &g.stream_count, 1},
        {"setups", &g.setups, 1},
        {"quiet", &g.quiet, 0},
        {"flat", &g.flat, 0},
        {"chunk", &g.chunk, 0},
        {"addresses", &g.addresses, 0},
        {"opening", &g.opening, 1},
        {"nagle", &g.nagle, 0},
    };
    const char *value = strchr(arg, '=');
    for (size_t i = 0; value && i < sizeof options / sizeof options[0]; i++) {
        const size_t n = (size_t)(value - arg);
        char *end;
        if (strlen(options[i].name) != n || memcmp(arg, options[i].name, n) != 0)
            continue;
        const unsigned long v = strtoul(value + 1, &end, 10);
        *options[i].to = (uint32_t)v;
        return *end == '\0' && end != value + 1 && v >= options[i].min && v <= 1u << 30;
    }
    return false;
}

int main(int argc, char **argv)
{
    bool good = argc >= 3 && (strcmp(argv[1], "node") == 0 || strcmp(argv[1], "client") == 0);
    for (int i = 3; good && i < argc; i++)
        good = option(argv[i]);
    if (!good) {
        fputs("usage: load node|client PORT [key=value ...]; the keys are in load_io.c\n", stderr);
        return 2;
    }
    g.node = strcmp(argv[1], "node") == 0;
    g.port = (uint32_t)strtoul(argv[2], NULL, 10);
    if (g.stream_count == 0)
        g.stream_count = g.publishers ? g.publishers : 1;
    start();
    puts("started");
    fflush(stdout);
    run();
    report();
    return 0;
}
