#define _GNU_SOURCE
#include "router/session_io.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "base/socket_io.h"
#include "router/move_io.h"
#include "router/place_io.h"
#include "router/share_io.h"
#include "rtmp/proxy_header.h"

enum {
    WRITE_BATCH_BYTES = 256 * 1024,
    FLUSHES_PER_RUN = 8,
    READS_PER_WAKE = 4, /* one busy session does not starve the others */
    REPLAY_RECEIVE_BYTES = 1024 * 1024,
    QUICK_AFTER_MOVE_MS = 1000, /* a replay arrives meanwhile */
};

/* The sum of docs/security.md. What a message weighs besides its payload is in the 512 bytes of its
 * answer or chunk stream; blocks come in powers of two, so what has come may weigh twice as much.
 */
enum {
    UNROUTED_ANSWERS_MAX = 4 + CREATE_STREAMS_MAX + RTMP_PONGS_MAX + 2,
    UNROUTED_HELD = UNROUTED_MESSAGE_BYTES       /* connect, for the node */
                    + 2 * UNROUTED_MESSAGE_BYTES /* begun */
                    + UNROUTED_CSIDS_MAX * 512 + 4096 /* S0 S1 S2 */ + UNROUTED_ANSWERS_MAX * 512,
    UNROUTED_SUM =
        (int)(sizeof(struct session_conn) + sizeof(struct session_stream)) + UNROUTED_HELD,
};
_Static_assert((int)UNROUTED_SUM <= (int)UNROUTED_SESSION_BYTES, "strangers weigh too much");

/* ---- small things ---- */

static void set_option(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value,
                     sizeof value); /* an option that fails costs speed only */
}

/* Linux falls back to delayed acks by itself; during set-up each would cost the peer 40 ms. */
static void quick_ack(const struct session_conn *c, int fd)
{
    const struct session *s = &c->s;
    const bool replay =
        s->rehome.count > 0 && clock_mono_ms() - s->node_started_ms < QUICK_AFTER_MOVE_MS;
    if (s->state != SESS_RELAY || replay)
        set_option(fd, IPPROTO_TCP, TCP_QUICKACK, 1);
}

static void address_bytes(const struct sockaddr_storage *ss, uint8_t out[16])
{
    memset(out, 0, 16);
    if (ss->ss_family == AF_INET6) {
        memcpy(out, &((const struct sockaddr_in6 *)ss)->sin6_addr, 16);
    } else if (ss->ss_family == AF_INET) {
        out[10] = out[11] = 0xff;
        memcpy(out + 12, &((const struct sockaddr_in *)ss)->sin_addr, 4);
    }
}

static void address_text(const struct sockaddr_storage *ss, char out[ADDRESS_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN] = "?";
    out[0] = '\0';
    if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)ss;
        if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr)) {
            inet_ntop(AF_INET, (const uint8_t *)&a->sin6_addr + 12, host, sizeof host);
            snprintf(out, ADDRESS_TEXT_MAX, "%s:%u", host, ntohs(a->sin6_port));
        } else {
            inet_ntop(AF_INET6, &a->sin6_addr, host, sizeof host);
            snprintf(out, ADDRESS_TEXT_MAX, "[%s]:%u", host, ntohs(a->sin6_port));
        }
    } else if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *a = (const struct sockaddr_in *)ss;
        inet_ntop(AF_INET, &a->sin_addr, host, sizeof host);
        snprintf(out, ADDRESS_TEXT_MAX, "%s:%u", host, ntohs(a->sin_port));
    }
}

/* ---- the end ---- */

static void end_setup(struct session_conn *c, struct node_socket *n)
{
    if (n->setup >= 0)
        setups_leave(&c->w->setups, n->setup);
    n->setup = -1;
}

static void close_node_socket(struct session_conn *c, struct node_socket *n)
{
    end_setup(c, n);
    if (n->fd < 0)
        return;
    ev_io_stop(c->w->loop, &n->rd);
    ev_io_stop(c->w->loop, &n->wr);
    close(n->fd);
    n->fd = -1;
    n->broken = false;
    intake_close(&n->in);
}

