#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "router/access.h"

/* Of live/cam1 until 1790000000, made with openssl dgst. */
#define KEY "0123456789abcdef0123456789abcdef"
#define PUBLISH_TOKEN "3ae5f03744c5654f1bd0edeb1e19d956f7e886c4f2c0ed47010835d068285a75"
#define GOOD "?token=" PUBLISH_TOKEN "&expires=1790000000"
#define NOW 1789999999u

static struct view view(const char *s)
{
    return (struct view){.p = (const uint8_t *)s, .len = strlen(s)};
}

static struct config *rules(const char *list)
{
    char text[2048], error[CONFIG_ERROR_MAX] = "";
    struct config *c = NULL;
    const int n = snprintf(text, sizeof text, "access: {keys: /keys, rules: [%s]}", list);
    if (config_load_buffer("rules", text, (size_t)n, &c, error) != ERR_OK)
        fail_msg("%s", error);
    return c;
}

struct question {
    const char *rules;
    enum session_kind kind;
    const char *app, *tc_url, *name, *from;
    enum close_why answer;
    bool token;
};

static void ask(const struct question *q, bool vhosts)
{
    struct config *c = rules(q->rules);
    char error[SIGNING_KEYS_ERROR_MAX];
    struct access a = {.config = &c->access};
    struct config_cidr from;
    struct stream_key key;
    bool token = !q->token;
    const struct view app = view(q->app), tc_url = view(q->tc_url), name = view(q->name);
    const struct view vhost = vhosts ? stream_key_vhost(tc_url, app, name) : (struct view){0};
    assert_int_equal(signing_keys_parse(KEY, strlen(KEY), &a.keys, error), ERR_OK);
    assert_int_equal(config_parse_cidr(q->from ? q->from : "192.0.2.1", &from), ERR_OK);
    assert_int_equal(stream_key_make(app, name, vhost, &key), ERR_OK);
    const struct access_request r = {
        .kind = q->kind,
        .key = &key,
        .vhost = vhost,
        .app = app,
        .tc_url = tc_url,
        .name = name,
        .addr = from.addr,
        .now_s = NOW,
    };
    const enum close_why why = access_check(&a, &r, &token);
    if (why != q->answer || token != q->token)
        fail_msg("%s: %s + %s: %s, token %d", q->rules, q->app, q->name, close_why_name(why),
                 token);
    config_destroy(c);
}

static void ask_all(const struct question *q, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ask(&q[i], false);
}

#define PUB SESSION_PUBLISH
#define PLAY SESSION_PLAY

static void test_rules(void **state)
{
    (void)state;
    static const char lan[] = "{app: live, kind: publish, from: [10.0.0.0/8], action: allow},"
                              "{app: live, kind: play, action: allow},"
                              "{app: '*', from: ['2001:db8::/32', 192.0.2.7], action: allow}";
    const struct question q[] = {
        {"", PUB, "anything", "", "x", NULL, WHY_NONE, false},
        {lan, PUB, "live", "", "cam1", "10.1.2.3", WHY_NONE, false},
        {lan, PUB, "live", "", "cam1", "11.1.2.3", WHY_ACCESS_DENIED, false},
        {lan, PLAY, "live", "", "cam1", "11.1.2.3", WHY_NONE, false},
        {lan, PLAY, "vod", "", "cam1", "11.1.2.3", WHY_ACCESS_DENIED, false},
        {lan, PUB, "vod", "", "cam1", "192.0.2.7", WHY_NONE, false},
        {lan, PUB, "vod", "", "cam1", "2001:db8::5", WHY_NONE, false},
        {lan, PUB, "vod", "", "cam1", "2001:db9::5", WHY_ACCESS_DENIED, false},
        {lan, PUB, "vod", "", "cam1", "::", WHY_ACCESS_DENIED, false}, /* not known */
        /* the first that fits counts */
        {"{app: live, from: [10.0.0.1], action: deny}, {app: live, action: allow}", PUB, "live", "",
         "a", "10.0.0.1", WHY_ACCESS_DENIED, false},
        {"{app: live, from: [10.0.0.1], action: deny}, {app: live, action: allow}", PUB, "live", "",
         "a", "10.0.0.2", WHY_NONE, false},
        {"{app: live, action: allow}, {app: live, action: deny}", PUB, "live", "", "a", NULL,
         WHY_NONE, false},
    };
    ask_all(q, sizeof q / sizeof q[0]);
}

