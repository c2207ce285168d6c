/* load/peer_io.c - see peer_io.h. */
#define _GNU_SOURCE
#include "bench/load/peer_io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "rtmp/handshake.h"

enum {
    FIRST_SOURCE_ADDRESS = 0x7f000101, /* 127.0.1.1 */
    NGINX_CHUNK_BYTES = 4096,
    READ_ROOM_BYTES = 16 * 1024, /* a block with less room left is replaced */
    WRITE_BYTES = 256 * 1024,
    TR_CONNECT = 1, /* transaction ids, as ffmpeg counts */
    TR_RELEASE,
    TR_FCPUBLISH,
    TR_CREATE_STREAM,
    TR_START,
};

void load_die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void check(enum err e)
{
    if (e != ERR_OK) {
        errno = ENOMEM;
        load_die(err_name(e));
    }
}

uint64_t load_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void peer_io_init(struct load *l)
{
    l->limits = (struct rtmp_chunk_limits){.message_bytes = 4 << 20,
                                           .unfinished_bytes = 8 << 20,
                                           .chunk_streams = RTMP_CSIDS_IN_USE_MAX,
                                           .chunk_bytes = RTMP_CHUNK_BYTES_MAX};
    block_pool_init(&l->blocks, 0);
    rtmp_pool_init(&l->pool, &l->blocks);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0)
        load_die("epoll");
}

/* ---- sending ---- */

static void want_write(struct load *l, struct peer *p, bool wanted)
{
    struct epoll_event ev = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0u), .data.ptr = p};
    if (p->write_wanted == wanted)
        return;
    p->write_wanted = wanted;
    if (epoll_ctl(l->epoll, EPOLL_CTL_MOD, p->fd, &ev) < 0)
        load_die("epoll_ctl");
}

void peer_ask_writable(struct load *l, struct peer *p)
{
    if (p->state != PEER_ENDED)
        want_write(l, p, true);
}

void peer_flush(struct load *l, struct peer *p)
{
    struct iovec iov[IOV_BATCH];
    size_t n;
    while (p->state != PEER_ENDED &&
           (n = rtmp_chunk_writer_iov(&p->link.out, iov, IOV_BATCH, WRITE_BYTES)) > 0) {
        const struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
        const ssize_t done = sendmsg(p->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done < 0 && (errno == EAGAIN || errno == EINTR)) {
            want_write(l, p, true);
            return;
        }
        if (done < 0) {
            peer_end(l, p);
            return;
        }
        rtmp_chunk_writer_advance(&p->link.out, (size_t)done);
    }
    if (p->state != PEER_ENDED)
        want_write(l, p, false);
}

void peer_queue(struct peer *p, struct rtmp_msg *m, uint32_t timestamp)
{
    check(rtmp_link_send(&p->link, m, 1, timestamp));
}

void peer_send(struct load *l, struct peer *p, struct rtmp_msg *m, uint32_t timestamp)
{
    peer_queue(p, m, timestamp);
    if (!p->write_wanted)
        peer_flush(l, p);
}

static void send_raw(struct load *l, struct peer *p, const void *buf, size_t len)
{
    check(rtmp_chunk_writer_push_raw(&p->link.out, buf, len));
    peer_flush(l, p);
}

static void send_bytes(struct load *l, struct peer *p, uint8_t type, uint32_t msid, const void *buf,
                       size_t len)
{
    check(rtmp_link_send_bytes(&p->link, type, msid, buf, len));
    peer_flush(l, p);
}

static void send_command(struct load *l, struct peer *p, uint32_t msid, const struct wr *w)
{
    assert(!w->full);
    send_bytes(l, p, RTMP_COMMAND_AMF0, msid, w->p, w->len);
}

