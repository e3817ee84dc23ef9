/* Arenas: which one serves a thread, and how many there are. */
#include "figures.h"

#include "heap/cache.h"
#include "os/topology.h"
#include "pool/pool.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

enum {
    ARENAS = 4,
    THREADS_MAX = 8,
    BLOCK = 64,
    RUN = 64 << 10,
    BLOCKS = 40000, /* many refills, whatever their batches */
    RUNS = 300,
};

static berth_pool *pool;

/* All CPUs belong to the first domain. */
static void pretend_domains(unsigned domains) {
    struct berth__topology topology = {
        .magic = BERTH_TOPOLOGY_MAGIC, .version = 1, .domains = domains, .nodes = 1};
    UNIT_CHECK(berth__topology_set(&topology));
}

static int start_of_test(void **state) {
    (void)state;
    pretend_domains(1);
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = ARENAS;
    pool = berth_pool_create("arenas", &options);
    return pool == NULL;
}

static int end_of_test(void **state) {
    (void)state;
    berth_thread_flush();
    check_balance(pool);
    return berth_pool_destroy(pool, 0);
}

/* ---- threads that stay, each with its arena ---- */

struct thread {
    pthread_t thread;
    void (*work)(void);
    struct berth__arena *arena;
    pthread_barrier_t worked, may_end;
};
static struct thread threads[THREADS_MAX];

static void *run(void *context) {
    struct thread *thread = context;
    thread->work();
    thread->arena = berth__cache_peek(berth__pool_arenas(pool))->arena;
    pthread_barrier_wait(&thread->worked);
    pthread_barrier_wait(&thread->may_end);
    return NULL;
}

static void start_thread_of(struct thread *thread, void (*work)(void)) {
    thread->work = work;
    pthread_barrier_init(&thread->worked, NULL, 2);
    pthread_barrier_init(&thread->may_end, NULL, 2);
    UNIT_CHECK(pthread_create(&thread->thread, NULL, run, thread) == 0);
}

static struct berth__arena *arena_of(struct thread *thread) {
    pthread_barrier_wait(&thread->worked);
    return thread->arena;
}

static void end_thread(struct thread *thread) {
    pthread_barrier_wait(&thread->may_end);
    pthread_join(thread->thread, NULL);
}

static void work_little(void) {
    berth_free(berth_alloc(pool, BLOCK));
    berth_free(berth_alloc(pool, RUN));
}

static void work_on_blocks(void) {
    static void *blocks[THREADS_MAX][BLOCKS];
    static _Atomic unsigned next;
    void **mine = blocks[next++ % THREADS_MAX];
    for (unsigned i = 0; i < BLOCKS; i++) {
        mine[i] = berth_alloc(pool, BLOCK);
        UNIT_CHECK(mine[i] != NULL);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        berth_free(mine[i]);
    }
}

static void work_on_runs(void) {
    void *runs[RUNS];
    for (unsigned i = 0; i < RUNS; i++) {
        runs[i] = berth_alloc(pool, RUN);
        UNIT_CHECK(runs[i] != NULL);
    }
    for (unsigned i = 0; i < RUNS; i++) {
        berth_free(runs[i]);
    }
}

/* ---- tests ---- */

static void threads_with_little_to_do_share_the_first_arena(void **state) {
    /* A server with thousands of sleeping connections would spread over all arenas. */
    (void)state;
    struct berth__arena *first = berth__arenas_here(berth__pool_arenas(pool));
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        start_thread_of(&threads[i], work_little);
        assert_ptr_equal(arena_of(&threads[i]), first);
    }
    assert_int_equal(figures_of(pool).arenas, 1);
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        end_thread(&threads[i]);
    }
}

/* Starts threads at once: how many of them are served by each arena. */
static void spread(unsigned count, void (*work)(void), unsigned owners[BERTH_ARENAS_MAX]) {
    memset(owners, 0, BERTH_ARENAS_MAX * sizeof(*owners));
    for (unsigned i = 0; i < count; i++) {
        start_thread_of(&threads[i], work);
    }
    for (unsigned i = 0; i < count; i++) {
        owners[arena_of(&threads[i])->index]++;
    }
    for (unsigned i = 0; i < count; i++) {
        end_thread(&threads[i]);
    }
}

static void busy_threads_are_spread_evenly(void **state) {
    /* They would wait for each other's locks while arenas stand idle. */
    (void)state;
    unsigned owners[BERTH_ARENAS_MAX];
    spread(ARENAS, work_on_blocks, owners);
    for (unsigned i = 0; i < ARENAS; i++) {
        assert_int_equal(owners[i], 1);
    }
    spread(2 * ARENAS, work_on_blocks, owners); /* the next generation */
    for (unsigned i = 0; i < ARENAS; i++) {
        assert_int_equal(owners[i], 2);
    }
    assert_int_equal(figures_of(pool).arenas, ARENAS);
}

static void normal_blocks_are_traffic_too(void **state) {
    /* A program that moves nothing but buffers would fight over one arena. */
    (void)state;
    unsigned owners[BERTH_ARENAS_MAX];
    spread(ARENAS, work_on_runs, owners);
    for (unsigned i = 0; i < ARENAS; i++) {
        assert_int_equal(owners[i], 1);
    }
}

static void a_new_thread_gets_the_arena_that_another_left(void **state) {
    /* Memory of threads that are gone would lie unused beside what is mapped for others. */
    (void)state;
    start_thread_of(&threads[0], work_on_blocks);
    struct berth__arena *stays = arena_of(&threads[0]);
    start_thread_of(&threads[1], work_on_blocks);
    struct berth__arena *left = arena_of(&threads[1]);
    assert_ptr_not_equal(stays, left);
    end_thread(&threads[1]);
    for (unsigned i = 0; i < 5; i++) {
        start_thread_of(&threads[1], work_on_blocks);
        assert_ptr_equal(arena_of(&threads[1]), left);
        end_thread(&threads[1]);
    }
    end_thread(&threads[0]);
}

