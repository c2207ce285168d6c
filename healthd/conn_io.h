/* healthd/conn_io.h - the TCP connection of a probe: dials, writes what is queued, reads into
 * blocks. Owner:  a probe; open/close. The handler may close it and then returns false: nothing of
 * it is touched any more. Thread: the process's only thread.   Tests: tests/system/test_healthd.py
 */
#ifndef WEIR_HEALTHD_CONN_IO_H
#define WEIR_HEALTHD_CONN_IO_H

#include <ev.h>
#include <sys/socket.h>

#include "config/config.h"
#include "rtmp/chunk_writer.h"

enum conn_event {
    CONN_CONNECTED = 0,
    CONN_BYTES,
    CONN_ENDED,  /* the peer closed its side */
    CONN_FAILED, /* error: errno */
};

struct conn;
/* in: what has arrived (CONN_BYTES); its block is the connection's. False: the connection is
 * closed. */
typedef bool conn_handler(struct conn *c, enum conn_event event, struct slice *in, int error);

struct conn {
    int fd; /* -1: closed */
    bool connecting;
    int error; /* of the dial, told on the next turn of the loop */
    struct ev_loop *loop;
    ev_io rd, wr;
    struct block_pool *blocks;
    uint32_t block_bytes;
    struct rtmp_chunk_writer *out; /* NULL until there is something to send */
    conn_handler *handler;
    void *owner;
};

/* Dials; whatever comes of it is told by the handler, never from inside this call. */
void conn_open(struct conn *c, struct ev_loop *loop, struct block_pool *blocks,
               uint32_t block_bytes, const struct sockaddr_storage *to, conn_handler *handler,
               void *owner);
/* Something was queued in out. Failures are told by the handler later. */
void conn_flush(struct conn *c);
void conn_close(struct conn *c); /* again is allowed */
/* The PROXY header of this connection as a node with send_proxy wants it; returns its length, 0 for
 * off. */
size_t conn_proxy_header(const struct conn *c, enum send_proxy how, uint8_t *buf, size_t cap);

#endif
