#define _GNU_SOURCE
#include "admin/server_io.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/event_text.h"
#include "base/clock_io.h"
#include "base/net_io.h"

enum {
    SPARE_CONNECTIONS = 64, /* accepted while evicted ones are still being closed */
    COMMAND_POLL_MS = 20,   /* how often a command that is waited for is looked at */
    EVENTS_POLL_MS = 200,   /* how often new events are looked for */
    KEEP_ALIVE_MS = 10000,  /* an event stream says something so often: else a client that is gone
                               goes unnoticed */
    SEND_TIMEOUTS = 6,      /* a reply may take as many request_timeouts to be taken */
    ANSWER_LEAST_MS = 1000, /* and has so long even if others have no room */
    STREAMS_SHARE = 4,      /* of all connections a quarter may be event streams */
    DISCARD_MAX = 16, /* of a body that is too long, as many times the limit are read to the end for
                         the 413 */
    BODY_ROOM_FIRST = 4096,
    DEFAULT_PORT = 8090,
};

/* ---- connections ---- */

enum conn_state {
    CONN_READING = 0,
    CONN_WAITING, /* for what a worker answers */
    CONN_ANSWERING,
    CONN_STREAMING,
};

struct conn {
    struct conn *prev, *next; /* in the order of their age */
    int fd;
    enum conn_state state;
    uint64_t answering_ms; /* since when; monotonic */
    uint64_t deadline_ms;
    bool shut;
};

/* One request. */
struct exchange {
    struct server *server;
    struct MHD_Connection *mhd;
    struct conn *conn;
    struct exchange *prev, *next; /* of those that wait for a command or stream events */
    bool listed, begun, refused, suspended, ending;
    char *body;
    size_t body_len, body_room, body_sent;
    enum err body_error;
    struct http_target target;
    enum err target_error;
    char client[ADDRESS_TEXT_MAX];
    struct api_call call;
    struct http_reply reply;
    /* of an event stream */
    uint64_t seen; /* last event taken from the store */
    uint64_t said_ms;
    char text[EVENT_TEXT_MAX];
    size_t text_len, text_sent;
    bool follows; /* events that are missing behind `seen` are told of */
};

struct server {
    struct api *api;
    struct MHD_Daemon *daemon;
    int epoll;
    struct conn *oldest, *newest;
    uint32_t conn_count;
    struct exchange *listed; /* waiting or streaming */
    uint64_t last_event;     /* newest known */
    uint64_t events_at_ms;   /* when to look again */
    bool quiesced;
};

static void conn_unlink(struct server *s, struct conn *c)
{
    *(c->prev ? &c->prev->next : &s->oldest) = c->next;
    *(c->next ? &c->next->prev : &s->newest) = c->prev;
}

static void conn_append(struct server *s, struct conn *c)
{
    c->prev = s->newest;
    c->next = NULL;
    *(s->newest ? &s->newest->next : &s->oldest) = c;
    s->newest = c;
}

/* libmicrohttpd owns the descriptor: it sees the end and closes it. */
static void conn_shut(struct conn *c)
{
    if (!c->shut)
        (void)shutdown(c->fd, SHUT_RDWR);
    c->shut = true;
}

/* A request or the pause before one begins. */
static void conn_reading(struct server *s, struct conn *c, uint64_t limit_ms)
{
    c->state = CONN_READING;
    c->deadline_ms = clock_mono_ms() + limit_ms;
    conn_unlink(s, c);
    conn_append(s, c);
}

/* Whoever is slowest at asking goes; if nobody is, whoever is slowest at listening. */
static void make_room(struct server *s)
{
    struct conn *worst = NULL;
    for (struct conn *c = s->oldest; c; c = c->next) {
        if (c->shut)
            continue;
        if (c->state == CONN_READING) {
            conn_shut(c);
            return;
        }
        if (c->state == CONN_ANSWERING && (!worst || c->answering_ms < worst->answering_ms))
            worst = c;
    }
    if (worst && clock_mono_ms() - worst->answering_ms >= ANSWER_LEAST_MS)
        conn_shut(worst);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct server *s = cls;
    struct conn *c = *context;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (c) {
            conn_unlink(s, c);
            s->conn_count--;
            free(c);
        }
        *context = NULL;
        return;
    }
    c = calloc(1, sizeof *c);
    if (!c)
        return; /* its requests are answered by closing it */
    c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    c->deadline_ms = clock_mono_ms() + s->api->config->admin.request_timeout_ms;
    if (s->conn_count >= s->api->config->admin.max_connections)
        make_room(s);
    conn_append(s, c);
    s->conn_count++;
    *context = c;
}

