#include "healthd/rtmp_conn_io.h"

#include <stdio.h>
#include <string.h>

#include "base/clock_io.h"
#include "rtmp/proxy_header.h"

enum { READ_BYTES = 4096 }; /* S0 S1 S2 and the answers fit */

const char *rtmp_conn_waits_for(const struct rtmp_conn *c)
{
    return c->ready ? rtmp_client_waits_for(&c->client) : "connection";
}

static void note(struct rtmp_conn *c, const char *step)
{
    probe_note(c->probe, "%s%s%s", c->what, c->what[0] ? " " : "", step);
}

/* Where the tcp check is asked for as well, this is it. */
static bool not_connected(struct rtmp_conn *c, const char *why)
{
    struct probe *p = c->probe;
    note(c, why);
    if (p->result.check == CHECK_RTMP && p->env->policy->checks & 1u << CHECK_TCP)
        p->result.check = CHECK_TCP;
    return probe_fail(p, "%s", why);
}

static bool say_hello(struct rtmp_conn *c)
{
    struct probe *p = c->probe;
    char tc_url[HOST_MAX + APP_MAX + 16];
    uint8_t proxy[PROXY_V1_MAX + 1];
    snprintf(tc_url, sizeof tc_url, "rtmp://%s/%s", p->target->rtmp_text, c->app);
    const struct rtmp_client_hello h = {
        .proxy = proxy,
        .proxy_len = conn_proxy_header(&c->conn, p->target->send_proxy, proxy, sizeof proxy),
        .noise = p->env->noise,
        .now_ms = (uint32_t)clock_mono_ms(),
        .app = c->app,
        .tc_url = tc_url,
        .name = c->name};
    if (rtmp_client_init(&c->client, &p->env->messages, &p->env->limits, c->goal, &h) != ERR_OK)
        return probe_fail(p, "no memory");
    c->ready = true;
    c->conn.out = &c->client.link.out;
    note(c, h.proxy_len ? "connected, sends PROXY header, hello, connect"
                        : "connected, sends hello, connect");
    conn_flush(&c->conn);
    return true;
}

static bool on_refused(struct rtmp_conn *c)
{
    char waited[48];
    snprintf(waited, sizeof waited, "%s", rtmp_conn_waits_for(c));
    note(c, c->client.code);
    return probe_fail(c->probe, "refused with %s instead of %s",
                      c->client.code[0] ? c->client.code : "an error", waited);
}

static bool on_bytes(struct rtmp_conn *c, struct slice *in)
{
    static const char *const steps[] = {[CLIENT_EV_HANDSHAKE] = "got S0 S1 S2",
                                        [CLIENT_EV_CONNECTED] = "got _result of connect",
                                        [CLIENT_EV_STARTED] = "started",
                                        [CLIENT_EV_VIDEO] = "got a frame"};
    for (;;) {
        enum rtmp_client_event event;
        const enum parse_result r = rtmp_client_next(&c->client, in, &event);
        if (r == PARSE_BAD) {
            note(c, "got what is not RTMP");
            return probe_fail(c->probe, "not an RTMP answer, instead of %s",
                              rtmp_conn_waits_for(c));
        }
        if (r == PARSE_NEED_MORE)
            break;
        if (event == CLIENT_EV_REFUSED)
            return on_refused(c);
        note(c, steps[event]);
        if (!c->handler(c, event))
            return false;
    }
    conn_flush(&c->conn); /* acknowledgements, pongs, the next command */
    return true;
}

static bool on_conn(struct conn *conn, enum conn_event event, struct slice *in, int error)
{
    struct rtmp_conn *c = conn->owner;
    switch (event) {
    case CONN_CONNECTED:
        return say_hello(c);
    case CONN_BYTES:
        return on_bytes(c, in);
    case CONN_ENDED:
        note(c, "closed by the node");
        return probe_fail(c->probe, "closed by the node before %s", rtmp_conn_waits_for(c));
    case CONN_FAILED:
        break;
    }
    probe_note_error(c->probe, error);
    if (!c->ready)
        return not_connected(c, strerror(error));
    note(c, strerror(error));
    return probe_fail(c->probe, "%s before %s", strerror(error), rtmp_conn_waits_for(c));
}

void rtmp_conn_open(struct rtmp_conn *c, struct probe *p, enum rtmp_client_goal goal,
                    const char *what, const char *app, const char *name, rtmp_conn_handler *handler)
{
    *c = (struct rtmp_conn){
        .probe = p, .what = what, .app = app, .name = name, .goal = goal, .handler = handler};
    conn_open(&c->conn, p->env->loop, &p->env->blocks, READ_BYTES, &p->target->rtmp, on_conn, c);
}

void rtmp_conn_close(struct rtmp_conn *c)
{
    conn_close(&c->conn);
    if (c->ready)
        rtmp_client_deinit(&c->client);
    c->ready = false;
}
