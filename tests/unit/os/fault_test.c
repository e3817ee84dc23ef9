/* The test hooks themselves. */
#include "os/fault.h"

#include "unit.h"

#include <errno.h>

#if BERTH_FAULTS
static void exactly_the_calls_that_a_test_names_fail(void **state) {
    /* Every test of a failing system call would test something else. */
    (void)state;
    uint64_t before = berth__os_calls(BERTH_OS_BIND);
    berth__os_fail_after(BERTH_OS_BIND, 2, 3);
    for (unsigned i = 0; i < 8; i++) {
        errno = 0;
        bool fails = i >= 2 && i < 5;
        assert_int_equal(berth__os_fails(BERTH_OS_BIND), fails);
        assert_int_equal(errno, fails ? ENOMEM : 0);
        assert_false(berth__os_fails(BERTH_OS_MOVE));
    }
    assert_int_equal(berth__os_calls(BERTH_OS_BIND) - before, 8);
}

static void a_fault_may_last_for_ever_and_be_lifted(void **state) {
    /* "All from here on" would wrap around to none. */
    (void)state;
    berth__os_fail_after(BERTH_OS_BIND, 1, UINT64_MAX);
    assert_false(berth__os_fails(BERTH_OS_BIND));
    assert_true(berth__os_fails(BERTH_OS_BIND));
    assert_true(berth__os_fails(BERTH_OS_BIND));
    berth__os_fail_after(BERTH_OS_BIND, 0, 0);
    assert_false(berth__os_fails(BERTH_OS_BIND));
}

static void a_delay_point_returns_whatever_the_odds(void **state) {
    /* Stress with delays would hang. */
    (void)state;
    for (unsigned one_in = 0; one_in < 5; one_in++) {
        berth__delay_set(one_in);
        for (unsigned i = 0; i < 1000; i++) {
            berth__delay_point();
        }
    }
    berth__delay_set(0);
}
#else
static void without_the_hooks_nothing_fails(void **state) {
    /* What users install would fail on purpose. */
    (void)state;
    for (int call = 0; call < BERTH_OS_CALL_COUNT; call++) {
        assert_false(berth__os_fails((enum berth__os_call)call));
    }
    berth__delay_point();
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
#if BERTH_FAULTS
        cmocka_unit_test(exactly_the_calls_that_a_test_names_fail),
        cmocka_unit_test(a_fault_may_last_for_ever_and_be_lifted),
        cmocka_unit_test(a_delay_point_returns_whatever_the_odds),
#else
        cmocka_unit_test(without_the_hooks_nothing_fails),
#endif
    };
    return UNIT_RUN(tests);
}
