/* Pools that end while the engine itself looks at them, and while threads live that used them. */
#include "figures.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>

#if BERTH_FAULTS
void berth__delay_set(unsigned one_in);
#endif

enum { ROUNDS = 400 };

static atomic_bool stop;

/* Climbs the ladder for another pool's request, to the step that asks every pool. */
static void *climb(void *pool) {
    while (!atomic_load(&stop)) {
        UNIT_CHECK(berth_alloc_flags(pool, 60 * MiB, BERTH_NOWAIT) == NULL);
    }
    return NULL;
}

static void *trim(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        berth_trim(NULL);
    }
    return NULL;
}

static void ignore(void *context, const char *text, size_t length) {
    (void)context, (void)text, (void)length;
}

static void *read_metrics(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        (void)figures();
        UNIT_CHECK(berth_metrics_write(BERTH_METRICS_TEXT, BERTH_METRICS_ALL, ignore, NULL) == 0);
    }
    return NULL;
}

/* Lowering the limit takes back what all pools hold. */
static void *lower(void *unused) {
    (void)unused;
    for (unsigned i = 0; !atomic_load(&stop); i++) {
        berth_limit_set((i % 2 == 0 ? 32 : 64) * MiB);
    }
    return NULL;
}

static void *fork_children(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        pid_t child = fork();
        if (child == 0) {
            _exit(0);
        }
        int status = 0;
        UNIT_CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    }
    return NULL;
}

static void use(berth_pool *pool, unsigned round) {
    void *blocks[60];
    for (unsigned i = 0; i < 60; i++) {
        blocks[i] = berth_alloc_flags(pool, i % 3 == 0 ? 30000 : 2000, BERTH_NOWAIT);
    }
    for (unsigned i = 0; i < 60; i++) {
        if (round % 2 == 0 && blocks[i] != NULL) {
            berth_free(blocks[i]);
        }
    }
}

static void end_pools_beside(void *(*other)(void *), void *argument) {
    atomic_store(&stop, false);
    pthread_t thread = start_thread(other, argument);
    for (unsigned round = 0; round < ROUNDS; round++) {
        berth_pool *pool = berth_pool_create("ending", NULL);
        assert_non_null(pool);
        use(pool, round);
        assert_int_equal(berth_pool_reset(pool, BERTH_FORCE), 0);
        use(pool, 0);
        assert_int_equal(berth_pool_destroy(pool, round % 2 == 0 ? 0 : BERTH_FORCE), 0);
    }
    atomic_store(&stop, true);
    join_thread(thread);
}

static void pools_end_while_the_engine_looks_at_them(void **state) {
    /* A program that uses no pool after its end would crash in another pool's allocation. */
    (void)state;
    berth_pool *other = berth_pool_create("other", NULL);
    assert_non_null(berth_alloc(other, 8 * MiB));
    berth_limit_set(64 * MiB);
    end_pools_beside(climb, other);
    end_pools_beside(trim, NULL);
    end_pools_beside(read_metrics, NULL);
    end_pools_beside(lower, NULL);
    berth_limit_set(BERTH_UNLIMITED);
    end_pools_beside(fork_children, NULL);
    assert_int_equal(berth_pool_destroy(other, BERTH_FORCE), 0);
}

/* ---- threads that used the pool before ---- */

static berth_pool *past;
static atomic_uint phase;

static void use_past(void) {
    berth_free(berth_alloc(past, 100));
    berth_free(berth_alloc(past, 5000));
    atomic_store(&phase, 1);
    while (atomic_load(&phase) == 1) {
    }
}

static void *go_idle(void *unused) {
    (void)unused;
    use_past();
    for (unsigned i = 0; i < 50; i++) {
        berth_thread_idle();
        berth_free(berth_alloc(berth_pool_default(), 100000));
    }
    return NULL;
}

static void *flush(void *unused) {
    (void)unused;
    use_past();
    for (unsigned i = 0; i < 50; i++) {
        berth_thread_flush();
    }
    return NULL;
}

static void *end(void *unused) {
    (void)unused;
    use_past();
    return NULL;
}

static void threads_outlive_the_pools_they_used(void **state) {
    /* They would give back to a pool that is gone when they sleep, flush or end. */
    (void)state;
    void *(*const after[])(void *) = {go_idle, flush, end};
    for (unsigned round = 0; round < 3 * ROUNDS; round++) {
        past = berth_pool_create("past", NULL);
        void *live = berth_alloc(past, 1000);
        atomic_store(&phase, 0);
        pthread_t thread = start_thread(after[round % 3], NULL);
        while (atomic_load(&phase) == 0) {
            sched_yield();
        }
        atomic_store(&phase, 2);
        for (unsigned spin = 0; spin < round % 200 * 10; spin++) {
            (void)atomic_load(&phase);
        }
        if (round % 2 == 0) {
            assert_int_equal(berth_pool_destroy(past, 0), -EBUSY);
            berth_free(live);
            assert_int_equal(berth_pool_destroy(past, 0), 0);
        } else {
            assert_int_equal(berth_pool_destroy(past, BERTH_FORCE), 0);
        }
        join_thread(thread);
    }
    check_balance(berth_pool_default());
}

int main(void) {
#if BERTH_FAULTS
    berth__delay_set(50);
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pools_end_while_the_engine_looks_at_them),
        cmocka_unit_test(threads_outlive_the_pools_they_used),
    };
    return UNIT_RUN(tests);
}
