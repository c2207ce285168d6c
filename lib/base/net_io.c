#define _GNU_SOURCE
#include "base/net_io.h"

#include <sys/socket.h>
#include <unistd.h>

const char *net_every_host(void)
{
    const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return "0.0.0.0";
    close(fd);
    return "::";
}
