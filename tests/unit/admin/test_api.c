/* The API over a real store, without a server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/api.h"
#include "base/clock_io.h"

struct fixture {
    char dir[64], live[96], url[96];
    struct store *store;
    struct config *config;
    struct tokens tokens;
    struct log log;
    int log_fd;
    struct api api;
    struct http_target target;
    struct api_call call;
    struct http_reply reply;
};

static int setup(void **state)
{
    static const char text[] = "cluster: {name: demo}\nlog: {level: info}\n";
    char error[CONFIG_ERROR_MAX];
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/weir-admin-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->live, sizeof f->live, "%s/live", f->dir);
    (void)snprintf(f->url, sizeof f->url, "lmdb:%s/store", f->dir);
    const struct store_options o = {.url = f->url, .live = f->live};
    assert_int_equal(store_open(&o, &f->store, error), ERR_OK);
    assert_int_equal(config_load_buffer("test", text, sizeof text - 1, &f->config, error), ERR_OK);
    char path[80];
    (void)snprintf(path, sizeof path, "%s/log", f->dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    f->log_fd = dup(fileno(file));
    (void)fclose(file);
    log_init(&f->log, f->log_fd, LOG_INFO, LOG_LOGFMT);
    f->api = (struct api){.store = f->store,
                          .config = f->config,
                          .file = "/etc/weir/weir.yaml",
                          .tokens = &f->tokens,
                          .log = &f->log,
                          .event_streams_max = 4};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[96];
    http_reply_clear(&f->reply);
    close(f->log_fd);
    store_close(f->store);
    config_destroy(f->config);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* ---- asking ---- */

struct extra {
    const char *type, *match, *none_match, *authorization, *last_event_id;
    bool proxied;
};

static unsigned ask_with(struct fixture *f, enum http_method m, const char *path, const char *body,
                         const struct extra *x)
{
    f->api.now_ms = clock_wall_ms();
    f->api.mono_ms = clock_mono_ms();
    http_reply_clear(&f->reply);
    assert_int_equal(http_target_parse(path, &f->target), ERR_OK);
    const struct http_request req = {
        .method = m,
        .target = &f->target,
        .content_type = x->type ? x->type
                        : body  ? "application/json"
                                : NULL,
        .if_match = x->match,
        .if_none_match = x->none_match,
        .authorization = x->authorization,
        .last_event_id = x->last_event_id,
        .client = "127.0.0.1:5000",
        .proxied = x->proxied,
        .body = body,
        .body_len = body ? strlen(body) : 0,
    };
    if (api_admit(&f->api, &req, req.body_len, &f->call, &f->reply))
        api_answer(&f->api, &req, &f->call, &f->reply);
    return f->reply.status;
}

static unsigned ask(struct fixture *f, enum http_method m, const char *path, const char *body)
{
    static const struct extra none;
    return ask_with(f, m, path, body, &none);
}

static json_t *answer(struct fixture *f)
{
    json_t *j = json_loadb(f->reply.body ? f->reply.body : f->reply.shared, f->reply.len, 0, NULL);
    assert_non_null(j);
    return j;
}

/* A member of the answer, as text: "next", "items/0/id". */
static void expect(struct fixture *f, const char *path, const char *value)
{
    json_t *whole = answer(f);
    const json_t *at = whole;
    char copy[128], *rest = NULL, found[128];
    (void)snprintf(copy, sizeof copy, "%s", path);
    for (const char *part = strtok_r(copy, "/", &rest); part; part = strtok_r(NULL, "/", &rest))
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(part)) : json_object_get(at, part);
    if (!at)
        fail_msg("%s is missing in %.*s", path, (int)f->reply.len, f->reply.body);
    char *text = json_is_string(at) ? NULL : json_dumps(at, JSON_ENCODE_ANY | JSON_COMPACT);
    (void)snprintf(found, sizeof found, "%s", text ? text : json_string_value(at));
    free(text);
    assert_string_equal(found, value);
    json_decref(whole);
}

static size_t log_count(struct fixture *f, const char *what)
{
    char path[80], line[LOG_LINE_MAX];
    size_t n = 0;
    (void)snprintf(path, sizeof path, "%s/log", f->dir);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        n += strstr(line, what) != NULL;
    (void)fclose(file);
    return n;
}

/* ---- records, as the other processes write them ---- */

static struct session_record add_session(struct fixture *f, enum session_kind kind, const char *key,
                                         const char *node, const char *client)
{
    struct session_record r = {.kind = kind, .worker = {.router = "r1"}, .started_ms = 1};
    assert_int_equal(stream_key_parse(key, &r.key), ERR_OK);
    assert_int_equal(store_session_id(f->store, &r.id, 1), ERR_OK);
    strcpy(r.node, node);
    strcpy(r.client, client);
    assert_int_equal(store_session_put(f->store, &r), ERR_OK);
    return r;
}

