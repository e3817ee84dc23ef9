/* Stashes: which threads get one, what bounds it, and who can have what lies in it. */
#include "figures.h"

#include "heap/engine.h"
#include "heap/observer.h"
#include "heap/request.h"
#include "heap/stash.h"
#include "os/clock.h"
#include "pool/pool.h"

static berth_pool *pool;

static struct berth__cache *cache_here(void) {
    return berth__cache_peek(berth__pool_arenas(pool));
}

static int start_of_test(void **state) {
    (void)state;
    pool = berth_pool_create("stashed", NULL);
    return pool == NULL;
}

static int end_of_test(void **state) {
    (void)state;
    berth_thread_flush();
    berth_trim(pool);
    bool clean = figures_of(pool).live_high_bytes == 0;
    check_balance(pool);
    return berth_pool_destroy(pool, BERTH_FORCE) != 0 || !clean;
}

static void earn_stash(void) {
    for (unsigned i = 0; i < 2 * BERTH_STASH_MISSES; i++) {
        berth_free(berth_alloc(pool, 20000));
    }
}

/* Holds up to `count` blocks of 16 to 300 KiB and replaces them. */
static void replace_blocks(unsigned count, unsigned times, uint64_t seed) {
    static _Thread_local void *blocks[256];
    struct unit_random random = {seed};
    memset(blocks, 0, sizeof(blocks));
    for (unsigned i = 0; i < times; i++) {
        unsigned slot = (unsigned)unit_random_below(&random, count);
        if (blocks[slot] != NULL) {
            UNIT_CHECK(is_filled(blocks[slot], blocks[slot], 64));
        }
        berth_free(blocks[slot]);
        blocks[slot] = berth_alloc(pool, 16 * KiB + 1 + unit_random_below(&random, 284 * KiB));
        UNIT_CHECK(blocks[slot] != NULL);
        fill(blocks[slot], 64);
    }
    berth_free_batch(blocks, count);
}

static void check_stash(const struct berth__cache *cache) {
    const struct berth__stash *stash = cache->stash;
    uint64_t bytes = 0;
    unsigned count = 0;
    for (unsigned c = 0; c < BERTH_NORMAL_CLASS_COUNT; c++) {
        unsigned entry = stash->table.first[c];
        UNIT_CHECK((entry != 0) == (stash->table.held >> c & 1));
        for (; entry != 0; entry = stash->table.next[entry - 1]) {
            bytes += berth__normal_bytes[c];
            count++;
        }
    }
    UNIT_CHECK(count == stash->table.count && bytes == stash->table.bytes);
    UNIT_CHECK(bytes <= stash->bytes_max && stash->bytes_max <= BERTH_STASH_BYTES_MAX);
    UNIT_CHECK(stash->bytes_max <= cache->reserved);
    UNIT_CHECK(cache->reserved <= BERTH_CACHE_FREE_BYTES + berth__load_relaxed(&cache->granted));
}

static void the_tables_agree_with_the_classes(void **state) {
    /* A block would be handed out that is too short. */
    (void)state;
    for (size_t size = BERTH_SMALL_MAX + 1; size <= BERTH_NORMAL_TABLE_MAX; size += 511) {
        uint32_t bytes = berth__normal_bytes[berth__normal_class(size)];
        assert_int_equal(bytes, berth__good_size(size));
    }
    assert_int_equal(berth__normal_class(BERTH_NORMAL_TABLE_MAX),
                     berth__normal_class(BERTH_NORMAL_TABLE_MAX - 1));
    for (unsigned c = 0; c < BERTH_NORMAL_CLASS_COUNT; c++) {
        assert_int_equal(berth__good_size(berth__normal_bytes[c]), berth__normal_bytes[c]);
    }
}

static void a_thread_with_traffic_has_a_bounded_stash(void **state) {
    /* Each buffer would cost a lock; or a thread would hold what it once used for ever. */
    (void)state;
    earn_stash();
    assert_non_null(cache_here()->stash);
    for (unsigned i = 0; i < 20; i++) {
        replace_blocks(64, 3000, i + 1);
        check_stash(cache_here());
        check_balance(pool);
    }
    assert_int_equal(cache_here()->stash->bytes_max, BERTH_STASH_BYTES_MAX);
    assert_true(berth__stash_bytes(cache_here()) > 0);
    struct berth_pool_metrics p = figures_of(pool);
    assert_int_equal(p.live_low_bytes, 0);
    assert_true(p.live_high_bytes >= berth__stash_bytes(cache_here()));
    berth_thread_flush();
    assert_null(cache_here()->stash);
    assert_int_equal(cache_here()->reserved, 0);
    p = figures_of(pool);
    assert_int_equal(p.live_high_bytes, 0);
    assert_int_equal(p.allocations, p.frees);
}

