/* Threads from their first allocation to after their end. */
#include "figures.h"

#include "heap/cache.h"
#include "heap/engine.h"
#include "heap/observer.h"
#include "pool/pool.h"

#include <sched.h>

static berth_pool *pool;

static int start_of_test(void **state) {
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    pool = berth_pool_create("threads", &options);
    return pool == NULL;
}

static int end_of_test(void **state) {
    (void)state;
    berth_thread_flush();
    berth_trim(NULL);
    bool clean = figures_of(pool).live_high_bytes == 0 &&
                 figures_of(berth_pool_default()).live_high_bytes == 0;
    check_balance(pool);
    return berth_pool_destroy(pool, BERTH_FORCE) != 0 || !clean;
}

/* ---- passing blocks on ---- */

enum { RING = 1024, ITEMS = 20000 };
static _Atomic(void *) ring[RING];
static _Atomic unsigned percent_passed;

static size_t size_of_item(unsigned i) {
    return 16 + (i * 97) % 3000;
}

static void *produce(void *unused) {
    (void)unused;
    struct unit_random random = {4};
    for (unsigned i = 0; i < ITEMS; i++) {
        size_t *block = berth_alloc(pool, size_of_item(i));
        UNIT_CHECK(block != NULL);
        block[0] = i;
        memset(block + 1, (int)i, size_of_item(i) - sizeof(size_t));
        if (unit_random_below(&random, 100) >= atomic_load(&percent_passed)) {
            berth_free(block);
            continue;
        }
        while (atomic_load(&ring[i % RING]) != NULL) {
            sched_yield();
        }
        atomic_store(&ring[i % RING], block);
    }
    for (unsigned i = 0; i < RING; i++) { /* an end for each place of the ring */
        while (atomic_load(&ring[i]) != NULL) {
            sched_yield();
        }
    }
    return NULL;
}

static _Atomic bool produced;

static void *consume(void *unused) {
    (void)unused;
    for (bool last = false; !last;) {
        last = atomic_load(&produced);
        for (unsigned k = 0; k < RING; k++) {
            size_t *block = atomic_exchange(&ring[k], NULL);
            if (block != NULL) {
                unsigned i = (unsigned)block[0];
                const unsigned char *bytes = (const unsigned char *)(block + 1);
                size_t size = size_of_item(i) - sizeof(size_t);
                UNIT_CHECK(size == 0 || (bytes[0] == (unsigned char)i &&
                                         memcmp(bytes, bytes + 1, size - 1) == 0));
                berth_free(block);
            }
        }
        sched_yield();
    }
    return NULL;
}

static void blocks_come_home_whatever_part_of_them_is_freed_elsewhere(void **state) {
    /* A pipeline would leak, or its memory migrate to the consumer. */
    (void)state;
    const unsigned percents[] = {1, 25, 50, 100};
    for (unsigned i = 0; i < 4; i++) {
        atomic_store(&percent_passed, percents[i]);
        atomic_store(&produced, false);
        pthread_t consumer = start_thread(consume, NULL);
        pthread_t producer = start_thread(produce, NULL);
        join_thread(producer);
        atomic_store(&produced, true);
        join_thread(consumer);
        berth_trim(pool);
        struct berth_pool_metrics p = figures_of(pool);
        assert_int_equal(p.live_high_bytes, 0);
        assert_int_equal(p.allocations, p.frees);
        assert_int_equal(p.allocations, (uint64_t)ITEMS * (i + 1));
        assert_true(p.remote_frees >= (uint64_t)ITEMS * percents[i] / 200);
        assert_int_equal(p.capacity_bytes, 0);
    }
}

/* ---- ends ---- */

enum { LEFT = 300 };
static void *left_behind[LEFT];

static void *allocate_and_end(void *idle) {
    for (unsigned i = 0; i < LEFT; i++) {
        left_behind[i] = berth_alloc(pool, 100 + i % 7 * 300);
        fill(left_behind[i], 100);
    }
    void *more[500];
    UNIT_CHECK(berth_alloc_batch(pool, 64, 500, more) == 500);
    berth_free_batch(more, 500);
    if (idle != NULL) {
        berth_thread_idle();
    }
    return NULL;
}