static void claimed(void *arg, enum err e, const struct claim *c)
{
    uint64_t *epoch = arg;
    assert_int_equal(e, ERR_OK);
    if (epoch)
        *epoch = c->epoch;
}

static struct session_record publish(struct fixture *f, const char *key, const char *node)
{
    const struct process_record p = {.kind = PROCESS_ROUTER,
                                     .id = {.router = "r1"},
                                     .beat_ms = clock_wall_ms(),
                                     .sessions = 3,
                                     .publishers = 1,
                                     .players = 2,
                                     .version = "9"};
    assert_int_equal(store_process_beat(f->store, &p), ERR_OK);
    const struct session_record r = add_session(f, SESSION_PUBLISH, key, node, "10.0.0.1:4000");
    const struct claim_request req = {.key = &r.key,
                                      .node = node,
                                      .bound = UINT32_MAX,
                                      .worker = r.worker,
                                      .session = r.id,
                                      .now_ms = clock_wall_ms(),
                                      .hold_ms = 30000};
    store_claim_take(f->store, &req, claimed, NULL);
    return r;
}

static void add_node(struct fixture *f, const char *id)
{
    char path[80];
    (void)snprintf(path, sizeof path, "/api/v1/nodes/%s", id);
    assert_int_equal(ask(f, HTTP_PUT, path, "{\"rtmp\": \"127.0.0.1\"}"), 201);
}

/* ---- nodes ---- */

static void test_node_life(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes/n1", NULL), 404);
    add_node(f, "n1");
    assert_string_equal(f->reply.location, "/api/v1/nodes/n1");
    expect(f, "source", "api");
    assert_int_equal(
        ask(f, HTTP_PUT, "/api/v1/nodes/n1", "{\"rtmp\": \"127.0.0.1\", \"weight\": 5}"), 200);
    expect(f, "weight", "5");
    assert_int_equal(ask(f, HTTP_PATCH, "/api/v1/nodes/n1", "{\"max_streams\": 3}"), 200);
    expect(f, "weight", "5");
    assert_int_equal(ask(f, HTTP_PUT, "/api/v1/nodes/n1/state", "{\"state\": \"drain\"}"), 200);
    expect(f, "state", "drain");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes/n1", NULL), 200);
    expect(f, "max_streams", "3");
    expect(f, "state", "drain");
    assert_int_equal(ask(f, HTTP_DELETE, "/api/v1/nodes/n1", NULL), 204);
    assert_int_equal(ask(f, HTTP_DELETE, "/api/v1/nodes/n1", NULL), 404);
    assert_int_equal(log_count(f, "event=api_change"), 5);
    assert_int_equal(ask(f, HTTP_PATCH, "/api/v1/nodes/n1", "{}"), 404);
    assert_int_equal(ask(f, HTTP_PUT, "/api/v1/nodes/n1/state", "{\"state\": \"drain\"}"), 404);
    assert_int_equal(ask(f, HTTP_PUT, "/api/v1/nodes/a%20b", "{\"rtmp\": \"127.0.0.1\"}"), 422);
    expect(f, "errors/0/pointer", "/id");
    assert_int_equal(log_count(f, "event=api_change"), 5); /* what failed changed nothing */
}

static void test_preconditions(void **state)
{
    struct fixture *f = *state;
    static const char body[] = "{\"rtmp\": \"127.0.0.1\"}", other[] = "{\"rtmp\": \"127.0.0.2\"}";
    static const struct extra any = {.match = "*"}, none = {.none_match = "*"},
                              wrong = {.match = "\"12\""};
    assert_int_equal(ask_with(f, HTTP_PUT, "/api/v1/nodes/n1", body, &any), 412);
    assert_int_equal(ask_with(f, HTTP_PUT, "/api/v1/nodes/n1", body, &none), 201);
    char etag[HTTP_HEADER_MAX], weak[HTTP_HEADER_MAX + 2], list[HTTP_HEADER_MAX + 8];
    strcpy(etag, f->reply.etag);
    (void)snprintf(weak, sizeof weak, "W/%s", etag);
    (void)snprintf(list, sizeof list, "\"1\", %s", etag);
    const struct extra this = {.match = etag}, not_strong = {.match = weak},
                       one_of = {.match = list};
    assert_int_equal(ask_with(f, HTTP_PUT, "/api/v1/nodes/n1", other, &none), 412);
    assert_int_equal(ask_with(f, HTTP_PUT, "/api/v1/nodes/n1", other, &wrong), 412);
    assert_int_equal(ask_with(f, HTTP_PUT, "/api/v1/nodes/n1", other, &not_strong), 412);
    assert_int_equal(ask_with(f, HTTP_DELETE, "/api/v1/nodes/n1", NULL, &wrong), 412);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes/n1", NULL), 200);
    expect(f, "rtmp", "127.0.0.1");
    assert_string_equal(f->reply.etag, etag);
    assert_int_equal(ask_with(f, HTTP_PUT, "/api/v1/nodes/n1", other, &one_of), 200);
    assert_string_not_equal(f->reply.etag, etag);
    assert_int_equal(ask_with(f, HTTP_PUT, "/api/v1/nodes/n1", body, &this), 412); /* the old one */
    assert_int_equal(ask_with(f, HTTP_PATCH, "/api/v1/nodes/n1", "{\"weight\": 1}", &any), 200);
}

