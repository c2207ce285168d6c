#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "admin/event_text.h"
#include "admin/views.h"

static void test_times(void **state)
{
    (void)state;
    char buf[VIEW_TIME_MAX];
    view_time_text(1769890500123u, buf);
    assert_string_equal(buf, "2026-01-31T20:15:00.123Z");
    json_t *none = view_time(0);
    assert_true(json_is_null(none));
    json_decref(none);
}

static void test_texts(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},
        {"", ""},
        {"\xc3\xa9t\xc3\xa9 \xf0\x9f\x98\x80", "\xc3\xa9t\xc3\xa9 \xf0\x9f\x98\x80"},
        {"a\xff"
         "b",
         "a\xef\xbf\xbd"
         "b"},
        {"\xff\xc3\xa9", "\xef\xbf\xbd\xc3\xa9"},
        {"cut \xc3", "cut \xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *j = view_text(cases[i].in);
        assert_string_equal(json_string_value(j), cases[i].out);
        json_decref(j);
    }
}

static void test_session_ids(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "-1", "1a", " 1", "99999999999999999999"};
    uint64_t id = 0;
    char text[VIEW_ID_MAX];
    view_session_id(459615551030016u, text);
    assert_int_equal(view_session_id_parse(text, &id), ERR_OK);
    assert_int_equal(id, 459615551030016u);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(view_session_id_parse(bad[i], &id), ERR_INVALID);
}

static void expect_text(const json_t *o, const char *name, const char *value)
{
    const char *found = json_string_value(json_object_get(o, name));
    if (!found || strcmp(found, value) != 0)
        fail_msg("%s: %s", name, found ? found : "not a string");
}

static void test_node_without_healthd(void **state)
{
    (void)state;
    const struct node n = {.conf = {.id = "n1", .rtmp = "h:1"}, .source = NODE_FROM_API};
    struct node_status status = {.id = "n1", .health = NODE_DOWN, .reason = "tcp: refused"};
    struct view_node v = {.node = &n};
    json_t *o = view_node(&v);
    expect_text(o, "state", "enabled");
    expect_text(o, "source", "api");
    expect_text(o, "health", "unknown");
    assert_true(json_is_null(json_object_get(o, "reason")));
    assert_true(json_is_null(json_object_get(o, "address")));
    json_decref(o);
    v.status = &status; /* an old verdict that nobody renews */
    o = view_node(&v);
    expect_text(o, "reason", "healthd is not running");
    json_decref(o);
}

static void test_stream(void **state)
{
    (void)state;
    struct view_stream v = {
        .claim = {.node = "n1", .worker = {.router = "r1", .slot = 3}, .session = 77, .epoch = 5},
        .publisher = {.id = 77, .client = "10.0.0.9:4000", .bitrate = 1000, .bytes_in = 9},
        .players = 4};
    assert_int_equal(stream_key_parse("live/a b\xff", &v.claim.key), ERR_OK);
    json_t *o = view_stream(&v);
    expect_text(o, "key", "live/a b\xef\xbf\xbd");
    expect_text(o, "href", "/api/v1/streams/live%2Fa%20b%FF");
    expect_text(o, "worker", "r1/3");
    expect_text(o, "publisher", "77");
    expect_text(o, "state", "live");
    assert_int_equal(json_integer_value(json_object_get(o, "players")), 4);
    assert_true(json_is_null(json_object_get(o, "moving_to")));
    assert_true(json_is_false(json_object_get(o, "movable")));
    json_decref(o);
    v.movable = true;
    o = view_stream(&v);
    assert_true(json_is_true(json_object_get(o, "movable")));
    json_decref(o);
    memcpy(v.claim.next, "n2", sizeof "n2");
    o = view_stream(&v);
    expect_text(o, "moving_to", "n2");
    assert_true(json_is_false(json_object_get(o, "movable")));
    json_decref(o);
    v.claim.next[0] = '\0';
    v.claim.state = CLAIM_HINT;
    o = view_stream(&v);
    assert_true(json_is_false(json_object_get(o, "movable")));
    expect_text(o, "state", "held");
    assert_true(json_is_null(json_object_get(o, "publisher")));
    json_decref(o);
}

/* ---- events ---- */

static void test_event_text(void **state)
{
    (void)state;
    const struct store_event e = {
        .id = 12, .time_ms = 1769890500123u, .kind = "node_down", .subject = "n\n1", .node = "n1"};
    char buf[EVENT_TEXT_MAX];
    size_t len = 0;
    assert_true(event_text_append(&e, buf, sizeof buf, &len));
    assert_string_equal(buf,
                        "id: 12\nevent: node_down\ndata: {\"id\":12,\"time\":\"2026-01-31T20:15:00."
                        "123Z\",\"kind\":\"node_down\",\"subject\":\"n\\n1\",\"node\":\"n1\"}\n\n");
    assert_int_equal(len, strlen(buf));
    const size_t one = len;
    assert_false(event_text_append(&e, buf, 2 * one, &len)); /* no room for the NUL */
    assert_int_equal(len, one);
    assert_true(event_text_append(&e, buf, 2 * one + 1, &len));
    assert_int_equal(len, 2 * one);
}

static void test_largest_event(void **state)
{
    (void)state;
    struct store_event e = {.id = UINT64_MAX / 4, .time_ms = 1, .kind = "stream_taken_over"};
    char buf[EVENT_TEXT_MAX];
    size_t len = 0;
    memset(e.subject, '\x01', sizeof e.subject - 1); /* six bytes each in JSON */
    memset(e.node, 'n', sizeof e.node - 1);
    assert_true(event_text_append(&e, buf, sizeof buf, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),         cmocka_unit_test(test_texts),
        cmocka_unit_test(test_session_ids),   cmocka_unit_test(test_node_without_healthd),
        cmocka_unit_test(test_stream),        cmocka_unit_test(test_event_text),
        cmocka_unit_test(test_largest_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
