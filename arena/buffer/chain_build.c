/*
 * Putting things into chains.
 *
 * A reservation comes first, so that a call that fails has changed nothing.
 */
#include "buffer/chain.h"

#include "base/bits.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static const struct berth_slice empty = BERTH_SLICE_EMPTY;

/* Bytes of a block in which so many are gathered. */
static size_t gather_bytes(size_t bytes) {
    return berth__max(4 * bytes, BERTH_GATHER_MIN);
}

/* Copies bytes behind the segment, into room that was found there. */
static void grow_behind(struct berth_chain *chain, struct berth_slice *segment, const void *data,
                        uint32_t length) {
    memcpy((unsigned char *)(uintptr_t)segment->data + segment->length, data, length);
    berth__slice_resize(segment, segment->length + length);
    chain->length_ += length;
}

/* Gathers the last segment and what is to follow in a new block, with room for more; false if they
 * are not both short, or there is no memory. */
static bool gather(struct berth_chain *chain, struct berth_slice *last,
                   const struct berth_slice *next, void *site) {
    if (last->length > BERTH_COALESCE_MAX || (last->flags_ & ~BERTH_SLICE_READ_ONLY) != 0) {
        return false;
    }
    size_t both = (size_t)last->length + next->length;
    struct berth_slice block;
    if (berth__slice_alloc(chain->pool_, gather_bytes(both), &block, site) != 0) {
        return false;
    }
    memcpy(block.owner_->memory, last->data, last->length);
    berth__slice_resize(&block, last->length);
    berth_slice_release(last);
    *last = block;
    grow_behind(chain, last, next->data, next->length);
    return true;
}

/* Puts a short slice into its neighbour. */
static bool coalesce(struct berth_chain *chain, const struct berth_slice *slice, void *site) {
    struct berth_slice *last = berth__chain_last(chain);
    if (last == NULL || slice->length > BERTH_COALESCE_MAX) {
        return false;
    }
    if (berth__segment_room_behind(last) >= slice->length) {
        grow_behind(chain, last, slice->data, slice->length);
        return true;
    }
    return gather(chain, last, slice, site);
}

static bool is_pinned(const struct berth_slice *slice) {
    return (slice->flags_ & BERTH_SLICE_PINNED) != 0;
}

/* True if the slice goes on where the chain's last one ends: no need to copy it. */
static bool is_next(const struct berth_slice *last, const struct berth_slice *slice) {
    return last->owner_ == slice->owner_ && last->data + last->length == slice->data;
}

/* For a slice that may become a part of the last one. */
static BERTH_NOINLINE int join(struct berth_chain *chain, struct berth_slice *slice, void *site) {
    if (slice->length == 0 ||
        (!is_next(berth__chain_last(chain), slice) && coalesce(chain, slice, site))) {
        berth_slice_release(slice);
        return 0;
    }
    int error = berth__chain_reserve(chain, 1);
    if (error == 0) {
        berth__chain_push_back(chain, *slice);
        *slice = empty;
    }
    return error;
}

int berth_chain_append(struct berth_chain *chain, struct berth_slice *slice) {
    (void)berth__slice_owner(slice);
    if (is_pinned(slice)) {
        return -EINVAL;
    }
    const struct berth_slice *last = berth__chain_last(chain);
    if (slice->length == 0 ||
        (last != NULL && (slice->length <= BERTH_COALESCE_MAX || is_next(last, slice)))) {
        return join(chain, slice, BERTH_CALLER);
    }
    int error = berth__chain_reserve(chain, 1);
    if (BERTH_LIKELY(error == 0)) {
        *berth__chain_at(chain, chain->count_) = *slice;
        chain->count_++;
        chain->length_ += slice->length;
        *slice = empty;
    }
    return error;
}

int berth_chain_prepend(struct berth_chain *chain, struct berth_slice *slice) {
    (void)berth__slice_owner(slice);
    if (is_pinned(slice)) {
        return -EINVAL;
    }
    if (slice->length == 0) {
        berth_slice_release(slice);
        return 0;
    }
    int error = berth__chain_reserve(chain, 1);
    if (error == 0) {
        berth__chain_push_front(chain, *slice);
        *slice = empty;
    }
    return error;
}

/* A new block for bytes, with room for more if they are few, before or behind them. */
static int block_for(const struct berth_chain *chain, const void *data, size_t length,
                     bool at_the_end, struct berth_slice *block, void *site) {
    size_t bytes = length <= BERTH_COALESCE_MAX ? gather_bytes(length) : length;
    int error = berth__slice_alloc(chain->pool_, bytes, block, site);
    if (error == 0) {
        block->data += at_the_end ? bytes - length : 0;
        berth__slice_resize(block, (uint32_t)length);
        memcpy((unsigned char *)(uintptr_t)block->data, data, length);
    }
    return error;
}

int berth_chain_append_bytes(struct berth_chain *chain, const void *data, size_t length) {
    if (length == 0) {
        return 0;
    }
    struct berth_slice *last = berth__chain_last(chain);
    size_t room = last == NULL ? 0 : berth__segment_room_behind(last);
    uint32_t fits = (uint32_t)berth__min(room, length);
    if (fits < length) {
        struct berth_slice rest;
        int error = berth__chain_reserve(chain, 1);
        error = error != 0 ? error
                           : block_for(chain, (const char *)data + fits, length - fits, false,
                                       &rest, BERTH_CALLER);
        if (error != 0) {
            return error;
        }
        last = berth__chain_last(chain); /* the ring may have moved */
        if (fits > 0) {
            grow_behind(chain, last, data, fits);
        }
        berth__chain_push_back(chain, rest);
    } else {
        grow_behind(chain, last, data, fits);
    }
    return 0;
}

