/* Runs a fuzz target over its corpus: arguments are files or directories of files. Each input lies
 * in a heap buffer of its own size, so that AddressSanitizer sees every read past it. A corpus that
 * is missing or empty is an error. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int input_run(const char *path)
{
    struct stat st;
    uint8_t *buf = NULL;
    int status = 1;
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &st) != 0)
        goto out;
    const size_t size = (size_t)st.st_size;
    buf = malloc(size ? size : 1);
    if (!buf || fread(buf, 1, size, f) != size)
        goto out;
    LLVMFuzzerTestOneInput(buf, size);
    status = 0;
out:
    if (status)
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    free(buf);
    if (f)
        fclose(f);
    return status;
}

static int directory_run(const char *path, unsigned *inputs)
{
    DIR *dir = opendir(path);
    if (!dir) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    int status = 0;
    for (const struct dirent *entry = readdir(dir); entry && !status; entry = readdir(dir)) {
        if (entry->d_name[0] == '.')
            continue;
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        status = input_run(name);
        ++*inputs;
    }
    closedir(dir);
    return status;
}

int main(int argc, char **argv)
{
    unsigned inputs = 0;
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) != 0) {
            fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
            return 1;
        }
        const unsigned before = inputs;
        int status = 0;
        if (S_ISDIR(st.st_mode))
            status = directory_run(argv[i], &inputs);
        else
            status = input_run(argv[i]), inputs++;
        if (status)
            return status;
        if (inputs == before) {
            fprintf(stderr, "%s: no inputs\n", argv[i]);
            return 1;
        }
    }
    if (inputs == 0) {
        fprintf(stderr, "usage: %s FILE|DIRECTORY...\n", argv[0]);
        return 1;
    }
    printf("%u inputs\n", inputs);
    return 0;
}
