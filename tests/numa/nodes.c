/*
 * If this fails, memory of one NUMA node's threads lies on another node, where each access takes
 * longer; or a thread goes on with the arena of a node that it has left.
 *
 * For a machine with two nodes; elsewhere there is nothing to see. Built three ways: with the door
 * linked in, for `berth run` (EDGE_DOOR and what it stands for are in edge.h), and on libberth's
 * default pool.
 */
#include "../edges/edge.h"

#include <berth/berth.h>
#include <berth/metrics.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>

#if NODES_OF_POOL
#define ALLOCATE(size) berth_alloc(berth_pool_default(), size)
#define RESIZE(block, size) berth_realloc(berth_pool_default(), block, size)
#define FREE(block) berth_free(block)
#else
#define ALLOCATE(size) malloc(size)
#define RESIZE(block, size) realloc(block, size)
#define FREE(block) free(block)
/* Of a door that is preloaded. */
#pragma weak berth_metrics_read_arena
#pragma weak berth_pool_default
#endif

enum { NODES = 2, PAGE = 4096, CPUS = 64, ARENAS = 64, BLOCKS = 32768 };
static const size_t MIB = 1 << 20;

static cpu_set_t cpus_of_node[NODES];

/* ---- where things are ---- */

static unsigned node_here(void) {
    unsigned cpu = 0;
    unsigned node = 0;
    CHECK(getcpu(&cpu, &node) == 0);
    return node;
}

static void move_to(const cpu_set_t *cpus) {
    CHECK(sched_setaffinity(0, sizeof(*cpus), cpus) == 0);
}

static void find_nodes(void) {
    cpu_set_t all;
    CHECK(sched_getaffinity(0, sizeof(all), &all) == 0);
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        if (CPU_ISSET(cpu, &all)) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            move_to(&one);
            CHECK(node_here() < NODES);
            CPU_SET(cpu, &cpus_of_node[node_here()]);
        }
    }
    move_to(&all);
    if (CPU_COUNT(&cpus_of_node[1]) == 0) {
        edge_skip("this machine has one node");
    }
}

/* Pages of a block that are in memory, by node. */
struct places {
    size_t on[NODES];
    size_t nowhere; /* never touched */
};

static void add_places(const void *block, size_t size, struct places *places) {
    enum { BATCH = 512 };
    char *at = (char *)((uintptr_t)block / PAGE * PAGE);
    const char *end = (const char *)block + size;
    while (at < end) {
        void *pages[BATCH];
        int status[BATCH];
        unsigned long count = 0;
        for (; count < BATCH && at < end; at += PAGE) {
            pages[count++] = at;
        }
        CHECK(syscall(SYS_move_pages, 0, count, pages, NULL, status, 0) == 0);
        for (unsigned long i = 0; i < count; i++) {
            CHECK(status[i] < NODES && (status[i] >= 0 || status[i] == -ENOENT));
            *(status[i] < 0 ? &places->nowhere : &places->on[status[i]]) += 1;
        }
    }
}

/* ---- blocks, and threads that work on them ---- */

/* In no block itself: the arrays are the program's. */
struct blocks {
    size_t size, count;
    void *at[BLOCKS];
};

static void allocate(struct blocks *blocks) {
    for (size_t i = 0; i < blocks->count; i++) {
        blocks->at[i] = ALLOCATE(blocks->size);
        CHECK(blocks->at[i] != NULL);
    }
}

static void touch(struct blocks *blocks) {
    for (size_t i = 0; i < blocks->count; i++) {
        memset(blocks->at[i], 1, blocks->size);
    }
}

static void release(struct blocks *blocks) {
    for (size_t i = 0; i < blocks->count; i++) {
        FREE(blocks->at[i]);
    }
}

static void allocate_and_touch(struct blocks *blocks) {
    allocate(blocks);
    touch(blocks);
}

struct job {
    void (*work)(struct blocks *);
    struct blocks *blocks;
};

static void *do_job(void *argument) {
    const struct job *job = argument;
    job->work(job->blocks);
    return NULL;
}

/* In a thread of its own, which never ran on another CPU than these. */
static void on_cpus(const cpu_set_t *cpus, void (*work)(struct blocks *), struct blocks *blocks) {
    struct job job = {work, blocks};
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setaffinity_np(&attributes, sizeof(*cpus), cpus) == 0);
    CHECK(pthread_create(&thread, &attributes, do_job, &job) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0);
}

static void on_node(unsigned node, void (*work)(struct blocks *), struct blocks *blocks) {
    on_cpus(&cpus_of_node[node], work, blocks);
}

static struct places places_of(const struct blocks *blocks) {
    struct places places = {{0}, 0};
    for (size_t i = 0; i < blocks->count; i++) {
        add_places(blocks->at[i], blocks->size, &places);
    }
    return places;
}

static void check_places(const struct blocks *blocks, unsigned node) {
    struct places places = places_of(blocks);
    if (places.on[1 - node] > 0 || places.nowhere > 0) {
        FAIL("blocks of %zu bytes for node %u: %zu pages on node 0, %zu on node 1, %zu nowhere",
             blocks->size, node, places.on[0], places.on[1], places.nowhere);
    }
}

