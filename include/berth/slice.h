/*
 * Slices: counted views of memory that are passed by value and never copied to be shared.
 *
 * A slice is 24 bytes: where its bytes are, how many, and who owns them. Several slices may view
 * parts of one memory; it is given back when the last is released, on the thread that releases it.
 * Making, retaining and splitting slices of memory that is there allocates nothing.
 *
 *   struct berth_slice message, body;
 *   berth_slice_copy(pool, text, length, &message);
 *   berth_slice_sub(&message, 16, length - 16, &body);    two views, one memory
 *   berth_slice_release(&message);
 *   berth_slice_release(&body);                           the memory goes back to its pool
 *
 * The rules:
 *   - Each slice that a call makes is a reference, and is released exactly once. Copying the
 *     structure moves the reference: of the two copies only one may be used from then on.
 *   - A reference is used by one thread at a time. To let two threads have the memory, retain it
 *     for each before they start: two threads must not retain through the same slice at once.
 *   - What others may see is not written: berth_slice_try_write answers NULL then.
 *
 * A slice that is used after it was released is found out by a generation that it shares with the
 * memory's record, as long as the record's place has not been used for something else, and the
 * process is stopped with one line, as for a bad free. Slices are part of libberth, not of
 * libberth-malloc.
 */
#ifndef BERTH_SLICE_H
#define BERTH_SLICE_H

#include <berth/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The record of memory that slices share; what it is made of is not for users. */
struct berth_owner;

/** A slice. `data` and `length` are for users to read; the rest, and writing, is for the calls. */
struct berth_slice {
    const unsigned char *data;
    struct berth_owner *owner_; /* NULL: nobody counts, the memory stays */
    uint32_t length;            /* bytes */
    uint16_t generation_;
    uint16_t flags_;
};

/** A slice of nothing: what a released one becomes. Releasing it is allowed. */
#define BERTH_SLICE_EMPTY                                                                          \
    { NULL, NULL, 0, 0, 0 }

/** Bytes of the longest slice; for what is longer there are chains. */
#define BERTH_SLICE_MAX UINT32_MAX

/**
 * Allocates `length` bytes from a pool. They are not zeroed; berth_slice_try_write gives a pointer
 * to write them.
 *
 * The block is as long as asked for: what is known of it lies elsewhere, in a record of 64 bytes
 * from the same pool. 16 KiB are exactly four pages.
 *
 * Errors: -ENOMEM as berth_alloc, -EMSGSIZE beyond BERTH_SLICE_MAX, and here as wherever memory is
 * needed, -EOWNERDEAD (the pool is for the kernel or shared, and the parent's); *slice is empty
 * then. Threads: any. Owns: the caller, until berth_slice_release. Blocks: as berth_alloc. Since:
 * 0.1.
 */
BERTH_API int berth_slice_alloc(berth_pool *pool, size_t length, struct berth_slice *slice);

/**
 * Allocates memory that holds a copy of `length` bytes.
 *
 * Errors and the rest as berth_slice_alloc. Since: 0.1.
 */
BERTH_API int berth_slice_copy(berth_pool *pool, const void *data, size_t length,
                               struct berth_slice *slice);

/**
 * Is told that nobody views wrapped memory any more. It is called exactly once, by whoever
 * releases the last reference, on that thread, inside berth_slice_release or whatever call
 * released it, with no lock of berth held; it may use berth. Not called if the pool of the record
 * is ended by force first.
 */
typedef void berth_slice_callback(void *context, void *data, size_t length);

/**
 * Makes memory from elsewhere a slice; `release` is called when the last reference goes. The pool
 * gives the record only.
 *
 * Errors: -ENOMEM, -EMSGSIZE, -EINVAL (no callback): `release` is not called then. Threads: any.
 * Owns: borrows the memory until `release` is called. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API int berth_slice_wrap(berth_pool *pool, void *data, size_t length,
                               berth_slice_callback *release, void *context,
                               struct berth_slice *slice);

/**
 * Makes memory that is never freed or written a slice: constants. It is read-only and counts
 * nothing.
 *
 * Errors: -EMSGSIZE. Threads: any. Owns: borrows the memory for good. Blocks: wait-free. Since:
 * 0.1.
 */
BERTH_API int berth_slice_wrap_static(const void *data, size_t length, struct berth_slice *slice);

/**
 * Maps `length` bytes of a file, from any offset, as a slice: whole pages around them are counted
 * against the pool's limit, as by berth_map_file. Unless `writable`, the slice is read-only.
 *
 * Errors: -EMSGSIZE, -EINVAL, -ENOMEM, or what mmap gives. Threads: any. Owns: the caller, until
 * berth_slice_release; the descriptor may be closed. Blocks: makes system calls. Since: 0.1.
 */
BERTH_API int berth_slice_map_file(berth_pool *pool, int fd, int64_t offset, size_t length,
                                   bool writable, struct berth_slice *slice);

/**
 * Another reference to the same bytes.
 *
 * Threads: one at a time per slice; what is returned may be used by any thread. Owns: the caller.
 * Blocks: wait-free; no atomic operation but a load and a store if there was one reference, or in
 * a pool with one_thread. Since: 0.1.
 */
BERTH_API struct berth_slice berth_slice_retain(const struct berth_slice *slice);

