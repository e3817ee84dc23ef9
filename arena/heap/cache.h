/*
 * A thread's cache: for each small class, a bounded stack of pointers to free blocks.
 *
 * malloc pops a pointer, free pushes one; neither touches the block or any shared memory. An empty
 * bin is refilled from the cache's heap, a full one gives its older half back, in batches under
 * that heap's lock. Only blocks of the cache's own heap enter it: others are gathered and sent
 * home (remote.h), so memory does not migrate and a thread that only frees caches nothing.
 *
 * A bin's stack grows downwards in an array of `capacity` slots. A NULL behind it stops malloc
 * without a second load, and a second one lets free look at the two latest blocks:
 *
 *     array_end[-capacity] .. array_end[-1], array_end[0] == array_end[1] == NULL
 *     low == array_end - capacity <= top <= array_end;  cached blocks == array_end - top
 *
 * A NULL among the blocks is the mark of a sample (sample.h); it counts as a block that is cached.
 *
 * `fuel` is what free counts down: at zero it takes the slow path, where counters are settled,
 * debts are paid and remote frees are fetched, so that a thread whose every call hits its cache
 * comes by all the same. Counts follow from it: blocks freed since the last settlement are
 * fuel_start - fuel, and blocks allocated are settled + freed - cached.
 *
 * Bound: sum over bins of capacity * size + remote_limit + the stash's bytes_max = reserved
 * <= allowance + granted, and the sum of `granted` over all threads never exceeds the budget
 * (berth__cache_budget). The allowance is BERTH_CACHE_FREE_BYTES, but 0 for pools of scopes.
 *
 * Owner only, except `state` and, while parked, everything under a claim. States:
 *     ACTIVE  -> PARKED   by the owner, about to sleep (release K1)
 *     PARKED  -> ACTIVE   by the owner, on its first slow path after (acquire K2)
 *     PARKED  -> CLAIMED  by any thread, to empty it (acquire K2)
 *     CLAIMED -> PARKED   by that thread, when done (release K1)
 * While a cache is not ACTIVE its owner's thread-local pointer is the empty cache, so its fast
 * paths cannot touch this one. The owner that finds CLAIMED waits: emptying is short.
 *
 * The end of its pool. Who ends or resets a pool disowns its caches: takes back what they hold, and
 * last stores a serial of 0 (release D1). A cache's memory is its thread's, which frees it at its
 * own end or when it next uses a pool of that number, after it has seen another serial than the
 * pool's (acquire D2). Until then the thread may park and unpark the cache, which touches nothing
 * but `state`; to what the cache holds it comes only by a visit of the pool (engine.h).
 */
#ifndef BERTH_HEAP_CACHE_H
#define BERTH_HEAP_CACHE_H

#include "base/poison.h"
#include "chunk/wait.h"
#include "heap/arenas.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "heap/remote.h"
#include "os/stack.h"

enum {
    BERTH_CACHE_BYTES = 4096,        /* of the structure: a page */
    BERTH_CACHE_FREE_BYTES = 2048,   /* what a thread may cache without a grant */
    BERTH_BIN_BYTES_MAX = 128 << 10, /* a bin caches no more than this, but always some blocks */
    BERTH_BIN_TINY_BYTES_MAX = 512 << 10, /* the same for tiny blocks */
    BERTH_BIN_BLOCKS_MAX = 4094,
    BERTH_BIN_BLOCKS_ONE_WAY = 254, /* as many if it only ever runs full, or only empty */
    BERTH_BIN_OVERFLOWED = 1 << 15, /* with a bin's batch: it was full since it last grew */
    BERTH_BIN_DUE = 1 << 14,        /* likewise: when the fuel is spent, a sample is (sample.h) */
    BERTH_BIN_FLAGS = BERTH_BIN_OVERFLOWED | BERTH_BIN_DUE,
    BERTH_BIN_ENDS = 2,      /* NULLs behind a bin's blocks */
    BERTH_FUEL = 1024,       /* frees of a class between two slow paths */
    BERTH_FUEL_IN_DEBT = 16, /* while memory is due to go back */
};