static void what_an_ended_thread_allocated_lives_on_and_its_heap_is_used_again(void **state) {
    /* Data would vanish with its thread; or each thread's end leak its slabs. */
    (void)state;
    berth_free(berth_alloc(pool, 10));
    uint64_t heaps = 0;
    for (unsigned round = 0; round < 40; round++) {
        pthread_t thread = start_thread(allocate_and_end, round % 2 == 0 ? NULL : &round);
        join_thread(thread);
        for (unsigned i = 0; i < LEFT; i++) {
            assert_true(is_filled(left_behind[i], left_behind[i], 100));
            berth_free(left_behind[i]);
        }
        heaps = round == 10 ? figures_of(pool).heaps : heaps;
    }
    assert_in_range(figures_of(pool).heaps, 1, heaps + BERTH_SHARED_HEAPS);
    assert_int_equal(figures_of(pool).threads, 1);
}

static pthread_barrier_t turn;

static void *free_while_owners_end(void *blocks) {
    void **at = blocks;
    pthread_barrier_wait(&turn);
    for (unsigned i = 0; i < 2000; i++) {
        berth_free(at[i]);
    }
    return NULL;
}

static void *allocate_then_end(void *blocks) {
    UNIT_CHECK(berth_alloc_batch(pool, 80, 2000, blocks) == 2000);
    pthread_barrier_wait(&turn);
    return NULL; /* its end and the other's frees happen at once */
}

static void threads_may_end_while_others_free_to_them(void **state) {
    /* A free would land on a heap that is being given up. */
    (void)state;
    static void *blocks[2000];
    assert_int_equal(pthread_barrier_init(&turn, NULL, 2), 0);
    for (unsigned round = 0; round < 200; round++) {
        pthread_t owner = start_thread(allocate_then_end, blocks);
        pthread_t other = start_thread(free_while_owners_end, blocks);
        join_thread(owner);
        join_thread(other);
    }
    pthread_barrier_destroy(&turn);
    berth_trim(pool);
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
    assert_int_equal(figures_of(pool).allocations, 200 * 2000);
    assert_int_equal(figures_of(pool).frees, 200 * 2000);
}

/* ---- after the end ---- */

static pthread_key_t late_key;
static _Atomic(void *) left_late[5];

/* Runs in every round of destructors: before berth's own and after it. */
static void late(void *argument) {
    uintptr_t round = (uintptr_t)argument;
    const size_t sizes[] = {1, 100, 10000, 20000, 4 * MiB + 1};
    for (unsigned i = 0; i < 5; i++) {
        size_t look_at = sizes[i] < 20000 ? sizes[i] : 20000;
        char *of_default = berth_alloc_flags(berth_pool_default(), sizes[i], BERTH_ZERO);
        char *of_pool = berth_alloc(pool, sizes[i]);
        UNIT_CHECK(of_default != NULL && of_pool != NULL && is_zero(of_default, look_at));
        fill(of_default, look_at);
        char *grown = berth_realloc(NULL, of_default, 2 * sizes[i]);
        UNIT_CHECK(is_filled(grown, of_default, look_at));
        memset(of_pool, 1, look_at);
        berth_free(grown);
        berth_free(of_pool);
        void *aligned = berth_alloc_aligned(pool, 256, sizes[i]);
        berth_free(atomic_exchange(&left_late[i], aligned));
    }
    berth_thread_idle();
    berth_thread_flush();
    if (round < (UNIT_SANITIZED ? 1 : 4)) { /* there are no more rounds */
        pthread_setspecific(late_key, (void *)(round + 1));
    }
}

static void *end_late(void *kind) {
    if (kind != NULL) { /* else its destructor is the first to allocate */
        berth_free(berth_alloc(pool, 100));
        berth_free(berth_alloc(berth_pool_default(), 100));
    }
    pthread_setspecific(late_key, (void *)1);
    return NULL;
}

static void destructors_may_allocate_after_the_cache_is_gone(void **state) {
    /* A thread's end would crash, or leave a cache that nobody empties. */
    (void)state;
    assert_int_equal(pthread_key_create(&late_key, late), 0);
    for (unsigned i = 0; i < 8; i++) {
        run_threads(2 - i % 2, end_late, i % 3 == 0 ? NULL : &late_key);
    }
    assert_int_equal(figures_of(pool).threads, 0);
    for (unsigned i = 0; i < 5; i++) {
        berth_free(atomic_exchange(&left_late[i], NULL));
    }
    pthread_key_delete(late_key);
    berth_thread_flush();
    berth_trim(NULL);
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
    struct berth_pool_metrics p = figures_of(pool);
    assert_int_equal(p.allocations, p.frees);
}

/* ---- every way to end ---- */

