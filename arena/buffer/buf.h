/*
 * The parts of a buffer, for the files that work on it.
 *
 *   readable bytes = those of front_, then [read_, write_) of the block
 *   0 <= floor_ <= read_ <= write_ <= capacity_ <= the block's bytes
 *   no slice outside the buffer views [write_, capacity_), nor [0, floor_) unless the owner is
 * unique
 *
 * The buffer has a reference to the block. Gathering puts the block's readable bytes into the
 * chain, as a slice with a reference of its own, so that calls on chains do the work; scattering
 * undoes it.
 */
#ifndef BERTH_BUFFER_BUF_H
#define BERTH_BUFFER_BUF_H

#include "buffer/chain.h"

#include <berth/buffer.h>

/* Not more unread bytes than these are copied to a buffer's next block, which gives the old one up;
 * see docs/decisions/0014-buffers.md. */
enum { BERTH_CARRY_MAX = 1024 };

BERTH_INLINE size_t berth__buf_in_block(const struct berth_buf *buf) {
    return buf->write_ - buf->read_;
}

/* An empty block that no slice views is written from its start again, where the processor's caches
 * have it. Before writing, not after reading: a writer may be at work in the room. */
BERTH_INLINE void berth__buf_rewind(struct berth_buf *buf) {
    if (buf->read_ == buf->write_ && buf->floor_ == 0) {
        uint32_t start = buf->head_room_ < buf->read_ ? buf->head_room_ : buf->read_;
        buf->read_ = buf->write_ = start;
    }
}

/* All readable bytes are in the chain then: 0 or -ENOMEM. */
int berth__buf_gather(struct berth_buf *buf);

/* The block's bytes are in the block again, if the chain's last slice is still theirs. */
void berth__buf_scatter(struct berth_buf *buf);

/* Releases the block, which has no readable bytes of the buffer's own. */
void berth__buf_drop_block(struct berth_buf *buf);

bool berth__buf_is_valid(const struct berth_buf *buf);

#endif
