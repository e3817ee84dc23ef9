/* Colours: blocks of one size begin on different lines of their first pages, and stay within. */
#include "size/color.h"

#include "unit.h"

enum { PLACES = 512 };

/* Of the address space's lower half; nothing lies there. */
static void *place(size_t i) {
    return (void *)((UINT64_C(1) << 40) + i * BERTH_PAGE / 2); // NOLINT(performance-no-int-to-ptr)
}

static size_t color(size_t i, size_t bytes, size_t size) {
    return (size_t)((char *)berth__colored(place(i), bytes, size) - (char *)place(i));
}

static void check(size_t i, size_t bytes, size_t size) {
    size_t later = color(i, bytes, size);
    if (later + size > bytes || (later + size - 1) / BERTH_PAGE != (size - 1) / BERTH_PAGE) {
        fail_msg("%zu bytes of %zu begin %zu later", size, bytes, later);
    }
    assert_true(berth__color_is_of(place(i), later));
}

static void a_block_that_begins_later_fits_and_uses_no_page_more(void **state) {
    /* It would overlap the next one, or grow. */
    (void)state;
    for (size_t i = 0; i < PLACES; i++) {
        for (size_t bytes = 18 << 10; bytes <= 40 << 10; bytes += BERTH_PAGE / 2) {
            for (size_t slack = 0; slack < BERTH_PAGE / 2; slack += 13) {
                check(i, bytes, bytes - slack);
            }
        }
        check(i, 1 << 20, 1000000);
    }
}

static void a_block_that_fills_its_pages_begins_with_them(void **state) {
    (void)state;
    for (size_t i = 0; i < PLACES; i++) {
        assert_int_equal(color(i, 32 << 10, 32 << 10), 0);
        assert_int_equal(color(i, 32 << 10, (32 << 10) - 15 * BERTH_COLOR_STEP + 1), 0);
    }
}

static void blocks_of_one_size_begin_on_many_lines(void **state) {
    /* The first lines of all would share a few sets of the processor's caches. */
    (void)state;
    uint64_t seen = 0;
    for (size_t i = 0; i < PLACES; i++) {
        seen |= UINT64_C(1) << color(i, 20 << 10, 17 << 10) / BERTH_COLOR_STEP;
    }
    assert_int_equal(berth__bit_count(seen), BERTH_HARDENED ? 1 : 32);
}

static void most_other_pointers_into_the_first_page_are_told(void **state) {
    /* To free a pointer inside a block would go unnoticed. */
    (void)state;
    size_t accepted = 0;
    for (size_t i = 0; i < PLACES; i++) {
        for (size_t offset = 1; offset <= 2 * BERTH_PAGE; offset++) {
            bool is_of = berth__color_is_of(place(i), offset);
            assert_false(is_of && (offset % BERTH_COLOR_STEP != 0 || offset >= BERTH_PAGE));
            accepted += is_of;
        }
    }
    assert_true(accepted <= (BERTH_HARDENED ? 0 : 3 * PLACES));
}

static void of_a_block_with_a_colour_all_pointers_nearby_are_told(void **state) {
    (void)state;
    for (size_t i = 0; i < PLACES; i++) {
        size_t later = color(i, 20 << 10, 19 << 10);
        for (size_t offset = 1; offset < 16 * BERTH_COLOR_STEP; offset++) {
            assert_false(berth__color_is_of(place(i), later + offset));
            assert_false(offset < later && berth__color_is_of(place(i), later - offset));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_that_begins_later_fits_and_uses_no_page_more),
        cmocka_unit_test(a_block_that_fills_its_pages_begins_with_them),
        cmocka_unit_test(blocks_of_one_size_begin_on_many_lines),
        cmocka_unit_test(most_other_pointers_into_the_first_page_are_told),
        cmocka_unit_test(of_a_block_with_a_colour_all_pointers_nearby_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
