#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "router/linger_io.h"
#include "router/session_io_parts.h"
#include "rtmp/proxy_header.h"

enum {
    REPLAY_RECEIVE_BYTES = 1024 * 1024,
    KEEPALIVE_IDLE_S = 10, /* about 25 s in all; 15 s where TCP_USER_TIMEOUT is less than that */
    KEEPALIVE_EVERY_S = 5,
    KEEPALIVE_COUNT = 3,
};

/* ---- links that wait until others are set up ---- */

static void end_setup(struct session_conn *c, struct node_socket *n)
{
    if (n->setup >= 0)
        setups_leave(&c->w->setups, n->setup);
    n->setup = -1;
}

static struct session_conn *waiting_conn(struct setups_waiter *who)
{
    return (struct session_conn *)((char *)who - offsetof(struct session_conn, waiter));
}

/* Of each node's at most as many as can enter: those who need it no more, or whose dial fails at
 * once, let others try, in the next turns. */
static void dial_some(struct worker *w, uint32_t at)
{
    struct setups_waiter *who;
    for (int i = 0; i < (int)w->setups.most && (who = setups_next(&w->setups, at)); i++)
        session_run(waiting_conn(who));
    if (setups_waits(&w->setups, at))
        w->setups.left = true;
}

void session_dial_waiting(struct worker *w)
{
    if (!w->setups.left)
        return;
    w->setups.left = false;
    for (uint32_t at = 0; at < w->setups.used; at++)
        dial_some(w, at);
}

/* ---- the end ---- */

void session_close_node_socket(struct session_conn *c, struct node_socket *n)
{
    end_setup(c, n);
    if (n->fd < 0)
        return;
    ev_io_stop(c->w->loop, &n->rd);
    ev_io_stop(c->w->loop, &n->wr);
    if (c->s.state == SESS_COMMAND || c->s.state == SESS_CLOSING)
        linger_close(c->w, n->fd); /* its stream is over, and is to be there to its end */
    else
        close(n->fd);
    n->fd = -1;
    n->broken = false;
    intake_close(&n->in);
}

/* A player that is placed anew waits for its stream to come when the node has answered its connect:
 * that may take long, and others need not wait for it. */
void session_close_left_sockets(struct session_conn *c)
{
    for (int i = 0; i < SESSION_LINKS; i++) {
        const struct node_link *l = &c->s.links[i];
        if (l->state == NODE_OFF || c->nodes[i].generation != l->generation)
            session_close_node_socket(c, &c->nodes[i]);
        else if (l->state == NODE_LIVE || (c->s.state == SESS_PLACE && l->connected))
            end_setup(c, &c->nodes[i]);
    }
}

/* ---- dialling ---- */

static void node_ready(struct ev_loop *loop, ev_io *watcher, int events);

static bool dial_failed(struct session_conn *c, int i, int error)
{
    c->dial_error = error;
    session_close_node_socket(c, &c->nodes[i]);
    session_take(c, &(struct session_event){.kind = SE_NODE_FAILED, .link = i});
    return true;
}

/* A node that is gone without a word, also one that we send nothing to. */
static void watch_for_death(int fd, const struct config_failover *f)
{
    const uint32_t longest_ms = (KEEPALIVE_IDLE_S + KEEPALIVE_COUNT * KEEPALIVE_EVERY_S) * 1000;
    socket_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    socket_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    socket_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_EVERY_S);
    socket_set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT);
    socket_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
               f->max_moves > 0 ? (int)f->stall_ms : (int)longest_ms);
}

