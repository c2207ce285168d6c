/* The part of a session's machine for players that share a node link (relay.share_playback): those
 * who have a seat, and the one without a client that plays for all of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/query.h"
#include "router/session_parts.h"

/* Nodes that take names literally, or the app of tcUrl, play the same to whoever sends the stream's
 * name as we have it. */
static bool is_named_plainly(const struct session *s, struct view name)
{
    const struct view app = query_path(s->client.info.app);
    const struct view url_app = stream_key_url_app(s->client.info.tc_url);
    name = query_path(name);
    const size_t len = app.len + 1 + name.len; /* in front of it there may be a vhost */
    if (len > s->key.len ||
        (url_app.len > 0 && (url_app.len != app.len || memcmp(url_app.p, app.p, app.len) != 0)))
        return false;
    const char *end = s->key.text + s->key.len - len;
    return (end == s->key.text || end[-1] == '/') && memcmp(end, app.p, app.len) == 0 &&
           end[app.len] == '/' && memcmp(end + app.len + 1, name.p, name.len) == 0;
}

static bool is_negative_or_absent(const struct amf0_value *v)
{
    return v->type == AMF0_UNDEFINED || v->type == AMF0_NULL ||
           (v->type == AMF0_NUMBER && v->number < 0);
}

bool session_may_share(const struct session *s)
{
    const uint8_t *payload;
    struct rtmp_command cmd;
    if (s->kind != SESSION_PLAY || s->state != SESS_PLACE || s->args_hash != 0 || s->alone ||
        s->leads || rtmp_msg_flatten(s->command, &payload) != ERR_OK ||
        rtmp_command_parse(payload, s->command->len, &cmd) != PARSE_OK)
        return false;
    /* section 7.2.2.1: a start from 0 on asks for a recording, a duration for so much of it */
    return is_negative_or_absent(&cmd.arg[1]) && is_negative_or_absent(&cmd.arg[2]) &&
           is_named_plainly(s, cmd.arg[0].string);
}

unsigned session_init_lead(struct session *s, const struct session_env *env, uint64_t id,
                           struct share *share, const struct session *like, uint64_t now_ms)
{
    session_init(s, env, id, now_ms);
    s->client_gone = true; /* there is none */
    s->client.connect = malloc(like->client.connect_len);
    s->stream = calloc(1, sizeof *s->stream);
    if (!s->client.connect || !s->stream)
        return 0;
    memcpy(s->client.connect, like->client.connect, like->client.connect_len);
    s->client.connect_len = like->client.connect_len;
    struct rtmp_command connect;
    if (rtmp_command_parse(s->client.connect, s->client.connect_len, &connect) != PARSE_OK)
        return 0;
    rtmp_connect_read(&connect, &s->client.info);
    s->client.phase = CLIENT_MESSAGES;
    s->leads = share;
    share->lead = s;
    s->kind = SESSION_PLAY;
    s->key = like->key;
    s->token = like->token;
    s->command = rtmp_msg_ref(like->command);
    s->asked_ms = now_ms;
    session_enter(s, SESS_COMMAND, now_ms);
    session_enter(s, SESS_PLACE, now_ms);
    session_look_up(s);
    return s->actions;
}

void shared_play_seated(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (s->state != SESS_PLACE || s->phase != PHASE_LOOKUP)
        return;
    if (!share_take_seat(ev->share, &s->seat, &s->client.link)) {
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
        return;
    }
    s->phase = PHASE_SHARE;
    s->placed = true;
}

void shared_play_started(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (s->state != SESS_PLACE || s->phase != PHASE_SHARE)
        return;
    snprintf(s->node, sizeof s->node, "%s", ev->node);
    s->placed_by = ev->reason;
    s->node_started_ms = now_ms;
    if (s->started_ms == 0)
        s->started_ms = now_ms;
    pending_clear(&s->pending);
    session_enter(s, SESS_RELAY, now_ms);
    if (!s->told_start &&
        rtmp_link_send_user(&s->client.link, RTMP_STREAM_BEGIN, CLIENT_MSID, 0) != ERR_OK)
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
    if (s->state == SESS_RELAY && !s->told_start)
        session_tell_start(s, now_ms);
    if (s->state != SESS_RELAY)
        return;
    share_open(&s->seat, now_ms);
    s->actions |= ACT_STARTED;
}

void shared_play_ended(struct session *s, const struct session_event *ev, uint64_t now_ms)
{
    if (!s->seat.share)
        return;
    share_leave_seat(&s->seat);
    snprintf(s->refusal, sizeof s->refusal, "%s", ev->node);
    if (ev->why == WHY_NODE_REFUSED)
        session_refused_by_node(s, now_ms);
    else
        session_refuse(s, ev->why, session_failed_code(s), "no media node can take the stream now",
                       now_ms);
}

void shared_play_leave(struct session *s, uint64_t now_ms)
{
    const struct session *lead = s->seat.share ? s->seat.share->lead : NULL;
    s->alone = true; /* also if it has no seat yet: the command may come with the play */
    if (!lead)
        return;
    if (s->state == SESS_RELAY && s->seat.playing &&
        !s->seat.blind) { /* on a link of its own it goes on behind what it has had */
        s->rehome.splice = lead->rehome.splice;
        s->rehome.publication = lead->rehome.publication;
    }
    share_leave_seat(&s->seat);
    if (s->state == SESS_RELAY) {
        session_enter(s, SESS_PLACE, now_ms);
        rehome_ask_again(s, now_ms);
    }
    if (s->state == SESS_PLACE)
        session_look_up(s);
}
