#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cluster/store_record.h"

/* The longest of everything: it must fit, and come back whole. */
static void fill(char *text, size_t cap)
{
    memset(text, 'x', cap - 1);
    text[cap - 1] = '\0';
}

static struct stream_key longest_key(void)
{
    struct stream_key k = {.len = STREAM_KEY_MAX - 1};
    fill(k.text, sizeof k.text);
    return k;
}

static struct worker_id longest_worker(void)
{
    struct worker_id w = {.slot = UINT32_MAX};
    fill(w.router, sizeof w.router);
    return w;
}

static size_t claim_bytes(uint8_t *buf)
{
    struct claim c = {.key = longest_key(),
                      .planned = true,
                      .replay_time = 7,
                      .state = CLAIM_HINT,
                      .worker = longest_worker(),
                      .session = 1,
                      .epoch = UINT64_MAX,
                      .publication = 6,
                      .since_ms = 3,
                      .previous = longest_worker(),
                      .previous_epoch = 4,
                      .released = true,
                      .args_hash = 5};
    fill(c.node, sizeof c.node);
    fill(c.next, sizeof c.next);
    memset(c.client_addr, 0xab, sizeof c.client_addr);
    return claim_record_write(&c, buf);
}

static size_t session_bytes(uint8_t *buf)
{
    struct session_record s = {.id = 1,
                               .kind = SESSION_PLAY,
                               .worker = longest_worker(),
                               .key = longest_key(),
                               .bytes_out = UINT64_MAX,
                               .rehomes = 9};
    fill(s.client, sizeof s.client);
    fill(s.node, sizeof s.node);
    return session_record_write(&s, buf);
}

static size_t process_bytes(uint8_t *buf)
{
    struct process_record p = {.kind = PROCESS_ADMIN, .id = longest_worker(), .bytes_out = 8};
    fill(p.version, sizeof p.version);
    memset(p.closed, 0xab, sizeof p.closed);
    memset(p.setup, 0xcd, sizeof p.setup);
    p.loop_turn_max_us = UINT32_MAX;
    p.nodes_version = UINT64_MAX;
    return process_record_write(&p, buf);
}

static size_t event_bytes(uint8_t *buf)
{
    struct store_event e = {.id = 1, .time_ms = 2};
    fill(e.kind, sizeof e.kind);
    fill(e.subject, sizeof e.subject);
    fill(e.node, sizeof e.node);
    return event_record_write(&e, buf);
}

static size_t status_bytes(uint8_t *buf)
{
    struct node_status st = {.health = NODE_DOWN,
                             .since_ms = 1,
                             .checked_ms = 2,
                             .latency_us = UINT32_MAX,
                             .bandwidth_in = 3,
                             .bandwidth_out = 4,
                             .clients = 5,
                             .publishers = 6,
                             .pid = 7,
                             .process_started_ms = 8,
                             .generations = 9,
                             .stuck = true,
                             .checks = 10,
                             .failures = 11,
                             .transitions = UINT64_MAX};
    fill(st.id, sizeof st.id);
    fill(st.reason, sizeof st.reason);
    fill(st.version, sizeof st.version);
    return status_record_write(&st, buf);
}

static size_t dial_bytes(uint8_t *buf)
{
    struct dial_failures f = {.count = 1, .last_ms = UINT64_MAX};
    fill(f.node, sizeof f.node);
    return dial_record_write(&f, buf);
}

static size_t found_bytes(uint8_t *buf)
{
    struct found_record f = {.key = longest_key(), .since_ms = 1, .seen_ms = UINT64_MAX};
    fill(f.node, sizeof f.node);
    return found_record_write(&f, buf);
}

static size_t lease_bytes(uint8_t *buf)
{
    return lease_record_write(&(struct lease_record){UINT64_MAX, 1}, buf);
}

static size_t command_bytes(uint8_t *buf)
{
    struct store_command c = {.id = 1,
                              .worker = longest_worker(),
                              .session = 2,
                              .posted_ms = 3,
                              .deadline_ms = UINT64_MAX,
                              .state = COMMAND_FAILED};
    fill(c.result, sizeof c.result);
    return command_record_write(&c, buf);
}

static size_t load_bytes(uint8_t *buf)
{
    return load_record_write(&(struct load_record){1, 2}, buf);
}

static size_t audience_bytes(uint8_t *buf)
{
    return audience_record_write(&(struct audience_record){longest_worker(), 3, 9, true}, buf);
}

/* Parses, and writes again what came out. */
#define AGAIN(name, type)                                                                          \
    static enum err name##_again(const void *in, size_t len, uint8_t *out, size_t *out_len)        \
    {                                                                                              \
        type v;                                                                                    \
        const enum err e = name##_record_parse(in, len, &v);                                       \
        if (e == ERR_OK)                                                                           \
            *out_len = name##_record_write(&v, out);                                               \
        return e;                                                                                  \
    }

AGAIN(claim, struct claim)
AGAIN(session, struct session_record)
AGAIN(process, struct process_record)
AGAIN(event, struct store_event)
AGAIN(status, struct node_status)
AGAIN(dial, struct dial_failures)
AGAIN(found, struct found_record)
AGAIN(lease, struct lease_record)
AGAIN(command, struct store_command)
AGAIN(load, struct load_record)
AGAIN(audience, struct audience_record)

