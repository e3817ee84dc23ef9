#include "size/classes.h"

#include "os/pages.h"

/* A range of granule counts maps to the same bin. */
#define GRANULES(below, size)                                                                      \
    [(below) / BERTH_GRANULE + 1 ...(size) / BERTH_GRANULE] = CLASS_##size * BERTH_BIN_BYTES,
#define NAME(below, size) CLASS_##size,
#define DESCRIBE(below, block)                                                                     \
    {.size = (block),                                                                              \
     .reciprocal = (uint32_t)(((UINT64_C(1) << 32) + (block)-1) / (block)),                        \
     .blocks = BERTH_UNIT / (block),                                                               \
     .words = BERTH_WORDS_FOR(BERTH_UNIT / (block))},

enum { BERTH_SMALL_CLASSES(NAME) CLASS_NAMES_END };
_Static_assert((int)CLASS_NAMES_END == (int)BERTH_SMALL_CLASS_COUNT, "class count");
_Static_assert(BERTH_SMALL_CLASS_COUNT *BERTH_BIN_BYTES <= UINT16_MAX, "a bin offset has 16 bits");

const berth__bin_offset berth__bin_of_granules[BERTH_SMALL_MAX / BERTH_GRANULE + 1] = {
    BERTH_SMALL_CLASSES(GRANULES)};

const struct berth__class berth__classes[BERTH_SMALL_CLASS_COUNT] = {BERTH_SMALL_CLASSES(DESCRIBE)};

unsigned berth__class_of_aligned(size_t size, size_t alignment) {
    if (size > BERTH_SMALL_MAX || alignment > BERTH_PAGE) {
        return BERTH_SMALL_CLASS_COUNT;
    }
    unsigned small_class = berth__class_of_size(size);
    while (small_class < BERTH_SMALL_CLASS_COUNT &&
           berth__classes[small_class].size % alignment != 0) {
        small_class++;
    }
    return small_class;
}

/* Eight classes per doubling: 5 6 7 8 | 9 10 .. 16 | 18 20 .. 32 | 36 .. 64 | .. | 576 .. 1024. */
enum { RUN_STEPS = 8, RUN_FIRST_DOUBLING_LOG2 = 3, RUN_CLASSES_BELOW_8 = 3 };

unsigned berth__run_class(size_t pages) {
    if (pages <= 8) {
        return pages < BERTH_RUN_CLASS_MIN_PAGES ? 0 : (unsigned)pages - BERTH_RUN_CLASS_MIN_PAGES;
    }
    unsigned doubling = berth__highest_bit(pages - 1); /* pages in (2^doubling, 2^(doubling+1)] */
    unsigned step_shift = doubling - RUN_FIRST_DOUBLING_LOG2;
    unsigned step = (unsigned)((pages - 1 - ((size_t)1 << doubling)) >> step_shift);
    return RUN_CLASSES_BELOW_8 + 1 + (doubling - RUN_FIRST_DOUBLING_LOG2) * RUN_STEPS + step;
}

size_t berth__run_class_pages(unsigned run_class) {
    if (run_class <= RUN_CLASSES_BELOW_8) {
        return run_class + BERTH_RUN_CLASS_MIN_PAGES;
    }
    unsigned above = run_class - RUN_CLASSES_BELOW_8 - 1;
    unsigned doubling = above / RUN_STEPS + RUN_FIRST_DOUBLING_LOG2;
    return ((size_t)1 << doubling) +
           ((size_t)(above % RUN_STEPS + 1) << (doubling - RUN_FIRST_DOUBLING_LOG2));
}

size_t berth__good_size(size_t size) {
    if (size <= BERTH_SMALL_MAX) {
        return berth__classes[berth__class_of_size(size)].size;
    }
    if (size <= BERTH_CHUNK) {
        size_t pages = (size + BERTH_PAGE - 1) / BERTH_PAGE;
        return berth__run_class_pages(berth__run_class(pages)) * BERTH_PAGE;
    }
    return size > PTRDIFF_MAX - berth__page_bytes ? 0 : berth__round_up(size, berth__page_bytes);
}
