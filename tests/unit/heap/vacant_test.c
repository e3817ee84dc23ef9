/* Caches that threads leave to those that come after them. */
#include "figures.h"

#include "heap/cache.h"
#include "heap/engine.h"
#include "heap/request.h"
#include "os/fault.h"
#include "os/topology.h"
#include "pool/pool.h"

#include <unistd.h>

enum { SIZE = 200, BLOCKS = 3000 }; /* more than a cache holds */

static berth_pool *pool;

static struct berth__cache *cache_here(void) {
    return berth__cache_peek(berth__pool_arenas(pool));
}

static unsigned vacant(void) {
    return berth__load_relaxed(&berth__pool_arenas(pool)->vacant_count);
}

static int start_of_test(void **state) {
    (void)state;
    pool = berth_pool_create("vacant", NULL);
    return pool == NULL;
}

static int end_of_test(void **state) {
    (void)state;
    berth_trim(pool);
    check_balance(pool);
    struct berth_pool_metrics p = figures_of(pool);
    bool clean = p.live_high_bytes == 0 && p.threads == 0 && p.allocations == p.frees;
    return berth_pool_destroy(pool, 0) != 0 || !clean;
}

/* Until the thread owns a heap and has blocks in its cache. */
static void work(void) {
    void *blocks[BLOCKS];
    do {
        UNIT_CHECK(berth_alloc_batch(pool, SIZE, BLOCKS, blocks) == BLOCKS);
        berth_free_batch(blocks, BLOCKS);
    } while (!cache_here()->owns_heap);
}

static void *work_and_end(void *used) {
    work();
    *(struct berth__cache **)used = cache_here();
    return NULL;
}

static struct berth__cache *leave_one(void) {
    struct berth__cache *used = NULL;
    join_thread(start_thread(work_and_end, &used));
    return used;
}

static void *go_on(void *left) {
    void *block = berth_alloc(pool, SIZE);
    UNIT_CHECK(cache_here() == left && cache_here()->owns_heap);
    UNIT_CHECK(berth__bin_count(berth__bin_of_size(cache_here(), SIZE)) > 1);
    UNIT_CHECK(figures_of(pool).threads == 1 && vacant() == 0);
    UNIT_CHECK(cache_here()->owner == berth__thread_self());
    berth_free(block);
    return NULL;
}

static void the_next_thread_goes_on_with_it(void **state) {
    /* Where each connection has a thread, each would fill its bins from nothing. */
    (void)state;
    struct berth__cache *left = leave_one();
    assert_int_equal(vacant(), 1);
    join_thread(start_thread(go_on, left));
    assert_int_equal(vacant(), 1);
}

static void what_lies_in_it_is_free(void **state) {
    /* The figures would show memory as live that nobody holds. */
    (void)state;
    (void)leave_one();
    assert_int_equal(vacant(), 1);
    check_balance(pool);
    struct berth_pool_metrics p = figures_of(pool);
    assert_int_equal(p.live_high_bytes, 0);
    assert_int_equal(p.slab_lent_bytes, 0);
    assert_int_equal(p.allocations, p.frees);
    assert_int_equal(p.threads, 0);
    struct berth_class_metrics class;
    unsigned number = berth__class_of_size(SIZE);
    assert_int_equal(berth_metrics_read_class(pool, number, &class, sizeof(class)), 0);
    assert_int_equal(class.lent_blocks, 0);
    assert_true(class.free_blocks > 0);
}

static pthread_barrier_t all_there;

static void *work_together(void *unused) {
    (void)unused;
    work();
    pthread_barrier_wait(&all_there);
    return NULL;
}

static void there_are_no_more_than_cpus(void **state) {
    /* A burst of threads would leave what they had cached for good. */
    (void)state;
    unsigned threads = 2 * berth__cpus_allowed + 3;
    assert_int_equal(pthread_barrier_init(&all_there, NULL, threads), 0);
    run_threads(threads, work_together, NULL);
    pthread_barrier_destroy(&all_there);
    assert_true(vacant() > 0);
    assert_true(vacant() <= berth__cpus_allowed);
    check_balance(pool);
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
}

