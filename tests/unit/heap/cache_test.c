/* Thread caches: their bounds, parking, promotion, and what a thread that only frees keeps. */
#include "figures.h"

#include "heap/cache.h"
#include "heap/engine.h"
#include "heap/request.h"
#include "os/topology.h"
#include "pool/pool.h"

static berth_pool *pool;

static struct berth__cache *cache_here(void) {
    return berth__cache_peek(berth__pool_arenas(pool));
}

/* Bytes in the bins of a cache. */
static uint64_t in_bins(const struct berth__cache *cache) {
    uint64_t bytes = 0;
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        bytes += (uint64_t)berth__bin_count(&cache->bins[c]) * berth__classes[c].size;
    }
    return bytes;
}

static uint64_t capacity_of(const struct berth__cache *cache) {
    uint64_t bytes = 0;
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        bytes += (uint64_t)cache->bins[c].capacity * berth__classes[c].size;
    }
    return bytes;
}

static void check_cache(const struct berth__cache *cache) {
    uint64_t granted = berth__load_relaxed(&cache->granted);
    UNIT_CHECK(capacity_of(cache) + cache->remote_limit == cache->reserved);
    UNIT_CHECK(cache->reserved <= BERTH_CACHE_FREE_BYTES + granted);
    UNIT_CHECK(in_bins(cache) <= cache->reserved);
    UNIT_CHECK(cache->remote_count <= BERTH_REMOTE_BLOCKS);
    UNIT_CHECK(cache->remote_bytes <= cache->remote_limit);
}

static int start_of_test(void **state) {
    (void)state;
    pool = berth_pool_create("cached", NULL);
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

/* Allocates and frees blocks of all classes, in waves. */
static void traffic(struct unit_random *random, unsigned waves) {
    void *blocks[300];
    for (unsigned wave = 0; wave < waves; wave++) {
        size_t size = unit_random_below(random, BERTH_SMALL_MAX + 1);
        unsigned count = 1 + (unsigned)unit_random_below(random, size < 1000 ? 300 : 40);
        UNIT_CHECK(berth_alloc_batch(pool, size, count, blocks) == count);
        berth_free_batch(blocks, count);
    }
}

static void a_cache_holds_no_more_than_its_grant_and_2_kib(void **state) {
    /* Idle threads would hold gigabytes that nobody can use. */
    (void)state;
    struct unit_random random = {5};
    for (unsigned i = 0; i < 300; i++) {
        traffic(&random, 20);
        check_cache(cache_here());
    }
    assert_true(in_bins(cache_here()) > 0);
    berth_thread_flush();
    assert_int_equal(in_bins(cache_here()), 0);
    assert_int_equal(cache_here()->reserved, 0);
    assert_int_equal(berth__load_relaxed(&cache_here()->granted), 0);
}

/* ---- many threads ---- */

static pthread_barrier_t turn;
static _Atomic uint64_t cached_total;

static void *cache_much(void *seed) {
    struct unit_random random = {(uintptr_t)seed};
    traffic(&random, 400);
    check_cache(cache_here());
    atomic_fetch_add(&cached_total, in_bins(cache_here()));
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    return NULL;
}

static void all_caches_together_hold_no_more_than_the_budget_and_2_kib_each(void **state) {
    /* A server's memory would grow with its number of threads. */
    (void)state;
    enum { THREADS = 100 };
    static pthread_t threads[THREADS];
    assert_int_equal(pthread_barrier_init(&turn, NULL, THREADS + 1), 0);
    atomic_store(&cached_total, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = start_thread(cache_much, (void *)(uintptr_t)(i + 1));
    }
    pthread_barrier_wait(&turn);
    struct berth_process_metrics all = figures();
    assert_true(atomic_load(&cached_total) <= all.cache_budget_bytes + THREADS * 2 * KiB);
    assert_true(all.cache_granted_bytes <= all.cache_budget_bytes);
    assert_true(all.live_high_bytes - all.live_low_bytes <=
                all.cache_budget_bytes + (THREADS + 1) * 2 * KiB);
    assert_int_equal(figures_of(pool).threads, THREADS);
    pthread_barrier_wait(&turn);
    for (unsigned i = 0; i < THREADS; i++) {
        join_thread(threads[i]);
    }
    pthread_barrier_destroy(&turn);
    assert_int_equal(figures_of(pool).threads, 0);
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
    berth_trim(pool);
    assert_int_equal(figures().cache_granted_bytes, 0);
}

/* ---- freeing only ---- */

enum { PASSED = 5000 };
static void *passed[PASSED];

static void *free_all(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < PASSED; i++) {
        berth_free(passed[i]);
        struct berth__cache *cache = cache_here();
        UNIT_CHECK(in_bins(cache) == 0 && capacity_of(cache) == 0);
        check_cache(cache);
    }
    return NULL;
}

