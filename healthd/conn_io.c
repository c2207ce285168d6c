#define _GNU_SOURCE
#include "healthd/conn_io.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "config/config.h"
#include "rtmp/proxy_header.h"

enum { WRITE_BATCH_BYTES = 64 * 1024, READS_PER_WAKE = 16 };

static void set_option(int fd, int option)
{
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, option, &on, sizeof on); /* failing costs speed only */
}

static void watch(struct conn *c, ev_io *watcher, bool wanted)
{
    if (wanted && !ev_is_active(watcher))
        ev_io_start(c->loop, watcher);
    else if (!wanted && ev_is_active(watcher))
        ev_io_stop(c->loop, watcher);
}

static void fail_later(struct conn *c, int error)
{
    c->error = error;
    ev_feed_event(c->loop, &c->wr, EV_WRITE);
}

void conn_flush(struct conn *c)
{
    if (c->fd < 0 || c->connecting || c->error || !c->out)
        return;
    for (;;) {
        struct iovec iov[IOV_BATCH];
        const struct msghdr m = {
            .msg_iov = iov,
            .msg_iovlen = rtmp_chunk_writer_iov(c->out, iov, IOV_BATCH, WRITE_BATCH_BYTES)};
        if (m.msg_iovlen == 0)
            break;
        const ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                fail_later(c, errno);
            break;
        }
        rtmp_chunk_writer_advance(c->out, (size_t)n);
    }
    watch(c, &c->wr, !rtmp_chunk_writer_empty(c->out) && !c->error);
}

/* False: the connection is gone. */
static bool read_some(struct conn *c)
{
    for (int i = 0; i < READS_PER_WAKE; i++) {
        struct block *b = block_create(c->blocks, c->block_bytes);
        if (!b)
            return c->handler(c, CONN_FAILED, NULL, ENOMEM);
        const ssize_t n = recv(c->fd, b->data, b->cap, MSG_DONTWAIT);
        const int error = errno;
        bool open = true;
        if (n > 0) {
            b->used = (uint32_t)n;
            struct slice in = {.block = b, .off = 0, .len = (uint32_t)n};
            set_option(c->fd, TCP_QUICKACK); /* nodes write in pieces and wait for acks between */
            open = c->handler(c, CONN_BYTES, &in, 0);
        } else if (n == 0) {
            open = c->handler(c, CONN_ENDED, NULL, 0);
        } else if (error != EAGAIN && error != EINTR) {
            open = c->handler(c, CONN_FAILED, NULL, error);
        }
        const bool full = n == (ssize_t)b->cap;
        block_unref(b);
        if (!open || !full)
            return open;
    }
    return true;
}

static bool on_dialed(struct conn *c)
{
    int error = 0;
    socklen_t len = sizeof error;
    c->connecting = false;
    watch(c, &c->wr, false);
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error)
        return c->handler(c, CONN_FAILED, NULL, error);
    set_option(c->fd, TCP_QUICKACK);
    watch(c, &c->rd, true);
    return c->handler(c, CONN_CONNECTED, NULL, 0);
}

static void on_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct conn *c = watcher->data;
    (void)loop;
    if (c->error) {
        (void)c->handler(c, CONN_FAILED, NULL, c->error);
        return;
    }
    if (c->connecting) {
        (void)on_dialed(c);
        return;
    }
    if (events & EV_WRITE)
        conn_flush(c);
    if (events & EV_READ)
        (void)read_some(c);
}

void conn_open(struct conn *c, struct ev_loop *loop, struct block_pool *blocks,
               uint32_t block_bytes, const struct sockaddr_storage *to, conn_handler *handler,
               void *owner)
{
    const socklen_t len =
        to->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    *c = (struct conn){.loop = loop,
                       .blocks = blocks,
                       .block_bytes = block_bytes,
                       .handler = handler,
                       .owner = owner};
    c->fd = socket(to->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int error = errno;
    ev_io_init(&c->rd, on_ready, c->fd, EV_READ);
    ev_io_init(&c->wr, on_ready, c->fd, EV_WRITE);
    c->rd.data = c->wr.data = c;
    if (c->fd < 0) {
        fail_later(c, error);
        return;
    }
    set_option(c->fd, TCP_NODELAY);
    c->connecting = true;
    if (connect(c->fd, (const struct sockaddr *)to, len) < 0 && errno != EINPROGRESS)
        fail_later(c, errno);
    else
        watch(c, &c->wr, true);
}

void conn_close(struct conn *c)
{
    if (!c->loop)
        return;
    ev_io_stop(c->loop, &c->rd); /* also forgets an event that was fed */
    ev_io_stop(c->loop, &c->wr);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->loop = NULL;
}

size_t conn_proxy_header(const struct conn *c, enum send_proxy how, uint8_t *buf, size_t cap)
{
    struct sockaddr_storage from = {0}, to = {0};
    socklen_t len = sizeof from;
    if (how == SEND_PROXY_OFF)
        return 0;
    /* Without addresses the header says "unknown", which is as good */
    (void)getsockname(c->fd, (struct sockaddr *)&from, &len);
    len = sizeof to;
    (void)getpeername(c->fd, (struct sockaddr *)&to, &len);
    return proxy_header_write(how == SEND_PROXY_V1 ? 1 : 2, (const struct sockaddr *)&from,
                              (const struct sockaddr *)&to, buf, cap);
}
