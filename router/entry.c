/* The part of a session's machine that reads what a publish or play asks for, lets it in or not,
 * and words it as nodes get it. */
#include "router/session_parts.h"

#include <stdlib.h>

#include "base/query.h"

static uint64_t fnv1a(uint64_t h, struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        h = (h ^ v.p[i]) * 0x100000001b3u;
    return h;
}

/* Same non-zero hash: the same publish arguments, so most likely the same encoder. */
static uint64_t hash_args(struct view app, struct view name)
{
    const struct view a = query_args(app), n = query_args(name);
    if (a.len + n.len == 0)
        return 0;
    return fnv1a(fnv1a(0xcbf29ce484222325u, a), n) | 1u;
}

/* A player's token is not the node's to see, so that it does not keep it from a shared link; a
 * publisher with the same one is the same. */
static uint64_t hash_args_for_node(const struct session *s, struct view app, struct view name)
{
    uint8_t buf[APP_MAX + STREAM_NAME_MAX];
    struct wr w = wr_over(buf, sizeof buf);
    if (!s->token || s->kind == SESSION_PUBLISH)
        return hash_args(app, name);
    query_write_without(&w, app, access_args);
    app = (struct view){.p = buf, .len = w.len};
    query_write_without(&w, name, access_args);
    return hash_args(app, (struct view){.p = buf + app.len, .len = w.len - app.len});
}

struct rtmp_msg *entry_command(const struct session *s, struct rtmp_msg *m)
{
    const uint8_t *payload;
    struct rtmp_msg *copy = NULL;
    if (rtmp_msg_flatten(m, &payload) != ERR_OK)
        return NULL;
    const size_t room = (size_t)m->len + COMMAND_GROWS;
    uint8_t *buf = malloc(room);
    struct wr w = wr_over(buf, buf ? room : 0);
    if (buf &&
        rtmp_write_command_forward(&w, payload, m->len, s->token ? access_args : NULL) == ERR_OK)
        copy = rtmp_msg_from_bytes(s->env->pool, m->type, CLIENT_MSID, m->timestamp, buf, w.len);
    free(buf);
    return copy;
}

/* Whether the client may publish or play s->key, and there is room for one more of that
 * application. */
static enum close_why admit(struct session *s, struct view app, struct view name, struct view vhost,
                            uint64_t now_ms)
{
    const struct session_env *env = s->env;
    struct stream_key without_vhost;
    const struct access_request req = {
        .kind = s->kind,
        .key = &s->key,
        .vhost = vhost,
        .app = app,
        .tc_url = s->client.info.tc_url,
        .name = name,
        .addr = s->addr,
        .now_s = (now_ms + env->wall_offset_ms) / 1000,
    };
    const enum close_why why = access_check(&env->access, &req, &s->token);
    if (why != WHY_NONE)
        return why;
    if (stream_key_make(app, name, (struct view){0}, &without_vhost) != ERR_OK)
        return WHY_NAME_BAD;
    return admission_enter_app(env->admission, &without_vhost, now_ms, &s->app);
}

static void refuse_entry(struct session *s, enum close_why why, uint64_t now_ms)
{
    const bool full = why == WHY_LIMIT_APP || why == WHY_LIMIT_APP_RATE;
    const char *code =
        s->kind == SESSION_PUBLISH && !full ? "NetStream.Publish.Denied" : session_failed_code(s);
    const char *text = full                       ? "the application has too many streams now"
                       : why == WHY_TOKEN_EXPIRED ? "the token has expired"
                                                  : "access denied";
    session_refuse(s, why, code, text, now_ms);
}

bool entry_take(struct session *s, const struct client_event *ev, uint64_t now_ms)
{
    const struct amf0_value *arg = &ev->cmd.arg[0];
    const struct view app = s->client.info.app;
    const struct view name = arg->type == AMF0_STRING ? arg->string : (struct view){0};
    const struct view vhost =
        s->env->vhost ? stream_key_vhost(s->client.info.tc_url, app, name) : (struct view){0};
    if (arg->type != AMF0_STRING || name.len >= STREAM_NAME_MAX ||
        stream_key_make(app, name, vhost, &s->key) != ERR_OK) {
        session_refuse(s, WHY_NAME_BAD,
                       s->kind == SESSION_PUBLISH ? "NetStream.Publish.BadName"
                                                  : "NetStream.Play.Failed",
                       "not a stream name that can be routed", now_ms);
        return false;
    }
    const enum close_why why = admit(s, app, name, vhost, now_ms);
    if (why != WHY_NONE) {
        refuse_entry(s, why, now_ms);
        return false;
    }
    s->args_hash = hash_args_for_node(s, app, name);
    if (!s->stream)
        s->stream = calloc(1, sizeof *s->stream);
    s->command = entry_command(s, ev->msg);
    if (!s->stream || !s->command) {
        session_close(s, WHY_LIMIT_MEMORY, now_ms);
        return false;
    }
    return true;
}
