#include "rtmp/command.h"

#include <math.h>

#include "base/limits.h"
#include "base/query.h"

enum { COMMAND_ARGS = sizeof(((struct rtmp_command *)0)->arg) / sizeof(struct amf0_value) };

static const struct {
    const char *name;
    enum rtmp_command_kind kind;
} kinds[] = {
    {"connect", RTMP_CMD_CONNECT},
    {"createStream", RTMP_CMD_CREATE_STREAM},
    {"releaseStream", RTMP_CMD_RELEASE_STREAM},
    {"FCPublish", RTMP_CMD_FCPUBLISH},
    {"FCUnpublish", RTMP_CMD_FCUNPUBLISH},
    {"FCSubscribe", RTMP_CMD_FCSUBSCRIBE},
    {"getStreamLength", RTMP_CMD_GET_STREAM_LENGTH},
    {"publish", RTMP_CMD_PUBLISH},
    {"play", RTMP_CMD_PLAY},
    {"play2", RTMP_CMD_PLAY2},
    {"pause", RTMP_CMD_PAUSE},
    {"pauseRaw", RTMP_CMD_PAUSE},
    {"seek", RTMP_CMD_SEEK},
    {"receiveAudio", RTMP_CMD_RECEIVE_AUDIO},
    {"receiveVideo", RTMP_CMD_RECEIVE_VIDEO},
    {"deleteStream", RTMP_CMD_DELETE_STREAM},
    {"closeStream", RTMP_CMD_CLOSE_STREAM},
    {"_checkbw", RTMP_CMD_CHECK_BW},
    {"_result", RTMP_CMD_RESULT},
    {"_error", RTMP_CMD_ERROR},
    {"onStatus", RTMP_CMD_ON_STATUS},
    {"onBWDone", RTMP_CMD_ON_BW_DONE},
    {"onFCPublish", RTMP_CMD_ON_FCPUBLISH},
    {"onFCUnpublish", RTMP_CMD_ON_FCPUBLISH},
    {"onFCSubscribe", RTMP_CMD_ON_FCPUBLISH},
    {"close", RTMP_CMD_CLOSE},
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool same_letters(struct view v, const char *s)
{
    size_t i = 0;
    while (i < v.len && s[i] && lower((char)v.p[i]) == lower(s[i]))
        i++;
    return i == v.len && s[i] == '\0';
}

enum rtmp_command_kind rtmp_command_kind(struct view name)
{
    const uint8_t *nul = name.len ? memchr(name.p, '\0', name.len) : NULL;
    if (nul)
        name.len = (size_t)(nul - name.p);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (same_letters(name, kinds[i].name))
            return kinds[i].kind;
    }
    return RTMP_CMD_OTHER;
}

/* Some senders leave the transaction id out; then r stays where it is. */
static enum parse_result read_transaction_id(struct rd *r, double *out)
{
    struct rd at = *r;
    struct amf0_value v;
    *out = 0;
    if (r->left == 0)
        return PARSE_OK;
    const enum parse_result result = amf0_read(&at, &v);
    if (result != PARSE_OK || v.type != AMF0_NUMBER)
        return result;
    *r = at;
    *out = isfinite(v.number) ? v.number : 0;
    return PARSE_OK;
}

static enum parse_result read_args(struct rd *r, struct rtmp_command *c)
{
    uint32_t count = 0;
    for (; r->left > 0; count++) {
        struct amf0_value v;
        if (count >= AMF_PROPERTIES_MAX || amf0_read(r, &v) != PARSE_OK)
            return PARSE_BAD;
        if (count == 0)
            c->object = v;
        else if (count <= COMMAND_ARGS)
            c->arg[count - 1] = v;
    }
    c->arg_count = count > 0 ? count - 1 : 0;
    return PARSE_OK;
}

enum parse_result rtmp_command_parse(const uint8_t *buf, size_t len, struct rtmp_command *out)
{
    if (len > COMMAND_BYTES_MAX)
        return PARSE_BAD;
    struct rd r = rd_over(buf, len);
    struct amf0_value name;
    if (amf0_read(&r, &name) != PARSE_OK || name.type != AMF0_STRING)
        return PARSE_BAD;

    struct rtmp_command c = {.kind = rtmp_command_kind(name.string), .name = name.string};
    c.object.type = AMF0_UNDEFINED;
    for (size_t i = 0; i < COMMAND_ARGS; i++)
        c.arg[i].type = AMF0_UNDEFINED;
    if (read_transaction_id(&r, &c.transaction_id) != PARSE_OK)
        return PARSE_BAD;
    c.args = (struct view){.p = r.p, .len = r.left};
    if (read_args(&r, &c) != PARSE_OK)
        return PARSE_BAD;
    *out = c;
    return PARSE_OK;
}

