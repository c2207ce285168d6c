#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "base/limits.h"
#include "base/log.h"

/* Room for a line: a pipe has LOG_LINE_MAX bytes, a socket most of its buffer. The descriptor is
 * shared with others, so it is not ours to make non-blocking. */
static bool has_room(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, 0) == 1;
}

void log_write(struct log *l, enum log_level level, enum log_event event, const struct log_field *f,
               size_t n)
{
    if (level > l->level)
        return;
    char buf[LOG_LINE_MAX];
    const size_t len = log_format_line(l, clock_wall_ms(), level, event, f, n, buf);
    ssize_t done = -1;
    /* A full pipe loses the line: waiting for a slow reader would stall every session of the
     * worker. */
    if (has_room(l->fd))
        do
            done = write(l->fd, buf, len);
        while (done < 0 && errno == EINTR);
    if (done == (ssize_t)len)
        l->lines++;
    else
        l->dropped++;
}
