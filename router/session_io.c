#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "base/socket_io.h"
#include "router/audience_io.h"
#include "router/move_io.h"
#include "router/place_io.h"
#include "router/session_io_parts.h"
#include "router/share_io.h"

enum {
    WRITE_BATCH_BYTES = 256 * 1024,
    FLUSHES_PER_RUN = 8,
    QUICK_AFTER_MOVE_MS = 1000, /* a replay arrives meanwhile */
    PING_ROOM_BYTES = 128,      /* the ping itself is acknowledged, too */
};

void session_quick_ack(const struct session_conn *c, int fd)
{
    const struct session *s = &c->s;
    const bool replay =
        s->rehome.count > 0 && worker_now_ms(c->w) - s->node_started_ms < QUICK_AFTER_MOVE_MS;
    if (s->state != SESS_RELAY || replay)
        socket_set(fd, IPPROTO_TCP, TCP_QUICKACK, 1);
}

/* ---- the end ---- */

/* Without its query: tokens travel there. */
static struct log_field log_app(const struct session *s)
{
    const struct view app = s->client.info.app;
    const uint8_t *query = app.len ? memchr(app.p, '?', app.len) : NULL;
    return log_text_n(K_APP, app.p, query ? (size_t)(query - app.p) : app.len);
}

enum { MORE_TRIES_MAX = 40 };

static const char *more_tries(const struct session_conn *c, char buf[MORE_TRIES_MAX])
{
    buf[0] = '\0';
    if (c->said.more > 0)
        snprintf(buf, MORE_TRIES_MAX, "%u more tries failed", c->said.more);
    return buf;
}

static void closed_detail(const struct session_conn *c, char *buf, size_t cap)
{
    const struct session *s = &c->s;
    char more[MORE_TRIES_MAX];
    more_tries(c, more);
    uint32_t largest = 0;
    for (int i = 0; i < SESSION_LINKS; i++)
        if (s->links[i].largest_sent > largest)
            largest = s->links[i].largest_sent;
    if (s->why == WHY_NODE_LOST && largest > 1 << 20) /* nginx-rtmp's max_message */
        snprintf(
            buf, cap,
            "the largest message sent to the node was %u bytes; nodes close beyond their own limit",
            largest);
    else if (s->why == WHY_CHUNK_BAD)
        snprintf(buf, cap, "%s", rtmp_chunk_why_name(s->client.link.in.why));
    else if (s->why == WHY_NO_NODE && s->last_fail != FAIL_NONE)
        snprintf(buf, cap, "last node: %s%s%s", node_fail_name(s->last_fail), more[0] ? "; " : "",
                 more);
    else
        snprintf(buf, cap, "%s", more);
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
    const bool asked = s->asked_ms != 0;
    char detail[96];
    closed_detail(c, detail, sizeof detail);
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
        log_u64(K_DURATION_MS, clock_mono_ms() - c->opened_ms),
        log_text_n(K_FLASH_VER, flash.p, flash.len), log_text(K_DETAIL, detail));
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

void session_finish(struct session_conn *c)
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
        session_close_node_socket(c, &c->nodes[i]);
    setups_stop_waiting(&c->waiter);
    stream_index_remove(&w->streams, &c->member);
    if (c->s.leads)
        share_spread(c);
    share_left(c);
    list_unrouted(c);
    if (w->refresh_at == c)
        w->refresh_at = c->next;
    if (w->moves_at == c)
        w->moves_at = c->next;
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
    w->process.kept_cuts += c->s.rehome.cuts;
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
        const bool seats =
            c->s.leads && c->s.leads->count > 0; /* who is still to hear why it ended */
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

int session_write_out(int fd, struct rtmp_chunk_writer *out, uint64_t *sent)
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

/* True if something left that the session waits to hear of. */
static bool flush_client(struct session_conn *c)
{
    struct rtmp_chunk_writer *out = &c->s.client.link.out;
    if (c->s.client_gone || rtmp_chunk_writer_empty(out)) {
        session_watch(c->w, &c->wr, false);
        return false;
    }
    uint64_t sent = 0;
    const int r = session_write_out(c->fd, out, &sent);
    c->s.bytes_out += sent;
    c->w->process.bytes_out += sent;
    session_watch(c->w, &c->wr, r == 0);
    if (r < 0) {
        session_take(c, &(struct session_event){.kind = SE_CLIENT_ENDED, .why = WHY_CLIENT_RESET});
        return true;
    }
    return sent > 0 && (c->s.state == SESS_CLOSING || c->s.node_paused || c->s.client_paused);
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
    char stream[STREAM_KEY_MAX], more[MORE_TRIES_MAX];
    const bool again = c->astray && c->said.astray;
    count_setup(c);
    LOG(&c->w->log, again ? LOG_DEBUG : LOG_INFO, EV_STREAM_PLACED, log_u64(K_SID, s->id),
        log_text(K_CLIENT, c->client),
        log_text(K_KIND, s->kind == SESSION_PUBLISH ? "publish" : "play"), log_app(s),
        log_text(K_STREAM, worker_stream_text(c->w, &s->key, stream)), log_text(K_NODE, s->node),
        log_text(K_REASON, place_reason_name(s->placed_by)), log_u64(K_TRIES, s->tries),
        log_u64(K_MS, s->node_started_ms - s->asked_ms), log_text(K_DETAIL, more_tries(c, more)));
    if (!c->astray)
        memset(&c->said, 0, sizeof c->said);
    c->said.astray = c->astray;
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
        audience_joined(c);
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
        session_finish(c);
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
    const uint64_t now = worker_now_ms(c->w), wake = rest_wake_ms(at, now);
    ev_timer_stop(c->w->loop, &c->timer);
    ev_timer_set(&c->timer, wake > now ? (double)(wake - now) / 1000.0 : 0.0, 0.0);
    ev_timer_start(c->w->loop, &c->timer);
    c->timer_at_ms = at;
}