static void a_thread_that_only_frees_grows_no_cache(void **state) {
    /* Memory would pile up with the consumers of a pipeline. */
    (void)state;
    const size_t sizes[] = {16, 100, 1000, 10000};
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned i = 0; i < PASSED; i++) {
            passed[i] = berth_alloc(pool, sizes[k]);
            fill(passed[i], sizes[k]);
        }
        run_threads(1, free_all, NULL);
        berth_thread_flush();
        struct berth_pool_metrics p = figures_of(pool);
        assert_int_equal(p.count, 0);
        assert_int_equal(p.live_high_bytes, 0); /* what caches hold would be among it */
    }
}

/* ---- parking ---- */

static void *cache_and_park(void *unused) {
    (void)unused;
    struct unit_random random = {9};
    traffic(&random, 100);
    struct berth__cache *cache = cache_here();
    UNIT_CHECK(in_bins(cache) > 0);
    berth_thread_idle();
    berth_thread_idle(); /* twice is as good */
    UNIT_CHECK(berth__load_relaxed(&cache->state) == BERTH_CACHE_PARKED);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn); /* the other thread trims meanwhile */
    UNIT_CHECK(in_bins(cache) == 0);
    void *block = berth_alloc(pool, 100);
    fill(block, 100);
    UNIT_CHECK(cache_here() == cache);
    UNIT_CHECK(berth__load_relaxed(&cache->state) == BERTH_CACHE_ACTIVE);
    berth_free(block);
    UNIT_CHECK(in_bins(cache) > 0);
    return NULL;
}

static void what_an_idle_thread_caches_can_be_taken(void **state) {
    /* Sleeping threads would hold memory that others fail for lack of. */
    (void)state;
    assert_int_equal(pthread_barrier_init(&turn, NULL, 2), 0);
    pthread_t thread = start_thread(cache_and_park, NULL);
    pthread_barrier_wait(&turn);
    assert_true(figures_of(pool).live_high_bytes > 0);
    berth_trim(pool);
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
    assert_int_equal(figures_of(pool).capacity_bytes, 0);
    pthread_barrier_wait(&turn);
    join_thread(thread);
    pthread_barrier_destroy(&turn);
}

static void a_flush_reaches_what_was_put_aside(void **state) {
    /* berth_thread_idle and then berth_thread_flush would leave the caches full. */
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct unit_random random = {9};
        traffic(&random, 100);
        berth_free(berth_alloc(berth_pool_default(), 100));
        berth_thread_idle();
        berth_thread_flush();
        assert_int_equal(figures_of(pool).live_high_bytes, 0);
        assert_int_equal(figures_of(berth_pool_default()).live_high_bytes, 0);
    }
}

static _Atomic bool stop;

static void *park_and_work(void *seed) {
    struct unit_random random = {(uintptr_t)seed};
    while (!atomic_load(&stop)) {
        traffic(&random, 10);
        void *block = berth_alloc(berth_pool_default(), 64);
        berth_thread_idle();
        if (unit_random_below(&random, 2) == 0) {
            berth_free(block); /* a free wakes it as well */
        } else {
            berth_free(berth_realloc(NULL, block, 6000));
        }
    }
    return NULL;
}

