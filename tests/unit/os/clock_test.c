/* Time. */
#include "os/clock.h"

#include "unit.h"

static void neither_clock_goes_back(void **state) {
    /* Deadlines and decay would count in huge numbers. */
    (void)state;
    uint64_t ns = 0;
    uint64_t ms = 0;
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t ns_now = berth__clock_ns();
        uint64_t ms_now = berth__clock_coarse_ms();
        assert_true(ns_now >= ns);
        assert_true(ms_now >= ms);
        ns = ns_now;
        ms = ms_now;
    }
}

static void both_clocks_count_the_same_time_in_their_units(void **state) {
    /* A deadline of milliseconds would be one of seconds. */
    (void)state;
    uint64_t before = berth__clock_ns() / 1000000;
    uint64_t ms = berth__clock_coarse_ms();
    uint64_t after = berth__clock_ns() / 1000000;
    assert_true(ms <= after);
    assert_true(ms >= before / 2); /* it lags by a tick, and by more where ticks come late */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neither_clock_goes_back),
        cmocka_unit_test(both_clocks_count_the_same_time_in_their_units),
    };
    return UNIT_RUN(tests);
}
