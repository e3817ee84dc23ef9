/* Huge blocks at the limit: what is charged before what, and what a refusal leaves behind. */
#include "figures.h"

#include "chunk/retained.h"
#include "chunk/space.h"
#include "chunk/wait.h"
#include "heap/observer.h"
#include "heap/request.h"
#include "os/fault.h"
#include "os/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

static int end_of_test(void **state) {
    (void)state;
    berth_thread_flush();
    berth_trim(NULL);
    bool clean = berth_limit_used() == 0;
    return berth_limit_set(BERTH_UNLIMITED) != 0 || !clean;
}

static void what_never_fits_costs_nothing(void **state) {
    /* One refused request for terabytes would leave gigabytes of records in memory for good. */
    (void)state;
    assert_int_equal(berth_limit_set(64 * MiB), 0);
    berth_pool *pool = berth_pool_default();
    berth_free(berth_alloc(pool, 5 * MiB));
    uint64_t before = figures().metadata_bytes;
    for (unsigned shift = 27; shift < 64; shift++) {
        assert_null(berth_alloc(pool, (size_t)1 << shift));
        assert_null(berth_alloc_flags(pool, (size_t)1 << shift, BERTH_NOWAIT | BERTH_ZERO));
    }
    assert_null(berth_alloc_aligned(pool, (size_t)1 << 62, 16)); /* at once, not after a wait */
    assert_null(berth_alloc_aligned(pool, (size_t)1 << 39, 16));
    void *block = berth_alloc(pool, 5 * MiB);
    assert_null(berth_realloc(pool, block, (size_t)1 << 41));
    berth_free(block);
    assert_int_equal(figures().metadata_bytes, before);
}

static void what_the_kernel_refuses_makes_no_records(void **state) {
    /* The same without a limit, where it is the kernel that says no. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    berth_pool *pool = berth_pool_default();
    void *block = berth_alloc(pool, 5 * MiB);
    uint64_t before = figures().metadata_bytes;
    berth__os_fail_after(BERTH_OS_COMMIT, 0, UINT64_MAX);
    assert_null(berth_alloc(pool, (size_t)1 << 36));
    assert_null(berth_realloc(pool, block, (size_t)1 << 36));
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 0);
    assert_int_equal(figures().metadata_bytes, before);
    berth_free(block);
#endif
}

static void coarse_alignments_skip_addresses_not_memory(void **state) {
    /* What lies before an aligned block would be taken, written and given back. */
    (void)state;
    berth_pool *pool = berth_pool_default();
    for (unsigned shift = 22; shift <= 30; shift++) {
        size_t alignment = (size_t)1 << shift;
        char *block = berth_alloc_aligned(pool, alignment, 5 * MiB);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % alignment, 0);
        char *second = berth_alloc_aligned(pool, alignment, 100);
        assert_non_null(second);
        assert_int_equal((uintptr_t)second % alignment, 0);
        berth_free(second);
        berth_free(block);
    }
}

static void a_block_grows_by_what_only_the_ladder_returns(void **state) {
    /* A realloc would fail, or wait, with the difference to be had from another pool. */
    (void)state;
    assert_int_equal(berth_limit_set(100 * MiB), 0);
    berth_pool *pool = berth_pool_default();
    berth_pool *other = berth_pool_create("other", NULL);
    char *block = berth_alloc(pool, 56 * MiB);
    char *behind = berth_alloc(pool, 5 * MiB);
    char *runs[9];
    block[0] = block[56 * MiB - 1] = 9;
    for (unsigned i = 0; i < 9; i++) {
        runs[i] = berth_alloc(other, 2 * MiB + i);
        assert_non_null(runs[i]);
    }
    for (unsigned i = 0; i < 9; i++) {
        berth_free(runs[i]);
    }
    assert_true(berth_limit_used() > 66 * MiB); /* what is missing lies in the other's chunks */
    uint64_t waits = figures_of(pool).waits;
    block = berth_realloc(pool, block, 90 * MiB);
    assert_non_null(block);
    assert_int_equal(figures_of(pool).waits, waits);
    assert_int_equal(block[0] + block[56 * MiB - 1], 18);
    assert_true(berth_limit_used() <= 100 * MiB);
    berth_free(block);
    berth_free(behind);
    assert_int_equal(berth_pool_destroy(other, 0), 0);
}

