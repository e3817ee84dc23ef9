/*
 * Integers in buffers, of 1 to 8 bytes, in both orders.
 *
 * Where the block has 8 bytes from the position on, whole words are moved: behind what is written
 * there is only room, and what is read beyond the integer is masked.
 */
#include "buffer/buf.h"

#include <errno.h>
#include <string.h>

enum { WORD = sizeof(uint64_t) };

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LITTLE_ENDIAN_OF(value) (value)
#else
#define LITTLE_ENDIAN_OF(value) __builtin_bswap64(value)
#endif

BERTH_INLINE bool is_size(unsigned bytes) {
    return bytes - 1 < WORD;
}

/* Turns the order of the lowest bytes. */
BERTH_INLINE uint64_t turned(uint64_t value, unsigned bytes) {
    return __builtin_bswap64(value) >> (64 - 8 * bytes);
}

BERTH_INLINE int put(struct berth_buf *buf, uint64_t value, unsigned bytes) {
    uint64_t word = LITTLE_ENDIAN_OF(value);
    berth__buf_rewind(buf);
    bool room_for_word =
        buf->capacity_ - buf->write_ >= WORD && buf->length_max_ - berth_buf_length(buf) >= WORD;
    if (BERTH_UNLIKELY(!room_for_word)) {
        return berth_buf_append(buf, &word, bytes);
    }
    memcpy(buf->memory_ + buf->write_, &word, WORD);
    buf->write_ += bytes;
    return 0;
}

int berth_buf_put_le(struct berth_buf *buf, uint64_t value, unsigned bytes) {
    return is_size(bytes) ? put(buf, value, bytes) : -EINVAL;
}

int berth_buf_put_be(struct berth_buf *buf, uint64_t value, unsigned bytes) {
    return is_size(bytes) ? put(buf, turned(value, bytes), bytes) : -EINVAL;
}

BERTH_INLINE int get(struct berth_buf *buf, uint64_t *value, unsigned bytes) {
    uint64_t word = 0;
    int error = 0;
    if (BERTH_LIKELY(buf->front_.count_ == 0 && berth__buf_in_block(buf) >= bytes &&
                     buf->capacity_ - buf->read_ >= WORD)) {
        memcpy(&word, buf->memory_ + buf->read_, WORD);
        buf->read_ += bytes;
    } else {
        error = berth_buf_read(buf, &word, bytes);
    }
    *value = LITTLE_ENDIAN_OF(word) & (UINT64_MAX >> (64 - 8 * bytes));
    return error;
}

int berth_buf_get_le(struct berth_buf *buf, uint64_t *value, unsigned bytes) {
    uint64_t read = 0;
    int error = is_size(bytes) ? get(buf, &read, bytes) : -EINVAL;
    if (error == 0) {
        *value = read;
    }
    return error;
}

int berth_buf_get_be(struct berth_buf *buf, uint64_t *value, unsigned bytes) {
    uint64_t read = 0;
    int error = is_size(bytes) ? get(buf, &read, bytes) : -EINVAL;
    if (error == 0) {
        *value = turned(read, bytes);
    }
    return error;
}
