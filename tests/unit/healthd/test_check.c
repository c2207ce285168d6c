#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "healthd/check.h"

static void test_steps(void **state)
{
    (void)state;
    struct transcript t;
    transcript_init(&t, 1000000);
    assert_string_equal(t.text, "");
    transcript_add(&t, 1000000, "dials %s", "10.0.0.1:1935");
    transcript_add(&t, 1000449, "connected");
    transcript_add(&t, 2000500, "time is up");
    transcript_add(&t, 5, "a clock that runs backwards");
    assert_string_equal(t.text, "0.0 dials 10.0.0.1:1935; 0.4 connected; 1000.5 time is up; "
                                "0.0 a clock that runs backwards");
}

/* However long it gets, it keeps its bound, and the last step is whole. */
static void test_last_step_stays(void **state)
{
    (void)state;
    char filler[TRANSCRIPT_MAX * 2];
    for (size_t len = 0; len < sizeof filler - 1; len++) {
        struct transcript t;
        memset(filler, 'f', len);
        filler[len] = '\0';
        transcript_init(&t, 0);
        for (int i = 0; i < 5; i++) {
            transcript_add(&t, 100, "%s", filler);
            assert_true(t.len < sizeof t.text && strlen(t.text) == t.len);
        }
        transcript_add(&t, 100, "closed by the node");
        assert_true(t.len < sizeof t.text && strlen(t.text) == t.len);
        static const char end[] = "0.1 closed by the node";
        assert_string_equal(t.text + t.len - strlen(end), end);
        const char *before = t.text + t.len - strlen(end) - 2;
        assert_memory_equal(before, "; ", 2);
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(health_check_name(CHECK_TCP), "tcp");
    assert_string_equal(health_check_name(CHECK_LOOP), "loop");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_last_step_stays),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