int berth_chain_prepend_bytes(struct berth_chain *chain, const void *data, size_t length) {
    if (length == 0) {
        return 0;
    }
    struct berth_slice *first = chain->count_ == 0 ? NULL : berth__chain_at(chain, 0);
    if (first != NULL && berth__segment_room_before(first) >= length &&
        length <= UINT32_MAX - first->length) {
        first->data -= length;
        berth__slice_resize(first, first->length + (uint32_t)length);
        chain->length_ += length;
        memcpy((unsigned char *)(uintptr_t)first->data, data, length);
        return 0;
    }
    struct berth_slice block;
    int error = berth__chain_reserve(chain, 1);
    error = error != 0 ? error : block_for(chain, data, length, true, &block, BERTH_CALLER);
    if (error == 0) {
        berth__chain_push_front(chain, block);
    }
    return error;
}

int berth_chain_append_chain(struct berth_chain *chain, struct berth_chain *from) {
    if (chain == from) {
        return -EINVAL;
    }
    int error = berth__chain_reserve(chain, from->count_);
    while (error == 0 && from->count_ > 0) {
        berth__chain_push_back(chain, berth__chain_pop_front(from));
    }
    return error;
}

int berth_chain_append_file(struct berth_chain *chain, int fd, int64_t offset, uint64_t length,
                            bool close_it) {
    if (fd < 0 || offset < 0 || length > (uint64_t)INT64_MAX - (uint64_t)offset) {
        return -EINVAL;
    }
    size_t pieces = (size_t)((length + BERTH_SLICE_MAX - 1) / BERTH_SLICE_MAX);
    int error = berth__chain_reserve(chain, pieces);
    struct berth_owner *owner =
        error != 0
            ? NULL
            : berth__owner_new(chain->pool_,
                               close_it ? BERTH_OWNER_FILE_TO_CLOSE : BERTH_OWNER_FILE, NULL, 0);
    if (owner == NULL) {
        return error != 0 ? error : berth__no_block();
    }
    owner->fd = fd;
    (void)berth__owner_made(owner, BERTH_CALLER);
    struct berth_slice region = {.data = (const unsigned char *)(uintptr_t)offset,
                                 .owner_ = owner,
                                 .generation_ = owner->generation,
                                 .flags_ = BERTH_SLICE_FILE};
    for (uint64_t left = length; left > 0; left -= region.length) {
        region.length = (uint32_t)(left < BERTH_SLICE_MAX ? left : BERTH_SLICE_MAX);
        berth__chain_push_back(chain, berth_slice_retain(&region));
        region.data = (const unsigned char *)((uintptr_t)region.data + region.length);
    }
    berth_slice_release(&region);
    return 0;
}

/* Puts references to a part of a chain at the end of another, where there is room for them. */
static void push_parts(const struct berth_chain *chain, uint64_t offset, uint64_t length,
                       struct berth_chain *to) {
    for (uint32_t i = 0; length > 0; i++) {
        const struct berth_slice *segment = berth__chain_at(chain, i);
        if (offset >= segment->length) {
            offset -= segment->length;
            continue;
        }
        uint64_t left = segment->length - offset;
        uint32_t part = (uint32_t)(left < length ? left : length);
        berth__chain_push_back(to, berth__segment_part(segment, (uint32_t)offset, part));
        length -= part;
        offset = 0;
    }
}

/* How many segments bytes [offset, offset + length) touch. */
static size_t segments_of(const struct berth_chain *chain, uint64_t offset, uint64_t length) {
    size_t touched = 0;
    uint64_t at = 0;
    for (uint32_t i = 0; i < chain->count_ && at < offset + length; i++) {
        at += berth__chain_at(chain, i)->length;
        touched += at > offset;
    }
    return touched;
}

int berth_chain_share(const struct berth_chain *chain, uint64_t offset, uint64_t length,
                      struct berth_chain *to) {
    if (chain == to) {
        return -EINVAL;
    }
    if (offset > chain->length_ || length > chain->length_ - offset) {
        return -ERANGE;
    }
    int error = berth__chain_reserve(to, segments_of(chain, offset, length));
    if (error == 0) {
        push_parts(chain, offset, length, to);
    }
    return error;
}

int berth_chain_split(struct berth_chain *chain, uint64_t length, struct berth_chain *front) {
    if (chain == front) {
        return -EINVAL;
    }
    if (length > chain->length_) {
        return -ERANGE;
    }
    int error = berth__chain_reserve(front, segments_of(chain, 0, length));
    if (error != 0) {
        return error;
    }
    while (length > 0 && berth__chain_at(chain, 0)->length <= length) {
        struct berth_slice segment = berth__chain_pop_front(chain);
        length -= segment.length;
        berth__chain_push_back(front, segment);
    }
    if (length > 0) {
        struct berth_slice *segment = berth__chain_at(chain, 0);
        berth__chain_push_back(front, berth__segment_part(segment, 0, (uint32_t)length));
        berth__segment_advance(segment, (uint32_t)length);
        chain->length_ -= length;
    }
    return 0;
}
