/* tests/bench/send_cost.c - the least that playback can cost: the CPU time of send() to players on
 * loopback, with nothing around it. As the playback benchmark does it: 10 streams of 20 players,
 * 73 messages a second each, the readers on another core.
 *
 *     send_cost [CORE OF THE SENDER] [CORE OF THE READERS]
 *
 * Ends by itself after about ten seconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    STREAMS = 10,
    PLAYERS = 20, /* of each */
    SOCKETS = STREAMS * PLAYERS,
    MESSAGES_PER_S = 73,
    SECONDS = 5, /* for each size */
    LARGEST = 22000,
};

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void run_on(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        fail("sched_setaffinity");
}

static uint64_t thread_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Reads all sockets until they are closed. */
static void read_all(const struct sockaddr_in *addr)
{
    static uint8_t buf[65536];
    struct epoll_event events[64];
    int open = SOCKETS;
    const int poll = epoll_create1(0);
    for (int i = 0; i < SOCKETS; i++) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (const struct sockaddr *)addr, sizeof *addr) < 0)
            fail("connect");
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e);
    }
    while (open > 0) {
        const int n = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < n; i++) {
            if (recv(events[i].data.fd, buf, sizeof buf, MSG_DONTWAIT) != 0)
                continue;
            close(events[i].data.fd);
            open--;
        }
    }
}

/* A message to all players of one stream after the other. Returns ns of CPU time for each send().
 */
static uint64_t measure(const int *fds, size_t bytes)
{
    static uint8_t message[LARGEST];
    const uint32_t rounds = SECONDS * MESSAGES_PER_S * STREAMS;
    const struct timespec pause = {.tv_nsec = 1000000000 / (MESSAGES_PER_S * STREAMS)};
    uint64_t spent_ns = 0;
    for (uint32_t round = 0; round < rounds; round++) {
        const int *players = fds + (size_t)(round % STREAMS) * PLAYERS;
        const uint64_t began_ns = thread_ns();
        for (int i = 0; i < PLAYERS; i++)
            if (send(players[i], message, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)bytes)
                fail("send");
        spent_ns += thread_ns() - began_ns;
        nanosleep(&pause, NULL);
    }
    return spent_ns / ((uint64_t)rounds * PLAYERS);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {370, LARGEST}; /* audio; a frame at 6 Mbit/s */
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int fds[SOCKETS];
    const int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&addr, len) < 0 ||
        listen(listener, SOCKETS) < 0 || getsockname(listener, (struct sockaddr *)&addr, &len) < 0)
        fail("listen");
    const pid_t reader = fork();
    if (reader < 0)
        fail("fork");
    if (reader == 0) {
        run_on(argc > 2 ? atoi(argv[2]) : 1);
        read_all(&addr);
        return 0;
    }
    run_on(argc > 1 ? atoi(argv[1]) : 0);
    for (int i = 0; i < SOCKETS; i++) {
        if ((fds[i] = accept(listener, NULL, NULL)) < 0)
            fail("accept");
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        printf("%5zu bytes: %.1f us of CPU time for each send()\n", sizes[i],
               (double)measure(fds, sizes[i]) / 1000);
    for (int i = 0; i < SOCKETS; i++)
        close(fds[i]);
    waitpid(reader, NULL, 0);
    return 0;
}