static void test_apps(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *app, *name;
        bool fits;
    } cases[] = {
        {"live", "live", "a", true},
        {"live", "live2", "a", false},
        {"live", "liv", "a", false},
        {"live", "Live", "a", false},
        {"live", "live/x", "a", true},
        {"live", "live?vhost=x", "a?b=c", true},
        {"live", "live/_definst_", "a", true},
        {"live", "//live/", "a", true},
        {"live", "x", "live", false},
        {"live/a", "live", "a", true},
        {"live/a", "live", "ab", false},
        {"live/a", "live", "a/b", true},
        {"live/a", "live/a", "b", true},
        {"*", "x", "a", true},
        {"*", "x/y", "a/b", true},
        {"li*", "live", "a", true},
        {"li*", "li", "a", true},
        {"li*", "xlive", "a", false},
        {"*ve", "live", "a", true},
        {"*ve", "liveve", "a", true},
        {"*ve", "livex", "ve", false},
        {"l*v*e", "lxvyvze", "a", true},
        {"l*v*e", "lxvyvz", "e", false},
        {"*/private-*", "live", "private-1", true},
        {"*/private-*", "live/x", "private-1", false},
        {"*/*/private-*", "live/x", "private-1", true},
        {"live/*/x", "live", "x", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char list[128];
        (void)snprintf(list, sizeof list, "{app: '%s', action: allow}", cases[i].pattern);
        ask(&(struct question){list, PLAY, cases[i].app, "", cases[i].name, NULL,
                               cases[i].fits ? WHY_NONE : WHY_ACCESS_DENIED, false},
            false);
    }
}

static void test_tokens(void **state)
{
    (void)state;
    static const char token[] = "{app: live, action: token}";
    const struct question q[] = {
        {token, PUB, "live", "rtmp://h/live", "cam1" GOOD, NULL, WHY_NONE, true},
        {token, PUB, "live", "rtmp://h/live", "cam1?a=b&expires=1790000000&token=" PUBLISH_TOKEN,
         NULL, WHY_NONE, true},
        {token, PUB, "live" GOOD, "rtmp://h/live" GOOD, "cam1", NULL, WHY_NONE, true},
        {token, PUB, "live", "rtmp://h/live" GOOD, "cam1", NULL, WHY_NONE, true},
        {token, PUB, "live", "", "cam1", NULL, WHY_TOKEN_MISSING, true},
        {token, PUB, "live", "", "cam1?expires=1790000000", NULL, WHY_TOKEN_MISSING, true},
        {token, PUB, "live", "", "cam1?token=" PUBLISH_TOKEN, NULL, WHY_TOKEN_BAD, true},
        {token, PUB, "live", "", "cam2" GOOD, NULL, WHY_TOKEN_BAD, true},
        {token, PLAY, "live", "", "cam1" GOOD, NULL, WHY_TOKEN_BAD, true},
        /* the parts of a token come from one place */
        {token, PUB, "live?expires=1790000000", "", "cam1?token=" PUBLISH_TOKEN, NULL,
         WHY_TOKEN_BAD, true},
        /* and a rule that does not ask for one does not look at it */
        {"{app: live, action: allow}", PUB, "live", "", "cam1?token=x", NULL, WHY_NONE, false},
        {"{app: live, action: deny}", PUB, "live", "", "cam1" GOOD, NULL, WHY_ACCESS_DENIED, false},
        {"{app: live, from: [10.0.0.0/8], action: token}", PUB, "live", "", "cam1" GOOD, NULL,
         WHY_ACCESS_DENIED, false},
    };
    ask_all(q, sizeof q / sizeof q[0]);
}

/* A node that goes by tcUrl must not serve what the app did not ask for. */
static void test_two_names(void **state)
{
    (void)state;
    static const char list[] = "{app: open, action: allow}, {app: live, action: token},"
                               "{app: both, action: allow}";
    const struct question q[] = {
        {list, PUB, "open", "rtmp://h/open", "a", NULL, WHY_NONE, false},
        {list, PUB, "open", "rtmp://h:1935/open/", "a", NULL, WHY_NONE, false},
        {list, PUB, "open", "rtmp://h/open/a?x=1", "a", NULL, WHY_NONE, false},
        {list, PUB, "open", "rtmp://h", "a", NULL, WHY_NONE, false},
        {list, PUB, "open", "rtmp://h/", "a", NULL, WHY_NONE, false},
        {list, PUB, "open", "", "a", NULL, WHY_NONE, false},
        {list, PUB, "open", "rtmp://h/both", "a", NULL, WHY_NONE, false},
        {list, PUB, "open", "rtmp://h/live", "a", NULL, WHY_TOKEN_MISSING, true},
        {list, PUB, "open", "rtmp://h/secret", "a", NULL, WHY_ACCESS_DENIED, false},
        {list, PUB, "open", "rtmp://h/live", "cam1" GOOD, NULL, WHY_TOKEN_BAD, true},
        {list, PUB, "live", "rtmp://h/open", "cam1", NULL, WHY_TOKEN_MISSING, true},
        {list, PUB, "live", "rtmp://h/open", "cam1" GOOD, NULL, WHY_NONE, true},
        {list, PUB, "open", "rtmp://h/li\x01ve", "a", NULL, WHY_ACCESS_DENIED, false},
        /* one token is not for two streams */
        {"{app: '*', action: token}", PUB, "live", "rtmp://h/live/", "cam1" GOOD, NULL, WHY_NONE,
         true},
        {"{app: '*', action: token}", PUB, "live", "rtmp://h/vip", "cam1" GOOD, NULL, WHY_TOKEN_BAD,
         true},
    };
    ask_all(q, sizeof q / sizeof q[0]);
}

