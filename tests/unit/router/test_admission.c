#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "router/admission.h"

static void address_v4(uint8_t out[16], uint32_t n)
{
    memset(out, 0, 16);
    out[10] = out[11] = 0xff;
    out[12] = (uint8_t)(n >> 24);
    out[13] = (uint8_t)(n >> 16);
    out[14] = (uint8_t)(n >> 8);
    out[15] = (uint8_t)n;
}

static void set(struct admission *a, uint32_t connections, uint32_t per_address, uint32_t rate,
                uint32_t workers)
{
    const struct admission_limits l = {
        .connections = connections, .per_address = per_address, .rate_per_address = rate};
    admission_set_limits(a, &l, workers);
}

static enum close_why identify_v4(struct admission *a, uint32_t n, uint64_t now_ms)
{
    uint8_t addr[16];
    address_v4(addr, n);
    bool counted;
    const enum close_why why = admission_identify(a, addr, now_ms, &counted);
    assert_int_equal(counted,
                     why == WHY_NONE && (a->limits.per_address || a->limits.rate_per_address));
    return why;
}

static void leave_v4(struct admission *a, uint32_t n)
{
    uint8_t addr[16];
    address_v4(addr, n);
    admission_leave(a, addr);
}

static void no_limits_means_no_limits(void **state)
{
    (void)state;
    struct admission a;
    admission_init(&a);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(admission_connect(&a), WHY_NONE);
        assert_int_equal(identify_v4(&a, 1, 5), WHY_NONE);
    }
    assert_int_equal(a.connections, 1000);
    assert_null(a.addresses.entries);
    for (uint32_t i = 0; i < 1000; i++)
        leave_v4(&a, 1);
    assert_int_equal(a.connections, 0);
    admission_deinit(&a);
}

static void total_is_bounded(void **state)
{
    (void)state;
    struct admission a;
    admission_init(&a);
    set(&a, 7, 0, 0, 2); /* 4 of 7 for one of two workers */
    for (int i = 0; i < 4; i++)
        assert_int_equal(admission_connect(&a), WHY_NONE);
    assert_int_equal(admission_connect(&a), WHY_LIMIT_CONNECTIONS);
    assert_int_equal(a.connections, 4);
    admission_leave(&a, NULL);
    assert_int_equal(admission_connect(&a), WHY_NONE);
    set(&a, 2, 0, 0, 2); /* a reload lowers it: the live ones stay */
    admission_leave(&a, NULL);
    assert_int_equal(admission_connect(&a), WHY_LIMIT_CONNECTIONS);
    admission_deinit(&a);
}

static void crowds_are_of_those_without_a_stream(void **state)
{
    (void)state;
    const struct admission_limits l = {.connections = 10, .unrouted = 5};
    struct admission a;
    admission_init(&a);
    a.connections = a.unrouted = 1000;
    assert_false(admission_is_crowded(&a)); /* no limits */
    admission_set_limits(&a, &l, 2);        /* 5 and 3 are this worker's */
    a.connections = a.unrouted = 2;
    assert_false(admission_is_crowded(&a));
    a.connections = a.unrouted = 3;
    assert_true(admission_is_crowded(&a));
    a.connections = 5;
    a.unrouted = 1; /* full: somebody without a stream gives way to the next */
    assert_true(admission_is_crowded(&a));
    a.unrouted = 0; /* nobody does who has one */
    assert_false(admission_is_crowded(&a));
    admission_deinit(&a);
}

static void addresses_are_bounded_each(void **state)
{
    (void)state;
    struct admission a;
    admission_init(&a);
    set(&a, 0, 2, 0, 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(admission_connect(&a), WHY_NONE);
    assert_int_equal(identify_v4(&a, 1, 5), WHY_NONE);
    assert_int_equal(identify_v4(&a, 1, 5), WHY_NONE);
    assert_int_equal(identify_v4(&a, 1, 5), WHY_LIMIT_ADDRESS);
    admission_leave(&a, NULL); /* the refused one was not counted for the address */
    assert_int_equal(identify_v4(&a, 2, 5), WHY_NONE);
    leave_v4(&a, 1);
    assert_int_equal(identify_v4(&a, 1, 5), WHY_NONE);
    assert_int_equal(identify_v4(&a, 1, 5), WHY_LIMIT_ADDRESS);
    admission_deinit(&a);
}

static void an_ipv6_client_is_its_network(void **state)
{
    (void)state;
    struct admission a;
    bool counted;
    uint8_t addr[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9};
    admission_init(&a);
    set(&a, 0, 2, 0, 1);
    assert_int_equal(admission_identify(&a, addr, 5, &counted), WHY_NONE);
    addr[15] = 1;
    addr[8] = 7;
    assert_int_equal(admission_identify(&a, addr, 5, &counted), WHY_NONE);
    addr[12] = 3;
    assert_int_equal(admission_identify(&a, addr, 5, &counted), WHY_LIMIT_ADDRESS);
    addr[7] = 2; /* the neighbour */
    assert_int_equal(admission_identify(&a, addr, 5, &counted), WHY_NONE);
    admission_deinit(&a);
}

static void rate_is_bounded(void **state)
{
    (void)state;
    static const uint32_t rates[] = {1, 3, 7, 100, 600, 999, 1500};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        struct admission a;
        uint32_t at_once = 0, later = 0;
        admission_init(&a);
        set(&a, 0, 0, rates[i], 1);
        while (identify_v4(&a, 1, 1000) == WHY_NONE)
            at_once++;
        assert_int_equal(at_once, rates[i]);
        assert_int_equal(identify_v4(&a, 1, 1000), WHY_LIMIT_RATE);
        assert_int_equal(identify_v4(&a, 2, 1000), WHY_NONE);
        for (uint64_t ms = 1000; ms < 11000; ms++)
            while (identify_v4(&a, 1, ms) == WHY_NONE)
                later++;
        assert_in_range(later, rates[i] * 10 - 1 - rates[i] / 50, rates[i] * 10 + rates[i] / 50);
        admission_deinit(&a);
    }
}

