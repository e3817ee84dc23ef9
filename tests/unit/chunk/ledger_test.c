/* The ledger: what may be charged, by whom, and that no interleaving passes the limit. */
#include "chunk/ledger.h"

#include "chunk/wait.h"
#include "os/fault.h"
#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

static struct berth__ledger process, pool;

static int start(void **state) {
    (void)state;
    berth__wait_init();
    berth__ledger_init(&process, NULL);
    berth__ledger_init(&pool, &process);
    return 0;
}

static uint64_t used(struct berth__ledger *ledger) {
    return berth__load_relaxed(&ledger->used);
}

static void a_charge_fits_up_to_the_limit_and_not_a_byte_more(void **state) {
    /* The limit would be passed, or its last bytes never used. */
    (void)state;
    berth__ledger_set_limit(&process, 1000);
    assert_true(berth__ledger_charge(&process, 999, 0));
    assert_false(berth__ledger_charge(&process, 2, 0));
    assert_true(berth__ledger_charge(&process, 1, 0));
    assert_false(berth__ledger_charge(&process, 1, 0));
    assert_false(berth__ledger_charge(&process, UINT64_MAX, 0)); /* nor by wrapping around */
    assert_int_equal(used(&process), 1000);
    assert_int_equal(berth__load_relaxed(&process.peak), 1000);
    assert_int_equal(berth__load_relaxed(&process.failures), 3);
    berth__ledger_uncharge(&process, 600);
    assert_true(berth__ledger_charge(&process, 600, 0));
    assert_int_equal(berth__load_relaxed(&process.peak), 1000);
}

static void without_a_limit_everything_fits(void **state) {
    /* A process without a limit would have one. */
    (void)state;
    assert_true(berth__ledger_charge(&process, UINT64_C(1) << 50, 0));
    assert_int_equal(berth__ledger_excess(&process), 0);
}

static void a_pools_charge_must_fit_both_ledgers(void **state) {
    /* A pool would exceed its own limit or the process's, or leave half a charge behind. */
    (void)state;
    berth__ledger_set_limit(&process, 1000);
    berth__ledger_set_limit(&pool, 500);
    assert_true(berth__ledger_charge(&pool, 400, 0));
    assert_int_equal(used(&pool), 400);
    assert_int_equal(used(&process), 400);
    assert_false(berth__ledger_charge(&pool, 200, 0)); /* the pool's own is short */
    assert_true(berth__ledger_charge(&process, 550, 0));
    assert_false(berth__ledger_charge(&pool, 100, 0)); /* the process's is */
    assert_int_equal(used(&pool), 400);
    assert_int_equal(used(&process), 950);
    assert_int_equal(berth__load_relaxed(&pool.failures), 1);
    assert_int_equal(berth__load_relaxed(&process.failures), 1);
    berth__ledger_uncharge(&pool, 400);
    assert_int_equal(used(&pool), 0);
    assert_int_equal(used(&process), 550);
}

static void memory_that_stays_mapped_is_charged_to_the_process_alone(void **state) {
    /* A pool that takes over or leaves memory would be charged for it twice, or not at all. */
    (void)state;
    berth__ledger_set_limit(&pool, 500);
    assert_true(berth__ledger_charge(&process, 300, 0)); /* retained by nobody */
    assert_true(berth__ledger_charge_split(&pool, 400, 100, 0));
    assert_int_equal(used(&pool), 400);
    assert_int_equal(used(&process), 400);
    berth__ledger_uncharge_own(&pool, 400);
    assert_int_equal(used(&pool), 0);
    assert_int_equal(used(&process), 400);
    berth__ledger_uncharge_own(&process, 400); /* has no own part */
    assert_int_equal(used(&process), 400);
}

static void the_reserve_is_for_who_unwinds(void **state) {
    /* A failing caller could not allocate what it needs to fail in order. */
    (void)state;
    berth__ledger_set_limit(&process, 1000);
    berth__store_relaxed(&process.reserve, 100);
    berth__store_relaxed(&process.malloc_reserve, 300);
    assert_false(berth__ledger_charge(&process, 901, BERTH_CHARGE_ORDINARY));
    assert_false(berth__ledger_charge(&process, 701, BERTH_CHARGE_MALLOC));
    assert_true(berth__ledger_charge(&process, 700, BERTH_CHARGE_MALLOC));
    assert_true(berth__ledger_charge(&process, 200, BERTH_CHARGE_ORDINARY));
    assert_false(berth__ledger_charge(&process, 1, BERTH_CHARGE_ORDINARY));
    assert_true(berth__ledger_charge(&process, 100, BERTH_CHARGE_MALLOC | BERTH_CHARGE_RESERVE));
    assert_false(berth__ledger_charge(&process, 1, BERTH_CHARGE_RESERVE));
    berth__store_relaxed(&process.reserve, 2000); /* more than the limit: nothing is ordinary */
    berth__ledger_uncharge(&process, 1000);
    assert_false(berth__ledger_charge(&process, 1, BERTH_CHARGE_ORDINARY));
}

