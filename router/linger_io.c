#define _GNU_SOURCE
#include "router/linger_io.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINGERS_MAX = 1024, LINGER_S = 5, DISCARD_BYTES = 16 * 1024 };

struct closing {
    struct worker *w;
    struct closing *next, *prev;
    ev_io rd;
    ev_timer limit;
};

static void end(struct closing *l)
{
    struct worker *w = l->w;
    *(l->prev ? &l->prev->next : &w->lingers) = l->next;
    if (l->next)
        l->next->prev = l->prev;
    w->linger_count--;
    ev_io_stop(w->loop, &l->rd);
    ev_timer_stop(w->loop, &l->limit);
    close(l->rd.fd);
    free(l);
}

static void on_limit(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    end(timer->data);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    char nobody_looks[DISCARD_BYTES];
    (void)loop;
    (void)events;
    const ssize_t n = recv(watcher->fd, nobody_looks, sizeof nobody_looks, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        end(watcher->data);
}

void linger_close(struct worker *w, int fd)
{
    int unacked = 0;
    const bool behind = ioctl(fd, SIOCOUTQ, &unacked) == 0 && unacked > 0;
    struct closing *l = behind && w->linger_count < LINGERS_MAX ? calloc(1, sizeof *l) : NULL;
    if (!l) {
        close(fd);
        return;
    }
    l->w = w;
    l->next = w->lingers;
    if (w->lingers)
        w->lingers->prev = l;
    w->lingers = l;
    w->linger_count++;
    (void)shutdown(fd, SHUT_WR);
    ev_io_init(&l->rd, on_readable, fd, EV_READ);
    ev_timer_init(&l->limit, on_limit, LINGER_S, 0.0);
    l->rd.data = l->limit.data = l;
    ev_io_start(w->loop, &l->rd);
    ev_timer_start(w->loop, &l->limit);
}

void linger_end(struct worker *w)
{
    while (w->lingers)
        end(w->lingers);
}
