/* tests/alloc/admin.c - requests to the API with allocation n failing, ours or jansson's, for each
 * n until the request needs fewer: what is answered is what is answered with memory, or an error of
 * its own; nothing is left out of it, and a body that was not read whole changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>

#include "admin/api.h"
#include "tests/alloc/alloc_fail.h"
#include "tests/unit/cluster/store_fixture.h"

enum { ALLOCATIONS_MAX = 5000 };

struct asked {
    struct http_target target;
    struct api_call call;
    struct http_reply reply;
};

static const struct question {
    enum http_method method;
    const char *path, *body;
    unsigned status; /* with memory */
} questions[] = {
    {HTTP_PUT, "/api/v1/nodes/a-node-with-a-name",
     "{\"rtmp\": \"[2001:db8:0:0:0:0:0:11]:1935\", \"stat\": \"http://10.0.0.1:8080/stat\", "
     "\"weight\": 50, \"state\": \"enabled\"}",
     200},
    {HTTP_PATCH, "/api/v1/nodes/a-node-with-a-name",
     "{\"stat\": \"http://stat-of-node-number-1.example.org/\\u0073tat\", \"weight\": 60}", 200},
    {HTTP_PUT, "/api/v1/nodes/a-node-with-a-name",
     "{\"rtmp\": \"a:b:c\", \"stat\": \"gopher://10.0.0.1\", \"weight\": -1, "
     "\"a_field_of_another_name\": 1, \"another_field/of~no name\": 2, \"state\": \"unknown\"}",
     422},
    {HTTP_PUT, "/api/v1/nodes/a-node-with-a-name", "{\"rtmp\": \"10.0.0.1:1935\", ", 400},
    {HTTP_PUT, "/api/v1/nodes/a-node-with-a-name/state", "{\"state\": \"a state of no name\"}",
     422},
    {HTTP_GET, "/api/v1/nodes", NULL, 200},
    {HTTP_GET, "/api/v1/nodes/a-node-with-a-name", NULL, 200},
    {HTTP_GET, "/api/v1/nodes/no-such-node-\xff", NULL, 404},
    {HTTP_GET, "/api/v1/streams", NULL, 200},
    {HTTP_GET, "/api/v1/streams/live%2Fa%20stream%20with%20a%20name", NULL, 200},
    {HTTP_POST, "/api/v1/streams/live%2Fnothing/move", "{\"to\": \"a-node-with-a-name\"}", 404},
    {HTTP_GET, "/api/v1/sessions?limit=1", NULL, 200},
    {HTTP_GET, "/api/v1/lookup?app=live&name=a%20stream%20with%20\xe9%20name", NULL, 200},
    {HTTP_GET, "/api/v1/workers", NULL, 200},
    {HTTP_GET, "/api/v1/cluster", NULL, 200},
    {HTTP_GET, "/api/v1/config", NULL, 200},
    {HTTP_GET, "/healthz", NULL, 200},
    {HTTP_GET, "/readyz", NULL, 200},
    {HTTP_GET, "/nothing", NULL, 404},
};

/* jansson's come through the wrapped malloc() of this file. */
static void *json_allocates(size_t size)
{
    return malloc(size);
}

static void ask(struct api *a, const struct question *q, uint64_t n, struct asked *out)
{
    *out = (struct asked){0};
    alloc_fail_set(n);
    alloc_fail_enter();
    assert_int_equal(http_target_parse(q->path, &out->target), ERR_OK);
    const struct http_request req = {.method = q->method,
                                     .target = &out->target,
                                     .content_type = q->body ? "application/json" : NULL,
                                     .client = "127.0.0.1:5000",
                                     .body = q->body,
                                     .body_len = q->body ? strlen(q->body) : 0};
    if (api_admit(a, &req, req.body_len, &out->call, &out->reply))
        api_answer(a, &req, &out->call, &out->reply);
    alloc_fail_leave();
}

static const char *text_of(const struct http_reply *r)
{
    return r->body ? r->body : r->shared;
}

static bool same(const struct http_reply *a, const struct http_reply *b)
{
    return a->status == b->status && a->len == b->len &&
           memcmp(text_of(a), text_of(b), a->len) == 0;
}

static uint64_t try_all(struct api *a, const struct question *q)
{
    struct asked whole, now;
    ask(a, q, 0, &whole); /* once, so that what it changes is as it is to be */
    http_reply_clear(&whole.reply);
    ask(a, q, 0, &whole);
    assert_int_equal(whole.reply.status, q->status);
    for (uint64_t n = 1; n < ALLOCATIONS_MAX; n++) {
        ask(a, q, n, &now);
        const bool failed = alloc_fail_happened();
        if (!same(&now.reply, &whole.reply) &&
            (!failed || now.reply.status < 500 ||
             strcmp(now.reply.content_type, "application/problem+json") != 0))
            fail_msg("%s, allocation %llu: %u\n%.*s\nand not %u\n%.*s", q->path,
                     (unsigned long long)n, now.reply.status, (int)now.reply.len,
                     text_of(&now.reply), whole.reply.status, (int)whole.reply.len,
                     text_of(&whole.reply));
        http_reply_clear(&now.reply);
        if (!failed) {
            http_reply_clear(&whole.reply);
            return n - 1;
        }
    }
    fail_msg("%s: too many allocations", q->path);
    return 0;
}

static void fill_store(struct store *s)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct process_record p = {.kind = PROCESS_ROUTER, .id = worker(i), .beat_ms = t0};
        (void)snprintf(p.version, sizeof p.version, "a-version-with-number-%u", (unsigned)i);
        assert_int_equal(store_process_beat(s, &p), ERR_OK);
    }
    for (uint64_t id = 1; id < 3; id++) {
        struct session_record r = {
            .id = id, .kind = SESSION_PUBLISH, .worker = worker(0), .node = "a-node-with-a-name"};
        assert_int_equal(stream_key_parse("live/a stream with a name", &r.key), ERR_OK);
        strcpy(r.client, "10.0.0.1:4000");
        assert_int_equal(store_session_put(s, &r), ERR_OK);
    }
    take(s, (struct take){
                .key = "live/a stream with a name", .node = "a-node-with-a-name", .session = 1});
}

static void test_requests(void **state)
{
    static const char text[] = "cluster: {name: demo}\n";
    struct fixture *f = *state;
    char error[CONFIG_ERROR_MAX];
    struct config *config = NULL;
    struct log log;
    const struct tokens tokens = {0};
    assert_int_equal(config_load_buffer("test", text, sizeof text - 1, &config, error), ERR_OK);
    log_init(&log, open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_INFO, LOG_LOGFMT);
    struct api api = {.store = f->store,
                      .config = config,
                      .file = "/etc/weir/weir.yaml",
                      .tokens = &tokens,
                      .log = &log,
                      .now_ms = t0,
                      .mono_ms = t0};
    fill_store(f->store);
    uint64_t failures = 0;
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++)
        failures += try_all(&api, &questions[i]);
    print_message("%llu allocations failed\n", (unsigned long long)failures);
    close(log.fd);
    config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {STORE_TEST(test_requests)};
    json_set_alloc_funcs(json_allocates, free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
