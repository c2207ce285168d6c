#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "admin/assets.h"

static struct asset page_of(const char *text)
{
    return (struct asset){.data = (const unsigned char *)text, .len = strlen(text)};
}

static void test_policy(void **state)
{
    (void)state;
    static const struct {
        const char *page, *script, *style;
    } cases[] = {
        /* sha256 of "secret" in base64, made by openssl */
        {"<style>secret</style><script>secret</script>",
         "script-src 'sha256-K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=';",
         "style-src 'sha256-K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=';"},
        {"<p>none", "script-src 'none';", "style-src 'none';"},
        {"<script>cut", "script-src 'none';", "style-src 'none';"},
        {"", "script-src 'none';", "style-src 'none';"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct asset page = page_of(cases[i].page);
        char policy[ASSET_POLICY_MAX];
        asset_policy(&page, policy);
        assert_non_null(strstr(policy, "default-src 'none';"));
        assert_non_null(strstr(policy, cases[i].script));
        assert_non_null(strstr(policy, cases[i].style));
    }
}

static void test_etag(void **state)
{
    (void)state;
    const struct asset page = page_of("hello");
    struct http_reply first = {0}, again = {0};
    asset_reply(&page, "text/plain", NULL, &first);
    assert_int_equal(first.status, 200);
    assert_int_equal(first.len, 5);
    asset_reply(&page, "text/plain", first.etag, &again);
    assert_int_equal(again.status, 304);
    assert_int_equal(again.len, 0);
    assert_string_equal(again.etag, first.etag);
    asset_reply(&page, "text/plain", "\"other\"", &again);
    assert_int_equal(again.status, 200);
}

/* The policy knows one script and one style. */
static void test_dashboard_fits_its_policy(void **state)
{
    (void)state;
    char policy[ASSET_POLICY_MAX];
    assert_true(asset_dashboard.len > 0);
    asset_policy(&asset_dashboard, policy);
    assert_null(memchr(asset_dashboard.data, '\0', asset_dashboard.len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policy),
        cmocka_unit_test(test_etag),
        cmocka_unit_test(test_dashboard_fits_its_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
