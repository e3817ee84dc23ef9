/* Pools that come and go while threads that used them live on, and others look at all pools. */
#include "figures.h"

#include <errno.h>
#include <stdatomic.h>

enum { USERS = 3, POOLS = 300 };

static pthread_rwlock_t using = PTHREAD_RWLOCK_INITIALIZER;
static berth_pool *pool; /* under `using` */
static _Atomic bool stop;

/* Uses the pool while it is there; but idles, flushes and ends at any time, as event loops do. */
static void *use_now_and_then(void *seed) {
    struct unit_random random = {(uintptr_t)seed};
    unsigned uses = 20 + (unsigned)unit_random_below(&random, 60);
    for (unsigned i = 0; i < uses && !atomic_load(&stop); i++) {
        pthread_rwlock_rdlock(&using);
        if (pool != NULL) {
            void *blocks[50];
            size_t size = 16 + unit_random_below(&random, 3000);
            UNIT_CHECK(berth_alloc_batch(pool, size, 50, blocks) == 50);
            berth_free_batch(blocks, 50);
        }
        pthread_rwlock_unlock(&using);
        switch (unit_random_below(&random, 4)) {
        case 0: berth_thread_idle(); break;
        case 1: berth_thread_flush(); break;
        case 2: berth_free(berth_alloc(berth_pool_default(), 100)); break;
        default: break;
        }
    }
    return NULL;
}

static void *start_users(void *seed) {
    uintptr_t next = (uintptr_t)seed;
    while (!atomic_load(&stop)) {
        join_thread(start_thread(use_now_and_then, (void *)next));
        next += 7;
    }
    return NULL;
}

static void forget(void *context, const char *text, size_t length) {
    (void)context, (void)text, (void)length;
}

static void *look_at_all(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        (void)figures();
        UNIT_CHECK(berth_metrics_write(BERTH_METRICS_JSON, 7, forget, NULL) == 0);
        berth_trim(NULL);
    }
    return NULL;
}

static void pools_end_while_threads_that_used_them_live_on(void **state) {
    /* A thread that idles, flushes or ends would touch what is being torn down; so would a trim, a
     * scrape of the metrics, or another pool's request at the limit. */
    (void)state;
    pthread_t threads[USERS + 1];
    atomic_store(&stop, false);
    for (uintptr_t i = 0; i < USERS; i++) {
        threads[i] = start_thread(start_users, (void *)(i + 1));
    }
    threads[USERS] = start_thread(look_at_all, NULL);
    for (unsigned i = 0; i < POOLS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "short-lived%u", i % 7);
        pthread_rwlock_wrlock(&using);
        pool = berth_pool_create(name, NULL);
        UNIT_CHECK(pool != NULL);
        pthread_rwlock_unlock(&using);
        sleep_ms(i % 3);
        pthread_rwlock_wrlock(&using);
        if (i % 4 == 0) {
            UNIT_CHECK(berth_pool_reset(pool, 0) == 0);
            void *block = berth_alloc(pool, 64);
            UNIT_CHECK(berth_pool_destroy(pool, 0) == -EBUSY);
            berth_free(block);
        }
        int error = berth_pool_destroy(pool, i % 2 == 0 ? 0 : BERTH_FORCE);
        UNIT_CHECK(error == 0);
        pool = NULL;
        pthread_rwlock_unlock(&using);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i <= USERS; i++) {
        join_thread(threads[i]);
    }
    check_nothing_lives(berth_pool_default());
    assert_int_equal(figures().pools, 1);
    assert_int_equal(berth_limit_used(), 0);
    assert_int_equal(figures().cache_granted_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pools_end_while_threads_that_used_them_live_on),
    };
    return UNIT_RUN(tests);
}
