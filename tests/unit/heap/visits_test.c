/* Visits: looking into pools that others may be ending; with forks meanwhile. */
#include "figures.h"

#include "heap/engine.h"
#include "pool/pool.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>

static berth_pool *pool;
static unsigned number;
static atomic_bool entered, left, go_on;

static void make_pool(void) {
    pool = berth_pool_create("visited", NULL);
    assert_non_null(pool);
    number = berth__pool_arenas(pool)->number;
    atomic_store(&entered, false);
    atomic_store(&left, false);
    atomic_store(&go_on, false);
}

static void until(atomic_bool *flag) {
    while (!atomic_load(flag)) {
        sched_yield();
    }
}

static bool is_closed(void) {
    struct berth__arenas *arenas = berth__engine_enter(number);
    if (arenas != NULL) {
        berth__engine_leave(arenas);
    }
    return arenas == NULL;
}

/* Stays until somebody ends the pool, and a little longer. */
static void *visit_to_the_end(void *unused) {
    (void)unused;
    struct berth__arenas *arenas = berth__engine_enter(number);
    UNIT_CHECK(arenas != NULL);
    atomic_store(&entered, true);
    while (!is_closed()) {
        sched_yield();
    }
    sleep_ms(5);
    atomic_store(&left, true);
    berth__engine_leave(arenas);
    return NULL;
}

static void who_ends_a_pool_waits_for_its_visitors(void **state) {
    /* They would go on in memory that is gone. */
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        make_pool();
        assert_non_null(berth_alloc(pool, 100));
        pthread_t thread = start_thread(visit_to_the_end, NULL);
        until(&entered);
        assert_int_equal(round == 0 ? berth_pool_reset(pool, BERTH_FORCE)
                                    : berth_pool_destroy(pool, BERTH_FORCE),
                         0);
        assert_true(atomic_load(&left));
        join_thread(thread);
        assert_int_equal(is_closed(), round == 1);
        if (round == 0) {
            assert_int_equal(berth_pool_destroy(pool, 0), 0);
        }
    }
}

static void a_pool_that_is_not_ended_after_all_is_open_again(void **state) {
    /* The ladder and the metrics would have lost it. */
    (void)state;
    make_pool();
    void *block = berth_alloc(pool, 100);
    assert_int_equal(berth_pool_destroy(pool, 0), -EBUSY);
    assert_false(is_closed());
    assert_int_equal(berth_pool_reset(pool, 0), -EBUSY);
    assert_false(is_closed());
    berth_free(block);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void all_pools_are_visited_once(void **state) {
    /* Memory of one of them would not be found. */
    (void)state;
    berth_pool *more[5];
    char name[8];
    for (unsigned i = 0; i < 5; i++) {
        snprintf(name, sizeof(name), "%u", i);
        more[i] = berth_pool_create(name, NULL);
    }
    assert_int_equal(berth_pool_destroy(more[2], 0), 0);
    unsigned seen = 0;
    unsigned last = 0;
    struct berth__arenas *arenas = NULL;
    while ((arenas = berth__engine_next(arenas)) != NULL) {
        assert_true(seen == 0 || arenas->number > last);
        last = arenas->number;
        seen++;
    }
    assert_int_equal(seen, 5); /* with the default one */
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(i == 2 ? 0 : berth_pool_destroy(more[i], 0), 0);
    }
}

static void *visit_until_told(void *unused) {
    (void)unused;
    struct berth__arenas *arenas = berth__engine_enter(number);
    atomic_store(&entered, true);
    until(&go_on);
    berth__engine_leave(arenas);
    return NULL;
}

static void end_in_child(void *unused) {
    (void)unused;
    alarm(UNIT_HANGS_S);
    UNIT_CHECK(berth_pool_destroy(pool, 0) == 0);
}

static void a_child_waits_for_no_visitor_that_is_gone(void **state) {
    /* It would hang when it ends a pool. */
    (void)state;
    make_pool();
    pthread_t thread = start_thread(visit_until_told, NULL);
    until(&entered);
    assert_int_equal(unit_in_child(end_in_child, NULL), 0);
    atomic_store(&go_on, true);
    join_thread(thread);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void leave_and_end_in_child(void *arenas) {
    alarm(UNIT_HANGS_S);
    UNIT_CHECK(berth__engine_arenas(number) == arenas);
    berth__engine_leave(arenas);
    end_in_child(NULL);
}

static void a_visit_goes_on_in_the_child_of_its_thread(void **state) {
    /* A handler forks in a visit: the interrupted call's record would be another's. */
    (void)state;
    make_pool();
    struct berth__arenas *arenas = berth__engine_enter(number);
    assert_int_equal(unit_in_child(leave_and_end_in_child, arenas), 0);
    berth__engine_leave(arenas);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void *end_it(void *unused) {
    (void)unused;
    UNIT_CHECK(berth_pool_destroy(pool, BERTH_FORCE) == 0);
    return NULL;
}

static void use_in_child(void *arenas) {
    alarm(UNIT_HANGS_S);
    berth__engine_leave(arenas);
    UNIT_CHECK(!is_closed());
    berth_free(berth_alloc(pool, 1000));
    berth_thread_flush();
    UNIT_CHECK(figures_of(pool).live_high_bytes == 0);
    end_in_child(NULL);
}

static void a_pool_that_was_only_closed_is_whole_in_a_child(void **state) {
    /* The child could neither see nor end it. */
    (void)state;
    make_pool();
    struct berth__arenas *arenas = berth__engine_enter(number);
    pthread_t thread = start_thread(end_it, NULL);
    while (!is_closed()) {
        sched_yield();
    }
    assert_int_equal(unit_in_child(use_in_child, arenas), 0);
    assert_ptr_equal(berth__engine_arenas(number), arenas); /* it still waits for us */
    berth__engine_leave(arenas);
    join_thread(thread);
    assert_true(is_closed());
}

static void *end_after_all(void *unused) {
    (void)unused;
    atomic_store(&entered, true);
    UNIT_CHECK(berth_pool_destroy(pool, 0) == 0);
    atomic_store(&left, true);
    return NULL;
}

static void no_pool_is_ended_while_all_are_entered(void **state) {
    /* A fork would take the locks of a pool that is gone. */
    (void)state;
    make_pool();
    struct berth__arenas *arenas = berth__pool_arenas(pool);
    berth__engine_enter_all();
    pthread_t thread = start_thread(end_after_all, NULL);
    until(&entered);
    while (!is_closed()) {
        sched_yield();
    }
    sleep_ms(5);
    assert_ptr_equal(berth__engine_arenas(number), arenas);
    assert_false(atomic_load(&left));
    berth__engine_leave_all();
    join_thread(thread);
    assert_null(berth__engine_arenas(number));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_ends_a_pool_waits_for_its_visitors),
        cmocka_unit_test(a_pool_that_is_not_ended_after_all_is_open_again),
        cmocka_unit_test(all_pools_are_visited_once),
        cmocka_unit_test(a_child_waits_for_no_visitor_that_is_gone),
        cmocka_unit_test(a_visit_goes_on_in_the_child_of_its_thread),
        cmocka_unit_test(a_pool_that_was_only_closed_is_whole_in_a_child),
        cmocka_unit_test(no_pool_is_ended_while_all_are_entered),
    };
    return UNIT_RUN(tests);
}
