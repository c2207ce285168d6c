#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "config/tree.h"

static void test_shape(void **state)
{
    (void)state;
    static const char text[] = "a: 1\nb:\n  - x\n  - {k: ''}\nc:\n";
    struct tree t;
    assert_int_equal(tree_parse(&t, text, strlen(text)), ERR_OK);
    assert_int_equal(t.root->kind, TREE_MAP);
    assert_int_equal(t.root->count, 3);
    const struct tree_node *a = t.root->first, *b = a->next, *c = b->next;
    assert_string_equal(a->key, "a");
    assert_string_equal(a->text, "1");
    assert_int_equal(a->mark.line, 1);
    assert_int_equal(a->mark.column, 4);
    assert_int_equal(b->kind, TREE_LIST);
    assert_int_equal(b->count, 2);
    assert_int_equal(b->key_mark.line, 2);
    assert_string_equal(b->first->text, "x");
    assert_int_equal(b->first->mark.line, 3);
    assert_int_equal(b->first->mark.column, 5);
    assert_string_equal(b->last->first->key, "k");
    assert_string_equal(b->last->first->text, "");
    assert_false(b->last->first->null);
    assert_true(c->null);
    assert_null(c->next);
    tree_deinit(&t);
}

static void test_empty(void **state)
{
    (void)state;
    static const char *const cases[] = {"", "# nothing\n", "\n\n"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tree t;
        assert_int_equal(tree_parse(&t, cases[i], strlen(cases[i])), ERR_OK);
        assert_null(t.root);
        tree_deinit(&t);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
        uint32_t line, column;
    } cases[] = {
        {"a: [1\n", "did not find expected", 2, 1},
        {"a: 1\n b: 2\n", "mapping values are not allowed", 2, 3},
        {"a: \"x\n", "unexpected end of stream", 2, 1},
        {"a: 1\n\tb: 2\n", "a tab character", 2, 1},
        {"a: @\n", "cannot start any token", 1, 4},
        {"a: 1\nb: \xff\n", "invalid leading UTF-8 octet", 2, 4},
        {"a: \x01\n", "control characters are not allowed", 1, 4},
        {"a: 1\n---\nb: 2\n", "second document", 2, 1},
        {"a: &x 1\n", "anchor", 1, 4},
        {"a: &x [1]\n", "anchor", 1, 4},
        {"a: *x\n", "alias", 1, 4},
        {"a: !!str 1\n", "tag", 1, 4},
        {"a: !x {}\n", "tag", 1, 4},
        {"[a]: 1\n", "in place of a key", 1, 1},
        {"{}: 1\n", "in place of a key", 1, 1},
        {"a: \"x\\0y\"\n", "NUL", 1, 4},
        {"[[[[[[[[[[[[[[[[[[", "deeper than 16", 1, 17},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tree t;
        assert_int_equal(tree_parse(&t, cases[i].text, strlen(cases[i].text)), ERR_INVALID);
        if (!strstr(t.error, cases[i].says))
            fail_msg("%s: %s", cases[i].text, t.error);
        if (t.error_mark.line != cases[i].line || t.error_mark.column != cases[i].column)
            fail_msg("%s: %u:%u %s", cases[i].text, t.error_mark.line, t.error_mark.column,
                     t.error);
        tree_deinit(&t);
    }
}

static void test_bounds(void **state)
{
    (void)state;
    const size_t len = TREE_TEXT_MAX + 1;
    char *text = malloc(len);
    assert_non_null(text);
    struct tree t;

    memset(text, '\n', len);
    assert_int_equal(tree_parse(&t, text, len), ERR_INVALID);
    assert_non_null(strstr(t.error, "longer than"));
    tree_deinit(&t);
    assert_int_equal(tree_parse(&t, text, len - 1), ERR_OK);
    tree_deinit(&t);

    text[0] = '[';
    for (size_t i = 1; i < len; i++)
        text[i] = i % 2 ? 'a' : ',';
    assert_int_equal(tree_parse(&t, text, len - 1), ERR_INVALID);
    assert_non_null(strstr(t.error, "more than 65536 values"));
    tree_deinit(&t);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
