/* load/peer_io.h - one RTMP connection of the load generator, as a client (which sends and waits
 * step by step, as ffmpeg does) or as a node (which answers as nginx-rtmp does), up to the start of
 * publish or play.
 * Owner:  the process: one struct load, peers on the heap, freed at the end of a loop turn.
 * Thread: the process's only thread.
 * Errors: a peer that fails ends, which the role is told; out of memory ends the process. */
#ifndef WEIR_LOAD_PEER_IO_H
#define WEIR_LOAD_PEER_IO_H

#include <netinet/in.h>

#include "base/limits.h"
#include "bench/load/traffic.h"
#include "rtmp/command.h"
#include "rtmp/link.h"

enum peer_state {
    PEER_HANDSHAKE = 0,
    PEER_COMMAND,
    PEER_LIVE, /* Publish.Start or Play.Start sent or received */
    PEER_ENDED,
};

enum peer_kind { PEER_PUBLISHER = 0, PEER_PLAYER };

struct stream;
struct peer {
    int fd;
    enum peer_state state;
    enum peer_kind kind;
    bool server;
    bool was_live;
    bool write_wanted; /* EPOLLOUT is set */
    struct rtmp_link link;
    uint8_t *hello; /* handshake bytes so far; NULL after it */
    uint32_t hello_len;
    uint64_t opened_ns;
    struct stream *stream;
    uint32_t stream_id;
    struct arrival arrival;
    struct peer *next_ended;
};

struct load;
/* What a process does with its peers. */
struct load_role {
    void (*started)(struct load *l, struct peer *p);                     /* p has become live */
    void (*message)(struct load *l, struct peer *p, struct rtmp_msg *m); /* of a live peer */
    void (*writable)(struct load *l, struct peer *p); /* all that was queued has left */
    void (*ended)(struct load *l, struct peer *p);
};

struct load {
    const struct load_role *role;
    int epoll;
    bool nagle;           /* no TCP_NODELAY, as ffmpeg and nginx-rtmp have it */
    uint32_t chunk_bytes; /* of a publisher; 0: what the server announces, as ffmpeg does */
    struct sockaddr_in target;
    uint32_t
        source_addresses; /* connect from 127.0.1.1 and so many following ones in turn; 0: any */
    uint32_t opened;
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct rtmp_chunk_limits limits;
    struct block *in; /* what is read into, for all peers */
    struct peer *ended;
    uint8_t noise[RTMP_HANDSHAKE_BYTES];
    struct tally tally;
};

_Noreturn void load_die(const char *what); /* with errno */
uint64_t load_now_ns(void);

void peer_io_init(struct load *l);

/* Dials. stream_id: the stream is called "load<stream_id>". */
struct peer *peer_open(struct load *l, enum peer_kind kind, uint32_t stream_id);
/* A connection that was accepted. */
struct peer *peer_adopt(struct load *l, int fd);
void peer_event(struct load *l, struct peer *p, uint32_t events);
/* Queues, and writes at once: a message is a write. */
void peer_send(struct load *l, struct peer *p, struct rtmp_msg *m, uint32_t timestamp);
/* Queues only. */
void peer_queue(struct peer *p, struct rtmp_msg *m, uint32_t timestamp);
void peer_flush(struct load *l, struct peer *p);
/* The role is told when the socket takes more, also if nothing is queued. */
void peer_ask_writable(struct load *l, struct peer *p);
/* Metadata and sequence headers, as they open a stream. */
void peer_send_headers(struct load *l, struct peer *p);
void peer_end(struct load *l, struct peer *p); /* idempotent; freed by peers_reap() */
void peers_reap(struct load *l);

#endif