/* Without its query: tokens travel there. */
static struct log_field log_app(const struct session *s)
{
    const struct view app = s->client.info.app;
    const uint8_t *query = app.len ? memchr(app.p, '?', app.len) : NULL;
    return log_text_n(K_APP, app.p, query ? (size_t)(query - app.p) : app.len);
}

static void log_closed(struct session_conn *c)
{
    const struct session *s = &c->s;
    struct worker *w = c->w;
    if (s->why == WHY_PROXY_LOCAL)
        return;
    if (s->why == WHY_LIMIT_ADDRESS || s->why == WHY_LIMIT_RATE) {
        worker_log_refused(w, s->why, c->client);
        return;
    }
    if (s->started_ms == 0 && !worker_may_log(w, s->why))
        return;
    char stream[STREAM_KEY_MAX];
    const uint64_t now = clock_mono_ms();
    const bool asked = s->asked_ms != 0;
    uint32_t largest = 0;
    for (int i = 0; i < SESSION_LINKS; i++)
        if (s->links[i].largest_sent > largest)
            largest = s->links[i].largest_sent;
    char detail[96] = "";
    if (s->why == WHY_NODE_LOST && largest > 1 << 20) /* nginx-rtmp's max_message */
        snprintf(
            detail, sizeof detail,
            "the largest message sent to the node was %u bytes; nodes close beyond their own limit",
            largest);
    else if (s->why == WHY_CHUNK_BAD)
        snprintf(detail, sizeof detail, "%s", rtmp_chunk_why_name(s->client.link.in.why));
    else if (s->why == WHY_NO_NODE && s->last_fail != FAIL_NONE)
        snprintf(detail, sizeof detail, "last node: %s", node_fail_name(s->last_fail));
    const struct view flash = s->client.info.flash_ver;
    LOG(&w->log, LOG_INFO, EV_SESSION_CLOSED, log_u64(K_SID, s->id),
        log_text(K_WHY, close_why_name(s->why)), log_text(K_CLIENT, c->client),
        log_text(K_KIND, !asked                       ? ""
                         : s->kind == SESSION_PUBLISH ? "publish"
                                                      : "play"),
        log_app(s), log_text(K_STREAM, s->key.len ? worker_stream_text(w, &s->key, stream) : ""),
        log_text(K_NODE, s->node), log_text(K_CODE, s->refusal), log_u64(K_TRIES, s->tries),
        log_u64(K_REHOMES, s->rehome.count), log_u64(K_BYTES_IN, s->client.bytes_in),
        log_u64(K_BYTES_OUT, s->bytes_out),
        log_u64(K_SETUP_MS, s->started_ms ? s->started_ms - s->asked_ms : 0),
        log_u64(K_DURATION_MS, now - s->created_ms), log_text_n(K_FLASH_VER, flash.p, flash.len),
        log_text(K_DETAIL, detail));
}

/* ---- links that wait until others are set up ---- */

static void wait_for_setups(struct session_conn *c)
{
    struct worker *w = c->w;
    if (c->waiting)
        return;
    c->waiting = true;
    c->next_waiting = NULL;
    *(w->waiting ? w->waiting_end : &w->waiting) = c;
    w->waiting_end = &c->next_waiting;
}

static void stop_waiting(struct session_conn *c)
{
    struct worker *w = c->w;
    struct session_conn **at = &w->waiting;
    if (!c->waiting)
        return;
    while (*at != c)
        at = &(*at)->next_waiting;
    *at = c->next_waiting;
    if (w->waiting_end == &c->next_waiting)
        w->waiting_end = at;
    c->waiting = false;
}

/* The list of those without a stream. One that leaves without having had one stays to the end. */
static void list_unrouted(struct session_conn *c)
{
    struct worker *w = c->w;
    const enum session_state state = c->s.state;
    const bool unrouted = !c->dead && !c->s.leads &&
                          (state == SESS_HANDSHAKE || state == SESS_COMMAND ||
                           (state == SESS_CLOSING && c->unrouted));
    if (unrouted == c->unrouted)
        return;
    c->unrouted = unrouted;
    if (unrouted) {
        w->admission.unrouted++;
        c->unrouted_next = NULL;
        c->unrouted_prev = w->unrouted_last;
        *(w->unrouted_last ? &w->unrouted_last->unrouted_next : &w->unrouted_first) = c;
        w->unrouted_last = c;
        return;
    }
    w->admission.unrouted--;
    *(c->unrouted_prev ? &c->unrouted_prev->unrouted_next : &w->unrouted_first) = c->unrouted_next;
    *(c->unrouted_next ? &c->unrouted_next->unrouted_prev : &w->unrouted_last) = c->unrouted_prev;
}