/* Small, normal and huge ones, several chunks of each. */
static const struct {
    size_t size, count;
} kinds[] = {{100, 30000},    {1024, 8192},     {16 << 10, 512},
             {64 << 10, 192}, {1000 << 10, 12}, {6 << 20, 2}};

static struct blocks sets[NODES][COUNT_OF(kinds)];

/* What `first` does to blocks for a node is done there, what `second` does, on the node `then`. */
static void make_sets(unsigned node, void (*first)(struct blocks *), unsigned then,
                      void (*second)(struct blocks *)) {
    for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
        struct blocks *blocks = &sets[node][kind];
        blocks->size = kinds[kind].size;
        blocks->count = kinds[kind].count;
        on_node(node, first, blocks);
        on_node(then, second, blocks);
        check_places(blocks, node);
    }
}

static void blocks_lie_where_the_thread_runs(void) {
    for (unsigned node = 0; node < NODES; node++) {
        make_sets(node, allocate, node, touch);
    }
}

static void blocks_lie_there_whoever_touches_them_first(void) {
    for (unsigned node = 0; node < NODES; node++) {
        make_sets(node, allocate, 1 - node, touch);
    }
}

static void grow_to_the_double(struct blocks *blocks) {
    for (size_t i = 0; i < blocks->count; i++) {
        blocks->at[i] = RESIZE(blocks->at[i], 2 * blocks->size);
        CHECK(blocks->at[i] != NULL);
    }
    blocks->size *= 2;
}

static void blocks_that_grow_stay_on_their_node(void) {
    for (unsigned node = 0; node < NODES; node++) {
        for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
            struct blocks *blocks = &sets[node][kind];
            blocks->size = kinds[kind].size;
            blocks->count = kinds[kind].count / 2;
            on_node(node, allocate_and_touch, blocks);
            on_node(node, grow_to_the_double, blocks);
            on_node(1 - node, touch, blocks);
            check_places(blocks, node);
        }
    }
}

/* Freed chunks and huge blocks are kept for the next one who needs memory. */
static void memory_freed_on_one_node_does_not_serve_the_other(void) {
    static struct blocks freed;
    static struct blocks wanted;
    static const size_t sizes[] = {1000, 64 << 10, 6 << 20};
    for (size_t from = 0; from < COUNT_OF(sizes); from++) {
        for (size_t to = 0; to < COUNT_OF(sizes); to++) {
            for (unsigned node = 0; node < NODES; node++) {
                freed.size = sizes[from];
                freed.count = 24 * MIB / freed.size;
                wanted.size = sizes[to];
                wanted.count = 24 * MIB / wanted.size;
                on_node(node, allocate_and_touch, &freed);
                on_node(node, release, &freed);
                on_node(1 - node, allocate_and_touch, &wanted);
                check_places(&wanted, 1 - node);
                on_node(1 - node, release, &wanted);
            }
        }
    }
}

/* Allocated on the one node, freed by a thread of the other. */
static void blocks_freed_by_the_other_node_do_not_serve_it(void) {
    static struct blocks blocks = {.size = 40 << 10, .count = 200};
    for (unsigned node = 0; node < NODES; node++) {
        on_node(node, allocate_and_touch, &blocks);
        on_node(1 - node, release, &blocks);
        on_node(1 - node, allocate_and_touch, &blocks);
        check_places(&blocks, 1 - node);
        on_node(1 - node, release, &blocks);
    }
}

/* ---- arenas ---- */

struct arenas {
    unsigned count;
    uint64_t node[ARENAS], bytes[ARENAS];
};

static struct arenas read_arenas(void) {
    struct arenas arenas = {0};
    struct berth_arena_metrics metrics;
    while (arenas.count < ARENAS && berth_metrics_read_arena(berth_pool_default(), arenas.count,
                                                             &metrics, sizeof(metrics)) == 0) {
        arenas.node[arenas.count] = metrics.node;
        arenas.bytes[arenas.count++] = metrics.chunk_bytes;
    }
    return arenas;
}

/* A bit for each arena of this node that grew meanwhile; that of the main thread does so by a
 * little. */
static uint64_t arenas_grown(const struct arenas *before, unsigned node) {
    struct arenas now = read_arenas();
    uint64_t grown = 0;
    for (unsigned i = 0; i < now.count; i++) {
        uint64_t bytes = i < before->count ? before->bytes[i] : 0;
        if (now.node[i] == node && now.bytes[i] > bytes + 4 * MIB) {
            grown |= UINT64_C(1) << i;
        }
    }
    return grown;
}

static void the_metrics_name_the_node_of_each_arena(void) {
    static struct blocks blocks = {.size = 1000, .count = 20000};
    for (unsigned node = 0; node < NODES; node++) {
        struct arenas before = read_arenas();
        on_node(node, allocate, &blocks);
        CHECK(arenas_grown(&before, node) != 0);
        CHECK(arenas_grown(&before, 1 - node) == 0);
    }
    struct arenas now = read_arenas();
    for (unsigned i = 0; i < now.count; i++) {
        CHECK(now.node[i] < NODES);
    }
}

