/* The trace of another process: its ring may hold anything. Here it is this process. */
#include "unit.h"

#include "cli/trace_read.h"
#include "cli/trace_write.h"
#include "heap/request.h"
#include "heap/trace.h"

#include <berth/berth.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

enum { HUGE_BYTES = 8 << 20 };

static struct berth__process process;
static FILE *sink;
static struct berth__trace_record taken[2 * BERTH_TRACE_RECORDS];
static unsigned taken_count;

static int start_of_group(void **state) {
    (void)state;
    process.pid = getpid();
    process.memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    process.stats.trace = (uintptr_t)&berth__trace_root;
    sink = fopen("/dev/null", "we");
    (void)berth_pool_default(); /* which starts the engine */
    return process.memory < 0 || sink == NULL;
}

static void take(void *context, const struct berth__trace_record *record) {
    (void)context;
    UNIT_CHECK(record->depth <= BERTH_TRACE_DEPTH);
    UNIT_CHECK(record->kind < BERTH_TRACE_KINDS);
    UNIT_CHECK(record->step < BERTH_LADDER_STEPS);
    if (taken_count < BERTH_ARRAY_COUNT(taken)) {
        memcpy((void *)&taken[taken_count++], (const void *)record, sizeof(*record));
    }
}

static void read_all(struct berth__trace_reader *reader) {
    taken_count = 0;
    assert_true(berth__trace_read(reader, take, NULL));
}

static unsigned count_of(enum berth__trace_kind kind) {
    unsigned count = 0;
    for (unsigned i = 0; i < taken_count; i++) {
        count += taken[i].kind == kind;
    }
    return count;
}

static BERTH_NOINLINE void take_huge(void) {
    void *volatile block = berth_alloc(berth_pool_default(), HUGE_BYTES);
    berth_free(block);
}

static void who_takes_a_huge_block_is_named(void **state) {
    /* `berth trace` would name nobody, or somebody else. */
    (void)state;
    struct berth__trace_reader reader;
    assert_int_equal(berth__trace_open(&reader, &process), 0);
    take_huge();
    read_all(&reader);
    assert_int_equal(count_of(BERTH_TRACE_HUGE), 1);
    const struct berth__trace_record *record = &taken[taken_count - 1];
    assert_int_equal(record->requested, HUGE_BYTES);
    assert_int_equal(record->bytes, HUGE_BYTES);
    assert_int_equal(record->thread, getpid());
    bool named = false;
    for (unsigned i = 0; i < record->depth; i++) { /* without optimization, behind berth_alloc */
        named = named || (uintptr_t)record->place[i] - (uintptr_t)take_huge < 256;
    }
    assert_true(named);
    read_all(&reader);
    assert_int_equal(taken_count, 0); /* each once */
    berth__trace_close(&reader);
}

static void chunks_are_told_with_what_they_serve(void **state) {
    /* What grows bit by bit, as most does, would not be seen. */
    (void)state;
    struct berth__trace_reader reader;
    assert_int_equal(berth__trace_open(&reader, &process), 0);
    berth_pool *pool = berth_pool_create("traced", NULL);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < 4000; i++) {
        assert_non_null(berth_alloc(pool, 4000));
    }
    read_all(&reader);
    assert_true(count_of(BERTH_TRACE_CHUNK) >= 3);
    for (unsigned i = 0; i < taken_count; i++) {
        assert_true(taken[i].address != 0);
        assert_int_equal(taken[i].requested, 4000);
        assert_true(taken[i].mapped <= taken[i].bytes);
        bytes += taken[i].bytes;
    }
    struct berth_pool_metrics metrics;
    assert_int_equal(berth_metrics_read_pool(pool, &metrics, sizeof(metrics)), 0);
    assert_int_equal(bytes, metrics.chunk_bytes);
    berth__trace_close(&reader);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
}

static void steps_and_failures_at_the_limit_are_told(void **state) {
    /* Why a request failed, and what was tried before, would stay unknown. */
    (void)state;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = 4 << 20;
    struct berth__trace_reader reader;
    berth_pool *pool = berth_pool_create("small", &options);
    assert_int_equal(berth__trace_open(&reader, &process), 0);
    while (berth_alloc_flags(pool, 40000, BERTH_NOWAIT) != NULL) {
    }
    read_all(&reader);
    assert_true(count_of(BERTH_TRACE_LADDER_STEP) >= 3);
    assert_int_equal(count_of(BERTH_TRACE_FAILURE), 1);
    assert_int_equal(taken[taken_count - 1].kind, BERTH_TRACE_FAILURE);
    assert_int_equal(taken[taken_count - 1].requested, 40000);
    berth__trace_close(&reader);
    (void)berth_pool_destroy(pool, BERTH_FORCE);
}