/**
 * Gives a reference back, and the memory with the last one; *slice is empty then. Keeps errno.
 *
 * Threads: any, one at a time per slice. Owns: takes the reference. Blocks: as berth_free, when it
 * is the last. Since: 0.1.
 */
BERTH_API void berth_slice_release(struct berth_slice *slice);

/**
 * A reference to a part of a slice.
 *
 * Errors: -ERANGE (not all of the part is in the slice). Threads: one at a time per slice. Owns:
 * the caller owns *part; *slice stays as it is. Blocks: wait-free. Since: 0.1.
 */
BERTH_API int berth_slice_sub(const struct berth_slice *slice, size_t offset, size_t length,
                              struct berth_slice *part);

/**
 * Cuts a slice in two: *front gets the first `at` bytes, *slice keeps the rest.
 *
 * Errors and the rest as berth_slice_sub. Since: 0.1.
 */
BERTH_API int berth_slice_split(struct berth_slice *slice, size_t at, struct berth_slice *front);

/**
 * The bytes of a slice for writing: NULL if somebody else may see them (there are other
 * references, or it is pinned), with EBUSY, or if it is read-only, with EROFS.
 *
 * Threads: one at a time per slice. Owns: nothing new; the pointer is good until the slice is
 * retained, pinned or released. Blocks: wait-free. Since: 0.1.
 */
BERTH_API void *berth_slice_try_write(struct berth_slice *slice);

/**
 * Makes a slice one that may be written: copies the bytes to memory from the pool, and releases the
 * old, unless berth_slice_try_write would succeed anyway. Copy-on-write.
 *
 * Errors: -ENOMEM: *slice is unchanged. Otherwise as berth_slice_alloc. Since: 0.1.
 */
BERTH_API int berth_slice_make_writable(berth_pool *pool, struct berth_slice *slice);

/**
 * Makes a slice read-only, and all that is made from it later.
 *
 * Threads: one at a time per slice. Blocks: wait-free. Since: 0.1.
 */
BERTH_API void berth_slice_set_read_only(struct berth_slice *slice);

/**
 * Whether a slice is the only reference to its memory. false for static memory.
 *
 * Threads: one at a time per slice. Blocks: wait-free. Since: 0.1.
 */
BERTH_API bool berth_slice_is_unique(const struct berth_slice *slice);

/**
 * A reference for the kernel: while there is one, nobody may write the memory, and the pool cannot
 * be ended, not even by force. It is given back by berth_slice_unpin, and by nothing else.
 *
 * Otherwise as berth_slice_retain. Since: 0.1.
 */
BERTH_API struct berth_slice berth_slice_pin(const struct berth_slice *slice);

/** Gives a reference from berth_slice_pin back. Otherwise as berth_slice_release. Since: 0.1. */
BERTH_API void berth_slice_unpin(struct berth_slice *slice);

/**
 * Makes a slice's reference one pointer, for callbacks that are given one: what other libraries
 * call when they no longer need memory. *slice is empty then; its bytes stay where they are. NULL
 * for static memory. A pinned slice stops the process.
 *
 * Threads: one at a time per slice. Owns: the caller, until berth_owner_release. Blocks: wait-free.
 * Since: 0.1.
 */
BERTH_API struct berth_owner *berth_slice_detach(struct berth_slice *slice);

/**
 * Gives a reference back that berth_slice_detach made; NULL is ignored. Keeps errno.
 *
 * Threads: any. Owns: takes the reference. Otherwise as berth_slice_release. Since: 0.1.
 */
BERTH_API void berth_owner_release(struct berth_owner *owner);

/**
 * Bytes of memory that a slice keeps, whatever part of it the slice views. Its ratio to `length`
 * tells what a small slice costs. 0 for static memory.
 *
 * Threads: one at a time per slice. Blocks: wait-free. Since: 0.1.
 */
BERTH_API size_t berth_slice_retained(const struct berth_slice *slice);

/**
 * Copies a slice that keeps more than `factor` times its length (0: as little as can be) to memory
 * of its own from the pool, and releases the old. Memory that is pinned, mapped or wrapped, too.
 *
 * Errors: 0 (nothing to do), 1 (copied), -ENOMEM: *slice is unchanged. Otherwise as
 * berth_slice_alloc. Since: 0.1.
 */
BERTH_API int berth_slice_compact(berth_pool *pool, struct berth_slice *slice, unsigned factor);

/**
 * Compares two slices as memcmp does; of two that begin alike the shorter is less.
 *
 * Errors: none; below, equal to or above 0. Threads: any, while nobody changes them. Blocks:
 * wait-free. Since: 0.1.
 */
BERTH_API int berth_slice_compare(const struct berth_slice *a, const struct berth_slice *b);

/**
 * Where `count` bytes stand in a slice first, at or after `from`; -ENOENT if nowhere. No bytes
 * stand everywhere.
 *
 * Threads: any, while nobody changes it. Blocks: wait-free. Since: 0.1.
 */
BERTH_API int64_t berth_slice_find(const struct berth_slice *slice, size_t from, const void *bytes,
                                   size_t count);

/**
 * Writes bytes as text, 16 on a line with their offset, in hexadecimal and as ASCII, into text[0..
 * size), and a zero behind. Returns the characters that all of it needs, without the zero.
 *
 * Threads: any. Blocks: wait-free. Since: 0.1.
 */
BERTH_API size_t berth_hex_dump(const void *data, size_t length, char *text, size_t size);

#ifdef __cplusplus
}
#endif

#endif
