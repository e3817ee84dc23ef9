/* The process's limit: the ladder, the wait, memory counted for others, direct-memory experiments.
 */
#include "figures.h"

#include "chunk/ledger.h"
#include "chunk/wait.h"
#include "heap/engine.h"
#include "os/fault.h"
#include "pool/pool.h"

#include <errno.h>

enum { MANY = 200 };

static void *held[MANY];
static unsigned held_count;

static berth_pool *pool_that_waits(const char *name, int wait_ms) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.wait_ms = wait_ms;
    options.arenas = 1;
    berth_pool *pool = berth_pool_create(name, &options);
    assert_non_null(pool);
    return pool;
}

/* Holds blocks of 1 MiB until one is refused; returns how many. */
static unsigned hold_all(berth_pool *pool) {
    held_count = 0;
    while (held_count < MANY && (held[held_count] = berth_alloc(pool, MiB)) != NULL) {
        held_count++;
    }
    return held_count;
}

static void drop_all(void) {
    while (held_count > 0) {
        berth_free(held[--held_count]);
    }
}

static int start_of_test(void **state) {
    (void)state;
    berth_trim(NULL);
    UNIT_CHECK(berth_limit_used() == 0);
    return berth_limit_set(100 * MiB);
}

static int end_of_test(void **state) {
    (void)state;
    drop_all();
    berth_thread_flush();
    berth_trim(NULL);
    check_balance(berth_pool_default());
    bool clean = berth_limit_used() == 0;
    return berth_limit_set(BERTH_UNLIMITED) != 0 || !clean;
}

static void the_limit_is_set_and_read(void **state) {
    /* Operators could not bound the process. */
    (void)state;
    assert_int_equal(berth_limit_set(0), -EINVAL);
    assert_int_equal(berth_limit_get(), 100 * MiB);
    assert_int_equal(figures().limit_bytes, 100 * MiB);
    assert_int_equal(berth_limit_used(), 0);
    void *block = berth_alloc(berth_pool_default(), 10 * MiB);
    assert_int_equal(berth_limit_used(), 10 * MiB);
    assert_int_equal(figures().limit_used_bytes, 10 * MiB);
    assert_true(figures().limit_peak_bytes >= 10 * MiB);
    berth_free(block);
}

/* ---- the experiments with direct memory ---- */

