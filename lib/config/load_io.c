#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/tree.h"

enum err config_load_file(const char *path, struct config **out, char *error)
{
    enum err e = ERR_IO;
    char *text = malloc(TREE_TEXT_MAX + 1); /* one byte more, so that a longer file shows */
    FILE *file = fopen(path, "re");
    if (!file || !text) {
        snprintf(error, CONFIG_ERROR_MAX, "%s: cannot be read: %s", path, strerror(errno));
        goto out;
    }
    const size_t len = fread(text, 1, TREE_TEXT_MAX + 1, file);
    if (ferror(file)) {
        snprintf(error, CONFIG_ERROR_MAX, "%s: cannot be read: %s", path, strerror(errno));
        goto out;
    }
    e = config_load_buffer(path, text, len, out, error);
out:
    if (file)
        fclose(file);
    free(text);
    return e;
}
