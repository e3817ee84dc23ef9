/*
 * How much a thread's cache may hold: the arrays of its bins, what they reserve, and the budget of
 * the process that this is taken from.
 *
 * By the cache's thread, or who has claimed it.
 */
#ifndef BERTH_HEAP_BINS_H
#define BERTH_HEAP_BINS_H

#include "heap/cache.h"

enum { BERTH_GRANT_STEP = 16 << 10 }; /* bytes taken from the budget at once, if it has them */

BERTH_INLINE uint32_t berth__bin_class_size(unsigned small_class) {
    return berth__classes[small_class].size;
}

/* Blocks in a bin, without the marks of samples. */
BERTH_INLINE unsigned berth__bin_blocks(const struct berth__bin *bin) {
    unsigned blocks = 0;
    for (void **at = bin->top; at < berth__bin_end(bin); at++) {
        blocks += *at != NULL;
    }
    return blocks;
}

/* Counts bytes that the cache may hold as reserved; false if the budget has not so many. */
bool berth__cache_reserve(struct berth__cache *cache, uint64_t bytes);
void berth__cache_unreserve(struct berth__cache *cache, uint64_t bytes);

/* Gives bytes of the grant back to the budget. */
void berth__grant_return(struct berth__cache *cache, uint64_t bytes);

/* Doubles a bin that runs empty or full, within its class's bound and the cache's. Beyond some size
 * only one that does both by turns gains by it. False: it is as it was. */
bool berth__bin_grow(struct berth__cache *cache, struct berth__bin *bin, bool by_turns);

/* Takes the array away from an empty bin: it is as it was at first. */
void berth__bin_strip(struct berth__cache *cache, struct berth__bin *bin);

/* Room for gathered blocks, which count as cached. What may lie there is reserved beforehand, as
 * for a bin: all, or, when the budget is spent, a little. False if there is not even that. */
bool berth__remote_make(struct berth__cache *cache);

/* Takes that away; there are no gathered blocks. */
void berth__remote_strip(struct berth__cache *cache);

#endif