static void the_table_forgets_and_grows(void **state)
{
    (void)state;
    struct admission a;
    admission_init(&a);
    set(&a, 0, 1, 0, 1);
    for (uint32_t i = 0; i < 100000; i++) { /* come and go: nothing to remember */
        assert_int_equal(admission_connect(&a), WHY_NONE);
        assert_int_equal(identify_v4(&a, i, 5), WHY_NONE);
        leave_v4(&a, i);
    }
    assert_true(a.addresses.cap <= 1024);
    for (uint32_t i = 0; i < 20000; i++) {
        assert_int_equal(admission_connect(&a), WHY_NONE);
        assert_int_equal(identify_v4(&a, i, 5), WHY_NONE);
    }
    for (uint32_t i = 0; i < 20000; i++)
        assert_int_equal(identify_v4(&a, i, 5), WHY_LIMIT_ADDRESS);
    for (uint32_t i = 0; i < 20000; i++)
        leave_v4(&a, i);
    assert_int_equal(a.connections, 0);
    for (uint32_t i = 0; i < 20000; i++)
        assert_int_equal(identify_v4(&a, i, 5), WHY_NONE);
    admission_deinit(&a);
}

static void a_full_table_refuses_newcomers(void **state)
{
    (void)state;
    struct admission a;
    uint32_t taken = 0;
    admission_init(&a);
    set(&a, 0, 1, 0, 1);
    while (taken < 1u << 20 && identify_v4(&a, taken, 5) == WHY_NONE)
        taken++;
    assert_in_range(taken, 30000, (1u << 20) - 1);
    assert_int_equal(identify_v4(&a, taken, 5), WHY_LIMIT_ADDRESS);
    admission_deinit(&a);
}

static enum close_why enter(struct admission *a, const char *name, uint64_t now_ms,
                            struct admission_app *app)
{
    struct stream_key key;
    assert_int_equal(stream_key_parse(name, &key), ERR_OK);
    return admission_enter_app(a, &key, now_ms, app);
}

static void sessions_of_an_app_are_bounded(void **state)
{
    (void)state;
    struct admission a;
    struct admission_app one, two, three, other, uncounted;
    admission_init(&a);
    assert_int_equal(enter(&a, "live/a", 0, &uncounted), WHY_NONE);
    assert_null(a.apps.entries);
    const struct admission_limits l = {.sessions_per_app = 4};
    admission_set_limits(&a, &l, 2);
    assert_int_equal(enter(&a, "live/a", 0, &one), WHY_NONE);
    admission_leave_app(&a, &uncounted); /* came before there was a limit */
    assert_int_equal(enter(&a, "live/x/y", 0, &two), WHY_NONE);
    assert_int_equal(enter(&a, "live/b", 0, &three), WHY_LIMIT_APP);
    admission_leave_app(&a, &three);
    assert_int_equal(enter(&a, "live/b", 0, &three), WHY_LIMIT_APP);
    assert_int_equal(enter(&a, "liv/b", 0, &other), WHY_NONE);
    admission_leave_app(&a, &one);
    admission_leave_app(&a, &one);
    assert_int_equal(enter(&a, "live/b", 0, &three), WHY_NONE);
    assert_int_equal(enter(&a, "live/a", 0, &one), WHY_LIMIT_APP);
    admission_deinit(&a);
}

static void sessions_of_an_app_come_slowly(void **state)
{
    (void)state;
    struct admission a;
    struct admission_app app;
    const struct admission_limits l = {.session_rate_per_app = 2};
    admission_init(&a);
    admission_set_limits(&a, &l, 1);
    for (int i = 0; i < 2; i++)
        assert_int_equal(enter(&a, "live/a", 1000, &app), WHY_NONE);
    assert_int_equal(enter(&a, "live/a", 1000, &app), WHY_LIMIT_APP_RATE);
    assert_int_equal(enter(&a, "vod/a", 1000, &app), WHY_NONE);
    assert_int_equal(enter(&a, "live/a", 1500, &app), WHY_NONE);
    assert_int_equal(enter(&a, "live/a", 1500, &app), WHY_LIMIT_APP_RATE);
    admission_deinit(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_limits_means_no_limits),
        cmocka_unit_test(total_is_bounded),
        cmocka_unit_test(crowds_are_of_those_without_a_stream),
        cmocka_unit_test(addresses_are_bounded_each),
        cmocka_unit_test(an_ipv6_client_is_its_network),
        cmocka_unit_test(rate_is_bounded),
        cmocka_unit_test(the_table_forgets_and_grows),
        cmocka_unit_test(a_full_table_refuses_newcomers),
        cmocka_unit_test(sessions_of_an_app_are_bounded),
        cmocka_unit_test(sessions_of_an_app_come_slowly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
