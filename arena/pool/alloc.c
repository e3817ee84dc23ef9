/*
 * The public allocation calls.
 */
#include "pool/api.h"
#include "pool/gauge.h"
#include "pool/pool.h"

#include "base/check.h"
#include "chunk/chunk.h"
#include "heap/emergency.h"
#include "heap/io.h"
#include "heap/misuse.h"
#include "heap/stash.h"

#include <berth/pool.h>

#include <errno.h>
#include <string.h>

enum { KNOWN_FLAGS = BERTH_ZERO | BERTH_NOWAIT | BERTH_UNWINDING | 0x3f << BERTH_ALIGN_SHIFT_ };

/* Why a request for memory of a pool failed. */
static int error_of(struct berth__arenas *arenas) {
    return berth__io_is_inherited(arenas) ? EOWNERDEAD : ENOMEM;
}

static BERTH_NOINLINE void *serve(berth_pool *pool, size_t size, size_t alignment,
                                  unsigned request_flags) {
    struct berth__arenas *arenas = berth__pool_arenas(pool);
    struct berth__request request = {.arenas =
                                         arenas->number == 0 ? berth__malloc_arenas() : arenas,
                                     .size = size,
                                     .alignment = alignment,
                                     .flags = request_flags,
                                     .frame = BERTH_FRAME};
    void *block = berth__request_serve(&request);
    if (block == NULL) {
        errno = error_of(request.arenas);
    }
    return block;
}

/* The thread's cache of a pool, if it can be used as it is; a cache that finds nothing if not. */
BERTH_INLINE struct berth__cache *cache_of(berth_pool *pool) {
    struct berth__arenas *arenas = berth__pool_arenas_or_ended(pool);
    struct berth__tls *tls = &berth__tls;
    if (arenas->number == 0) {
        return tls->cache;
    }
    struct berth__cache *cache =
        arenas->number < tls->pool_slots ? tls->pools[arenas->number] : NULL;
    return cache != NULL && berth__load_relaxed(&cache->serial) == arenas->serial
               ? cache
               : (struct berth__cache *)(uintptr_t)&berth__no_cache;
}

/* For what is no small block and needs no alignment. */
static BERTH_NOINLINE void *serve_large(berth_pool *pool, size_t size) {
    void *block = berth__stash_pop(cache_of(pool), size);
    return BERTH_LIKELY(block != NULL) ? block : serve(pool, size, BERTH_GRANULE, 0);
}

void *berth__do_alloc(berth_pool *pool, size_t size) {
    if (BERTH_LIKELY(size <= BERTH_SMALL_MAX)) {
        void *block = berth__cache_pop(cache_of(pool), size);
        if (BERTH_LIKELY(block != NULL)) {
            return block;
        }
        return serve(pool, size, BERTH_GRANULE, 0);
    }
    return serve_large(pool, size);
}

/* What the cache did not have. NULL: neither is there any more. */
static BERTH_NOINLINE void *describe_slow(berth_pool *pool, size_t size, void *record,
                                          struct berth__described *described) {
    void *block = described->block != NULL ? described->block : berth__do_alloc(pool, size);
    if (block != NULL && record == NULL) {
        record = berth__do_alloc(pool, BERTH_DESCRIBED_BYTES);
    }
    if (block == NULL || record == NULL) {
        berth__do_free(block);
        berth__do_free(record);
        return NULL;
    }
    described->block = block;
    return record;
}

/* The record for what the thread's cache had, or did not have. */
BERTH_INLINE void *describe(berth_pool *pool, size_t size, struct berth__cache *cache, void *block,
                            struct berth__described *described) {
    described->block = block;
    described->one_thread = pool->options.one_thread != 0;
    void *record = berth__cache_pop(cache, BERTH_DESCRIBED_BYTES);
    return BERTH_LIKELY(block != NULL && record != NULL)
               ? record
               : describe_slow(pool, size, record, described);
}

static BERTH_NOINLINE void *describe_large(berth_pool *pool, size_t size,
                                           struct berth__described *described) {
    struct berth__cache *cache = cache_of(pool);
    return describe(pool, size, cache, berth__stash_pop(cache, size), described);
}

void *berth__do_pool_alloc_described(berth_pool *pool, size_t size,
                                     struct berth__described *described) {
    if (BERTH_UNLIKELY(size > BERTH_SMALL_MAX)) {
        return describe_large(pool, size, described);
    }
    struct berth__cache *cache = cache_of(pool);
    return describe(pool, size, cache, berth__cache_pop(cache, size), described);
}

void *berth__do_alloc_flags(berth_pool *pool, size_t size, unsigned flags) {
    if (flags == 0) {
        return berth__do_alloc(pool, size);
    }
    if ((flags & ~(unsigned)KNOWN_FLAGS) != 0) {
        errno = EINVAL;
        return NULL;
    }
    unsigned request_flags = ((flags & BERTH_ZERO) != 0 ? BERTH_REQUEST_ZERO : 0u) |
                             ((flags & BERTH_NOWAIT) != 0 ? BERTH_REQUEST_NOWAIT : 0u) |
                             ((flags & BERTH_UNWINDING) != 0 ? BERTH_REQUEST_RESERVE : 0u);
    size_t alignment = (size_t)1 << (flags >> BERTH_ALIGN_SHIFT_);
    return serve(pool, size, berth__max(alignment, BERTH_GRANULE), request_flags);
}