static void test_configured_node(void **state)
{
    struct fixture *f = *state;
    struct node n = {.source = NODE_FROM_CONFIG};
    uint32_t changed;
    config_node_init(&n.conf);
    strcpy(n.conf.id, "c1");
    strcpy(n.conf.rtmp, "127.0.0.1:1935");
    assert_int_equal(store_nodes_from_config(f->store, &n, 1, &changed), ERR_OK);
    static const enum http_method methods[] = {HTTP_PUT, HTTP_PATCH, HTTP_DELETE};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ask(f, methods[i], "/api/v1/nodes/c1",
                             methods[i] == HTTP_DELETE ? NULL : "{\"rtmp\": \"127.0.0.9\"}"),
                         409);
        json_t *j = answer(f);
        assert_non_null(
            strstr(json_string_value(json_object_get(j, "detail")), "/etc/weir/weir.yaml"));
        json_decref(j);
    }
    assert_int_equal(ask(f, HTTP_PUT, "/api/v1/nodes/c1/state", "{\"state\": \"disabled\"}"), 200);
    expect(f, "state", "disabled");
    expect(f, "source", "config");
    /* the operator's word outlives a reload */
    assert_int_equal(store_nodes_from_config(f->store, &n, 1, &changed), ERR_OK);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes/c1", NULL), 200);
    expect(f, "state", "disabled");
}

static void test_delete_with_streams(void **state)
{
    struct fixture *f = *state;
    add_node(f, "n1");
    (void)publish(f, "live/a", "n1");
    assert_int_equal(ask(f, HTTP_DELETE, "/api/v1/nodes/n1", NULL), 409);
    assert_int_equal(ask(f, HTTP_DELETE, "/api/v1/nodes/n1?force=maybe", NULL), 400);
    assert_int_equal(ask(f, HTTP_DELETE, "/api/v1/nodes/n1?force=false", NULL), 409);
    assert_int_equal(ask(f, HTTP_DELETE, "/api/v1/nodes/n1?force=true", NULL), 204);
}

static void test_node_pages(void **state)
{
    struct fixture *f = *state;
    add_node(f, "n1");
    add_node(f, "n2");
    add_node(f, "n3");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes?limit=2", NULL), 200);
    expect(f, "items/1/id", "n2");
    expect(f, "next", "n2");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes?limit=2&cursor=n2", NULL), 200);
    expect(f, "items/0/id", "n3");
    expect(f, "next", "null");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes?limit=3", NULL), 200);
    expect(f, "next", "null");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes?state=drain", NULL), 200);
    expect(f, "items", "[]");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes?health=unknown&cursor=n1", NULL), 200);
    expect(f, "items/0/id", "n2");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes?state=drained", NULL), 400);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes?health=sick", NULL), 400);
}

static void test_node_health(void **state)
{
    struct fixture *f = *state;
    const uint64_t now = clock_wall_ms();
    const struct node_status st = {.id = "n1",
                                   .health = NODE_DOWN,
                                   .since_ms = now,
                                   .checked_ms = now,
                                   .reason = "rtmp: no handshake",
                                   .latency_us = 12,
                                   .version = "nginx 1.22",
                                   .checks = 9,
                                   .failures = 4};
    const struct process_record healthd = {.kind = PROCESS_HEALTHD, .beat_ms = now};
    add_node(f, "n1");
    assert_int_equal(store_process_beat(f->store, &healthd), ERR_OK);
    assert_int_equal(store_status_put(f->store, &st, 1, now), ERR_OK);
    assert_int_equal(store_dial_failed(f->store, "n1", now), ERR_OK);
    static const char *const paths[] = {"/api/v1/nodes/n1", "/api/v1/nodes"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(ask(f, HTTP_GET, paths[i], NULL), 200);
        expect(f, i ? "items/0/health" : "health", "down");
        expect(f, i ? "items/0/reason" : "reason", "rtmp: no handshake");
        expect(f, i ? "items/0/check_failures" : "check_failures", "4");
        expect(f, i ? "items/0/dial_failures" : "dial_failures", "1");
    }
}

