/*
 * Parts: free blocks of a slab, cut for a smaller class.
 *
 * When many blocks of one class are free and another class needs memory, holes between blocks that
 * live on can serve it: a block is cut into as many parts of the other class as fit, aligned as
 * that class's blocks are, and what is over stays unused. All parts of a slab are of one class; a
 * slab with such blocks is mixed.
 *
 * For the slab's own bitmaps a cut block is lent. Guarded by its heap's lock; nothing here locks.
 *
 *     cut blocks * per_block = ready parts + lent parts
 *
 * A block whose parts are all free is a ready block again at once, and a slab without cut blocks is
 * no longer mixed. The record's memory is that of bitmaps which slabs of small blocks need, so only
 * slabs of at most BERTH_PARTS_BLOCKS_MAX blocks can be mixed.
 *
 * Who holds a block may ask, without the lock, whether it is a part (berth__part_find). `cut`
 * changes only for blocks that nobody holds; in a slab that can be mixed, but is not, it is zero.
 */
#ifndef BERTH_CHUNK_PARTS_H
#define BERTH_CHUNK_PARTS_H

#include "chunk/slab.h"

BERTH_INLINE struct berth__parts *berth__parts_of(struct berth__slab *slab) {
    return &BERTH_CONTAINER_OF(slab, struct berth__slab_record, slab)->parts;
}

/* Offset in the slab of the first part of the block that begins at an offset. */
BERTH_INLINE uint32_t berth__parts_first(uint32_t part_size, uint32_t block_offset) {
    uint32_t alignment = (uint32_t)berth__min(part_size & (~part_size + 1), BERTH_PAGE);
    return (uint32_t)berth__round_up(block_offset, alignment);
}

/* How many parts of a class a block of another gives; 0: too much would be over, or it cannot be.
 */
unsigned berth__parts_per_block(unsigned small_class, unsigned part_class);

/* Makes a slab mixed, without a cut block. False if there is no metadata memory for the bitmap. */
bool berth__parts_begin(struct berth__slab *slab, unsigned part_class);
/* No block is cut any more, or the pool ends. */
void berth__parts_end(struct berth__slab *slab);

/* Cuts the first ready block, which there must be. */
void berth__parts_cut(struct berth__slab *slab);

/* Lends up to `count` ready parts, lowest addresses first, into out[0..]; returns how many. */
unsigned berth__parts_lend(struct berth__slab *slab, unsigned count, void **out);

/* What lies at an address in a mixed slab. Reads one line of its record. */
struct berth__part {
    unsigned small_class; /* of the block, or the part */
    unsigned block;
    unsigned index; /* in its block, if it is a part */
    bool is_part;
    bool is_start; /* the address is that of its first byte */
};
struct berth__part berth__part_find(const struct berth__parts *parts, unsigned small_class,
                                    const void *address);

/* Takes a part back; false: it is free already. *joined: its block was cut, and now is ready. */
bool berth__parts_take_back(struct berth__slab *slab, struct berth__part part, bool *joined);

/* For audits. */
bool berth__parts_are_valid(const struct berth__slab *slab);

#endif
