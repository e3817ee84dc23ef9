/* The limit with many threads at it: never passed, no request that fits fails, also while it moves.
 */
#include "figures.h"

#include "chunk/ledger.h"

#include <fcntl.h>
#include <semaphore.h>

enum { THREADS = 64 };
static const uint64_t limit = 64 << 20;

static berth_pool *pool;
static _Atomic bool stop;
static pthread_barrier_t turn;

/* Private writable memory of the process, as the kernel counts it. */
static uint64_t kernel_bytes(void) {
    char text[256];
    unsigned long pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    UNIT_CHECK(got > 0);
    close(fd);
    text[got] = '\0';
    UNIT_CHECK(sscanf(text, "%*u %*u %*u %*u %*u %lu", &pages) == 1);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void *allocate_at_the_limit(void *seed) {
    struct unit_random random = {(uintptr_t)seed};
    void *blocks[24] = {NULL};
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    while (!atomic_load(&stop)) {
        unsigned slot = (unsigned)unit_random_below(&random, 24);
        berth_free(blocks[slot]);
        size_t kind = unit_random_below(&random, 100);
        size_t size = kind < 60   ? unit_random_below(&random, 16000)
                      : kind < 95 ? unit_random_below(&random, 600000)
                                  : 4 * MiB + unit_random_below(&random, 5 * MiB);
        blocks[slot] = berth_alloc_flags(pool, size, kind % 2 == 0 ? BERTH_NOWAIT : 0);
        if (blocks[slot] != NULL) {
            memset(blocks[slot], 1, size < 100 ? size : 100);
        }
    }
    berth_free_batch(blocks, 24);
    berth_thread_flush();
    return NULL;
}

static pthread_t threads[THREADS];

/* Starts the threads, and returns what the kernel counts before they allocate. */
static uint64_t start_threads(void *(*run)(void *)) {
    UNIT_CHECK(pthread_barrier_init(&turn, NULL, THREADS + 1) == 0);
    atomic_store(&stop, false);
    for (uintptr_t i = 0; i < THREADS; i++) {
        threads[i] = start_thread(run, (void *)(i + 1));
    }
    pthread_barrier_wait(&turn);
    uint64_t before = kernel_bytes();
    pthread_barrier_wait(&turn);
    return before;
}

static void stop_threads(void) {
    atomic_store(&stop, true);
    for (unsigned i = 0; i < THREADS; i++) {
        join_thread(threads[i]);
    }
    pthread_barrier_destroy(&turn);
}

static bool was_met(uint64_t most) {
    return most > limit - 8 * MiB && figures_of(pool).failures > 0;
}

static void never_is_more_mapped_than_the_limit(void **state) {
    /* The container would be killed for what one thread mapped too much. */
    (void)state;
    const uint64_t slack = 512 << 10; /* metadata that is mapped and not yet counted */
    UNIT_CHECK(berth_limit_set(limit) == 0);
    berth_thread_flush();
    berth_trim(NULL);
    UNIT_CHECK(berth_limit_used() == 0);
    uint64_t metadata_before = figures().metadata_bytes;
    uint64_t before = start_threads(allocate_at_the_limit);
    uint64_t most = 0;
    for (unsigned i = 0; i < 1000 || (i < 20000 && !was_met(most)); i++) {
        uint64_t used = berth_limit_used();
        uint64_t mapped = kernel_bytes() - before;
        uint64_t metadata = figures().metadata_bytes - metadata_before;
        UNIT_CHECK(used <= limit);
        UNIT_CHECK(UNIT_SANITIZED || mapped <= limit + metadata + slack);
        most = used > most ? used : most;
        sleep_ms(1);
    }
    stop_threads();
    assert_true(was_met(most)); /* it was put to the test */
    assert_true(figures().limit_peak_bytes <= limit);
    check_nothing_lives(pool);
}

static void the_limit_can_be_moved_while_threads_are_at_it(void **state) {
    /* Bytes would be lost or counted twice, or growth go on. */
    (void)state;
    start_threads(allocate_at_the_limit);
    for (unsigned i = 0; i < 40; i++) {
        uint64_t lower = limit / (1 + i % 4);
        UNIT_CHECK(berth_limit_set(lower) == 0);
        uint64_t used = berth_limit_used();
        for (unsigned k = 0; k < 10; k++) {
            sleep_ms(1);
            uint64_t now = berth_limit_used();
            UNIT_CHECK(now <= (used > lower ? used : lower)); /* from here on it can only fall */
            used = now;
        }
    }
    stop_threads();
    check_nothing_lives(pool);
    assert_int_equal(berth_limit_set(limit), 0);
}

/* ---- requests that fit ---- */

static sem_t permits;
static _Atomic unsigned refused;

/* Whoever has a permit finds room: there are as many as blocks fit. */
static void *allocate_with_permit(void *argument) {
    struct unit_random random = {(uintptr_t)argument};
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    for (unsigned i = 0; i < 60; i++) {
        while (sem_wait(&permits) != 0) {
        }
        void *block = berth_alloc(pool, 5 * MiB);
        if (block == NULL) {
            atomic_fetch_add(&refused, 1);
        } else {
            *(volatile char *)block = 1;
            if (unit_random_below(&random, 8) == 0) {
                sleep_ms(1);
            }
        }
        berth_free(block);
        sem_post(&permits);
    }
    return NULL;
}

static void no_request_that_fits_fails(void **state) {
    /* Threads would see ENOMEM although there was memory for all of them. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.wait_ms = 60000;
    pool = berth_pool_create("permits", &options);
    atomic_store(&refused, 0);
    assert_int_equal(sem_init(&permits, 0, (unsigned)(limit / (5 * MiB))), 0);
    start_threads(allocate_with_permit);
    stop_threads();
    sem_destroy(&permits);
    assert_int_equal(atomic_load(&refused), 0);
    check_nothing_lives(pool);
}

int main(void) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.wait_ms = 20; /* who waits holds blocks that others wait for */
    pool = berth_pool_create("load", &options);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_is_more_mapped_than_the_limit),
        cmocka_unit_test(the_limit_can_be_moved_while_threads_are_at_it),
        cmocka_unit_test(no_request_that_fits_fails),
    };
    return UNIT_RUN(tests);
}
