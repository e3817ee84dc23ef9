/* The lock: exclusion, ownership, trying, sleeping, and the order of ranks. */
#include "os/lock.h"

#include "os/fault.h"
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

static struct berth__lock lock;

static void a_lock_has_one_holder_who_knows_it(void **state) {
    /* A fork inside a handler would wait for itself. */
    (void)state;
    berth__lock_init(&lock, BERTH_RANK_HEAP);
    assert_false(berth__lock_is_mine(&lock));
    berth__lock_acquire(&lock);
    assert_true(berth__lock_is_mine(&lock));
    berth__lock_release(&lock);
    assert_false(berth__lock_is_mine(&lock));
    assert_true(berth__try_lock(&lock));
    assert_true(berth__lock_is_mine(&lock));
    assert_false(berth__try_lock(&lock)); /* not even by its holder */
    berth__lock_release(&lock);
}

static void *other_thread_tries(void *result) {
    bool *tried = result;
    tried[0] = berth__lock_is_mine(&lock);
    tried[1] = berth__try_lock(&lock);
    return NULL;
}

static void a_lock_that_is_held_is_not_another_threads(void **state) {
    /* Two threads would be in one critical section. */
    (void)state;
    bool tried[2] = {true, true};
    pthread_t thread;
    berth__lock_init(&lock, BERTH_RANK_HEAP);
    berth__lock_acquire(&lock);
    assert_int_equal(pthread_create(&thread, NULL, other_thread_tries, tried), 0);
    pthread_join(thread, NULL);
    berth__lock_release(&lock);
    assert_false(tried[0]);
    assert_false(tried[1]);
}

enum { THREADS = 8, ROUNDS = 4000 };
static uint64_t guarded;

static void *count_up(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (i % 3 != 0) {
            berth__lock_acquire(&lock);
        } else {
            while (!berth__try_lock(&lock)) {
            }
        }
        uint64_t before = guarded;
        berth__delay_point();
        guarded = before + 1;
        berth__lock_release(&lock);
    }
    return NULL;
}

static void no_count_is_lost_by_a_crowd(void **state) {
    /* The lock would not exclude, or not order what it guards. */
    (void)state;
    pthread_t threads[THREADS];
    guarded = 0;
    berth__lock_init(&lock, BERTH_RANK_HEAP);
#if BERTH_FAULTS
    berth__delay_set(50);
#endif
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, NULL), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
#if BERTH_FAULTS
    berth__delay_set(0);
#endif
    assert_int_equal(guarded, (uint64_t)THREADS * ROUNDS);
    assert_int_equal(berth__load_relaxed(&lock.sleepers), 0);
}

static void *take_and_check_errno(void *unused) {
    (void)unused;
    errno = ERANGE;
    berth__lock_acquire(&lock);
    UNIT_CHECK(errno == ERANGE);
    berth__lock_release(&lock);
    UNIT_CHECK(errno == ERANGE);
    return NULL;
}

static void a_waiter_that_sleeps_is_woken_and_keeps_errno(void **state) {
    /* A preempted holder would cost a processor, or free() would change errno. */
    (void)state;
    pthread_t threads[3];
    berth__lock_init(&lock, BERTH_RANK_HEAP);
    berth__lock_acquire(&lock);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_check_errno, NULL), 0);
    }
    while (berth__load_relaxed(&lock.sleepers) != 3) {
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    berth__lock_release(&lock);
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_true(berth__load_relaxed(&lock.contended) >= 1);
    assert_int_equal(berth__load_relaxed(&lock.holder), 0);
    assert_int_equal(berth__load_relaxed(&lock.sleepers), 0);
}

static void *take_and_release(void *unused) {
    (void)unused;
    berth__lock_acquire(&lock);
    berth__lock_release(&lock);
    return NULL;
}