struct berth__bin {
    void **top;          /* the next block to hand out, or the NULL at the end */
    void **low;          /* top == low: full */
    uint32_t reciprocal; /* of the class */
    int32_t fuel;
    uint16_t capacity; /* slots in use of the array */
    uint16_t settled;  /* cached blocks at the last settlement */
    uint16_t batch;    /* blocks to ask for at the next refill; BERTH_BIN_FLAGS */
    uint16_t fuel_start;
};
_Static_assert(sizeof(struct berth__bin) == BERTH_BIN_BYTES, "the address table counts in these");

enum berth__cache_state { BERTH_CACHE_ACTIVE, BERTH_CACHE_PARKED, BERTH_CACHE_CLAIMED };

struct berth__cache {
    struct berth__bin bins[BERTH_SMALL_CLASS_COUNT]; /* first: the address table holds offsets */

    struct berth__heap *heap; /* where blocks come from: its own, or the arena's shared one */
    uint64_t mark;            /* heap->mark */
    struct berth__arena *arena;
    struct berth__arenas *arenas;
    uint64_t owner;          /* its thread's pointer, for fork; 0: vacant */
    _Atomic uint64_t serial; /* arenas->serial when it was made; 0: disowned */
    struct berth__list link; /* in arenas->caches */
    bool owns_heap;
    bool taken_over;   /* from a thread that has ended */
    bool of_default;   /* of the default pool */
    _Atomic bool busy; /* its thread is on a slow path that changes it */
    _Atomic uint32_t state;
    _Atomic uint64_t granted; /* bytes of the budget */
    uint64_t reserved;        /* sum of capacity * size, remote_limit, the stash's bytes_max */
    uint32_t allowance;       /* what it may cache without a grant: BERTH_CACHE_FREE_BYTES, or 0 */
    uint32_t refills;         /* since `refills_since_ms`: what earns a heap */
    uint32_t refills_since_ms;
    uint32_t slow_calls;  /* slow paths taken */
    uint32_t strays;      /* sweeps in a row that found the thread near another arena */
    uint32_t swept_ms;    /* when unused bins were last looked at */
    uint32_t inline_used; /* slots of inline_slots that are handed out */

    struct berth__list vacant_link; /* in arenas->vacant, or in none; vacant.h */
    uint32_t vacant_ms;

    struct berth__stash *stash; /* of normal blocks; stash.h */
    uint32_t stash_misses;      /* since the last sweep; what earns one */

    uint32_t remote_count, remote_bytes;
    uint32_t remote_max;                /* blocks that may be gathered: BERTH_REMOTE_BLOCKS, or 0 */
    uint32_t remote_limit;              /* bytes that may be gathered; reserved */
    uint32_t remote_sends;              /* since the last sweep */
    struct berth__remote_block *remote; /* NULL while remote_max is 0 */

    uint64_t sample_epoch, sample_interval; /* as the cache knows them; see sample.h */
    uint64_t sample_random;                 /* 0: not drawn from yet */
    int64_t sample_left;                    /* bytes of large blocks up to the next sample */
    struct berth__stack stack;              /* of its thread */

    void *inline_slots[112]; /* the first small arrays */
};
_Static_assert(sizeof(struct berth__cache) <= BERTH_CACHE_BYTES, "a page");

/* A thread's caches of other pools than the default one, by number; of that, too, while a scope is
 * open. Memory of the thread's own, which nobody else reads. */
enum { BERTH_SCOPES_MAX = 16 };

struct berth__cache_table {
    uint32_t slots;
    uint32_t depth;                   /* of open scopes */
    uint16_t outer[BERTH_SCOPES_MAX]; /* pools of those around the innermost; 0: of none */
    struct berth__cache *caches[];
};