static void *end_in_any_state(void *way) {
    void *block = berth_alloc(pool, 64);
    void *other = berth_alloc(berth_pool_default(), 5000);
    switch ((uintptr_t)way % 6) {
    case 0: break;
    case 1: berth_thread_idle(); break;
    case 2: berth_thread_flush(); break;
    case 3:
        berth_thread_idle();
        berth_free(block);
        block = NULL;
        break;
    case 4:
        berth_free(left_behind[0]); /* gathered for its own heap, and not sent yet */
        left_behind[0] = NULL;
        break;
    default:
        berth_thread_idle();
        berth_thread_flush();
        berth_thread_idle();
    }
    if ((uintptr_t)way % 2 == 0) {
        berth_free(block);
        berth_free(other);
    } else {
        left_behind[1] = block;
        left_behind[2] = other;
    }
    return NULL;
}

static void a_thread_may_end_in_any_state(void **state) {
    /* What it had gathered, parked or just flushed would be lost with it. */
    (void)state;
    memset(left_behind, 0, sizeof(left_behind));
    for (uintptr_t way = 0; way < 60; way++) {
        left_behind[0] = berth_alloc(pool, 200);
        join_thread(start_thread(end_in_any_state, (void *)way));
        berth_free_batch(left_behind, 3);
        memset(left_behind, 0, 3 * sizeof(void *));
    }
    berth_thread_flush();
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
    assert_int_equal(figures().cache_granted_bytes, 0);
}

/* ---- arenas ---- */

static _Atomic unsigned failures;

static void *write_patterns(void *seed) {
    struct unit_random random = {(uintptr_t)seed};
    unsigned char *blocks[64] = {NULL};
    size_t sizes[64] = {0};
    for (unsigned i = 0; i < 700; i++) {
        unsigned slot = (unsigned)unit_random_below(&random, 64);
        if (blocks[slot] != NULL) {
            for (size_t k = 0; k < sizes[slot]; k++) {
                if (blocks[slot][k] != (unsigned char)(slot ^ sizes[slot])) {
                    atomic_fetch_add(&failures, 1);
                    break;
                }
            }
        }
        berth_free(blocks[slot]);
        sizes[slot] = unit_random_below(&random, 16384);
        blocks[slot] = berth_alloc(pool, sizes[slot]);
        UNIT_CHECK(blocks[slot] != NULL);
        memset(blocks[slot], (int)(slot ^ sizes[slot]), sizes[slot]);
    }
    berth_free_batch((void **)blocks, 64);
    return NULL;
}

static void many_threads_on_one_arena_read_back_what_they_wrote(void **state) {
    /* Two threads would hold the same block. */
    (void)state;
    atomic_store(&failures, 0);
    run_threads(64, write_patterns, &failures);
    assert_int_equal(atomic_load(&failures), 0);
    assert_int_equal(figures_of(pool).arenas, 1);
    assert_int_equal(figures_of(pool).threads, 0);
    assert_int_equal(figures_of(pool).live_high_bytes, 0);
}

/* ---- few slow paths each ---- */

static _Atomic unsigned ticks;

static bool count_tick(bool early) {
    (void)early;
    atomic_fetch_add(&ticks, 1);
    return true;
}

static void *allocate_once(void *unused) {
    (void)unused;
    berth_free(berth_alloc(pool, 1000));
    return NULL;
}

static void threads_with_one_slow_path_each_are_heard_of(void **state) {
    /* A server with a thread for each connection: its figures would stand still, its debts wait. */
    (void)state;
    static const struct berth__observer counter = {.tick = count_tick};
    const struct berth__observer *before = berth__load_relaxed(&berth__observer);
    berth__store_release(&berth__observer, &counter);
    for (unsigned i = 0; i < 2000 && atomic_load(&ticks) == 0; i++) {
        run_threads(1, allocate_once, NULL);
        usleep(1000); /* the clock moves on */
    }
    berth__store_release(&berth__observer, before);
    assert_true(atomic_load(&ticks) > 0);
}

int main(void) {
    (void)berth_pool_default();
#define TEST(function) cmocka_unit_test_setup_teardown(function, start_of_test, end_of_test)
    const struct CMUnitTest tests[] = {
        TEST(blocks_come_home_whatever_part_of_them_is_freed_elsewhere),
        TEST(what_an_ended_thread_allocated_lives_on_and_its_heap_is_used_again),
        TEST(threads_may_end_while_others_free_to_them),
        TEST(destructors_may_allocate_after_the_cache_is_gone),
        TEST(a_thread_may_end_in_any_state),
        TEST(many_threads_on_one_arena_read_back_what_they_wrote),
        TEST(threads_with_one_slow_path_each_are_heard_of),
    };
    return UNIT_RUN(tests);
}