static void close_late(struct server *s, uint64_t now)
{
    for (struct conn *c = s->oldest; c; c = c->next)
        if (c->state != CONN_STREAMING && now >= c->deadline_ms)
            conn_shut(c);
}

/* ---- exchanges ---- */

static void list_exchange(struct exchange *x)
{
    struct server *s = x->server;
    x->prev = NULL;
    x->next = s->listed;
    if (s->listed)
        s->listed->prev = x;
    s->listed = x;
    x->listed = true;
}

static void unlist_exchange(struct exchange *x)
{
    if (!x->listed)
        return;
    *(x->prev ? &x->prev->next : &x->server->listed) = x->next;
    if (x->next)
        x->next->prev = x->prev;
    x->listed = false;
}

static void suspend(struct exchange *x)
{
    x->suspended = true;
    MHD_suspend_connection(x->mhd);
}

static void resume(struct exchange *x)
{
    if (x->suspended)
        MHD_resume_connection(x->mhd);
    x->suspended = false;
}

/* Called with the request line, before anything else of the request. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct server *s = cls;
    struct exchange *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->server = s;
    x->mhd = mhd;
    x->conn = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    x->target_error = http_target_parse(uri, &x->target);
    if (x->conn)
        conn_reading(s, x->conn, s->api->config->admin.request_timeout_ms);
    return x;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct server *s = cls;
    struct exchange *x = *context;
    (void)mhd;
    (void)code;
    if (!x)
        return;
    if (x->conn) /* twice: an idle one is closed by libmicrohttpd, and never in the middle of the
                    next request */
        conn_reading(s, x->conn, 2 * s->api->config->admin.request_timeout_ms);
    if (x->reply.kind == HTTP_REPLY_EVENTS && x->listed)
        s->api->event_streams--;
    unlist_exchange(x);
    http_reply_clear(&x->reply);
    free(x->body);
    free(x);
    *context = NULL;
}

static const char *header(struct exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, name);
}

static void write_client(struct exchange *x)
{
    const struct sockaddr *a =
        MHD_get_connection_info(x->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    const socklen_t len =
        a->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(a, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        (void)snprintf(x->client, sizeof x->client,
                       a->sa_family == AF_INET6 ? "[%.46s]:%.5s" : "%.46s:%.5s", host, port);
}

static struct http_request request_of(struct exchange *x, const char *method)
{
    return (struct http_request){
        .method = http_method_parse(method),
        .target = &x->target,
        .content_type = header(x, "Content-Type"),
        .authorization = header(x, "Authorization"),
        .if_match = header(x, "If-Match"),
        .if_none_match = header(x, "If-None-Match"),
        .last_event_id = header(x, "Last-Event-ID"),
        .host = header(x, "Host"),
        .client = x->client,
        .forwarded = header(x, "X-Forwarded-For"),
        .proxied = header(x, "X-Forwarded-For") || header(x, "Forwarded"),
        .body = x->body,
        .body_len = x->body_len,
    };
}

static void set_time(struct server *s)
{
    s->api->now_ms = clock_wall_ms();
    s->api->mono_ms = clock_mono_ms();
    s->api->connections = s->conn_count;
}

/* ---- replies ---- */

static bool add_header(struct MHD_Response *r, const char *name, const char *value)
{
    return !value || !value[0] || MHD_add_response_header(r, name, value) == MHD_YES;
}

/* False: no memory. Some of them keep browsers from doing harm: all or no answer. */
static bool add_headers(struct MHD_Response *response, const struct http_reply *r)
{
    char seconds[16] = "";
    if (r->retry_after_s)
        (void)snprintf(seconds, sizeof seconds, "%u", (unsigned)r->retry_after_s);
    return add_header(response, "Content-Type", r->content_type) &&
           add_header(response, "Cache-Control", r->cache_control) &&
           add_header(response, "ETag", r->etag) && add_header(response, "Location", r->location) &&
           add_header(response, "Allow", r->allow) &&
           add_header(response, "Retry-After", seconds) &&
           add_header(response, "Content-Security-Policy", r->policy) &&
           add_header(response, "WWW-Authenticate",
                      r->authenticate ? "Bearer realm=\"weir\"" : NULL) &&
           add_header(response, "X-Content-Type-Options", "nosniff") &&
           add_header(response, "Referrer-Policy", "no-referrer");
}

static ssize_t read_events(void *cls, uint64_t pos, char *buf, size_t max);

static enum MHD_Result queue(struct exchange *x, struct MHD_Response *response)
{
    if (!response)
        return MHD_NO;
    const enum MHD_Result done = add_headers(response, &x->reply)
                                     ? MHD_queue_response(x->mhd, x->reply.status, response)
                                     : MHD_NO;
    MHD_destroy_response(response);
    return done;
}

static enum MHD_Result send_reply(struct exchange *x)
{
    struct http_reply *r = &x->reply;
    if (x->conn) {
        x->conn->state = CONN_ANSWERING;
        x->conn->answering_ms = clock_mono_ms();
        x->conn->deadline_ms = x->conn->answering_ms +
                               SEND_TIMEOUTS * x->server->api->config->admin.request_timeout_ms;
    }
    if (r->shared)
        return queue(x, MHD_create_response_from_buffer(r->len, (void *)(uintptr_t)r->shared,
                                                        MHD_RESPMEM_PERSISTENT));
    if (!r->body)
        return queue(
            x, MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT));
    char *body = r->body; /* the response's from here on */
    r->body = NULL;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(r->len, body, MHD_RESPMEM_MUST_FREE);
    if (!response)
        free(body);
    return queue(x, response);
}

static bool note_last(void *arg, const struct store_event *e)
{
    struct server *s = arg;
    s->last_event = e->id;
    return true;
}

static void learn_last(struct server *s)
{
    const enum err e = store_events_list(s->api->store, s->last_event, note_last, s);
    (void)e; /* what cannot be read now is asked for again soon */
}

static enum MHD_Result start_stream(struct exchange *x)
{
    struct server *s = x->server;
    learn_last(s); /* what is older than this request is not new */
    x->seen = x->reply.after < s->last_event ? x->reply.after : s->last_event;
    /* from 0 on: all that is kept, whatever is missing before that */
    x->follows = x->reply.after == UINT64_MAX ? x->seen != 0 : x->reply.after != 0;
    x->said_ms = clock_mono_ms();
    x->text_len = (size_t)snprintf(x->text, sizeof x->text, "retry: 1000\n\n");
    if (x->conn)
        x->conn->state = CONN_STREAMING;
    list_exchange(x);
    s->api->event_streams++;
    return queue(x, MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, EVENT_TEXT_MAX, read_events,
                                                      x, NULL));
}

