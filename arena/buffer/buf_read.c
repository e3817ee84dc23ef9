/*
 * Reading buffers, and handing on what they hold.
 *
 * While a buffer has but its block, which is the usual case, these work on the block; else on the
 * chain, into which the block's bytes are gathered first where they may be concerned.
 */
#include "buffer/buf.h"
#include "buffer/search.h"

#include "base/bits.h"

#include <errno.h>
#include <string.h>

/* The chain is to have the first `bytes` bytes: 0, or -ENOMEM. */
static int into_chain(struct berth_buf *buf, uint64_t bytes) {
    return bytes <= buf->front_.length_ ? 0 : berth__buf_gather(buf);
}

int berth_buf_consume(struct berth_buf *buf, uint64_t bytes) {
    if (bytes > berth_buf_length(buf)) {
        return -ERANGE;
    }
    uint64_t chained = bytes < buf->front_.length_ ? bytes : buf->front_.length_;
    if (BERTH_UNLIKELY(chained > 0)) {
        (void)berth_chain_consume(&buf->front_, chained);
    }
    buf->read_ += (uint32_t)(bytes - chained);
    return 0;
}

/* The part of the block's bytes that begins at `offset` of the readable ones. */
static void copy_from_block(const struct berth_buf *buf, uint64_t offset, void *to, size_t bytes) {
    if (bytes > 0) {
        memcpy(to, buf->memory_ + buf->read_ + offset, bytes);
    }
}

int berth_buf_copy_out(const struct berth_buf *buf, uint64_t offset, void *to, size_t bytes) {
    uint64_t length = berth_buf_length(buf);
    if (offset > length || bytes > length - offset) {
        return -ERANGE;
    }
    uint64_t chained = buf->front_.length_;
    if (BERTH_LIKELY(offset >= chained)) {
        copy_from_block(buf, offset - chained, to, bytes);
        return 0;
    }
    size_t part = (size_t)(bytes < chained - offset ? bytes : chained - offset);
    int error = berth_chain_copy_out(&buf->front_, offset, to, part);
    if (error == 0) {
        copy_from_block(buf, 0, (char *)to + part, bytes - part);
    }
    return error;
}

int berth_buf_read(struct berth_buf *buf, void *to, size_t bytes) {
    int error = berth_buf_copy_out(buf, 0, to, bytes);
    return error != 0 ? error : berth_buf_consume(buf, bytes);
}

const void *berth_buf_peek(const struct berth_buf *buf, size_t *bytes) {
    if (buf->front_.count_ > 0) {
        const struct berth_slice *first = berth__chain_at(&buf->front_, 0);
        *bytes = first->length;
        return first->data;
    }
    *bytes = berth__buf_in_block(buf);
    return *bytes == 0 ? NULL : buf->memory_ + buf->read_;
}

const void *berth_buf_linearise(struct berth_buf *buf, size_t bytes) {
    int error = bytes > berth_buf_length(buf) ? -ERANGE : 0;
    if (error == 0 && buf->front_.count_ == 0) {
        return buf->memory_ == NULL ? "" : (const void *)(buf->memory_ + buf->read_);
    }
    error = error != 0 ? error : into_chain(buf, bytes);
    if (error != 0) {
        errno = -error;
        return NULL;
    }
    return berth_chain_linearise(&buf->front_, bytes);
}

/* A slice of the first bytes, all of which are in the block. */
static struct berth_slice cut_from_block(struct berth_buf *buf, size_t bytes) {
    berth__owner_retain(buf->owner_, bytes);
    struct berth_slice slice = berth__owner_slice(buf->owner_, buf->read_, bytes);
    buf->read_ += (uint32_t)bytes;
    buf->floor_ = buf->read_;
    return slice;
}

int berth_buf_take(struct berth_buf *buf, uint64_t bytes, struct berth_chain *to) {
    if (bytes > berth_buf_length(buf)) {
        return -ERANGE;
    }
    if (bytes == 0) {
        return 0;
    }
    if (buf->front_.count_ > 0) {
        int error = into_chain(buf, bytes);
        return error != 0 ? error : berth_chain_split(&buf->front_, bytes, to);
    }
    int error = berth__chain_reserve(to, 1);
    if (error == 0) {
        berth__chain_push_back(to, cut_from_block(buf, (size_t)bytes));
    }
    return error;
}

int berth_buf_take_slice(struct berth_buf *buf, size_t bytes, struct berth_slice *slice) {
    *slice = (struct berth_slice)BERTH_SLICE_EMPTY;
    if (bytes > berth_buf_length(buf)) {
        return -ERANGE;
    }
    if (bytes == 0) {
        return 0;
    }
    if (buf->front_.count_ == 0) {
        *slice = cut_from_block(buf, bytes);
        return 0;
    }
    if (berth_buf_linearise(buf, bytes) == NULL) {
        return -errno;
    }
    int error = berth_slice_sub(berth__chain_at(&buf->front_, 0), 0, bytes, slice);
    return error != 0 ? error : berth_chain_consume(&buf->front_, bytes);
}