/* view stays as it is where there is no such string. */
static void get_string(const struct amf0_value *object, const char *key, struct view *view)
{
    struct view v;
    if (amf0_get_string(object, key, &v))
        *view = v;
}

void rtmp_connect_read(const struct rtmp_command *c, struct rtmp_connect *out)
{
    *out = (struct rtmp_connect){0};
    get_string(&c->object, "app", &out->app);
    get_string(&c->object, "tcUrl", &out->tc_url);
    get_string(&c->object, "flashVer", &out->flash_ver);
    double v = 0;
    if (amf0_get_number(&c->object, "objectEncoding", &v))
        out->object_encoding = v;
    if (amf0_get_number(&c->object, "capsEx", &v) && v >= 0 && v <= UINT32_MAX)
        out->caps_ex = (uint32_t)v;
}

void rtmp_status_read(const struct rtmp_command *c, struct rtmp_status *out)
{
    *out = (struct rtmp_status){0};
    get_string(&c->arg[0], "level", &out->level);
    get_string(&c->arg[0], "code", &out->code);
    get_string(&c->arg[0], "description", &out->description);
}

static bool has_properties(const struct amf0_value *v)
{
    return v->type == AMF0_OBJECT || v->type == AMF0_ECMA_ARRAY || v->type == AMF0_TYPED_OBJECT;
}

static void write_string_property(struct wr *w, const char *key, const char *value)
{
    amf0_write_key(w, key);
    amf0_write_string(w, value);
}

static void write_number_property(struct wr *w, const char *key, double value)
{
    amf0_write_key(w, key);
    amf0_write_number(w, value);
}

static void write_string_without(struct wr *w, struct view text, const char *const *without)
{
    uint8_t buf[AMF_STRING_MAX];
    struct wr rest = wr_over(buf, sizeof buf);
    query_write_without(&rest, text, without);
    w->full = w->full || rest.full;
    amf0_write_string_view(w, (struct view){.p = buf, .len = rest.len});
}

/* Nodes differ in which of two they take, so they get the one that we have taken. */
static bool is_overruled(const struct amf0_value *object, struct view key,
                         const struct amf0_value *v)
{
    struct amf0_value last;
    const char *name = view_is(key, "app") ? "app" : view_is(key, "tcUrl") ? "tcUrl" : NULL;
    return name && amf0_get(object, name, &last) && last.raw.p != v->raw.p;
}

static void write_forwarded_object(struct wr *w, const struct amf0_value *object,
                                   const char *tc_url_if_absent, const char *const *without)
{
    struct amf0_walk walk = amf0_walk_begin(object);
    struct view key, tc_url;
    const bool adds_tc_url = tc_url_if_absent && !amf0_get_string(object, "tcUrl", &tc_url);
    struct amf0_value v;
    wr_bytes(w, object->raw.p, object->raw.len - walk.r.left); /* marker, array count, class name */
    while (amf0_walk_next(&walk, &key, &v)) {
        if (is_overruled(object, key, &v) || (adds_tc_url && view_is(key, "tcUrl")))
            continue;
        wr_u16be(w, (uint32_t)key.len);
        wr_bytes(w, key.p, key.len);
        if (v.type == AMF0_NUMBER && view_is(key, "objectEncoding"))
            amf0_write_number(w, 0); /* nodes that are asked for 3 answer in AMF3 */
        else if ((v.type == AMF0_STRING || v.type == AMF0_LONG_STRING) && without)
            write_string_without(w, v.string, without);
        else
            wr_bytes(w, v.raw.p, v.raw.len);
    }
    if (adds_tc_url) {
        static const char *const nothing[] = {NULL};
        amf0_write_key(w, "tcUrl");
        tc_url =
            (struct view){.p = (const uint8_t *)tc_url_if_absent, .len = strlen(tc_url_if_absent)};
        write_string_without(w, tc_url, without ? without : nothing);
    }
    amf0_write_object_end(w);
}

