#include "heap/stash.h"

#include "chunk/meta.h"
#include "chunk/transit.h"
#include "heap/bins.h"
#include "heap/decay.h"
#include "heap/io.h"
#include "heap/request.h"
#include "heap/sample.h"

/* A settlement adds what a stash did to its pool's counts. */
static void settle(struct berth__cache *cache, struct berth__stash *stash) {
    struct berth__arenas *arenas = cache->arenas;
    berth__add_relaxed(&arenas->stash_returns, stash->pushes);
    berth__add_relaxed(&arenas->stash_lends, stash->pops);
    stash->used = stash->used || stash->pushes != 0 || stash->pops != 0;
    stash->pushes = stash->pops = 0;
}

/* ---- bounds ---- */

static bool ledger_allows(const struct berth__ledger *ledger, uint64_t bytes) {
    enum { LIMIT_MIN = 1 << 30, PART = 64 };
    uint64_t limit = berth__load_relaxed(&ledger->limit);
    return limit == BERTH_NO_LIMIT || (limit >= LIMIT_MIN && bytes <= limit / PART);
}

/* Whether all caches of the pool may hold so much more. Lent memory is a limit of its own. */
static bool limits_allow(const struct berth__arenas *arenas, uint64_t more) {
    const struct berth__ledger *ledger = arenas->ledger;
    uint64_t bound = berth__load_relaxed(&arenas->cached_bound) + more;
    return arenas->lent == NULL && ledger_allows(ledger, bound) &&
           (ledger->parent == NULL || ledger_allows(ledger->parent, bound));
}

/* Sets bytes_max, if the budget and the limits allow it. */
static bool set_bytes_max(struct berth__cache *cache, struct berth__stash *stash, uint64_t bytes) {
    uint64_t more = bytes - stash->bytes_max;
    if (!limits_allow(cache->arenas, more) || !berth__cache_reserve(cache, more)) {
        return false;
    }
    stash->bytes_max = bytes;
    return true;
}

static void make_stash(struct berth__cache *cache) {
    struct berth__stash *stash = limits_allow(cache->arenas, BERTH_STASH_BYTES_MIN)
                                     ? berth__meta_alloc(sizeof(*stash))
                                     : NULL;
    if (stash == NULL) {
        return;
    }
    berth__run_table_init(&stash->table);
    if (!set_bytes_max(cache, stash, BERTH_STASH_BYTES_MIN)) {
        berth__meta_free(stash, sizeof(*stash));
        return;
    }
    cache->stash = stash;
}

/* ---- moving blocks ---- */

static void give_on(void *const *runs, const uint8_t *classes, unsigned count, bool to_cpu) {
    berth__transit_begin();
    for (unsigned i = 0; i < count; i++) {
        if (!to_cpu || !berth__run_cache_push_stashed(runs[i], classes[i])) {
            berth__run_return(runs[i], 0);
        }
    }
    berth__transit_end();
}

/* Gives runs away until no more than that is left: to the CPU's cache, or where they are from.
 * Returns the arena of one of them, or the cache's. */
static struct berth__arena *evict(struct berth__cache *cache, struct berth__stash *stash,
                                  uint64_t bytes, unsigned count, bool to_cpu) {
    void *runs[BERTH_RUN_TABLE_RUNS];
    uint8_t classes[BERTH_RUN_TABLE_RUNS];
    unsigned evicted = berth__run_table_evict(&stash->table, bytes, count, runs, classes);
    struct berth__arena *arena = cache->arena;
    if (evicted > 0) {
        arena = berth__chunk_of(runs[0])->arena;
        give_on(runs, classes, evicted, to_cpu);
    }
    settle(cache, stash);
    return arena;
}

/* A thread that frees many blocks of one length comes by here, and nowhere else: so it pays for
 * what it gives on. */
static void give_one_on(struct berth__stash *stash, unsigned normal_class) {
    void *run = berth__run_table_pop(&stash->table, normal_class);
    struct berth__arena *arena = berth__chunk_of(run)->arena;
    give_on(&run, &(uint8_t){(uint8_t)normal_class}, 1, true);
    stash->given_bytes += berth__normal_bytes[normal_class];
    if (stash->given_bytes >= BERTH_DECAY_BUDGET / 2) {
        stash->given_bytes = 0;
        berth__decay_step(arena);
    }
}

