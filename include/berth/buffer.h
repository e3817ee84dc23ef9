/*
 * Buffers: what one writer fills and one reader empties, growing as needed.
 *
 *            what was read        readable                 room
 *   | head room ........... | .................. | ................... |
 *                           read position        write position        capacity
 *
 * A buffer grows where it lies while its block's class, or free memory behind it, allows. Then it
 * goes on in another block and keeps the first for the reader: what was written is not copied, but
 * for short remainders. So the readable bytes may lie in several pieces; calls that need them in
 * one say so. berth_buf_take hands bytes on as slices, without copying; the writer goes on behind
 * them.
 *
 * A buffer is used by one thread at a time; the slices that are taken from it may go to others.
 * Under slice.h and chain.h, which it includes, this is all of berth's buffers; they are part of
 * libberth, not of libberth-malloc.
 */
#ifndef BERTH_BUFFER_H
#define BERTH_BUFFER_H

#include <berth/chain.h>
#include <berth/slice.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A buffer; what it is made of is for the calls. It may be moved, like a chain. */
struct berth_buf {
    unsigned char *memory_; /* the block that is written */
    uint32_t read_, write_; /* positions in it */
    uint32_t capacity_;
    uint32_t floor_; /* below it are bytes that slices may view */
    uint32_t head_room_;
    uint32_t first_capacity_;
    uint64_t length_max_;
    struct berth_owner *owner_;
    struct berth_chain front_; /* readable bytes before those of the block */
};

/**
 * Makes an empty buffer that grows to `length_max` readable bytes (0: no bound). The first block
 * will have room for `capacity` bytes; nothing is allocated before it is needed.
 *
 * Threads: any. Owns: the caller, who ends with berth_buf_clear. Blocks: wait-free. Since: 0.1.
 */
BERTH_API void berth_buf_init(struct berth_buf *buf, berth_pool *pool, size_t capacity,
                              uint64_t length_max);

/**
 * Drops all bytes, and releases the memory. The buffer may be used again; the next block begins
 * small.
 *
 * Threads: one at a time per buffer. Blocks: as berth_free. Since: 0.1.
 */
BERTH_API void berth_buf_clear(struct berth_buf *buf);

/**
 * Keeps `bytes` free before what is written to each block from the next on, for what is prepended
 * later: a header whose content depends on the body.
 *
 * Errors: -EMSGSIZE (more than 64 KiB). Threads: one at a time per buffer. Blocks: wait-free.
 * Since: 0.1.
 */
BERTH_API int berth_buf_set_head_room(struct berth_buf *buf, size_t bytes);

/** Readable bytes. Threads: one at a time per buffer. Blocks: wait-free. Since: 0.1. */
static inline uint64_t berth_buf_length(const struct berth_buf *buf) {
    return buf->front_.length_ + (buf->write_ - buf->read_);
}

/**
 * Bytes that can be written without a further block.
 *
 * Threads: one at a time per buffer. Blocks: wait-free. Since: 0.1.
 */
static inline size_t berth_buf_room(const struct berth_buf *buf) {
    return buf->capacity_ - buf->write_;
}

/* ---- writing ---- */

/**
 * Room for `bytes` bytes in one piece, to be written and then committed. What was read is dropped
 * first, if no slice views it; then the block grows in place; then there is another one, so that
 * all blocks together are the next power of two up to 4 MiB, and the next multiple of 4 MiB above.
 *
 * Errors: NULL with EMSGSIZE (beyond the buffer's bound), ENOMEM: nothing has changed. Threads: one
 * at a time per buffer. Owns: nothing new; the pointer is good until the next call that writes or
 * compacts: what is there may be read and taken meanwhile.
 * Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API void *berth_buf_reserve(struct berth_buf *buf, size_t bytes);

/**
 * Makes the first `bytes` bytes of the room readable. More than there is room for stops the
 * process: something was overwritten.
 *
 * Threads: one at a time per buffer. Blocks: wait-free. Since: 0.1.
 */
BERTH_API void berth_buf_commit(struct berth_buf *buf, size_t bytes);

/**
 * Writes bytes behind the readable ones, or before them: into head room, or a block of their own.
 *
 * Errors: -EMSGSIZE, -ENOMEM: nothing has changed. Threads: one at a time per buffer. Blocks: as
 * berth_alloc. Since: 0.1.
 */