static void a_block_that_cannot_move_is_copied(void **state) {
    /* Where the kernel refuses to move pages, realloc would fail. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    berth_pool *pool = berth_pool_default();
    char *block = berth_alloc(pool, 6 * MiB);
    char *behind = berth_alloc(pool, 5 * MiB);
    memset(block, 7, 6 * MiB);
    berth__os_fail_after(BERTH_OS_MOVE, 0, UINT64_MAX);
    block = berth_realloc(pool, block, 20 * MiB);
    berth__os_fail_after(BERTH_OS_MOVE, 0, 0);
    assert_non_null(block);
    assert_int_equal(block[0] + block[6 * MiB - 1], 14);
    berth_free(block);
    berth_free(behind);
#endif
}

/* Eight slots of which a block of 6 MiB has the first two, and what was freed is kept in the next
 * two. */
static char *before_kept_slots(void) {
    berth_pool *pool = berth_pool_default();
    char *block = berth_alloc(pool, 6 * MiB);
    char *behind = berth_alloc(pool, 8 * MiB);
    assert_ptr_equal(behind, block + 8 * MiB);
    memset(block, 7, 6 * MiB);
    memset(behind, 8, 8 * MiB);
    berth_free(behind);
    assert_int_equal(berth__retained_bytes(), 8 * MiB);
    return block;
}

static void a_block_grows_into_memory_that_was_kept(void **state) {
    /* What grows by halves would be faulted in anew each time, though its memory is at hand. */
    (void)state;
    char *block = before_kept_slots();
    uint64_t used = berth_limit_used();
    assert_true(berth__block_resize(block, 30 * MiB));
    assert_int_equal(berth_limit_used() - used, (30 - 6 - 8) * MiB);
    assert_int_equal(berth__retained_bytes(), 0);
    assert_int_equal(block[0] + block[6 * MiB - 1], 14);
    assert_int_equal(block[8 * MiB] + block[16 * MiB - 1], 16);
    memset(block, 9, 30 * MiB);
    assert_true(berth__block_resize(block, 6 * MiB));
    assert_true(berth__block_resize(block, 7 * MiB));
    memset(block, 9, 7 * MiB);
    berth_free(block);
}

static void a_block_that_cannot_grow_leaves_what_was_kept(void **state) {
    /* What is charged would not be what is mapped from then on. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    char *block = before_kept_slots();
    uint64_t used = berth_limit_used();
    berth__os_fail_after(BERTH_OS_COMMIT, 1, UINT64_MAX); /* the rest of its last slot may be */
    assert_false(berth__block_resize(block, 30 * MiB));
    assert_int_equal(berth_limit_used(), used);
    assert_int_equal(berth__retained_bytes(), 8 * MiB);
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 0);
    assert_int_equal(block[0] + block[6 * MiB - 1], 14);
    assert_true(berth__block_resize(block, 30 * MiB));
    memset(block, 9, 30 * MiB);
    berth_free(block);
#endif
}

static void cleared_blocks_are_zero_however_they_are_cleared(void **state) {
    /* Old data would show through, in what is written over or in what is given back. */
    (void)state;
    berth_pool *pool = berth_pool_default();
    for (size_t size = 9 * MiB; size <= 90 * MiB; size += 27 * MiB) {
        char *block = berth_alloc(pool, size);
        memset(block, 0xee, size);
        berth_free(block);
        block = berth_alloc_flags(pool, size - 3 * MiB, BERTH_ZERO);
        assert_true(is_zero(block, size - 3 * MiB));
        berth_free(block);
    }
}

/* ---- a file's turn ---- */

struct mapper {
    int fd;
    void *block;
};

static void *map_20_mib(void *mapper_) {
    struct mapper *mapper = mapper_;
    mapper->block = berth_map_file(berth_pool_default(), mapper->fd, 0, 20 * MiB, true);
    return NULL;
}

static void *take_50_mib(void *unused) {
    (void)unused;
    return berth_alloc(berth_pool_default(), 50 * MiB);
}

static void wait_until_waiting(unsigned count) {
    while (berth__load_relaxed(&berth__waiter_count) < count) {
        sleep_ms(1);
    }
}

static void a_file_keeps_what_was_charged_when_its_turn_came(void **state) {
    /* The next in the queue would get it, and the mapping fail after its wait. */
    (void)state;
    for (unsigned round = 0; round < 10; round++) {
        struct mapper mapper = {.fd = memfd_create("file", 0)};
        void *block = NULL;
        assert_int_equal(ftruncate(mapper.fd, (off_t)(20 * MiB)), 0);
        assert_int_equal(berth_limit_set(64 * MiB), 0);
        void *held = berth_alloc(berth_pool_default(), 60 * MiB);
        pthread_t first = start_thread(map_20_mib, &mapper);
        wait_until_waiting(1);
        pthread_t second = start_thread(take_50_mib, NULL);
        wait_until_waiting(2);
        berth_free(held);
        pthread_join(first, NULL);
        assert_non_null(mapper.block);
        berth_free(mapper.block);
        pthread_join(second, &block);
        assert_non_null(block);
        berth_free(block);
        close(mapper.fd);
        berth_trim(NULL);
    }
}

static unsigned told;

static bool count_early(bool early) {
    told += early;
    return true;
}

static void a_block_that_is_resized_is_told_of(void **state) {
    /* A silent program's page would show the gigabyte that it has just given back. */
    (void)state;
    static const struct berth__observer counter = {.tick = count_early};
    const struct berth__observer *before = berth__load_relaxed(&berth__observer);
    berth_pool *pool = berth_pool_default();
    void *block = berth_alloc(pool, 60 * MiB);
    berth__store_release(&berth__observer, &counter);
    told = 0;
    block = berth_realloc(pool, block, 10 * MiB);
    unsigned after_shrinking = told;
    block = berth_realloc(pool, block, 50 * MiB);
    unsigned after_growing = told;
    berth__store_release(&berth__observer, before);
    berth_free(block);
    assert_int_equal(after_shrinking, 1);
    assert_int_equal(after_growing, 2);
}

int main(void) {
    UNIT_CHECK(setenv("BERTH_CONF", "wait_ms:60000", 1) == 0);
#define TEST(test) cmocka_unit_test_teardown(test, end_of_test)
    const struct CMUnitTest tests[] = {
        TEST(what_never_fits_costs_nothing),
        TEST(what_the_kernel_refuses_makes_no_records),
        TEST(coarse_alignments_skip_addresses_not_memory),
        TEST(a_block_grows_by_what_only_the_ladder_returns),
        TEST(a_block_that_cannot_move_is_copied),
        TEST(a_block_grows_into_memory_that_was_kept),
        TEST(a_block_that_cannot_grow_leaves_what_was_kept),
        TEST(cleared_blocks_are_zero_however_they_are_cleared),
        TEST(a_block_that_is_resized_is_told_of),
        TEST(a_file_keeps_what_was_charged_when_its_turn_came),
    };
    return UNIT_RUN(tests);
}
