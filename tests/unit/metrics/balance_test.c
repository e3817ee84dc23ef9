/* The figures balance at rest, bracket what is live, and count every block. */
#include "figures.h"

#include "chunk/meta.h"
#include "heap/arenas.h"
#include "heap/heap.h"
#include "metrics/page.h"
#include "pool/pool.h"
#include "size/classes.h"

static uint64_t usable_of(void *const *blocks, unsigned count) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        bytes += berth_usable_size(blocks[i]);
    }
    return bytes;
}

static size_t random_size(struct unit_random *random) {
    size_t kind = unit_random_below(random, 1000);
    return kind < 800   ? unit_random_below(random, 1000)
           : kind < 970 ? unit_random_below(random, 17000)
           : kind < 998 ? unit_random_below(random, 400000)
                        : 4 * MiB + unit_random_below(random, 3 * MiB);
}

static void every_heap_is_valid(void) {
    for (uint32_t number = 1; number < berth__heap_numbers(); number++) {
        struct berth__heap *heap = berth__load_acquire(&berth__heaps[number]);
        UNIT_CHECK(heap == NULL || berth__heap_is_valid(heap));
    }
}

static void the_figures_balance_while_one_thread_works(void **state) {
    /* Memory would be lost, or counted twice, and nobody could tell. */
    (void)state;
    enum { SLOTS = 1500, STEPS = 60000 };
    static void *blocks[SLOTS];
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.decay_ms = 5;
    berth_pool *pool = berth_pool_create("worked", &options);
    struct unit_random random = {11};
    uint64_t allocated = 0;
    for (unsigned i = 1; i <= STEPS; i++) {
        unsigned slot = (unsigned)unit_random_below(&random, SLOTS);
        if (unit_random_below(&random, 5) == 0 && blocks[slot] != NULL) {
            void *moved = berth_realloc(pool, blocks[slot], random_size(&random));
            allocated += moved != blocks[slot];
            blocks[slot] = moved;
        } else {
            berth_free(blocks[slot]);
            blocks[slot] = berth_alloc(pool, random_size(&random));
            allocated++;
        }
        assert_non_null(blocks[slot]);
        if (i % 2000 == 0) {
            check_balance(pool);
            struct berth_pool_metrics p = figures_of(pool);
            uint64_t live = usable_of(blocks, SLOTS);
            assert_true(p.live_low_bytes <= live && live <= p.live_high_bytes);
            berth_thread_flush();
            p = figures_of(pool);
            assert_int_equal(p.live_low_bytes, live);
            assert_int_equal(p.live_high_bytes, live);
            assert_int_equal(p.allocations, allocated);
            check_balance(pool);
            every_heap_is_valid();
        }
        if (i == STEPS / 2) {
            berth_trim(pool);
        }
    }
    berth_free_batch(blocks, SLOTS);
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

/* ---- threads ---- */

enum { SHARED = 4000, THREADS = 6 };
static _Atomic(void *) shared[SHARED];
static berth_pool *shared_pool;
static _Atomic unsigned seeds;

/* Exchanges blocks with the others, and leaves them behind. */
static void *exchange(void *unused) {
    (void)unused;
    struct unit_random random = {atomic_fetch_add(&seeds, 1)};
    for (unsigned i = 0; i < 30000; i++) {
        void *mine = berth_alloc(shared_pool, random_size(&random) % 100000);
        UNIT_CHECK(mine != NULL);
        berth_free(atomic_exchange(&shared[unit_random_below(&random, SHARED)], mine));
        if (unit_random_below(&random, 500) == 0) {
            berth_thread_idle();
        }
    }
    if (unit_random_below(&random, 2) == 0) {
        berth_thread_flush();
    }
    return NULL;
}

static void the_figures_balance_after_threads_passed_blocks_around(void **state) {
    /* Remote frees, moved slabs and ended threads would leave a difference. */
    (void)state;
    shared_pool = berth_pool_create("shared", NULL);
    for (unsigned round = 0; round < 3; round++) {
        run_threads(THREADS, exchange, NULL);
        check_balance(shared_pool);
        uint64_t live = 0;
        for (unsigned i = 0; i < SHARED; i++) {
            live += berth_usable_size(shared[i]);
        }
        struct berth_pool_metrics p = figures_of(shared_pool);
        assert_int_equal(p.live_low_bytes, live);
        assert_int_equal(p.live_high_bytes, live);
        every_heap_is_valid();
    }
    for (unsigned i = 0; i < SHARED; i++) {
        berth_free(shared[i]);
        shared[i] = NULL;
    }
    check_nothing_lives(shared_pool);
    every_heap_is_valid();
    assert_int_equal(figures_of(shared_pool).threads, 1); /* this one, which freed */
    assert_int_equal(berth_pool_destroy(shared_pool, 0), 0);
}

static void *lent[100];
static pthread_barrier_t turn;

static void *lend_and_stay(void *pool) {
    UNIT_CHECK(berth_alloc_batch(pool, 1024, 100, lent) == 100);
    berth_thread_flush();
    struct berth__heap *heap = berth__heap_of_entry(*berth__entry_find(lent[0]));
    berth__lock_acquire(&heap->lock); /* or a tick might take in what others free */
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    berth__lock_release(&heap->lock);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    return NULL;
}

static void the_figures_balance_when_a_slab_moves_before_its_blocks_come_home(void **state) {
    /* Blocks that nobody has would count as live, and their pool could not be destroyed. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    berth_pool *pool = berth_pool_create("moves", &options);
    assert_int_equal(pthread_barrier_init(&turn, NULL, 2), 0);
    pthread_t thread = start_thread(lend_and_stay, pool);
    pthread_barrier_wait(&turn);
    berth_free_batch(lent, 100);
    berth_thread_flush();
    assert_true(figures_of(pool).remote_bytes >= 100 * 1024);
    assert_int_equal(figures_of(pool).frees, 100); /* though nobody has taken them home */
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);

    unsigned small_class = berth__class_of_size(1024);
    struct berth__arena *arena = berth__arenas_at(berth__pool_arenas(pool), 0);
    struct berth__heap *heap = berth__load_acquire(&arena->newest_heap);
    if (berth__load_relaxed(&heap->classes[small_class].slabs) != 0) {
        heap = heap->older;
    }
    assert_non_null(heap); /* this thread's, which takes a slab from the other's */
    assert_true(berth__heap_steal(heap, small_class, true));
    check_balance(pool);
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    pthread_barrier_wait(&turn);
    join_thread(thread);
    pthread_barrier_destroy(&turn);
}

