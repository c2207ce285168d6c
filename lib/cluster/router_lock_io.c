#include "cluster/router_lock_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cluster/directory_io.h"

enum { LOCK_MODE = 0640 };

static enum err fail(enum err e, const char *path, const char *what, char *error)
{
    (void)snprintf(error, CONFIG_ERROR_MAX, "cluster.live: %s: %s", path, what);
    return e;
}

enum err router_lock_take(const char *live, const char *router, int *fd, char *error)
{
    char path[CONFIG_PATH_MAX + ROUTER_ID_MAX + 16], failed[CONFIG_PATH_MAX];
    const enum err e = directory_make(live, failed);
    if (e == ERR_IO)
        return fail(e, failed, strerror(errno), error);
    if (e != ERR_OK)
        return fail(e, live, "not the name of a directory", error);
    (void)snprintf(path, sizeof path, "%s/router-%s.lock", live, router);
    const int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, LOCK_MODE);
    if (lock < 0)
        return fail(ERR_IO, path, strerror(errno), error);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(lock, F_SETLK, &whole) == 0) {
        *fd = lock;
        return ERR_OK;
    }
    const bool taken = errno == EACCES || errno == EAGAIN;
    if (!taken)
        (void)fail(ERR_IO, path, strerror(errno), error);
    else if (fcntl(lock, F_GETLK, &whole) == 0 && whole.l_type != F_UNLCK)
        (void)snprintf(error, CONFIG_ERROR_MAX,
                       "router.id %s is in use by process %ld: each router needs its own", router,
                       (long)whole.l_pid);
    else
        (void)snprintf(error, CONFIG_ERROR_MAX, "router.id %s is in use: each router needs its own",
                       router);
    close(lock);
    return taken ? ERR_CONFLICT : ERR_IO;
}
