/*
 * The limit, seen from outside: the total that the engine tells and the kernel's own count of
 * writable memory, while 64 threads stand at it; and who is served when bytes return. Each test
 * runs in a child, as a process has one limit.
 */
#include "unit.h"

#include "chunk/wait.h"
#include "heap/engine.h"
#include "heap/request.h"

#include <berth/berth.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

enum { MIB = 1 << 20, THREADS = 64, HELD = 8 };

static void sleep_ms(unsigned ms) {
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000},
              NULL);
}

/* Bytes of private writable mappings, which the kernel counts in one word: /proc/self/statm. */
static size_t writable_bytes(int statm) {
    char line[256] = "";
    size_t fields[6] = {0};
    UNIT_CHECK(pread(statm, line, sizeof(line) - 1, 0) > 0);
    UNIT_CHECK(sscanf(line, "%zu %zu %zu %zu %zu %zu", &fields[0], &fields[1], &fields[2],
                      &fields[3], &fields[4], &fields[5]) == 6);
    return fields[5] * (size_t)sysconf(_SC_PAGESIZE);
}

static uint64_t metadata_bytes(void) {
    struct berth_process_metrics metrics;
    UNIT_CHECK(berth_metrics_read(&metrics, sizeof(metrics)) == 0);
    return metrics.metadata_bytes;
}

/* ---- 64 threads at the limit ---- */

static _Atomic bool stop;
static pthread_barrier_t ready;
static _Atomic unsigned refused;

static size_t random_size(struct unit_random *random) {
    size_t kind = unit_random_below(random, 100);
    return kind < 60   ? 1 + unit_random_below(random, 16384)
           : kind < 90 ? 1 + unit_random_below(random, MIB)
                       : 4 * MIB + 1 + unit_random_below(random, 4 * MIB);
}