/* Of live/cam1 at vhost a.org. */
#define VHOST_TOKEN "180a88aeac53faf5f68d4af42e9047d5ea961f5c0a7af1caf240d22a8e720a95"
#define VHOST_GOOD "token=" VHOST_TOKEN "&expires=1790000000"

static void test_two_vhosts(void **state)
{
    (void)state;
    static const char list[] = "{app: live, action: token}";
    const struct question q[] = {
        {list, PUB, "live", "rtmp://a.org/live", "cam1?" VHOST_GOOD, NULL, WHY_NONE, true},
        {list, PUB, "live?vhost=a.org", "rtmp://h/live?vhost=a.org", "cam1?" VHOST_GOOD, NULL,
         WHY_NONE, true},
        {list, PUB, "live", "rtmp://h/live", "cam1?vhost=A.org&" VHOST_GOOD, NULL, WHY_NONE, true},
        {list, PUB, "live?vhost=a.org", "rtmp://b.org/live", "cam1?" VHOST_GOOD, NULL,
         WHY_TOKEN_BAD, true},
        {list, PUB, "live", "rtmp://a.org/live?vhost=b.org", "cam1?" VHOST_GOOD, NULL,
         WHY_TOKEN_BAD, true},
        {list, PUB, "live", "rtmp://h/live?vhost=b.org", "cam1?vhost=a.org&" VHOST_GOOD, NULL,
         WHY_TOKEN_BAD, true},
    };
    for (size_t i = 0; i < sizeof q / sizeof q[0]; i++)
        ask(&q[i], true);
}

/* Nodes take parts out of such names, or end them early, each in its own way. */
static void test_odd_names(void **state)
{
    (void)state;
    static const char list[] = "{app: vip, action: deny}, {app: '*', action: allow}";
    const struct question q[] = {
        {list, PLAY, "open", "rtmp://h/open", "a b,c=d", NULL, WHY_NONE, false},
        {list, PLAY, "open/_definst_", "rtmp://h/open/_definst_/", "a", NULL, WHY_NONE, false},
        {list, PLAY, "open?a=b,c", "rtmps://h:443/open?x= #", "a", NULL, WHY_NONE, false},
        {list, PLAY, "open", "rtmp://h/vip,x", "a", NULL, WHY_ACCESS_DENIED, false},
        {list, PLAY, "open", "rtmp://h/vip...x", "a", NULL, WHY_ACCESS_DENIED, false},
        {list, PLAY, "open", "rtmp://h/vip=x", "a", NULL, WHY_ACCESS_DENIED, false},
        {list, PLAY, "open", "rtmp://h/vip&&x", "a", NULL, WHY_ACCESS_DENIED, false},
        {list, PLAY, "open", "rtmp://h/vip#x", "a", NULL, WHY_ACCESS_DENIED, false},
        {list, PLAY, "open", "rtmp://h/v ip", "a", NULL, WHY_ACCESS_DENIED, false},
        {list, PLAY, "v ip", "rtmp://h/v ip", "a", NULL, WHY_ACCESS_DENIED, false},
        {list, PLAY, "open", "rtmp://h/v/_definst_ip", "a", NULL, WHY_ACCESS_DENIED, false},
        {list, PLAY, "v/_definst_ip", "", "a", NULL, WHY_ACCESS_DENIED, false},
        {list, PLAY, "open", "h/vip", "a", NULL, WHY_ACCESS_DENIED, false},
        {"", PLAY, "open", "h/vip,x", "a", NULL, WHY_NONE, false}, /* all is allowed */
    };
    ask_all(q, sizeof q / sizeof q[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),      cmocka_unit_test(test_apps),
        cmocka_unit_test(test_tokens),     cmocka_unit_test(test_two_names),
        cmocka_unit_test(test_two_vhosts), cmocka_unit_test(test_odd_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