/* ---- streams, sessions ---- */

static void test_streams(void **state)
{
    struct fixture *f = *state;
    add_node(f, "n1");
    add_node(f, "n2");
    (void)publish(f, "live/b", "n2");
    const struct session_record a = publish(f, "live/a", "n1");
    (void)add_session(f, SESSION_PLAY, "live/a", "n1", "10.0.0.2:1");
    (void)add_session(f, SESSION_PLAY, "live/a", "n1", "10.0.0.3:1");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/streams", NULL), 200);
    expect(f, "items/0/key", "live/a");
    expect(f, "items/0/players", "2");
    expect(f, "items/0/client", "10.0.0.1:4000");
    expect(f, "items/0/worker", "r1/0");
    expect(f, "items/1/key", "live/b");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/streams?limit=1", NULL), 200);
    expect(f, "next", "live%2Fa");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/streams?cursor=live%252Fa", NULL), 200);
    expect(f, "items/0/key", "live/b");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/streams?cursor=%25", NULL), 400);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/streams?node=n1", NULL), 200);
    expect(f, "items/0/node", "n1");
    expect(f, "next", "null");
    char hash[10], path[64];
    stream_key_short(&a.key, hash);
    (void)snprintf(path, sizeof path, "/api/v1/streams/%%23%s", hash + 1);
    assert_int_equal(ask(f, HTTP_GET, path, NULL), 200);
    expect(f, "key", "live/a");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/streams/live%2Fa", NULL), 200);
    expect(f, "players", "2");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/streams/live%2Fnone", NULL), 404);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/streams/live", NULL), 400);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/streams/%2300000000", NULL), 404);
}

static bool take_command(void *arg, const struct store_command *c)
{
    *(struct store_command *)arg = *c;
    return false;
}

static struct store_command pending(struct fixture *f)
{
    static const struct worker_id w = {.router = "r1"};
    struct store_command c = {0};
    assert_int_equal(store_commands_pending(f->store, &w, clock_wall_ms(), take_command, &c),
                     ERR_OK);
    return c;
}

static void test_move(void **state)
{
    struct fixture *f = *state;
    add_node(f, "n1");
    const struct session_record p = publish(f, "live/a", "n1");
    for (int done = 0; done < 2; done++) {
        (void)ask(f, HTTP_POST, "/api/v1/streams/live%2Fa/move",
                  done ? "{\"to\": null}" : "{\"to\": \"n1\"}");
        assert_int_equal(f->reply.kind, HTTP_REPLY_WAIT);
        const struct store_command c = pending(f);
        assert_int_equal(c.kind, COMMAND_MOVE);
        assert_int_equal(c.session, p.id);
        assert_string_equal(c.node, done ? "" : "n1");
        assert_int_equal(store_command_finish(f->store, c.id, done ? COMMAND_DONE : COMMAND_FAILED,
                                              "the stream is on that node already"),
                         ERR_OK);
        assert_true(api_poll(&f->api, &f->call, &f->reply));
        assert_int_equal(f->reply.status, done ? 204 : 409);
    }
    assert_int_equal(ask(f, HTTP_POST, "/api/v1/streams/live%2Fb/move", "{\"to\": \"n1\"}"), 404);
    assert_int_equal(ask(f, HTTP_POST, "/api/v1/streams/live%2Fa/move", "{\"to\": \"n9\"}"), 422);
    expect(f, "errors/0/pointer", "/to");
    assert_int_equal(ask(f, HTTP_POST, "/api/v1/streams/live%2Fa/move", "{}"), 422);
    assert_int_equal(
        ask(f, HTTP_POST, "/api/v1/streams/live%2Fa/move", "{\"to\": \"n1\", \"now\": 1}"), 422);
    assert_int_equal(log_count(f, "event=api_change"), 2); /* the node, the move that was taken */
}