static bool dial(struct session_conn *c, int i)
{
    struct node_socket *n = &c->nodes[i];
    const struct node *node = node_table_get(c->w->nodes, c->s.link_nodes[i]);
    n->generation = c->s.links[i].generation;
    c->dialled_us = clock_mono_us();
    n->dialled_ms = c->dialled_us / 1000;
    c->alive_us = 0;
    c->undialled = false;
    c->dial_error = 0;
    if (!node || node->addr.ss_family == 0)
        return dial_failed(c, i, 0);
    n->address = node_address_hash(&node->addr);
    const struct sockaddr *addr = (const struct sockaddr *)&node->addr;
    const socklen_t len =
        addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    n->fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (n->fd < 0)
        return dial_failed(c, i, errno);
    socket_set(n->fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (c->s.state == SESS_REHOME) {
        /* a replay comes faster than the stream did, and nodes drop what does not get away */
        socket_set(n->fd, SOL_SOCKET, SO_RCVBUF, REPLAY_RECEIVE_BYTES);
    }
    watch_for_death(n->fd, c->w->env.failover);
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
    socket_set(n->fd, IPPROTO_TCP, TCP_QUICKACK, 1);
    const struct node *node = node_table_get(c->w->nodes, c->s.link_nodes[i]);
    uint8_t proxy[PROXY_V1_MAX + 1 > 256 ? PROXY_V1_MAX + 1 : 256];
    size_t proxy_len = 0;
    if (node && node->conf.send_proxy != SEND_PROXY_OFF)
        proxy_len = proxy_header_write(node->conf.send_proxy == SEND_PROXY_V1 ? 1 : 2,
                                       (const struct sockaddr *)&c->peer,
                                       (const struct sockaddr *)&c->local, proxy, sizeof proxy);
    session_take(c, &(struct session_event){.kind = SE_NODE_CONNECTED,
                                            .link = i,
                                            .node = node ? node->conf.rtmp : NULL,
                                            .proxy = proxy,
                                            .proxy_len = proxy_len,
                                            .answers_pings = node && node->notes.answers_pings});
    ev_io_start(c->w->loop, &n->rd);
}

/* A link of a stream that moves, or of a player that moves to its stream: not while too many are on
 * their way to that node. */
static bool may_dial(struct session_conn *c, int i)
{
    if (c->s.state != SESS_REHOME && !session_plays_already(&c->s))
        return true;
    c->nodes[i].setup = setups_enter(&c->w->setups, c->s.link_nodes[i], &c->waiter);
    if (c->nodes[i].setup >= 0)
        return true;
    c->undialled = true;
    return false;
}

bool session_dial_new_links(struct session_conn *c)
{
    bool news = false;
    for (int i = 0; i < SESSION_LINKS; i++)
        if (c->s.links[i].state == NODE_DIAL && c->nodes[i].fd < 0 && may_dial(c, i)) {
            if (c->undialled)
                session_take(c, &(struct session_event){.kind = SE_NODE_DIALLED, .link = i});
            news = dial(c, i) || news;
        }
    return news;
}

/* ---- writing, reading ---- */

bool session_flush_node(struct session_conn *c, int i)
{
    struct node_link *l = &c->s.links[i];
    struct node_socket *n = &c->nodes[i];
    if (n->fd < 0 || n->connecting || n->broken || l->state == NODE_OFF ||
        n->generation != l->generation)
        return false;
    if (rtmp_chunk_writer_empty(&l->link.out)) {
        session_watch(c->w, &n->wr, false);
        return l->state == NODE_CLOSING;
    }
    uint64_t sent = 0;
    const int r = session_write_out(n->fd, &l->link.out, &sent);
    session_watch(c->w, &n->wr, r == 0);
    if (r < 0 && l->state != NODE_CLOSING) {
        n->broken =
            true; /* what it said before it closed is still to be read; then comes the end */
        return false;
    }
    if (r < 0) {
        session_take(c, &(struct session_event){.kind = SE_NODE_ENDED, .link = i, .reset = true});
        return true;
    }
    return sent > 0 && (l->state == NODE_CLOSING || c->s.client_paused);
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
        if (got < 0 && errno == ENOMEM)
            session_take(c, &(struct session_event){.kind = SE_CLOSE, .why = WHY_LIMIT_MEMORY});
        else
            session_take(
                c, &(struct session_event){.kind = SE_NODE_ENDED, .link = i, .reset = got < 0});
        return false;
    }
    c->w->soon_bytes += in.len;
    session_quick_ack(c, n->fd);
    session_take(c, &(struct session_event){.kind = SE_NODE_BYTES, .link = i, .bytes = &in});
    if (c->alive_us == 0 && c->s.links[i].state >= NODE_COMMAND)
        c->alive_us = clock_mono_us();
    intake_rest(&n->in, &c->w->spare);
    return more;
}

static void read_node(struct session_conn *c, int i)
{
    const struct node_socket *n = &c->nodes[i];
    const uint32_t generation = n->generation;
    for (int reads = 0; reads < SESSION_READS_PER_WAKE; reads++) {
        const bool more = read_node_once(c, i);
        if (c->todo)
            session_run(c);
        if (!more || c->dead || n->fd < 0 || n->generation != generation ||
            !session_reads_node(&c->s, i))
            break;
    }
}

static void node_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    struct session_conn *c = watcher->data;
    const int i = c->nodes[1].fd == watcher->fd ? 1 : 0;
    session_note_ready(c);
    if (c->nodes[i].connecting)
        on_connected(c, i);
    else if (events & EV_READ)
        read_node(c, i);
    session_run_in_turn(c);
}

void session_hear_node(struct session_conn *c, int i)
{
    const struct node_socket *n = &c->nodes[i];
    if (c->dead || n->fd < 0 || n->generation != c->s.links[i].generation)
        return;
    if (n->connecting && socket_writable(n->fd))
        on_connected(c, i);
    else if (!n->connecting && ev_is_active(&n->rd))
        read_node(c, i);
}
