/* Size classes: every size gets a block that holds it, and not much more. */
#include "size/classes.h"

#include "os/pages.h"
#include "unit.h"

static size_t waste_allowed(size_t size, size_t block) {
    return size <= 128 ? 15 : block / 8;
}

static void check_size(size_t size) {
    size_t block = berth__good_size(size);
    if (block < size || block - size > waste_allowed(size, block)) {
        fail_msg("%zu bytes get a block of %zu", size, block);
    }
    assert_int_equal(berth__good_size(block), block);
}

static void every_size_to_4_mib_gets_a_block_that_holds_it_and_wastes_little(void **state) {
    /* Blocks would overlap, or the heap be a quarter larger than its content. */
    (void)state;
    size_t before = 0;
    for (size_t size = 1; size <= BERTH_CHUNK; size += size < (1 << 16) ? 1 : 97) {
        check_size(size);
        assert_true(berth__good_size(size) >= before);
        before = berth__good_size(size);
    }
    for (size_t pages = BERTH_RUN_CLASS_MIN_PAGES; pages <= BERTH_CHUNK_PAGES; pages++) {
        check_size(pages * BERTH_PAGE);
        check_size(pages * BERTH_PAGE - 1);
        check_size((pages - 1) * BERTH_PAGE + 1);
    }
}

static void small_classes_ascend_in_granules_and_fill_a_slab(void **state) {
    /* The tables would not fit each other: blocks in slabs would overlap. */
    (void)state;
    uint32_t below = 0;
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        const struct berth__class *class = &berth__classes[c];
        assert_true(class->size > below);
        assert_int_equal(class->size % BERTH_GRANULE, 0);
        assert_int_equal(class->blocks, BERTH_UNIT / class->size);
        assert_int_equal(class->words, (class->blocks + 63) / 64);
        assert_int_equal(berth__class_of_size(class->size), c);
        assert_int_equal(berth__class_of_size(below + 1), c);
        assert_int_equal(berth__bin_of_granules[class->size / 16], c * BERTH_BIN_BYTES);
        below = class->size;
    }
    assert_int_equal(below, BERTH_SMALL_MAX);
    assert_int_equal(berth__class_of_size(0), 0);
}

static void a_value_of_1_kib_with_a_header_stays_below_1280(void **state) {
    /* A Redis of such values would need a quarter more memory. */
    (void)state;
    for (size_t header = 8; header <= 32; header++) {
        assert_true(berth__good_size(1024 + header) <= 1056);
    }
}

static void an_aligned_request_gets_the_smallest_class_that_is_aligned(void **state) {
    /* posix_memalign would return a block that is not aligned, or none where there is one. */
    (void)state;
    for (size_t alignment = 16; alignment <= BERTH_PAGE; alignment *= 2) {
        for (size_t size = 1; size <= BERTH_SMALL_MAX; size += 7) {
            unsigned found = berth__class_of_aligned(size, alignment);
            unsigned expected = berth__class_of_size(size);
            while (expected < BERTH_SMALL_CLASS_COUNT &&
                   berth__classes[expected].size % alignment != 0) {
                expected++;
            }
            assert_int_equal(found, expected);
        }
    }
    assert_int_equal(berth__class_of_aligned(16, 2 * BERTH_PAGE), BERTH_SMALL_CLASS_COUNT);
    assert_int_equal(berth__class_of_aligned(BERTH_SMALL_MAX + 1, 16), BERTH_SMALL_CLASS_COUNT);
}

static void run_classes_and_their_pages_are_inverse(void **state) {
    /* A cached run would be handed out for more pages than it has. */
    (void)state;
    assert_int_equal(berth__run_class(1), 0);
    assert_int_equal(berth__run_class(BERTH_CHUNK_PAGES), BERTH_RUN_CLASS_COUNT - 1);
    assert_int_equal(berth__run_class_pages(0), BERTH_RUN_CLASS_MIN_PAGES);
    for (unsigned c = 0; c < BERTH_RUN_CLASS_COUNT; c++) {
        size_t pages = berth__run_class_pages(c);
        assert_int_equal(berth__run_class(pages), c);
        if (c > 0) {
            assert_int_equal(berth__run_class(berth__run_class_pages(c - 1) + 1), c);
        }
    }
}

static void twins_fill_their_run_and_lie_between_whole_pages(void **state) {
    /* They would overlap, or a size be taken for one that whole pages hold better. */
    (void)state;
    size_t twin_sizes = 0;
    for (size_t size = BERTH_SMALL_MAX + 1; size <= BERTH_CHUNK; size++) {
        unsigned twin_class = berth__twin_class(size);
        if (twin_class < BERTH_TWIN_CLASS_COUNT) {
            size_t bytes = berth__twin_bytes(twin_class);
            assert_true(size <= bytes && bytes - size < BERTH_PAGE / 2);
            assert_int_equal(2 * bytes, berth__twin_pages(twin_class) * BERTH_PAGE);
            assert_int_equal(berth__twin_class(bytes), twin_class);
            twin_sizes++;
        }
    }
    assert_int_equal(twin_sizes, BERTH_TWIN_CLASS_COUNT * BERTH_PAGE / 2);
}

static void sizes_above_a_chunk_are_whole_pages_of_the_machine(void **state) {
    /* Huge blocks would be shorter than asked for, or the largest sizes wrap around. */
    (void)state;
    assert_int_equal(berth__good_size(BERTH_CHUNK + 1), BERTH_CHUNK + berth__page_bytes);
    assert_int_equal(berth__good_size(SIZE_MAX), 0);
    assert_int_equal(berth__good_size(PTRDIFF_MAX), 0);
    assert_true(berth__good_size((size_t)PTRDIFF_MAX - berth__page_bytes) > 0);
    berth__pages_init(65536);
    assert_int_equal(berth__good_size(BERTH_CHUNK + 1), BERTH_CHUNK + 65536);
    berth__pages_init(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_to_4_mib_gets_a_block_that_holds_it_and_wastes_little),
        cmocka_unit_test(small_classes_ascend_in_granules_and_fill_a_slab),
        cmocka_unit_test(a_value_of_1_kib_with_a_header_stays_below_1280),
        cmocka_unit_test(an_aligned_request_gets_the_smallest_class_that_is_aligned),
        cmocka_unit_test(run_classes_and_their_pages_are_inverse),
        cmocka_unit_test(twins_fill_their_run_and_lie_between_whole_pages),
        cmocka_unit_test(sizes_above_a_chunk_are_whole_pages_of_the_machine),
    };
    return UNIT_RUN(tests);
}