static void *allocate_and_free(void *seed) {
    struct unit_random random = {(uintptr_t)seed};
    char *held[HELD] = {NULL};
    pthread_barrier_wait(&ready); /* the stacks of all are there */
    pthread_barrier_wait(&ready); /* and counted */
    while (!atomic_load(&stop)) {
        size_t i = unit_random_below(&random, HELD);
        berth_free(held[i]);
        unsigned flags = unit_random_below(&random, 2) == 0 ? BERTH_NOWAIT : 0;
        held[i] = berth_alloc_flags(berth_pool_default(), random_size(&random), flags);
        if (held[i] == NULL) {
            UNIT_CHECK(errno == ENOMEM);
            atomic_fetch_add(&refused, 1);
        } else {
            held[i][0] = 1;
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        berth_free(held[i]);
    }
    berth_thread_flush();
    return NULL;
}

/* What the kernel counted and the engine told when nothing was in use. */
struct baseline {
    int statm;
    size_t writable;
    uint64_t metadata;
};

/* Metadata is not under the limit, and is counted just after it is mapped: a few steps of it may be
 * on their way at each moment. Memory of chunks and huge blocks is charged before it is mapped. */
static void sample(const struct baseline *baseline, uint64_t limit) {
    enum { METADATA_ON_ITS_WAY = MIB };
    UNIT_CHECK(berth_limit_used() <= limit);
    size_t writable = writable_bytes(baseline->statm);
    uint64_t metadata = metadata_bytes() - baseline->metadata;
    if (!UNIT_TSAN && !BERTH_ASAN) { /* they map for themselves */
        UNIT_CHECK(writable <= baseline->writable + metadata + limit + METADATA_ON_ITS_WAY);
    }
}

static void start_threads(pthread_t *threads, struct baseline *baseline) {
    UNIT_CHECK(pthread_barrier_init(&ready, NULL, THREADS + 1) == 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        UNIT_CHECK(pthread_create(&threads[i], NULL, allocate_and_free, (void *)(i + 1)) == 0);
    }
    pthread_barrier_wait(&ready);
    baseline->statm = open("/proc/self/statm", O_RDONLY);
    baseline->writable = writable_bytes(baseline->statm) - (size_t)berth_limit_used();
    baseline->metadata = metadata_bytes();
    pthread_barrier_wait(&ready);
}

static void stop_threads(pthread_t *threads) {
    atomic_store(&stop, true);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    berth_thread_flush();
    berth_trim(NULL);
    UNIT_CHECK(berth_limit_used() == 0);
    struct berth_process_metrics metrics;
    UNIT_CHECK(berth_metrics_read(&metrics, sizeof(metrics)) == 0);
    UNIT_CHECK(metrics.limit_peak_bytes >= metrics.limit_bytes / 2);
    UNIT_CHECK(metrics.live_high_bytes == 0 && metrics.allocations == metrics.frees);
    UNIT_CHECK(metrics.mapped_bytes == metrics.metadata_bytes);
}

static void crowd_at_the_limit(void *unused) {
    (void)unused;
    const uint64_t limit = 64 * MIB;
    pthread_t threads[THREADS];
    struct baseline baseline;
    UNIT_CHECK(berth_limit_set(limit) == 0);
    start_threads(threads, &baseline);
    for (unsigned i = 0; i < 400 || (atomic_load(&refused) == 0 && i < 4000); i++) {
        sample(&baseline, limit);
        sleep_ms(2);
    }
    UNIT_CHECK(atomic_load(&refused) > 0); /* they were at the limit */
    stop_threads(threads);
}

static void neither_the_total_nor_the_kernels_count_passes_the_limit(void **state) {
    /* The container would be killed at the limit that we were given. */
    (void)state;
    assert_int_equal(unit_in_child(crowd_at_the_limit, NULL), 0);
}

static void lower_under_load(void *unused) {
    (void)unused;
    const uint64_t lower = 32 * MIB;
    pthread_t threads[THREADS];
    struct baseline baseline;
    UNIT_CHECK(berth_limit_set(96 * MIB) == 0);
    start_threads(threads, &baseline);
    for (unsigned i = 0; i < 100; i++) {
        sample(&baseline, 96 * MIB);
        sleep_ms(2);
    }
    UNIT_CHECK(berth_limit_set(lower) == 0);
    while (berth_limit_used() > lower) { /* ends by the test's own time limit if it never holds */
        sample(&baseline, 96 * MIB);
        sleep_ms(1);
    }
    for (unsigned i = 0; i < 100; i++) {
        sample(&baseline, lower);
        sleep_ms(2);
    }
    stop_threads(threads);
}

static void a_limit_lowered_under_load_is_reached_and_then_holds(void **state) {
    /* The excess would stay, or come back. */
    (void)state;
    assert_int_equal(unit_in_child(lower_under_load, NULL), 0);
}

/* ---- what stays ---- */

/* As if another thread had found room elsewhere between growing and lending. */
static void grow_for_nothing(void *unused) {
    (void)unused;
    UNIT_CHECK(berth_limit_set(64 * MIB) == 0);
    struct berth__arena *arena = berth__arena_of_thread(berth__default_arenas());
    UNIT_CHECK(arena != NULL);
    UNIT_CHECK(berth__arena_grow(arena, BERTH_CHUNK_PAGES, 1, 0, NULL) == 0);
    UNIT_CHECK(berth_limit_used() == BERTH_CHUNK);
    berth_trim(NULL);
    UNIT_CHECK(berth_limit_used() == 0);
}

static void a_chunk_that_was_never_used_goes_at_a_trim(void **state) {
    /* It would be charged for ever, and missing to other pools. */
    (void)state;
    assert_int_equal(unit_in_child(grow_for_nothing, NULL), 0);
}

/* ---- who is served ---- */

enum { BLOCKS = 100, WAITERS = 6 };
static void *blocks[BLOCKS + 1];
static berth_pool *pool;

/* Fills a limit of 100 MiB with blocks of 1 MiB, or of 4 MiB and a byte (in the fewest pages). */
static void fill_the_limit(size_t size, unsigned count, int wait_ms) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.wait_ms = wait_ms;
    pool = berth_pool_create("waiting", &options);
    UNIT_CHECK(pool != NULL);
    UNIT_CHECK(berth_limit_set((uint64_t)100 * MIB) == 0);
    for (unsigned i = 0; i < count; i++) {
        blocks[i] = berth_alloc_flags(pool, size, BERTH_NOWAIT);
        UNIT_CHECK(blocks[i] != NULL);
    }
    UNIT_CHECK(berth_alloc_flags(pool, size, BERTH_NOWAIT) == NULL && errno == ENOMEM);
}

static void fill_again_and_again(void *unused) {
    (void)unused;
    fill_the_limit(MIB, BLOCKS, 0);
    UNIT_CHECK(berth_limit_used() == (uint64_t)100 * MIB);
    struct unit_random random = {9};
    for (unsigned round = 0; round < 300; round++) {
        size_t i = unit_random_below(&random, BLOCKS);
        berth_free(blocks[i]);
        blocks[i] = berth_alloc_flags(pool, MIB, BERTH_NOWAIT);
        UNIT_CHECK(blocks[i] != NULL);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        berth_free(blocks[i]);
    }
    for (unsigned i = 0; i < 20; i++) { /* of another kind, from the same bytes */
        blocks[i] = berth_alloc_flags(pool, 5 * MIB, BERTH_NOWAIT);
        UNIT_CHECK(blocks[i] != NULL);
    }
    for (unsigned i = 0; i < 20; i++) {
        berth_free(blocks[i]);
    }
    static void *small[100 * MIB / 65536];
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(small) / 8; i++) {
        small[i] = berth_alloc_flags(pool, 60000, BERTH_NOWAIT);
        UNIT_CHECK(small[i] != NULL);
    }
}

static void what_fits_is_served_to_the_last_byte(void **state) {
    /* A limit of 100 MiB would hold fewer than 100 blocks of 1 MiB. */
    (void)state;
    assert_int_equal(unit_in_child(fill_again_and_again, NULL), 0);
}