static void *work_until_it_is_gone(void *unused) {
    (void)unused;
    work();
    (void)leave_one();
    UNIT_CHECK(vacant() == 1);
    for (unsigned i = 0; i < 60000 && vacant() > 0; i++) {
        work();
        usleep(1000);
    }
    UNIT_CHECK(vacant() == 0);
    return NULL;
}

static void nobody_keeps_one_for_long(void **state) {
    /* A server that has become quieter would hold on to them. */
    (void)state;
    run_threads(1, work_until_it_is_gone, NULL);
}

static void nor_does_a_pool_where_nobody_works_any_more(void **state) {
    /* Its memory, and its part of the budget, would be kept for good. */
    (void)state;
    (void)leave_one();
    berth_pool *other = berth_pool_create("at-work", NULL);
    for (unsigned i = 0; i < 60000 && vacant() > 0; i++) {
        void *blocks[BLOCKS];
        UNIT_CHECK(berth_alloc_batch(other, SIZE, BLOCKS, blocks) == BLOCKS);
        berth_free_batch(blocks, BLOCKS);
        usleep(1000);
    }
    assert_int_equal(vacant(), 0);
    assert_int_equal(berth_pool_destroy(other, 0), 0);
}

static void a_trim_ends_them(void **state) {
    /* What is asked to go would stay. */
    (void)state;
    (void)leave_one();
    berth_trim(pool);
    assert_int_equal(vacant(), 0);
    assert_int_equal(figures_of(pool).chunk_bytes, 0);
}

static void a_reset_ends_them(void **state) {
    /* A thread would go on with a cache of blocks that are gone. */
    (void)state;
    (void)leave_one();
    assert_int_equal(berth_pool_reset(pool, 0), 0);
    assert_int_equal(vacant(), 0);
    (void)leave_one();
    check_balance(pool);
}

static void work_in_a_child(void *unused) {
    (void)unused;
    UNIT_CHECK(vacant() == 0);
    check_balance(pool);
    UNIT_CHECK(figures_of(pool).live_high_bytes == 0);
    work();
    berth_thread_flush();
    UNIT_CHECK(figures_of(pool).live_high_bytes == 0);
    UNIT_CHECK(figures_of(pool).live_low_bytes == 0);
}

static void a_child_has_none(void **state) {
    /* Nor may it lose what they hold. */
    (void)state;
    (void)leave_one();
    assert_int_equal(unit_in_child(work_in_a_child, NULL), 0);
    assert_int_equal(vacant(), 1);
}

static void *come_and_go(void *rounds) {
    for (unsigned i = 0; i < *(unsigned *)rounds; i++) {
        struct berth__cache *used;
        join_thread(start_thread(work_and_end, &used));
        if (i % 7 == 0) {
            berth_trim(pool);
        }
    }
    return NULL;
}

static void threads_may_come_and_go_at_once(void **state) {
    /* Two would go on with the same one. */
    (void)state;
    unsigned rounds = UNIT_SANITIZED ? 20 : 100;
#if BERTH_FAULTS
    berth__delay_set(8);
#endif
    run_threads(6, come_and_go, &rounds);
#if BERTH_FAULTS
    berth__delay_set(0);
#endif
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, start_of_test, end_of_test)
    const struct CMUnitTest tests[] = {
        TEST(the_next_thread_goes_on_with_it),
        TEST(what_lies_in_it_is_free),
        TEST(there_are_no_more_than_cpus),
        TEST(nobody_keeps_one_for_long),
        TEST(nor_does_a_pool_where_nobody_works_any_more),
        TEST(a_trim_ends_them),
        TEST(a_reset_ends_them),
        TEST(a_child_has_none),
        TEST(threads_may_come_and_go_at_once),
    };
    return UNIT_RUN(tests);
}
