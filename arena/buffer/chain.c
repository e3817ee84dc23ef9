/*
 * The ring of a chain: making room, putting in and taking out.
 */
#include "buffer/chain.h"

#include <errno.h>
#include <string.h>

void berth_chain_init(struct berth_chain *chain, berth_pool *pool) {
    chain->length_ = 0;
    chain->pool_ = pool;
    chain->outer_ = NULL;
    chain->first_ = 0;
    chain->count_ = 0;
    chain->capacity_ = BERTH_CHAIN_INLINE;
    chain->unused_ = 0;
}

void berth_chain_clear(struct berth_chain *chain) {
    while (chain->count_ > 0) {
        struct berth_slice segment = berth__chain_pop_front(chain);
        berth_slice_release(&segment);
    }
    if (chain->capacity_ != BERTH_CHAIN_INLINE) {
        berth_free(chain->outer_);
    }
    berth_chain_init(chain, chain->pool_);
}

int berth__chain_grow(struct berth_chain *chain, size_t needed) {
    enum { SEGMENTS_MAX = 1 << 30 };
    size_t capacity = chain->capacity_;
    if (capacity == 0) {
        berth__fatal("use of a chain that was not initialised: %p", (void *)chain);
    }
    while (capacity < needed && capacity < SEGMENTS_MAX) {
        capacity *= 2;
    }
    struct berth_slice *ring =
        capacity < needed ? NULL : berth_alloc(chain->pool_, capacity * sizeof(*ring));
    if (ring == NULL) {
        return capacity < needed ? -ENOMEM : berth__no_block();
    }
    for (uint32_t i = 0; i < chain->count_; i++) {
        ring[i] = *berth__chain_at(chain, i);
    }
    if (chain->capacity_ != BERTH_CHAIN_INLINE) {
        berth_free(chain->outer_);
    }
    chain->outer_ = ring;
    chain->first_ = 0;
    chain->capacity_ = (uint32_t)capacity;
    return 0;
}

/* ---- segments ---- */

/* True if a segment goes on where another ends. */
static bool continues(const struct berth_slice *one, const struct berth_slice *next) {
    return one->owner_ == next->owner_ && one->flags_ == next->flags_ &&
           one->data + one->length == next->data && next->length <= UINT32_MAX - one->length;
}

void berth__chain_push_back(struct berth_chain *chain, struct berth_slice segment) {
    struct berth_slice *last = berth__chain_last(chain);
    chain->length_ += segment.length;
    if (last != NULL && continues(last, &segment)) {
        berth__slice_resize(last, last->length + segment.length);
        berth_slice_release(&segment);
        return;
    }
    BERTH_ASSERT(chain->count_ < chain->capacity_);
    *berth__chain_at(chain, chain->count_) = segment;
    chain->count_++;
}

void berth__chain_push_front(struct berth_chain *chain, struct berth_slice segment) {
    BERTH_ASSERT(chain->count_ < chain->capacity_);
    chain->first_ = (chain->first_ - 1) & (chain->capacity_ - 1);
    *berth__chain_at(chain, 0) = segment;
    chain->count_++;
    chain->length_ += segment.length;
}

struct berth_slice berth__chain_pop_back(struct berth_chain *chain) {
    struct berth_slice segment = *berth__chain_at(chain, chain->count_ - 1);
    chain->count_--;
    chain->length_ -= segment.length;
    return segment;
}

struct berth_slice berth__chain_pop_front(struct berth_chain *chain) {
    struct berth_slice segment = *berth__chain_at(chain, 0);
    chain->first_ = (chain->first_ + 1) & (chain->capacity_ - 1);
    chain->count_--;
    chain->length_ -= segment.length;
    return segment;
}

/* An offset in a file advances like a pointer does. */
void berth__segment_advance(struct berth_slice *segment, uint32_t length) {
    segment->data = (const unsigned char *)((uintptr_t)segment->data + length);
    berth__slice_resize(segment, segment->length - length);
}

struct berth_slice berth__segment_part(const struct berth_slice *segment, uint32_t offset,
                                       uint32_t length) {
    struct berth_slice part = berth_slice_retain(segment);
    berth__segment_advance(&part, offset);
    berth__slice_resize(&part, length);
    return part;
}

/* The owner of a segment whose block's other bytes may be used, or NULL. */
static struct berth_owner *spare_block(const struct berth_slice *segment) {
    struct berth_owner *owner = berth__slice_owner(segment);
    bool spare = owner != NULL && segment->flags_ == 0 && owner->kind == BERTH_OWNER_BLOCK &&
                 berth__owner_may_write(owner);
    return spare ? owner : NULL;
}

size_t berth__segment_room_behind(const struct berth_slice *segment) {
    const struct berth_owner *owner = spare_block(segment);
    return owner == NULL ? 0
                         : owner->bytes - (size_t)(segment->data - owner->memory) - segment->length;
}

size_t berth__segment_room_before(const struct berth_slice *segment) {
    const struct berth_owner *owner = spare_block(segment);
    return owner == NULL ? 0 : (size_t)(segment->data - owner->memory);
}

bool berth__chain_is_valid(const struct berth_chain *chain) {
    uint64_t length = 0;
    for (uint32_t i = 0; i < chain->count_; i++) {
        const struct berth_slice *segment = berth__chain_at(chain, i);
        if (segment->length == 0 || (segment->flags_ & BERTH_SLICE_PINNED) != 0) {
            return false;
        }
        length += segment->length;
    }
    return length == chain->length_ && chain->count_ <= chain->capacity_;
}