BERTH_API int berth_buf_append(struct berth_buf *buf, const void *data, size_t bytes);
BERTH_API int berth_buf_prepend(struct berth_buf *buf, const void *data, size_t bytes);

/**
 * Writes over readable bytes, from `offset` on: a length that is known only now.
 *
 * Errors: -ERANGE (not all of them are readable), -EBUSY (slices view the memory, or it is pinned),
 * -ENOTSUP, -EROFS: nothing has changed. Threads: one at a time per buffer. Blocks: wait-free.
 * Since: 0.1.
 */
BERTH_API int berth_buf_overwrite(struct berth_buf *buf, uint64_t offset, const void *data,
                                  size_t bytes);

/* ---- reading ---- */

/**
 * Drops the first readable bytes; berth_buf_read copies them out before.
 *
 * Errors: -ERANGE (there are fewer): nothing has changed. Threads: one at a time per buffer.
 * Blocks: as berth_free. Since: 0.1.
 */
BERTH_API int berth_buf_consume(struct berth_buf *buf, uint64_t bytes);
BERTH_API int berth_buf_read(struct berth_buf *buf, void *to, size_t bytes);

/**
 * Copies readable bytes [offset, offset + bytes), which stay.
 *
 * Errors: -ERANGE: nothing is copied. Threads: one at a time per buffer. Blocks: wait-free. Since:
 * 0.1.
 */
BERTH_API int berth_buf_copy_out(const struct berth_buf *buf, uint64_t offset, void *to,
                                 size_t bytes);

/**
 * The first readable bytes in one piece, as far as they are: *bytes says how many; NULL if none.
 *
 * Threads: one at a time per buffer. Owns: nothing new; the pointer is good until the buffer is
 * changed. Blocks: wait-free. Since: 0.1.
 */
BERTH_API const void *berth_buf_peek(const struct berth_buf *buf, size_t *bytes);

/**
 * The first `bytes` readable bytes in one piece, copied to one if they are in several.
 *
 * Errors: NULL with ERANGE, ENOMEM, EMSGSIZE: nothing has changed. Threads: one at a time per
 * buffer. Owns: nothing new; the pointer is good until the buffer is changed. Blocks: as
 * berth_alloc. Since: 0.1.
 */
BERTH_API const void *berth_buf_linearise(struct berth_buf *buf, size_t bytes);

/**
 * Moves the first readable bytes to the end of a chain, as slices. The buffer goes on behind them.
 *
 * Errors: -ERANGE (there are fewer), -ENOMEM: nothing has changed. Threads: one at a time per
 * buffer and chain. Owns: the chain has them then. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API int berth_buf_take(struct berth_buf *buf, uint64_t bytes, struct berth_chain *to);

/**
 * Moves the first readable bytes to one slice, made contiguous if they are not.
 *
 * Errors: -ERANGE, -ENOMEM, -EMSGSIZE: nothing has changed, *slice is empty. Threads: one at a time
 * per buffer. Owns: the caller, until berth_slice_release. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API int berth_buf_take_slice(struct berth_buf *buf, size_t bytes, struct berth_slice *slice);

/**
 * Where `count` bytes stand among the readable ones first, at or after `from`.
 *
 * Errors: -ENOENT: nowhere. Threads: one at a time per buffer. Blocks: wait-free. Since: 0.1.
 */
BERTH_API int64_t berth_buf_find(const struct berth_buf *buf, uint64_t from, const void *bytes,
                                 size_t count);

/**
 * Compares all readable bytes with others, as memcmp does; of two that begin alike the shorter is
 * less.
 *
 * Errors: none; below, equal to or above 0. Threads: one at a time per buffer. Blocks: wait-free.
 * Since: 0.1.
 */
BERTH_API int berth_buf_compare(const struct berth_buf *buf, const void *data, size_t bytes);

/**
 * Bytes of memory that a buffer keeps. Over berth_buf_length it is what its bytes cost.
 *
 * Threads: one at a time per buffer. Blocks: wait-free. Since: 0.1.
 */
BERTH_API uint64_t berth_buf_retained(const struct berth_buf *buf);