static void test_sessions(void **state)
{
    struct fixture *f = *state;
    add_node(f, "n1");
    const struct session_record p = publish(f, "live/a", "n1");
    (void)add_session(f, SESSION_PLAY, "live/a", "n1", "[2001:db8::1]:7");
    (void)add_session(f, SESSION_PLAY, "live/b", "n2", "10.0.0.1:9");
    static const struct {
        const char *query;
        size_t count;
    } cases[] = {
        {"", 3},
        {"?kind=play", 2},
        {"?kind=publish", 1},
        {"?node=n1", 2},
        {"?node=n1&kind=play", 1},
        {"?stream=live%2Fa", 2},
        {"?stream=live/b", 1},
        {"?client=10.0.0.1", 2},
        {"?client=10.0.0.1:9", 1},
        {"?client=10.0.0", 0},
        {"?client=2001:db8::1", 1},
        {"?client=[2001:db8::1]", 1},
        {"?client=[2001:db8::1]:7", 1},
        {"?client=2001:db8::", 0},
        {"?limit=1", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[96];
        (void)snprintf(path, sizeof path, "/api/v1/sessions%s", cases[i].query);
        assert_int_equal(ask(f, HTTP_GET, path, NULL), 200);
        json_t *j = answer(f);
        if (json_array_size(json_object_get(j, "items")) != cases[i].count)
            fail_msg("%s", path);
        json_decref(j);
    }
    char path[96], id[24];
    (void)snprintf(id, sizeof id, "%llu", (unsigned long long)p.id);
    (void)snprintf(path, sizeof path, "/api/v1/sessions?cursor=%s", id);
    assert_int_equal(ask(f, HTTP_GET, path, NULL), 200);
    expect(f, "items/0/kind", "play");
    (void)snprintf(path, sizeof path, "/api/v1/sessions/%s", id);
    assert_int_equal(ask(f, HTTP_GET, path, NULL), 200);
    expect(f, "id", id);
    expect(f, "stream", "live/a");
    static const char *const bad[] = {"?kind=x", "?cursor=x", "?limit=0", "?stream=live",
                                      "?color=1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        (void)snprintf(path, sizeof path, "/api/v1/sessions%s", bad[i]);
        assert_int_equal(ask(f, HTTP_GET, path, NULL), 400);
    }
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/sessions/1", NULL), 404);
    assert_int_equal(ask(f, HTTP_DELETE, "/api/v1/sessions/x", NULL), 404);
}

static void test_kick(void **state)
{
    struct fixture *f = *state;
    char path[96];
    add_node(f, "n1");
    const struct session_record p = publish(f, "live/secret", "n1");
    (void)snprintf(path, sizeof path, "/api/v1/sessions/%llu", (unsigned long long)p.id);
    for (int how = 0; how < 4; how++) {
        /* the session, or the stream: the same command */
        (void)ask(f, HTTP_DELETE, how == 1 ? "/api/v1/streams/live%2Fsecret" : path, NULL);
        assert_int_equal(f->reply.kind, HTTP_REPLY_WAIT);
        assert_false(api_poll(&f->api, &f->call, &f->reply));
        const struct store_command c = pending(f);
        assert_int_equal(c.session, p.id);
        const size_t changes = log_count(f, "event=api_change");
        if (how < 2) {
            assert_int_equal(store_command_finish(f->store, c.id, COMMAND_DONE, "closed"), ERR_OK);
            assert_true(api_poll(&f->api, &f->call, &f->reply));
            assert_int_equal(f->reply.status, 204);
            assert_int_equal(log_count(f, "event=api_change"), changes + 1);
        } else if (how == 2) {
            assert_int_equal(
                store_command_finish(f->store, c.id, COMMAND_FAILED, "no such session"), ERR_OK);
            assert_true(api_poll(&f->api, &f->call, &f->reply));
            assert_int_equal(f->reply.status, 404);
        } else {
            f->api.mono_ms += KICK_WAIT_MS;
            assert_true(api_poll(&f->api, &f->call, &f->reply));
            assert_int_equal(f->reply.status, 503);
            assert_int_equal(pending(f).id, 0); /* withdrawn */
            assert_int_equal(log_count(f, "event=api_change"), changes);
        }
    }
    assert_int_equal(log_count(f, "secret"), 0); /* names are not for the log */
    assert_int_equal(log_count(f, "stream=#"), 2);
    assert_int_equal(ask(f, HTTP_DELETE, "/api/v1/streams/live%2Fother", NULL), 404);
}

/* ---- look-up, cluster ---- */

static void test_lookup(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/lookup?app=live&name=a", NULL), 200);
    expect(f, "node", "null");
    expect(f, "reason", "nowhere");
    add_node(f, "n1");
    add_node(f, "n2");
    assert_int_equal(ask(f, HTTP_PUT, "/api/v1/nodes/n2/state", "{\"state\": \"drain\"}"), 200);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/lookup?app=live&name=a%3Ftoken%3Dx", NULL), 200);
    expect(f, "key", "live/a");
    expect(f, "node", "n1");
    expect(f, "candidates/0/id", "n2"); /* highest score, but */
    expect(f, "candidates/0/eligible", "false");
    expect(f, "candidates/0/why", "draining");
    (void)publish(f, "live/a", "n2");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/lookup?app=live&name=a&kind=play", NULL), 200);
    expect(f, "node", "n2");
    expect(f, "reason", "claim");
    struct stream_key key;
    assert_int_equal(stream_key_parse("live/a", &key), ERR_OK);
    uint64_t epoch = 0;
    store_claim_get(f->store, &key, 30000, clock_wall_ms(), claimed, &epoch);
    const struct claim_move move = {
        .key = &key, .epoch = epoch, .next = "n1", .bound = UINT32_MAX, .now_ms = clock_wall_ms()};
    store_claim_move(f->store, &move, claimed, NULL);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/lookup?app=live&name=a&kind=play", NULL), 200);
    expect(f, "node", "n1"); /* where players are sent while it moves */
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/lookup?app=live", NULL), 400);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/lookup?app=live&name=a&kind=watch", NULL), 400);
}

