/*
 * A slab: one unit of 64 KiB cut into blocks of one size class, described out of line.
 *
 * Owned by one heap and guarded by that heap's lock; nothing here locks. Each block is in exactly
 * one of three states:
 *
 *   lent   with a thread (in its cache or in the program's hands)
 *   ready  free, on pages that hold memory: handed out first
 *   cold   free, on at least one page that was never touched or was purged
 *
 *   lent + ready + cold = blocks
 *
 * `ready` and `cold` are bitmaps, disjoint; a block in neither is lent. A double free is a
 * bit that is already set, whatever happened to the block since. Blocks themselves are never
 * read or written by the allocator, so freeing cold memory does not touch it, and purging a page
 * needs no list to be unpicked.
 */
#ifndef BERTH_CHUNK_SLAB_H
#define BERTH_CHUNK_SLAB_H

#include "base/atomics.h"
#include "base/list.h"
#include "size/classes.h"

enum { BERTH_SLAB_INLINE_WORDS = 8 }; /* 512 blocks: classes from 128 bytes on */

struct berth__heap;

/* Which of its heap's lists a slab is in. */
enum berth__slab_list {
    BERTH_SLAB_FULL,   /* none: all blocks are lent */
    BERTH_SLAB_DENSE,  /* some ready blocks, at most half free: refilled from first */
    BERTH_SLAB_SPARSE, /* some ready blocks, more than half free */
    BERTH_SLAB_COLD,   /* no ready block, some cold ones */
    BERTH_SLAB_LISTS
};

struct berth__slab {
    struct berth__list link;            /* in the list of its heap and class */
    struct berth__list purge_link;      /* in one of its heap's purge queues, or linked to itself */
    _Atomic(struct berth__heap *) heap; /* owner; written under the old and the new owner's lock;
                                           NULL if the unit is no slab */
    char *base;                         /* block 0; a multiple of BERTH_UNIT */
    uint64_t *ready;                    /* bitmap; the one of cold blocks follows it directly */
    uint16_t ready_count;
    uint16_t cold_count;
    uint16_t resident; /* bit per page of 4 KiB that may hold memory */
    uint8_t small_class;
    uint8_t list : 7;  /* enum berth__slab_list */
    uint8_t mixed : 1; /* some of its blocks are cut into parts (chunk/parts.h) */
};
_Static_assert(sizeof(struct berth__slab) == BERTH_CACHE_LINE, "one line");

/* Blocks of a slab that are cut into parts; see chunk/parts.h. */
enum { BERTH_PARTS_BLOCKS_MAX = 64 * BERTH_SLAB_INLINE_WORDS / 2 };
struct berth__parts {
    struct berth__list link; /* in its heap's list for the parts' class, or linked to itself */
    uint64_t *ready;         /* bitmap of free parts: part p of block b is bit b * per_block + p */
    _Atomic uint64_t cut[BERTH_PARTS_BLOCKS_MAX / 64]; /* bitmap of blocks; changed as `ready` */
    uint16_t ready_count;
    uint16_t cut_count;
    uint8_t small_class; /* of the parts */
    uint8_t per_block;
};
_Static_assert(sizeof(struct berth__parts) == BERTH_CACHE_LINE, "half of the bitmaps");

/* A slab and room for its bitmaps; those of the classes below 128 bytes lie in metadata memory. Of
 * those of 256 and more, half of the room is left. */
struct berth__slab_record {
    struct berth__slab slab;
    union {
        uint64_t inline_bits[2 * BERTH_SLAB_INLINE_WORDS];
        struct {
            uint64_t half[BERTH_SLAB_INLINE_WORDS];
            struct berth__parts parts;
        };
    };
};
_Static_assert(sizeof(struct berth__slab_record) == 3 * BERTH_CACHE_LINE, "whole lines");

/* Makes a slab of a unit; every block is cold. `resident`: pages that already hold memory.
 * False if there is no metadata memory for the bitmaps. */
bool berth__slab_init(struct berth__slab_record *record, struct berth__heap *heap, char *base,
                      unsigned small_class, uint16_t resident);

/* Gives the bitmaps back, when all blocks are free or the pool ends. */
void berth__slab_retire(struct berth__slab_record *record);

BERTH_INLINE const struct berth__class *berth__slab_class(const struct berth__slab *slab) {
    return &berth__classes[slab->small_class];
}

BERTH_INLINE uint64_t *berth__slab_cold(const struct berth__slab *slab) {
    return slab->ready + berth__slab_class(slab)->words;
}

BERTH_INLINE unsigned berth__slab_free_count(const struct berth__slab *slab) {
    return (unsigned)slab->ready_count + slab->cold_count;
}

BERTH_INLINE bool berth__slab_is_empty(const struct berth__slab *slab) {
    return berth__slab_free_count(slab) == berth__slab_class(slab)->blocks;
}

/* Lends up to `count` ready blocks, lowest addresses first, into out[0..]; returns how many. */
unsigned berth__slab_lend(struct berth__slab *slab, unsigned count, void **out);

/* Makes cold blocks ready: those that start in the first page with a cold block and the
 * `pages` - 1 that follow. Returns the pages that may now be touched and did not hold memory
 * before, as bits. The slab must have a cold block. */
uint16_t berth__slab_warm(struct berth__slab *slab, unsigned pages);

/* Takes back those of blocks[0..count), count >= 1, that come first and lie in this slab. Returns
 * how many: less than `count` when blocks[that] lies elsewhere, is free already, or is not a
 * block's start. One multiplication gives both the block's number and whether the address is its
 * start (base/bits.h).
 */
BERTH_INLINE unsigned berth__slab_take_back(struct berth__slab *slab, void *const *blocks,
                                            unsigned count) {
    const struct berth__class *class = berth__slab_class(slab);
    const uint64_t reciprocal = class->reciprocal;
    const uintptr_t base = (uintptr_t)slab->base;
    const uintptr_t end = (uintptr_t) class->blocks * class->size;
    uint64_t *const ready = slab->ready;
    const uint64_t *const cold = ready + class->words;
    unsigned done = 0;
    do {
        uintptr_t offset = (uintptr_t)blocks[done] - base;
        uint64_t product = offset * reciprocal; /* of a far address, it would wrap around */
        uint64_t number = product >> 32;
        if (BERTH_UNLIKELY(offset >= end || (uint32_t)product >= reciprocal)) {
            break;
        }
        uint64_t bit = UINT64_C(1) << (number % 64);
        uint64_t bits = ready[number / 64];
        if (BERTH_UNLIKELY(((bits | cold[number / 64]) & bit) != 0)) {
            break;
        }
        ready[number / 64] = bits | bit;
    } while (++done < count);
    slab->ready_count = (uint16_t)(slab->ready_count + done);
    return done;
}

/* Pages that hold memory and lie wholly in free blocks, as a bit per page. */
uint16_t berth__slab_purgeable(const struct berth__slab *slab);

/* Around purging `pages` (from berth__slab_purgeable) without the lock: hide lends every block that
 * touches them to the purger; show gives them back as cold ones. */
void berth__slab_hide(struct berth__slab *slab, uint16_t pages);
void berth__slab_show(struct berth__slab *slab, uint16_t pages, bool purged);

/* True if the block at `address` (a block's start) is free. */
bool berth__slab_is_free(const struct berth__slab *slab, const void *address);

/* For audits. */
bool berth__slab_is_valid(const struct berth__slab *slab);

#endif