static void blocks_of_no_class_and_long_ones_stay_out(void **state) {
    /* A block that was shortened would be handed out as one of its former class. */
    (void)state;
    earn_stash();
    for (unsigned i = 0; i < 200; i++) {
        char *cut = berth_alloc(pool, 200000);
        UNIT_CHECK(berth_realloc(pool, cut, 100000 + i * 300) == cut);
        size_t usable = berth_usable_size(cut);
        berth_free(cut);
        char *block = berth_alloc(pool, usable);
        assert_true(berth_usable_size(block) >= usable);
        fill(block, usable);
        berth_free(block);
        berth_free(berth_alloc(pool, 257 * KiB + i * 1000));
    }
    check_stash(cache_here());
    for (unsigned c = 0; c < BERTH_NORMAL_CLASS_COUNT; c++) {
        assert_true(cache_here()->stash->table.first[c] == 0 ||
                    berth__normal_bytes[c] <= BERTH_STASH_BLOCK_MAX);
    }
}

static void zeroed_and_aligned_requests_get_what_they_ask_for(void **state) {
    /* A stashed block holds old data. */
    (void)state;
    earn_stash();
    for (unsigned i = 0; i < 300; i++) {
        size_t size = 17 * KiB + i * 700;
        unsigned char *block = berth_alloc(pool, size);
        memset(block, 0xa5, size);
        berth_free(block);
        block = berth_alloc_flags(pool, size, BERTH_ZERO);
        for (size_t at = 0; at < size; at++) {
            UNIT_CHECK(block[at] == 0);
        }
        berth_free(block);
        block = berth_alloc_aligned(pool, 32 * KiB, size);
        assert_int_equal((uintptr_t)block % (32 * KiB), 0);
        berth_free(block);
    }
}

/* ---- who has none ---- */

static void *blocks_to_free[400];

static void *only_free(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < 400; i++) {
        berth_free(blocks_to_free[i]);
    }
    berth_free(berth_alloc(pool, 20000));
    UNIT_CHECK(cache_here() == NULL || cache_here()->stash == NULL);
    return NULL;
}

static void a_thread_that_only_frees_has_none(void **state) {
    /* Memory would wander from those who allocate to those who free. */
    (void)state;
    for (unsigned i = 0; i < 400; i++) {
        blocks_to_free[i] = berth_alloc(pool, 20000);
    }
    run_threads(1, only_free, NULL);
}

