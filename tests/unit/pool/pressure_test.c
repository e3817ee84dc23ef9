/* Pressure callbacks: who is asked, in what order, on which thread, with what they may do. */
#include "figures.h"

#include "chunk/ledger.h"
#include "heap/engine.h"
#include "heap/request.h"
#include "os/clock.h"
#include "pool/pool.h"

#include <errno.h>

static char calls[256]; /* a letter for each call */
static berth_pool *asked_for;
static size_t asked_bytes;
static pthread_t asked_on;

/* A callback's context: the letter that it notes. */
static void *letter(char c) {
    static char letters[128];
    letters[(unsigned char)c] = c;
    return &letters[(unsigned char)c];
}

static void note(void *context, berth_pool *pool, size_t bytes) {
    size_t length = strlen(calls);
    if (length + 1 == sizeof(calls)) {
        return; /* asked for long, while who counts was off its processor */
    }
    calls[length] = *(const char *)context;
    asked_for = pool;
    asked_bytes = bytes;
    asked_on = pthread_self();
}

static berth_pool *pool;

static int start_of_test(void **state) {
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.wait_ms = 0;
    options.arenas = 1;
    memset(calls, 0, sizeof(calls));
    berth_trim(NULL);
    pool = berth_pool_create("pressed", &options);
    return pool == NULL || berth_limit_set(16 * MiB);
}

static int end_of_test(void **state) {
    (void)state;
    berth__store_relaxed(&berth__ledger.reserve, 0);
    berth_thread_flush();
    int error = berth_pool_destroy(pool, BERTH_FORCE);
    return error != 0 || berth_limit_set(BERTH_UNLIMITED) != 0;
}

static void ask(void) {
    memset(calls, 0, sizeof(calls));
    assert_null(
        berth_alloc(pool, 17 * MiB - 4096 * 256)); /* fits the limit but not beside `most` */
}

static void all_are_asked_the_latest_first_on_the_requesting_thread(void **state) {
    /* The application's own caches would not be emptied, or on a thread that does not expect it. */
    (void)state;
    void *most = berth_alloc(pool, 8 * MiB);
    assert_int_equal(berth_pressure_add(note, letter('a'), 0), 0);
    assert_int_equal(berth_pressure_add(note, letter('b'), BERTH_PRESSURE_MALLOC_SAFE), 0);
    assert_int_equal(berth_pressure_add(note, letter('c'), 0), 0);
    ask();
    assert_string_equal(calls, "cba");
    assert_ptr_equal(asked_for, pool);
    assert_int_equal(asked_bytes, 16 * MiB);
    assert_true(pthread_equal(asked_on, pthread_self()));
    assert_int_equal(berth_pressure_remove(note, letter('b')), 0);
    assert_int_equal(berth_pressure_remove(note, letter('b')), -ENOENT);
    ask();
    assert_string_equal(calls, "ca");
    assert_int_equal(berth_pressure_remove(note, letter('a')), 0);
    assert_int_equal(berth_pressure_remove(note, letter('c')), 0);
    ask();
    assert_string_equal(calls, "");
    berth_free(most);
}

static void bad_callbacks_are_refused(void **state) {
    /* A callback would be asked twice, or overflow the table. */
    (void)state;
    static char contexts[65];
    assert_int_equal(berth_pressure_add(NULL, NULL, 0), -EINVAL);
    assert_int_equal(berth_pressure_add(note, contexts, 2), -EINVAL);
    assert_int_equal(berth_pressure_add(note, contexts, 0), 0);
    assert_int_equal(berth_pressure_add(note, contexts, 1), -EEXIST);
    for (unsigned i = 1; i < 64; i++) {
        assert_int_equal(berth_pressure_add(note, contexts + i, 0), 0);
    }
    assert_int_equal(berth_pressure_add(note, contexts + 64, 0), -ENOSPC);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(berth_pressure_remove(note, contexts + i), 0);
    }
}

static void note_and_leave(void *context, berth_pool *of_pool, size_t bytes) {
    note(context, of_pool, bytes);
    UNIT_CHECK(berth_pressure_remove(note_and_leave, context) == 0);
}

static void note_and_add(void *context, berth_pool *of_pool, size_t bytes) {
    note(context, of_pool, bytes);
    (void)berth_pressure_add(note, letter('n'), 0);
}

static void callbacks_may_come_and_go_while_they_run(void **state) {
    /* One that leaves would hide the next from the request; one that adds would be asked again. */
    (void)state;
    void *most = berth_alloc(pool, 8 * MiB);
    assert_int_equal(berth_pressure_add(note, letter('a'), 0), 0);
    assert_int_equal(berth_pressure_add(note_and_leave, letter('b'), 0), 0);
    assert_int_equal(berth_pressure_add(note_and_leave, letter('c'), 0), 0);
    assert_int_equal(berth_pressure_add(note_and_add, letter('d'), 0), 0);
    ask();
    assert_string_equal(calls, "dcba");
    ask();
    assert_string_equal(calls, "nda");
    assert_int_equal(berth_pressure_remove(note, letter('a')), 0);
    assert_int_equal(berth_pressure_remove(note, letter('n')), 0);
    assert_int_equal(berth_pressure_remove(note_and_add, letter('d')), 0);
    berth_free(most);
}