void peer_send_headers(struct load *l, struct peer *p)
{
    static const uint8_t meta[] =
        "\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData\x08\x00\x00\x00\x01"
        "\x00\x05width\x00\x40\x9e\x00\x00\x00\x00\x00\x00\x00\x00\x09";
    static const uint8_t avc[] = "\x17\x00\x00\x00\x00\x01\x42\xc0\x1e\xff\xe0\x00";
    static const uint8_t aac[] = "\xaf\x00\x12\x10";
    const size_t skip = p->server ? 16 : 0; /* players get it without "@setDataFrame" */
    send_bytes(l, p, RTMP_DATA_AMF0, 1, meta + skip, sizeof meta - 1 - skip);
    send_bytes(l, p, RTMP_VIDEO, 1, avc, sizeof avc - 1);
    send_bytes(l, p, RTMP_AUDIO, 1, aac, sizeof aac - 1);
}

/* ---- the client's steps ---- */

static void client_connect(struct load *l, struct peer *p)
{
    uint8_t c2[RTMP_HANDSHAKE_BYTES], buf[512];
    bool digest;
    check(rtmp_handshake_confirm(p->hello + 1, l->noise, c2, &digest));
    send_raw(l, p, c2, sizeof c2);
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_connect(&w, TR_CONNECT, "live", "rtmp://127.0.0.1/live", "FMLE/3.0 (load)");
    send_command(l, p, 0, &w);
}

static struct view text(const char *s)
{
    return (struct view){.p = (const uint8_t *)s, .len = strlen(s)};
}

static void client_create_stream(struct load *l, struct peer *p, const char *name)
{
    uint8_t buf[256];
    struct wr w = wr_over(buf, sizeof buf);
    if (p->kind == PEER_PUBLISHER) {
        const uint32_t chunk = l->chunk_bytes ? l->chunk_bytes : p->link.in.chunk_bytes;
        check(rtmp_link_send_chunk_size(&p->link, chunk));
        rtmp_write_call_string(&w, "releaseStream", TR_RELEASE, text(name));
        send_command(l, p, 0, &w);
        w.len = 0;
        rtmp_write_call_string(&w, "FCPublish", TR_FCPUBLISH, text(name));
        send_command(l, p, 0, &w);
        w.len = 0;
    }
    rtmp_write_call(&w, "createStream", TR_CREATE_STREAM, (struct view){0});
    send_command(l, p, 0, &w);
}

static void client_start(struct load *l, struct peer *p, const char *name)
{
    uint8_t buf[256];
    struct wr w = wr_over(buf, sizeof buf);
    if (p->kind == PEER_PUBLISHER)
        rtmp_write_publish(&w, TR_START, name, "live");
    else
        rtmp_write_play(&w, TR_START, name, -1000);
    send_command(l, p, 1, &w);
}

static void now_live(struct load *l, struct peer *p)
{
    p->state = PEER_LIVE;
    p->was_live = true;
    l->role->started(l, p);
}

static void client_command(struct load *l, struct peer *p, const struct rtmp_command *c)
{
    char name[32];
    snprintf(name, sizeof name, "load%u", p->stream_id);
    struct rtmp_status status;
    rtmp_status_read(c, &status);
    if (c->kind == RTMP_CMD_RESULT && c->transaction_id == TR_CONNECT) {
        client_create_stream(l, p, name);
    } else if (c->kind == RTMP_CMD_RESULT && c->transaction_id == TR_CREATE_STREAM) {
        client_start(l, p, name);
    } else if (c->kind == RTMP_CMD_ERROR || view_is(status.level, "error")) {
        peer_end(l, p);
    } else if (c->kind == RTMP_CMD_ON_STATUS && p->state == PEER_COMMAND &&
               (view_is(status.code, "NetStream.Publish.Start") ||
                view_is(status.code, "NetStream.Play.Start"))) {
        now_live(l, p);
    }
}

/* ---- the node's ---- */

static void node_hello(struct load *l, struct peer *p)
{
    uint8_t answer[RTMP_S0S1S2_BYTES];
    rtmp_handshake_reply_simple(p->hello + 1, 0, l->noise, answer);
    send_raw(l, p, answer, RTMP_C0C1_BYTES); /* in two writes, as nginx-rtmp does */
    send_raw(l, p, answer + RTMP_C0C1_BYTES, RTMP_HANDSHAKE_BYTES);
}