void *berth__do_alloc_aligned(berth_pool *pool, size_t alignment, size_t size) {
    if (!berth__is_power_of_2(alignment)) {
        errno = EINVAL;
        return NULL;
    }
    return alignment <= BERTH_GRANULE ? berth__do_alloc(pool, size)
                                      : serve(pool, size, alignment, 0);
}

size_t berth__do_alloc_batch(berth_pool *pool, size_t size, size_t count, void **blocks) {
    size_t done = 0;
    while (done < count) {
        void *block = berth__do_alloc(pool, size);
        if (block == NULL) {
            break;
        }
        blocks[done++] = block;
    }
    return done;
}

void berth__do_free(void *block) {
    struct berth__tls *tls = &berth__tls;
    if (BERTH_UNLIKELY(!berth__cache_push(&tls->cache, &tls->mark, block))) {
        berth__block_free(block);
    }
}

void berth__do_pool_free(berth_pool *pool, void *block) {
    struct berth__cache *cache = cache_of(pool);
    if (BERTH_UNLIKELY(!berth__cache_push(&cache, &cache->mark, block))) {
        berth__block_free(block);
    }
}

/* After a slow path the thread may have another cache. */
void berth__do_pool_free_described(berth_pool *pool, void *record, void *block) {
    struct berth__cache *cache = cache_of(pool);
    if (BERTH_UNLIKELY(!berth__cache_push(&cache, &cache->mark, record))) {
        berth__block_free(record);
        berth__do_pool_free(pool, block);
    } else if (BERTH_UNLIKELY(!berth__cache_push(&cache, &cache->mark, block))) {
        berth__block_free(block);
    }
}

void berth__do_free_batch(void *const *blocks, size_t count) {
    for (size_t i = 0; i < count; i++) {
        berth__do_free(blocks[i]);
    }
}

static BERTH_NOINLINE void free_sized_slow(void *block, size_t size) {
    if (block != NULL && size > berth__block_size(block)) {
        berth__misuse("free with a size beyond the block's", block);
    }
    berth__block_free(block);
}

/* A size must not be beyond the block. It may be far below: a block may have been aligned, or have
 * become smaller where it lies. */
void berth__do_free_sized(void *block, size_t size) {
    struct berth__tls *tls = &berth__tls;
    if (BERTH_UNLIKELY(!berth__cache_push_sized(&tls->cache, &tls->mark, block, size, false))) {
        free_sized_slow(block, size);
    }
}

size_t berth__do_usable_size(const void *block) {
    return block == NULL ? 0 : berth__block_size(block);
}

size_t berth__do_good_size(size_t size) {
    return berth__good_size(size);
}

bool berth__do_extend(void *block, size_t size) {
    struct berth__request request = {.size = size, .frame = BERTH_FRAME};
    return size <= berth__block_size(block) || berth__block_extend(block, &request);
}

/* Blocks of one chunk share a count: what keeps its memory where it is does so for all of them. A
 * huge block's count is that of its first slot; an emergency block's memory goes nowhere. NULL for
 * such. Stops the process if it is no block. */
static _Atomic uint32_t *pins_of(const void *block) {
    (void)berth__block_size(block);
    return berth__emergency_owns(block) ? NULL : &berth__chunk_of(block)->pins;
}

void berth__do_pin(const void *block) {
    _Atomic uint32_t *pins = pins_of(block);
    if (pins != NULL) {
        berth__add_acq_rel(pins, 1);
        berth__do_gauge_add(BERTH_GAUGE_PINNED_BLOCKS, 1);
    }
}

void berth__do_unpin(const void *block) {
    _Atomic uint32_t *pins = pins_of(block);
    if (pins != NULL && BERTH_UNLIKELY(berth__sub_acq_rel(pins, 1) == 0)) {
        berth__misuse("unpinning of a block that is not pinned", block);
    }
    if (pins != NULL) {
        berth__do_gauge_add(BERTH_GAUGE_PINNED_BLOCKS, -1);
    }
}

void *berth__do_realloc(berth_pool *pool, void *block, size_t size) {
    if (block == NULL) {
        pool = pool == NULL ? berth__do_pool_default() : pool;
        return pool == NULL ? NULL : berth__do_alloc(pool, size);
    }
    struct berth__request request = {
        .arenas = berth__block_arenas(block),
        .size = size,
        .alignment = BERTH_GRANULE,
        .frame = BERTH_FRAME,
    };
    bool inherited = berth__io_is_inherited(request.arenas);
    void *moved = inherited ? NULL : berth__block_realloc(block, &request);
    if (moved == NULL) {
        errno = error_of(request.arenas);
    }
    return moved;
}