static void allocate_inside(void *context, berth_pool *of_pool, size_t bytes) {
    note(context, of_pool, bytes);
    berth_free(berth_alloc(of_pool, 16 * MiB)); /* must not be asked again for this */
    void *within = berth_alloc(of_pool, MiB);
    UNIT_CHECK((within != NULL) == (berth__load_relaxed(&berth__ledger.reserve) > 0));
    berth_free(within);
}

static void a_callback_allocates_from_the_reserve_and_is_not_asked_again(void **state) {
    /* It would call itself without end, or fail for lack of the little that it needs. */
    (void)state;
    assert_int_equal(berth_pressure_add(allocate_inside, letter('i'), 0), 0);
    void *most = berth_alloc(pool, 16 * MiB);
    ask();
    assert_string_equal(calls, "i");
    berth_free(most);
    berth__store_relaxed(&berth__ledger.reserve, 2 * MiB);
    most = berth_alloc(pool, 14 * MiB);
    assert_non_null(most);
    ask();
    assert_string_equal(calls, "i");
    assert_int_equal(berth_pressure_remove(allocate_inside, letter('i')), 0);
    berth_free(most);
}

static void from_malloc_only_the_safe_ones_are_asked(void **state) {
    /* A callback that takes a lock would deadlock under a caller of malloc that holds it. */
    (void)state;
    void *most = berth_alloc(pool, 8 * MiB);
    assert_int_equal(berth_pressure_add(note, letter('u'), 0), 0);
    assert_int_equal(berth_pressure_add(note, letter('s'), BERTH_PRESSURE_MALLOC_SAFE), 0);
    struct berth__request request = {.arenas = berth__pool_arenas(pool),
                                     .size = 16 * MiB,
                                     .alignment = 16,
                                     .flags = BERTH_REQUEST_MALLOC};
    assert_null(berth__request_serve(&request));
    assert_string_equal(calls, "s");
    assert_int_equal(berth_pressure_remove(note, letter('u')), 0);
    assert_int_equal(berth_pressure_remove(note, letter('s')), 0);
    berth_free(most);
}

/* ---- several threads ---- */

static pthread_barrier_t turn;
static _Atomic int inside, most_inside, rounds;

static void stay_inside(void *context, berth_pool *of_pool, size_t bytes) {
    (void)context, (void)of_pool, (void)bytes;
    int now = atomic_fetch_add(&inside, 1) + 1;
    if (now > atomic_load(&most_inside)) {
        atomic_store(&most_inside, now);
    }
    sleep_ms(1);
    atomic_fetch_add(&rounds, 1);
    atomic_fetch_sub(&inside, 1);
}

static void *request_in_vain(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < 10; i++) {
        UNIT_CHECK(berth_alloc(pool, 15 * MiB) == NULL);
    }
    return NULL;
}

static void one_thread_at_a_time_runs_them(void **state) {
    /* Callbacks would need locks of their own. */
    (void)state;
    void *most = berth_alloc(pool, 8 * MiB);
    assert_int_equal(berth_pressure_add(stay_inside, NULL, 0), 0);
    run_threads(8, request_in_vain, NULL);
    assert_int_equal(berth_pressure_remove(stay_inside, NULL), 0);
    assert_int_equal(atomic_load(&most_inside), 1);
    assert_true(atomic_load(&rounds) >= 1);
    berth_free(most);
}

static _Atomic bool finished;

static void run_two_turns(void *context, berth_pool *of_pool, size_t bytes) {
    (void)context, (void)of_pool, (void)bytes;
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    sleep_ms(20);
    atomic_store(&finished, true);
}

static void *request_once(void *unused) {
    (void)unused;
    UNIT_CHECK(berth_alloc(pool, 15 * MiB) == NULL);
    return NULL;
}

static void removing_waits_until_the_callback_has_ended(void **state) {
    /* The program would free what the callback still uses. */
    (void)state;
    void *most = berth_alloc(pool, 8 * MiB);
    atomic_store(&finished, false);
    assert_int_equal(pthread_barrier_init(&turn, NULL, 2), 0);
    assert_int_equal(berth_pressure_add(run_two_turns, NULL, 0), 0);
    pthread_t thread = start_thread(request_once, NULL);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    assert_int_equal(berth_pressure_remove(run_two_turns, NULL), 0);
    assert_true(atomic_load(&finished));
    join_thread(thread);
    pthread_barrier_destroy(&turn);
    berth_free(most);
}

static void *victim;

static void *remove_and_count(void *runs_) {
    int *runs = runs_;
    int before = atomic_load(&rounds);
    UNIT_CHECK(berth_pressure_remove(note, victim) == 0);
    *runs = atomic_load(&rounds) - before;
    return NULL;
}

static _Atomic bool stop;

static void *request_without_end(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        UNIT_CHECK(berth_alloc(pool, 15 * MiB) == NULL);
    }
    return NULL;
}