static void node_start(struct load *l, struct peer *p, const struct rtmp_command *c)
{
    uint8_t buf[512];
    char name[32] = "";
    const struct view v = c->arg[0].string;
    if (c->arg[0].type == AMF0_STRING && v.len < sizeof name)
        memcpy(name, v.p, v.len);
    if (sscanf(name, "load%u", &p->stream_id) != 1) {
        peer_end(l, p);
        return;
    }
    struct wr w = wr_over(buf, sizeof buf);
    if (c->kind == RTMP_CMD_PUBLISH) {
        p->kind = PEER_PUBLISHER;
        rtmp_write_on_status(&w, "status", "NetStream.Publish.Start", "Start publishing");
    } else {
        p->kind = PEER_PLAYER;
        check(rtmp_link_send_user(&p->link, RTMP_STREAM_BEGIN, 1, 0));
        peer_flush(l, p);
        rtmp_write_on_status(&w, "status", "NetStream.Play.Start", "Start live");
    }
    send_command(l, p, 1, &w);
    if (p->state != PEER_ENDED)
        now_live(l, p);
}

static void node_command(struct load *l, struct peer *p, const struct rtmp_command *c)
{
    uint8_t buf[512];
    struct wr w = wr_over(buf, sizeof buf);
    if (c->kind == RTMP_CMD_CONNECT) { /* each in a write of its own, as nginx-rtmp does */
        check(rtmp_link_send_window(&p->link, RTMP_WINDOW_BYTES));
        peer_flush(l, p);
        check(rtmp_link_send_peer_bandwidth(&p->link, RTMP_WINDOW_BYTES, 2));
        peer_flush(l, p);
        check(rtmp_link_send_chunk_size(&p->link, NGINX_CHUNK_BYTES));
        peer_flush(l, p);
        rtmp_write_connect_result(&w, c->transaction_id);
        send_command(l, p, 0, &w);
    } else if (c->kind == RTMP_CMD_CREATE_STREAM) {
        rtmp_write_number_result(&w, c->transaction_id, 1);
        send_command(l, p, 0, &w);
    } else if ((c->kind == RTMP_CMD_PUBLISH || c->kind == RTMP_CMD_PLAY) &&
               p->state == PEER_COMMAND) {
        node_start(l, p, c);
    }
}

/* ---- reading ---- */

static void take_message(struct load *l, struct peer *p, struct rtmp_msg *m)
{
    const uint8_t *buf;
    struct rtmp_command c;
    if (m->type != RTMP_COMMAND_AMF0) {
        if (p->state == PEER_LIVE)
            l->role->message(l, p, m);
        return;
    }
    check(rtmp_msg_flatten(m, &buf));
    if (rtmp_command_parse(buf, m->len, &c) != PARSE_OK)
        return;
    if (p->server)
        node_command(l, p, &c);
    else
        client_command(l, p, &c);
}

/* A node waits for C0 C1 and then C2, a client for S0 S1 S2. */
static void take_hello(struct load *l, struct peer *p, struct slice *in)
{
    assert(p->hello);
    uint32_t want = RTMP_S0S1S2_BYTES - p->hello_len;
    const bool opening = p->server && p->hello_len < RTMP_C0C1_BYTES;
    if (opening)
        want = RTMP_C0C1_BYTES - p->hello_len;
    const uint32_t n = in->len < want ? in->len : want;
    memcpy(p->hello + p->hello_len, slice_data(in), n);
    p->hello_len += n;
    in->off += n;
    in->len -= n;
    if (n < want)
        return;
    if (opening) {
        node_hello(l, p);
        return;
    }
    p->state = PEER_COMMAND;
    if (!p->server)
        client_connect(l, p);
    free(p->hello);
    p->hello = NULL;
}

