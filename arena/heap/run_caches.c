/*
 * The CPUs' caches of normal blocks.
 *
 * A CPU's cache belongs to no thread and to no arena: it is a set of small stacks under a lock that
 * callers only try. It holds a bounded number of bytes, whatever the number of threads, and anybody
 * can empty it.
 * A cached run stays lent in its chunk, and is marked as parked there, so that freeing it twice
 * is found at once.
 */
#include "heap/request.h"

#include "base/check.h"
#include "chunk/meta.h"
#include "chunk/transit.h"
#include "chunk/wait.h"
#include "heap/decay.h"
#include "heap/run_table.h"
#include "os/clock.h"
#include "os/cpu.h"
#include "os/topology.h"

#include <string.h>

enum {
    TRIM_MS = 128,        /* between two looks at what a cache did not need */
    PUSHES_PER_STEP = 16, /* so that a program whose every run hits a cache pays its debts too */
};

struct berth__cpu_cache {
    struct berth__lock lock BERTH_LINE_ALIGNED;
    unsigned node;               /* of the CPU */
    berth__count lends, returns; /* blocks served from here, and freed to here */
    struct berth__run_table table;
};

static void cache_init(struct berth__cpu_cache *cache, unsigned node) {
    berth__lock_init(&cache->lock, BERTH_RANK_CPU);
    cache->node = node;
    berth__run_table_init(&cache->table);
}

/* The cache of the CPU that runs this thread; NULL if there is no memory for it, or the thread was
 * moved just now. Made under the lock of the pool's parts, which a fork has taken before it takes
 * those of the caches that there are. */
static struct berth__cpu_cache *cpu_cache(struct berth__arenas *arenas) {
    unsigned cpu = berth__cpu_current() % BERTH_CPU_CACHES;
    _Atomic(struct berth__cpu_cache *) *at = &arenas->cpu_caches[cpu];
    struct berth__cpu_cache *cache = berth__load_acquire(at);
    if (cache != NULL) {
        return cache;
    }
    berth__lock_acquire(&arenas->lock);
    cache = berth__load_relaxed(at);
    unsigned node = berth__topology_here().node;
    if (cache == NULL && berth__cpu_current() % BERTH_CPU_CACHES == cpu) {
        cache = berth__meta_alloc(sizeof(*cache));
        if (cache != NULL) {
            cache_init(cache, node);
            berth__store_release(at, cache);
        }
    }
    berth__lock_release(&arenas->lock);
    return cache;
}

/* Takes runs out until no more than `bytes` and `count` are left. The caller gives them to
 * return_runs when it has released the lock. */
static unsigned evict_locked(struct berth__cpu_cache *cache, uint64_t bytes, unsigned count,
                             void **runs) BERTH_REQUIRES(cache->lock) {
    berth__transit_begin(); /* others look at the table's count without the lock */
    unsigned evicted = berth__run_table_evict(&cache->table, bytes, count, runs, NULL);
    if (evicted == 0) {
        berth__transit_end();
    }
    return evicted;
}

void *berth__run_cache_pop(struct berth__arenas *arenas, unsigned normal_class) {
    struct berth__cpu_cache *cache = cpu_cache(arenas);
    if (cache == NULL || berth__load_relaxed(&cache->table.count) == 0 ||
        !berth__try_lock(&cache->lock)) {
        return NULL;
    }
    void *run = berth__run_table_pop(&cache->table, normal_class);
    if (run != NULL) {
        berth__count_add(&cache->lends, 1);
    }
    berth__lock_release(&cache->lock);
    if (run != NULL) {
        berth__run_unpark(run);
    }
    return run;
}

void berth__run_return(void *block, unsigned freed) {
    berth__run_unpark(block);
    berth__arena_take_run(block, berth__run_bytes_at(berth__chunk_of(block), block), freed);
}

static void return_runs(void *const *evicted, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        berth__run_return(evicted[i], 0);
    }
    if (count > 0) {
        berth__transit_end();
    }
}

/* Those who allocate here next shall not get memory of another node. A thread whose arena is of
 * another one than its CPU, for want of arenas, still has a cache for its own. */
static bool is_of_node(const struct berth__arena *arena, const struct berth__cpu_cache *cache,
                       const struct berth__cache *own) {
    return arena->node == (own != NULL ? own->arena->node : cache->node);
}

/* A full one is emptied by a quarter. *due: the caller should look after what is due. */
static bool push(struct berth__arena *arena, void *run, unsigned normal_class, unsigned freed,
                 bool *due) {
    size_t bytes = berth__normal_bytes[normal_class];
    size_t bytes_max = arena->arenas->policy.run_cache_bytes;
    struct berth__cpu_cache *cache = bytes > bytes_max / 4 ? NULL : cpu_cache(arena->arenas);
    if (cache == NULL || !is_of_node(arena, cache, berth__cache_peek(arena->arenas)) ||
        berth__ledger_is_short() || !berth__try_lock(&cache->lock)) {
        return false;
    }
    void *evicted[BERTH_RUN_TABLE_RUNS];
    unsigned evicted_count = 0;
    if (berth__run_table_is_full(&cache->table) ||
        berth__load_relaxed(&cache->table.bytes) + bytes > bytes_max) {
        evicted_count = evict_locked(cache, berth__min(bytes_max - bytes, bytes_max / 4 * 3),
                                     BERTH_RUN_TABLE_RUNS / 4 * 3, evicted);
    }
    berth__run_table_push(&cache->table, normal_class, run);
    berth__count_add(&cache->returns, freed);
    *due = evicted_count > 0 || berth__load_relaxed(&cache->returns) % PUSHES_PER_STEP == 0;
    berth__lock_release(&cache->lock);
    return_runs(evicted, evicted_count);
    return true;
}

