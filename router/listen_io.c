#define _GNU_SOURCE
#include "router/listen_io.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/net_io.h"

enum { DEFAULT_PORT = 1935 };

static enum err resolve(const char *address, struct addrinfo **out, char *error)
{
    char host[HOST_MAX], service[8];
    uint16_t port;
    if (config_split_address(address, DEFAULT_PORT, host, &port) != ERR_OK) {
        snprintf(error, CONFIG_ERROR_MAX, "router.listen: %s is not an address", address);
        return ERR_INVALID;
    }
    snprintf(service, sizeof service, "%u", port);
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};
    const int rc = getaddrinfo(host[0] ? host : net_every_host(), service, &hints, out);
    if (rc != 0) {
        snprintf(error, CONFIG_ERROR_MAX, "router.listen: cannot resolve %s: %s", address,
                 gai_strerror(rc));
        return ERR_INVALID;
    }
    return ERR_OK;
}

/* v6only: not the IPv4 clients of [::], which takes them too otherwise. */
static int bind_one(const struct addrinfo *ai, bool v6only, bool share)
{
    const int on = 1, v6 = v6only;
    const int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6, sizeof v6);
    if (share)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 &&
        (!share || listen(fd, LISTEN_BACKLOG) == 0)) /* alone: nobody may come to that one */
        return fd;
    const int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* 0.0.0.0 is listed for the same port. */
static bool has_v4_twin(const struct config *c, const char *address)
{
    char host[HOST_MAX];
    uint16_t port, other;
    if (config_split_address(address, DEFAULT_PORT, host, &port) != ERR_OK)
        return false;
    for (uint32_t i = 0; i < c->router.listen_count; i++)
        if (config_split_address(c->router.listen[i].address, DEFAULT_PORT, host, &other) ==
                ERR_OK &&
            other == port && strcmp(host, "0.0.0.0") == 0)
            return true;
    return false;
}

static enum err open_listener(const struct config *c, const char *address, uint32_t workers,
                              int fds[WORKERS_MAX], char *error)
{
    struct addrinfo *found = NULL;
    enum err e = resolve(address, &found, error);
    if (e != ERR_OK)
        return e;
    const struct addrinfo *ai = net_listen_address(found);
    const bool v6only = has_v4_twin(c, address);
    const int alone = bind_one(ai, v6only, false); /* would another process share it with us? */
    e = alone < 0 ? ERR_IO : ERR_OK;
    if (alone >= 0)
        close(alone);
    for (uint32_t i = 0; i < workers && e == ERR_OK; i++)
        if ((fds[i] = bind_one(ai, v6only, true)) < 0)
            e = ERR_IO;
    if (e != ERR_OK)
        snprintf(error, CONFIG_ERROR_MAX, "cannot listen on %s: %s", address, strerror(errno));
    freeaddrinfo(found);
    return e;
}

enum err listen_open(const struct config *c, uint32_t workers, struct listen_set *out, char *error)
{
    memset(out->fds, -1, sizeof out->fds);
    out->listeners = c->router.listen_count;
    out->workers = workers;
    for (uint32_t i = 0; i < out->listeners; i++) {
        const enum err e =
            open_listener(c, c->router.listen[i].address, workers, out->fds[i], error);
        if (e != ERR_OK) {
            listen_close(out, WORKERS_MAX);
            return e;
        }
    }
    return ERR_OK;
}

void listen_close(struct listen_set *set, uint32_t keep)
{
    for (uint32_t i = 0; i < set->listeners; i++) {
        for (uint32_t slot = 0; slot < set->workers; slot++) {
            if (slot == keep || set->fds[i][slot] < 0)
                continue;
            close(set->fds[i][slot]);
            set->fds[i][slot] = -1;
        }
    }
}
