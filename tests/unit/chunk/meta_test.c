/* Metadata memory. */
#include "chunk/meta.h"

#include "base/bits.h"
#include "os/fault.h"
#include "os/pages.h"
#include "unit.h"

#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

static int start(void **state) {
    (void)state;
    berth__pages_init(0);
    berth__meta_init();
    return 0;
}

static bool is_zero(const unsigned char *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (at[i] != 0) {
            return false;
        }
    }
    return true;
}

static size_t class_bytes(size_t bytes) {
    size_t block = 64;
    while (block < bytes) {
        block *= 2;
    }
    return block;
}

static void a_block_is_zero_and_aligned_whatever_was_there_before(void **state) {
    /* Records of pools and heaps would start with old content, or share lines. */
    (void)state;
    static const size_t sizes[] = {1, 63, 64, 65, 128, 1000, 4096, 4097, 24576, 65535, 65536};
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < BERTH_ARRAY_COUNT(sizes); i++) {
            unsigned char *block = berth__meta_alloc(sizes[i]);
            assert_non_null(block);
            assert_int_equal((uintptr_t)block % berth__min(class_bytes(sizes[i]), 4096), 0);
            assert_true(is_zero(block, sizes[i]));
            memset(block, 0xab, sizes[i]);
            berth__meta_free(block, sizes[i]);
        }
    }
}

static void a_freed_block_is_used_again_for_its_size(void **state) {
    /* Metadata would grow as pools and threads come and go. */
    (void)state;
    void *first = berth__meta_alloc(700);
    berth__meta_free(first, 700);
    uint64_t before = berth__meta_bytes();
    for (unsigned i = 0; i < 10000; i++) {
        void *block = berth__meta_alloc(1000); /* the same power of two */
        assert_ptr_equal(block, first);
        berth__meta_free(block, 1000);
    }
    assert_int_equal(berth__meta_bytes(), before);
}

static void blocks_do_not_overlap(void **state) {
    /* Two records would write over each other. */
    (void)state;
    enum { BLOCKS = 3000 };
    static unsigned char *blocks[BLOCKS];
    static size_t sizes[BLOCKS];
    struct unit_random random = {3};
    uint64_t asked = 0;
    uint64_t before = berth__meta_bytes();
    for (unsigned i = 0; i < BLOCKS; i++) {
        sizes[i] = 1 + unit_random_below(&random, i % 20 == 0 ? BERTH_META_MAX : 2000);
        blocks[i] = berth__meta_alloc(sizes[i]);
        assert_non_null(blocks[i]);
        memset(blocks[i], (int)(i & 0xff), sizes[i]);
        asked += class_bytes(sizes[i]);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        assert_int_equal(blocks[i][0], i & 0xff);
        assert_memory_equal(blocks[i], blocks[i] + 1, sizes[i] - 1);
        berth__meta_free(blocks[i], sizes[i]);
    }
    assert_true(berth__meta_bytes() - before >= asked / 2);
    assert_true(berth__meta_bytes() - before <= 2 * asked + (8 << 20));
}

static void what_others_map_is_counted_in(void **state) {
    /* The metric would be lower than what is mapped. */
    (void)state;
    uint64_t before = berth__meta_bytes();
    berth__meta_count(12345);
    assert_int_equal(berth__meta_bytes(), before + 12345);
    berth__meta_count(0 - (uint64_t)12345);
    assert_int_equal(berth__meta_bytes(), before);
}

static void after_a_refusal_of_the_kernel_it_goes_on(void **state) {
    /* One failed call would make all later ones fail, or hand out memory that is not there. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    static const enum berth__os_call calls[] = {BERTH_OS_COMMIT, BERTH_OS_RESERVE};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(calls); i++) {
        uint64_t before = 0;
        berth__os_fail_after(calls[i], 0, UINT64_MAX);
        unsigned had = 0;
        while (berth__meta_alloc(BERTH_META_MAX) != NULL && had < 10000) {
            had++; /* what is committed already */
        }
        assert_true(had < 10000);
        before = berth__meta_bytes();
        assert_null(berth__meta_alloc(BERTH_META_MAX));
        assert_int_equal(berth__meta_bytes(), before);
        berth__os_fail_after(calls[i], 0, 0);
        unsigned char *block = berth__meta_alloc(BERTH_META_MAX);
        assert_non_null(block);
        assert_true(is_zero(block, BERTH_META_MAX));
    }
#endif
}

static void take_with_few_addresses(void *unused) {
    (void)unused;
    struct rlimit limit;
    UNIT_CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    char line[256];
    size_t pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    UNIT_CHECK(statm != NULL && fgets(line, sizeof(line), statm) != NULL);
    fclose(statm);
    UNIT_CHECK(sscanf(line, "%zu", &pages) == 1);
    limit.rlim_cur = pages * 4096 + (1 << 20); /* less than a segment */
    UNIT_CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    berth__meta_abandon_in_child();
    unsigned had = 0;
    while (berth__meta_alloc(4096) != NULL) {
        had++;
    }
    limit.rlim_cur = RLIM_INFINITY;
    UNIT_CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    UNIT_CHECK(had >= 64);
}

static void where_addresses_are_few_its_segments_are_small(void **state) {
    /* A process with a tight RLIMIT_AS would not start. */
    (void)state;
    assert_int_equal(unit_in_child(take_with_few_addresses, NULL), 0);
}

static void abandon(void *block) {
    memset(block, 1, 64);
    berth__meta_abandon_in_child();
    unsigned char *other = berth__meta_alloc(64);
    UNIT_CHECK(other != NULL && is_zero(other, 64));
    UNIT_CHECK((uintptr_t)other - (uintptr_t)block >= 64);
    UNIT_CHECK(((unsigned char *)block)[63] == 1);
}

static void a_child_may_begin_anew_and_keeps_what_was_handed_out(void **state) {
    /* A fork in the middle of an allocation would leave the child with broken lists. */
    (void)state;
    void *block = berth__meta_alloc(64);
    assert_int_equal(unit_in_child(abandon, block), 0);
    berth__meta_free(block, 64);
}

static void *take_and_give(void *seed) {
    struct unit_random random = {(uintptr_t)seed};
    for (unsigned i = 0; i < 2000; i++) {
        size_t bytes = 1 + unit_random_below(&random, 5000);
        unsigned char *block = berth__meta_alloc(bytes);
        UNIT_CHECK(block != NULL && is_zero(block, bytes));
        memset(block, (int)(uintptr_t)seed, bytes);
        UNIT_CHECK(block[bytes - 1] == (unsigned char)(uintptr_t)seed);
        berth__meta_free(block, bytes);
    }
    return NULL;
}

static void threads_never_hold_the_same_block(void **state) {
    /* New threads would share a cache. */
    (void)state;
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, (void *)(i + 1)), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_zero_and_aligned_whatever_was_there_before),
        cmocka_unit_test(a_freed_block_is_used_again_for_its_size),
        cmocka_unit_test(blocks_do_not_overlap),
        cmocka_unit_test(what_others_map_is_counted_in),
        cmocka_unit_test(after_a_refusal_of_the_kernel_it_goes_on),
        cmocka_unit_test(where_addresses_are_few_its_segments_are_small),
        cmocka_unit_test(a_child_may_begin_anew_and_keeps_what_was_handed_out),
        cmocka_unit_test(threads_never_hold_the_same_block),
    };
    return cmocka_run_group_tests(tests, start, NULL) == 0 ? 0 : 1;
}
