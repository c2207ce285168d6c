#include <stdlib.h>
#include <string.h>

#include "healthd/conn_io.h"
#include "healthd/probe_io.h"

struct probe_tcp {
    struct probe base;
    struct conn conn;
};

static void destroy(struct probe *base)
{
    struct probe_tcp *p = (struct probe_tcp *)base;
    conn_close(&p->conn);
    free(p);
}

static void on_deadline(struct probe *p)
{
    probe_fail(p, "no connection within %llu ms", (unsigned long long)p->env->policy->timeout_ms);
}

static bool on_conn(struct conn *c, enum conn_event event, struct slice *in, int error)
{
    struct probe_tcp *p = c->owner;
    (void)in;
    if (event == CONN_CONNECTED)
        return probe_pass(&p->base, NULL);
    probe_note_error(&p->base, error);
    return probe_fail(&p->base, "%s", strerror(error));
}

struct probe *probe_tcp_start(struct probe_env *env, const struct probe_target *t)
{
    struct probe_tcp *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    probe_init(&p->base, CHECK_TCP, env, t, env->policy->timeout_ms);
    p->base.destroy = destroy;
    p->base.on_deadline = on_deadline;
    probe_note(&p->base, "connect to %s", t->rtmp_text);
    conn_open(&p->conn, env->loop, &env->blocks, BLOCK_BYTES, &t->rtmp, on_conn, p);
    return &p->base;
}