/* What a thread has. Static TLS of the malloc door: 64 bytes at most. */
struct berth__tls {
    struct berth__cache *cache;  /* of the pool that serves malloc; &berth__no_cache when there is
                                    none */
    uint64_t mark;               /* cache->mark, or one that fits no block */
    struct berth__cache *parked; /* the default pool's cache that was put aside, or NULL */
    struct berth__cache **pools; /* the caches of a berth__cache_table, or NULL */
    struct berth__cache **parked_pools; /* the same, put aside */
    uint32_t pool_slots;                /* entries in `pools` */
    uint16_t scope;                     /* number of the pool that serves malloc */
    struct berth__waiter *waiter;       /* of this thread, while it waits at the limit */
    bool registered;                    /* the exit handler will run */
    bool ended;                         /* it has run: this thread allocates without a cache */
    bool reclaiming;                    /* runs callbacks of the ladder */
    bool unwinding; /* its last request failed: small ones may use the reserve */
    bool sampling;  /* it notes a sample: what it allocates meanwhile is none */
};
_Static_assert(sizeof(struct berth__tls) <= 64, "static TLS is scarce");

#ifndef BERTH_TLS_MODEL
#define BERTH_TLS_MODEL
#endif
extern _Thread_local struct berth__tls berth__tls BERTH_TLS_MODEL;

/* An empty cache that is always empty and full: every fast path takes the slow one. */
extern const struct berth__cache berth__no_cache;
enum { BERTH_NO_MARK = 1 };

/* Bytes of the budget that nobody holds. */
extern _Atomic int64_t berth__cache_budget;
extern uint64_t berth__cache_budget_total;

BERTH_INLINE struct berth__bin *berth__bin_of_size(struct berth__cache *cache, size_t size) {
    return (struct berth__bin *)(void *)((char *)cache + berth__bin_of_granules[(size + 15) / 16]);
}

/* Of a slab of the cache's own heap; of another's, the bin of the same class. */
BERTH_INLINE struct berth__bin *berth__bin_of_entry(struct berth__cache *cache, uint64_t entry) {
    return (struct berth__bin *)(void *)((char *)cache + BERTH_ENTRY_BIN(entry));
}

BERTH_INLINE unsigned berth__bin_class(const struct berth__cache *cache,
                                       const struct berth__bin *bin) {
    return (unsigned)(bin - cache->bins);
}

/* What a fork in another thread must not find half done is bracketed by these two, which may be
 * nested: `before` is what the first returned. */
BERTH_INLINE bool berth__cache_busy(struct berth__cache *cache) {
    bool before = berth__load_relaxed(&cache->busy);
    berth__store_relaxed(&cache->busy, true);
    atomic_signal_fence(memory_order_seq_cst);
    return before;
}

BERTH_INLINE void berth__cache_idle(struct berth__cache *cache, bool before) {
    atomic_signal_fence(memory_order_seq_cst);
    berth__store_release(&cache->busy, before);
}

BERTH_INLINE void **berth__bin_end(const struct berth__bin *bin) {
    return bin->low + bin->capacity;
}

BERTH_INLINE unsigned berth__bin_count(const struct berth__bin *bin) {
    return (unsigned)(berth__bin_end(bin) - bin->top);
}

/* A cached block of this size, or NULL. */
BERTH_INLINE void *berth__cache_pop(struct berth__cache *cache, size_t size) {
    struct berth__bin *bin = berth__bin_of_size(cache, size);
    void **top = bin->top;
    void *block = *top;
    if (BERTH_LIKELY(block != NULL)) {
        bin->top = top + 1;
        berth__handed_out(block);
        berth__unpoison(block, berth__classes[berth__bin_class(cache, bin)].size);
    }
    return block;
}

/* Caches a block of the bin's class and the cache's heap, if there is room and it was not freed
 * just now; false: nothing was done. */
