/*
 * Searching chains, over the ends of their segments.
 *
 * A place where bytes stand begins in one piece; either all of them are in it, which memmem finds,
 * or it begins among the piece's last bytes, fewer than are sought. The latter are later in the
 * piece than the former, so the first that is found is the first there is.
 */
#include "buffer/chain.h"
#include "buffer/search.h"

#include "base/bits.h"

#include <errno.h>
#include <string.h>

/* The segments of a chain, and bytes that follow them. */
struct pieces {
    const struct berth_chain *chain;
    const unsigned char *more;
    size_t more_length;
    uint32_t count;
};

struct piece {
    const unsigned char *data; /* NULL: of a file */
    size_t length;
};

static struct piece piece_at(const struct pieces *pieces, uint32_t index) {
    if (index == pieces->chain->count_) {
        return (struct piece){pieces->more, pieces->more_length};
    }
    const struct berth_slice *segment = berth__chain_at(pieces->chain, index);
    (void)berth__slice_owner(segment);
    return (struct piece){berth__segment_is_file(segment) ? NULL : segment->data, segment->length};
}

/* True if the bytes stand at an offset of a piece, going on in those behind it. */
static bool stands_at(const struct pieces *pieces, uint32_t index, size_t offset,
                      const unsigned char *bytes, size_t count) {
    for (; count > 0; index++, offset = 0) {
        if (index == pieces->count) {
            return false;
        }
        struct piece piece = piece_at(pieces, index);
        size_t part = berth__min(piece.length - offset, count);
        if (piece.data == NULL || memcmp(piece.data + offset, bytes, part) != 0) {
            return false;
        }
        bytes += part;
        count -= part;
    }
    return true;
}

/* The first place in a piece, at or after an offset, where the bytes begin; or SIZE_MAX. */
static size_t find_from(const struct pieces *pieces, uint32_t index, size_t offset,
                        const void *bytes, size_t count) {
    struct piece piece = piece_at(pieces, index);
    if (piece.data == NULL) {
        return SIZE_MAX;
    }
    size_t at = berth__bytes_find(piece.data, piece.length, offset, bytes, count);
    if (at != SIZE_MAX) {
        return at;
    }
    size_t crossing = piece.length < count ? 0 : piece.length - count + 1;
    for (at = berth__max(offset, crossing); at < piece.length; at++) {
        if (stands_at(pieces, index, at, bytes, count)) {
            return at;
        }
    }
    return SIZE_MAX;
}

int64_t berth__chain_find(const struct berth_chain *chain, const unsigned char *more,
                          size_t more_length, uint64_t from, const void *bytes, size_t count) {
    const struct pieces pieces = {chain, more, more_length, chain->count_ + (more_length > 0)};
    uint64_t before = 0;
    for (uint32_t i = 0; count > 0 && i < pieces.count; i++) {
        size_t length = piece_at(&pieces, i).length;
        if (before + length > from) {
            size_t offset = from > before ? (size_t)(from - before) : 0;
            size_t at = find_from(&pieces, i, offset, bytes, count);
            if (at != SIZE_MAX) {
                return (int64_t)(before + at);
            }
        }
        before += length;
    }
    return count == 0 && from <= chain->length_ + more_length ? (int64_t)from : -ENOENT;
}

int64_t berth_chain_find(const struct berth_chain *chain, uint64_t from, const void *bytes,
                         size_t count) {
    return berth__chain_find(chain, NULL, 0, from, bytes, count);
}
