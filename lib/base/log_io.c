#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "base/limits.h"
#include "base/log.h"

/* O_NONBLOCK belongs to what was opened, which standard error shares with whoever started us: hence
 * an opening of our own. */
int log_open(int fd)
{
    char path[32];
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISFIFO(st.st_mode))
        return fd;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const int own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return own < 0 ? fd : own;
}

/* A full pipe or socket loses the line: waiting for a slow reader would stall every session of the
 * worker. Asking for room first is for what is neither, or a pipe that could not be opened again:
 * there another process can still take the room before we write. */
static ssize_t write_some(int fd, const char *buf, size_t len)
{
    const ssize_t sent = send(fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0 || errno != ENOTSOCK)
        return sent;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 ? write(fd, buf, len) : -1;
}

static bool put(struct log *l, const char *buf, size_t len)
{
    ssize_t done;
    do
        done = write_some(l->fd, buf, len);
    while (done < 0 && errno == EINTR);
    return done == (ssize_t)len;
}

/* How many lines there was no room for, now that there may be some. */
static bool tell_lost(struct log *l, uint64_t now_ms)
{
    const uint64_t lost = l->dropped - l->dropped_said;
    if (lost == 0 || l->level < LOG_WARN)
        return true;
    char buf[LOG_LINE_MAX];
    const struct log_field count = log_u64(K_COUNT, lost);
    const bool told =
        put(l, buf, log_format_line(l, now_ms, LOG_WARN, EV_LINES_LOST, &count, 1, buf));
    if (told) {
        l->lines++;
        l->dropped_said = l->dropped;
    }
    return told;
}

void log_write(struct log *l, enum log_level level, enum log_event event, const struct log_field *f,
               size_t n)
{
    if (level > l->level)
        return;
    const uint64_t now_ms = clock_wall_ms();
    char buf[LOG_LINE_MAX];
    if (tell_lost(l, now_ms) && put(l, buf, log_format_line(l, now_ms, level, event, f, n, buf)))
        l->lines++;
    else
        l->dropped++;
}