/* Closes what the system holds at once; the memory goes at the end of the loop turn. */
static void finish(struct session_conn *c)
{
    struct worker *w = c->w;
    if (c->dead)
        return;
    c->dead = true;
    if (!c->s.leads)
        log_closed(c);
    ev_io_stop(w->loop, &c->rd);
    ev_io_stop(w->loop, &c->wr);
    ev_timer_stop(w->loop, &c->timer);
    if (c->fd >= 0)
        close(c->fd);
    for (int i = 0; i < SESSION_LINKS; i++)
        close_node_socket(c, &c->nodes[i]);
    stop_waiting(c);
    stream_index_remove(&w->streams, &c->member);
    if (c->s.leads)
        share_spread(c);
    share_left(c);
    list_unrouted(c);
    if (w->refresh_at == c)
        w->refresh_at = c->next;
    if (c->prev)
        c->prev->next = c->next;
    else
        w->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    w->conn_count--;
    c->next = w->dead;
    w->dead = c;
    if (c->s.leads)
        return;
    admission_leave(&w->admission, c->identified ? c->addr : NULL);
    w->process.bytes_in += c->s.client.bytes_in;
    w->process.kept_cuts += c->s.rehome.cuts;
    w->process.bytes_out += c->s.bytes_out;
    w->process.closed[c->s.why]++;
    if (c->s.kind == SESSION_PUBLISH && c->s.started_ms != 0 &&
        (c->s.why == WHY_NO_NODE || c->s.why == WHY_MAX_MOVES))
        w->process.rehome_failed++;
}

void session_free_dead(struct worker *w)
{
    struct session_conn **at = &w->dead;
    while (*at) {
        struct session_conn *c = *at;
        const bool seats = c->s.leads && c->s.leads->first; /* who is still to hear why it ended */
        if (c->place_waiting > 0 || c->deliver_queued || seats) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        intake_close(&c->in);
        session_deinit(&c->s);
        if (c->s.leads)
            share_free(c);
        free(c);
    }
}

/* ---- writing ---- */

/* 1: all gone, 0: the socket is full, -1: the peer is gone. */
static int write_out(int fd, struct rtmp_chunk_writer *out, uint64_t *sent)
{
    for (int i = 0; i < FLUSHES_PER_RUN; i++) {
        struct iovec iov[IOV_BATCH];
        const size_t n = rtmp_chunk_writer_iov(out, iov, IOV_BATCH, WRITE_BATCH_BYTES);
        if (n == 0)
            return 1;
        const ssize_t done = socket_send(fd, iov, n);
        if (done < 0)
            return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -1;
        rtmp_chunk_writer_advance(out, (size_t)done);
        *sent += (uint64_t)done;
    }
    return rtmp_chunk_writer_empty(out) ? 1 : 0;
}

static void watch(struct worker *w, ev_io *watcher, bool wanted)
{
    if (wanted && !ev_is_active(watcher))
        ev_io_start(w->loop, watcher);
    else if (!wanted && ev_is_active(watcher))
        ev_io_stop(w->loop, watcher);
}

static unsigned step(struct session_conn *c, const struct session_event *ev)
{
    return session_step(&c->s, ev, clock_mono_ms());
}

/* True if something left that the session waits to hear of. */
static bool flush_client(struct session_conn *c)
{
    struct rtmp_chunk_writer *out = &c->s.client.link.out;
    if (c->s.client_gone || rtmp_chunk_writer_empty(out)) {
        watch(c->w, &c->wr, false);
        return false;
    }
    uint64_t sent = 0;
    const int r = write_out(c->fd, out, &sent);
    c->s.bytes_out += sent;
    watch(c->w, &c->wr, r == 0);
    if (r < 0) {
        c->todo |=
            step(c, &(struct session_event){.kind = SE_CLIENT_ENDED, .why = WHY_CLIENT_RESET});
        return true;
    }
    return sent > 0 && (c->s.state == SESS_CLOSING || c->s.node_paused || c->s.client_paused);
}