static void nothing_is_recorded_when_nobody_looks(void **state) {
    /* A tool that has ended, or died, would leave the process at work for it. */
    (void)state;
    struct berth__trace_reader reader;
    assert_int_equal(berth__trace_open(&reader, &process), 0);
    assert_true(berth__trace_is_on());
    berth__trace_close(&reader);
    assert_false(berth__trace_is_on());
    uint64_t written = berth__trace_root.written;
    take_huge();
    assert_int_equal(berth__trace_root.written, written);
    berth__store_relaxed(&berth__trace_root.until_ms, 1); /* long ago, by one that died */
    take_huge();
    assert_int_equal(berth__trace_root.written, written);
    assert_false(berth__trace_is_on());
}

static void another_who_looks_is_left_alone(void **state) {
    /* The end of one `berth trace` would be that of all. */
    (void)state;
    struct berth__trace_reader one;
    struct berth__trace_reader two;
    assert_int_equal(berth__trace_open(&one, &process), 0);
    assert_int_equal(berth__trace_open(&two, &process), 0);
    berth__store_relaxed(&berth__trace_root.until_ms, two.until_ms + 1); /* it has renewed since */
    two.until_ms++;
    berth__trace_close(&one);
    assert_true(berth__trace_is_on());
    take_huge();
    read_all(&two);
    assert_int_equal(count_of(BERTH_TRACE_HUGE), 1);
    berth__trace_close(&two);
    assert_false(berth__trace_is_on());
}

static void what_was_written_over_is_counted(void **state) {
    /* A burst would look as if there had been little. */
    (void)state;
    struct berth__trace_reader reader;
    assert_int_equal(berth__trace_open(&reader, &process), 0);
    for (unsigned i = 0; i < BERTH_TRACE_RECORDS + 7; i++) {
        take_huge();
    }
    read_all(&reader);
    assert_int_equal(taken_count, BERTH_TRACE_RECORDS);
    assert_int_equal(reader.lost, 7);
    berth__trace_close(&reader);
}

static void what_is_being_written_is_not_taken(void **state) {
    /* Half of one call's record, and half of another's, would be shown as one. */
    (void)state;
    static struct berth__trace_root root;
    static struct berth__trace_record ring[BERTH_TRACE_RECORDS];
    struct berth__process other = process;
    struct berth__trace_reader reader;
    memcpy((void *)&root, (const void *)&berth__trace_root, sizeof(root));
    root.ring = (uintptr_t)ring;
    root.written = 0;
    other.stats.trace = (uintptr_t)&root;
    assert_int_equal(berth__trace_open(&reader, &other), 0);
    for (uint64_t i = 0; i < 3; i++) {
        ring[i].sequence = 2 * i + 2;
    }
    ring[1].sequence += 2 * (uint64_t)BERTH_TRACE_RECORDS - 1; /* a lap later */
    root.written = 3;
    read_all(&reader);
    assert_int_equal(taken_count, 2);
    assert_int_equal(reader.lost, 1);
    berth__trace_close(&reader);
}

enum { TAKERS = 4, ROUNDS_OF_ONE = 400 };
static _Atomic unsigned takers_left;

static void *take_own_size(void *number) {
    size_t bytes = HUGE_BYTES + (uintptr_t)number * (1 << 20);
    for (unsigned i = 0; i < ROUNDS_OF_ONE; i++) {
        void *volatile block = berth_alloc(berth_pool_default(), bytes);
        UNIT_CHECK(block != NULL);
        berth_free(block);
    }
    berth__sub_relaxed(&takers_left, 1);
    return NULL;
}

/* Each thread takes blocks of one size. */
static unsigned check_whole(uint32_t thread_of[TAKERS]) {
    for (unsigned i = 0; i < taken_count; i++) {
        const struct berth__trace_record *record = &taken[i];
        size_t taker = (record->requested - HUGE_BYTES) >> 20;
        assert_int_equal(record->kind, BERTH_TRACE_HUGE);
        assert_true(taker < TAKERS && record->bytes == record->requested);
        thread_of[taker] = thread_of[taker] == 0 ? record->thread : thread_of[taker];
        assert_int_equal(thread_of[taker], record->thread);
    }
    return taken_count;
}