static void refuel(struct berth__cache *cache, struct berth__stash *stash) {
    berth__sample_count_stash(cache);
    stash->fuel_bytes = berth__decay_in_debt(cache->arena) ? BERTH_STASH_FUEL_IN_DEBT_BYTES
                                                           : BERTH_STASH_FUEL_BYTES;
    berth__sample_bound_stash(cache);
}

/* In the child of a fork, a call that a signal handler interrupted to fork may go on with the cache
 * of a pool that is the parent's: nothing of that is lent or goes back. */
static void *pop_slow(struct berth__cache *cache, unsigned normal_class) {
    if (berth__io_is_inherited(cache->arenas)) {
        return NULL;
    }
    if (cache->stash == NULL) {
        cache->stash_misses++;
        if (cache->stash_misses >= BERTH_STASH_MISSES) {
            cache->stash_misses = 0;
            make_stash(cache);
        }
        return NULL;
    }
    if (cache->stash->fuel_bytes < BERTH_STASH_BLOCK_MAX) {
        refuel(cache, cache->stash);
        settle(cache, cache->stash);
        berth__decay_step(cache->arena);
        berth__cache_look_around(cache);
    }
    struct berth__stash *stash = cache->stash; /* a sweep may have taken it */
    if (stash == NULL) {
        return NULL;
    }
    if (stash->table.first[normal_class] == 0) {
        stash->missed = true;
        return NULL;
    }
    return berth__stash_take(cache, stash, normal_class);
}

void *berth__stash_pop_slow(struct berth__cache *cache, unsigned normal_class) {
    bool before = berth__cache_busy(cache);
    void *block = pop_slow(cache, normal_class);
    berth__cache_idle(cache, before);
    return block;
}

/* When the stash is as large as it will be, one of the same class makes room: the block that comes
 * in is the one whose content is in the processor's caches. */
bool berth__stash_make_room(struct berth__cache *cache, struct berth__stash *stash,
                            unsigned normal_class) {
    if (berth__io_is_inherited(cache->arenas)) {
        return false; /* as above */
    }
    size_t bytes = berth__normal_bytes[normal_class];
    bool before = berth__cache_busy(cache);
    bool is_short = berth__ledger_is_short();
    if (!is_short && stash->missed && stash->bytes_max < BERTH_STASH_BYTES_MAX) {
        (void)set_bytes_max(cache, stash, stash->bytes_max * 2);
    }
    stash->missed = false;
    bool full = berth__load_relaxed(&stash->table.bytes) + bytes > stash->bytes_max ||
                berth__run_table_is_full(&stash->table);
    if (is_short) {
        (void)evict(cache, stash, 0, 0, false);
    } else if (full && stash->table.first[normal_class] != 0) {
        give_one_on(stash, normal_class);
    } else if (full) {
        uint64_t keep = berth__min(stash->bytes_max - bytes, stash->bytes_max / 4 * 3);
        berth__decay_step(evict(cache, stash, keep, BERTH_RUN_TABLE_RUNS / 4 * 3, true));
    }
    berth__cache_idle(cache, before);
    return !is_short && cache->stash == stash; /* what is due may have been a trim, which ends it */
}

/* ---- with the rest of the cache ---- */

void berth__stash_flush(struct berth__cache *cache) {
    if (cache->stash != NULL) {
        (void)evict(cache, cache->stash, 0, 0, false);
    }
}

void berth__stash_sweep(struct berth__cache *cache) {
    struct berth__stash *stash = cache->stash;
    if (stash == NULL) {
        cache->stash_misses = 0;
        return;
    }
    settle(cache, stash);
    if (!stash->used || !limits_allow(cache->arenas, 0)) {
        berth__stash_flush(cache);
        berth__stash_strip(cache);
        return;
    }
    uint32_t count = berth__load_relaxed(&stash->table.count);
    uint32_t keep = count - (stash->table.least_count + 1) / 2;
    (void)evict(cache, stash, UINT64_MAX, keep, true);
    stash->table.least_count = keep;
    stash->used = false;
}

void berth__stash_strip(struct berth__cache *cache) {
    struct berth__stash *stash = cache->stash;
    if (stash != NULL) {
        settle(cache, stash);
        cache->stash = NULL;
        berth__cache_unreserve(cache, stash->bytes_max);
        berth__meta_free(stash, sizeof(*stash));
    }
}

uint64_t berth__stash_bytes(const struct berth__cache *cache) {
    return cache->stash == NULL ? 0 : berth__load_relaxed(&cache->stash->table.bytes);
}
