/*
 * Chains: slices one after another, read as one sequence of bytes.
 *
 * A chain is a deque of slices and of regions of files, with its first few inside the structure. It
 * is what a message is gathered in, cut from, and sent as: berth_chain_iovec is what writev wants.
 * Bytes are copied only where that is cheaper than another slice: small neighbours are put together
 * while they are appended.
 *
 * A chain is used by one thread at a time. The structure may be moved (by memcpy, say), but of two
 * copies only one may be used from then on.
 */
#ifndef BERTH_CHAIN_H
#define BERTH_CHAIN_H

#include <berth/slice.h>

#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How many slices lie in a chain itself, and how many berth_chain_iovec gives at most. */
enum { BERTH_CHAIN_INLINE = 4, BERTH_CHAIN_IOVEC_MAX = 1024 };

/** A chain; what it is made of is for the calls. */
struct berth_chain {
    uint64_t length_;
    berth_pool *pool_;
    struct berth_slice *outer_; /* the ring, if the inner one is too small */
    uint32_t first_, count_, capacity_;
    uint32_t unused_;
    struct berth_slice inner_[BERTH_CHAIN_INLINE];
};

/** A piece of a chain: memory, or a region of a file. */
struct berth_segment {
    const unsigned char *data; /* NULL: of a file */
    uint32_t length;
    int fd;         /* -1: memory */
    int64_t offset; /* in the file */
};

/**
 * Makes an empty chain. What it needs comes from the pool.
 *
 * Threads: any. Owns: the caller, who ends with berth_chain_clear. Blocks: wait-free. Since: 0.1.
 */
BERTH_API void berth_chain_init(struct berth_chain *chain, berth_pool *pool);

/**
 * Releases everything in a chain, which is as after berth_chain_init then.
 *
 * Threads: one at a time per chain. Blocks: as berth_free. Since: 0.1.
 */
BERTH_API void berth_chain_clear(struct berth_chain *chain);

/** Bytes of a chain. Threads: one at a time per chain. Blocks: wait-free. Since: 0.1. */
static inline uint64_t berth_chain_length(const struct berth_chain *chain) {
    return chain->length_;
}

/** Segments of a chain. Threads: one at a time per chain. Blocks: wait-free. Since: 0.1. */
static inline size_t berth_chain_count(const struct berth_chain *chain) {
    return chain->count_;
}

/**
 * Puts a slice at the end. A short one that finds a short neighbour, or room behind a neighbour
 * that nobody else has, is copied there instead, and released.
 *
 * Errors: -ENOMEM, -EINVAL (it is pinned): nothing has changed. Threads: one at a time per chain.
 * Owns: takes the reference; *slice is empty then. Blocks: as berth_alloc, when the chain's memory
 * or a small block is needed. Since: 0.1.
 */
BERTH_API int berth_chain_append(struct berth_chain *chain, struct berth_slice *slice);

/**
 * Puts a slice at the beginning.
 *
 * Errors and the rest as berth_chain_append. Since: 0.1.
 */
BERTH_API int berth_chain_prepend(struct berth_chain *chain, struct berth_slice *slice);

/**
 * Copies bytes to the end, or to the beginning: into room that the neighbour has and nobody else
 * can see, or into a new block.
 *
 * Errors: -ENOMEM, -EMSGSIZE (beyond BERTH_SLICE_MAX): nothing has changed. Otherwise as
 * berth_chain_append. Since: 0.1.
 */
BERTH_API int berth_chain_append_bytes(struct berth_chain *chain, const void *data, size_t length);
BERTH_API int berth_chain_prepend_bytes(struct berth_chain *chain, const void *data, size_t length);

/**
 * Moves all of a chain to the end of another.
 *
 * Errors: -ENOMEM: nothing has changed; -EINVAL (they are the same). Otherwise as
 * berth_chain_append. Since: 0.1.
 */
BERTH_API int berth_chain_append_chain(struct berth_chain *chain, struct berth_chain *from);

/**
 * Puts a region of a file at the end. It is sent by sendfile, not read; calls that need bytes
 * answer -ENOTSUP where they come upon one. With close_it the descriptor is closed when the last
 * chain has let go of the region.
 *
 * Errors: -ENOMEM, -EINVAL (no descriptor, or offset + length is out of range): nothing has
 * changed, the descriptor is not closed. Owns: takes the descriptor if close_it. Otherwise as
 * berth_chain_append. Since: 0.1.
 */
