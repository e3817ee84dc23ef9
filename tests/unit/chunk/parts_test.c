/*
 * Parts of blocks against a model: a word per block, and one per part. The slab's memory is an
 * address that is never touched.
 */
#include "chunk/parts.h"

#include "chunk/meta.h"
#include "os/pages.h"
#include "unit.h"

#include <string.h>

enum { SLOTS_MAX = BERTH_UNIT / 64 };
enum state { LENT, READY, CUT };
static char *const base = (char *)(uintptr_t)0x7f0000010000;

static struct berth__slab_record record;
static struct berth__slab *const slab = &record.slab;
static const struct berth__class *class, *part_class;
static unsigned per_block;
static enum state states[BERTH_PARTS_BLOCKS_MAX];
static char *parts[SLOTS_MAX]; /* those that are lent */
static unsigned part_count;
static struct unit_random random_state;

static int start(void **state) {
    (void)state;
    berth__pages_init(0);
    berth__meta_init();
    return 0;
}

/* A slab whose blocks are all lent. */
static void make(unsigned small_class, unsigned of_parts) {
    static void *out[BERTH_PARTS_BLOCKS_MAX];
    class = &berth__classes[small_class];
    part_class = &berth__classes[of_parts];
    per_block = berth__parts_per_block(small_class, of_parts);
    part_count = 0;
    assert_true(berth__slab_init(&record, NULL, base, small_class, 0));
    assert_int_equal(slab->mixed, 0);
    (void)berth__slab_warm(slab, BERTH_UNIT_PAGES);
    assert_int_equal(berth__slab_lend(slab, class->blocks, out), class->blocks);
    assert_true(berth__parts_begin(slab, of_parts));
    memset(states, 0, sizeof(states));
}

static struct berth__part find(const void *address) {
    return berth__part_find(berth__parts_of(slab), slab->small_class, address);
}

static unsigned parts_in(unsigned block) {
    const char *from = base + (size_t)block * class->size;
    unsigned count = 0;
    for (unsigned i = 0; i < part_count; i++) {
        count += parts[i] >= from && parts[i] < from + class->size;
    }
    return count;
}

static void compare(void) {
    unsigned cut = 0;
    unsigned ready = 0;
    for (unsigned b = 0; b < class->blocks; b++) {
        bool is_cut = (berth__parts_of(slab)->cut[b / 64] >> (b % 64) & 1) != 0;
        assert_int_equal(is_cut, states[b] == CUT);
        assert_int_equal(berth__bit_test(slab->ready, b), states[b] == READY);
        cut += states[b] == CUT;
        ready += states[b] == READY;
    }
    assert_int_equal(berth__parts_of(slab)->cut_count, cut);
    assert_int_equal(slab->ready_count, ready);
    assert_int_equal(berth__parts_of(slab)->ready_count, cut * per_block - part_count);
    assert_true(cut == 0 || berth__parts_are_valid(slab));
}

static void take_blocks_back(void) {
    for (unsigned b = 0; b < class->blocks; b++) {
        if (states[b] == LENT && unit_random_below(&random_state, 4) == 0) {
            void *block = base + (size_t)b * class->size;
            assert_int_equal(berth__slab_take_back(slab, &block, 1), 1);
            states[b] = READY;
        }
    }
}

static void cut_a_block(void) {
    for (unsigned b = 0; b < class->blocks; b++) {
        if (states[b] == READY) {
            berth__parts_cut(slab);
            states[b] = CUT;
            return;
        }
    }
}

static void lend_parts(unsigned count) {
    static void *out[SLOTS_MAX];
    unsigned lent = berth__parts_lend(slab, count, out);
    for (unsigned i = 0; i < lent; i++) {
        char *part = out[i];
        struct berth__part found = find(part);
        assert_true(found.is_part && found.is_start);
        assert_int_equal(berth__classes[found.small_class].size, part_class->size);
        assert_int_equal(found.block, (unsigned)(part - base) / class->size);
        assert_true(states[found.block] == CUT);
        assert_true(part + part_class->size <= base + (found.block + (size_t)1) * class->size);
        assert_false(find(part + 1).is_start);
        assert_false(find(part + part_class->size - 16).is_start);
        for (unsigned j = 0; j < part_count; j++) {
            assert_true(part + part_class->size <= parts[j] || parts[j] + part_class->size <= part);
        }
        parts[part_count++] = part;
    }
}