/* The first CPU of those with which one shares its last-level cache. */
static unsigned cache_of(unsigned cpu) {
    char path[96];
    unsigned first = 0;
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/cache/index3/shared_cpu_list", cpu);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL && fscanf(file, "%u", &first) == 1);
    fclose(file);
    return first;
}

/* Those CPUs of a node that share its first one's cache, and the others. */
static void find_two_caches(unsigned node, cpu_set_t *one, cpu_set_t *other) {
    CPU_ZERO(one);
    CPU_ZERO(other);
    unsigned first = CPUS;
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        if (!CPU_ISSET(cpu, &cpus_of_node[node])) {
            continue;
        }
        first = first == CPUS ? cpu : first;
        CPU_SET(cpu, cache_of(cpu) == cache_of(first) ? one : other);
    }
    CHECK(CPU_COUNT(other) > 0);
}

/* One after the other, so that it is not because both are busy. */
static void each_cache_has_an_arena_of_its_own(void) {
    static struct blocks blocks = {.size = 1000, .count = 20000};
    if (getenv("NODES_HWLOC") == NULL) {
        edge_skip("without hwloc, nothing is known of caches");
    }
    for (unsigned node = 0; node < NODES; node++) {
        cpu_set_t one;
        cpu_set_t other;
        find_two_caches(node, &one, &other);
        struct arenas before = read_arenas();
        on_cpus(&one, allocate, &blocks);
        uint64_t grown = arenas_grown(&before, node);
        before = read_arenas();
        on_cpus(&other, allocate, &blocks);
        uint64_t grown_then = arenas_grown(&before, node);
        if (grown == 0 || grown_then == 0 || (grown & grown_then) != 0) {
            FAIL("node %u: arenas %#llx, then %#llx", node, (unsigned long long)grown,
                 (unsigned long long)grown_then);
        }
    }
}

/* ---- threads that move ---- */

enum { RING = 2048, ROUND = 512 };

/* A thread's traffic: each new block takes the place of one that is freed. */
struct traffic {
    struct blocks blocks; /* what one round allocated; comes first, so that it can stand for all */
    void *ring[RING];
    size_t next;
};

static void run_round(struct traffic *traffic) {
    struct blocks *blocks = &traffic->blocks;
    allocate_and_touch(blocks);
    for (size_t i = 0; i < blocks->count; i++) {
        void **place = &traffic->ring[traffic->next++ % RING];
        FREE(*place);
        *place = blocks->at[i];
    }
}

/* Until all blocks of some rounds in a row come from this node. The minute is for a test that
 * fails; nothing is measured. */
static void run_until_served_by(struct traffic *traffic, unsigned node) {
    enum { IN_A_ROW = 5, SECONDS_MAX = 60 };
    time_t end = time(NULL) + SECONDS_MAX;
    for (unsigned good = 0; good < IN_A_ROW;) {
        run_round(traffic);
        struct places places = places_of(&traffic->blocks);
        good = places.on[1 - node] == 0 ? good + 1 : 0;
        if (time(NULL) > end) {
            FAIL("after a minute, blocks of %zu bytes: %zu pages on node 0, %zu on node 1",
                 traffic->blocks.size, places.on[0], places.on[1]);
        }
        usleep(2000);
    }
}

static void move_about(struct blocks *blocks) {
    struct traffic *traffic = (struct traffic *)(void *)blocks;
    for (unsigned node = 0; node < 2 * NODES; node++) {
        move_to(&cpus_of_node[node % NODES]);
        run_until_served_by(traffic, node % NODES);
    }
}

static void a_thread_that_moves_is_served_where_it_is(void) {
    static struct traffic traffic = {.blocks = {.size = 1000, .count = ROUND}};
    on_node(0, move_about, &traffic.blocks);
}

static void a_thread_that_uses_buffers_only_is_too(void) {
    static struct traffic traffic = {.blocks = {.size = 20 << 10, .count = ROUND}};
    on_node(0, move_about, &traffic.blocks);
}

int main(int argc, char **argv) {
    static const struct edge_case cases[] = {
        EDGE_CASE(blocks_lie_where_the_thread_runs),
        EDGE_CASE(blocks_lie_there_whoever_touches_them_first),
        EDGE_CASE(blocks_that_grow_stay_on_their_node),
        EDGE_CASE(memory_freed_on_one_node_does_not_serve_the_other),
        EDGE_CASE(blocks_freed_by_the_other_node_do_not_serve_it),
        EDGE_CASE(the_metrics_name_the_node_of_each_arena),
        EDGE_CASE(each_cache_has_an_arena_of_its_own),
        EDGE_CASE(a_thread_that_moves_is_served_where_it_is),
        EDGE_CASE(a_thread_that_uses_buffers_only_is_too),
    };
    find_nodes();
    return edge_main(argc, argv, cases, COUNT_OF(cases));
}