static void update_watchers(struct session_conn *c)
{
    session_watch(c->w, &c->rd, session_reads_client(&c->s));
    if (!c->proxy_expected)
        intake_rest(&c->in, &c->w->spare);
    for (int i = 0; i < SESSION_LINKS; i++) {
        struct node_socket *n = &c->nodes[i];
        if (n->fd < 0 || n->connecting)
            continue;
        session_watch(c->w, &n->rd, session_reads_node(&c->s, i));
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
        session_close_left_sockets(
            c); /* before others hear of it: who takes over publishes on the same node */
        if (c->todo) {
            const unsigned action = c->todo & -c->todo;
            c->todo &= ~action;
            perform(c, action);
            continue;
        }
        if (session_dial_new_links(c))
            continue;
        bool news = flush_client(c);
        for (int i = 0; i < SESSION_LINKS; i++)
            news = session_flush_node(c, i) || news;
        if (!news && !c->todo)
            break;
        session_take(c, &(struct session_event){.kind = SE_FLUSHED});
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
    session_take(c, ev);
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

/* ---- events of the sockets ---- */

static enum close_why read_error_why(int error)
{
    return error == ENOMEM ? WHY_LIMIT_MEMORY : WHY_CLIENT_RESET;
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
        session_take(c, &(struct session_event){.kind = SE_CLIENT_ENDED, .why = why});
        return false;
    }
    c->w->soon_bytes += in.len;
    session_quick_ack(c, c->fd);
    if (c->proxy_expected && !session_read_proxy_header(c, &in))
        return false;
    const uint64_t before = c->s.client.bytes_in;
    session_take(c, &(struct session_event){.kind = SE_CLIENT_BYTES, .bytes = &in});
    c->w->process.bytes_in += c->s.client.bytes_in - before;
    intake_rest(&c->in, &c->w->spare);
    return more;
}

void session_note_ready(const struct session_conn *c)
{
    if (c->s.state == SESS_RELAY)
        c->w->relay_events++;
    else
        c->w->setting_up = true;
}

/* While relaying, what a turn of the loop has read leaves together: peers are woken less often, and
 * what came in parts goes out in one piece. */
void session_run_in_turn(struct session_conn *c)
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

static void read_client(struct session_conn *c)
{
    for (int i = 0; i < SESSION_READS_PER_WAKE && !c->dead && session_reads_client(&c->s); i++) {
        const bool more = read_client_once(c);
        if (c->todo)
            session_run(c);
        if (!more)
            break;
    }
}

void session_client_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    struct session_conn *c = watcher->data;
    session_note_ready(c);
    if (events & EV_READ)
        read_client(c);
    session_run_in_turn(c);
}

/* ---- time ---- */

static uint64_t acked_bytes(const struct session_conn *c)
{
    int unacked = 0;
    if (ioctl(c->fd, SIOCOUTQ, &unacked) < 0 || (uint64_t)unacked > c->s.bytes_out)
        return 0;
    return c->s.bytes_out - (uint64_t)unacked;
}

/* What the client's system has acknowledged since the ping, beyond the ping itself. */
static void look_what_is_taken(struct session_conn *c)
{
    if (c->s.kind == SESSION_PLAY && acked_bytes(c) > c->acked_before + PING_ROOM_BYTES)
        session_post(c, &(struct session_event){.kind = SE_CLIENT_TAKES});
}

/* A player whose stream is there waits for its turn to be dialled: that is no fault of the node's.
 */
static void wait_for_turn(struct session_conn *c, uint64_t now)
{
    const struct session *s = &c->s;
    if (!c->undialled || s->kind != SESSION_PLAY || !c->waiter.at || s->rehome.publication == 0 ||
        s->phase_deadline_ms == 0 || now < s->phase_deadline_ms)
        return;
    for (int i = 0; i < SESSION_LINKS; i++)
        if (s->links[i].state == NODE_DIAL && c->nodes[i].fd < 0)
            session_take(c, &(struct session_event){.kind = SE_NODE_DIALLED, .link = i});
}

/* Timers that are due run before the sockets that are ready, and a turn does not tell of all of
 * those. */
static void hear_peers(struct session_conn *c)
{
    if (ev_is_active(&c->rd))
        read_client(c);
    for (int i = 0; i < SESSION_LINKS; i++)
        session_hear_node(c, i);
    session_run(c); /* what waits to be sent may leave: a full queue is a limit, too */
}

void session_on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct session_conn *c = timer->data;
    const uint64_t now = worker_now_ms(c->w);
    if (session_judges(&c->s, now))
        hear_peers(c);
    if (!c->dead && session_judges_client(&c->s, now))
        look_what_is_taken(c);
    if (c->dead)
        return;
    wait_for_turn(c, now);
    c->timer_at_ms = 0;
    if (now < session_deadline(&c->s)) {
        arm_timer(c);
        return;
    }
    const uint64_t pinged_ms = c->s.pinged_ms;
    session_post(c, &(struct session_event){.kind = SE_TICK});
    if (!c->dead && c->s.kind == SESSION_PLAY && c->s.pinged_ms != pinged_ms)
        c->acked_before = acked_bytes(c);
}
