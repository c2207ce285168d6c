#include <errno.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "base/limits.h"
#include "base/log.h"

void log_write(struct log *l, enum log_level level, enum log_event event, const struct log_field *f,
               size_t n)
{
    if (level > l->level)
        return;
    char buf[LOG_LINE_MAX];
    const size_t len = log_format_line(l, clock_wall_ms(), level, event, f, n, buf);
    ssize_t done;
    do
        done = write(l->fd, buf, len);
    while (done < 0 && errno == EINTR);
    /* A full pipe loses the line: waiting for a slow reader would stall every session of the
     * worker. */
    if (done == (ssize_t)len)
        l->lines++;
    else
        l->dropped++;
}