static void test_lookup_of_found(void **state)
{
    struct fixture *f = *state;
    struct stream_key key;
    add_node(f, "n1");
    assert_int_equal(ask(f, HTTP_PUT, "/api/v1/nodes/n1/state", "{\"state\": \"drain\"}"), 200);
    add_node(f, "n2");
    assert_int_equal(stream_key_parse("live/a", &key), ERR_OK);
    assert_int_equal(store_found_put(f->store, "n2", &key, 1, clock_wall_ms()), ERR_OK);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/lookup?app=live&name=a&kind=play", NULL), 200);
    expect(f, "node", "n2");
    expect(f, "reason", "hint");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/lookup?app=live&name=a", NULL), 200);
    expect(f, "reason", "hash"); /* it may be a ghost: nothing to a publisher */
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/streams/live%2Fa", NULL), 200);
    expect(f, "state", "found");
    assert_int_equal(ask(f, HTTP_DELETE, "/api/v1/streams/live%2Fa", NULL), 404);
}

static void test_cluster(void **state)
{
    struct fixture *f = *state;
    add_node(f, "n1");
    add_node(f, "n2");
    const struct session_record r = publish(f, "live/a", "n1");
    uint64_t epoch = 0;
    store_claim_get(f->store, &r.key, 30000, clock_wall_ms(), claimed, &epoch);
    /* on its way it counts on both nodes, and is one stream */
    const struct claim_move move = {.key = &r.key,
                                    .epoch = epoch,
                                    .next = "n2",
                                    .bound = UINT32_MAX,
                                    .way = CLAIM_WAY_PLANNED,
                                    .now_ms = clock_wall_ms()};
    store_claim_move(f->store, &move, claimed, NULL);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/cluster", NULL), 200);
    expect(f, "name", "demo");
    expect(f, "nodes/total", "2");
    expect(f, "nodes/unknown", "2");
    expect(f, "streams", "1");
    expect(f, "sessions/players", "2");
    expect(f, "processes/workers", "1");
    expect(f, "processes/workers_behind", "1");
    expect(f, "versions/0", "9");
    expect(f, "panic", "false");
    expect(f, "scope", "write"); /* without tokens */
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/workers", NULL), 200);
    expect(f, "items/0/worker", "r1/0");
    expect(f, "items/0/alive", "true");
    struct process_record p = {
        .kind = PROCESS_ROUTER, .id = {.router = "r1"}, .beat_ms = clock_wall_ms()};
    assert_int_equal(store_nodes_version(f->store, &p.nodes_version), ERR_OK);
    assert_int_equal(store_process_beat(f->store, &p), ERR_OK);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/cluster", NULL), 200);
    expect(f, "processes/workers_behind", "0");
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/config", NULL), 200);
    assert_non_null(strstr(f->reply.body, "name: \"demo\""));
    assert_int_equal(ask(f, HTTP_GET, "/healthz", NULL), 200);
    assert_int_equal(ask(f, HTTP_GET, "/readyz", NULL), 200);
    assert_int_equal(ask(f, HTTP_GET, "/metrics", NULL), 200);
    assert_non_null(strstr(f->reply.body, "\nweir_node_streams{node=\"n1\"} 1\n"));
    assert_int_equal(ask(f, HTTP_GET, "/", NULL), 200);
    assert_true(f->reply.policy[0] != '\0');
}

