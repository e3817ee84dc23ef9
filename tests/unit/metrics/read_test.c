/* Reading the figures while others work: never a lock, never an allocation, nothing that goes
 * backwards, and exact when all is at rest. */
#include "figures.h"

#include <stdatomic.h>
#include <sys/time.h>

enum { WORKERS = 64, READERS = 10, SHARED = 4000, STEPS = 4000 };

static _Atomic(void *) shared[SHARED];
static _Atomic unsigned seeds;
static _Atomic bool done;
static berth_pool *pool;
static const char *const tags[] = {"parser", "cache", "log"};

static void *work(void *unused) {
    (void)unused;
    struct unit_random random = {atomic_fetch_add(&seeds, 1)};
    for (unsigned i = 0; i < STEPS; i++) {
        bool of_pool = unit_random_below(&random, 2) == 0;
        bool tagged = unit_random_below(&random, 4) == 0;
        size_t size = unit_random_below(&random, 20) == 0 ? unit_random_below(&random, 100000)
                                                          : unit_random_below(&random, 3000);
        UNIT_CHECK(!tagged || berth_tag_push(tags[unit_random_below(&random, 3)]) == 0);
        void *block = berth_alloc(of_pool ? pool : berth_pool_default(), size);
        UNIT_CHECK(block != NULL && (!tagged || berth_tag_pop() == 0));
        berth_free(atomic_exchange(&shared[unit_random_below(&random, SHARED)], block));
    }
    return NULL;
}

/* Counters that are a sum of what only grows. */
static void expect_growth(const struct berth_pool_metrics *before,
                          const struct berth_pool_metrics *now) {
    UNIT_CHECK(now->allocations >= before->allocations);
    UNIT_CHECK(now->frees >= before->frees); /* else rates of it are of a restart */
    UNIT_CHECK(now->refills >= before->refills && now->flushes >= before->flushes);
    UNIT_CHECK(now->remote_batches >= before->remote_batches);
    UNIT_CHECK(now->remote_frees >= before->remote_frees);
    UNIT_CHECK(now->slabs_made >= before->slabs_made);
    UNIT_CHECK(now->chunk_maps >= before->chunk_maps && now->purges >= before->purges);
    UNIT_CHECK(now->purged_bytes >= before->purged_bytes && now->contended >= before->contended);
    UNIT_CHECK(now->arenas >= before->arenas && now->heaps >= before->heaps);
}

static void *read_all(void *unused) {
    (void)unused;
    struct berth_pool_metrics before = figures_of(pool);
    struct berth_slow_metrics maps = {0};
    while (!atomic_load(&done)) {
        struct berth_process_metrics all = figures();
        UNIT_CHECK(all.live_low_bytes <= all.live_high_bytes);
        UNIT_CHECK(all.cache_granted_bytes <= all.cache_budget_bytes);
        UNIT_CHECK(all.limit_used_bytes <= all.limit_peak_bytes);
        UNIT_CHECK(all.mapped_bytes == all.chunk_bytes + all.huge_bytes + all.file_bytes +
                                           all.retained_bytes + all.metadata_bytes);
        struct berth_pool_metrics now = figures_of(pool);
        UNIT_CHECK(now.live_low_bytes <= now.live_high_bytes);
        UNIT_CHECK(now.capacity_bytes == now.chunk_bytes + now.huge_bytes + now.file_bytes);
        UNIT_CHECK(now.used_bytes == now.live_high_bytes);
        expect_growth(&before, &now);
        before = now;
        struct berth_slow_metrics slow;
        UNIT_CHECK(berth_metrics_read_slow("chunk_map", &slow, sizeof(slow)) == 0);
        UNIT_CHECK(slow.count >= maps.count && slow.total_ns >= maps.total_ns);
        maps = slow;
        for (unsigned i = 0; i < 3; i++) {
            struct berth_tag_metrics tag;
            UNIT_CHECK(berth_metrics_read_tag(tags[i], &tag, sizeof(tag)) == 0);
            UNIT_CHECK(tag.live_low_bytes <= tag.live_high_bytes);
            UNIT_CHECK(tag.peak_bytes >= tag.live_high_bytes);
        }
    }
    return NULL;
}

static uint64_t live_of(const berth_pool *of) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < SHARED; i++) {
        void *block = atomic_load(&shared[i]);
        bytes += block != NULL && berth_pool_of(block) == of ? berth_usable_size(block) : 0;
    }
    return bytes;
}

