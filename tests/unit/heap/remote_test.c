/* What becomes of blocks that others freed. */
#include "figures.h"

#include "heap/cache.h"
#include "heap/engine.h"
#include "heap/request.h"
#include "pool/pool.h"

enum { BLOCKS = 4000, SIZE = 64 };

static berth_pool *pool;
static void *blocks[BLOCKS];

static struct berth__cache *cache_here(void) {
    return berth__cache_peek(berth__pool_arenas(pool));
}

/* A pool whose calling thread has a heap of its own, and room in its bins. */
static int start_of_test(void **state) {
    (void)state;
    pool = berth_pool_create("remote", NULL);
    while (pool != NULL && (cache_here() == NULL || !cache_here()->owns_heap)) {
        UNIT_CHECK(berth_alloc_batch(pool, SIZE, 1000, blocks) == 1000);
        berth_free_batch(blocks, 1000);
    }
    return pool == NULL;
}

static int end_of_test(void **state) {
    (void)state;
    berth_thread_flush();
    berth_trim(pool);
    struct berth_pool_metrics figures = figures_of(pool);
    bool clean = figures.live_high_bytes == 0 && figures.remote_bytes == 0 &&
                 figures.allocations == figures.frees;
    check_balance(pool);
    return berth_pool_destroy(pool, 0) != 0 || !clean;
}

static void *free_all(void *unused) {
    (void)unused;
    berth_free_batch(blocks, BLOCKS);
    return NULL;
}

static void others_free_them(void) {
    UNIT_CHECK(berth_alloc_batch(pool, SIZE, BLOCKS, blocks) == BLOCKS);
    join_thread(start_thread(free_all, NULL));
    assert_true(figures_of(pool).remote_bytes > 0); /* ticks may have taken in some */
}

static struct berth__bin *bin_of(size_t size) {
    return berth__bin_of_size(cache_here(), size);
}

static void *refill_of_another_class(size_t size) {
    assert_int_equal(berth__bin_count(bin_of(size)), 0);
    void *block = berth_alloc(pool, size);
    assert_non_null(block);
    return block;
}

static void an_owner_caches_them(void **state) {
    /* Each would go to its slab's bitmap and come out of it again. */
    (void)state;
    others_free_them();
    unsigned before = berth__bin_count(bin_of(SIZE));
    void *block = refill_of_another_class(3000);
    assert_true(berth__bin_count(bin_of(SIZE)) > before);
    assert_true(berth__bin_count(bin_of(SIZE)) < bin_of(SIZE)->capacity);
    berth_free(block);
}

static void who_takes_in_some_of_many_loses_none(void **state) {
    /* Whoever allocates next would wait for all of them to be put where they belong. */
    (void)state;
    others_free_them();
    struct berth__heap *heap = cache_here()->heap;
    berth__lock_acquire(&heap->lock);
    uint64_t left = figures_of(pool).remote_bytes;
    while (left > 0) {
        berth__remote_drain_locked(heap, NULL, BERTH_REMOTE_STEP);
        uint64_t now = figures_of(pool).remote_bytes;
        UNIT_CHECK(now == 0 || left - now >= BERTH_REMOTE_STEP * SIZE);
        UNIT_CHECK(left - now <= (BERTH_REMOTE_STEP + BERTH_REMOTE_BLOCKS) * SIZE);
        left = now;
    }
    UNIT_CHECK(!berth__remote_pending(heap));
    berth__lock_release(&heap->lock);
}

static void a_trim_takes_in_all(void **state) {
    /* Memory that nobody uses would stay. */
    (void)state;
    others_free_them();
    berth_trim(pool);
    assert_int_equal(figures_of(pool).remote_bytes, 0);
}

static void who_frees_helps_an_owner_that_does_not_come(void **state) {
    /* A thread that sleeps would be given memory without bound. */
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        UNIT_CHECK(berth_alloc_batch(pool, 16 * SIZE, BLOCKS, blocks) == BLOCKS);
        join_thread(start_thread(free_all, NULL));
        uint64_t slabs = figures_of(pool).chunk_bytes;
        assert_true(figures_of(pool).remote_bytes <= slabs / 2 + 2 * BERTH_REMOTE_PILE_MIN);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_owner_caches_them, start_of_test, end_of_test),
        cmocka_unit_test_setup_teardown(who_takes_in_some_of_many_loses_none, start_of_test,
                                        end_of_test),
        cmocka_unit_test_setup_teardown(a_trim_takes_in_all, start_of_test, end_of_test),
        cmocka_unit_test_setup_teardown(who_frees_helps_an_owner_that_does_not_come, start_of_test,
                                        end_of_test),
    };
    return UNIT_RUN(tests);
}
