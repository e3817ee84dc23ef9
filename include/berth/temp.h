/*
 * Temporary buffers: memory for the moment of an IO operation, for data that lies outside any pool.
 *
 *   berth_temp_copy(text, length, &slice);        text may go at once
 *   berth_chain_append(&chain, &slice);
 *   berth_sender_send(sender, &chain, UINT64_MAX);   the kernel holds the copy for a while
 *
 * Each thread keeps some that it has used, to use them again: at most so many, and none that is
 * longer than a bound; beyond, they go back to memory at once. So does all that a thread keeps when
 * it ends. They are blocks of a pool with the name "berth.temp", which is made with the first:
 * its metrics count what is lent and what is kept, together.
 *
 * In the child of a fork, what other threads of the parent kept stays lent. Part of libberth, not
 * of libberth-malloc.
 */
#ifndef BERTH_TEMP_H
#define BERTH_TEMP_H

#include <berth/slice.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The bounds at the beginning, and the largest number that may be set. */
enum { BERTH_TEMP_BYTES = 65536, BERTH_TEMP_COUNT = 8, BERTH_TEMP_COUNT_MAX = 64 };

/**
 * Lends a buffer of at least `bytes` bytes, aligned to 16, with any content: one that this thread
 * keeps, if one is long enough.
 *
 * Errors: NULL with ENOMEM as berth_alloc. Threads: any. Owns: the caller, until berth_temp_give.
 * Blocks: as berth_alloc, if none is kept. Since: 0.1.
 */
BERTH_API void *berth_temp_take(size_t bytes);

/**
 * Takes a buffer back, for this thread to keep, whichever lent it, or to free; NULL is ignored. One
 * that is given back twice, or is none, stops the process. Keeps errno.
 *
 * Threads: any. Owns: takes the buffer. Blocks: as berth_free. Since: 0.1.
 */
BERTH_API void berth_temp_give(void *buffer);

/**
 * A slice of a copy of `length` bytes in a temporary buffer, which is given back with its last
 * reference, on that thread: to send what lies on the stack, or in malloc's memory, by ways that
 * hold what they send. The record of the slice is a block of the pool "berth.temp", too.
 *
 * Errors: -ENOMEM, -EMSGSIZE: *slice is empty. Threads: any. Owns: the caller, until
 * berth_slice_release. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API int berth_temp_copy(const void *data, size_t length, struct berth_slice *slice);

/**
 * Sets the bounds, for all threads: a buffer of more than `bytes_max` bytes is not kept, nor are
 * more than `count_max`. What a thread keeps beyond is freed when it next gives one back.
 *
 * Errors: -EINVAL (more than BERTH_TEMP_COUNT_MAX). Threads: any. Blocks: wait-free. Since: 0.1.
 */
BERTH_API int berth_temp_bounds_set(size_t bytes_max, unsigned count_max);

/**
 * Frees what this thread keeps: before it sleeps for long. Returns bytes.
 *
 * Threads: any, for itself. Blocks: as berth_free. Since: 0.1.
 */
BERTH_API size_t berth_temp_flush(void);

#ifdef __cplusplus
}
#endif

#endif
