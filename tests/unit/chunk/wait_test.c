/* The queue of threads that wait for memory to come back. */
#include "chunk/wait.h"

#include "os/clock.h"
#include "os/fault.h"
#include "unit.h"

#include <pthread.h>
#include <time.h>

enum { WAITERS = 12, LONG_MS = 60000 };

static int start(void **state) {
    (void)state;
    berth__wait_init();
    return 0;
}

static struct berth__wait_queue queue;

static void join(struct berth__waiter *waiter, uint64_t wait_ms) {
    berth__wait_begin(waiter, wait_ms, &queue);
}

static void a_moment(void) {
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

/* Memory: tokens that whoever is woken may take. */
static _Atomic int tokens;
static unsigned order[WAITERS];
static _Atomic unsigned served;

static bool take_token(void) {
    int now = atomic_load(&tokens);
    while (now > 0) {
        if (atomic_compare_exchange_weak(&tokens, &now, now - 1)) {
            return true;
        }
    }
    return false;
}

static void *wait_for_token(void *number) {
    struct berth__waiter waiter;
    join(&waiter, LONG_MS);
    while (berth__wait_sleep(&waiter)) {
        if (take_token()) {
            order[atomic_fetch_add(&served, 1)] = (unsigned)(uintptr_t)number;
            break;
        }
    }
    berth__wait_end(&waiter);
    return NULL;
}

static void start_waiters(pthread_t *threads, unsigned count) {
    for (uintptr_t i = 0; i < count; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_token, (void *)i), 0);
        while (berth__load_relaxed(&berth__waiter_count) != i + 1) {
            a_moment();
        }
    }
}

static void check_order(pthread_t *threads, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&served), count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(order[i], i);
    }
    assert_false(berth__wait_anyone());
    atomic_store(&served, 0);
}

static void waiters_are_served_in_the_order_in_which_they_came(void **state) {
    /* Who has waited longest would time out. */
    (void)state;
    pthread_t threads[WAITERS];
    start_waiters(threads, WAITERS);
    for (unsigned i = 0; i < WAITERS; i++) {
        atomic_fetch_add(&tokens, 1);
        berth__wait_notify();
        while (atomic_load(&served) != i + 1) {
            a_moment();
        }
    }
    check_order(threads, WAITERS);
}

static void one_notice_for_all_serves_all(void **state) {
    /* Who leaves would not wake the next, and what is left over serve nobody. */
    (void)state;
    pthread_t threads[WAITERS];
    start_waiters(threads, WAITERS);
    atomic_fetch_add(&tokens, WAITERS);
    berth__wait_notify();
    check_order(threads, WAITERS);
}

static void a_head_that_nobody_wakes_looks_again_by_itself(void **state) {
    /* Memory that came back just as somebody joined would be missed until the deadline. */
    (void)state;
    pthread_t threads[WAITERS];
    start_waiters(threads, WAITERS);
    atomic_fetch_add(&tokens, WAITERS);
    check_order(threads, WAITERS);
}

static void *give_tokens(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < WAITERS; i++) {
        atomic_fetch_add(&tokens, 1);
        berth__wait_notify();
        berth__delay_point();
    }
    return NULL;
}

static void many_givers_and_waiters_lose_nobody(void **state) {
    /* A wake-up that crosses another one would be lost. */
    (void)state;
#if BERTH_FAULTS
    berth__delay_set(3);
#endif
    for (unsigned round = 0; round < 20; round++) {
        pthread_t threads[WAITERS];
        pthread_t giver;
        assert_int_equal(pthread_create(&giver, NULL, give_tokens, NULL), 0);
        for (uintptr_t i = 0; i < WAITERS; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, wait_for_token, (void *)i), 0);
        }
        for (unsigned i = 0; i < WAITERS; i++) {
            pthread_join(threads[i], NULL);
        }
        pthread_join(giver, NULL);
        assert_int_equal(atomic_load(&served), WAITERS);
        assert_int_equal(atomic_load(&tokens), 0);
        atomic_store(&served, 0);
    }
#if BERTH_FAULTS
    berth__delay_set(0);
#endif
    assert_false(berth__wait_anyone());
}

static void a_waiter_gives_up_at_its_deadline_and_not_before(void **state) {
    /* An allocation would hang for ever, or fail at once. */
    (void)state;
    struct berth__waiter waiter;
    uint64_t before = berth__clock_ns();
    join(&waiter, 30);
    unsigned looks = 0;
    while (berth__wait_sleep(&waiter)) {
        looks++;
    }
    berth__wait_end(&waiter);
    assert_true(berth__clock_ns() - before >= 30 * UINT64_C(1000000));
    assert_true(looks >= 1);
    join(&waiter, 0);
    assert_false(berth__wait_sleep(&waiter));
    berth__wait_end(&waiter);
}

