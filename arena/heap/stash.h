/*
 * A thread's stash: free normal blocks that it keeps to itself.
 *
 * The CPUs' caches of runs can be emptied by anyone, so they are used under a lock, and found by a
 * CPU's number. A thread that asks for normal blocks again and again gets some of its own, without
 * either: the stash belongs to its cache, which describes who may touch it and when (cache.h), and
 * is changed while the cache is marked as busy.
 *
 * It is made after BERTH_STASH_MISSES requests that no stash served, so that threads with a few
 * normal blocks, and those that only free, keep none. It grows while it runs both full and empty.
 * What it may hold is reserved like the bins' capacities, and what it did not need goes back by
 * sweeps. Where a limit is set, what is lost to threads that do not come by must be small: there
 * are stashes only below a large one, for a small part of it.
 *
 *     table.bytes <= bytes_max, which is part of cache->reserved
 */
#ifndef BERTH_HEAP_STASH_H
#define BERTH_HEAP_STASH_H

#include "heap/cache.h"
#include "heap/run_table.h"

enum {
    BERTH_STASH_MISSES = 32,
    BERTH_STASH_BYTES_MIN = 256 << 10,
    BERTH_STASH_BYTES_MAX = 2 << 20,
    BERTH_STASH_BLOCK_MAX = 256 << 10,
    BERTH_STASH_FUEL_BYTES = 8 << 20, /* served between two slow paths */
    BERTH_STASH_FUEL_IN_DEBT_BYTES = 1 << 20,
};
_Static_assert((int)BERTH_STASH_BLOCK_MAX <= (int)BERTH_NORMAL_TABLE_MAX, "classes by table");

struct berth__stash {
    char aside[512]; /* programs write to the first bytes of pages: loads at the same offset wait */
    struct berth__run_table table;
    uint64_t bytes_max;
    int64_t fuel_bytes;    /* what may still be served before the next slow path */
    int64_t fuel_seen;     /* of that, when it was last given or counted (sample.h) */
    uint64_t given_bytes;  /* given on one by one since memory was last looked after */
    uint32_t pops, pushes; /* since the last settlement */
    bool missed;           /* ran empty since it was last full */
    bool used;             /* since the last sweep */
};

/* Takes a stashed block of this class out. */
BERTH_INLINE void *berth__stash_take(struct berth__cache *cache, struct berth__stash *stash,
                                     unsigned normal_class) {
    bool before = berth__cache_busy(cache);
    void *run = berth__run_table_pop(&stash->table, normal_class);
    berth__run_unpark(run);
    stash->pops++;
    berth__cache_idle(cache, before);
    berth__unpoison(run, berth__normal_bytes[normal_class]);
    return run;
}

/* A block of `size` bytes, more than a small one's, or NULL. Any cache, the empty one included. */
BERTH_INLINE void *berth__stash_pop(struct berth__cache *cache, size_t size) {
    struct berth__stash *stash = cache->stash;
    if (stash == NULL || size > BERTH_STASH_BLOCK_MAX) {
        return NULL;
    }
    unsigned normal_class = berth__normal_class(size);
    int64_t fuel_bytes = stash->fuel_bytes - (int64_t)size;
    if (stash->table.first[normal_class] == 0 || fuel_bytes < 0) {
        return NULL;
    }
    stash->fuel_bytes = fuel_bytes;
    return berth__stash_take(cache, stash, normal_class);
}

/* The slow path of the above: pays the thread's dues if it is time, makes the stash if it is
 * earned, and looks again. */
void *berth__stash_pop_slow(struct berth__cache *cache, unsigned normal_class);

/* Makes room for a block in a full stash; false: it goes elsewhere. */
bool berth__stash_make_room(struct berth__cache *cache, struct berth__stash *stash,
                            unsigned normal_class);

/* Takes a parked block of this arena in; BERTH_NORMAL_CLASS_COUNT: one of no class's length. False
 * if it is to go elsewhere. */
BERTH_INLINE bool berth__stash_push(struct berth__cache *cache, const struct berth__arena *arena,
                                    void *run, unsigned normal_class) {
    struct berth__stash *stash = cache->stash;
    if (stash == NULL || normal_class == BERTH_NORMAL_CLASS_COUNT) {
        return false;
    }
    size_t bytes = berth__normal_bytes[normal_class];
    if (bytes > BERTH_STASH_BLOCK_MAX) {
        return false;
    }
    bool fits = berth__load_relaxed(&stash->table.bytes) + bytes <= stash->bytes_max &&
                !berth__run_table_is_full(&stash->table) && !berth__ledger_is_short();
    if (BERTH_UNLIKELY(arena->node != cache->arena->node) ||
        (BERTH_UNLIKELY(!fits) && !berth__stash_make_room(cache, stash, normal_class))) {
        return false;
    }
    bool before = berth__cache_busy(cache);
    berth__run_table_push(&stash->table, normal_class, run);
    stash->pushes++;
    berth__cache_idle(cache, before);
    return true;
}

/* Parts of what a cache does with all it holds; there need not be a stash. Its owner, or under a
 * claim, while the cache is busy. */
void berth__stash_flush(struct berth__cache *cache);
void berth__stash_sweep(struct berth__cache *cache);
/* Gives up the stash itself, and what is reserved for it; what lies in it is forgotten. */
void berth__stash_strip(struct berth__cache *cache);

/* Bytes in the cache's stash. */
uint64_t berth__stash_bytes(const struct berth__cache *cache);

#endif