static void removing_waits_for_the_current_run_only(void **state) {
    /* Under lasting pressure, where one run follows the other, it would never return. */
    (void)state;
    void *most = berth_alloc(pool, 8 * MiB);
    pthread_t threads[4];
    victim = letter('v');
    assert_int_equal(berth_pressure_add(stay_inside, NULL, 0), 0);
    for (unsigned i = 0; i < 4; i++) {
        threads[i] = start_thread(request_without_end, NULL);
    }
    int least = INT32_MAX;
    for (unsigned i = 0; i < 20 || (least > 2 && i < 2000); i++) {
        int runs = 0;
        memset(calls, 0, sizeof(calls));
        assert_int_equal(berth_pressure_add(note, victim, 0), 0);
        sleep_ms(2);
        join_thread(start_thread(remove_and_count, &runs));
        least = runs < least ? runs : least;
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 4; i++) {
        join_thread(threads[i]);
    }
    assert_true(least <= 2); /* this thread may be late after the run that it waited for */
    assert_int_equal(berth_pressure_remove(stay_inside, NULL), 0);
    berth_free(most);
}

static void *hoard;

static void let_hoard_go(void *context, berth_pool *of_pool, size_t bytes) {
    (void)context, (void)of_pool, (void)bytes;
    if (hoard != NULL) {
        pthread_barrier_wait(&turn);
        sleep_ms(20);
        berth_free(hoard);
        hoard = NULL;
    }
}

static void *request_from_hoard(void *unused) {
    (void)unused;
    void *block = berth_alloc_flags(pool, 5 * MiB, BERTH_NOWAIT);
    UNIT_CHECK(block != NULL);
    berth_free(block);
    return NULL;
}

static void who_finds_another_asking_waits_for_what_that_frees(void **state) {
    /* Of two requests at once the second would fail, with memory there to be had for both. */
    (void)state;
    assert_int_equal(pthread_barrier_init(&turn, NULL, 2), 0);
    assert_int_equal(berth_pressure_add(let_hoard_go, NULL, 0), 0);
    void *block = NULL;
    while (block == NULL) { /* it waits a tenth of a second: a busy machine may take longer */
        hoard = berth_alloc(pool, 14 * MiB);
        assert_non_null(hoard);
        pthread_t thread = start_thread(request_from_hoard, NULL);
        pthread_barrier_wait(&turn);
        uint64_t start_ns = berth__clock_ns();
        block = berth_alloc_flags(pool, 5 * MiB, BERTH_NOWAIT);
        assert_true(block != NULL || berth__clock_ns() - start_ns > 90 * UINT64_C(1000000));
        join_thread(thread);
    }
    berth_free(block);
    assert_int_equal(berth_pressure_remove(let_hoard_go, NULL), 0);
    pthread_barrier_destroy(&turn);
}

static void use_callbacks_in_child(void *unused) {
    (void)unused;
    alarm(UNIT_HANGS_S);
    UNIT_CHECK(berth_pressure_remove(run_two_turns, NULL) == 0);
    UNIT_CHECK(berth_pressure_add(note, letter('k'), 0) == 0);
    UNIT_CHECK(berth_alloc(pool, 15 * MiB) == NULL);
    UNIT_CHECK(strcmp(calls, "k") == 0);
}

static void a_child_does_not_wait_for_a_callback_of_its_parent(void **state) {
    /* After a fork while another thread ran a callback, the child would hang, or never ask. */
    (void)state;
    void *most = berth_alloc(pool, 8 * MiB);
    assert_int_equal(pthread_barrier_init(&turn, NULL, 2), 0);
    assert_int_equal(berth_pressure_add(run_two_turns, NULL, 0), 0);
    pthread_t thread = start_thread(request_once, NULL);
    pthread_barrier_wait(&turn);
    int result = unit_in_child(use_callbacks_in_child, NULL);
    pthread_barrier_wait(&turn);
    join_thread(thread);
    assert_int_equal(berth_pressure_remove(run_two_turns, NULL), 0);
    pthread_barrier_destroy(&turn);
    assert_int_equal(result, 0);
    berth_free(most);
}

int main(void) {
    (void)berth_pool_default();
#define TEST(function) cmocka_unit_test_setup_teardown(function, start_of_test, end_of_test)
    const struct CMUnitTest tests[] = {
        TEST(all_are_asked_the_latest_first_on_the_requesting_thread),
        TEST(bad_callbacks_are_refused),
        TEST(callbacks_may_come_and_go_while_they_run),
        TEST(a_callback_allocates_from_the_reserve_and_is_not_asked_again),
        TEST(from_malloc_only_the_safe_ones_are_asked),
        TEST(one_thread_at_a_time_runs_them),
        TEST(removing_waits_until_the_callback_has_ended),
        TEST(removing_waits_for_the_current_run_only),
        TEST(who_finds_another_asking_waits_for_what_that_frees),
        TEST(a_child_does_not_wait_for_a_callback_of_its_parent),
    };
    return UNIT_RUN(tests);
}