static bool flush_node(struct session_conn *c, int i)
{
    struct node_link *l = &c->s.links[i];
    struct node_socket *n = &c->nodes[i];
    if (n->fd < 0 || n->connecting || n->broken || l->state == NODE_OFF ||
        n->generation != l->generation)
        return false;
    if (rtmp_chunk_writer_empty(&l->link.out)) {
        watch(c->w, &n->wr, false);
        return l->state == NODE_CLOSING;
    }
    uint64_t sent = 0;
    const int r = write_out(n->fd, &l->link.out, &sent);
    watch(c->w, &n->wr, r == 0);
    if (r < 0 && l->state != NODE_CLOSING) {
        n->broken =
            true; /* what it said before it closed is still to be read; then comes the end */
        return false;
    }
    if (r < 0) {
        c->todo |=
            step(c, &(struct session_event){.kind = SE_NODE_ENDED, .link = i, .reset = true});
        return true;
    }
    return sent > 0 && (l->state == NODE_CLOSING || c->s.client_paused);
}

/* ---- the node's socket ---- */

static void node_ready(struct ev_loop *loop, ev_io *watcher, int events);

static bool dial_failed(struct session_conn *c, int i, int error)
{
    c->dial_error = error;
    close_node_socket(c, &c->nodes[i]);
    c->todo |= step(c, &(struct session_event){.kind = SE_NODE_FAILED, .link = i});
    return true;
}

static bool dial(struct session_conn *c, int i)
{
    struct node_socket *n = &c->nodes[i];
    const struct node *node = node_table_get(c->w->nodes, c->s.link_nodes[i]);
    n->generation = c->s.links[i].generation;
    c->dialled_us = clock_mono_us();
    n->dialled_ms = c->dialled_us / 1000;
    c->alive_us = 0;
    c->dial_error = 0;
    if (!node || node->addr.ss_family == 0)
        return dial_failed(c, i, 0);
    const struct sockaddr *addr = (const struct sockaddr *)&node->addr;
    const socklen_t len =
        addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    n->fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (n->fd < 0)
        return dial_failed(c, i, errno);
    set_option(n->fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (c->s.state == SESS_REHOME) {
        /* a replay comes faster than the stream did, and nodes drop what does not get away */
        set_option(n->fd, SOL_SOCKET, SO_RCVBUF, REPLAY_RECEIVE_BYTES);
    }
    if (c->w->env.failover->max_moves > 0) /* a node that is gone without a word */
        set_option(n->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)c->w->env.failover->stall_ms);
    ev_io_init(&n->rd, node_ready, n->fd, EV_READ);
    ev_io_init(&n->wr, node_ready, n->fd, EV_WRITE);
    n->rd.data = n->wr.data = c;
    if (connect(n->fd, addr, len) < 0 && errno != EINPROGRESS)
        return dial_failed(c, i, errno);
    n->connecting = true;
    ev_io_start(c->w->loop, &n->wr);
    return false;
}