BERTH_INLINE bool berth__bin_push(struct berth__cache *cache, struct berth__bin *bin, void *block) {
    void **top = bin->top;
    if (BERTH_UNLIKELY(top[0] == block) || /* freed just now */
        BERTH_UNLIKELY(top[1] == block) || /* or just before */
        BERTH_UNLIKELY(top == bin->low) || BERTH_UNLIKELY(--bin->fuel < 0)) {
        return false;
    }
    berth__misuse_if_free(block);
    top[-1] = block;
    atomic_signal_fence(memory_order_release); /* a fork in a handler may look in between */
    bin->top = top - 1;
    berth__poison(block, berth__classes[berth__bin_class(cache, bin)].size);
    return true;
}

/* Caches a block if it is one of `*mark`'s heap, is at least `size` bytes long unless any size will
 * do, and there is room; false: nothing was done. By address, so that both are read where they are
 * needed. */
BERTH_INLINE bool berth__cache_push_sized(struct berth__cache *const *owner, const uint64_t *mark,
                                          void *block, size_t size, bool any_size) {
    char *base = berth__primary.base;
    size_t unit = ((uintptr_t)block - (uintptr_t)base) / BERTH_UNIT;
    if (BERTH_UNLIKELY(unit >= berth__primary.units)) {
        return false;
    }
    uint64_t offset = berth__load_relaxed((berth__entry *)(void *)base + unit) - *mark;
    if (BERTH_UNLIKELY(offset >= sizeof((*owner)->bins))) {
        return false; /* another heap's, or no small block */
    }
    if (!any_size && (BERTH_UNLIKELY(size > BERTH_SMALL_MAX) ||
                      BERTH_UNLIKELY(berth__bin_of_granules[(size + 15) / 16] > offset))) {
        return false;
    }
    struct berth__cache *cache = *owner;
    struct berth__bin *bin = (struct berth__bin *)(void *)((char *)cache + offset);
    uint32_t into_unit = (uint32_t)((uintptr_t)block % BERTH_UNIT);
    return BERTH_LIKELY(berth__divides(into_unit, bin->reciprocal)) &&
           berth__bin_push(cache, bin, block);
}

BERTH_INLINE bool berth__cache_push(struct berth__cache *const *owner, const uint64_t *mark,
                                    void *block) {
    return berth__cache_push_sized(owner, mark, block, 0, true);
}

/* ---- slow paths; cache.c ---- */

/* A block of a small class when the bin is empty; NULL if the heap has none and the arena must
 * grow. */
void *berth__cache_refill(struct berth__cache *cache, unsigned small_class, bool anywhere);

/* Takes a small block that the fast path refused: not ours, or the bin is full, or settlement is
 * due. `entry` describes it. */
void berth__cache_take(struct berth__cache *cache, void *block, uint64_t entry);

/* The same for what is known to be the start of a block. */
void berth__cache_take_block(struct berth__cache *cache, void *block, uint64_t entry);

/* Caches those of its heap's blocks that others freed for which there is room; returns the number
 * of the rest, which are the first. Under the heap's lock. */
unsigned berth__cache_keep_locked(struct berth__cache *cache, void **blocks, unsigned count,
                                  bool counted);

/* Puts a block of another heap aside, to be sent home with others, if there is room; false: nothing
 * was done. It is wholly there before it counts, for a fork that looks in between. */
BERTH_INLINE bool berth__cache_gather(struct berth__cache *cache, void *block, uint64_t entry) {
    struct berth__remote_block item = berth__remote_block(block, entry);
    uint32_t count = cache->remote_count;
    uint32_t bytes = cache->remote_bytes + item.size;
    if (BERTH_UNLIKELY(count >= cache->remote_max || bytes > cache->remote_limit) ||
        berth__wait_anyone()) {
        return false;
    }
    berth__misuse_if_free(block);
    berth__poison(block, item.size);
    cache->remote[count] = item;
    cache->remote_bytes = bytes;
    atomic_signal_fence(memory_order_release);
    cache->remote_count = count + 1;
    return true;
}