static _Atomic bool done;

static void *read_all(void *unused) {
    (void)unused;
    while (!atomic_load(&done)) {
        struct berth_pool_metrics p = figures_of(shared_pool);
        UNIT_CHECK(p.live_low_bytes <= p.live_high_bytes);
        UNIT_CHECK(p.live_high_bytes <= p.capacity_bytes + 8 * MiB);
        struct berth_process_metrics all = figures();
        UNIT_CHECK(all.cache_granted_bytes <= all.cache_budget_bytes);
        UNIT_CHECK(all.frees <= all.allocations + SHARED + 100000);
    }
    return NULL;
}

static void the_figures_can_be_read_while_threads_work(void **state) {
    /* A scrape of a busy server would crash it, or show nonsense. */
    (void)state;
    shared_pool = berth_pool_create("read", NULL);
    atomic_store(&done, false);
    pthread_t reader = start_thread(read_all, NULL);
    run_threads(4, exchange, NULL);
    atomic_store(&done, true);
    join_thread(reader);
    for (unsigned i = 0; i < SHARED; i++) {
        shared[i] = NULL;
    }
    assert_int_equal(berth_pool_destroy(shared_pool, BERTH_FORCE), 0);
}

/* ---- counts ---- */

static void blocks_served_by_caches_are_counted(void **state) {
    /* The rate of allocations would show only the misses. */
    (void)state;
    berth_pool *pool = berth_pool_create("counted", NULL);
    const size_t sizes[] = {1, 100, 5000, 16384, 20000, 400000, 6 * MiB};
    uint64_t total = 0;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (unsigned k = 0; k < 100; k++) {
            berth_free(berth_alloc(pool, sizes[i]));
        }
        total += 100;
        berth_thread_flush();
        struct berth_pool_metrics p = figures_of(pool);
        assert_int_equal(p.allocations, total);
        assert_int_equal(p.frees, total);
        assert_int_equal(p.count, 0);
        assert_int_equal(p.live_high_bytes, 0);
    }
    struct berth_class_metrics class;
    assert_int_equal(
        berth_metrics_read_class(pool, berth__class_of_size(100), &class, sizeof(class)), 0);
    assert_int_equal(class.allocations, 100);
    assert_int_equal(class.frees, 100);
    assert_int_equal(class.lent_blocks, 0);
    void *kept[3];
    assert_int_equal(berth_alloc_batch(pool, 100, 3, kept), 3);
    berth_thread_flush();
    assert_int_equal(
        berth_metrics_read_class(pool, berth__class_of_size(100), &class, sizeof(class)), 0);
    assert_int_equal(class.lent_blocks, 3);
    assert_int_equal(class.slabs, 1);
    assert_int_equal(class.free_blocks, 65536 / 112 - 3);
    berth_free_batch(kept, 3);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void *allocate_and_end(void *pool) {
    void **blocks = calloc(100, sizeof(void *));
    UNIT_CHECK(berth_alloc_batch(pool, 200, 100, blocks) == 100);
    return blocks;
}