static void on_connected(struct session_conn *c, int i)
{
    struct node_socket *n = &c->nodes[i];
    int error = 0;
    socklen_t len = sizeof error;
    n->connecting = false;
    ev_io_stop(c->w->loop, &n->wr);
    if (getsockopt(n->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error != 0) {
        dial_failed(c, i, error);
        return;
    }
    set_option(n->fd, IPPROTO_TCP, TCP_QUICKACK, 1);
    const struct node *node = node_table_get(c->w->nodes, c->s.link_nodes[i]);
    uint8_t proxy[PROXY_V1_MAX + 1 > 256 ? PROXY_V1_MAX + 1 : 256];
    size_t proxy_len = 0;
    if (node && node->conf.send_proxy != SEND_PROXY_OFF)
        proxy_len = proxy_header_write(node->conf.send_proxy == SEND_PROXY_V1 ? 1 : 2,
                                       (const struct sockaddr *)&c->peer,
                                       (const struct sockaddr *)&c->local, proxy, sizeof proxy);
    c->todo |= step(c, &(struct session_event){.kind = SE_NODE_CONNECTED,
                                               .link = i,
                                               .node = node ? node->conf.rtmp : NULL,
                                               .proxy = proxy,
                                               .proxy_len = proxy_len,
                                               .answers_pings = node && node->answers_pings});
    ev_io_start(c->w->loop, &n->rd);
}

/* Sockets whose link is off, or is another one by now; those that are set up. */
static void close_left_sockets(struct session_conn *c)
{
    for (int i = 0; i < SESSION_LINKS; i++) {
        const struct node_link *l = &c->s.links[i];
        if (l->state == NODE_OFF || c->nodes[i].generation != l->generation)
            close_node_socket(c, &c->nodes[i]);
        else if (l->state == NODE_LIVE)
            end_setup(c, &c->nodes[i]);
    }
}

/* A link of a stream that moves: not while too many are on their way to that node. */
static bool may_dial(struct session_conn *c, int i)
{
    if (c->s.state != SESS_REHOME)
        return true;
    c->nodes[i].setup = setups_enter(&c->w->setups, c->s.link_nodes[i]);
    if (c->nodes[i].setup < 0)
        wait_for_setups(c);
    return c->nodes[i].setup >= 0;
}

/* True if there was news for the session. */
static bool dial_new_links(struct session_conn *c)
{
    bool news = false;
    for (int i = 0; i < SESSION_LINKS; i++)
        if (c->s.links[i].state == NODE_DIAL && c->nodes[i].fd < 0 && may_dial(c, i))
            news = dial(c, i) || news;
    return news;
}

/* ---- the session's turn ---- */

static void count_setup(struct session_conn *c)
{
    struct process_record *p = &c->w->process;
    const uint64_t now = clock_mono_us();
    const uint64_t alive =
        c->alive_us ? c->alive_us : now; /* its first answer came with the last */
    if (!c->lead) {                      /* else it needed no node */
        process_histogram_add(&p->setup[SETUP_DIAL], alive - c->dialled_us);
        process_histogram_add(&p->setup[SETUP_ANSWER], now - alive);
    }
    if (!c->s.leads) { /* else nobody waited for it but its players */
        p->placed++;
        process_histogram_add(&p->setup[SETUP_TOTAL], now - c->asked_us);
    }
    c->asked_us = 0; /* a second publication on the connection is measured anew */
}

static void log_placed(struct session_conn *c)
{
    const struct session *s = &c->s;
    char stream[STREAM_KEY_MAX];
    count_setup(c);
    LOG(&c->w->log, LOG_INFO, EV_STREAM_PLACED, log_u64(K_SID, s->id),
        log_text(K_CLIENT, c->client),
        log_text(K_KIND, s->kind == SESSION_PUBLISH ? "publish" : "play"), log_app(s),
        log_text(K_STREAM, worker_stream_text(c->w, &s->key, stream)), log_text(K_NODE, s->node),
        log_text(K_REASON, place_reason_name(s->placed_by)), log_u64(K_TRIES, s->tries),
        log_u64(K_MS, s->node_started_ms - s->asked_ms));
}

static void perform(struct session_conn *c, unsigned action)
{
    switch (action) {
    case ACT_NODE_FAILED:
        place_node_failed(c);
        break;
    case ACT_HANDED_OVER:
        place_handed_over(c);
        break;
    case ACT_RELEASE:
        place_release(c);
        break;
    case ACT_PLACE:
        place_session(c);
        break;
    case ACT_STARTED:
        log_placed(c);
        place_started(c);
        break;
    case ACT_REHOMING:
        move_log_begun(c);
        break;
    case ACT_MOVE:
        move_claim(c);
        break;
    case ACT_AUDIENCE:
        move_ask_audience(c);
        break;
    case ACT_ATTACHED:
        move_attached(c);
        break;
    case ACT_ARRIVED:
        move_arrived(c);
        break;
    case ACT_RESUMED:
        move_resumed(c);
        break;
    case ACT_ENDS:
        move_ask_publisher(c);
        break;
    case ACT_SUSPECT:
        move_suspect(c);
        break;
    case ACT_SHUTDOWN:
        shutdown(c->fd, SHUT_WR);
        break;
    case ACT_FREE:
        finish(c);
        break;
    default:
        assert(false); /* an action without a case */
    }
}

static void arm_timer(struct session_conn *c)
{
    const uint64_t at = session_deadline(&c->s);
    if (at == UINT64_MAX || (c->timer_at_ms != 0 && c->timer_at_ms <= at))
        return; /* a timer that fires early arms itself again: cheaper than moving it at every event
                 */
    const uint64_t now = clock_mono_ms();
    ev_timer_stop(c->w->loop, &c->timer);
    ev_timer_set(&c->timer, at > now ? (double)(at - now) / 1000.0 : 0.0, 0.0);
    ev_timer_start(c->w->loop, &c->timer);
    c->timer_at_ms = at;
}

static void update_watchers(struct session_conn *c)
{
    watch(c->w, &c->rd, session_reads_client(&c->s));
    if (!c->proxy_expected)
        intake_rest(&c->in, &c->w->spare);
    for (int i = 0; i < SESSION_LINKS; i++) {
        struct node_socket *n = &c->nodes[i];
        if (n->fd < 0 || n->connecting)
            continue;
        watch(c->w, &n->rd, session_reads_node(&c->s, i));
        intake_rest(&n->in, &c->w->spare);
    }
    arm_timer(c);
}

/* Until there is nothing to perform, to dial, to write. Nested calls (an answer from the store)
 * leave their actions to the outer one. */
void session_run(struct session_conn *c)
{
    if (c->running || c->dead)
        return;
    c->running = true;
    while (!c->dead) {
        close_left_sockets(
            c); /* before others hear of it: who takes over publishes on the same node */
        if (c->todo) {
            const unsigned action = c->todo & -c->todo;
            c->todo &= ~action;
            perform(c, action);
            continue;
        }
        if (dial_new_links(c))
            continue;
        bool news = flush_client(c);
        for (int i = 0; i < SESSION_LINKS; i++)
            news = flush_node(c, i) || news;
        if (!news && !c->todo)
            break;
        c->todo |= step(c, &(struct session_event){.kind = SE_FLUSHED});
    }
    c->running = false;
    if (c->s.leads)
        share_spread(c);
    if (c->dead)
        return;
    list_unrouted(c);
    update_watchers(c);
}

void session_post(struct session_conn *c, const struct session_event *ev)
{
    if (c->dead)
        return;
    c->todo |= step(c, ev);
    session_run(c);
}

/* Mostly all of it leaves at once, and then nothing else is to be looked at: of a session that has
 * not been touched for a while, each part is waited for. A full queue is watched. */
void session_flush(struct session_conn *c)
{
    const struct session *s = &c->s;
    const bool plain = !c->running && !c->dead && c->todo == 0 && s->state == SESS_RELAY &&
                       !s->node_paused && !ev_is_active(&c->wr);
    if (plain && !flush_client(c) && rtmp_chunk_writer_empty(&s->client.link.out))
        return;
    session_post(c, &(struct session_event){.kind = SE_FLUSHED});
}

void session_dial_waiting(struct worker *w)
{
    uint32_t count = 0;
    if (!w->setups.left)
        return;
    w->setups.left = false;
    for (const struct session_conn *c = w->waiting; c; c = c->next_waiting)
        count++;
    while (w->waiting && count-- > 0) { /* who has to wait on comes behind these */
        struct session_conn *c = w->waiting;
        stop_waiting(c);
        session_run(c);
    }
}

/* ---- events of the sockets ---- */

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct session_conn *c = timer->data;
    c->timer_at_ms = 0;
    if (clock_mono_ms() >= session_deadline(&c->s))
        session_post(c, &(struct session_event){.kind = SE_TICK});
    else
        arm_timer(c);
}

