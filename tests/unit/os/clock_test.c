/* Time. */
#include "os/clock.h"

#include "unit.h"

#include <time.h>

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
    struct timespec tick;
    clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
    uint64_t tick_ms = (uint64_t)tick.tv_sec * 1000 + (uint64_t)tick.tv_nsec / 1000000 + 1;
    uint64_t before = berth__clock_ns() / 1000000;
    uint64_t ms = berth__clock_coarse_ms();
    uint64_t after = berth__clock_ns() / 1000000;
    assert_true(ms <= after);
    assert_true(ms + tick_ms >= before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neither_clock_goes_back),
        cmocka_unit_test(both_clocks_count_the_same_time_in_their_units),
    };
    return UNIT_RUN(tests);
}