bool berth__run_cache_push(struct berth__arena *arena, void *run, unsigned normal_class) {
    bool due = false;
    bool pushed = push(arena, run, normal_class, 1, &due);
    if (due) {
        berth__decay_step(arena);
        struct berth__cache *own = berth__cache_peek(arena->arenas);
        if (own != NULL) {
            berth__cache_look_around(own);
        }
    }
    return pushed;
}

bool berth__run_cache_push_stashed(void *run, unsigned normal_class) {
    bool due = false;
    return push(berth__chunk_of(run)->arena, run, normal_class, 0, &due);
}

/* Each cache gives up half of what it held at all times since the last look. */
void berth__run_caches_trim(struct berth__arenas *arenas) {
    uint64_t now_ms = berth__clock_coarse_ms();
    uint64_t last = berth__load_relaxed(&arenas->run_caches_trimmed_ms);
    if ((int64_t)(now_ms - last) < TRIM_MS || /* another thread may have looked later */
        !berth__cas_acq_rel(&arenas->run_caches_trimmed_ms, &last, now_ms)) {
        return;
    }
    for (unsigned i = 0; i < BERTH_CPU_CACHES; i++) {
        struct berth__cpu_cache *cache = berth__load_acquire(&arenas->cpu_caches[i]);
        if (cache == NULL || !berth__try_lock(&cache->lock)) {
            continue;
        }
        void *evicted[BERTH_RUN_TABLE_RUNS];
        uint32_t count = berth__load_relaxed(&cache->table.count);
        uint32_t keep = count - (cache->table.least_count + 1) / 2;
        unsigned evicted_count = evict_locked(cache, UINT64_MAX, keep, evicted);
        cache->table.least_count = keep;
        berth__lock_release(&cache->lock);
        return_runs(evicted, evicted_count);
    }
}

void berth__run_caches_flush(struct berth__arenas *arenas) {
    for (unsigned i = 0; i < BERTH_CPU_CACHES; i++) {
        struct berth__cpu_cache *cache = berth__load_acquire(&arenas->cpu_caches[i]);
        if (cache == NULL) {
            continue;
        }
        void *evicted[BERTH_RUN_TABLE_RUNS];
        berth__lock_acquire(&cache->lock);
        unsigned count = evict_locked(cache, 0, 0, evicted);
        berth__lock_release(&cache->lock);
        return_runs(evicted, count);
    }
}

void berth__run_caches_read(struct berth__arenas *arenas, struct berth__run_cache_counts *counts) {
    memset(counts, 0, sizeof(*counts));
    counts->lends = berth__load_relaxed(&arenas->stash_lends);
    counts->returns = berth__load_relaxed(&arenas->stash_returns);
    for (unsigned i = 0; i < BERTH_CPU_CACHES; i++) {
        struct berth__cpu_cache *cache = berth__load_acquire(&arenas->cpu_caches[i]);
        if (cache != NULL) {
            counts->bytes += berth__load_relaxed(&cache->table.bytes);
            counts->lends += berth__load_relaxed(&cache->lends);
            counts->returns += berth__load_relaxed(&cache->returns);
        }
    }
}

void berth__run_caches_free(struct berth__arenas *arenas) {
    for (unsigned i = 0; i < BERTH_CPU_CACHES; i++) {
        struct berth__cpu_cache *cache = berth__load_relaxed(&arenas->cpu_caches[i]);
        if (cache != NULL) {
            berth__meta_free(cache, sizeof(*cache));
            berth__store_relaxed(&arenas->cpu_caches[i], NULL);
        }
    }
}

void berth__run_caches_visit_locks(struct berth__arenas *arenas,
                                   void (*visit)(struct berth__lock *lock, void *context),
                                   void *context) {
    for (unsigned i = 0; i < BERTH_CPU_CACHES; i++) {
        struct berth__cpu_cache *cache = berth__load_acquire(&arenas->cpu_caches[i]);
        if (cache != NULL) {
            visit(&cache->lock, context);
        }
    }
}

/* What such a cache held stays lent for good. */
void berth__run_caches_mend_in_child(struct berth__arenas *arenas) BERTH_NO_TSA {
    for (unsigned i = 0; i < BERTH_CPU_CACHES; i++) {
        struct berth__cpu_cache *cache = berth__load_acquire(&arenas->cpu_caches[i]);
        if (cache != NULL && berth__lock_is_nobodys(&cache->lock)) {
            memset((void *)&cache->table, 0, sizeof(cache->table));
            berth__run_table_init(&cache->table);
            berth__store_relaxed(&cache->lock.holder, 0);
        }
    }
}