static enum MHD_Result give(struct exchange *x)
{
    switch (x->reply.kind) {
    case HTTP_REPLY_NOW:
        break;
    case HTTP_REPLY_EVENTS:
        return start_stream(x);
    case HTTP_REPLY_WAIT:
        if (x->conn) {
            x->conn->state = CONN_WAITING;
            x->conn->deadline_ms = UINT64_MAX; /* the command has its own */
        }
        list_exchange(x);
        suspend(x);
        return MHD_YES;
    }
    return send_reply(x);
}

/* ---- requests ---- */

/* What cannot even be asked. */
static bool is_readable(struct exchange *x)
{
    if (x->target_error == ERR_LIMIT)
        http_reply_problem(&x->reply, 414, "path and query may have %d bytes", HTTP_TARGET_MAX - 1);
    else if (x->target_error != ERR_OK)
        http_reply_problem(&x->reply, 400, "the path or the query is not valid");
    return x->target_error == ERR_OK;
}

static size_t announced_length(struct exchange *x)
{
    const char *text = header(x, "Content-Length");
    return text ? strtoull(text, NULL, 10) : 0;
}

static bool has_body(struct exchange *x)
{
    return announced_length(x) > 0 || header(x, "Transfer-Encoding");
}

static enum MHD_Result begin(struct exchange *x, const char *method)
{
    write_client(x);
    set_time(x->server);
    x->begun = true;
    const struct http_request req = request_of(x, method);
    x->refused = !is_readable(x) ||
                 !api_admit(x->server->api, &req, announced_length(x), &x->call, &x->reply);
    /* A refusal does not wait for the body; libmicrohttpd then closes the connection. */
    return x->refused && has_body(x) ? send_reply(x) : MHD_YES;
}

static enum err keep_body(struct exchange *x, const char *data, size_t len)
{
    const size_t max = x->server->api->config->admin.max_request_bytes;
    if (x->body_len + len > max)
        return ERR_LIMIT;
    if (x->body_len + len > x->body_room) {
        size_t room = x->body_room ? 2 * x->body_room : BODY_ROOM_FIRST;
        while (room < x->body_len + len)
            room *= 2;
        char *more = realloc(x->body, room);
        if (!more)
            return ERR_NO_MEMORY;
        x->body = more;
        x->body_room = room;
    }
    memcpy(x->body + x->body_len, data, len);
    x->body_len += len;
    return ERR_OK;
}

