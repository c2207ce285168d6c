#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock_io.h"
#include "healthd/loop_clip.h"
#include "healthd/probe_io.h"
#include "healthd/rtmp_conn_io.h"

enum {
    TURNS = 3
}; /* publish, play, media: as many answers to wait for, so as many times the timeout */

struct probe_loop {
    struct probe base;
    struct rtmp_conn publisher, player;
    bool playing; /* the player's connection is open */
    ev_timer frame;
    uint32_t timestamp;
    char name[32];
};

static void destroy(struct probe *base)
{
    struct probe_loop *p = (struct probe_loop *)base;
    ev_timer_stop(base->env->loop, &p->frame);
    rtmp_conn_close(&p->player);
    rtmp_conn_close(&p->publisher);
    free(p);
}

static void on_deadline(struct probe *base)
{
    struct probe_loop *p = (struct probe_loop *)base;
    probe_fail(base, "no %s for the %s within %llu ms",
               rtmp_conn_waits_for(p->playing ? &p->player : &p->publisher),
               p->playing ? "player" : "publisher",
               (unsigned long long)base->env->policy->timeout_ms * TURNS);
}

static enum err send_video(struct probe_loop *p, const uint8_t *bytes, size_t len)
{
    struct rtmp_client *c = &p->publisher.client;
    struct rtmp_msg *m =
        rtmp_msg_from_bytes(&p->base.env->messages, RTMP_VIDEO, c->msid, p->timestamp, bytes, len);
    if (!m)
        return ERR_NO_MEMORY;
    const enum err e = rtmp_link_send(&c->link, m, c->msid, p->timestamp);
    rtmp_msg_unref(m);
    return e;
}

static void on_frame(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct probe_loop *p = timer->data;
    (void)loop;
    (void)events;
    p->timestamp += LOOP_CLIP_FRAME_MS;
    if (send_video(p, loop_clip_frame, sizeof loop_clip_frame) != ERR_OK)
        probe_fail(&p->base, "no memory");
    else
        conn_flush(&p->publisher.conn);
}

static bool on_player(struct rtmp_conn *c, enum rtmp_client_event event)
{
    return event == CLIENT_EV_VIDEO ? probe_pass(c->probe, NULL) : true;
}

static bool on_publisher(struct rtmp_conn *c, enum rtmp_client_event event)
{
    struct probe_loop *p = (struct probe_loop *)c->probe;
    if (event != CLIENT_EV_STARTED)
        return true;
    if (send_video(p, loop_clip_header, sizeof loop_clip_header) != ERR_OK)
        return probe_fail(&p->base, "no memory");
    ev_timer_start(p->base.env->loop, &p->frame);
    p->playing = true;
    rtmp_conn_open(&p->player, &p->base, GOAL_PLAY, "player", p->base.env->policy->loop_app,
                   p->name, on_player);
    return true;
}

struct probe *probe_loop_start(struct probe_env *env, const struct probe_target *t)
{
    struct probe_loop *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    probe_init(&p->base, CHECK_LOOP, env, t, env->policy->timeout_ms * TURNS);
    p->base.destroy = destroy;
    p->base.on_deadline = on_deadline;
    /* Another one each time: the last one's publisher may still be there for a while */
    snprintf(p->name, sizeof p->name, "probe%" PRIx64, clock_mono_us());
    ev_timer_init(&p->frame, on_frame, 0.0, LOOP_CLIP_FRAME_MS / 1000.0);
    p->frame.data = p;
    probe_note(&p->base, "dials %s", t->rtmp_text);
    rtmp_conn_open(&p->publisher, &p->base, GOAL_PUBLISH, "publisher", env->policy->loop_app,
                   p->name, on_publisher);
    return &p->base;
}
