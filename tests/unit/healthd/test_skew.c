#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "healthd/skew.h"

/* A node per letter: its version, then a digit: its applications (0: not known); '-' for a version
 * not known. Expected:
 * '.' like most, 'v' another version, 'a' other applications. */
static const struct {
    const char *nodes, *skew, *right;
} rows[] = {
    {"", "", ""},
    {"-0-0", "..", ""},
    {"A1", ".", "A"},
    {"A1A1A1", "...", "A"},
    {"A1A1B1", "..v", "A"},
    {"B1A1A1", "v..", "A"},
    {"A1B1", ".v", "A"}, /* of two the first */
    {"A1-0B1B1", "v...", "B"},
    {"A1A1A2", "..a", "A"},
    {"A1A2A2", "a..", "A"},
    {"A1A0A1", "...", "A"},       /* says nothing of its applications */
    {"A1A2B2B2B2", "vv...", "B"}, /* compared with its own kind only */
    {"A1A1A1B2B2", "...vv", "A"},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct skew_node nodes[8] = {0};
        char versions[8][2] = {0};
        const uint32_t count = (uint32_t)strlen(rows[i].nodes) / 2;
        for (uint32_t k = 0; k < count; k++) {
            const char c = rows[i].nodes[2 * k];
            versions[k][0] = c == '-' ? '\0' : c;
            nodes[k] = (struct skew_node){.version = versions[k],
                                          .apps_hash = (uint64_t)(rows[i].nodes[2 * k + 1] - '0'),
                                          .skew = SKEW_VERSION};
        }
        assert_string_equal(skew_find(nodes, count), rows[i].right);
        for (uint32_t k = 0; k < count; k++)
            if (".va"[nodes[k].skew] != rows[i].skew[k])
                fail_msg("%s: node %u is %s", rows[i].nodes, k, skew_name(nodes[k].skew));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
