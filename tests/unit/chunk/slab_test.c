/*
 * Slabs against a model with one word per block. The slab's memory is an address that is never
 * touched: nothing here may read or write blocks.
 */
#include "chunk/slab.h"

#include "chunk/meta.h"
#include "os/fault.h"
#include "os/pages.h"
#include "unit.h"

#include <string.h>

enum { BLOCKS_MAX = BERTH_UNIT / BERTH_GRANULE };
enum state { LENT, READY, COLD, HIDDEN };
static char *const base = (char *)(uintptr_t)0x7f0000010000;

static struct berth__slab_record record;
static struct berth__slab *const slab = &record.slab;
static const struct berth__class *class;
static enum state states[BLOCKS_MAX];
static uint16_t resident;
static struct unit_random random_state;

static int start(void **state) {
    (void)state;
    berth__pages_init(0);
    berth__meta_init();
    return 0;
}

static void make(unsigned small_class, uint16_t resident_pages) {
    class = &berth__classes[small_class];
    resident = resident_pages;
    assert_true(berth__slab_init(&record, NULL, base, small_class, resident_pages));
    for (unsigned b = 0; b < class->blocks; b++) {
        states[b] = COLD;
    }
}

static unsigned first_page(unsigned block) {
    return block * class->size / BERTH_PAGE;
}

static unsigned last_page(unsigned block) {
    return ((block + 1) * class->size - 1) / BERTH_PAGE;
}

static bool touches(unsigned block, uint16_t pages) {
    return (pages & berth__word_mask(first_page(block), last_page(block) + 1)) != 0;
}

static unsigned count_of(enum state wanted) {
    unsigned count = 0;
    for (unsigned b = 0; b < class->blocks; b++) {
        count += states[b] == wanted;
    }
    return count;
}

/* Every block is in the state that the model says, and what may be touched is known to hold memory.
 */
static void compare(void) {
    assert_true(berth__slab_is_valid(slab));
    assert_int_equal(slab->ready_count, count_of(READY));
    assert_int_equal(slab->cold_count, count_of(COLD));
    assert_int_equal(slab->resident, resident);
    for (unsigned b = 0; b < class->blocks; b++) {
        bool ready = berth__bit_test(slab->ready, b);
        bool cold = berth__bit_test(berth__slab_cold(slab), b);
        uint64_t pages = berth__word_mask(first_page(b), last_page(b) + 1);
        assert_int_equal(ready, states[b] == READY);
        assert_int_equal(cold, states[b] == COLD);
        assert_int_equal(berth__slab_is_free(slab, base + b * class->size), ready || cold);
        assert_true((states[b] != READY && states[b] != LENT) || (resident & pages) == pages);
    }
}

/* ---- operations on both ---- */

static void lend(unsigned count) {
    void *out[BLOCKS_MAX];
    unsigned expected = count < count_of(READY) ? count : count_of(READY);
    assert_int_equal(berth__slab_lend(slab, count, out), expected);
    unsigned b = 0;
    for (unsigned i = 0; i < expected; i++, b++) {
        while (states[b] != READY) {
            b++;
        }
        assert_ptr_equal(out[i], base + b * class->size); /* lowest first */
        states[b] = LENT;
    }
}

static void warm(unsigned pages) {
    unsigned first = 0;
    while (first < class->blocks && states[first] != COLD) {
        first++;
    }
    if (first == class->blocks) {
        return;
    }
    unsigned end_byte = (first_page(first) + pages) * BERTH_PAGE;
    uint16_t fresh = 0;
    for (unsigned b = first; b < class->blocks && b * class->size < end_byte; b++) {
        states[b] = states[b] == COLD ? READY : states[b];
        fresh |= (uint16_t)berth__word_mask(first_page(b), last_page(b) + 1);
    }
    fresh &= (uint16_t)~resident;
    resident |= fresh;
    assert_int_equal(berth__slab_warm(slab, pages), fresh);
}

static void take_back(unsigned count) {
    void *blocks[BLOCKS_MAX];
    unsigned chosen = 0;
    unsigned from = (unsigned)unit_random_below(&random_state, class->blocks);
    for (unsigned i = 0; i < class->blocks && chosen < count; i++) {
        unsigned b = (from + i * 7) % class->blocks;
        if (states[b] == LENT && (i < 4 || unit_random_below(&random_state, 2) == 0)) {
            blocks[chosen++] = base + b * class->size;
            states[b] = READY;
        }
    }
    if (chosen > 0) {
        assert_int_equal(berth__slab_take_back(slab, blocks, chosen), chosen);
    }
}

static void purge_some(bool purged) {
    uint16_t expected = 0;
    for (unsigned page = 0; page < BERTH_UNIT_PAGES; page++) {
        bool free = (resident >> page & 1) != 0;
        for (unsigned b = 0; b < class->blocks; b++) {
            bool here = touches(b, (uint16_t)(1u << page));
            free = free && !(here && (states[b] == LENT || states[b] == HIDDEN));
        }
        expected |= (uint16_t)(free << page);
    }
    assert_int_equal(berth__slab_purgeable(slab), expected);
    uint16_t pages = expected & (uint16_t)unit_random_next(&random_state);
    for (unsigned b = 0; b < class->blocks; b++) {
        states[b] = touches(b, pages) ? HIDDEN : states[b];
    }
    berth__slab_hide(slab, pages);
    compare();
    lend((unsigned)unit_random_below(&random_state, 20)); /* others go on meanwhile */
    take_back((unsigned)unit_random_below(&random_state, 20));
    warm(1 + (unsigned)unit_random_below(&random_state, 3));
    compare();
    berth__slab_show(slab, pages, purged);
    resident &= purged ? (uint16_t)~pages : UINT16_MAX;
    for (unsigned b = 0; b < class->blocks; b++) {
        states[b] = states[b] == HIDDEN ? COLD : states[b];
    }
}

