/*
 * Memory and threads of two NUMA nodes, as far as it shows on a machine that has one: two of its
 * CPUs are told to be of different nodes. tests/numa looks at where the pages lie.
 */
#include "figures.h"

#include "heap/cache.h"
#include "os/topology.h"
#include "pool/pool.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>

enum { RUN = 64 << 10, RUNS = 100, HUGE_BYTES = 8 << 20 };

static berth_pool *pool;
static size_t cpu_of_node[2];

static int start_of_test(void **state) {
    (void)state;
    cpu_set_t allowed;
    UNIT_CHECK(sched_getaffinity(0, sizeof(allowed), &allowed) == 0);
    size_t found = 0;
    for (size_t cpu = 0; cpu < BERTH_CPUS_MAX && found < 2; cpu++) {
        if (CPU_ISSET(cpu, &allowed)) {
            cpu_of_node[found++] = cpu;
        }
    }
    if (found < 2) {
        return 0;
    }
    struct berth__topology topology = {
        .magic = BERTH_TOPOLOGY_MAGIC, .version = 1, .domains = 2, .nodes = 2};
    topology.domain_of_cpu[cpu_of_node[1]] = 1;
    topology.node_of_domain[1] = 1;
    UNIT_CHECK(berth__topology_set(&topology));
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 2;
    pool = berth_pool_create("nodes", &options);
    return pool == NULL;
}

static int end_of_test(void **state) {
    (void)state;
    if (pool == NULL) {
        return 0;
    }
    check_balance(pool);
    int status = berth_pool_destroy(pool, BERTH_FORCE);
    pool = NULL;
    return status;
}

#define NEEDS_TWO_CPUS()                                                                           \
    do {                                                                                           \
        if (pool == NULL) {                                                                        \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

static void move_to_node(unsigned node) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(cpu_of_node[node], &cpus);
    UNIT_CHECK(sched_setaffinity(0, sizeof(cpus), &cpus) == 0);
}

struct job {
    unsigned node;
    void (*work)(void);
};

static void *do_job(void *context) {
    const struct job *job = context;
    move_to_node(job->node);
    job->work();
    return NULL;
}

static void on_node(unsigned node, void (*work)(void)) {
    struct job job = {node, work};
    pthread_t thread;
    UNIT_CHECK(pthread_create(&thread, NULL, do_job, &job) == 0);
    UNIT_CHECK(pthread_join(thread, NULL) == 0);
}

static unsigned node_of_cache(void) {
    return berth__cache_peek(berth__pool_arenas(pool))->arena->node;
}

/* ---- memory that was used before ---- */

static void use_huge(void) {
    void *block = berth_alloc(pool, HUGE_BYTES);
    UNIT_CHECK(block != NULL);
    memset(block, 1, HUGE_BYTES);
    berth_free(block);
}

static void use_runs(void) {
    for (unsigned i = 0; i < RUNS; i++) {
        void *run = berth_alloc(pool, RUN);
        UNIT_CHECK(run != NULL);
        memset(run, 1, RUN);
    }
}

static void look_at(size_t bytes) {
    const char *block = berth_alloc(pool, bytes);
    UNIT_CHECK(block != NULL && node_of_cache() == 1);
    for (size_t at = 0; at < bytes; at += 512) {
        UNIT_CHECK(block[at] == 0);
    }
}

static void look_at_huge(void) {
    look_at(HUGE_BYTES);
}

static void look_at_runs(void) {
    for (unsigned i = 0; i < RUNS; i++) {
        look_at(RUN);
    }
}

static void memory_of_another_node_is_given_back_first(void **state) {
    /* What a node's threads have freed would serve those of another one, for ever from afar. */
    (void)state;
    NEEDS_TWO_CPUS();
    static void (*const uses[])(void) = {use_huge, use_runs};
    static void (*const looks[])(void) = {look_at_huge, look_at_runs};
    for (unsigned i = 0; i < 4; i++) {
        on_node(0, uses[i / 2]);
        UNIT_CHECK(berth_pool_reset(pool, BERTH_FORCE) == 0);
        on_node(1, looks[i % 2]);
        UNIT_CHECK(berth_pool_reset(pool, BERTH_FORCE) == 0);
    }
}

/* ---- buffers ---- */

static void *buffer;

static void allocate_buffer(void) {
    buffer = berth_alloc(pool, RUN);
    UNIT_CHECK(buffer != NULL);
}

static void free_buffer(void) {
    berth_free(buffer);
}

static void a_cpu_keeps_no_buffers_of_another_node(void **state) {
    /* A thread that frees what another node's threads fill would leave it to its neighbours. */
    (void)state;
    NEEDS_TWO_CPUS();
    on_node(0, allocate_buffer);
    on_node(0, free_buffer);
    assert_int_equal(figures_of(pool).run_cached_bytes, RUN);
    on_node(0, allocate_buffer);
    on_node(1, free_buffer);
    assert_int_equal(figures_of(pool).run_cached_bytes, 0);
}

/* ---- threads that move ---- */

/* Keeps `count` blocks, of which it frees the oldest for each new one, until another arena serves
 * it. The minute is for a test that fails. */
struct traffic {
    size_t size, count;
};

static void *move_with(void *context) {
    const struct traffic *traffic = context;
    void *blocks[200] = {NULL};
    time_t end = time(NULL) + 60;
    move_to_node(0);
    blocks[0] = berth_alloc(pool, traffic->size);
    UNIT_CHECK(blocks[0] != NULL && node_of_cache() == 0);
    move_to_node(1);
    for (size_t i = 0; node_of_cache() == 0; i = (i + 1) % traffic->count) {
        UNIT_CHECK(time(NULL) <= end);
        berth_free(blocks[i]);
        blocks[i] = berth_alloc(pool, traffic->size);
        UNIT_CHECK(blocks[i] != NULL);
        if (i == 0) {
            usleep(1000);
        }
    }
    for (size_t i = 0; i < traffic->count; i++) {
        berth_free(blocks[i]);
    }
    return NULL;
}

static void a_thread_that_was_moved_is_served_where_it_runs(void **state) {
    /* It would have all its memory on the wrong node from then on. */
    (void)state;
    NEEDS_TWO_CPUS();
    static struct traffic ways[] = {{1000, 200}, {20 << 10, 200}, {RUN, 1}, {HUGE_BYTES, 1}};
    pthread_t threads[BERTH_ARRAY_COUNT(ways)];
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(ways); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, move_with, &ways[i]), 0);
    }
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(ways); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start_of_test, end_of_test)
    const struct CMUnitTest tests[] = {
        TEST(memory_of_another_node_is_given_back_first),
        TEST(a_cpu_keeps_no_buffers_of_another_node),
        TEST(a_thread_that_was_moved_is_served_where_it_runs),
    };
#undef TEST
    return UNIT_RUN(tests);
}