/* libmicrohttpd takes a reply only before or after a body: one that is too long is read to its end,
 * within reason. */
static enum MHD_Result take_body(struct exchange *x, const char *data, size_t *len)
{
    const size_t max = x->server->api->config->admin.max_request_bytes;
    x->body_sent += *len;
    if (x->body_sent / DISCARD_MAX > max)
        return MHD_NO;
    if (x->body_error == ERR_OK)
        x->body_error = keep_body(x, data, *len);
    *len = 0;
    return MHD_YES;
}

static enum MHD_Result answer(struct exchange *x, const char *method)
{
    struct server *s = x->server;
    set_time(s);
    if (x->body_error == ERR_LIMIT) {
        http_reply_problem(&x->reply, 413, "a body may have %u bytes (admin.max_request)",
                           (unsigned)s->api->config->admin.max_request_bytes);
    } else if (x->body_error != ERR_OK) {
        http_reply_problem(&x->reply, 500, "out of memory");
    } else {
        const struct http_request req = request_of(x, method);
        api_answer(s->api, &req, &x->call, &x->reply);
    }
    return give(x);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *upload_data,
                                  size_t *upload_len, void **context)
{
    struct exchange *x = *context;
    (void)cls;
    (void)mhd;
    (void)url;
    (void)version;
    if (!x)
        return MHD_NO;
    if (!x->begun)
        return begin(x, method);
    if (*upload_len > 0)
        return take_body(x, upload_data, upload_len);
    if (x->listed) { /* resumed: what was waited for has come */
        unlist_exchange(x);
        return send_reply(x);
    }
    return x->refused ? send_reply(x) : answer(x, method);
}

static void poll_commands(struct server *s)
{
    struct exchange *next;
    for (struct exchange *x = s->listed; x; x = next) {
        next = x->next;
        if (x->reply.kind == HTTP_REPLY_WAIT && x->suspended &&
            api_poll(s->api, &x->call, &x->reply))
            resume(x);
    }
}

/* ---- event streams ---- */

static bool append_event(void *arg, const struct store_event *e)
{
    struct exchange *x = arg;
    size_t len = x->text_len;
    if (x->follows && e->id > x->seen + 1 &&
        !event_text_append_lost(e->id - 1, x->text, sizeof x->text, &len))
        return false;
    const bool wanted = !x->reply.without_sessions || !event_is_of_session(e);
    if (wanted && !event_text_append(e, x->text, sizeof x->text, &len)) {
        if (x->text_len > 0)
            return false; /* the next time, when there is room */
        len = 0;
    }
    x->text_len = len;
    x->follows = true;
    x->seen = e->id;
    return true;
}

static void fill_text(struct exchange *x)
{
    const uint64_t now = clock_mono_ms();
    x->text_len = x->text_sent = 0;
    if (x->seen < x->server->last_event &&
        store_events_list(x->server->api->store, x->seen, append_event, x) != ERR_OK)
        x->text_len = 0;
    if (x->text_len == 0 && now - x->said_ms >= KEEP_ALIVE_MS)
        x->text_len = (size_t)snprintf(x->text, sizeof x->text, ": still here\n\n");
    if (x->text_len)
        x->said_ms = now;
}

static ssize_t read_events(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct exchange *x = cls;
    (void)pos;
    if (x->text_sent == x->text_len && !x->ending)
        fill_text(x);
    const size_t left = x->text_len - x->text_sent, n = left < max ? left : max;
    if (n == 0) {
        if (x->ending)
            return MHD_CONTENT_READER_END_OF_STREAM;
        suspend(x);
        return 0;
    }
    memcpy(buf, x->text + x->text_sent, n);
    x->text_sent += n;
    return (ssize_t)n;
}

/* Streams with something to say go on; the others stay suspended and cost nothing. */
static void poll_events(struct server *s, uint64_t now)
{
    if (now < s->events_at_ms)
        return;
    s->events_at_ms = now + EVENTS_POLL_MS;
    learn_last(s);
    for (struct exchange *x = s->listed; x; x = x->next)
        if (x->reply.kind == HTTP_REPLY_EVENTS &&
            (x->seen < s->last_event || now - x->said_ms >= KEEP_ALIVE_MS))
            resume(x);
}