static void holding_every_buffer_gives_exactly_as_many_as_fit(void **state) {
    /* The limit would be wasted in part, or passed; or the process would end instead of one call.
     */
    (void)state;
    berth_pool *pool = pool_that_waits("holding", 20);
    uint64_t waits = figures().ladder_waits;
    struct berth_slow_metrics before;
    struct berth_slow_metrics after;
    assert_int_equal(berth_metrics_read_slow("limit_wait", &before, sizeof(before)), 0);
    errno = 0;
    assert_int_equal(hold_all(pool), 100);
    assert_int_equal(berth_metrics_read_slow("limit_wait", &after, sizeof(after)), 0);
    assert_true(after.count == before.count + 1 && after.total_ns - before.total_ns >= 20000000);
    assert_int_equal(berth_metrics_read_slow("no such path", &after, sizeof(after)), -ENOENT);
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(berth_limit_used(), 100 * MiB);
    assert_int_equal(figures().ladder_waits, waits + 1);
    assert_int_equal(figures_of(pool).waits, 1);
    assert_int_equal(figures_of(pool).wait_failures, 1);
    assert_int_equal(figures_of(pool).failures, 1);
    berth_free(held[--held_count]);
    held[held_count] = berth_alloc(pool, MiB);
    assert_non_null(held[held_count]);
    held_count++;
    drop_all();
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void dropping_each_buffer_goes_on_without_end(void **state) {
    /* What is freed would not serve the next. */
    (void)state;
    berth_pool *pool = pool_that_waits("dropping", 0);
    for (unsigned i = 0; i < 10000; i++) {
        char *block = berth_alloc(pool, MiB);
        assert_non_null(block);
        block[0] = 1;
        berth_free(block);
    }
    assert_true(figures_of(pool).capacity_bytes <= 8 * MiB);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void free_one(void *context, berth_pool *pool, size_t bytes) {
    (void)context, (void)pool, (void)bytes;
    if (held_count > 0) {
        berth_free(held[--held_count]);
    }
}

static void buffers_that_only_a_callback_can_free_go_on_without_end(void **state) {
    /* A cache in the application would make its own requests fail. */
    (void)state;
    berth_pool *pool = pool_that_waits("callback", 0);
    assert_int_equal(berth_pressure_add(free_one, NULL, 0), 0);
    for (unsigned i = 0; i < 1000; i++) {
        void *block = berth_alloc(pool, MiB);
        assert_non_null(block);
        held[held_count++] = block;
        assert_true(held_count <= 100);
    }
    assert_int_equal(berth_pressure_remove(free_one, NULL), 0);
    drop_all();
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void without_reclaim_the_hundred_and_first_fails(void **state) {
    /* The option would not do what it says. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.reclaim = 0;
    options.wait_ms = 0;
    berth_pool *pool = berth_pool_create("no-reclaim", &options);
    assert_int_equal(berth_pressure_add(free_one, NULL, 0), 0);
    assert_int_equal(hold_all(pool), 100);
    assert_int_equal(held_count, 100);
    assert_int_equal(berth_pressure_remove(free_one, NULL), 0);
    drop_all();
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

/* ---- the ladder ---- */

static void *cache_and_stay(void *barrier) {
    void *blocks[100];
    for (unsigned i = 0; i < 100; i++) {
        blocks[i] = berth_alloc(berth_pool_default(), 1000);
    }
    berth_free_batch(blocks, 100);
    berth_thread_idle();
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    return NULL;
}

static void a_request_gets_what_anybody_holds_unused(void **state) {
    /* A request that fits would fail: caches, other pools' chunks, retained slots, parked threads.
     */
    (void)state;
    pthread_barrier_t barrier;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
    pthread_t thread = start_thread(cache_and_stay, &barrier);
    pthread_barrier_wait(&barrier);
    berth_pool *other = pool_that_waits("other", 0);
    berth_pool *pool = pool_that_waits("whole", 0);
    for (unsigned i = 0; i < MANY; i++) {
        held[i] = berth_alloc(other, 200000);
    }
    berth_free_batch(held, MANY);
    void *mine = berth_alloc(pool, 16000);
    berth_free(mine);
    berth_free(berth_alloc(berth_pool_default(), 30 * MiB));
    assert_true(berth_limit_used() > 30 * MiB);
    void *all = berth_alloc(pool, 100 * MiB);
    assert_non_null(all);
    assert_int_equal(berth_limit_used(), 100 * MiB);
    berth_free(all);
    pthread_barrier_wait(&barrier);
    join_thread(thread);
    pthread_barrier_destroy(&barrier);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
    assert_int_equal(berth_pool_destroy(other, 0), 0);
}

static void a_small_block_is_had_while_any_is_free_in_the_pool(void **state) {
    /* A small request would fail while blocks of its size lie free in another thread's slabs. */
    (void)state;
    berth_pool *pool = pool_that_waits("stolen", 0);
    void *small[2000];
    assert_int_equal(berth_alloc_batch(pool, 5000, 2000, small), 2000);
    assert_true(hold_all(pool) > 80);
    void *rest[4000];
    unsigned count = 0;
    while (count < 4000 && (rest[count] = berth_alloc(pool, 16385)) != NULL) {
        count++;
    }
    for (unsigned i = 0; i < 2000; i += 2) {
        berth_free(small[i]);
    }
    for (unsigned i = 0; i < 2000; i += 2) {
        small[i] = berth_alloc(pool, 5000);
        assert_non_null(small[i]);
    }
    berth_free_batch(rest, count);
    berth_free_batch(small, 2000);
    drop_all();
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void a_request_larger_than_the_limit_fails_without_a_stir(void **state) {
    /* It would empty everybody's caches and wait for what can never be. */
    (void)state;
    berth_pool *pool = pool_that_waits("beyond", 60000);
    uint64_t steps = figures().ladder_own_cache;
    errno = 0;
    assert_null(berth_alloc(pool, 101 * MiB));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(figures().ladder_own_cache, steps);
    assert_int_equal(figures_of(pool).failures, 1);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

/* ---- waiting ---- */

static void wait_until_waiting(unsigned count) {
    while (berth__load_relaxed(&berth__waiter_count) < count) {
        sleep_ms(1);
    }
}

struct waiting {
    berth_pool *pool;
    size_t size;
    void *block;
    _Atomic unsigned *order; /* counts the served */
    unsigned place;
};

static void *wait_for_block(void *argument) {
    struct waiting *waiting = argument;
    waiting->block = berth_alloc(waiting->pool, waiting->size);
    waiting->place = waiting->order == NULL ? 0 : atomic_fetch_add(waiting->order, 1);
    return NULL;
}

static void waiters_are_served_in_order_as_memory_comes_back(void **state) {
    /* Some thread would starve at the limit. */
    (void)state;
    enum { WAITERS = 6 };
    berth_pool *pool = pool_that_waits("in-order", 60000);
    struct waiting waiting[WAITERS];
    pthread_t threads[WAITERS];
    _Atomic unsigned order = 0;
    for (unsigned i = 0; i < 20; i++) {
        held[held_count++] = berth_alloc(pool, 5 * MiB);
    }
    for (unsigned i = 0; i < WAITERS; i++) {
        waiting[i] = (struct waiting){.pool = pool, .size = 5 * MiB, .order = &order};
        threads[i] = start_thread(wait_for_block, &waiting[i]);
        wait_until_waiting(i + 1);
    }
    for (unsigned i = 0; i < WAITERS; i++) {
        assert_int_equal(atomic_load(&order), i);
        berth_free(held[--held_count]);
        join_thread(threads[i]);
        assert_non_null(waiting[i].block);
        assert_int_equal(waiting[i].place, i);
    }
    for (unsigned i = 0; i < WAITERS; i++) {
        berth_free(waiting[i].block);
    }
    drop_all();
    assert_int_equal(figures_of(pool).waits, WAITERS);
    assert_int_equal(figures_of(pool).wait_failures, 0);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void who_does_not_wait_takes_nothing_from_who_does(void **state) {
    /* A large request would starve behind a stream of small ones. */
    (void)state;
    berth_pool *pool = pool_that_waits("stream", 60000);
    struct waiting waiting = {.pool = pool, .size = 30 * MiB};
    for (unsigned i = 0; i < 20; i++) {
        held[held_count++] = berth_alloc(pool, 5 * MiB);
    }
    pthread_t thread = start_thread(wait_for_block, &waiting);
    wait_until_waiting(1);
    for (unsigned i = 0; i < 6; i++) {
        assert_null(berth_alloc_flags(pool, 5 * MiB, BERTH_NOWAIT));
        berth_free(held[--held_count]);
        if (i < 5) {
            assert_null(berth_alloc_flags(pool, 5 * MiB, BERTH_NOWAIT));
        }
    }
    join_thread(thread);
    assert_non_null(waiting.block);
    berth_free(waiting.block);
    drop_all();
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static _Atomic bool stands;

static void *stand_in_queue(void *unused) {
    (void)unused;
    struct berth__waiter waiter;
    berth__wait_begin(&waiter, 60000, &berth__ledger.queue);
    while (atomic_load(&stands)) {
        sleep_ms(1);
    }
    berth__wait_end(&waiter);
    return NULL;
}

static void what_nobody_uses_is_not_taken_from_who_waits(void **state) {
    /* A waiter that looks at it just then would lose it to the next who comes. */
    (void)state;
    berth_pool *pool = pool_that_waits("unused", 60000);
    berth_free(berth_alloc(pool, 5 * MiB)); /* its slots keep the memory */
    atomic_store(&stands, true);
    pthread_t thread = start_thread(stand_in_queue, NULL);
    wait_until_waiting(1);
    assert_null(berth_alloc_flags(pool, 5 * MiB, BERTH_NOWAIT));
    atomic_store(&stands, false);
    join_thread(thread);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void who_needs_no_new_memory_is_served_past_the_queue(void **state) {
    /* Every thread would stand still behind one large request. */
    (void)state;
    berth_pool *pool = pool_that_waits("past", 60000);
    void *freed = berth_alloc(pool, 100000);
    void *kept = berth_alloc(pool, 100000);
    struct waiting waiting = {.pool = pool, .size = 100 * MiB};
    pthread_t thread = start_thread(wait_for_block, &waiting);
    wait_until_waiting(1);
    berth_free(freed);
    freed = berth_alloc_flags(pool, 100000, BERTH_NOWAIT);
    assert_non_null(freed);
    berth_free(freed); /* before `kept`, so that nobody can unmap it */
    void *small = berth_alloc_flags(pool, 100, BERTH_NOWAIT);
    assert_non_null(small);
    berth_free(small);
    berth_free(kept);
    berth_thread_flush();
    join_thread(thread);
    assert_non_null(waiting.block);
    berth_free(waiting.block);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void who_waits_at_a_pool_s_limit_holds_up_no_other_pool(void **state) {
    /* One tenant at its limit would make everybody's requests fail, malloc's among them. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = 8 * MiB;
    options.wait_ms = 60000;
    berth_pool *full = berth_pool_create("full", &options);
    options.limit = 16 * MiB;
    berth_pool *second = berth_pool_create("second", &options);
    assert_int_equal(berth_limit_set(BERTH_UNLIMITED), 0);
    void *first = berth_alloc(full, 8 * MiB);
    struct waiting waiting = {.pool = full, .size = 6 * MiB};
    pthread_t thread = start_thread(wait_for_block, &waiting);
    wait_until_waiting(1);
    void *free_ones[3] = {berth_alloc_flags(berth_pool_default(), 30 * MiB, BERTH_NOWAIT),
                          berth_alloc_flags(second, 10 * MiB, BERTH_NOWAIT),
                          berth_alloc_flags(berth_pool_default(), MiB, BERTH_NOWAIT)};
    assert_non_null(free_ones[0]);
    assert_non_null(free_ones[1]);
    assert_non_null(free_ones[2]);
    assert_int_equal(berth_limit_reserve(MiB), 0);
    berth_limit_release(MiB);

    /* Behind it in time, but in another queue. */
    struct waiting other = {.pool = second, .size = 8 * MiB};
    pthread_t other_thread = start_thread(wait_for_block, &other);
    wait_until_waiting(2);
    berth_free(free_ones[1]);
    join_thread(other_thread);
    assert_non_null(other.block);
    assert_int_equal(berth__load_relaxed(&berth__waiter_count), 1);
    berth_free(other.block);
    berth_free(first);
    join_thread(thread);
    assert_non_null(waiting.block);
    berth_free(waiting.block);
    berth_free(free_ones[0]);
    berth_free(free_ones[2]);
    assert_int_equal(berth_pool_destroy(full, 0), 0);
    assert_int_equal(berth_pool_destroy(second, 0), 0);
}

static void raising_the_limit_wakes_who_waits(void **state) {
    /* They would wait in vain for what the operator gave. */
    (void)state;
    berth_pool *pool = pool_that_waits("raised", 60000);
    void *block = berth_alloc(pool, 90 * MiB);
    struct waiting waiting = {.pool = pool, .size = 50 * MiB};
    pthread_t thread = start_thread(wait_for_block, &waiting);
    wait_until_waiting(1);
    assert_int_equal(berth_limit_set(140 * MiB), 0);
    join_thread(thread);
    assert_non_null(waiting.block);
    berth_free(waiting.block);
    berth_free(block);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void who_waits_does_not_look_everywhere_all_the_time(void **state) {
    /* With hundreds of pools a wait would cost more time than it lasts, though nothing changes. */
    (void)state;
    berth_pool *pools[20];
    char name[8];
    for (unsigned i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "idle%u", i);
        pools[i] = pool_that_waits(name, 0);
        assert_non_null(berth_alloc(pools[i], 100));
    }
    berth_pool *pool = pool_that_waits("waits", 300);
    assert_true(hold_all(pool) > 0);
    struct berth_process_metrics before = figures();
    errno = 0;
    assert_null(berth_alloc(pool, MiB));
    struct berth_process_metrics after = figures();
    uint64_t looks = after.ladder_own_cache - before.ladder_own_cache;
    uint64_t everywhere = after.ladder_return - before.ladder_return;
    uint64_t expected = 3; /* before the wait, and what that changed */
    for (uint64_t at = 1; at <= looks; at *= 2) {
        expected++;
    }
    assert_in_range(everywhere, 1, expected);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(berth_pool_destroy(pools[i], BERTH_FORCE), 0);
    }
    drop_all();
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

/* ---- lowering ---- */

static void lowering_the_limit_returns_what_is_unused_and_stops_growth(void **state) {
    /* An operator could not shrink a process that is too large. */
    (void)state;
    berth_pool *pool = pool_that_waits("lowered", 0);
    assert_int_equal(hold_all(pool), 100);
    for (unsigned i = 0; i < 90; i++) {
        berth_free(held[--held_count]);
    }
    assert_int_equal(berth_limit_set(20 * MiB), 0);
    assert_in_range(berth_limit_used(), 10 * MiB, 20 * MiB);
    assert_int_equal(berth_limit_set(5 * MiB), 0);
    assert_int_equal(berth_limit_get(), 5 * MiB);
    assert_in_range(berth_limit_used(), 10 * MiB, 13 * MiB);
    assert_null(berth_alloc(pool, 5 * MiB));
    drop_all();
    void *block = berth_alloc(pool, 5 * MiB);
    assert_non_null(block);
    assert_int_equal(berth_limit_used(), 5 * MiB);
    berth_free(block);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

/* ---- the reserve, and memory mapped elsewhere ---- */

/* A pool's blocks of all kinds: 60 MiB huge, 32 MiB in runs, 8 MiB small. */
static void *huge_block;
static void *run_blocks[64];
static void *small_blocks[8192];

static void hold_all_kinds(berth_pool *pool) {
    huge_block = berth_alloc(pool, 60 * MiB);
    assert_non_null(huge_block);
    assert_int_equal(berth_alloc_batch(pool, MiB / 2, 64, run_blocks), 64);
    assert_int_equal(berth_alloc_batch(pool, 1024, 8192, small_blocks), 8192);
}

static void what_is_freed_beyond_a_lowered_limit_goes_back(void **state) {
    /* A container whose limit was lowered would stay above it for as long as it is idle. */
    (void)state;
    berth_limit_set(120 * MiB);
    berth_pool *pool = pool_that_waits("shrinks", 0);
    hold_all_kinds(pool);
    berth_limit_set(30 * MiB);
    assert_true(berth_limit_used() >= 100 * MiB);
    berth_free(huge_block);
    assert_true(berth_limit_used() <= 44 * MiB); /* what lives, and the rest of a chunk */
    berth_free_batch(run_blocks, 64);
    berth_free_batch(small_blocks, 8192);
    assert_true(berth_limit_used() <= 30 * MiB);
    berth_free(berth_alloc(pool, 10 * MiB));
    assert_int_equal(berth__load_relaxed(&berth__ledgers_over), 0);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void what_is_freed_beyond_a_pool_s_lowered_limit_goes_back(void **state) {
    /* A tenant would stay above its share; or its end would leave all others without caches. */
    (void)state;
    berth_limit_set(BERTH_UNLIMITED);
    for (unsigned round = 0; round < 2; round++) {
        struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
        options.limit = 120 * MiB;
        options.arenas = 1;
        berth_pool *pool = berth_pool_create("tenant", &options);
        hold_all_kinds(pool);
        assert_int_equal(berth_pool_limit_set(pool, 30 * MiB), 0);
        assert_int_equal(berth__load_relaxed(&berth__ledgers_over), 1);
        if (round == 0) {
            berth_free(huge_block);
            berth_free_batch(run_blocks, 64);
            berth_free_batch(small_blocks, 8192);
            assert_true(berth_pool_limit_used(pool) <= 30 * MiB);
            berth_free(berth_alloc(pool, 10 * MiB));
            assert_int_equal(berth__load_relaxed(&berth__ledgers_over), 0);
        }
        assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
        assert_int_equal(berth__load_relaxed(&berth__ledgers_over), 0);
    }
}

static void what_is_mapped_elsewhere_counts_against_the_limit(void **state) {
    /* Together they would pass what the container allows. */
    (void)state;
    berth_pool *pool = pool_that_waits("elsewhere", 0);
    assert_int_equal(berth_limit_reserve(60 * MiB), 0);
    assert_int_equal(figures().reserved_bytes, 60 * MiB);
    assert_null(berth_alloc(pool, 41 * MiB));
    void *block = berth_alloc(pool, 40 * MiB);
    assert_non_null(block);
    assert_int_equal(berth_limit_reserve(1), -ENOMEM);
    berth_free(block); /* retained, and still charged: to be returned for the reservation */
    assert_int_equal(berth_limit_reserve(40 * MiB), 0);
    assert_int_equal(berth_limit_used(), 100 * MiB);
    assert_int_equal(berth_limit_reserve(SIZE_MAX), -ENOMEM);
    assert_int_equal(berth_limit_reserve(0), 0);
    berth_limit_release(99 * MiB);
    berth_limit_release(5 * MiB); /* more than there is: the rest */
    assert_int_equal(berth_limit_used(), 0);
    assert_int_equal(figures().reserved_bytes, 0);
    berth_limit_release(1);
    assert_int_equal(berth_limit_used(), 0);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void the_reserve_is_for_who_handles_a_failure(void **state) {
    /* The error path would fail for lack of a little memory. */
    (void)state;
    berth_pool *pool = pool_that_waits("reserve", 0);
    berth__store_relaxed(&berth__ledger.reserve, 4 * MiB);
    void *most = berth_alloc(pool, 96 * MiB);
    assert_non_null(most);
    assert_null(berth_alloc(pool, MiB));
    void *unwinding = berth_alloc_flags(pool, MiB, BERTH_UNWINDING);
    assert_non_null(unwinding);
    void *small = berth_alloc(pool, 100); /* this thread's last request failed */
    assert_non_null(small);
    berth_free(small);
    berth_free(unwinding);
    berth_free(most);
    berth__store_relaxed(&berth__ledger.reserve, 0);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

static void the_reserve_is_left_to_who_still_handles_a_failure(void **state) {
    /* After one failure, ordinary requests would use up the reserve. */
    (void)state;
    berth_pool *pool = pool_that_waits("ordinary", 0);
    berth__store_relaxed(&berth__ledger.reserve, 4 * MiB);
    assert_null(berth_alloc(pool, 200 * MiB));
    while (berth_alloc(pool, 16000) != NULL) {
        assert_true(berth_limit_used() <= 96 * MiB);
    }
    berth__store_relaxed(&berth__ledger.reserve, 0);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
}

static void a_small_limit_takes_a_part_of_a_chunk_that_is_kept(void **state) {
    /* A pool with a small limit would get nothing as long as unused chunks lie about. */
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        held[i] = berth_alloc(berth_pool_default(), 5 * MiB);
    }
    for (unsigned i = 0; i < 8; i++) {
        berth_free(held[i]);
    }
    assert_true(berth_limit_used() > 0);
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = MiB;
    berth_pool *pool = berth_pool_create("small", &options);
    void *block = berth_alloc_flags(pool, 65536, BERTH_NOWAIT);
    assert_non_null(block);
    assert_true(berth_pool_limit_used(pool) <= MiB);
    berth_free(block);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

int main(void) {
    (void)berth_pool_default();
#define TEST(function) cmocka_unit_test_setup_teardown(function, start_of_test, end_of_test)
    const struct CMUnitTest tests[] = {
        TEST(the_limit_is_set_and_read),
        TEST(holding_every_buffer_gives_exactly_as_many_as_fit),
        TEST(dropping_each_buffer_goes_on_without_end),
        TEST(buffers_that_only_a_callback_can_free_go_on_without_end),
        TEST(without_reclaim_the_hundred_and_first_fails),
        TEST(a_request_gets_what_anybody_holds_unused),
        TEST(a_small_block_is_had_while_any_is_free_in_the_pool),
        TEST(a_request_larger_than_the_limit_fails_without_a_stir),
        TEST(waiters_are_served_in_order_as_memory_comes_back),
        TEST(who_does_not_wait_takes_nothing_from_who_does),
        TEST(what_nobody_uses_is_not_taken_from_who_waits),
        TEST(who_needs_no_new_memory_is_served_past_the_queue),
        TEST(who_waits_at_a_pool_s_limit_holds_up_no_other_pool),
        TEST(raising_the_limit_wakes_who_waits),
        TEST(who_waits_does_not_look_everywhere_all_the_time),
        TEST(lowering_the_limit_returns_what_is_unused_and_stops_growth),
        TEST(what_is_freed_beyond_a_lowered_limit_goes_back),
        TEST(what_is_freed_beyond_a_pool_s_lowered_limit_goes_back),
        TEST(what_is_mapped_elsewhere_counts_against_the_limit),
        TEST(the_reserve_is_for_who_handles_a_failure),
        TEST(the_reserve_is_left_to_who_still_handles_a_failure),
        TEST(a_small_limit_takes_a_part_of_a_chunk_that_is_kept),
    };
    return UNIT_RUN(tests);
}
