/*
 * The ring of a chain, for the files that work on it.
 *
 *   segments at (first_ + i) % capacity_, 0 <= i < count_ <= capacity_, a power of two
 *   length_ = sum of their lengths; none is empty
 *   capacity_ == BERTH_CHAIN_INLINE: they lie in inner_, else in outer_
 *
 * The ring is named by capacity_, not by a pointer into the structure, so that this may be moved.
 */
#ifndef BERTH_BUFFER_CHAIN_H
#define BERTH_BUFFER_CHAIN_H

#include "buffer/owner.h"

#include <berth/chain.h>

/* A slice of up to this many bytes is copied behind its neighbour rather than kept beside it, where
 * that needs no block, or the neighbour is as short. See docs/decisions/0014-buffers.md. */
enum { BERTH_COALESCE_MAX = 512 };

/* Blocks in which short ones are gathered have room for four times as much, and at least: */
enum { BERTH_GATHER_MIN = 512 };

BERTH_INLINE struct berth_slice *berth__chain_at(const struct berth_chain *chain, uint32_t index) {
    struct berth_chain *mutable_chain = (struct berth_chain *)(uintptr_t)chain;
    struct berth_slice *ring =
        chain->capacity_ == BERTH_CHAIN_INLINE ? mutable_chain->inner_ : chain->outer_;
    return &ring[(chain->first_ + index) & (chain->capacity_ - 1)];
}

BERTH_INLINE struct berth_slice *berth__chain_last(const struct berth_chain *chain) {
    return chain->count_ == 0 ? NULL : berth__chain_at(chain, chain->count_ - 1);
}

BERTH_INLINE bool berth__segment_is_file(const struct berth_slice *segment) {
    return (segment->flags_ & BERTH_SLICE_FILE) != 0;
}

/* Makes room for `needed` segments in all: 0 or -ENOMEM. */
BERTH_NOINLINE int berth__chain_grow(struct berth_chain *chain, size_t needed);

/* The same for `more` segments. */
BERTH_INLINE int berth__chain_reserve(struct berth_chain *chain, size_t more) {
    size_t needed = chain->count_ + more;
    return BERTH_LIKELY(needed <= chain->capacity_) ? 0 : berth__chain_grow(chain, needed);
}

/* Puts a segment at an end, where there is room; it takes the reference over. At the back, one that
 * goes on where its neighbour ends becomes a part of that. */
void berth__chain_push_back(struct berth_chain *chain, struct berth_slice segment);
void berth__chain_push_front(struct berth_chain *chain, struct berth_slice segment);

/* Takes a segment off an end, with its reference. There must be one. */
struct berth_slice berth__chain_pop_back(struct berth_chain *chain);
struct berth_slice berth__chain_pop_front(struct berth_chain *chain);

/* A reference to a part of a segment, which has it. */
struct berth_slice berth__segment_part(const struct berth_slice *segment, uint32_t offset,
                                       uint32_t length);

/* Drops the first bytes of a segment, fewer than it has. */
void berth__segment_advance(struct berth_slice *segment, uint32_t length);

/* Free bytes of the block behind a slice, that nobody else can see; likewise before it. */
size_t berth__segment_room_behind(const struct berth_slice *segment);
size_t berth__segment_room_before(const struct berth_slice *segment);

/* berth_chain_find in a chain and the bytes that follow it. */
int64_t berth__chain_find(const struct berth_chain *chain, const unsigned char *more,
                          size_t more_length, uint64_t from, const void *bytes, size_t count);

bool berth__chain_is_valid(const struct berth_chain *chain);

#endif
