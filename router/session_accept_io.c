#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "router/session_io_parts.h"
#include "rtmp/proxy_header.h"

/* The sum of docs/security.md. What a message weighs besides its payload is in the 512 bytes of its
 * answer or chunk stream; blocks come in powers of two, so what has come may weigh twice as much.
 */
enum {
    UNROUTED_ANSWERS_MAX = 4 + CREATE_STREAMS_MAX + RTMP_PONGS_MAX + 2,
    UNROUTED_HELD = UNROUTED_MESSAGE_BYTES       /* connect, for the node */
                    + 2 * UNROUTED_MESSAGE_BYTES /* begun */
                    + UNROUTED_CSIDS_MAX * 512 + 4096 /* S0 S1 S2 */ + UNROUTED_ANSWERS_MAX * 512,
    UNROUTED_SUM =
        (int)(sizeof(struct session_conn) + sizeof(struct session_stream)) + UNROUTED_HELD,
};
_Static_assert((int)UNROUTED_SUM <= (int)UNROUTED_SESSION_BYTES, "strangers weigh too much");

/* ---- who it is ---- */

static void address_bytes(const struct sockaddr_storage *ss, uint8_t out[16])
{
    memset(out, 0, 16);
    if (ss->ss_family == AF_INET6) {
        memcpy(out, &((const struct sockaddr_in6 *)ss)->sin6_addr, 16);
    } else if (ss->ss_family == AF_INET) {
        out[10] = out[11] = 0xff;
        memcpy(out + 12, &((const struct sockaddr_in *)ss)->sin_addr, 4);
    }
}

static void address_text(const struct sockaddr_storage *ss, char out[ADDRESS_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN] = "?";
    out[0] = '\0';
    if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)ss;
        if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr)) {
            inet_ntop(AF_INET, (const uint8_t *)&a->sin6_addr + 12, host, sizeof host);
            snprintf(out, ADDRESS_TEXT_MAX, "%s:%u", host, ntohs(a->sin6_port));
        } else {
            inet_ntop(AF_INET6, &a->sin6_addr, host, sizeof host);
            snprintf(out, ADDRESS_TEXT_MAX, "[%s]:%u", host, ntohs(a->sin6_port));
        }
    } else if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *a = (const struct sockaddr_in *)ss;
        inet_ntop(AF_INET, &a->sin_addr, host, sizeof host);
        snprintf(out, ADDRESS_TEXT_MAX, "%s:%u", host, ntohs(a->sin_port));
    }
}

static void client_address_known(struct session_conn *c)
{
    address_bytes(&c->peer, c->addr);
    address_text(&c->peer, c->client);
    memcpy(c->s.addr, c->addr, sizeof c->s.addr);
    const enum close_why why =
        admission_identify(&c->w->admission, c->addr, clock_mono_ms(), &c->identified);
    if (why != WHY_NONE)
        session_post(c, &(struct session_event){.kind = SE_CLOSE, .why = why});
}

bool session_read_proxy_header(struct session_conn *c, struct slice *in)
{
    struct proxy_header h;
    size_t used;
    const uint32_t whole = in->off + in->len;
    switch (proxy_header_parse(in->block->data, whole, &h, &used)) {
    case PARSE_NEED_MORE:
        return false;
    case PARSE_BAD:
        session_post(c, &(struct session_event){.kind = SE_CLOSE, .why = WHY_PROXY_BAD});
        return false;
    case PARSE_OK:
        break;
    }
    c->proxy_expected = false;
    c->in.cap = 0;
    *in = (struct slice){.block = in->block, .off = (uint32_t)used, .len = whole - (uint32_t)used};
    if (h.local) { /* a health check, or a client whose address the proxy does not know */
        c->addr_own = false;
        return true;
    }
    c->peer = h.src;
    c->local = h.dst;
    c->addr_own = true;
    client_address_known(c);
    return !c->dead;
}

/* ---- the beginning ---- */

static bool trusted(const struct config_listen *conf, const struct sockaddr_storage *peer)
{
    uint8_t addr[16];
    address_bytes(peer, addr);
    return config_cidrs_contain(&conf->trust, addr);
}

struct session_conn *session_conn_create(struct worker *w, int fd,
                                         const struct sockaddr_storage *peer)
{
    struct session_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->w = w;
    c->fd = fd;
    c->peer = *peer;
    c->nodes[0].fd = c->nodes[1].fd = -1;
    c->nodes[0].setup = c->nodes[1].setup = -1;
    c->opened_ms = clock_mono_ms();
    session_init(&c->s, &w->env, worker_session_id(w), worker_now_ms(w));
    ev_io_init(&c->rd, session_client_ready, fd, EV_READ);
    ev_io_init(&c->wr, session_client_ready, fd, EV_WRITE);
    ev_timer_init(&c->timer, session_on_timer, 0.0, 0.0);
    c->rd.data = c->wr.data = c->timer.data = c;
    socklen_t len = sizeof c->local;
    (void)getsockname(fd, (struct sockaddr *)&c->local, &len);
    c->next = w->conns;
    if (w->conns)
        w->conns->prev = c;
    w->conns = c;
    w->conn_count++;
    return c;
}

/* At once, whatever still waits to be sent. */
static void evict(struct session_conn *c)
{
    session_post(c, &(struct session_event){.kind = SE_CLOSE, .why = WHY_LIMIT_UNROUTED});
    session_finish(c);
}

void session_accept(struct worker *w, const struct worker_listener *l, int fd,
                    const struct sockaddr_storage *peer)
{
    char text[ADDRESS_TEXT_MAX];
    address_text(peer, text);
    const bool proxied = l->conf.proxy_protocol == LISTEN_PROXY_REQUIRED;
    if (proxied && !trusted(&l->conf, peer)) {
        worker_refuse(w, WHY_PROXY_UNTRUSTED, text);
        close(fd);
        return;
    }
    if (admission_is_crowded(&w->admission) && w->unrouted_first)
        evict(w->unrouted_first);
    const enum close_why why = admission_connect(&w->admission);
    if (why != WHY_NONE) {
        worker_refuse(w, why, text);
        close(fd);
        return;
    }
    struct session_conn *c = session_conn_create(w, fd, peer);
    if (!c) {
        admission_leave(&w->admission, NULL);
        worker_refuse(w, WHY_LIMIT_MEMORY, text);
        close(fd);
        return;
    }
    w->process.accepted++;
    w->setting_up = true;
    socket_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    socket_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    c->proxy_expected = proxied;
    c->addr_own = true;
    snprintf(c->client, sizeof c->client, "%s", text);
    if (!proxied)
        client_address_known(c);
    if (!c->dead)
        session_run(c);
}