static void below_a_small_limit_there_is_none(void **state) {
    /* What a thread stashed could not be had by others who are about to fail. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = 512 * MiB;
    berth_pool *outer = pool;
    pool = berth_pool_create("limited", &options);
    earn_stash();
    assert_null(cache_here()->stash);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    options.limit = 8192 * MiB;
    pool = berth_pool_create("limited", &options);
    earn_stash();
    assert_non_null(cache_here()->stash);
    berth_thread_flush();
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    pool = outer;
}

static void there_is_none_in_lent_memory_nor_below_a_limit_that_was_lowered(void **state) {
    /* The same: there is no more memory to be had. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    static _Alignas(65536) char memory[4 * MiB];
    options.memory = memory;
    options.memory_size = sizeof(memory);
    berth_pool *outer = pool;
    pool = berth_pool_create("lent", &options);
    assert_non_null(pool);
    earn_stash();
    assert_null(cache_here()->stash);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    pool = outer;
    earn_stash();
    assert_non_null(cache_here()->stash);
    assert_int_equal(berth_limit_set(512 * MiB), 0);
    cache_here()->swept_ms = (uint32_t)berth__clock_coarse_ms() - 10000;
    berth__cache_look_around(cache_here());
    assert_null(cache_here()->stash);
    assert_int_equal(berth_limit_set(BERTH_UNLIMITED), 0);
}

/* ---- who can have it ---- */

static bool trim_at_tick(bool early) {
    (void)early;
    static bool trims;
    if (!trims) {
        trims = true;
        (void)berth__reclaim_all(berth__pool_arenas(pool)); /* as a command from outside does */
        trims = false;
    }
    return true;
}

static void a_trim_while_it_makes_room_ends_it(void **state) {
    /* The block that came in would be written to memory that is somebody else's. */
    (void)state;
    static const struct berth__observer trimmer = {.tick = trim_at_tick};
    const struct berth__observer *before = berth__load_relaxed(&berth__observer);
    earn_stash();
    unsigned ended = 0;
    for (unsigned i = 0; i < 300; i++) {
        void *blocks[24];
        for (unsigned k = 0; k < 24; k++) {
            blocks[k] = berth_alloc(pool, (17 + (i * 7 + k * 11) % 240) * KiB);
        }
        berth__store_release(&berth__observer, &trimmer);
        usleep(1000); /* the clock moves on */
        for (unsigned k = 0; k < 24; k++) {
            const struct berth__stash *had = cache_here()->stash;
            berth_free(blocks[k]);
            ended += had != NULL && cache_here()->stash == NULL;
        }
        berth__store_release(&berth__observer, before);
        earn_stash();
    }
    assert_true(ended > 0);
    berth_thread_flush();
    berth_trim(pool);
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
}

static void short_blocks_go_back_as_they_are_freed(void **state) {
    /* The memory of a server's burst would stay with it for ever. */
    (void)state;
    earn_stash();
    assert_true(unused_after_freeing(pool, 10000, 20000) < 24 * MiB);
}

static void a_parked_stash_can_be_taken(void **state) {
    /* An event loop that sleeps would keep its buffers from everybody. */
    (void)state;
    earn_stash();
    replace_blocks(64, 3000, 1);
    struct berth__cache *cache = cache_here();
    assert_true(berth__stash_bytes(cache) > 0);
    berth_thread_idle();
    berth__caches_claim_parked(berth__pool_arenas(pool));
    assert_null(cache->stash);
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
    earn_stash();
    assert_non_null(cache_here()->stash);
}

/* Lets the thread's next slow path find that it is time. */
static void sweep_now(void) {
    cache_here()->swept_ms = (uint32_t)berth__clock_coarse_ms() - 10000;
    berth__cache_look_around(cache_here());
}

static void what_is_not_used_goes_back(void **state) {
    /* A thread that once had a burst would hold its blocks for ever. */
    (void)state;
    earn_stash();
    replace_blocks(64, 3000, 1);
    sweep_now();
    uint64_t most = berth__stash_bytes(cache_here());
    for (unsigned i = 0; i < 6; i++) {
        berth_free(berth_alloc(pool, 20000));
        sweep_now();
    }
    assert_true(berth__stash_bytes(cache_here()) < most / 4);
    sweep_now();
    assert_null(cache_here()->stash);
}

static void *work(void *seed) {
    replace_blocks(64, 4000, (uintptr_t)seed);
    return NULL;
}

static void *pass_on(void *seed) {
    struct unit_random random = {(uintptr_t)seed};
    static _Atomic(void *) passed[128];
    for (unsigned i = 0; i < 20000; i++) {
        void *mine = berth_alloc(pool, 16 * KiB + 1 + unit_random_below(&random, 200 * KiB));
        UNIT_CHECK(mine != NULL);
        fill(mine, 64);
        void *others = atomic_exchange(&passed[unit_random_below(&random, 128)], mine);
        UNIT_CHECK(others == NULL || is_filled(others, others, 64));
        berth_free(others);
    }
    for (unsigned i = 0; i < 128; i++) {
        berth_free(atomic_exchange(&passed[i], NULL));
    }
    return NULL;
}

static void threads_that_work_and_pass_blocks_on_leave_nothing(void **state) {
    /* A block would be handed to two threads, or be lost when one ends. */
    (void)state;
    run_threads(4, work, (void *)1);
    run_threads(4, pass_on, (void *)2);
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
    check_balance(pool);
}

/* ---- the end, and faults ---- */

static void free_twice(void *unused) {
    (void)unused;
    void *block = berth_alloc(pool, 50000);
    berth_free(block);
    berth_free(block);
}

static void a_double_free_is_found_at_once(void **state) {
    /* Two callers would get the same buffer. */
    (void)state;
    earn_stash();
    assert_int_equal(unit_in_child(free_twice, NULL), -SIGABRT);
}

static void work_in_child(void *unused) {
    (void)unused;
    replace_blocks(64, 2000, 7);
    check_balance(pool);
}

static void a_child_begins_with_none(void **state) {
    /* Parent's and child's stash would be one while the child writes to it. */
    (void)state;
    earn_stash();
    replace_blocks(64, 2000, 3);
    assert_int_equal(unit_in_child(work_in_child, NULL), 0);
    check_stash(cache_here());
}

static void a_reset_forgets_it(void **state) {
    /* The stash would hand out memory that a reset has given back. */
    (void)state;
    earn_stash();
    replace_blocks(64, 2000, 3);
    assert_int_equal(berth_pool_reset(pool, BERTH_FORCE), 0);
    replace_blocks(64, 2000, 4);
    check_balance(pool);
}

int main(void) {
    (void)berth_pool_default();
#define TEST(function) cmocka_unit_test_setup_teardown(function, start_of_test, end_of_test)
    const struct CMUnitTest tests[] = {
        TEST(the_tables_agree_with_the_classes),
        TEST(a_thread_with_traffic_has_a_bounded_stash),
        TEST(blocks_of_no_class_and_long_ones_stay_out),
        TEST(zeroed_and_aligned_requests_get_what_they_ask_for),
        TEST(a_thread_that_only_frees_has_none),
        TEST(below_a_small_limit_there_is_none),
        TEST(there_is_none_in_lent_memory_nor_below_a_limit_that_was_lowered),
        TEST(a_trim_while_it_makes_room_ends_it),
        TEST(short_blocks_go_back_as_they_are_freed),
        TEST(a_parked_stash_can_be_taken),
        TEST(what_is_not_used_goes_back),
        TEST(threads_that_work_and_pass_blocks_on_leave_nothing),
        TEST(a_double_free_is_found_at_once),
        TEST(a_child_begins_with_none),
        TEST(a_reset_forgets_it),
    };
    return UNIT_RUN(tests);
}
