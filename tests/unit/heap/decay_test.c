/* Decay: how much unused memory is kept, and for how long. */
#include "heap/decay.h"

#include "heap/engine.h"
#include "os/clock.h"
#include "unit.h"

static struct berth__arena *arena;

static int start(void **state) {
    (void)state;
    if (!berth__engine_start()) {
        return -1;
    }
    arena = berth__arenas_here(berth__default_arenas());
    return arena == NULL;
}

static void a_thread_whose_clock_is_behind_makes_no_tick(void **state) {
    /* Between reading the clock and looking, another thread may have ticked: the time gone by would
     * be taken for all time, and what recent peaks wanted be forgotten. */
    (void)state;
    uint64_t later_ms = berth__clock_coarse_ms() + 100000;
    berth__store_relaxed(&arena->decay.demand, 100 << 20);
    berth__store_relaxed(&arena->decay.tick_ms, later_ms);
    berth__store_relaxed(&arena->arenas->run_caches_trimmed_ms, later_ms);
    berth__decay_step(arena);
    assert_int_equal(berth__load_relaxed(&arena->decay.demand), 100 << 20);
    assert_int_equal(berth__load_relaxed(&arena->decay.tick_ms), later_ms);
    assert_int_equal(berth__load_relaxed(&arena->arenas->run_caches_trimmed_ms), later_ms);
}

static void time_gone_by_fades_what_was_wanted(void **state) {
    /* Memory that a peak used would be kept for good. */
    (void)state;
    uint64_t earlier_ms = berth__clock_coarse_ms() - 10 * BERTH_DECAY_TICK_MS;
    berth__store_relaxed(&arena->decay.demand, 100 << 20);
    berth__store_relaxed(&arena->decay.tick_ms, earlier_ms);
    berth__decay_step(arena);
    assert_true(berth__load_relaxed(&arena->decay.demand) < 10 << 20);
    assert_true(berth__load_relaxed(&arena->decay.tick_ms) > earlier_ms);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_whose_clock_is_behind_makes_no_tick),
        cmocka_unit_test(time_gone_by_fades_what_was_wanted),
    };
    return cmocka_run_group_tests(tests, start, NULL) == 0 ? 0 : 1;
}