void server_end_streams(struct server *s)
{
    for (struct exchange *x = s->listed; x; x = x->next) {
        if (x->reply.kind != HTTP_REPLY_EVENTS)
            continue;
        x->ending = true;
        resume(x);
    }
}

/* ---- the loop ---- */

int server_descriptor(const struct server *s)
{
    return s->epoll;
}

static bool any_command(const struct server *s)
{
    for (const struct exchange *x = s->listed; x; x = x->next)
        if (x->reply.kind == HTTP_REPLY_WAIT)
            return true;
    return false;
}

uint64_t server_wait_ms(const struct server *s, uint64_t max_ms)
{
    MHD_UNSIGNED_LONG_LONG due;
    uint64_t wait = max_ms;
    if (MHD_get_timeout(s->daemon, &due) == MHD_YES && due < wait)
        wait = due;
    if (any_command(s) && wait > COMMAND_POLL_MS)
        wait = COMMAND_POLL_MS;
    return wait < EVENTS_POLL_MS ? wait : EVENTS_POLL_MS;
}

void server_turn(struct server *s)
{
    set_time(s);
    poll_commands(s);
    poll_events(s, s->api->mono_ms);
    close_late(s, s->api->mono_ms);
    (void)MHD_run(s->daemon);
}

bool server_quiesce(struct server *s)
{
    if (!s->quiesced) {
        const int fd = MHD_quiesce_daemon(s->daemon);
        if (fd >= 0)
            close(fd);
        s->quiesced = true;
        server_end_streams(s);
    }
    for (const struct conn *c = s->oldest; c; c = c->next)
        if (c->state != CONN_READING)
            return false;
    return s->listed == NULL;
}

/* ---- beginning and end ---- */

static int open_socket(const struct addrinfo *a)
{
    const int on = 1, off = 0;
    const int fd =
        socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
        return fd;
    const int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static int listen_on(const char *address, char *error)
{
    char host[HOST_MAX], service[8];
    uint16_t port;
    struct addrinfo *found = NULL;
    const struct addrinfo want = {.ai_family = AF_UNSPEC,
                                  .ai_socktype = SOCK_STREAM,
                                  .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    if (config_split_address(address, DEFAULT_PORT, host, &port) != ERR_OK)
        port = 0; /* the key table let it pass: cannot be */
    (void)snprintf(service, sizeof service, "%u", (unsigned)port);
    if (getaddrinfo(host[0] ? host : net_every_host(), service, &want, &found) != 0 || !found) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "admin.listen: %s has no address", address);
        return -1;
    }
    const int fd = open_socket(net_listen_address(found));
    if (fd < 0)
        (void)snprintf(error, CONFIG_ERROR_MAX, "cannot listen on %s: %s", address,
                       strerror(errno));
    freeaddrinfo(found);
    return fd;
}

static struct MHD_Daemon *start_daemon(struct server *s, int fd)
{
    const struct config_admin *c = &s->api->config->admin;
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, s,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK, on_uri, s,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
        s, MHD_OPTION_CONNECTION_LIMIT, (unsigned)(c->max_connections + SPARE_CONNECTIONS),
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)((c->request_timeout_ms + 999) / 1000),
        MHD_OPTION_END);
}

enum err server_create(struct api *a, struct server **out, char *error)
{
    struct server *s = calloc(1, sizeof *s);
    if (!s) {
        (void)snprintf(error, CONFIG_ERROR_MAX, "out of memory");
        return ERR_NO_MEMORY;
    }
    s->api = a;
    a->event_streams_max = a->config->admin.max_connections / STREAMS_SHARE;
    const int fd = listen_on(a->config->admin.listen, error);
    if (fd >= 0)
        s->daemon = start_daemon(s, fd);
    if (!s->daemon) {
        if (fd >= 0) {
            (void)snprintf(error, CONFIG_ERROR_MAX, "the HTTP server does not start");
            close(fd);
        }
        free(s);
        return ERR_IO;
    }
    s->epoll = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    learn_last(s);
    *out = s;
    return ERR_OK;
}

void server_destroy(struct server *s)
{
    if (!s)
        return;
    server_end_streams(s);
    for (struct exchange *x = s->listed; x; x = x->next) {
        if (x->reply.kind == HTTP_REPLY_WAIT)
            http_reply_problem(&x->reply, 503, "the server ends");
        resume(x); /* libmicrohttpd does not stop with suspended ones */
    }
    (void)MHD_run(s->daemon);
    MHD_stop_daemon(s->daemon);
    free(s);
}