static void take_parts_back(void) {
    for (unsigned i = 0; i < part_count;) {
        struct berth__part found = find(parts[i]);
        bool joined = false;
        if (unit_random_below(&random_state, 3) == 0) {
            i++;
            continue;
        }
        parts[i] = parts[--part_count];
        assert_true(berth__parts_take_back(slab, found, &joined));
        assert_int_equal(joined, parts_in(found.block) == 0);
        states[found.block] = joined ? READY : CUT;
        bool again = false;
        assert_true(joined || !berth__parts_take_back(slab, found, &again)); /* a double free */
    }
}

static void any_sequence_of_steps_keeps_parts_and_blocks_apart(void **state) {
    /* A part would overlap a block, or be lost, or its block be lent with it. */
    (void)state;
    const unsigned pairs[][2] = {{1056, 320}, {1040, 1024}, {16384, 64}, {256, 128}, {4096, 1056}};
    for (unsigned p = 0; p < BERTH_ARRAY_COUNT(pairs); p++) {
        unsigned small_class = berth__class_of_size(pairs[p][0]);
        unsigned of_parts = berth__class_of_size(pairs[p][1]);
        if (berth__parts_per_block(small_class, of_parts) == 0) {
            continue;
        }
        make(small_class, of_parts);
        for (unsigned i = 0; i < 200; i++) {
            switch (unit_random_below(&random_state, 4)) {
            case 0: take_blocks_back(); break;
            case 1: cut_a_block(); break;
            case 2: lend_parts((unsigned)unit_random_below(&random_state, 20)); break;
            default: take_parts_back(); break;
            }
            compare();
        }
        berth__slab_retire(&record);
        assert_int_equal(slab->mixed, 0);
    }
}

static void parts_of_every_pair_lie_in_their_block_and_are_aligned(void **state) {
    /* A part would overlap the next block; an aligned request would get a block that is not. */
    (void)state;
    unsigned pairs = 0;
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        for (unsigned p = 0; p < BERTH_SMALL_CLASS_COUNT; p++) {
            if (berth__parts_per_block(c, p) == 0) {
                continue;
            }
            pairs++;
            make(c, p);
            size_t over = class->size - (size_t)per_block * part_class->size;
            assert_true(over <= class->size / 4);
            size_t alignment = part_class->size & (~part_class->size + 1);
            for (unsigned b = 0; b < class->blocks; b += class->blocks - 1) {
                void *block = base + (size_t)b * class->size;
                void *out[UINT8_MAX];
                assert_int_equal(berth__slab_take_back(slab, &block, 1), 1);
                berth__parts_cut(slab);
                assert_int_equal(berth__parts_lend(slab, UINT8_MAX, out), per_block);
                assert_true((char *)out[0] >= (char *)block);
                assert_true((char *)out[per_block - 1] + part_class->size <=
                            (char *)block + class->size);
                for (unsigned i = 0; i < per_block; i++) {
                    assert_int_equal((uintptr_t)out[i] % berth__min(alignment, BERTH_PAGE), 0);
                    assert_true(find(out[i]).is_start);
                }
            }
            berth__slab_retire(&record);
        }
    }
    assert_true(pairs > 500);
}

static void what_is_not_worth_it_is_not_cut(void **state) {
    /* Most of a block would be over, or a class be cut for itself. */
    (void)state;
    unsigned large = berth__class_of_size(1056);
    assert_int_equal(berth__parts_per_block(large, berth__class_of_size(320)), 3);
    assert_int_equal(berth__parts_per_block(large, berth__class_of_size(640)), 0);
    assert_int_equal(berth__parts_per_block(large, large), 0);
    assert_int_equal(berth__parts_per_block(large, berth__class_of_size(2048)), 0);
    assert_int_equal(berth__parts_per_block(large, berth__class_of_size(48)), 0);
}

static void what_lies_behind_the_last_block_is_no_block(void **state) {
    /* A wrong pointer would be taken for a block behind the bitmaps. */
    (void)state;
    make(berth__class_of_size(1056), berth__class_of_size(320));
    assert_false(find(base + (size_t) class->blocks * class->size).is_start);
    assert_true(find(base).is_start);
    assert_false(find(base + 16).is_start);
    berth__slab_retire(&record);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_sequence_of_steps_keeps_parts_and_blocks_apart),
        cmocka_unit_test(parts_of_every_pair_lie_in_their_block_and_are_aligned),
        cmocka_unit_test(what_is_not_worth_it_is_not_cut),
        cmocka_unit_test(what_lies_behind_the_last_block_is_no_block),
    };
    return cmocka_run_group_tests(tests, start, NULL) == 0 ? 0 : 1;
}
