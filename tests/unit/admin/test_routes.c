#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "admin/assets.h"
#include "admin/routes.h"

static void test_find(void **state)
{
    (void)state;
    static const struct {
        enum http_method method;
        const char *path, *pattern, *param, *allow; /* pattern NULL: none */
    } cases[] = {
        {HTTP_GET, "/", "/", "", ""},
        {HTTP_POST, "/", NULL, "", "GET, HEAD"},
        {HTTP_GET, "/api/v1/nodes", "/api/v1/nodes", "", ""},
        {HTTP_GET, "/api/v1/nodes/", NULL, "", ""},
        {HTTP_GET, "/api/v1/nodes/n1", "/api/v1/nodes/{id}", "n1", ""},
        {HTTP_DELETE, "/api/v1/nodes/n1", "/api/v1/nodes/{id}", "n1", ""},
        {HTTP_POST, "/api/v1/nodes/n1", NULL, "", "GET, HEAD, PUT, PATCH, DELETE"},
        {HTTP_UNKNOWN, "/api/v1/nodes", NULL, "", "GET, HEAD"},
        {HTTP_PUT, "/api/v1/nodes/n1/state", "/api/v1/nodes/{id}/state", "n1", ""},
        {HTTP_PUT, "/api/v1/nodes/n1/stat", NULL, "", ""},
        {HTTP_GET, "/api/v1/streams/live%2Fcam1", "/api/v1/streams/{key}", "live/cam1", ""},
        {HTTP_GET, "/api/v1/streams/live/cam1", NULL, "", ""},
        {HTTP_POST, "/api/v1/streams/live%2Fcam1/move", "/api/v1/streams/{key}/move", "live/cam1",
         ""},
        {HTTP_GET, "/api/v1", NULL, "", ""},
        {HTTP_GET, "/api/v2/nodes", NULL, "", ""},
        {HTTP_GET, "/metrics/", NULL, "", ""},
        {HTTP_GET, "/Metrics", NULL, "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_target t;
        const char *param;
        char allow[HTTP_HEADER_MAX];
        assert_int_equal(http_target_parse(cases[i].path, &t), ERR_OK);
        const struct route *r = routes_find(cases[i].method, &t, &param, allow);
        if (!cases[i].pattern != !r)
            fail_msg("%s", cases[i].path);
        if (r) {
            assert_string_equal(r->pattern, cases[i].pattern);
            assert_int_equal(r->method, cases[i].method);
        }
        assert_string_equal(param, cases[i].param);
        assert_string_equal(allow, cases[i].allow);
    }
}

static void test_params(void **state)
{
    (void)state;
    const struct route r = {.params = "limit cursor node"};
    assert_true(route_knows_param(&r, "limit"));
    assert_true(route_knows_param(&r, "node"));
    assert_false(route_knows_param(&r, "nod"));
    assert_false(route_knows_param(&r, ""));
    assert_false(route_knows_param(&r, "limit cursor"));
}

/* ---- the description and the table say the same ---- */

static json_t *load_description(void)
{
    json_t *doc = json_loadb((const char *)asset_openapi.data, asset_openapi.len,
                             JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(doc);
    return doc;
}

static const char *lower(enum http_method m)
{
    static const char *const names[] = {"get", "put", "patch", "post", "delete"};
    return names[m];
}

static const json_t *resolve(const json_t *doc, const json_t *o)
{
    const char *ref = json_string_value(json_object_get(o, "$ref"));
    if (!ref)
        return o;
    const char *name = strrchr(ref, '/') + 1;
    return json_object_get(json_object_get(json_object_get(doc, "components"), "parameters"), name);
}

static void test_description_has_routes(void **state)
{
    (void)state;
    json_t *doc = load_description();
    for (size_t i = 0; i < route_count; i++) {
        const struct route *r = &routes[i];
        const json_t *op = json_object_get(
            json_object_get(json_object_get(doc, "paths"), r->pattern), lower(r->method));
        if (!op)
            fail_msg("not described: %s %s", http_method_name(r->method), r->pattern);
        assert_string_equal(json_string_value(json_object_get(op, "summary")), r->help);
        assert_int_equal(json_object_get(op, "requestBody") != NULL, r->body != BODY_NONE);
        const json_t *security = json_object_get(op, "security");
        assert_int_equal(security != NULL, r->scope == SCOPE_NONE);
        if (r->scope != SCOPE_NONE) {
            char scope[32];
            (void)snprintf(scope, sizeof scope, "Scope: %s.", token_scope_name(r->scope));
            assert_non_null(strstr(json_string_value(json_object_get(op, "description")), scope));
        }
        size_t k, known = 0;
        json_t *p;
        json_array_foreach(json_object_get(op, "parameters"), k, p)
        {
            const json_t *q = resolve(doc, p);
            if (strcmp(json_string_value(json_object_get(q, "in")), "query") != 0)
                continue;
            known++;
            if (!route_knows_param(r, json_string_value(json_object_get(q, "name"))))
                fail_msg("%s does not know %s", r->pattern,
                         json_string_value(json_object_get(q, "name")));
        }
        size_t words = r->params[0] != '\0';
        for (const char *c = r->params; *c; c++)
            words += *c == ' ';
        assert_int_equal(known, words);
    }
    json_decref(doc);
}

static void test_routes_have_description(void **state)
{
    (void)state;
    json_t *doc = load_description(), *path, *op;
    const char *pattern, *method;
    json_object_foreach(json_object_get(doc, "paths"), pattern, path)
    {
        json_object_foreach(path, method, op)
        {
            bool found = strcmp(method, "parameters") == 0;
            for (size_t i = 0; !found && i < route_count; i++)
                found = strcmp(routes[i].pattern, pattern) == 0 &&
                        strcmp(lower(routes[i].method), method) == 0;
            if (!found)
                fail_msg("described, but not there: %s %s", method, pattern);
        }
    }
    json_decref(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_params),
        cmocka_unit_test(test_description_has_routes),
        cmocka_unit_test(test_routes_have_description),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