/* ---- writing over ---- */

/* Whether bytes [offset, offset + bytes) of the chain may be written: 0 or -errno. With data, they
 * are. */
static int write_chained(struct berth_chain *chain, uint64_t offset, const unsigned char *data,
                         size_t bytes) {
    for (uint32_t i = 0; bytes > 0; i++) {
        struct berth_slice *segment = berth__chain_at(chain, i);
        if (offset >= segment->length) {
            offset -= segment->length;
            continue;
        }
        unsigned char *at = berth_slice_try_write(segment);
        if (at == NULL) {
            return -errno;
        }
        size_t part = berth__min(segment->length - (size_t)offset, bytes);
        if (data != NULL) {
            memcpy(at + offset, data, part);
            data += part;
        }
        bytes -= part;
        offset = 0;
    }
    return 0;
}

int berth_buf_overwrite(struct berth_buf *buf, uint64_t offset, const void *data, size_t bytes) {
    uint64_t length = berth_buf_length(buf);
    if (offset > length || bytes > length - offset) {
        return -ERANGE;
    }
    if (bytes == 0) {
        return 0;
    }
    berth__buf_scatter(buf);
    uint64_t chained = buf->front_.length_;
    size_t in_chain = offset >= chained ? 0 : (size_t)berth__min(bytes, (size_t)(chained - offset));
    size_t in_block = bytes - in_chain;
    int error = write_chained(&buf->front_, offset, NULL, in_chain);
    if (error == 0 && in_block > 0 && !berth__owner_may_write(buf->owner_)) {
        error = -EBUSY;
    }
    if (error != 0) {
        return error;
    }
    (void)write_chained(&buf->front_, offset, data, in_chain);
    if (in_block > 0) {
        size_t at = in_chain > 0 ? 0 : (size_t)(offset - chained);
        memcpy(buf->memory_ + buf->read_ + at, (const char *)data + in_chain, in_block);
    }
    return 0;
}

/* ---- searching, comparing ---- */

int64_t berth_buf_find(const struct berth_buf *buf, uint64_t from, const void *bytes,
                       size_t count) {
    size_t in_block = berth__buf_in_block(buf);
    const unsigned char *block = in_block == 0 ? NULL : buf->memory_ + buf->read_;
    return berth__chain_find(&buf->front_, block, in_block, from, bytes, count);
}

int berth_buf_compare(const struct berth_buf *buf, const void *data, size_t bytes) {
    const char *other = data;
    for (uint32_t i = 0; i < buf->front_.count_; i++) {
        const struct berth_slice *segment = berth__chain_at(&buf->front_, i);
        size_t part = berth__min(segment->length, bytes);
        int order = berth__bytes_compare(segment->data, segment->length, other, part);
        if (order != 0) {
            return order;
        }
        other += part;
        bytes -= part;
    }
    size_t in_block = berth__buf_in_block(buf);
    return berth__bytes_compare(in_block == 0 ? NULL : buf->memory_ + buf->read_, in_block, other,
                                bytes);
}

/* ---- what a buffer keeps ---- */

uint64_t berth_buf_retained(const struct berth_buf *buf) {
    const struct berth_slice *last = berth__chain_last(&buf->front_);
    bool counted = buf->owner_ == NULL || (last != NULL && last->owner_ == buf->owner_);
    return berth_chain_retained(&buf->front_) + (counted ? 0 : buf->owner_->bytes);
}

int berth_buf_compact(struct berth_buf *buf, unsigned factor) {
    uint64_t length = berth_buf_length(buf);
    uint64_t kept = berth_buf_retained(buf);
    if (length > BERTH_SLICE_MAX) {
        return -EMSGSIZE;
    }
    bool wasteful = kept > berth_good_size((size_t)length) && kept > length * factor;
    if (kept == 0 || (length > 0 && !wasteful)) {
        return 0;
    }
    struct berth_owner *owner = NULL;
    if (length > 0) {
        owner = berth__owner_alloc(buf->front_.pool_, (size_t)length);
        if (owner == NULL) {
            return berth__no_block();
        }
        (void)berth_buf_copy_out(buf, 0, owner->memory, (size_t)length);
    }
    berth__buf_drop_block(buf);
    berth_chain_clear(&buf->front_);
    if (owner != NULL) {
        buf->owner_ = owner;
        buf->memory_ = owner->memory;
        buf->write_ = buf->capacity_ = (uint32_t)length;
        (void)berth__owner_made(owner, BERTH_CALLER);
    }
    return 1;
}
