/* Decay: how much unused memory is kept, and for how long. */
#include "heap/decay.h"

#include "heap/request.h"
#include "os/clock.h"
#include "pool/pool.h"
#include "unit.h"

#include <berth/berth.h>
#include <string.h>

enum { MiB = 1 << 20 };

static berth_pool *pool;
static struct berth__arena *arena; /* its only one */

static int start(void **state) {
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    pool = berth_pool_create("decaying", &options);
    if (pool != NULL) {
        berth_free(berth_alloc(pool, 1));
        arena = berth__arenas_at(berth__pool_arenas(pool), 0);
    }
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

enum { KEPT_EACH = 4 }; /* of the blocks, so that no chunk is empty and leaves the arena */

static uint64_t unused_now(void) {
    return berth__load_relaxed(&arena->dirty_bytes);
}

/* Writes and frees blocks of 1 MiB. Returns what is unused in the arena then. */
static uint64_t use_and_free(void **blocks, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        blocks[i] = berth_alloc(pool, MiB);
        memset(blocks[i], 1, MiB);
    }
    for (unsigned i = 0; i < count; i++) {
        if (i % KEPT_EACH != 0) {
            berth_free(blocks[i]);
        }
    }
    berth_thread_flush();
    berth__run_caches_flush(arena->arenas);
    /* As if that were so long ago that nobody expects it to be wanted. */
    berth__store_relaxed(&arena->decay.demand, 0);
    berth__store_relaxed(&arena->decay.regret, 0);
    berth__store_relaxed(&arena->decay.purged_lately, 0);
    berth__store_relaxed(&arena->decay.owed, 0);
    return unused_now();
}

static void free_rest(void *const *blocks, unsigned count) {
    for (unsigned i = 0; i < count; i += KEPT_EACH) {
        berth_free(blocks[i]);
    }
    (void)berth__decay_purge_all(arena);
}

static void step_after(uint64_t ms) {
    berth__store_relaxed(&arena->decay.tick_ms, berth__clock_coarse_ms() - ms);
    berth__decay_step(arena);
}

static void a_long_decay_keeps_what_a_short_one_returns(void **state) {
    /* decay_ms:3600000 would be a wish: a MiB went at each tick, and all above 4 MiB at once. */
    (void)state;
    enum { COUNT = 40 };
    void *blocks[COUNT];
    berth__decay_set_ms(3600000);
    step_after(BERTH_DECAY_TICK_MS);
    uint64_t unused = use_and_free(blocks, COUNT);
    for (unsigned i = 0; i < 50; i++) {
        step_after(BERTH_DECAY_TICK_MS);
    }
    assert_true(unused_now() > unused - MiB);
    berth__decay_set_ms(1000);
    for (unsigned i = 0; i < 50; i++) {
        step_after(BERTH_DECAY_TICK_MS);
    }
    assert_true(unused_now() < unused / 2);
    free_rest(blocks, COUNT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_whose_clock_is_behind_makes_no_tick),
        cmocka_unit_test(time_gone_by_fades_what_was_wanted),
        cmocka_unit_test(a_long_decay_keeps_what_a_short_one_returns),
    };
    return cmocka_run_group_tests(tests, start, NULL) == 0 ? 0 : 1;
}
