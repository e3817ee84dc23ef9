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

uint32_t berth__normal_bytes[BERTH_NORMAL_CLASS_COUNT];
uint8_t berth__normal_class_of_steps[BERTH_NORMAL_TABLE_MAX / BERTH_NORMAL_STEP];

static unsigned normal_class(size_t size) {
    unsigned twin_class = berth__twin_class(size);
    return twin_class < BERTH_TWIN_CLASS_COUNT
               ? twin_class
               : BERTH_TWIN_CLASS_COUNT + berth__run_class((size + BERTH_PAGE - 1) / BERTH_PAGE);
}

void berth__normal_classes_init(void) {
    for (unsigned c = 0; c < BERTH_NORMAL_CLASS_COUNT; c++) {
        berth__normal_bytes[c] =
            (uint32_t)(c < BERTH_TWIN_CLASS_COUNT
                           ? berth__twin_bytes(c)
                           : berth__run_class_pages(c - BERTH_TWIN_CLASS_COUNT) * BERTH_PAGE);
    }
    for (size_t size = BERTH_SMALL_MAX; size < BERTH_NORMAL_TABLE_MAX; size += BERTH_NORMAL_STEP) {
        berth__normal_class_of_steps[size / BERTH_NORMAL_STEP] = (uint8_t)normal_class(size + 1);
    }
}

unsigned berth__class_of_aligned(size_t size, size_t alignment) {
    if (alignment > BERTH_PAGE) {
        return BERTH_SMALL_CLASS_COUNT;
    }
    for (; size <= BERTH_SMALL_MAX; size = berth__round_up(size + 1, alignment)) {
        size = berth__classes[berth__class_of_size(size)].size;
        if ((size & (alignment - 1)) == 0) {
            return berth__class_of_size(size);
        }
    }
    return BERTH_SMALL_CLASS_COUNT;
}

size_t berth__good_size(size_t size) {
    if (size <= BERTH_SMALL_MAX) {
        return berth__classes[berth__class_of_size(size)].size;
    }
    unsigned twin_class = berth__twin_class(size);
    if (twin_class < BERTH_TWIN_CLASS_COUNT) {
        return berth__twin_bytes(twin_class);
    }
    if (size <= BERTH_CHUNK) {
        size_t pages = (size + BERTH_PAGE - 1) / BERTH_PAGE;
        return berth__run_class_pages(berth__run_class(pages)) * BERTH_PAGE;
    }
    return size > PTRDIFF_MAX - berth__page_bytes ? 0 : berth__round_up(size, berth__page_bytes);
}