static _Atomic bool has_joined;

static void *wait_behind(void *unused) {
    (void)unused;
    struct berth__waiter waiter;
    join(&waiter, 20);
    atomic_store(&has_joined, true);
    bool woken = berth__wait_sleep(&waiter);
    berth__wait_end(&waiter);
    return woken ? &tokens : NULL;
}

static void who_is_not_the_head_sleeps_until_the_deadline(void **state) {
    /* A waiter would be served before those that came earlier. */
    (void)state;
    struct berth__waiter head;
    pthread_t thread;
    void *woken = NULL;
    join(&head, LONG_MS);
    assert_int_equal(pthread_create(&thread, NULL, wait_behind, NULL), 0);
    while (!atomic_load(&has_joined)) { /* by then it may have left again */
        a_moment();
    }
    berth__wait_notify(); /* is for the head */
    pthread_join(thread, &woken);
    assert_null(woken);
    assert_true(berth__wait_sleep(&head));
    berth__wait_end(&head);
}

static void wait_on(void *waiter) {
    berth__wait_reset_in_child();
    UNIT_CHECK(berth__load_relaxed(&queue.count) == 0);
    berth__wait_notify();
    UNIT_CHECK(berth__wait_sleep(waiter)); /* it looks again, and queues up anew */
    berth__wait_stand(waiter, &queue);
    UNIT_CHECK(berth__load_relaxed(&queue.count) == 1);
    UNIT_CHECK(berth__wait_sleep(waiter));
    berth__wait_end(waiter);
    UNIT_CHECK(!berth__wait_anyone());
}

static void the_child_of_a_fork_has_an_empty_queue(void **state) {
    /* It would wait behind threads that it does not have; and a waiter that forks, in a handler,
     * would leave a queue in which it does not stand. */
    (void)state;
    pthread_t thread;
    start_waiters(&thread, 1);
    struct berth__waiter waiter;
    join(&waiter, LONG_MS);
    assert_int_equal(unit_in_child(wait_on, &waiter), 0);
    berth__wait_end(&waiter);
    atomic_store(&tokens, 1);
    check_order(&thread, 1);
}

/* ---- two queues ---- */

static struct berth__wait_queue second;
static struct berth__waiter younger;
static _Atomic bool stands, both_stand, checked, elder_goes;

static void *stand_before_the_elder(void *unused) {
    (void)unused;
    join(&younger, LONG_MS);
    younger.refused_by = &second;
    berth__wait_stand(&younger, &queue);
    atomic_store(&stands, true);
    while (!atomic_load(&both_stand)) {
        a_moment();
    }
    UNIT_CHECK(!berth__wait_may_pass(&second) && !berth__wait_may_pass(&queue));
    atomic_store(&checked, true);
    UNIT_CHECK(berth__wait_sleep(&younger)); /* only when the elder has gone */
    UNIT_CHECK(atomic_load(&elder_goes));
    UNIT_CHECK(berth__wait_may_pass(&second) && berth__wait_may_pass(&queue));
    berth__wait_end(&younger);
    return NULL;
}

static void who_waits_longest_is_first_in_every_queue(void **state) {
    /* Two waiters that came to two queues in different order would wait for each other. */
    (void)state;
    pthread_t thread;
    struct berth__waiter elder;
    berth__wait_begin(&elder, LONG_MS, &queue);
    assert_int_equal(pthread_create(&thread, NULL, stand_before_the_elder, NULL), 0);
    while (!atomic_load(&stands)) {
        a_moment();
    }
    assert_true(berth__wait_may_pass(&second)); /* it would stand before the other */
    elder.refused_by = &second;
    berth__wait_stand(&elder, &queue);
    assert_true(berth__wait_may_pass(&second));
    atomic_store(&both_stand, true);
    assert_true(berth__wait_sleep(&elder));
    while (!atomic_load(&checked)) {
        a_moment();
    }
    atomic_store(&elder_goes, true);
    berth__wait_end(&elder);
    pthread_join(thread, NULL);
    assert_false(berth__wait_anyone());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiters_are_served_in_the_order_in_which_they_came),
        cmocka_unit_test(one_notice_for_all_serves_all),
        cmocka_unit_test(a_head_that_nobody_wakes_looks_again_by_itself),
        cmocka_unit_test(many_givers_and_waiters_lose_nobody),
        cmocka_unit_test(a_waiter_gives_up_at_its_deadline_and_not_before),
        cmocka_unit_test(who_is_not_the_head_sleeps_until_the_deadline),
        cmocka_unit_test(the_child_of_a_fork_has_an_empty_queue),
        cmocka_unit_test(who_waits_longest_is_first_in_every_queue),
    };
    return cmocka_run_group_tests(tests, start, NULL) == 0 ? 0 : 1;
}
