#include <stdlib.h>

#include "healthd/probe_io.h"
#include "healthd/rtmp_conn_io.h"

struct probe_rtmp {
    struct probe base;
    struct rtmp_conn conn;
};

static void destroy(struct probe *base)
{
    struct probe_rtmp *p = (struct probe_rtmp *)base;
    rtmp_conn_close(&p->conn);
    free(p);
}

static void on_deadline(struct probe *base)
{
    struct probe_rtmp *p = (struct probe_rtmp *)base;
    const struct config_healthd *policy = base->env->policy;
    if (!p->conn.ready && policy->checks & 1u << CHECK_TCP)
        base->result.check = CHECK_TCP;
    probe_fail(base, "no %s within %llu ms", rtmp_conn_waits_for(&p->conn),
               (unsigned long long)policy->timeout_ms);
}

static bool on_event(struct rtmp_conn *c, enum rtmp_client_event event)
{
    return event == CLIENT_EV_CONNECTED ? probe_pass(c->probe, NULL) : true;
}

struct probe *probe_rtmp_start(struct probe_env *env, const struct probe_target *t)
{
    struct probe_rtmp *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    probe_init(&p->base, CHECK_RTMP, env, t, env->policy->timeout_ms);
    p->base.destroy = destroy;
    p->base.on_deadline = on_deadline;
    probe_note(&p->base, "dials %s", t->rtmp_text);
    rtmp_conn_open(&p->conn, &p->base, GOAL_CONNECT, "", env->policy->app, NULL, on_event);
    return &p->base;
}