static void lowering_the_limit_stops_growth_and_tells_the_excess(void **state) {
    /* What was mapped before would count as free, or not be returned. */
    (void)state;
    berth__ledger_set_limit(&process, 1000);
    assert_true(berth__ledger_charge(&pool, 800, 0));
    berth__ledger_set_limit(&process, 500);
    berth__ledger_set_limit(&pool, 700);
    assert_int_equal(berth__ledger_excess(&process), 300);
    assert_int_equal(berth__ledger_excess(&pool), 300);
    berth__ledger_set_limit(&pool, 100);
    assert_int_equal(berth__ledger_excess(&pool), 700);
    berth__ledger_set_limit(&pool, BERTH_NO_LIMIT);
    assert_false(berth__ledger_charge(&pool, 1, 0));
    berth__ledger_uncharge(&pool, 300);
    assert_false(berth__ledger_charge(&pool, 1, 0));
    berth__ledger_uncharge(&pool, 1);
    assert_true(berth__ledger_charge(&pool, 1, 0));
    assert_int_equal(berth__ledger_excess(&pool), 0);
}

static void wait_for(struct berth__waiter *waiter, struct berth__ledger *ledger) {
    berth__wait_begin(waiter, 60000, &ledger->queue);
}

static void *charge_one_byte(void *ledger) {
    return berth__ledger_charge(ledger, 1, BERTH_CHARGE_ORDINARY) ? ledger : NULL;
}

/* What a thread that does not wait gets. */
static bool another_is_charged(struct berth__ledger *ledger) {
    pthread_t thread;
    void *charged_there = NULL;
    UNIT_CHECK(pthread_create(&thread, NULL, charge_one_byte, ledger) == 0);
    pthread_join(thread, &charged_there);
    return charged_there != NULL;
}

static void while_somebody_waits_only_the_head_is_charged(void **state) {
    /* Callers that do not wait would take what others wait for. */
    (void)state;
    struct berth__waiter waiter;
    berth__ledger_set_limit(&process, 1000);
    assert_true(berth__ledger_charge(&pool, 100, 0));
    wait_for(&waiter, &process);
    assert_false(another_is_charged(&process));
    assert_false(another_is_charged(&pool)); /* of whose parent it is */
    assert_true(berth__ledger_charge(&process, 900, 0));
    assert_false(berth__ledger_charge(&process, 1, 0));
    berth__wait_end(&waiter);
    berth__ledger_uncharge(&process, 1);
    assert_true(another_is_charged(&process));
}

static void *charge_own_bytes(void *ledger) {
    return berth__ledger_charge_split(ledger, 10, 0, 0) ? ledger : NULL;
}

static void who_waits_for_one_ledger_holds_up_no_other(void **state) {
    /* One pool at its own limit would stop the growth of the whole process; or its own bytes would
     * be taken past its queue with memory that is mapped already. */
    (void)state;
    struct berth__waiter waiter;
    pthread_t thread;
    void *got = NULL;
    wait_for(&waiter, &pool);
    assert_true(another_is_charged(&process));
    assert_false(another_is_charged(&pool));
    assert_int_equal(pthread_create(&thread, NULL, charge_own_bytes, &pool), 0);
    pthread_join(thread, &got);
    assert_null(got);
    berth__wait_end(&waiter);

    wait_for(&waiter, &process); /* and who waits for the process's holds up no bytes of a pool */
    assert_int_equal(pthread_create(&thread, NULL, charge_own_bytes, &pool), 0);
    pthread_join(thread, &got);
    assert_ptr_equal(got, &pool);
    berth__wait_end(&waiter);
}

static void who_is_refused_by_the_parent_waits_there_too(void **state) {
    /* The bytes of the process would go to whoever comes by, as long as the pool has room. */
    (void)state;
    struct berth__waiter waiter;
    berth__ledger_set_limit(&process, 1000);
    berth__ledger_set_limit(&pool, 500);
    assert_true(berth__ledger_charge(&process, 999, 0));
    wait_for(&waiter, &pool);
    assert_true(another_is_charged(&process));
    assert_false(berth__ledger_charge(&pool, 1, 0));
    berth__wait_stand(&waiter, &pool.queue);
    berth__ledger_uncharge(&process, 10);
    assert_false(another_is_charged(&process));
    assert_false(berth__ledger_charge(&pool, 600, 0)); /* now it is the pool's bytes that miss */
    berth__wait_stand(&waiter, &pool.queue);
    assert_true(another_is_charged(&process));
    berth__wait_end(&waiter);
}

