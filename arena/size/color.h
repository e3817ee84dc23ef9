/*
 * Colours: where in its first page a normal block begins.
 *
 * Programs touch the first bytes of their buffers most: a header, a length, a link. If all buffers
 * begin on a page, those bytes share the few sets of the processor's caches that such addresses
 * map to, and push each other out while the rest lies idle. So a block whose last page is not
 * filled by what was asked for begins up to that much later, by whole cache lines, at a distance
 * that depends on its address: no page more is used for it. Which colours a place can have follows
 * from the address alone, so that a free still tells most other pointers into the page from it;
 * hardened builds tell all, and have no colours.
 *
 * After Bonwick, "The Slab Allocator" (USENIX Summer 1994), section 4.
 */
#ifndef BERTH_SIZE_COLOR_H
#define BERTH_SIZE_COLOR_H

#include "size/classes.h"

enum {
    BERTH_COLOR_STEP = 64,
    BERTH_COLORS = 64,
    BERTH_COLORS_MIN = 16,
    BERTH_COLORED_MAX = BERTH_NORMAL_TABLE_MAX, /* of larger blocks there are few */
};

/* The whole colour of a place, in steps, of which a block takes as many low bits as fit, if that
 * are BERTH_COLORS_MIN colours: then what is less than so many steps away from it is no block's. */
BERTH_INLINE unsigned berth__color_of(const void *place) {
    uint64_t scattered = (uint64_t)((uintptr_t)place / 2048) * UINT64_C(0x9E3779B97F4A7C15);
    return BERTH_HARDENED ? 0 : (unsigned)(scattered >> 58);
}

/* Where a block of `size` bytes begins for which there are `bytes` from this place on. */
BERTH_INLINE void *berth__colored(void *place, size_t bytes, size_t size) {
    size_t steps = (bytes - size) % BERTH_PAGE / BERTH_COLOR_STEP;
    size_t mask =
        steps + 1 < BERTH_COLORS_MIN ? 0 : ((size_t)1 << berth__highest_bit(steps + 1)) - 1;
    return (char *)place + (berth__color_of(place) & mask) * BERTH_COLOR_STEP;
}

/* True if a block at that place may begin so many bytes later. */
BERTH_INLINE bool berth__color_is_of(const void *place, size_t bytes) {
    size_t steps = bytes / BERTH_COLOR_STEP;
    if (steps == 0) {
        return bytes == 0;
    }
    size_t mask = ((size_t)2 << berth__highest_bit(steps | BERTH_COLORS_MIN / 2)) - 1;
    return steps < BERTH_COLORS && bytes % BERTH_COLOR_STEP == 0 &&
           (berth__color_of(place) & mask) == steps;
}

#endif