/* ---- admission ---- */

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    static const struct extra xml = {.type = "text/xml"},
                              merge = {.type = "application/merge-patch+json"},
                              charset = {.type = "application/json; charset=utf-8"};
    add_node(f, "n1");
    assert_int_equal(ask(f, HTTP_GET, "/nix", NULL), 404);
    assert_int_equal(ask(f, HTTP_POST, "/api/v1/nodes", "{}"), 405);
    assert_string_equal(f->reply.allow, "GET, HEAD");
    assert_int_equal(ask_with(f, HTTP_PATCH, "/api/v1/nodes/n1", "{}", &xml), 415);
    assert_int_equal(ask_with(f, HTTP_PATCH, "/api/v1/nodes/n1", "{}", &merge), 200);
    assert_string_equal(f->reply.allow, "");
    assert_int_equal(ask_with(f, HTTP_PUT, "/api/v1/nodes/n1", "{}", &merge), 415);
    assert_int_equal(ask_with(f, HTTP_PATCH, "/api/v1/nodes/n1", "{}", &charset), 200);
    static const char *const broken[] = {"", "{", "{} x", "{\"a\":1,\"a\":2}", "\xff"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_int_equal(ask(f, HTTP_PATCH, "/api/v1/nodes/n1", broken[i]), 400);
    f->config->admin.max_request_bytes = 8;
    assert_int_equal(ask(f, HTTP_PATCH, "/api/v1/nodes/n1", "{\"weight\": 3}"), 413);
}

static void test_scopes(void **state)
{
    struct fixture *f = *state;
    /* sha256 of "secret" and of "look" */
    static const char file[] =
        "ops write 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n"
        "eye read 3c01eba119e00d79c82b6f65d70bc5f1044d568618bf41377e6d1432023fc2b8\n";
    static const struct extra ops = {.authorization = "Bearer secret"},
                              eye = {.authorization = "Bearer look"},
                              wrong = {.authorization = "Bearer guess"};
    char error[TOKEN_ERROR_MAX];
    assert_int_equal(tokens_parse(file, sizeof file - 1, &f->tokens, error), ERR_OK);
    static const char state_body[] = "{\"state\": \"drain\"}";
    f->api.denied_log_ms = 0;
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes", NULL), 401);
    assert_true(f->reply.authenticate);
    assert_int_equal(ask(f, HTTP_GET, "/metrics", NULL), 401);
    assert_int_equal(ask_with(f, HTTP_GET, "/api/v1/nodes", NULL, &wrong), 401);
    assert_int_equal(ask_with(f, HTTP_GET, "/api/v1/nodes", NULL, &wrong), 401);
    assert_int_equal(log_count(f, "event=api_denied"), 1); /* one line a second at most */
    assert_int_equal(ask_with(f, HTTP_GET, "/api/v1/nodes", NULL, &eye), 200);
    assert_int_equal(ask_with(f, HTTP_PUT, "/api/v1/nodes/n1/state", state_body, &eye), 403);
    assert_false(f->reply.authenticate);
    assert_int_equal(ask_with(f, HTTP_PUT, "/api/v1/nodes/n1/state", state_body, &ops), 404);
    assert_int_equal(ask_with(f, HTTP_GET, "/api/v1/nodes", NULL, &ops), 200);
    assert_int_equal(ask_with(f, HTTP_GET, "/api/v1/cluster", NULL, &eye), 200);
    expect(f, "scope", "read");
    assert_int_equal(ask_with(f, HTTP_GET, "/api/v1/cluster", NULL, &ops), 200);
    expect(f, "scope", "write");
    static const char *const open[] = {"/", "/healthz", "/readyz", "/openapi.json"};
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        assert_int_equal(ask(f, HTTP_GET, open[i], NULL), 200);
    assert_int_equal(log_count(f, "secret"), 0);
    assert_int_equal(log_count(f, "guess"), 0);
}

/* Loopback is trusted for what it is, not for whom a proxy there lets in. */
static void test_proxy_without_tokens(void **state)
{
    struct fixture *f = *state;
    static const struct extra proxied = {.proxied = true},
                              with_token = {.proxied = true, .authorization = "Bearer secret"};
    static const char *const closed[] = {"/", "/openapi.json", "/metrics", "/api/v1/nodes",
                                         "/api/v1/events"};
    f->api.denied_log_ms = 0;
    for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++) {
        assert_int_equal(ask_with(f, HTTP_GET, closed[i], NULL, &proxied), 403);
        assert_int_equal(ask_with(f, HTTP_GET, closed[i], NULL, &with_token), 403);
        expect(f, "detail",
               "requests through a proxy need tokens: set admin.tokens to a token file");
        assert_int_equal(ask(f, HTTP_GET, closed[i], NULL), 200);
    }
    assert_int_equal(
        ask_with(f, HTTP_PUT, "/api/v1/nodes/n1", "{\"rtmp\": \"127.0.0.1\"}", &proxied), 403);
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/nodes/n1", NULL), 404);
    assert_int_equal(ask_with(f, HTTP_GET, "/healthz", NULL, &proxied), 200);
    assert_int_equal(ask_with(f, HTTP_GET, "/readyz", NULL, &proxied), 200);
    assert_int_equal(log_count(f, "event=api_denied"), 1); /* one line a second at most */
    f->tokens.required = true;                             /* then the token decides */
    assert_int_equal(ask_with(f, HTTP_GET, "/", NULL, &proxied), 200);
    assert_int_equal(ask_with(f, HTTP_GET, "/api/v1/nodes", NULL, &proxied), 401);
}