static void take_bytes(struct load *l, struct peer *p, struct slice *in)
{
    struct rtmp_msg *m;
    while (p->state == PEER_HANDSHAKE && in->len > 0)
        take_hello(l, p, in);
    while (p->state != PEER_ENDED) {
        const enum parse_result r = rtmp_link_next(&p->link, in, &m);
        if (r == PARSE_BAD) {
            l->tally.corrupt++;
            fprintf(stderr, "load: %s\n", rtmp_chunk_why_name(p->link.in.why));
            peer_end(l, p);
        }
        if (r != PARSE_OK)
            break;
        take_message(l, p, m);
        rtmp_msg_unref(m);
    }
    /* Answers to pings, acknowledgements */
    if (p->state != PEER_ENDED && !p->write_wanted && !rtmp_chunk_writer_empty(&p->link.out))
        peer_flush(l, p);
}

static void peer_read(struct load *l, struct peer *p)
{
    if (l->in && l->in->refs == 1)
        l->in->used = 0;
    if (l->in && l->in->cap - l->in->used < READ_ROOM_BYTES) {
        block_unref(l->in);
        l->in = NULL;
    }
    if (!l->in && !(l->in = block_create(&l->blocks, BLOCK_BYTES)))
        check(ERR_NO_MEMORY);
    const ssize_t n = read(p->fd, l->in->data + l->in->used, l->in->cap - l->in->used);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        peer_end(l, p);
        return;
    }
    struct slice in = {.block = l->in, .off = l->in->used, .len = (uint32_t)n};
    l->in->used += (uint32_t)n;
    take_bytes(l, p, &in);
}

void peer_event(struct load *l, struct peer *p, uint32_t events)
{
    if (p->state != PEER_ENDED && (events & EPOLLOUT)) {
        peer_flush(l, p);
        if (p->state == PEER_LIVE && rtmp_chunk_writer_empty(&p->link.out))
            l->role->writable(l, p);
    }
    if (p->state != PEER_ENDED && (events & ~(uint32_t)EPOLLOUT))
        peer_read(l, p);
}

/* ---- opening and ending ---- */

static struct peer *peer_create(struct load *l, int fd, bool server)
{
    const int one = 1;
    struct peer *p = calloc(1, sizeof *p);
    if (!p || !(p->hello = malloc(RTMP_S0S1S2_BYTES)))
        load_die("memory");
    p->fd = fd;
    p->server = server;
    p->opened_ns = load_now_ns();
    rtmp_link_init(&p->link, &l->pool, &l->limits);
    if (!l->nagle)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = p};
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
        load_die("epoll_ctl");
    return p;
}

struct peer *peer_adopt(struct load *l, int fd)
{
    return peer_create(l, fd, true);
}

static void bind_source(const struct load *l, int fd)
{
    const int one = 1;
    const struct sockaddr_in from = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(FIRST_SOURCE_ADDRESS + l->opened % l->source_addresses)};
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (const struct sockaddr *)&from, sizeof from) < 0)
        load_die("bind");
}

struct peer *peer_open(struct load *l, enum peer_kind kind, uint32_t stream_id)
{
    uint8_t c0c1[RTMP_C0C1_BYTES];
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        load_die("socket");
    if (l->source_addresses)
        bind_source(l, fd);
    l->opened++;
    struct peer *p = peer_create(l, fd, false);
    p->kind = kind;
    p->stream_id = stream_id;
    if (connect(fd, (const struct sockaddr *)&l->target, sizeof l->target) < 0 &&
        errno != EINPROGRESS)
        load_die("connect");
    rtmp_handshake_hello_simple(0, l->noise, c0c1);
    send_raw(l, p, c0c1, sizeof c0c1);
    return p;
}

void peer_end(struct load *l, struct peer *p)
{
    if (p->state == PEER_ENDED)
        return;
    p->state = PEER_ENDED;
    close(p->fd);
    p->next_ended = l->ended;
    l->ended = p;
    l->role->ended(l, p);
}

void peers_reap(struct load *l)
{
    while (l->ended) {
        struct peer *p = l->ended;
        l->ended = p->next_ended;
        rtmp_link_deinit(&p->link);
        free(p->hello);
        free(p);
    }
}
