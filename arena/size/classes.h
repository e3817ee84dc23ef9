/*
 * Size classes: which block size serves a request.
 *
 * Small classes (to 16 KiB) are cut from slabs of 64 KiB; tiny ones, to 512 bytes, go in steps of
 * 16. Above, a request is a run of 4 KiB pages, rounded to 8 steps per doubling so that runs can be
 * cached by class; or one of two twins, which share an odd number of pages. Internal waste is below
 * 16 bytes up to 128 and at most 12.5 % above.
 *
 * Between 512 and 2048 the steps are finer than the 12.5 % ask for: server values of 1 KiB plus a
 * header fall there, and a step of an eighth would cost up to a quarter of the heap. For 1040, what
 * most of these need, there is a class more.
 *
 * Constant tables; any thread.
 */
#ifndef BERTH_SIZE_CLASSES_H
#define BERTH_SIZE_CLASSES_H

#include "base/bits.h"

/* X(size of the class below, size), bytes. */
/* clang-format off */
#define BERTH_SMALL_CLASSES(X)                                                                     \
    X(0, 16) X(16, 32) X(32, 48) X(48, 64) X(64, 80) X(80, 96) X(96, 112) X(112, 128) X(128, 144)  \
    X(144, 160) X(160, 176) X(176, 192) X(192, 208) X(208, 224) X(224, 240) X(240, 256)            \
    X(256, 272) X(272, 288) X(288, 304) X(304, 320) X(320, 336) X(336, 352) X(352, 368)            \
    X(368, 384) X(384, 400) X(400, 416) X(416, 432) X(432, 448) X(448, 464) X(464, 480)            \
    X(480, 496) X(496, 512) X(512, 544) X(544, 576) X(576, 608) X(608, 640) X(640, 672)            \
    X(672, 704) X(704, 736) X(736, 768) X(768, 800) X(800, 832) X(832, 864) X(864, 896)            \
    X(896, 928) X(928, 960) X(960, 992) X(992, 1024) X(1024, 1040) X(1040, 1056) X(1056, 1088)     \
    X(1088, 1120) X(1120, 1152) X(1152, 1184) X(1184, 1216) X(1216, 1248) X(1248, 1280)            \
    X(1280, 1344) X(1344, 1408) X(1408, 1472) X(1472, 1536) X(1536, 1600) X(1600, 1664)            \
    X(1664, 1728) X(1728, 1792) X(1792, 1856) X(1856, 1920) X(1920, 1984) X(1984, 2048)            \
    X(2048, 2304) X(2304, 2560) X(2560, 2816) X(2816, 3072) X(3072, 3328) X(3328, 3584)            \
    X(3584, 3840) X(3840, 4096) X(4096, 4608) X(4608, 5120) X(5120, 5632) X(5632, 6144)            \
    X(6144, 6656) X(6656, 7168) X(7168, 7680) X(7680, 8192) X(8192, 9216) X(9216, 10240)           \
    X(10240, 11264) X(11264, 12288) X(12288, 13312) X(13312, 14336) X(14336, 16384)
/* clang-format on */

enum { BERTH_SMALL_CLASS_COUNT = 92 };

enum {
    BERTH_GRANULE_SHIFT = 4,
    BERTH_GRANULE = 16,      /* every small size is a multiple; every block is aligned to it */
    BERTH_TINY_MAX = 512,    /* the largest tiny block */
    BERTH_SMALL_MAX = 16384, /* the largest block cut from a slab */
    BERTH_PAGE = 4096,       /* runs are counted in these, whatever the machine's page size */
    BERTH_UNIT = 65536,      /* a slab; what one entry of the address table describes */
    BERTH_UNIT_PAGES = BERTH_UNIT / BERTH_PAGE,
    BERTH_CHUNK = 4 << 20, /* the largest run; what one slot of address space holds */
    BERTH_CHUNK_PAGES = BERTH_CHUNK / BERTH_PAGE,
    BERTH_CHUNK_UNITS = BERTH_CHUNK / BERTH_UNIT,
};

/* A thread cache keeps one bin per small class, of this many bytes, in class order; the address
 * table holds the byte offset, so that no fast path multiplies. */
enum { BERTH_BIN_BYTES = 32 };
typedef uint16_t berth__bin_offset;

/* Byte offset of the bin, by (size + 15) / 16 for size <= BERTH_SMALL_MAX. */
extern const berth__bin_offset berth__bin_of_granules[BERTH_SMALL_MAX / BERTH_GRANULE + 1];

struct berth__class {
    uint32_t size;       /* bytes of a block */
    uint32_t reciprocal; /* berth__reciprocal(size) */
    uint16_t blocks;     /* in a slab */
    uint16_t words;      /* of a bitmap with a bit per block */
};

extern const struct berth__class berth__classes[BERTH_SMALL_CLASS_COUNT];

BERTH_INLINE unsigned berth__class_of_size(size_t size) { /* size <= BERTH_SMALL_MAX */
    return berth__bin_of_granules[(size + 15) / 16] / BERTH_BIN_BYTES;
}

