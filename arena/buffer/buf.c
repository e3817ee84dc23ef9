/*
 * Buffers: the block that is written, and what becomes of it when it is full.
 */
#include "buffer/buf.h"

#include "base/bits.h"

#include <errno.h>
#include <string.h>

enum { HEAD_ROOM_MAX = 65536, CAPACITY_MIN = 64, CAPACITY_STEP = 4 << 20 };

/* ---- beginning and end ---- */

static void forget_block(struct berth_buf *buf) {
    buf->owner_ = NULL;
    buf->memory_ = NULL;
    buf->read_ = buf->write_ = buf->capacity_ = buf->floor_ = 0;
}

void berth_buf_init(struct berth_buf *buf, berth_pool *pool, size_t capacity, uint64_t length_max) {
    forget_block(buf);
    buf->head_room_ = 0;
    buf->length_max_ = length_max == 0 ? UINT64_MAX : length_max;
    size_t capacity_max = buf->length_max_ < BERTH_SLICE_MAX ? (size_t)length_max : BERTH_SLICE_MAX;
    buf->first_capacity_ = (uint32_t)berth__min(capacity, capacity_max);
    berth_chain_init(&buf->front_, pool);
}

void berth__buf_drop_block(struct berth_buf *buf) {
    struct berth_owner *owner = buf->owner_;
    forget_block(buf);
    if (owner != NULL) {
        berth__owner_release(owner, owner->bytes);
    }
}

void berth_buf_clear(struct berth_buf *buf) {
    berth__buf_drop_block(buf);
    berth_chain_clear(&buf->front_);
    buf->first_capacity_ = 0;
}

int berth_buf_set_head_room(struct berth_buf *buf, size_t bytes) {
    if (bytes > HEAD_ROOM_MAX) {
        return -EMSGSIZE;
    }
    buf->head_room_ = (uint32_t)bytes;
    return 0;
}

/* ---- between the block and the chain ---- */

int berth__buf_gather(struct berth_buf *buf) {
    size_t bytes = berth__buf_in_block(buf);
    if (bytes == 0) {
        return 0;
    }
    int error = berth__chain_reserve(&buf->front_, 1);
    if (error == 0) {
        berth__owner_retain(buf->owner_, bytes);
        berth__chain_push_back(&buf->front_, berth__owner_slice(buf->owner_, buf->read_, bytes));
        buf->read_ = buf->floor_ = buf->write_;
    }
    return error;
}

void berth__buf_scatter(struct berth_buf *buf) {
    const struct berth_slice *last = berth__chain_last(&buf->front_);
    if (last != NULL && buf->owner_ != NULL && last->owner_ == buf->owner_ &&
        last->data + last->length == buf->memory_ + buf->read_) {
        struct berth_slice back = berth__chain_pop_back(&buf->front_);
        buf->read_ -= back.length;
        buf->floor_ = (uint32_t)berth__min(buf->floor_, buf->read_);
        berth_slice_release(&back);
    }
}

/* ---- room ---- */

/* A buffer of zeros has a bound of 0. */
static BERTH_NOINLINE int beyond_bound(const struct berth_buf *buf) {
    if (buf->front_.capacity_ == 0) {
        berth__fatal("use of a buffer that was not initialised: %p", (const void *)buf);
    }
    return -EMSGSIZE;
}

/* All the bytes that blocks should have when `needed` are wanted: Netty's rule. */
static uint64_t capacity_for(uint64_t needed, uint64_t most) {
    uint64_t capacity = CAPACITY_MIN;
    if (needed > CAPACITY_STEP) {
        capacity = (needed + CAPACITY_STEP - 1) / CAPACITY_STEP * CAPACITY_STEP;
    } else {
        while (capacity < needed) {
            capacity *= 2;
        }
    }
    return capacity < most ? capacity : most;
}

/* What was read makes room: of an empty block all of it, else by moving what is readable, if it is
 * not more than what was read. True if there are `bytes` bytes of room then. The block is the
 * buffer's alone. */
static bool reuse_front(struct berth_buf *buf, size_t bytes) {
    uint32_t start = (uint32_t)berth__min(buf->head_room_, buf->read_);
    size_t readable = berth__buf_in_block(buf);
    if (buf->capacity_ - start - readable < bytes || readable > buf->read_ - start) {
        return false;
    }
    if (readable > 0) {
        unsigned char *block = buf->owner_->memory;
        memmove(block + start, block + buf->read_, readable);
    }
    buf->read_ = start;
    buf->write_ = start + (uint32_t)readable;
    buf->floor_ = 0;
    return true;
}

/* Lengthens the block where it lies: to what the buffer would like, or at least as much as is
 * needed. The block is the buffer's alone. */
static bool extend(struct berth_buf *buf, size_t bytes) {
    uint64_t needed = (uint64_t)buf->write_ + bytes;
    uint64_t wish = capacity_for(needed, BERTH_SLICE_MAX);
    if (needed > BERTH_SLICE_MAX ||
        !(berth_extend(buf->memory_, (size_t)wish) || berth_extend(buf->memory_, (size_t)needed))) {
        return false;
    }
    buf->owner_->bytes = berth__min(berth_usable_size(buf->memory_), BERTH_SLICE_MAX);
    buf->capacity_ = (uint32_t)buf->owner_->bytes;
    return true;
}

/* Bytes of the next block, which is to begin with head room and `carried` bytes and have room for
 * `bytes` more. */