/**
 * Copies the readable bytes to one block of their size, if the buffer keeps more than `factor`
 * times as much (0: as little as can be). An empty one keeps nothing afterwards. For connections
 * that wait.
 *
 * Errors: 0 (nothing to do), 1 (memory was released), -ENOMEM, -EMSGSIZE: nothing has changed.
 * Threads: one at a time per buffer. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API int berth_buf_compact(struct berth_buf *buf, unsigned factor);

/* ---- integers ---- */

/**
 * Writes the lowest `bytes` (1 to 8) bytes of a value: the highest of them first (be, network
 * order), or the lowest (le).
 *
 * Errors: -EINVAL (bytes), -EMSGSIZE, -ENOMEM: nothing has changed. Threads: one at a time per
 * buffer. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API int berth_buf_put_be(struct berth_buf *buf, uint64_t value, unsigned bytes);
BERTH_API int berth_buf_put_le(struct berth_buf *buf, uint64_t value, unsigned bytes);

/**
 * Reads an integer of `bytes` (1 to 8) bytes, without sign, and consumes it.
 *
 * Errors: -EINVAL (bytes), -ERANGE (there are fewer): nothing has changed, *value included.
 * Threads: one at a time per buffer. Blocks: as berth_free. Since: 0.1.
 */
BERTH_API int berth_buf_get_be(struct berth_buf *buf, uint64_t *value, unsigned bytes);
BERTH_API int berth_buf_get_le(struct berth_buf *buf, uint64_t *value, unsigned bytes);

/**
 * Writes an integer of a fixed size. Otherwise as berth_buf_put_be. Since: 0.1.
 */
static inline int berth_buf_put_u8(struct berth_buf *buf, uint8_t value) {
    return berth_buf_put_be(buf, value, 1);
}
static inline int berth_buf_put_u16be(struct berth_buf *buf, uint16_t value) {
    return berth_buf_put_be(buf, value, 2);
}
static inline int berth_buf_put_u16le(struct berth_buf *buf, uint16_t value) {
    return berth_buf_put_le(buf, value, 2);
}
static inline int berth_buf_put_u32be(struct berth_buf *buf, uint32_t value) {
    return berth_buf_put_be(buf, value, 4);
}
static inline int berth_buf_put_u32le(struct berth_buf *buf, uint32_t value) {
    return berth_buf_put_le(buf, value, 4);
}
static inline int berth_buf_put_u64be(struct berth_buf *buf, uint64_t value) {
    return berth_buf_put_be(buf, value, 8);
}
static inline int berth_buf_put_u64le(struct berth_buf *buf, uint64_t value) {
    return berth_buf_put_le(buf, value, 8);
}

/**
 * Reads an integer of a fixed size, and consumes it. Otherwise as berth_buf_get_be. Since: 0.1.
 */
static inline int berth_buf_get_u8(struct berth_buf *buf, uint8_t *value) {
    uint64_t wide;
    int error = berth_buf_get_be(buf, &wide, 1);
    if (error == 0) {
        *value = wide & UINT8_MAX;
    }
    return error;
}
static inline int berth_buf_get_u16be(struct berth_buf *buf, uint16_t *value) {
    uint64_t wide;
    int error = berth_buf_get_be(buf, &wide, 2);
    if (error == 0) {
        *value = wide & UINT16_MAX;
    }
    return error;
}
static inline int berth_buf_get_u16le(struct berth_buf *buf, uint16_t *value) {
    uint64_t wide;
    int error = berth_buf_get_le(buf, &wide, 2);
    if (error == 0) {
        *value = wide & UINT16_MAX;
    }
    return error;
}
static inline int berth_buf_get_u32be(struct berth_buf *buf, uint32_t *value) {
    uint64_t wide;
    int error = berth_buf_get_be(buf, &wide, 4);
    if (error == 0) {
        *value = wide & UINT32_MAX;
    }
    return error;
}
static inline int berth_buf_get_u32le(struct berth_buf *buf, uint32_t *value) {
    uint64_t wide;
    int error = berth_buf_get_le(buf, &wide, 4);
    if (error == 0) {
        *value = wide & UINT32_MAX;
    }
    return error;
}
static inline int berth_buf_get_u64be(struct berth_buf *buf, uint64_t *value) {
    return berth_buf_get_be(buf, value, 8);
}
static inline int berth_buf_get_u64le(struct berth_buf *buf, uint64_t *value) {
    return berth_buf_get_le(buf, value, 8);
}

#ifdef __cplusplus
}
#endif

#endif
