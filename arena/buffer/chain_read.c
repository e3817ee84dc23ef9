/*
 * Reading chains: consuming, copying, making contiguous, handing to the kernel.
 */
#include "buffer/chain.h"

#include "base/bits.h"

#include <errno.h>
#include <string.h>

int berth_chain_consume(struct berth_chain *chain, uint64_t length) {
    if (length > chain->length_) {
        return -ERANGE;
    }
    while (length > 0) {
        struct berth_slice *first = berth__chain_at(chain, 0);
        if (first->length > length) {
            berth__segment_advance(first, (uint32_t)length);
            chain->length_ -= length;
            return 0;
        }
        length -= first->length;
        struct berth_slice segment = berth__chain_pop_front(chain);
        berth_slice_release(&segment);
    }
    return 0;
}

int berth_chain_take_slice(struct berth_chain *chain, struct berth_slice *slice) {
    *slice = (struct berth_slice)BERTH_SLICE_EMPTY;
    if (chain->count_ == 0) {
        return -ERANGE;
    }
    const struct berth_slice *first = berth__chain_at(chain, 0);
    (void)berth__slice_owner(first);
    if (berth__segment_is_file(first)) {
        return -ENOTSUP;
    }
    *slice = berth__chain_pop_front(chain);
    return 0;
}

int berth_chain_copy_out(const struct berth_chain *chain, uint64_t offset, void *to,
                         size_t length) {
    if (offset > chain->length_ || length > chain->length_ - offset) {
        return -ERANGE;
    }
    unsigned char *at = to;
    for (uint32_t i = 0; length > 0; i++) {
        const struct berth_slice *segment = berth__chain_at(chain, i);
        if (offset >= segment->length) {
            offset -= segment->length;
            continue;
        }
        if (berth__segment_is_file(segment)) {
            return -ENOTSUP;
        }
        (void)berth__slice_owner(segment);
        size_t part = berth__min(segment->length - (size_t)offset, length);
        memcpy(at, segment->data + offset, part);
        at += part;
        length -= part;
        offset = 0;
    }
    return 0;
}

/* Puts one block in the place of the first `length` bytes, of which no segment has all. So a
 * segment goes, and there is room for one. */
static int replace_front(struct berth_chain *chain, size_t length, void *site) {
    struct berth_slice block;
    int error = berth__slice_alloc(chain->pool_, length, &block, site);
    if (error != 0) {
        return error;
    }
    error = berth_chain_copy_out(chain, 0, block.owner_->memory, length);
    if (error != 0) {
        berth_slice_release(&block);
        return error;
    }
    (void)berth_chain_consume(chain, length);
    berth__chain_push_front(chain, block);
    return 0;
}

const void *berth_chain_linearise(struct berth_chain *chain, size_t length) {
    int error = length > chain->length_ ? -ERANGE : 0;
    const struct berth_slice *first = berth__chain_at(chain, 0);
    if (error == 0 && length == 0) {
        return "";
    }
    if (error == 0 && berth__segment_is_file(first)) {
        error = -ENOTSUP;
    }
    if (error == 0 && first->length < length) {
        error = replace_front(chain, length, BERTH_CALLER);
    }
    if (error != 0) {
        errno = -error;
        return NULL;
    }
    first = berth__chain_at(chain, 0);
    (void)berth__slice_owner(first);
    return first->data;
}

unsigned berth_chain_iovec(const struct berth_chain *chain, struct iovec *entries, unsigned most) {
    unsigned bound = most < BERTH_CHAIN_IOVEC_MAX ? most : BERTH_CHAIN_IOVEC_MAX;
    unsigned count = 0;
    for (; count < bound && count < chain->count_; count++) {
        const struct berth_slice *segment = berth__chain_at(chain, count);
        if (berth__segment_is_file(segment)) {
            break;
        }
        (void)berth__slice_owner(segment);
        entries[count].iov_base = (void *)(uintptr_t)segment->data;
        entries[count].iov_len = segment->length;
    }
    return count;
}

int berth_chain_segment(const struct berth_chain *chain, size_t index,
                        struct berth_segment *segment) {
    if (index >= chain->count_) {
        return -ERANGE;
    }
    const struct berth_slice *at = berth__chain_at(chain, (uint32_t)index);
    bool file = berth__segment_is_file(at);
    struct berth_owner *owner = berth__slice_owner(at);
    segment->data = file ? NULL : at->data;
    segment->length = at->length;
    segment->fd = file ? (int)owner->fd : -1;
    segment->offset = file ? (int64_t)(uintptr_t)at->data : 0;
    return 0;
}

/* ---- what a chain keeps ---- */

uint64_t berth_chain_retained(const struct berth_chain *chain) {
    uint64_t bytes = 0;
    const struct berth_owner *before = NULL;
    for (uint32_t i = 0; i < chain->count_; i++) {
        const struct berth_slice *segment = berth__chain_at(chain, i);
        bytes += segment->owner_ == before ? 0 : berth_slice_retained(segment);
        before = segment->owner_;
    }
    return bytes;
}

int berth_chain_compact(struct berth_chain *chain, unsigned factor) {
    int copied = 0;
    for (uint32_t i = 0; i < chain->count_; i++) {
        struct berth_slice *segment = berth__chain_at(chain, i);
        int result = berth__segment_is_file(segment)
                         ? 0
                         : berth_slice_compact(chain->pool_, segment, factor);
        if (result < 0) {
            return result;
        }
        copied += result;
    }
    return copied;
}