static uint64_t next_block_bytes(const struct berth_buf *buf, size_t carried, size_t bytes) {
    uint64_t least = (uint64_t)buf->head_room_ + carried + bytes;
    uint64_t chained = berth_buf_length(buf) - carried;
    uint64_t most = buf->length_max_ > UINT64_MAX - buf->head_room_
                        ? UINT64_MAX
                        : buf->length_max_ + buf->head_room_;
    uint64_t wish = capacity_for(chained + least, most) - chained;
    uint64_t first = (uint64_t)buf->head_room_ + buf->first_capacity_;
    wish = buf->owner_ == NULL && first > buf->head_room_ && first >= least ? first : wish;
    return wish < least ? least : wish > BERTH_SLICE_MAX ? BERTH_SLICE_MAX : wish;
}

/* Goes on in a new block. Unread bytes of the old one are carried over if they are few, else they
 * become a slice, which takes the buffer's reference. */
static int next_block(struct berth_buf *buf, size_t bytes, void *site) {
    size_t readable = berth__buf_in_block(buf);
    size_t carried = readable <= BERTH_CARRY_MAX ? readable : 0;
    BERTH_ASSERT(readable == 0 || (buf->owner_ != NULL && buf->memory_ != NULL));
    uint64_t block_bytes = next_block_bytes(buf, carried, bytes);
    if (block_bytes > BERTH_SLICE_MAX) {
        return -EMSGSIZE;
    }
    int error = berth__chain_reserve(&buf->front_, 1);
    struct berth_owner *owner =
        error == 0 ? berth__owner_alloc(buf->front_.pool_, (size_t)block_bytes) : NULL;
    if (owner == NULL) {
        return error != 0 ? error : berth__no_block();
    }
    if (carried > 0) {
        memcpy(owner->memory + buf->head_room_, buf->memory_ + buf->read_, carried);
    }
    if (carried == readable) {
        berth__buf_drop_block(buf);
    } else {
        struct berth_slice rest = berth__owner_slice(buf->owner_, 0, buf->owner_->bytes);
        rest.data += buf->read_;
        berth__slice_resize(&rest, (uint32_t)readable);
        berth__chain_push_back(&buf->front_, rest);
    }
    buf->owner_ = owner;
    buf->memory_ = owner->memory;
    buf->capacity_ = (uint32_t)block_bytes;
    buf->read_ = buf->head_room_;
    buf->write_ = buf->head_room_ + (uint32_t)carried;
    buf->floor_ = 0;
    return berth__owner_made(owner, site);
}

static BERTH_NOINLINE int make_room(struct berth_buf *buf, size_t bytes, void *site) {
    if (bytes > BERTH_SLICE_MAX) {
        return -EMSGSIZE;
    }
    if (buf->owner_ != NULL) {
        berth__buf_scatter(buf);
        if (berth__owner_may_write(buf->owner_) &&
            (reuse_front(buf, bytes) || extend(buf, bytes))) {
            return 0;
        }
    }
    return next_block(buf, bytes, site);
}

/* 0 when there is room for `bytes` more. */
BERTH_INLINE int ensure(struct berth_buf *buf, size_t bytes) {
    uint64_t length = berth_buf_length(buf);
    if (BERTH_UNLIKELY(bytes > buf->length_max_ || length > buf->length_max_ - bytes)) {
        return beyond_bound(buf);
    }
    berth__buf_rewind(buf);
    bool fits = buf->memory_ != NULL && bytes <= buf->capacity_ - buf->write_;
    return BERTH_LIKELY(fits) ? 0 : make_room(buf, bytes, BERTH_CALLER);
}

/* ---- writing ---- */

void *berth_buf_reserve(struct berth_buf *buf, size_t bytes) {
    int error = ensure(buf, bytes);
    if (error != 0) {
        errno = -error;
        return NULL;
    }
    return buf->memory_ + buf->write_;
}

void berth_buf_commit(struct berth_buf *buf, size_t bytes) {
    if (BERTH_UNLIKELY(bytes > buf->capacity_ - buf->write_)) {
        berth__fatal("commit of %zu bytes to a buffer with room for %zu", bytes,
                     (size_t)(buf->capacity_ - buf->write_));
    }
    buf->write_ += (uint32_t)bytes;
}

int berth_buf_append(struct berth_buf *buf, const void *data, size_t bytes) {
    int error = bytes == 0 ? 0 : ensure(buf, bytes);
    if (error == 0 && bytes > 0) {
        memcpy(buf->memory_ + buf->write_, data, bytes);
        buf->write_ += (uint32_t)bytes;
    }
    return error;
}

/* Into the block, if its readable bytes are the first and there is head room that nobody sees. */
static bool prepend_in_block(struct berth_buf *buf, const void *data, size_t bytes) {
    if (buf->front_.count_ > 0 || buf->owner_ == NULL) {
        return false;
    }
    if (berth__owner_may_write(buf->owner_)) {
        buf->floor_ = 0;
    }
    if (buf->read_ - buf->floor_ < bytes) {
        return false;
    }
    buf->read_ -= (uint32_t)bytes;
    memcpy(buf->memory_ + buf->read_, data, bytes);
    return true;
}

int berth_buf_prepend(struct berth_buf *buf, const void *data, size_t bytes) {
    if (bytes > buf->length_max_ || berth_buf_length(buf) > buf->length_max_ - bytes) {
        return beyond_bound(buf);
    }
    if (bytes == 0 || prepend_in_block(buf, data, bytes)) {
        return 0;
    }
    int error = berth__buf_gather(buf);
    return error != 0 ? error : berth_chain_prepend_bytes(&buf->front_, data, bytes);
}

bool berth__buf_is_valid(const struct berth_buf *buf) {
    bool block_ok = buf->owner_ == NULL ? buf->capacity_ == 0
                                        : buf->memory_ == buf->owner_->memory &&
                                              buf->capacity_ <= buf->owner_->bytes;
    return block_ok && buf->floor_ <= buf->read_ && buf->read_ <= buf->write_ &&
           buf->write_ <= buf->capacity_ && berth__chain_is_valid(&buf->front_);
}
