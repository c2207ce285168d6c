/* tests/clock/preload.c - the wall clock of a running daemon, set by a test: preloaded (LD_PRELOAD)
 * into it by tests/system/test_soak.py, which shares a page with it (the file $CLOCK_SHIFT). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_int_fast64_t *shift_s; /* clock_gettime() has no argument to carry it */

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("CLOCK_SHIFT");
    const int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *p = mmap(NULL, sizeof *shift_s, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (p != MAP_FAILED)
        shift_s = p;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    const int result = (int)syscall(SYS_clock_gettime, id, t);
    if (result == 0 && id == CLOCK_REALTIME && shift_s)
        t->tv_sec += atomic_load(shift_s);
    return result;
}