static enum close_why read_error_why(int error)
{
    return error == ENOMEM ? WHY_LIMIT_MEMORY : WHY_CLIENT_RESET;
}

static void client_address_known(struct session_conn *c)
{
    address_bytes(&c->peer, c->addr);
    address_text(&c->peer, c->client);
    memcpy(c->s.addr, c->addr, sizeof c->s.addr);
    const enum close_why why = admission_identify(&c->w->admission, c->addr, clock_mono_ms());
    c->identified = why == WHY_NONE;
    if (why != WHY_NONE)
        session_post(c, &(struct session_event){.kind = SE_CLOSE, .why = why});
}

/* The PROXY header in front of C0, gathered in the read block. True: it is complete; in is what
 * follows it. */
static bool read_proxy_header(struct session_conn *c, struct slice *in)
{
    struct proxy_header h;
    size_t used;
    const uint32_t whole = in->off + in->len;
    switch (proxy_header_parse(in->block->data, whole, &h, &used)) {
    case PARSE_NEED_MORE:
        return false;
    case PARSE_BAD:
        session_post(c, &(struct session_event){.kind = SE_CLOSE, .why = WHY_PROXY_BAD});
        return false;
    case PARSE_OK:
        break;
    }
    c->proxy_expected = false;
    *in = (struct slice){.block = in->block, .off = (uint32_t)used, .len = whole - (uint32_t)used};
    if (h.local) { /* a health check, or a client whose address the proxy does not know */
        c->addr_own = false;
        return true;
    }
    c->peer = h.src;
    c->local = h.dst;
    c->addr_own = true;
    client_address_known(c);
    return !c->dead;
}