static void parking_and_taking_do_not_meet(void **state) {
    /* A thread would wake up into a cache that another is emptying. */
    (void)state;
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    atomic_store(&stop, false);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = start_thread(park_and_work, (void *)(uintptr_t)(i + 1));
    }
    for (unsigned i = 0; i < 300; i++) {
        berth_trim(i % 2 == 0 ? pool : NULL);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < THREADS; i++) {
        join_thread(threads[i]);
    }
    check_nothing_lives(berth_pool_default());
}

/* ---- heaps ---- */

static void *work_much(void *unused) {
    (void)unused;
    void *block = berth_alloc(pool, 64);
    UNIT_CHECK(!cache_here()->owns_heap);
    struct berth__heap *shared = cache_here()->heap;
    void *blocks[2000];
    for (unsigned i = 0; i < 20; i++) {
        UNIT_CHECK(berth_alloc_batch(pool, 100 + 16 * i, 2000, blocks) == 2000);
        berth_free_batch(blocks, 2000);
    }
    UNIT_CHECK(cache_here()->owns_heap && cache_here()->heap != shared);
    fill(block, 64);
    berth_free(block); /* of the heap that it left */
    return NULL;
}

static void *work_little(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < 20; i++) {
        berth_free(berth_alloc(pool, i * 20));
    }
    UNIT_CHECK(!cache_here()->owns_heap);
    return NULL;
}

static void traffic_earns_a_thread_a_heap_of_its_own(void **state) {
    /* Busy threads would share a lock; or each idle one hold slabs of every class. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    berth_pool *outer = pool;
    pool = berth_pool_create("one-arena", &options);
    void *first = berth_alloc(pool, 100);
    assert_true(cache_here()->owns_heap);
    for (unsigned i = 0; i < 30; i++) {
        run_threads(1, work_little, NULL);
    }
    uint64_t heaps = figures_of(pool).heaps;
    assert_in_range(heaps, 2, 1 + BERTH_SHARED_HEAPS);
    for (unsigned i = 0; i < 30; i++) {
        run_threads(1, work_much, NULL);
        berth_trim(pool); /* or the next would go on with its cache */
    }
    assert_in_range(figures_of(pool).heaps, heaps, heaps + 1 + BERTH_SHARED_HEAPS); /* adopted */
    berth_free(first);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    pool = outer;
}

/* ---- per CPU ---- */

static void runs_that_cpus_cache_are_bounded_and_given_up(void **state) {
    /* Large buffers would be mapped and unmapped each time; or never come back. */
    (void)state;
    void *blocks[300];
    size_t bound = berth__pool_arenas(pool)->policy.run_cache_bytes * berth__cpus_allowed;
    for (unsigned i = 0; i < 300; i++) {
        blocks[i] = berth_alloc(pool, 17000 + i * 1000);
    }
    for (unsigned i = 0; i < 300; i++) {
        berth_free(blocks[i]);
        assert_true(figures_of(pool).run_cached_bytes <= bound);
    }
    assert_true(figures_of(pool).run_cached_bytes > 0);
    berth_thread_flush();
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
    uint64_t maps = figures_of(pool).chunk_maps;
    for (unsigned i = 0; i < 1000; i++) {
        void *block = berth_alloc(pool, 32768);
        *(volatile char *)block = 1;
        berth_free(block);
    }
    assert_int_equal(figures_of(pool).chunk_maps, maps);
    berth_trim(pool);
    assert_int_equal(figures_of(pool).run_cached_bytes, 0);
    check_balance(pool);
}

int main(void) {
    (void)berth_pool_default();
#define TEST(function) cmocka_unit_test_setup_teardown(function, start_of_test, end_of_test)
    const struct CMUnitTest tests[] = {
        TEST(a_cache_holds_no_more_than_its_grant_and_2_kib),
        TEST(all_caches_together_hold_no_more_than_the_budget_and_2_kib_each),
        TEST(a_thread_that_only_frees_grows_no_cache),
        TEST(what_an_idle_thread_caches_can_be_taken),
        TEST(a_flush_reaches_what_was_put_aside),
        TEST(parking_and_taking_do_not_meet),
        TEST(traffic_earns_a_thread_a_heap_of_its_own),
        TEST(runs_that_cpus_cache_are_bounded_and_given_up),
    };
    return UNIT_RUN(tests);
}