static void *charge_from_the_reserve(void *ledger) {
    bool much = berth__ledger_charge(ledger, 101, BERTH_CHARGE_RESERVE);
    return !much && berth__ledger_charge(ledger, 100, BERTH_CHARGE_RESERVE) ? ledger : NULL;
}

static void who_unwinds_gets_the_reserve_past_the_queue(void **state) {
    /* A failing caller could not unwind just when memory is short. */
    (void)state;
    struct berth__waiter waiter;
    pthread_t thread;
    void *got = NULL;
    berth__ledger_set_limit(&process, 1000);
    berth__store_relaxed(&process.reserve, 100);
    wait_for(&waiter, &process);
    assert_int_equal(pthread_create(&thread, NULL, charge_from_the_reserve, &process), 0);
    pthread_join(thread, &got);
    assert_ptr_equal(got, &process);
    berth__wait_end(&waiter);
}

static void uncharge_too_much(void *unused) {
    (void)unused;
    UNIT_CHECK(berth__ledger_charge(&process, 10, 0));
    berth__ledger_uncharge(&process, 11);
}

static void giving_back_more_than_was_charged_stops_the_process(void **state) {
    /* The total would wrap around, and no limit hold. */
    (void)state;
    char line[256];
    int status = unit_in_child_line(uncharge_too_much, NULL, line, sizeof(line));
    assert_int_equal(status, -SIGABRT);
    assert_non_null(strstr(line, "more uncharged than was charged"));
}

/* ---- threads ---- */

enum { THREADS = 64, ROUNDS = 1000, LIMIT = 100000 };
static pthread_barrier_t all_started;
static _Atomic uint64_t charged; /* an account that is kept without the ledger */

static void *charge_and_uncharge(void *seed) {
    struct unit_random random = {(uintptr_t)seed};
    uint64_t held = 0;
    pthread_barrier_wait(&all_started);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t bytes = 1 + unit_random_below(&random, LIMIT / 3);
        if (held == 0 && berth__ledger_charge(&pool, bytes, 0)) {
            held = bytes;
            UNIT_CHECK(atomic_fetch_add(&charged, bytes) + bytes <= LIMIT);
            UNIT_CHECK(used(&process) <= LIMIT);
            sched_yield();
        } else if (held != 0) {
            atomic_fetch_sub(&charged, held);
            berth__ledger_uncharge(&pool, held);
            held = 0;
        }
    }
    if (held != 0) {
        atomic_fetch_sub(&charged, held);
        berth__ledger_uncharge(&pool, held);
    }
    return NULL;
}

static void threads_at_the_limit_never_pass_it(void **state) {
    /* Two charges that both see room would both succeed. */
    (void)state;
    pthread_t threads[THREADS];
    pthread_barrier_init(&all_started, NULL, THREADS);
    berth__ledger_set_limit(&process, LIMIT);
#if BERTH_FAULTS
    berth__delay_set(100);
#endif
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, charge_and_uncharge, (void *)(i + 1)),
                         0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
#if BERTH_FAULTS
    berth__delay_set(0);
#endif
    assert_int_equal(used(&process), 0);
    assert_int_equal(used(&pool), 0);
    assert_true(berth__load_relaxed(&process.peak) <= LIMIT);
    assert_true(berth__load_relaxed(&process.failures) > 0);
}

int main(void) {
#define FRESH(test) cmocka_unit_test_setup(test, start)
    const struct CMUnitTest tests[] = {
        FRESH(a_charge_fits_up_to_the_limit_and_not_a_byte_more),
        FRESH(without_a_limit_everything_fits),
        FRESH(a_pools_charge_must_fit_both_ledgers),
        FRESH(memory_that_stays_mapped_is_charged_to_the_process_alone),
        FRESH(the_reserve_is_for_who_unwinds),
        FRESH(lowering_the_limit_stops_growth_and_tells_the_excess),
        FRESH(while_somebody_waits_only_the_head_is_charged),
        FRESH(who_waits_for_one_ledger_holds_up_no_other),
        FRESH(who_is_refused_by_the_parent_waits_there_too),
        FRESH(who_unwinds_gets_the_reserve_past_the_queue),
        FRESH(giving_back_more_than_was_charged_stops_the_process),
        FRESH(threads_at_the_limit_never_pass_it),
    };
    return UNIT_RUN(tests);
}