static const struct {
    size_t (*write)(uint8_t *buf);
    enum err (*again)(const void *in, size_t len, uint8_t *out, size_t *out_len);
} kinds[] = {
    {claim_bytes, claim_again},       {session_bytes, session_again},
    {process_bytes, process_again},   {event_bytes, event_again},
    {status_bytes, status_again},     {load_bytes, load_again},
    {audience_bytes, audience_again}, {dial_bytes, dial_again},
    {found_bytes, found_again},       {lease_bytes, lease_again},
    {command_bytes, command_again},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void test_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        uint8_t a[STORE_RECORD_MAX], b[STORE_RECORD_MAX];
        size_t again = 0;
        const size_t len = kinds[i].write(a);
        assert_in_range(len, 1, STORE_RECORD_MAX);
        assert_int_equal(kinds[i].again(a, len, b, &again), ERR_OK);
        assert_int_equal(again, len);
        assert_memory_equal(a, b, len);
    }
}

static void test_damaged(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        uint8_t a[STORE_RECORD_MAX + 1] = {0}, b[STORE_RECORD_MAX];
        size_t again;
        const size_t len = kinds[i].write(a);
        for (size_t cut = 0; cut < len; cut++) { /* exact-size buffers: a read too far is seen */
            uint8_t *part = malloc(cut ? cut : 1);
            memcpy(part, a, cut);
            assert_int_equal(kinds[i].again(part, cut, b, &again), ERR_CORRUPT);
            free(part);
        }
        assert_int_equal(kinds[i].again(a, len + 1, b, &again), ERR_CORRUPT);
        a[0]++; /* another version of the record */
        assert_int_equal(kinds[i].again(a, len, b, &again), ERR_CORRUPT);
    }
}

static void test_out_of_range(void **state)
{
    (void)state;
    uint8_t a[STORE_RECORD_MAX], b[STORE_RECORD_MAX];
    size_t again;
    size_t len = status_bytes(a);
    a[1] = NODE_DOWN + 1;
    assert_int_equal(status_again(a, len, b, &again), ERR_CORRUPT);
    len = claim_bytes(a);
    a[1] = 0xff; /* a text longer than its field */
    assert_int_equal(claim_again(a, len, b, &again), ERR_CORRUPT);
}

/* A version that does not know that a claim stays reads it as any other: nothing is longer, or at
 * another place, and a claim that has the number is not to be found. */
static void test_claim_stays(void **state)
{
    (void)state;
    uint8_t a[STORE_RECORD_MAX], b[STORE_RECORD_MAX];
    struct claim c = {.key = longest_key(), .epoch = 7, .publication = 5, .stays = true}, back;
    const size_t len = claim_record_write(&c, a);
    assert_int_equal(claim_record_parse(a, len, &back), ERR_OK);
    assert_true(back.stays);
    assert_int_equal(back.previous_epoch, 0);
    c.stays = false;
    c.previous_epoch = c.epoch;
    assert_int_equal(claim_record_write(&c, b), len);
    assert_memory_equal(a, b, len);
    c.previous_epoch = 6;
    assert_int_equal(claim_record_parse(b, claim_record_write(&c, b), &back), ERR_OK);
    assert_false(back.stays);
    assert_int_equal(back.previous_epoch, 6);
}

static void test_node_record(void **state)
{
    (void)state;
    static const char good[] =
        "{\"id\":\"n1\",\"rtmp\":\"h:1935\",\"stat\":\"\",\"weight\":1,\"max_streams\":0,"
        "\"max_sessions\":0,\"max_bandwidth\":5,\"send_proxy\":\"v1\",\"state\":\"drain\","
        "\"source\":\"api\",\"leaving\":true,\"address\":\"::1\",\"port\":7,\"later\":[1]}";
    struct node n;
    assert_int_equal(node_record_parse(good, strlen(good), &n), ERR_OK); /* a later field is fine */
    assert_string_equal(n.conf.id, "n1");
    assert_int_equal(n.conf.send_proxy, SEND_PROXY_V1);
    assert_int_equal(n.admin, NODE_DRAIN);
    assert_int_equal(n.source, NODE_FROM_API);
    assert_true(n.leaving);
    assert_int_equal(n.addr.ss_family, AF_INET6);

    static const char *const bad[] = {
        "", "[]", "{}", "{\"id\":\"n1\"}", "nonsense",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(node_record_parse(bad[i], strlen(bad[i]), &n), ERR_CORRUPT);
    for (size_t cut = 0; cut < strlen(good); cut++)
        assert_int_equal(node_record_parse(good, cut, &n), ERR_CORRUPT);
    static const char *const damaged[][2] = {
        {"\"weight\":1,", "\"weight\":-1,"}, {"\"drain\"", "\"drian\""}, {"\"v1\"", "\"v3\""},
        {"\"port\":7", "\"port\":99999"},    {"true", "\"yes\""},        {"\"api\"", "1"},
    };
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        char text[sizeof good + 16];
        const char *at = strstr(good, damaged[i][0]);
        assert_non_null(at);
        const size_t before = (size_t)(at - good);
        memcpy(text, good, before);
        text[before] = '\0';
        strcat(text, damaged[i][1]);
        strcat(text, at + strlen(damaged[i][0]));
        assert_int_equal(node_record_parse(text, strlen(text), &n), ERR_CORRUPT);
    }

    char *written = NULL;
    struct node odd = {.conf = {.id = "n\xff"}};
    assert_int_equal(node_record_write(&odd, &written), ERR_INVALID);
    assert_null(written);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_out_of_range), cmocka_unit_test(test_claim_stays),
        cmocka_unit_test(test_node_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
