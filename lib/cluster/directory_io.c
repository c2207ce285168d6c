#include "cluster/directory_io.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { DIRECTORY_MODE = 0750 };

enum err directory_make(const char *path, char failed[CONFIG_PATH_MAX])
{
    const size_t len = strlen(path);
    if (len == 0 || len >= CONFIG_PATH_MAX)
        return ERR_INVALID;
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(failed, path, i);
        failed[i] = '\0';
        if (mkdir(failed, DIRECTORY_MODE) != 0 && errno != EEXIST)
            return ERR_IO;
    }
    return ERR_OK;
}