static void records_of_threads_are_whole(void **state) {
    /* A line would have the size of one call, and the stack of another. */
    (void)state;
    struct berth__trace_reader reader;
    pthread_t takers[TAKERS];
    uint32_t thread_of[TAKERS] = {0};
    uint64_t seen = 0;
    assert_int_equal(berth__trace_open(&reader, &process), 0);
    berth__store_relaxed(&takers_left, TAKERS);
    for (uintptr_t i = 0; i < TAKERS; i++) {
        UNIT_CHECK(pthread_create(&takers[i], NULL, take_own_size, (void *)i) == 0);
    }
    while (berth__load_relaxed(&takers_left) > 0) {
        assert_true(berth__trace_renew(&reader));
        read_all(&reader);
        seen += check_whole(thread_of);
    }
    for (unsigned i = 0; i < TAKERS; i++) {
        pthread_join(takers[i], NULL);
    }
    read_all(&reader);
    seen += check_whole(thread_of);
    assert_int_equal(seen + reader.lost, TAKERS * ROUNDS_OF_ONE);
    berth__trace_close(&reader);
}

static void a_child_is_not_traced(void **state) {
    /* It would fill a ring that nobody reads. */
    (void)state;
    struct berth__trace_reader reader;
    assert_int_equal(berth__trace_open(&reader, &process), 0);
    pid_t child = fork();
    if (child == 0) {
        _exit(berth__trace_is_on() ? 1 : 0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(berth__trace_is_on());
    berth__trace_close(&reader);
}

static void other_versions_are_told_apart(void **state) {
    /* The tool would write into the memory of an engine that it does not know. */
    (void)state;
    static struct berth__trace_root root;
    struct berth__process other = process;
    struct berth__trace_reader reader;
    const uint64_t places[] = {0, 8, (uintptr_t)&root};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(places); i++) {
        other.stats.trace = places[i];
        assert_int_equal(berth__trace_open(&reader, &other), -ENOTSUP);
        berth__trace_close(&reader);
    }
    memcpy((void *)&root, (const void *)&berth__trace_root, sizeof(root));
    assert_int_equal(berth__trace_open(&reader, &other), 0);
    berth__trace_close(&reader);
    root.version++;
    assert_int_equal(berth__trace_open(&reader, &other), -ENOTSUP);
    berth__trace_close(&reader);
    assert_int_equal(root.until_ms, 0);
}

static void damaged_rings_are_survived(void **state) {
    /* The tool would crash, or loop, on a process that is broken or means it badly. */
    (void)state;
    enum { ROUNDS = 400, CHANGES = 60 };
    static struct berth__trace_root root;
    static struct berth__trace_record ring[BERTH_TRACE_RECORDS];
    struct berth__process other = process;
    struct berth__trace_writer writer;
    struct unit_random random = {.state = 7};
    other.stats.trace = (uintptr_t)&root;
    for (unsigned json = 0; json < 2; json++) {
        assert_int_equal(berth__trace_writer_open(&writer, &other, sink, json != 0), 0);
        for (unsigned round = 0; round < ROUNDS; round++) {
            struct berth__trace_reader reader;
            memcpy((void *)&root, (const void *)&berth__trace_root, sizeof(root));
            memcpy((void *)ring, (const void *)(uintptr_t)root.ring, sizeof(ring));
            root.ring = (uintptr_t)ring;
            root.written = 3;
            assert_int_equal(berth__trace_open(&reader, &other), 0);
            root.written = 3 + unit_random_below(&random, 2 * BERTH_TRACE_RECORDS);
            for (uint64_t i = 0; i < BERTH_TRACE_RECORDS; i++) {
                ring[i].sequence = 2 * (i + round % 2 * (uint64_t)BERTH_TRACE_RECORDS) + 2;
            }
            for (unsigned i = 0; i < CHANGES; i++) {
                ((char *)ring)[unit_random_below(&random, sizeof(ring))] =
                    (char)unit_random_next(&random);
            }
            if (round % 4 == 0) {
                ((char *)&root)[unit_random_below(&random, sizeof(root))] =
                    (char)unit_random_next(&random);
            }
            berth__trace_writer_begin(&writer);
            (void)berth__trace_read(&reader, round % 8 < 2 ? berth__trace_write : take, &writer);
            berth__trace_close(&reader);
        }
        berth__trace_writer_close(&writer);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_takes_a_huge_block_is_named),
        cmocka_unit_test(chunks_are_told_with_what_they_serve),
        cmocka_unit_test(steps_and_failures_at_the_limit_are_told),
        cmocka_unit_test(nothing_is_recorded_when_nobody_looks),
        cmocka_unit_test(another_who_looks_is_left_alone),
        cmocka_unit_test(what_was_written_over_is_counted),
        cmocka_unit_test(what_is_being_written_is_not_taken),
        cmocka_unit_test(records_of_threads_are_whole),
        cmocka_unit_test(a_child_is_not_traced),
        cmocka_unit_test(other_versions_are_told_apart),
        cmocka_unit_test(damaged_rings_are_survived),
    };
    return cmocka_run_group_tests(tests, start_of_group, NULL) == 0 ? 0 : 1;
}
