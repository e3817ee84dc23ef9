/* Arithmetic and bitmaps against the plainest way to compute the same. */
#include "base/bits.h"

#include "size/classes.h"
#include "unit.h"

#include <string.h>

enum { BITS = 300, WORDS = BERTH_WORDS_FOR(BITS) };

static void a_reciprocal_divides_every_offset_in_a_slab_exactly(void **state) {
    /* free() would take a pointer into a block for a block, or refuse a block. */
    (void)state;
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        uint32_t size = berth__classes[c].size;
        uint32_t reciprocal = berth__reciprocal(size);
        assert_int_equal(reciprocal, berth__classes[c].reciprocal);
        for (uint32_t offset = 0; offset < BERTH_UNIT; offset++) {
            if (berth__divide(offset, reciprocal) != offset / size ||
                berth__divides(offset, reciprocal) != (offset % size == 0)) {
                fail_msg("%u / %u", offset, size);
            }
        }
    }
}

static void a_reciprocal_is_exact_for_any_size_from_16_bytes_to_16_kib(void **state) {
    /* The proof above berth__reciprocal would be wrong, and a new class could break free(). */
    (void)state;
    for (uint32_t size = 16; size <= 16384; size += size < 512 ? 1 : 37) {
        uint32_t reciprocal = berth__reciprocal(size);
        for (uint32_t quotient = 0; (quotient + 1) * size <= BERTH_UNIT; quotient++) {
            uint32_t offset = quotient * size;
            assert_true(berth__divides(offset, reciprocal));
            assert_false(berth__divides(offset + 1, reciprocal));
            assert_int_equal(berth__divide(offset, reciprocal), quotient);
            assert_int_equal(berth__divide(offset + size - 1, reciprocal), quotient);
        }
    }
}

static void single_bits_of_a_word_are_found_and_counted(void **state) {
    /* Searches in bitmaps would return a neighbour of the bit that is set. */
    (void)state;
    for (unsigned i = 0; i < 64; i++) {
        uint64_t word = UINT64_C(1) << i;
        assert_int_equal(berth__lowest_bit(word), i);
        assert_int_equal(berth__highest_bit(word), i);
        assert_int_equal(berth__lowest_bit(word | UINT64_C(1) << 63), i);
        assert_int_equal(berth__highest_bit(word | 1), i);
        assert_int_equal(berth__bit_count(word - 1), i);
    }
}

static void a_mask_of_a_word_has_the_bits_from_lo_to_hi(void **state) {
    /* Ranges that begin or end at a word's edge would touch one bit too few or too many. */
    (void)state;
    for (unsigned lo = 0; lo <= 64; lo++) {
        for (unsigned hi = lo; hi <= 64; hi++) {
            uint64_t mask = berth__word_mask(lo, hi);
            for (unsigned i = 0; i < 64; i++) {
                assert_int_equal(mask >> i & 1, i >= lo && i < hi);
            }
        }
    }
}

static void rounding_goes_to_multiples_and_leaves_them_alone(void **state) {
    /* Sizes of mappings would be off by a page. */
    (void)state;
    for (size_t n = 0; n < 300; n++) {
        assert_int_equal(berth__round_up(n, 16), (n + 15) / 16 * 16);
        assert_int_equal(berth__round_down(n, 16), n / 16 * 16);
        bool power = false;
        for (size_t p = 1; p <= 512; p *= 2) {
            power = power || n == p;
        }
        assert_int_equal(berth__is_power_of_2(n), power);
    }
    assert_int_equal(berth__min(3, 4), 3);
    assert_int_equal(berth__max(3, 4), 4);
}

/* The same map as one byte per bit. */
struct model {
    uint64_t map[WORDS];
    bool bits[BITS];
};

static void edit(struct model *model, struct unit_random *random) {
    size_t from = unit_random_below(random, BITS);
    size_t count = unit_random_below(random, BITS - from + 1);
    bool set = unit_random_below(random, 2) == 0;
    switch (unit_random_below(random, 3)) {
    case 0: count = count < 4 ? count : 4; break;
    case 1: count = 1; break;
    default: break;
    }
    if (count == 1) {
        if (set) {
            berth__bit_set(model->map, from);
        } else {
            berth__bit_clear(model->map, from);
        }
    } else {
        (set ? berth__bits_set : berth__bits_clear)(model->map, from, count);
    }
    memset(model->bits + from, set, count);
}

static size_t next_in(const bool *bits, size_t from, size_t end, bool wanted) {
    while (from < end && bits[from] != wanted) {
        from++;
    }
    return from < end ? from : end;
}

static void compare(const struct model *model, size_t from, size_t end) {
    size_t count = 0;
    for (size_t i = from; i < end; i++) {
        count += model->bits[i];
        assert_int_equal(berth__bit_test(model->map, i), model->bits[i]);
    }
    size_t before = from;
    while (before > 0 && !model->bits[before - 1]) {
        before--;
    }
    assert_int_equal(berth__bits_count(model->map, from, end - from), count);
    assert_int_equal(berth__bits_next_set(model->map, from, end),
                     next_in(model->bits, from, end, true));
    assert_int_equal(berth__bits_next_clear(model->map, from, end),
                     next_in(model->bits, from, end, false));
    assert_int_equal(berth__bits_clear_before(model->map, from), before);
}

static void a_bitmap_behaves_as_an_array_of_booleans(void **state) {
    /* Page and block maps would lend memory twice, or lose it. */
    (void)state;
    struct model model = {{0}, {false}};
    struct unit_random random = {1};
    for (unsigned round = 0; round < 4000; round++) {
        edit(&model, &random);
        size_t from = unit_random_below(&random, BITS + 1);
        size_t end = from + unit_random_below(&random, BITS - from + 1);
        compare(&model, from, end);
    }
}

static void searching_behind_the_end_finds_the_end(void **state) {
    /* A search from the end of a map would read beyond it. */
    (void)state;
    uint64_t map[1] = {~UINT64_C(0)};
    assert_int_equal(berth__bits_next_set(map, 64, 64), 64);
    assert_int_equal(berth__bits_next_clear(map, 0, 64), 64);
    assert_int_equal(berth__bits_clear_before(map, 0), 0);
    assert_int_equal(berth__bits_count(map, 64, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reciprocal_divides_every_offset_in_a_slab_exactly),
        cmocka_unit_test(a_reciprocal_is_exact_for_any_size_from_16_bytes_to_16_kib),
        cmocka_unit_test(single_bits_of_a_word_are_found_and_counted),
        cmocka_unit_test(a_mask_of_a_word_has_the_bits_from_lo_to_hi),
        cmocka_unit_test(rounding_goes_to_multiples_and_leaves_them_alone),
        cmocka_unit_test(a_bitmap_behaves_as_an_array_of_booleans),
        cmocka_unit_test(searching_behind_the_end_finds_the_end),
    };
    return UNIT_RUN(tests);
}