static void frees_in_another_thread_are_counted_once(void **state) {
    /* allocations - frees would drift away from what is live. */
    (void)state;
    berth_pool *pool = berth_pool_create("elsewhere", NULL);
    berth_free(berth_alloc(pool, 200));
    pthread_t thread = start_thread(allocate_and_end, pool);
    void *result = NULL;
    assert_int_equal(pthread_join(thread, &result), 0);
    berth_free_batch(result, 100);
    free(result);
    check_nothing_lives(pool);
    struct berth_pool_metrics p = figures_of(pool);
    assert_int_equal(p.allocations, 101);
    assert_int_equal(p.frees, 101);
    assert_int_equal(p.remote_frees, 100);
    assert_true(p.remote_batches > 0 && p.remote_batches < 100);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void metadata_stays_small(void **state) {
    /* Describing the memory would cost as much as the memory. */
    (void)state;
    enum { BLOCKS = 1 << 18 };
    static void *blocks[BLOCKS];
    const size_t sizes[] = {16, 100, 1024, 4000};
    berth_pool *pool = berth_pool_default();
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        unsigned count = (unsigned)(64 * MiB / (sizes[i] < 256 ? 256 : sizes[i]));
        assert_int_equal(berth_alloc_batch(pool, sizes[i], count, blocks), count);
        struct berth_process_metrics all = figures();
        uint64_t mapped = all.mapped_bytes - all.metadata_bytes;
        const struct berth__stats_head *page = berth__stats_page(); /* there sooner or later */
        uint64_t page_bytes = page == NULL ? 0 : page->page_bytes;
        if (all.metadata_bytes > mapped / 50 + 256 * KiB + 4 * KiB + page_bytes) {
            fail_msg("size %zu: %lu bytes of metadata for %lu", sizes[i], all.metadata_bytes,
                     mapped);
        }
        berth_free_batch(blocks, count);
        berth_thread_flush();
        berth_trim(NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_stays_small),
        cmocka_unit_test(the_figures_balance_while_one_thread_works),
        cmocka_unit_test(the_figures_balance_after_threads_passed_blocks_around),
        cmocka_unit_test(the_figures_balance_when_a_slab_moves_before_its_blocks_come_home),
        cmocka_unit_test(the_figures_can_be_read_while_threads_work),
        cmocka_unit_test(blocks_served_by_caches_are_counted),
        cmocka_unit_test(frees_in_another_thread_are_counted_once),
    };
    return UNIT_RUN(tests);
}
