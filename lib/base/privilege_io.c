#define _GNU_SOURCE
#include "base/privilege_io.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum err privilege_drop(const char *user, char *error, size_t cap)
{
    struct passwd entry, *found = NULL;
    char buf[4096];
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        goto failed;
    if (user[0] == '\0' || geteuid() != 0)
        return ERR_OK;
    errno = getpwnam_r(user, &entry, buf, sizeof buf, &found);
    if (!found && errno == 0) {
        (void)snprintf(error, cap, "process.user: there is no user %s", user);
        return ERR_NOT_FOUND;
    }
    if (!found || initgroups(user, entry.pw_gid) != 0 ||
        setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid) != 0 ||
        setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid) != 0)
        goto failed;
    return ERR_OK;
failed:
    (void)snprintf(error, cap, "process.user: cannot become %s: %s", user, strerror(errno));
    return ERR_IO;
}