/* What the pool grows by when a thread with an arena of its own works. */
static uint64_t grows_by(void (*work)(void)) {
    berth_thread_flush();
    uint64_t before = figures_of(pool).chunk_bytes;
    start_thread_of(&threads[0], work);
    assert_ptr_not_equal(arena_of(&threads[0]), berth__cache_peek(berth__pool_arenas(pool))->arena);
    uint64_t after = figures_of(pool).chunk_bytes;
    end_thread(&threads[0]);
    return after - before;
}

static void an_arena_takes_slabs_from_one_that_has_plenty(void **state) {
    /* Each arena would keep the most that its threads ever had, however little they have now. */
    (void)state;
    work_on_blocks();
    assert_in_range(grows_by(work_on_blocks), 0, (uint64_t)BLOCK * BLOCKS / 2);
}

static void *held[RUNS];

static void hold_runs(void) {
    for (unsigned i = 0; i < RUNS; i++) {
        held[i] = berth_alloc(pool, RUN);
        UNIT_CHECK(held[i] != NULL);
    }
}

static void an_arena_takes_runs_from_one_that_has_plenty(void **state) {
    (void)state;
    enum { KEPT_EVERY = 16 }; /* some in each chunk, which stays */
    void *kept[RUNS / KEPT_EVERY + 1];
    hold_runs();
    for (unsigned i = 0; i < RUNS; i++) {
        if (i % KEPT_EVERY == 0) {
            kept[i / KEPT_EVERY] = held[i];
        } else {
            berth_free(held[i]);
        }
    }
    assert_in_range(grows_by(hold_runs), 0, (uint64_t)RUN * RUNS / 2);
    for (unsigned i = 0; i < RUNS; i++) {
        berth_free(held[i]);
        berth_free(i % KEPT_EVERY == 0 ? kept[i / KEPT_EVERY] : NULL);
    }
}

static void a_domain_leaves_arenas_for_the_others(void **state) {
    /* Threads that start on one node would take all, and those of the other node share theirs. */
    (void)state;
    pretend_domains(2);
    unsigned owners[BERTH_ARENAS_MAX];
    spread(THREADS_MAX, work_on_blocks, owners);
    assert_int_equal(figures_of(pool).arenas, ARENAS / 2);
    assert_int_equal(owners[0], THREADS_MAX / 2);
    assert_int_equal(owners[1], THREADS_MAX / 2);
}

static void a_domain_without_an_arena_uses_another_s(void **state) {
    /* Where there are fewer arenas than domains, allocations on the others would fail. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    berth_pool *narrow = berth_pool_create("narrow", &options);
    struct berth__topology topology = {
        .magic = BERTH_TOPOLOGY_MAGIC, .version = 1, .domains = 2, .nodes = 1};
    assert_true(berth__topology_set(&topology));
    struct berth__arena *only = berth__arenas_here(berth__pool_arenas(narrow));
    assert_non_null(only);
    memset(topology.domain_of_cpu, 1, sizeof(topology.domain_of_cpu)); /* of all CPUs */
    assert_true(berth__topology_set(&topology));
    assert_ptr_equal(berth__arenas_here(berth__pool_arenas(narrow)), only);
    void *block = berth_alloc(narrow, BLOCK);
    assert_non_null(block);
    berth_free(block);
    assert_int_equal(figures_of(narrow).arenas, 1);
    assert_int_equal(berth_pool_destroy(narrow, 0), 0);
}

static void *freed_elsewhere;

static void free_it(void) {
    work_on_blocks(); /* for an arena of its own */
    berth_free(freed_elsewhere);
}

static void a_cpu_keeps_blocks_of_all_arenas(void **state) {
    /* Buffers that one thread fills and another frees would take the arenas' locks each time. */
    (void)state;
    cpu_set_t before;
    cpu_set_t here;
    CPU_ZERO(&here);
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    size_t cpu = (size_t)sched_getcpu();
    assert_true(CPU_ISSET(cpu, &before));
    CPU_SET(cpu, &here);
    assert_int_equal(sched_setaffinity(0, sizeof(here), &here), 0);
    work_on_blocks();
    freed_elsewhere = berth_alloc(pool, RUN);
    start_thread_of(&threads[0], free_it);
    struct berth__arena *other = arena_of(&threads[0]);
    assert_ptr_not_equal(other, berth__cache_peek(berth__pool_arenas(pool))->arena);
    assert_int_equal(figures_of(pool).run_cached_bytes, RUN);
    void *again = berth_alloc(pool, RUN);
    assert_ptr_equal(again, freed_elsewhere);
    assert_int_equal(figures_of(pool).run_cached_bytes, 0);
    check_balance(pool);
    berth_free(again);
    end_thread(&threads[0]);
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start_of_test, end_of_test)
    const struct CMUnitTest tests[] = {
        TEST(threads_with_little_to_do_share_the_first_arena),
        TEST(busy_threads_are_spread_evenly),
        TEST(normal_blocks_are_traffic_too),
        TEST(a_new_thread_gets_the_arena_that_another_left),
        TEST(an_arena_takes_slabs_from_one_that_has_plenty),
        TEST(an_arena_takes_runs_from_one_that_has_plenty),
        TEST(a_domain_leaves_arenas_for_the_others),
        TEST(a_domain_without_an_arena_uses_another_s),
        TEST(a_cpu_keeps_blocks_of_all_arenas),
    };
#undef TEST
    return UNIT_RUN(tests);
}
