#define _GNU_SOURCE /* locks of an open file description */
#include "cluster/router_lock_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "cluster/directory_io.h"

enum { LOCK_MODE = 0640, ID_BYTE = 0, SLOT_BYTES = 1 };

static enum err fail(enum err e, const char *path, const char *what, char *error)
{
    (void)snprintf(error, CONFIG_ERROR_MAX, "cluster.live: %s: %s", path, what);
    return e;
}

static struct flock lock_of(off_t first, off_t count)
{
    return (struct flock){
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = count};
}

static enum err take_id(int file, const char *path, const char *router, char *error)
{
    struct flock id = lock_of(ID_BYTE, 1);
    if (fcntl(file, F_SETLK, &id) == 0)
        return ERR_OK;
    if (errno != EACCES && errno != EAGAIN)
        return fail(ERR_IO, path, strerror(errno), error);
    if (fcntl(file, F_GETLK, &id) == 0 && id.l_type != F_UNLCK)
        (void)snprintf(error, CONFIG_ERROR_MAX,
                       "router.id %s is in use by process %ld: each router needs its own", router,
                       (long)id.l_pid);
    else
        (void)snprintf(error, CONFIG_ERROR_MAX, "router.id %s is in use: each router needs its own",
                       router);
    return ERR_CONFLICT;
}

static enum err take_slots(int file, const char *path, const char *router, uint32_t workers,
                           uint32_t *first, char *error)
{
    for (uint32_t i = 0; i + workers <= WORKERS_MAX; i++) {
        struct flock slots = lock_of(SLOT_BYTES + i, workers);
        if (fcntl(file, F_OFD_SETLK, &slots) == 0) {
            *first = i;
            return ERR_OK;
        }
        if (errno != EACCES && errno != EAGAIN)
            return fail(ERR_IO, path, strerror(errno), error);
    }
    (void)snprintf(
        error, CONFIG_ERROR_MAX,
        "router.id %s: the one before still has sessions, and there cannot be more than "
        "%d workers with it: start again when it has ended, or with fewer router.workers",
        router, WORKERS_MAX);
    return ERR_CONFLICT;
}

enum err router_lock_take(const char *live, const char *router, uint32_t workers,
                          uint32_t *first_slot, int *fd, char *error)
{
    char path[CONFIG_PATH_MAX + ROUTER_ID_MAX + 16], failed[CONFIG_PATH_MAX];
    enum err e = directory_make(live, failed);
    if (e == ERR_IO)
        return fail(e, failed, strerror(errno), error);
    if (e != ERR_OK)
        return fail(e, live, "not the name of a directory", error);
    (void)snprintf(path, sizeof path, "%s/router-%s.lock", live, router);
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, LOCK_MODE);
    if (file < 0)
        return fail(ERR_IO, path, strerror(errno), error);
    e = take_id(file, path, router, error);
    if (e == ERR_OK)
        e = take_slots(file, path, router, workers, first_slot, error);
    if (e == ERR_OK)
        *fd = file;
    else
        close(file);
    return e;
}