/* True: go on reading. */
static bool read_client_once(struct session_conn *c)
{
    struct slice in;
    bool more;
    if (c->proxy_expected)
        c->in.cap = PROXY_BLOCK_BYTES;
    const ssize_t n = intake_read(&c->in, &c->w->blocks, &c->w->spare, c->fd, &in, &more);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        const bool probe = c->s.client.bytes_in == 0 && (c->proxy_expected || !c->addr_own) &&
                           (n == 0 || errno != ENOMEM);
        const enum close_why why = probe    ? WHY_PROXY_LOCAL
                                   : n == 0 ? WHY_CLIENT_CLOSED
                                            : read_error_why(errno);
        c->todo |= step(c, &(struct session_event){.kind = SE_CLIENT_ENDED, .why = why});
        return false;
    }
    c->w->soon_bytes += in.len;
    quick_ack(c, c->fd);
    if (c->proxy_expected && !read_proxy_header(c, &in))
        return false;
    c->todo |= step(c, &(struct session_event){.kind = SE_CLIENT_BYTES, .bytes = &in});
    intake_rest(&c->in, &c->w->spare);
    return more;
}

static void note_ready(const struct session_conn *c)
{
    if (c->s.state == SESS_RELAY)
        c->w->relay_events++;
    else
        c->w->setting_up = true;
}

/* While relaying, what a turn of the loop has read leaves together: peers are woken less often, and
 * what came in parts goes out in one piece. */
static void run_soon(struct session_conn *c)
{
    struct worker *w = c->w;
    if (c->s.state != SESS_RELAY || c->todo) {
        session_run(c);
        return;
    }
    if (c->runs_soon || c->dead)
        return;
    c->runs_soon = true;
    w->soon[w->soon_count++] = c;
    if (w->soon_count == RUN_BATCH || w->soon_bytes >= RUN_BATCH_BYTES)
        session_run_soon(w);
}

void session_run_soon(struct worker *w)
{
    for (uint32_t i = 0; i < w->soon_count; i++) {
        w->soon[i]->runs_soon = false;
        session_run(w->soon[i]);
    }
    w->soon_count = w->soon_bytes = 0;
}

static void client_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    struct session_conn *c = watcher->data;
    note_ready(c);
    if (events & EV_READ) {
        for (int i = 0; i < READS_PER_WAKE && !c->dead && session_reads_client(&c->s); i++) {
            const bool more = read_client_once(c);
            if (c->todo)
                session_run(c);
            if (!more)
                break;
        }
    }
    run_soon(c);
}

