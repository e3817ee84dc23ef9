/*
 * What the functions of the malloc door share.
 */
#ifndef BERTH_MALLOC_DOOR_H
#define BERTH_MALLOC_DOOR_H

#include "base/check.h"
#include "heap/misuse.h"
#include "pool/pool.h"

/* The slow path: NULL and ENOMEM when there is no memory. As the last call of a function, so that
 * its own caller is the program; from elsewhere, the one below with BERTH_FRAME. */
BERTH_NOINLINE void *berth__door_serve(size_t size, size_t alignment, unsigned request_flags);
void *berth__door_serve_from(const void *frame, size_t size, size_t alignment,
                             unsigned request_flags);

/* The same for what is no small block and needs no alignment. */
BERTH_NOINLINE void *berth__door_serve_large(size_t size);

/* Any of these, from a frame, when the thread's cache has no small block for it. */
void *berth__door_alloc_from(const void *frame, size_t size);

/* A block aligned to a power of two, from a frame; from the thread's cache if that has one. */
void *berth__door_aligned_from(const void *frame, size_t size, size_t alignment);

/* Asks the handler of operator new and tries again, for as long as there is one; then NULL. */
void *berth__door_retry(size_t size, size_t alignment);

/* A cached block, or NULL. */
BERTH_INLINE void *berth__door_pop(size_t size) {
    return BERTH_LIKELY(size <= BERTH_SMALL_MAX) ? berth__cache_pop(berth__tls.cache, size) : NULL;
}

BERTH_INLINE void *berth__door_alloc(size_t size) {
    if (BERTH_LIKELY(size <= BERTH_SMALL_MAX)) {
        void *block = berth__door_pop(size);
        if (BERTH_LIKELY(block != NULL)) {
            return block;
        }
        return berth__door_serve(size, BERTH_GRANULE, 0);
    }
    return berth__door_serve_large(size);
}

BERTH_INLINE void berth__door_free(void *block) {
    struct berth__tls *tls = &berth__tls;
    if (BERTH_UNLIKELY(!berth__cache_push(&tls->cache, &tls->mark, block))) {
        berth__block_free(block);
    }
}

/* Stops the process if the block is shorter; else frees it. */
BERTH_NOINLINE void berth__door_free_sized_slow(void *block, size_t size);

/* A size beyond the block's stops the process. One that is too small does not: a block may have
 * been aligned, or have become smaller where it lies. */
BERTH_INLINE void berth__door_free_sized(void *block, size_t size) {
    struct berth__tls *tls = &berth__tls;
    if (BERTH_UNLIKELY(!berth__cache_push_sized(&tls->cache, &tls->mark, block, size, false))) {
        berth__door_free_sized_slow(block, size);
    }
}

#endif
