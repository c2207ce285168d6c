#include "admin/node_input.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum field_kind { FIELD_TEXT = 0, FIELD_NUMBER, FIELD_BANDWIDTH };

/* A macro because offsetof and sizeof take the member's name. */
#define MEMBER(member)                                                                             \
    offsetof(struct config_node, member), sizeof(((struct config_node *)NULL)->member)

static const struct field {
    const char *name, *key; /* ours; the key table's */
    enum field_kind kind;
    size_t offset, size;
} fields[] = {
    {"rtmp", "rtmp", FIELD_TEXT, MEMBER(rtmp)},
    {"stat", "stat", FIELD_TEXT, MEMBER(stat)},
    {"weight", "weight", FIELD_NUMBER, MEMBER(weight)},
    {"max_streams", "max_streams", FIELD_NUMBER, MEMBER(max_streams)},
    {"max_sessions", "max_sessions", FIELD_NUMBER, MEMBER(max_sessions)},
    {"max_bandwidth_bps", "max_bandwidth", FIELD_BANDWIDTH, MEMBER(max_bandwidth)},
    {"send_proxy", "send_proxy", FIELD_TEXT, MEMBER(send_proxy)},
};

/* What a node shows besides: known, but not for writing. */
static const char *const shown[] = {
    "address",
    "source",
    "leaving",
    "health",
    "health_since",
    "reason",
    "streams",
    "sessions",
    "checked_at",
    "latency_us",
    "bandwidth_in_bps",
    "clients",
    "publishers",
    "version",
    "pid",
    "bandwidth_out_bps",
    "process_started_at",
    "generations",
    "skewed",
    "stuck",
    "flapping",
    "checks",
    "check_failures",
    "transitions",
    "dial_failures",
    "dial_failed_at",
};

static const struct field *find_field(const char *name)
{
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    }
    return NULL;
}

static bool is_shown(const char *name)
{
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        if (strcmp(shown[i], name) == 0)
            return true;
    }
    return false;
}

/* The value as the file would have it. False: of the wrong type. */
static bool write_value(const struct field *f, const json_t *value, char *buf, size_t cap)
{
    if (f->kind == FIELD_TEXT) {
        if (!json_is_string(value) || json_string_length(value) >= cap)
            return false;
        (void)snprintf(buf, cap, "%s", json_string_value(value));
        return true;
    }
    if (!json_is_integer(value))
        return false;
    const json_int_t v = json_integer_value(value);
    (void)snprintf(buf, cap, "%" JSON_INTEGER_FORMAT "%s", v,
                   f->kind == FIELD_BANDWIDTH && v != 0 ? "bit/s" : "");
    return true;
}

/* The key table's sentence begins with its own name of the key. */
static const char *without_key(const char *error, const char *key)
{
    const size_t n = strlen(key);
    return strncmp(error, key, n) == 0 && strncmp(error + n, ": ", 2) == 0 ? error + n + 2 : error;
}

static void set_field(const struct field *f, const json_t *value, struct config_node *conf,
                      struct http_field_errors *errors)
{
    char text[CONFIG_URL_MAX], error[CONFIG_ERROR_MAX] = "";
    if (!write_value(f, value, text, sizeof text))
        http_field_errors_add(errors, f->name, "%s: %s is expected", f->name,
                              f->kind == FIELD_TEXT ? "a string of reasonable length"
                                                    : "an integer");
    else if (config_node_set(conf, f->key, text, error) != ERR_OK)
        http_field_errors_add(errors, f->name, "%s: %s", f->name, without_key(error, f->key));
}

static void reset_field(const struct field *f, struct config_node *conf)
{
    struct config_node fresh;
    config_node_init(&fresh);
    memcpy((char *)conf + f->offset, (const char *)&fresh + f->offset, f->size);
}

static void set_state(const json_t *value, enum node_admin *out, struct http_field_errors *errors)
{
    const char *text = json_string_value(value);
    if (!text || node_admin_parse(text, out) != ERR_OK)
        http_field_errors_add(errors, "state",
                              "state: one of enabled, drain, disabled is expected");
}

static void apply_member(const char *name, const json_t *value, enum node_input_mode mode,
                         struct node *n, struct http_field_errors *errors)
{
    const struct field *f = find_field(name);
    if (f && json_is_null(value) && mode == NODE_INPUT_PATCH) {
        reset_field(f, &n->conf);
    } else if (f) {
        set_field(f, value, &n->conf, errors);
    } else if (strcmp(name, "state") == 0) {
        set_state(value, &n->admin, errors);
    } else if (strcmp(name, "id") == 0) {
        const char *id = json_string_value(value);
        if (!id || strcmp(id, n->conf.id) != 0)
            http_field_errors_add(errors, name, "id: is the one of the path, %s", n->conf.id);
    } else if (is_shown(name)) {
        http_field_errors_add(errors, name, "%s: cannot be set", name);
    } else {
        http_field_errors_add(
            errors, name,
            "%.64s: unknown field; known are id, rtmp, stat, weight, max_streams, "
            "max_sessions, max_bandwidth_bps, send_proxy, state",
            name);
    }
}

/* resolve: looking a name up may block for seconds. */
static void check_whole(struct node *n, bool resolve, struct http_field_errors *errors)
{
    char error[CONFIG_ERROR_MAX] = "";
    if (n->conf.rtmp[0] == '\0')
        http_field_errors_add(errors, "rtmp", "rtmp: must be given");
    else if (config_node_check(&n->conf, error) != ERR_OK)
        http_field_errors_add(errors, "", "%s", error);
    else if (resolve && node_resolve(&n->conf, &n->addr) != ERR_OK)
        http_field_errors_add(errors, "rtmp", "rtmp: %s has no address", n->conf.rtmp);
}

void node_input_apply(const json_t *body, enum node_input_mode mode, struct node *n,
                      struct http_field_errors *errors)
{
    if (!json_is_object(body)) {
        http_field_errors_add(errors, "", "an object is expected");
        return;
    }
    if (mode == NODE_INPUT_PUT) {
        struct config_node fresh;
        config_node_init(&fresh);
        memcpy(fresh.id, n->conf.id, sizeof fresh.id);
        n->conf = fresh;
    }
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, name, value)
        apply_member(name, value, mode, n, errors);
    const bool same = mode == NODE_INPUT_PATCH && !json_object_get(body, "rtmp");
    if (errors->count == 0)
        check_whole(n, !same || n->addr.ss_family == 0, errors);
}

void node_input_state(const json_t *body, enum node_admin *out, struct http_field_errors *errors)
{
    if (!json_is_object(body)) {
        http_field_errors_add(errors, "", "an object is expected");
        return;
    }
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, name, value) if (strcmp(name, "state") != 0)
        http_field_errors_add(errors, name, "%.64s: unknown field; only state is known", name);
    set_state(json_object_get(body, "state"), out, errors);
}