static bool read_node_once(struct session_conn *c, int i)
{
    struct node_socket *n = &c->nodes[i];
    struct slice in;
    bool more;
    const ssize_t got = intake_read(&n->in, &c->w->blocks, &c->w->spare, n->fd, &in, &more);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got <= 0) {
        const bool memory = got < 0 && errno == ENOMEM;
        c->todo |=
            memory
                ? step(c, &(struct session_event){.kind = SE_CLOSE, .why = WHY_LIMIT_MEMORY})
                : step(c,
                       &(struct session_event){.kind = SE_NODE_ENDED, .link = i, .reset = got < 0});
        return false;
    }
    c->w->soon_bytes += in.len;
    quick_ack(c, n->fd);
    c->todo |= step(c, &(struct session_event){.kind = SE_NODE_BYTES, .link = i, .bytes = &in});
    if (c->alive_us == 0 && c->s.links[i].state >= NODE_COMMAND)
        c->alive_us = clock_mono_us();
    intake_rest(&n->in, &c->w->spare);
    return more;
}

static void node_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    struct session_conn *c = watcher->data;
    const int i = c->nodes[1].fd == watcher->fd ? 1 : 0;
    struct node_socket *n = &c->nodes[i];
    note_ready(c);
    if (n->connecting) {
        on_connected(c, i);
    } else if (events & EV_READ) {
        const uint32_t generation = n->generation;
        for (int reads = 0; reads < READS_PER_WAKE; reads++) {
            const bool more = read_node_once(c, i);
            if (c->todo)
                session_run(c);
            if (!more || c->dead || n->fd < 0 || n->generation != generation ||
                !session_reads_node(&c->s, i))
                break;
        }
    }
    run_soon(c);
}

/* ---- the beginning ---- */

static bool trusted(const struct config_listen *conf, const struct sockaddr_storage *peer)
{
    uint8_t addr[16];
    address_bytes(peer, addr);
    return config_cidrs_contain(&conf->trust, addr);
}

struct session_conn *session_conn_create(struct worker *w, int fd,
                                         const struct sockaddr_storage *peer)
{
    struct session_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->w = w;
    c->fd = fd;
    c->peer = *peer;
    c->nodes[0].fd = c->nodes[1].fd = -1;
    c->nodes[0].setup = c->nodes[1].setup = -1;
    c->opened_wall_ms = clock_wall_ms();
    session_init(&c->s, &w->env, worker_session_id(w), clock_mono_ms());
    ev_io_init(&c->rd, client_ready, fd, EV_READ);
    ev_io_init(&c->wr, client_ready, fd, EV_WRITE);
    ev_timer_init(&c->timer, on_timer, 0.0, 0.0);
    c->rd.data = c->wr.data = c->timer.data = c;
    socklen_t len = sizeof c->local;
    (void)getsockname(fd, (struct sockaddr *)&c->local, &len);
    c->next = w->conns;
    if (w->conns)
        w->conns->prev = c;
    w->conns = c;
    w->conn_count++;
    return c;
}

/* At once, whatever still waits to be sent. */
static void evict(struct session_conn *c)
{
    session_post(c, &(struct session_event){.kind = SE_CLOSE, .why = WHY_LIMIT_UNROUTED});
    finish(c);
}

void session_accept(struct worker *w, const struct worker_listener *l, int fd,
                    const struct sockaddr_storage *peer)
{
    char text[ADDRESS_TEXT_MAX];
    address_text(peer, text);
    const bool proxied = l->conf.proxy_protocol == LISTEN_PROXY_REQUIRED;
    if (proxied && !trusted(&l->conf, peer)) {
        worker_log_refused(w, WHY_PROXY_UNTRUSTED, text);
        close(fd);
        return;
    }
    if (admission_is_crowded(&w->admission) && w->unrouted_first)
        evict(w->unrouted_first);
    const enum close_why why = admission_connect(&w->admission);
    if (why != WHY_NONE) {
        worker_log_refused(w, why, text);
        close(fd);
        return;
    }
    struct session_conn *c = session_conn_create(w, fd, peer);
    if (!c) {
        admission_leave(&w->admission, NULL);
        worker_log_refused(w, WHY_LIMIT_MEMORY, text);
        close(fd);
        return;
    }
    w->process.accepted++;
    w->setting_up = true;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    c->proxy_expected = proxied;
    c->addr_own = true;
    snprintf(c->client, sizeof c->client, "%s", text);
    if (!proxied)
        client_address_known(c);
    if (!c->dead)
        session_run(c);
}