BERTH_API int berth_chain_append_file(struct berth_chain *chain, int fd, int64_t offset,
                                      uint64_t length, bool close_it);

/**
 * Moves the first `length` bytes of a chain to the end of another; no byte is copied.
 *
 * Errors: -ERANGE (there are fewer), -ENOMEM, -EINVAL (they are the same): nothing has changed.
 * Threads: one at a time per chain. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API int berth_chain_split(struct berth_chain *chain, uint64_t length,
                                struct berth_chain *front);

/**
 * Puts references to bytes [offset, offset + length) of a chain at the end of another; no byte is
 * copied. To send one message to many.
 *
 * Errors and the rest as berth_chain_split. Since: 0.1.
 */
BERTH_API int berth_chain_share(const struct berth_chain *chain, uint64_t offset, uint64_t length,
                                struct berth_chain *to);

/**
 * Takes the first segment off a chain, as a slice.
 *
 * Errors: -ERANGE (the chain is empty), -ENOTSUP (it is a region of a file): nothing has changed,
 * *slice is empty. Threads: one at a time per chain. Owns: the caller, until berth_slice_release.
 * Blocks: wait-free. Since: 0.1.
 */
BERTH_API int berth_chain_take_slice(struct berth_chain *chain, struct berth_slice *slice);

/**
 * Drops the first `length` bytes: what was sent, or understood.
 *
 * Errors: -ERANGE (there are fewer): nothing has changed. Threads: one at a time per chain. Blocks:
 * as berth_free. Since: 0.1.
 */
BERTH_API int berth_chain_consume(struct berth_chain *chain, uint64_t length);

/**
 * Copies bytes [offset, offset + length) of a chain.
 *
 * Errors: -ERANGE (not all of them are there), -ENOTSUP (some are a file's): `to` may have been
 * written. Threads: one at a time per chain. Blocks: wait-free. Since: 0.1.
 */
BERTH_API int berth_chain_copy_out(const struct berth_chain *chain, uint64_t offset, void *to,
                                   size_t length);

/**
 * Makes the first `length` bytes contiguous, copying them to one block if they are not.
 *
 * Errors: NULL with ERANGE, ENOTSUP (a file's), ENOMEM, EMSGSIZE: nothing has changed. Threads: one
 * at a time per chain. Owns: nothing new; the pointer is good until the chain changes. Blocks: as
 * berth_alloc. Since: 0.1.
 */
BERTH_API const void *berth_chain_linearise(struct berth_chain *chain, size_t length);

/**
 * The first bytes as entries for writev and sendmsg: at most `most`, and BERTH_CHAIN_IOVEC_MAX,
 * and none from a region of a file on. Returns their number; berth_chain_consume takes what was
 * sent.
 *
 * Threads: one at a time per chain. Owns: nothing new; the entries are good until the chain
 * changes. Blocks: wait-free. Since: 0.1.
 */
BERTH_API unsigned berth_chain_iovec(const struct berth_chain *chain, struct iovec *entries,
                                     unsigned most);

/**
 * Tells what the segment with an index is, from 0.
 *
 * Errors: -ERANGE. Threads: one at a time per chain. Owns: nothing new; what it tells is good until
 * the chain changes. Blocks: wait-free. Since: 0.1.
 */
BERTH_API int berth_chain_segment(const struct berth_chain *chain, size_t index,
                                  struct berth_segment *segment);

/**
 * Where `count` bytes stand in a chain first, at or after `from`, also over the ends of segments.
 * Regions of files are passed over.
 *
 * Errors: -ENOENT: nowhere. Threads: one at a time per chain. Blocks: wait-free. Since: 0.1.
 */
BERTH_API int64_t berth_chain_find(const struct berth_chain *chain, uint64_t from,
                                   const void *bytes, size_t count);

/**
 * Bytes of memory that a chain keeps; memory that several slices in a row view counts once.
 * berth_chain_retained over berth_chain_length is what its bytes cost.
 *
 * Threads: one at a time per chain. Blocks: wait-free. Since: 0.1.
 */
BERTH_API uint64_t berth_chain_retained(const struct berth_chain *chain);

/**
 * berth_slice_compact for each slice of a chain.
 *
 * Errors: how many were copied, or -ENOMEM: some may not have been. Threads: one at a time per
 * chain. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API int berth_chain_compact(struct berth_chain *chain, unsigned factor);

#ifdef __cplusplus
}
#endif

#endif