static void a_sleeper_that_was_forgotten_is_not_counted_out(void **state) {
    /* In the child that a handler forked, which had interrupted a sleeper, the count would go below
     * 0, and each release call the kernel. */
    (void)state;
    pthread_t thread;
    berth__lock_init(&lock, BERTH_RANK_HEAP);
    berth__lock_acquire(&lock);
    assert_int_equal(pthread_create(&thread, NULL, take_and_release, NULL), 0);
    while (berth__load_relaxed(&lock.sleepers) != 1) {
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    berth__lock_forget_sleepers(&lock);
    assert_int_equal(berth__load_relaxed(&lock.sleepers), 0);
    berth__lock_release(&lock);
    pthread_join(thread, NULL);
    assert_true(berth__load_relaxed(&lock.sleepers) <= 1); /* it may have slept again */
}

static void waking_nobody_leaves_the_next_to_be_woken(void **state) {
    /* A sleeper that was counted but not asleep yet would keep all later releases from waking
     * anybody: each then sleeps until its own timer ends, up to 64 ms. */
    (void)state;
    berth__lock_init(&lock, BERTH_RANK_HEAP);
    berth__store_relaxed(&lock.sleepers, 1); /* about to sleep */
    berth__lock_acquire(&lock);
    errno = ERANGE;
    berth__lock_release(&lock);
    assert_int_equal(errno, ERANGE);
    assert_int_equal(berth__load_relaxed(&lock.waking), 0);
}

static void wait_for_own_lock(void *unused) {
    (void)unused;
    berth__lock_init(&lock, BERTH_RANK_HEAP);
    berth__lock_acquire(&lock);
    berth__lock_slow(&lock);
}

static void waiting_for_ones_own_lock_stops_the_process(void **state) {
    /* A bug would show as a process that hangs. */
    (void)state;
    char line[256];
    assert_int_equal(unit_in_child_line(wait_for_own_lock, NULL, line, sizeof(line)), -SIGABRT);
    assert_non_null(strstr(line, "a thread waits for its own lock"));
}

/* ---- ranks, in debug builds ---- */

static struct berth__lock outer, inner, equal;

static void init_three(void) {
    berth__lock_init(&outer, BERTH_RANK_HEAPS);
    berth__lock_init(&inner, BERTH_RANK_ARENA);
    berth__lock_init(&equal, BERTH_RANK_ARENA);
}

static void take_in_order(void *unused) {
    (void)unused;
    init_three();
    berth__lock_acquire(&outer);
    berth__lock_acquire(&inner);
    UNIT_CHECK(berth__try_lock(&equal)); /* allowed: it cannot wait */
    berth__lock_release(&outer);         /* in any order */
    berth__lock_release(&equal);
    berth__lock_release(&inner);
    berth__lock_acquire(&inner);
    berth__lock_release(&inner);
    berth__lock_acquire(&outer);
    berth__lock_release(&outer);
}

static void take_out_of_order(void *unused) {
    (void)unused;
    init_three();
    berth__lock_acquire(&inner);
    berth__lock_acquire(&outer);
}

static void nest_equal_ranks(void *unused) {
    (void)unused;
    init_three();
    berth__lock_acquire(&inner);
    berth__lock_acquire(&equal);
}

static void release_what_is_not_held(void *unused) {
    (void)unused;
    init_three();
    berth__lock_release(&inner);
}

static void *release_in_thread(void *unused) {
    (void)unused;
    berth__lock_acquire(&equal); /* one of that rank is held here */
    berth__lock_release(&inner);
    return NULL;
}

static void release_anothers(void *unused) {
    (void)unused;
    pthread_t thread;
    init_three();
    berth__lock_acquire(&inner);
    UNIT_CHECK(pthread_create(&thread, NULL, release_in_thread, NULL) == 0);
    pthread_join(thread, NULL);
}

static void debug_builds_stop_at_a_wrong_order_of_locks(void **state) {
    /* A deadlock would be found by users. */
    (void)state;
    UNIT_ONLY_IF(BERTH_DEBUG);
    static const struct {
        void (*run)(void *);
        const char *line;
    } cases[] = {
        {take_out_of_order, "locks taken out of order"},
        {nest_equal_ranks, "locks taken out of order"},
        {release_what_is_not_held, "a lock released that was not held"},
        {release_anothers, "a lock released by another thread"},
    };
    char line[256];
    assert_int_equal(unit_in_child_line(take_in_order, NULL, line, sizeof(line)), 0);
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(cases); i++) {
        int status = unit_in_child_line(cases[i].run, NULL, line, sizeof(line));
        assert_int_equal(status, -SIGABRT);
        assert_non_null(strstr(line, cases[i].line));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lock_has_one_holder_who_knows_it),
        cmocka_unit_test(a_lock_that_is_held_is_not_another_threads),
        cmocka_unit_test(no_count_is_lost_by_a_crowd),
        cmocka_unit_test(a_waiter_that_sleeps_is_woken_and_keeps_errno),
        cmocka_unit_test(a_sleeper_that_was_forgotten_is_not_counted_out),
        cmocka_unit_test(waking_nobody_leaves_the_next_to_be_woken),
        cmocka_unit_test(waiting_for_ones_own_lock_stops_the_process),
        cmocka_unit_test(debug_builds_stop_at_a_wrong_order_of_locks),
    };
    return UNIT_RUN(tests);
}