static void any_step(void) {
    switch (unit_random_below(&random_state, 6)) {
    case 0:
    case 1: lend((unsigned)unit_random_below(&random_state, class->blocks / 4 + 2)); break;
    case 2: warm(1 + (unsigned)unit_random_below(&random_state, BERTH_UNIT_PAGES)); break;
    case 3:
    case 4: take_back((unsigned)unit_random_below(&random_state, class->blocks / 3 + 2)); break;
    default: purge_some(unit_random_below(&random_state, 3) != 0); break;
    }
}

static void any_sequence_of_steps_leaves_each_block_in_its_state(void **state) {
    /* A block would be lent twice, lost, or lie on a page that is being purged. */
    (void)state;
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c += c < 8 ? 1 : 5) {
        make(c, c % 3 == 0 ? (uint16_t)unit_random_next(&random_state) : 0);
        for (unsigned i = 0; i < 60; i++) {
            any_step();
            compare();
        }
        berth__slab_retire(&record);
        assert_null(slab->ready);
    }
}

static void a_slab_of_each_class_can_be_lent_whole_and_is_empty_again(void **state) {
    /* The last blocks of a slab would never be used, or the slab never given back. */
    (void)state;
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        void *out[BLOCKS_MAX];
        make(c, 0);
        assert_true(berth__slab_is_empty(slab));
        warm(BERTH_UNIT_PAGES);
        assert_int_equal(berth__slab_lend(slab, BLOCKS_MAX, out), class->blocks);
        assert_int_equal(berth__slab_free_count(slab), 0);
        assert_int_equal(berth__slab_lend(slab, 1, out), 0);
        for (unsigned b = 0; b < class->blocks; b++) {
            out[b] = base + b * class->size;
        }
        assert_int_equal(berth__slab_take_back(slab, out, class->blocks), class->blocks);
        assert_true(berth__slab_is_empty(slab));
        assert_true(berth__slab_is_valid(slab));
        berth__slab_retire(&record);
    }
}

static void a_block_that_is_free_elsewhere_or_none_is_not_taken(void **state) {
    /* A double free would make a block twice, a wrong pointer a block where none is. */
    (void)state;
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c += 9) {
        void *out[2];
        make(c, 0);
        warm(BERTH_UNIT_PAGES);
        assert_int_equal(berth__slab_lend(slab, 2, out), 2);
        char *first = out[0];
        void *const bad[] = {first + 1,
                             first + class->size - 1,
                             first - BERTH_UNIT,
                             first + BERTH_UNIT,
                             base + (size_t) class->blocks * class->size,
                             base - class->size,
                             (char *)out[1] + (UINT64_C(1) << 36), /* where a product wraps */
                             NULL,
                             base + (class->blocks - 1u) * class->size}; /* free */
        for (unsigned i = 0; i < BERTH_ARRAY_COUNT(bad); i++) {
            void *const blocks[] = {out[0], bad[i], out[1]};
            assert_int_equal(berth__slab_take_back(slab, blocks, 3), 1);
            assert_int_equal(berth__slab_lend(slab, 1, out), 1);
            assert_ptr_equal(out[0], first);
            assert_true(berth__slab_is_valid(slab));
        }
        void *const twice[] = {out[1], out[0], out[1]};
        assert_int_equal(berth__slab_take_back(slab, twice, 3), 2);
        berth__slab_retire(&record);
    }
}

static void a_cold_block_is_not_taken_either(void **state) {
    /* A double free of a block that was purged since would go unseen. */
    (void)state;
    make(20, 0);
    void *const blocks[] = {base};
    assert_int_equal(berth__slab_take_back(slab, blocks, 1), 0);
    assert_true(berth__slab_is_empty(slab));
    berth__slab_retire(&record);
}

static void without_metadata_there_is_no_slab(void **state) {
    /* The bitmaps of small classes would be written to NULL. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    berth__os_fail_after(BERTH_OS_COMMIT, 0, UINT64_MAX);
    while (berth__meta_alloc(1024) != NULL) {
    }
    assert_false(berth__slab_init(&record, NULL, base, 0, 0));
    assert_true(berth__slab_init(&record, NULL, base, 40, 0)); /* its bitmaps are in the record */
    berth__slab_retire(&record);
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 0);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_sequence_of_steps_leaves_each_block_in_its_state),
        cmocka_unit_test(a_slab_of_each_class_can_be_lent_whole_and_is_empty_again),
        cmocka_unit_test(a_block_that_is_free_elsewhere_or_none_is_not_taken),
        cmocka_unit_test(a_cold_block_is_not_taken_either),
        cmocka_unit_test(without_metadata_there_is_no_slab),
    };
    return cmocka_run_group_tests(tests, start, NULL) == 0 ? 0 : 1;
}