enum err rtmp_write_connect_forward(struct wr *w, const uint8_t *client_connect, size_t len,
                                    const char *tc_url_if_absent, const char *const *without)
{
    struct rtmp_command c;
    if (rtmp_command_parse(client_connect, len, &c) != PARSE_OK || c.kind != RTMP_CMD_CONNECT)
        return ERR_INVALID;
    amf0_write_string_view(w, c.name);
    amf0_write_number(w, 1);
    struct view rest = c.args;
    if (has_properties(&c.object)) {
        write_forwarded_object(w, &c.object, tc_url_if_absent, without);
        rest.p += c.object.raw.len;
        rest.len -= c.object.raw.len;
    }
    wr_bytes(w, rest.p, rest.len);
    return w->full ? ERR_LIMIT : ERR_OK;
}

enum err rtmp_write_command_forward(struct wr *w, const uint8_t *command, size_t len,
                                    const char *const *without)
{
    static const char *const nothing[] = {NULL};
    struct rtmp_command c;
    if (rtmp_command_parse(command, len, &c) != PARSE_OK)
        return ERR_INVALID;
    if (c.arg[0].type == AMF0_STRING) {
        const uint8_t *behind = c.arg[0].raw.p + c.arg[0].raw.len;
        amf0_write_string_view(w, c.name);
        amf0_write_number(w, c.transaction_id);
        amf0_write_null(w);
        write_string_without(w, c.arg[0].string, without ? without : nothing);
        wr_bytes(w, behind, (size_t)(command + len - behind));
    } else {
        wr_bytes(w, command, len);
    }
    return w->full ? ERR_LIMIT : ERR_OK;
}

static void write_head(struct wr *w, const char *name, double tr)
{
    amf0_write_string(w, name);
    amf0_write_number(w, tr);
}

static void write_head_null(struct wr *w, const char *name, double tr)
{
    write_head(w, name, tr);
    amf0_write_null(w);
}

/* level, code, description, in the order in which every server writes them. */
static void write_info(struct wr *w, const char *level, const char *code, const char *description)
{
    write_string_property(w, "level", level);
    write_string_property(w, "code", code);
    write_string_property(w, "description", description);
}

void rtmp_write_connect(struct wr *w, double tr, const char *app, const char *tc_url,
                        const char *flash_ver)
{
    write_head(w, "connect", tr);
    amf0_write_object_begin(w);
    write_string_property(w, "app", app);
    write_string_property(w, "type", "nonprivate");
    write_string_property(w, "flashVer", flash_ver);
    write_string_property(w, "tcUrl", tc_url);
    amf0_write_object_end(w);
}

void rtmp_write_connect_result(struct wr *w, double tr)
{
    write_head(w, "_result", tr);
    amf0_write_object_begin(w);
    write_string_property(w, "fmsVer", "FMS/3,0,1,123");
    write_number_property(w, "capabilities", 31);
    amf0_write_object_end(w);
    amf0_write_object_begin(w);
    write_info(w, "status", "NetConnection.Connect.Success", "Connection succeeded.");
    write_number_property(w, "objectEncoding", 0);
    amf0_write_object_end(w);
}

void rtmp_write_connect_error(struct wr *w, double tr, const char *code, const char *description)
{
    write_head_null(w, "_error", tr);
    amf0_write_object_begin(w);
    write_info(w, "error", code, description);
    amf0_write_object_end(w);
}

void rtmp_write_number_result(struct wr *w, double tr, double value)
{
    write_head_null(w, "_result", tr);
    amf0_write_number(w, value);
}

void rtmp_write_null_result(struct wr *w, double tr)
{
    write_head_null(w, "_result", tr);
    amf0_write_null(w);
}

void rtmp_write_on_status(struct wr *w, const char *level, const char *code,
                          const char *description)
{
    write_head_null(w, "onStatus", 0);
    amf0_write_object_begin(w);
    write_info(w, level, code, description);
    amf0_write_object_end(w);
}

void rtmp_write_call(struct wr *w, const char *name, double tr, struct view encoded_args)
{
    write_head_null(w, name, tr);
    wr_bytes(w, encoded_args.p, encoded_args.len);
}

void rtmp_write_call_string(struct wr *w, const char *name, double tr, struct view s)
{
    write_head_null(w, name, tr);
    amf0_write_string_view(w, s);
}

void rtmp_write_call_number(struct wr *w, const char *name, double tr, double v)
{
    write_head_null(w, name, tr);
    amf0_write_number(w, v);
}

void rtmp_write_publish(struct wr *w, double tr, const char *name, const char *type)
{
    write_head_null(w, "publish", tr);
    amf0_write_string(w, name);
    amf0_write_string(w, type);
}

void rtmp_write_play(struct wr *w, double tr, const char *name, double start)
{
    write_head_null(w, "play", tr);
    amf0_write_string(w, name);
    amf0_write_number(w, start);
}