static _Atomic unsigned order[WAITERS]; /* the number of the waiter, and one */
static _Atomic unsigned served;
static size_t wanted;

static void *allocate_and_note(void *number) {
    void *block = berth_alloc(pool, wanted);
    UNIT_CHECK(block != NULL);
    atomic_store(&order[atomic_fetch_add(&served, 1)], (unsigned)(uintptr_t)number + 1);
    return block;
}

static void start_waiters(pthread_t *threads) {
    for (uintptr_t i = 0; i < WAITERS; i++) {
        UNIT_CHECK(pthread_create(&threads[i], NULL, allocate_and_note, (void *)i) == 0);
        while (berth__load_relaxed(&berth__waiter_count) != i + 1) {
            sleep_ms(1);
        }
    }
}

static void free_one_at_a_time(void *size) {
    wanted = *(size_t *)size;
    unsigned count = wanted == MIB ? BLOCKS : 20;
    pthread_t threads[WAITERS];
    fill_the_limit(wanted, count, 60000);
    start_waiters(threads);
    for (unsigned i = 0; i < WAITERS; i++) {
        UNIT_CHECK(atomic_load(&served) == i);
        berth_free(blocks[7 * i % count]);
        while (atomic_load(&order[i]) == 0) {
            sleep_ms(1);
        }
        UNIT_CHECK(atomic_load(&order[i]) == i + 1);
    }
    for (unsigned i = 0; i < WAITERS; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void waiters_are_served_in_order_as_bytes_return(void **state) {
    /* Requests that could be served would time out, the oldest ones first. */
    (void)state;
    static size_t sizes[] = {MIB, 5 * MIB};
    assert_int_equal(unit_in_child(free_one_at_a_time, &sizes[0]), 0);
    assert_int_equal(unit_in_child(free_one_at_a_time, &sizes[1]), 0);
}

static void *take_without_waiting(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        void *block = berth_alloc_flags(pool, wanted, BERTH_NOWAIT);
        if (block != NULL) {
            berth_free(block);
        }
    }
    return NULL;
}

static void wait_among_the_impatient(void *size) {
    wanted = *(size_t *)size;
    unsigned count = wanted == MIB ? BLOCKS : 20;
    pthread_t threads[WAITERS];
    pthread_t impatient[3];
    fill_the_limit(wanted, count, 60000);
    start_waiters(threads);
    for (unsigned i = 0; i < 3; i++) {
        UNIT_CHECK(pthread_create(&impatient[i], NULL, take_without_waiting, NULL) == 0);
    }
    for (unsigned i = 0; i < WAITERS; i++) {
        berth_free(blocks[i]);
    }
    for (unsigned i = 0; i < WAITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(impatient[i], NULL);
    }
}

static void who_does_not_wait_does_not_starve_who_waits(void **state) {
    /* Threads that ask without waiting would take whatever returns. */
    (void)state;
    static size_t sizes[] = {MIB, 5 * MIB};
    assert_int_equal(unit_in_child(wait_among_the_impatient, &sizes[0]), 0);
    assert_int_equal(unit_in_child(wait_among_the_impatient, &sizes[1]), 0);
}

static void wait_in_vain(void *unused) {
    (void)unused;
    fill_the_limit(MIB, BLOCKS, 20);
    struct timespec before;
    struct timespec after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    errno = 0;
    UNIT_CHECK(berth_alloc(pool, MIB) == NULL && errno == ENOMEM);
    clock_gettime(CLOCK_MONOTONIC, &after);
    int64_t waited_ns =
        (after.tv_sec - before.tv_sec) * INT64_C(1000000000) + (after.tv_nsec - before.tv_nsec);
    UNIT_CHECK(waited_ns >= INT64_C(20000000));
    UNIT_CHECK(berth_alloc(pool, (size_t)200 * MIB) == NULL); /* no wait helps it */
    UNIT_CHECK(berth_limit_set((uint64_t)101 * MIB) == 0);
    UNIT_CHECK(berth_alloc(pool, MIB) != NULL);
}

static void who_waits_in_vain_fails_alone(void **state) {
    /* An allocation at the limit would hang, or leave something behind. */
    (void)state;
    assert_int_equal(unit_in_child(wait_in_vain, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neither_the_total_nor_the_kernels_count_passes_the_limit),
        cmocka_unit_test(a_limit_lowered_under_load_is_reached_and_then_holds),
        cmocka_unit_test(a_chunk_that_was_never_used_goes_at_a_trim),
        cmocka_unit_test(what_fits_is_served_to_the_last_byte),
        cmocka_unit_test(waiters_are_served_in_order_as_bytes_return),
        cmocka_unit_test(who_does_not_wait_does_not_starve_who_waits),
        cmocka_unit_test(who_waits_in_vain_fails_alone),
    };
    return UNIT_RUN(tests);
}
