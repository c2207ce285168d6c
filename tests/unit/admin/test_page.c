#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/page.h"

static int compare(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

static void test_orders(void **state)
{
    (void)state;
    static const struct {
        int offered[6], kept[3];
        uint32_t count, left;
        bool more;
    } cases[] = {
        {{0}, {0}, 0, 0, false},
        {{5}, {5}, 1, 1, false},
        {{1, 2, 3}, {1, 2, 3}, 3, 3, false},
        {{3, 2, 1}, {1, 2, 3}, 3, 3, false},
        {{1, 2, 3, 4, 5, 6}, {1, 2, 3}, 6, 3, true},
        {{6, 5, 4, 3, 2, 1}, {1, 2, 3}, 6, 3, true},
        {{4, 1, 6, 2, 5, 3}, {1, 2, 3}, 6, 3, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct page p;
        assert_int_equal(page_init(&p, 3, sizeof(int), compare), ERR_OK);
        for (uint32_t k = 0; k < cases[i].count; k++)
            page_offer(&p, &cases[i].offered[k]);
        assert_int_equal(p.count, cases[i].left);
        assert_int_equal(p.more, cases[i].more);
        for (uint32_t k = 0; k < p.count; k++)
            assert_int_equal(*(const int *)page_item(&p, k), cases[i].kept[k]);
        page_deinit(&p);
    }
}

static void test_limits(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "0", "1001", "-1", "1x", " 1", "99999999999999999999"};
    uint32_t v = 0;
    assert_int_equal(page_limit_parse(NULL, &v), ERR_OK);
    assert_int_equal(v, PAGE_LIMIT_DEFAULT);
    assert_int_equal(page_limit_parse("1000", &v), ERR_OK);
    assert_int_equal(v, 1000);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(page_limit_parse(bad[i], &v), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_orders),
                                       cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