static bool keep_event(void *arg, const struct store_event *e)
{
    struct store_event **next = arg;
    *(*next)++ = *e;
    return true;
}

static void test_last_events(void **state)
{
    struct fixture *f = *state;
    static const struct extra resumed = {.last_event_id = "17"};
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/events?last=3", NULL), 200);
    assert_true(f->reply.after == UINT64_MAX); /* nothing has happened yet */
    add_node(f, "n1");
    (void)publish(f, "live/a", "n1");
    (void)add_session(f, SESSION_PLAY, "live/a", "n1", "10.0.0.2:1");
    struct store_event events[8] = {0}, *end = events;
    assert_int_equal(store_events_list(f->store, 0, keep_event, &end), ERR_OK);
    assert_int_equal(end - events, 4);
    /* the node, a session, its stream, another session */
    static const struct {
        const char *query;
        int first;
    } cases[] = {
        {"last=1", 3},
        {"last=2", 2},
        {"last=4", 0},
        {"last=5", 0},
        {"last=10000", 0},
        {"last=1&sessions=false", 2},
        {"last=2&sessions=false", 0},
        {"last=3&sessions=false", 0},
        {"last=1&sessions=true", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "/api/v1/events?%s", cases[i].query);
        assert_int_equal(ask(f, HTTP_GET, path, NULL), 200);
        if (f->reply.after != events[cases[i].first].id - 1)
            fail_msg("%s", path);
        assert_int_equal(f->reply.without_sessions, strstr(path, "false") != NULL);
    }
    assert_int_equal(ask_with(f, HTTP_GET, "/api/v1/events?last=2", NULL, &resumed), 200);
    assert_int_equal(f->reply.after, 17); /* a browser that comes back */
    static const char *const bad[] = {"last=0",  "last=10001",     "last=-1",
                                      "last=",   "last=2&after=1", "last=99999999999999999999",
                                      "last=2x", "sessions=no"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "/api/v1/events?%s", bad[i]);
        if (ask(f, HTTP_GET, path, NULL) != 400)
            fail_msg("%s", path);
    }
}

static void test_event_streams(void **state)
{
    struct fixture *f = *state;
    static const struct extra resumed = {.last_event_id = "17"}, broken = {.last_event_id = "x"};
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/events", NULL), 200);
    assert_int_equal(f->reply.kind, HTTP_REPLY_EVENTS);
    assert_true(f->reply.after == UINT64_MAX);
    assert_int_equal(ask_with(f, HTTP_GET, "/api/v1/events", NULL, &resumed), 200);
    assert_int_equal(f->reply.after, 17);
    assert_int_equal(ask_with(f, HTTP_GET, "/api/v1/events?after=3", NULL, &resumed), 200);
    assert_int_equal(f->reply.after, 3);
    assert_int_equal(ask_with(f, HTTP_GET, "/api/v1/events", NULL, &broken), 400);
    f->api.event_streams = f->api.event_streams_max;
    assert_int_equal(ask(f, HTTP_GET, "/api/v1/events", NULL), 503);
    assert_true(f->reply.retry_after_s > 0);
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(test_node_life),       WITH_STORE(test_preconditions),
        WITH_STORE(test_configured_node), WITH_STORE(test_delete_with_streams),
        WITH_STORE(test_node_pages),      WITH_STORE(test_node_health),
        WITH_STORE(test_streams),         WITH_STORE(test_move),
        WITH_STORE(test_sessions),        WITH_STORE(test_kick),
        WITH_STORE(test_lookup),          WITH_STORE(test_lookup_of_found),
        WITH_STORE(test_cluster),         WITH_STORE(test_refusals),
        WITH_STORE(test_scopes),          WITH_STORE(test_proxy_without_tokens),
        WITH_STORE(test_last_events),     WITH_STORE(test_event_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