static void sixty_four_threads_work_while_ten_read(void **state) {
    /* A dashboard would show memory that comes and goes by itself, or rates below nothing. */
    (void)state;
    pool = berth_pool_create("busy", NULL);
    for (unsigned i = 0; i < 3; i++) {
        UNIT_CHECK(berth_tag_push(tags[i]) == 0 && berth_tag_pop() == 0);
    }
    pthread_t readers[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = start_thread(read_all, NULL);
    }
    run_threads(WORKERS, work, NULL);
    atomic_store(&done, true);
    for (unsigned i = 0; i < READERS; i++) {
        join_thread(readers[i]);
    }
    berth_thread_flush();
    check_balance(pool);
    check_balance(berth_pool_default());
    struct berth_pool_metrics p = figures_of(pool);
    assert_int_equal(p.live_low_bytes, live_of(pool));
    assert_int_equal(p.live_high_bytes, live_of(pool));
    for (unsigned i = 0; i < 3; i++) {
        char name[32];
        struct berth_tag_metrics tag;
        snprintf(name, sizeof(name), "tag:%s", tags[i]);
        UNIT_CHECK(berth_metrics_read_tag(tags[i], &tag, sizeof(tag)) == 0);
        assert_int_equal(tag.live_low_bytes, live_of(berth_pool_find(name)));
        assert_int_equal(tag.live_high_bytes, live_of(berth_pool_find(name)));
        assert_true(tag.peak_bytes >= tag.live_high_bytes && tag.allocations > 1000);
    }
    for (unsigned i = 0; i < SHARED; i++) {
        berth_free(atomic_exchange(&shared[i], NULL));
    }
    check_nothing_lives(pool);
    assert_int_equal(berth_pool_destroy(pool, 0), 0);
}

/* ---- in a signal handler ---- */

static _Atomic unsigned handled; /* lock-free */

/* The thread may hold any lock: taking one that is its own would stop the process. */
static void read_in_handler(int signal) {
    (void)signal;
    struct berth_process_metrics all;
    struct berth_pool_metrics p;
    struct berth_arena_metrics arena;
    struct berth_class_metrics class;
    struct berth_tag_metrics tag;
    struct berth_slow_metrics slow;
    const berth_pool *of = berth_pool_default();
    UNIT_CHECK(berth_metrics_read(&all, sizeof(all)) == 0 &&
               berth_metrics_read_pool(of, &p, sizeof(p)) == 0 &&
               berth_metrics_read_arena(of, 0, &arena, sizeof(arena)) == 0 &&
               berth_metrics_read_class(of, 3, &class, sizeof(class)) == 0 &&
               berth_metrics_read_tag("handled", &tag, sizeof(tag)) == 0 &&
               berth_metrics_read_slow("purge", &slow, sizeof(slow)) == 0);
    atomic_fetch_add(&handled, 1);
}

/* Slow paths all the time: batches of one, new slabs, chunks, huge blocks, and giving them back. */
static void *work_interrupted(void *unused) {
    void *blocks[64];
    for (unsigned i = 0; atomic_load(&handled) < 300; i++) {
        size_t size = i % 16 == 0 ? 3 * MiB : i % 3 == 0 ? 60000 : 16000;
        size_t count = i % 16 == 0 ? 2 : 64;
        UNIT_CHECK(berth_alloc_batch(berth_pool_default(), size, count, blocks) == count);
        berth_free_batch(blocks, count);
        if (i % 8 == 0) {
            berth_thread_flush();
            berth_trim(NULL);
        }
    }
    return unused;
}

static void the_figures_can_be_read_in_a_signal_handler(void **state) {
    /* A watchdog's report would hang or end the server that it is to explain. */
    (void)state;
    UNIT_CHECK(berth_tag_push("handled") == 0 && berth_tag_pop() == 0);
    struct sigaction action = {.sa_handler = read_in_handler, .sa_flags = SA_RESTART};
    struct itimerval often = {.it_interval = {.tv_usec = 500}, .it_value = {.tv_usec = 500}};
    struct itimerval never = {.it_value = {.tv_usec = 0}};
    assert_int_equal(sigaction(SIGPROF, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_PROF, &often, NULL), 0);
    run_threads(2, work_interrupted, NULL);
    assert_int_equal(setitimer(ITIMER_PROF, &never, NULL), 0);
    check_balance(berth_pool_default());
}

static void reading_allocates_nothing(void **state) {
    /* Reading would use the memory that it reports to be short. */
    (void)state;
    struct berth_process_metrics before = figures();
    struct berth_process_metrics now;
    struct berth_tag_metrics tag;
    for (unsigned i = 0; i < 1000; i++) {
        (void)figures_of(berth_pool_default());
        UNIT_CHECK(berth_metrics_read_tag("handled", &tag, sizeof(tag)) == 0);
        now = figures();
    }
    assert_true(now.mapped_bytes == before.mapped_bytes && now.allocations == before.allocations &&
                now.metadata_bytes == before.metadata_bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixty_four_threads_work_while_ten_read),
        cmocka_unit_test(the_figures_can_be_read_in_a_signal_handler),
        cmocka_unit_test(reading_allocates_nothing),
    };
    return UNIT_RUN(tests);
}