/* The smallest small class whose blocks are aligned to `alignment` (a power of two <= 4096) and
 * hold `size` bytes; BERTH_SMALL_CLASS_COUNT if there is none. Slabs start on a multiple of 64 KiB,
 * so a block is aligned to whatever divides its size. */
unsigned berth__class_of_aligned(size_t size, size_t alignment);

/* Runs. A run class is a number of pages; the first one holds BERTH_SMALL_MAX + 1 bytes. */
enum { BERTH_RUN_CLASS_COUNT = 60, BERTH_RUN_CLASS_MIN_PAGES = 5 };

/* Eight classes per doubling: 5 6 7 8 | 9 10 .. 16 | 18 20 .. 32 | 36 .. 64 | .. | 576 .. 1024. */
enum {
    BERTH_RUN_STEPS = 8,
    BERTH_RUN_FIRST_DOUBLING = 3, /* log2 */
    BERTH_RUN_CLASSES_BELOW_8 = 3,
};

/* The class that holds `pages` (1 to 1024). */
BERTH_INLINE unsigned berth__run_class(size_t pages) {
    if (pages <= 8) {
        return pages < BERTH_RUN_CLASS_MIN_PAGES ? 0 : (unsigned)pages - BERTH_RUN_CLASS_MIN_PAGES;
    }
    unsigned doubling = berth__highest_bit(pages - 1); /* pages in (2^doubling, 2^(doubling+1)] */
    unsigned step_shift = doubling - BERTH_RUN_FIRST_DOUBLING;
    unsigned step = (unsigned)((pages - 1 - ((size_t)1 << doubling)) >> step_shift);
    return BERTH_RUN_CLASSES_BELOW_8 + 1 + (doubling - BERTH_RUN_FIRST_DOUBLING) * BERTH_RUN_STEPS +
           step;
}

BERTH_INLINE size_t berth__run_class_pages(unsigned run_class) {
    if (run_class <= BERTH_RUN_CLASSES_BELOW_8) {
        return run_class + BERTH_RUN_CLASS_MIN_PAGES;
    }
    unsigned above = run_class - BERTH_RUN_CLASSES_BELOW_8 - 1;
    unsigned doubling = above / BERTH_RUN_STEPS + BERTH_RUN_FIRST_DOUBLING;
    return ((size_t)1 << doubling) +
           ((size_t)(above % BERTH_RUN_STEPS + 1) << (doubling - BERTH_RUN_FIRST_DOUBLING));
}

/* Twins: blocks of four, five or six pages and a half, 18, 22 and 26 KiB. Whole pages would waste
 * up to a fifth just above 16 KiB, where records and frames of 16 KiB with their headers lie. */
enum {
    BERTH_TWIN_CLASS_COUNT = 3,
    BERTH_TWIN_MIN_PAGES = 9, /* of both */
    BERTH_TWIN_STEP_PAGES = 2,
};

BERTH_INLINE size_t berth__twin_pages(unsigned twin_class) {
    return BERTH_TWIN_MIN_PAGES + (size_t)twin_class * BERTH_TWIN_STEP_PAGES;
}

BERTH_INLINE size_t berth__twin_bytes(unsigned twin_class) {
    return berth__twin_pages(twin_class) * BERTH_PAGE / 2;
}

/* The class for `size` > BERTH_SMALL_MAX; BERTH_TWIN_CLASS_COUNT if whole pages fit better. */
BERTH_INLINE unsigned berth__twin_class(size_t size) {
    size_t pages = (size - 1) / BERTH_PAGE;
    bool half = (size - 1) % BERTH_PAGE < BERTH_PAGE / 2;
    size_t twin_class = pages - BERTH_TWIN_MIN_PAGES / 2;
    return half && twin_class < BERTH_TWIN_CLASS_COUNT ? (unsigned)twin_class
                                                       : (unsigned)BERTH_TWIN_CLASS_COUNT;
}

/* Normal blocks of either kind, by class: twins, then runs. */
enum { BERTH_NORMAL_CLASS_COUNT = BERTH_TWIN_CLASS_COUNT + BERTH_RUN_CLASS_COUNT };

/* Tables for both directions, written once by the init call before normal blocks are used; that of
 * classes for what is not too large. */
enum { BERTH_NORMAL_STEP = 2048, BERTH_NORMAL_TABLE_MAX = 256 << 10 };
void berth__normal_classes_init(void);
extern uint32_t berth__normal_bytes[BERTH_NORMAL_CLASS_COUNT];
extern uint8_t berth__normal_class_of_steps[BERTH_NORMAL_TABLE_MAX / BERTH_NORMAL_STEP];

/* The class for BERTH_SMALL_MAX < size <= BERTH_NORMAL_TABLE_MAX. */
BERTH_INLINE unsigned berth__normal_class(size_t size) {
    return berth__normal_class_of_steps[(size - 1) / BERTH_NORMAL_STEP];
}

/* Bytes that a request of `size` gets: a small block, a run, or, above BERTH_CHUNK, whole pages.
 * 0 if no address space could hold it. */
size_t berth__good_size(size_t size);

#endif