/* Gives everything back: cached blocks, gathered remote ones. The grant, too, if `grant`. Owner, or
 * under a claim. */
void berth__cache_flush(struct berth__cache *cache, bool grant);

/* Brings its heap's counts up to date, where its blocks count as free from now on: it becomes
 * vacant (vacant.h). Then it may not change before the other is called. */
void berth__cache_settle(struct berth__cache *cache);
void berth__cache_unsettle(struct berth__cache *cache);

/* Sends the blocks of other heaps that were gathered. */
void berth__cache_send_remote(struct berth__cache *cache);

/* From now on blocks come from a heap of this arena: an own one for its first thread, else the
 * shared one. The cache must be empty. False if there is no memory for a heap. */
bool berth__cache_join(struct berth__cache *cache, struct berth__arena *arena);

/* Counts a refill, of a bin or from the arena: a thread moves from the arena's shared heap to one
 * of its own, perhaps in another arena, when they show real traffic. */
void berth__cache_count_refill(struct berth__cache *cache);

/* For threads that need none of the above for long: what bins do not use goes back, and a thread
 * that was moved is served by another arena, cache->arena. Cheap until some time has passed. */
void berth__cache_look_around(struct berth__cache *cache);

/* The same, and what is due to the kernel and to observers, at some of the calls. */
void berth__cache_pay_dues(struct berth__cache *cache);

/* At the thread's end: its own heap becomes an orphan. The cache must be empty. */
void berth__cache_release_heap(struct berth__cache *cache);

/* Forgets what the cache holds, because its pool's memory is gone. Its thread frees it later. */
void berth__cache_abandon(struct berth__cache *cache);

/* ---- scopes; thread.c ----
 *
 * While a scope is open, a pool of its own serves what the calling thread asks of the default pool.
 * `cache` in the thread's record is a copy of that pool's entry in the table then, and the default
 * pool's cache is entry 0; so that malloc's fast path needs to know nothing of scopes, and parking,
 * flushing and ending find every cache in one place. A block's entry says whose it is, as ever:
 * frees need no scope.
 */

/* Opens a scope of a pool that never ends. -EOVERFLOW: too many are open; -ENOMEM. */
int berth__scope_push(struct berth__arenas *arenas);

/* Closes the innermost one; false: none is open. */
bool berth__scope_pop(void);

/* ---- life; thread.c ---- */

/* The calling thread's cache of a pool, made if need be; NULL if the thread has ended or there is
 * no memory: then allocate without. */
struct berth__cache *berth__cache_get(struct berth__arenas *arenas);

/* Its cache of a pool if it has one, without making one or waking a parked one. */
struct berth__cache *berth__cache_peek(struct berth__arenas *arenas);

/* Puts the calling thread's caches aside (berth_thread_idle): others may empty them. */
void berth__cache_park(void);

/* Empties the calling thread's caches of all pools, but those that are being ended. */
void berth__caches_flush_own(void);

/* Empties the parked caches of a pool. */
void berth__caches_claim_parked(struct berth__arenas *arenas);

/* Bytes that all threads' caches of a pool hold, those that a fork left included. Exact while
 * nobody uses the pool. */
uint64_t berth__caches_bytes(struct berth__arenas *arenas);

/* In the child of a fork: takes a cache off its pool's list, with what it holds. */
void berth__cache_leave(struct berth__cache *cache);

/* In the child of a fork: a cache that nobody goes on with holds nothing of the budget. */
void berth__cache_forgo_grant(struct berth__cache *cache);

/* At the end of a pool: makes the caches that threads still point to harmless. */
void berth__caches_disown(struct berth__arenas *arenas);

/* In the child of a fork: the thread has no caches any more. */
void berth__threads_forget_own(void);

void berth__threads_init(void);

#endif
