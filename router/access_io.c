#define _GNU_SOURCE
#include "router/access_io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "cluster/stream_key.h"
#include "router/access.h"

/* ---- keys ---- */

/* -1: error is filled. */
static int open_keys(const char *path, char *error)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        snprintf(error, CONFIG_ERROR_MAX, "access.keys: %s: %s", path, strerror(errno));
    } else if (st.st_mode & (S_IRWXO | S_IWGRP)) {
        snprintf(error, CONFIG_ERROR_MAX,
                 "access.keys: %s: found mode %04o, allowed: 0600 or 0640: whoever reads it can "
                 "make tokens",
                 path, (unsigned)(st.st_mode & 07777));
    } else {
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

enum err access_keys_read(const struct config *config, struct signing_keys *out, char *error)
{
    const char *path = config->access.keys;
    char text[SIGNING_KEYS_TEXT_MAX], wrong[SIGNING_KEYS_ERROR_MAX];
    size_t len = 0;
    ssize_t n = 1;
    if (path[0] == '\0') {
        *out = (struct signing_keys){0};
        return ERR_OK;
    }
    const int fd = open_keys(path, error);
    if (fd < 0)
        return ERR_IO;
    while (n > 0 && len < sizeof text) {
        n = read(fd, text + len, sizeof text - len);
        len += n > 0 ? (size_t)n : 0;
    }
    const int why = n < 0 ? errno : len == sizeof text ? EFBIG : 0;
    close(fd);
    enum err e = ERR_IO;
    if (why != 0) {
        snprintf(error, CONFIG_ERROR_MAX, "access.keys: %s: %s", path, strerror(why));
    } else {
        e = signing_keys_parse(text, len, out, wrong);
        if (e != ERR_OK)
            snprintf(error, CONFIG_ERROR_MAX, "access.keys: %s: %s", path, wrong);
    }
    explicit_bzero(text, sizeof text);
    return e;
}

/* ---- --new-token ---- */

static int misuse(const char *what)
{
    fprintf(stderr, "weir-router: --new-token: %s\nTry 'weir-router --help'.\n", what);
    return 2;
}

int access_new_token(const struct config *config, const char *kind, const char *stream,
                     const char *time)
{
    char error[CONFIG_ERROR_MAX], token[STREAM_TOKEN_BYTES + 1];
    struct signing_keys keys;
    struct stream_key key;
    uint64_t ms = 0;
    if (strcmp(kind, access_kind_name(SESSION_PUBLISH)) != 0 &&
        strcmp(kind, access_kind_name(SESSION_PLAY)) != 0)
        return misuse("the kind is publish or play");
    if (stream_key_parse(stream, &key) != ERR_OK)
        return misuse("the stream is app/name, as in live/cam1");
    if (config_parse_duration(time, &ms) != ERR_OK || ms < 1000)
        return misuse("the time it is good for has a unit, as in 90s or 24h, and is 1s or more");
    if (config->access.keys[0] == '\0')
        return misuse("the configuration names no file of keys in access.keys");
    if (access_keys_read(config, &keys, error) != ERR_OK) {
        fprintf(stderr, "weir-router: %s\n", error);
        return 2;
    }
    const uint64_t expires_s = (clock_wall_ms() + ms) / 1000;
    const struct view text = {.p = (const uint8_t *)key.text, .len = key.len};
    const enum err e = stream_token_make(&keys.list[0], kind, text, expires_s, token);
    explicit_bzero(&keys, sizeof keys);
    if (e != ERR_OK) {
        fprintf(stderr, "weir-router: the token could not be made\n");
        return 1;
    }
    printf("%s?%s=%s&%s=%" PRIu64 "\n", key.text, access_args[0], token, access_args[1], expires_s);
    return 0;
}
