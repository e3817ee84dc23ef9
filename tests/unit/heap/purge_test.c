/* Unused memory goes back to the kernel: inside slabs, between runs, and whole chunks. */
#include "figures.h"

#include "heap/cache.h"
#include "heap/decay.h"
#include "heap/engine.h"
#include "heap/request.h"
#include "os/fault.h"
#include "pool/pool.h"

static berth_pool *pool;

static int start_of_test(void **state) {
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    options.decay_ms = 20;
    berth_trim(NULL);
    pool = berth_pool_create("purged", &options);
    return pool == NULL;
}

static int end_of_test(void **state) {
    (void)state;
    return berth_pool_destroy(pool, BERTH_FORCE);
}

static struct berth__arena *only_arena(void) {
    return berth__arenas_at(berth__pool_arenas(pool), 0);
}

/* Bytes of the process's memory that are resident. */
static size_t resident_bytes(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    UNIT_CHECK(file != NULL && fscanf(file, "%*u %lu", &pages) == 1);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Small and large blocks of changing sizes, as a server that is nearly idle makes them. */
static void light_traffic(void) {
    for (unsigned i = 0; i < 200; i++) {
        void *block = berth_alloc(pool, (i * 37) % 5000);
        berth_free(block);
    }
    berth_free(berth_alloc(pool, 100000));
    sleep_ms(2);
}

static void pages_of_free_blocks_go_back_while_others_live(void **state) {
    /* A slab with one live block would hold all of its pages for ever. */
    (void)state;
    enum { BLOCKS = 40000 };
    static char *blocks[BLOCKS];
    const size_t sizes[] = {48, 400, 1500, 5120, 9000};
    for (unsigned k = 0; k < 5; k++) {
        unsigned count = k == 0 ? BLOCKS : (unsigned)(12 * MiB / sizes[k]);
        assert_int_equal(berth_alloc_batch(pool, sizes[k], count, (void **)blocks), count);
        for (unsigned i = 0; i < count; i++) {
            fill(blocks[i], sizes[k]);
        }
        unsigned keep_every = (unsigned)(4 * 65536 / sizes[k]);
        uint64_t before = figures_of(pool).purged_bytes;
        for (unsigned i = 0; i < count; i++) {
            if (i % keep_every != 0) {
                berth_free(blocks[i]);
            }
        }
        berth_trim(pool); /* what time has left */
        assert_true(figures_of(pool).purged_bytes > before);
        check_balance(pool);
        for (unsigned i = 0; i < count; i += keep_every) {
            assert_true(is_filled(blocks[i], blocks[i], sizes[k]));
        }
        /* What was purged is lent again, and its neighbours are as they were. */
        static char *again[BLOCKS];
        assert_int_equal(berth_alloc_batch(pool, sizes[k], count / 2, (void **)again), count / 2);
        for (unsigned i = 0; i < count / 2; i++) {
            fill(again[i], sizes[k]);
        }
        for (unsigned i = 0; i < count; i += keep_every) {
            assert_true(is_filled(blocks[i], blocks[i], sizes[k]));
            berth_free(blocks[i]);
        }
        berth_free_batch((void **)again, count / 2);
        berth_thread_flush();
        assert_int_equal(figures_of(pool).live_high_bytes, 0);
    }
}

/* 12 blocks of 5120 bytes leave a whole page behind them, and the second spans no whole page. */
static void a_page_behind_the_last_block_is_not_purged_alone(void **state) {
    /* Nothing keeps the slab meanwhile: it could go back, and its next owner's data be purged. */
    (void)state;
    char *run = berth_alloc_aligned(pool, 65536, 65536);
    memset(run, 1, 65536);
    berth_free(run);
    berth__run_caches_flush(only_arena()->arenas);
    char *blocks[12];
    assert_int_equal(berth_alloc_batch(pool, 5120, 12, (void **)blocks), 12);
    assert_ptr_equal(blocks[0], run);
    struct berth__slab *slab = &berth__chunk_of(run)->slabs[0].slab;
    assert_true(slab->resident >> 15 != 0);
    for (unsigned i = 0; i < 12; i++) {
        if (blocks[i] == run + 5120) {
            berth_free(blocks[i]);
        }
    }
    berth_thread_flush();
    assert_false(berth__list_empty(&slab->purge_link));
    bool more = false;
    assert_int_equal(berth__heap_purge_some(slab->heap, &more), 0);
    assert_true(slab->resident >> 15 != 0);
    assert_int_equal(figures_of(pool).purges, 0);
}

static void after_a_peak_light_traffic_returns_the_memory(void **state) {
    /* A server would keep the memory of its busiest minute for days. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_SANITIZED);
    enum { BLOCKS = 100000 };
    static void *blocks[BLOCKS];
    struct unit_random random = {2};
    size_t at_start = resident_bytes();
    for (unsigned i = 0; i < BLOCKS; i++) {
        size_t size = i % 25 == 0 ? 16384 + unit_random_below(&random, 60000)
                                  : 32 + unit_random_below(&random, 500);
        blocks[i] = berth_alloc(pool, size);
        memset(blocks[i], 1, size);
    }
    size_t at_peak = resident_bytes();
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (unit_random_below(&random, 100) >= 3) {
            berth_free(blocks[i]);
            blocks[i] = NULL;
        }
    }
    size_t grown = at_peak - at_start;
    assert_true(grown > 200 * MiB);
    while (resident_bytes() > at_start + grown / 4) {
        light_traffic(); /* it comes down, or the test is stopped */
    }
    berth_free_batch(blocks, BLOCKS);
    while (resident_bytes() > at_start + 30 * MiB) {
        light_traffic();
    }
    berth_trim(pool);
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
}

