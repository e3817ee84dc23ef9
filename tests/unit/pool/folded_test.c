/* Counters of the process and of tags go on when a pool ends or is reset. */
#include "figures.h"

#include <stdatomic.h>

static struct berth_tag_metrics tagged(void) {
    struct berth_tag_metrics figures;
    UNIT_CHECK(berth_metrics_read_tag("sessions", &figures, sizeof(figures)) == 0);
    return figures;
}

static berth_pool *make(const char *name) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.tag = "sessions";
    options.limit = 8 * MiB;
    berth_pool *pool = berth_pool_create(name, &options);
    assert_non_null(pool);
    return pool;
}

/* 100 small, 10 normal, 1 huge and 1 that fails. */
static void use(berth_pool *pool) {
    void *small[100];
    assert_int_equal(berth_alloc_batch(pool, 200, 100, small), 100);
    berth_free_batch(small, 100);
    for (unsigned i = 0; i < 10; i++) {
        berth_free(berth_alloc(pool, 100000));
    }
    berth_free(berth_alloc(pool, 5 * MiB));
    assert_null(berth_alloc_flags(pool, 100 * MiB, BERTH_NOWAIT));
    berth_thread_flush();
}

static void expect(const struct berth_process_metrics *before, unsigned times) {
    struct berth_process_metrics now = figures();
    assert_int_equal(now.allocations - before->allocations, 111 * times);
    assert_int_equal(now.frees - before->frees, 111 * times);
    assert_int_equal(now.failures - before->failures, times);
}

static void a_pool_that_ends_leaves_what_it_counted(void **state) {
    /* A rate of allocations would be that of a restart: of all that there ever were. */
    (void)state;
    struct berth_process_metrics before = figures();
    for (unsigned i = 1; i <= 3; i++) {
        berth_pool *pool = make("ends");
        use(pool);
        expect(&before, i);
        assert_int_equal(berth_pool_destroy(pool, 0), 0);
        expect(&before, i);
        assert_int_equal(tagged().allocations, 111 * i);
        assert_int_equal(tagged().frees, 111 * i);
        assert_int_equal(tagged().failures, i);
        assert_int_equal(tagged().pools, 0);
    }
}

static void blocks_that_a_pool_drops_count_as_freed(void **state) {
    /* allocations - frees would drift away from what is live. */
    (void)state;
    struct berth_process_metrics before = figures();
    struct berth_tag_metrics of_tag = tagged();
    berth_pool *pool = make("reset");
    for (unsigned i = 1; i <= 3; i++) {
        use(pool);
        assert_non_null(berth_alloc(pool, 300));
        assert_non_null(berth_alloc(pool, 300000));
        assert_non_null(berth_alloc(pool, 5 * MiB));
        assert_int_equal(berth_pool_reset(pool, BERTH_FORCE), 0);
        struct berth_process_metrics now = figures();
        assert_int_equal(now.allocations - before.allocations, 114 * i);
        assert_int_equal(now.frees - before.frees, 114 * i);
        assert_int_equal(now.failures - before.failures, i);
        assert_int_equal(tagged().allocations - of_tag.allocations, 114 * i);
        assert_int_equal(tagged().count, 0);
    }
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    assert_int_equal(figures().frees - before.frees, 114 * 3);
}

static _Atomic bool done;

static void *read_all(void *unused) {
    struct berth_process_metrics before = figures();
    struct berth_tag_metrics of_tag = tagged();
    while (!atomic_load(&done)) {
        struct berth_process_metrics now = figures();
        struct berth_tag_metrics of_tag_now = tagged();
        UNIT_CHECK(now.allocations >= before.allocations && now.frees >= before.frees);
        UNIT_CHECK(now.failures >= before.failures);
        UNIT_CHECK(of_tag_now.allocations >= of_tag.allocations);
        UNIT_CHECK(of_tag_now.frees >= of_tag.frees && of_tag_now.failures >= of_tag.failures);
        before = now;
        of_tag = of_tag_now;
    }
    return unused;
}

static void nobody_sees_a_counter_fall(void **state) {
    /* Who reads while a pool ends would see less for a moment, and take it for a restart. */
    (void)state;
    pthread_t readers[2];
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&readers[i], NULL, read_all, NULL), 0);
    }
    for (unsigned i = 0; i < 100; i++) {
        berth_pool *pool = make("seen");
        use(pool);
        assert_int_equal(berth_pool_reset(pool, 0), 0);
        use(pool);
        assert_int_equal(berth_pool_destroy(pool, 0), 0);
    }
    atomic_store(&done, true);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(readers[i], NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_that_ends_leaves_what_it_counted),
        cmocka_unit_test(blocks_that_a_pool_drops_count_as_freed),
        cmocka_unit_test(nobody_sees_a_counter_fall),
    };
    return UNIT_RUN(tests);
}