static void the_last_free_of_a_large_buffer_returns_all_but_a_little(void **state) {
    /* A program that frees everything and falls silent would keep it all. */
    (void)state;
    void *blocks[100];
    assert_int_equal(berth_alloc_batch(pool, 2 * MiB, 100, blocks), 100);
    for (unsigned i = 0; i < 100; i++) {
        memset(blocks[i], 1, 2 * MiB);
    }
    sleep_ms(700); /* what was wanted lately is kept */
    for (unsigned i = 0; i < 100; i++) {
        berth_free(blocks[i]);
    }
    assert_true(figures_of(pool).run_dirty_bytes + figures().retained_bytes < 32 * MiB);
}

static void large_buffers_alone_make_memory_go_back(void **state) {
    /* A program whose every buffer hits a cache would keep its peak for ever. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.decay_ms = 0;
    berth_pool *at_once = berth_pool_create("at-once", &options);
    void *blocks[60];
    assert_int_equal(berth_alloc_batch(at_once, MiB, 60, blocks), 60);
    for (unsigned i = 0; i < 60; i++) {
        memset(blocks[i], 1, MiB);
    }
    berth_free_batch(blocks, 60);
    while (figures_of(at_once).run_dirty_bytes + figures().retained_bytes > 2 * MiB) {
        berth_free(berth_alloc(at_once, 17000)); /* each of them from the CPU's cache */
        sleep_ms(1);
    }
    assert_int_equal(berth_pool_destroy(at_once, 0), 0);
}

static void what_the_kernel_may_be_using_is_not_purged(void **state) {
    /* Data on its way to the network would turn to zero. */
    (void)state;
    char *run = berth_alloc(pool, 300000);
    char *small = berth_alloc(pool, 1000);
    struct berth__chunk *chunk = berth__chunk_of(run);
    assert_ptr_equal(chunk, berth__chunk_of(small));
    fill(run, 300000);
    fill(small, 1000);
    berth__store_relaxed(&chunk->pins, 1);
    berth_free(run);
    berth_free(small);
    berth_trim(pool);
    sleep_ms(50);
    light_traffic();
    berth__arena_purge_some(only_arena(), SIZE_MAX);
#if !BERTH_ASAN /* it would report the look at freed memory */
    assert_true(is_filled(run + 4096, run, 0));
    size_t kept = 0;
    for (size_t i = 0; i < 300000; i += 4096) {
        kept += ((volatile char *)run)[i] != 0;
    }
    assert_true(kept > 60);
#endif
    assert_int_equal(figures_of(pool).purged_bytes, 0);
    berth__store_relaxed(&chunk->pins, 0);
    berth_trim(pool);
    assert_int_equal(figures_of(pool).capacity_bytes, 0);
}

static void a_purge_that_the_kernel_refuses_changes_nothing(void **state) {
    /* Pages that still hold data would be taken for zero. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    void *kept = berth_alloc(pool, 200000);
    for (unsigned round = 0; round < 3; round++) {
        char *run = berth_alloc(pool, 300000);
        memset(run, 0x99, 300000);
        void *small[1000];
        assert_int_equal(berth_alloc_batch(pool, 1500, 1000, small), 1000);
        berth_free(run);
        for (unsigned i = 1; i < 1000; i++) {
            berth_free(small[i]);
        }
        berth__os_fail_after(BERTH_OS_PURGE, 0, UINT64_MAX);
        berth__os_fail_after(BERTH_OS_DECOMMIT, 0, round == 2 ? UINT64_MAX : 0);
        berth_trim(pool);
        check_balance(pool);
        char *zeroed = berth_alloc_flags(pool, 250000, BERTH_ZERO);
        assert_true(is_zero(zeroed, 250000));
        berth_free(zeroed);
        berth_free(small[0]);
        berth__os_fail_after(BERTH_OS_PURGE, 0, 0);
        berth__os_fail_after(BERTH_OS_DECOMMIT, 0, 0);
        check_balance(pool);
    }
    berth_free(kept);
    berth_trim(pool);
    assert_int_equal(figures_of(pool).capacity_bytes, 0);
#endif
}

int main(void) {
    (void)berth_pool_default();
#define TEST(function) cmocka_unit_test_setup_teardown(function, start_of_test, end_of_test)
    const struct CMUnitTest tests[] = {
        TEST(pages_of_free_blocks_go_back_while_others_live),
        TEST(a_page_behind_the_last_block_is_not_purged_alone),
        TEST(after_a_peak_light_traffic_returns_the_memory),
        TEST(the_last_free_of_a_large_buffer_returns_all_but_a_little),
        TEST(large_buffers_alone_make_memory_go_back),
        TEST(what_the_kernel_may_be_using_is_not_purged),
        TEST(a_purge_that_the_kernel_refuses_changes_nothing),
    };
    return UNIT_RUN(tests);
}
