/*
 * A heap: slabs of every class, under one lock, and a stack for what others free.
 *
 * Threads do not allocate from a heap block by block: their caches (cache.h) take and give blocks
 * in batches. A thread with real traffic has a heap of its own, so its lock is uncontended and its
 * slabs hold no other thread's blocks; threads with little traffic share one heap per arena. A heap
 * whose thread has ended is an orphan: the next thread that earns a heap adopts it, and until then
 * other heaps of the arena may take its slabs.
 *
 * Who may do what:
 *  - everything but the remote stack is guarded by `lock`; anybody may take the lock;
 *  - any thread may push on the remote stack without the lock (remote.h);
 *  - `number`, `mark` and `arena` never change; a heap's memory is never freed while its pool
 * lives, so a reader of an address-table entry may always follow the number it finds there.
 *
 * Invariants, under the lock, per class:
 *     free_blocks = sum over its slabs of (ready + cold), and over mixed ones of ready parts
 *     slabs * blocks per slab + parts - cut blocks = free_blocks + lent blocks
 * so what is lent, and what lies in the tails of slabs, is not counted but computed by readers.
 *
 * Lock order: a heap's lock before an arena's. Two heaps' locks are held together only by try_lock.
 */
#ifndef BERTH_HEAP_HEAP_H
#define BERTH_HEAP_HEAP_H

#include "heap/arena.h"

enum { BERTH_HEAPS_MAX = 65536 };

struct berth__heap_class {
    struct berth__list lists[BERTH_SLAB_LISTS - 1]; /* by enum berth__slab_list - 1 */
    _Atomic uint32_t slabs;
    berth__count free_blocks;
};
_Static_assert(sizeof(struct berth__heap_class) == BERTH_CACHE_LINE, "one line");

/* Blocks that programs allocated and freed, as their caches settled it, and those freed elsewhere
 * as they come home. */
struct berth__heap_traffic {
    berth__count lends, returns;
    berth__count vacant; /* blocks in a cache that no thread has (vacant.h) */
};

/* Sums over a heap's classes, and what it counts besides, written under the heap's lock; and, on a
 * line of its own, what others send to it. Apart from the heap, beside those of other heaps,
 * because a reader of the metrics goes through thousands of them. */
struct berth__heap_totals {
    uint32_t older;        /* number of the heap made before this one in the arena; 0: none */
    _Atomic uint32_t pool; /* its number + 1; 0: of no heap in use. What else is here came before */
    berth__count lends, returns; /* blocks; freed elsewhere: remote_freed, as they are sent */
    berth__count slabs, tail_bytes, free_bytes;
    berth__count vacant_bytes; /* lent, to a cache that no thread has; so they count as free */
    berth__count refills, flushes, remote_batches, remote_blocks;
    berth__count slabs_made, slabs_returned;
    _Atomic uint32_t contended; /* times that the heap's lock was found taken */

    _Atomic uint64_t remote BERTH_LINE_ALIGNED; /* see remote.h */
    _Atomic uint64_t remote_sent;               /* bytes pushed there, ever */
    _Atomic uint64_t remote_freed;              /* blocks pushed there by who freed them, ever */
    _Atomic uint64_t remote_rest;   /* taken from there, to be looked at; under `lock` */
    _Atomic uint32_t owner_seen_ms; /* when an owner last took from there; its lock */
    berth__count remote_drained;    /* bytes taken from there, ever; under `lock` */
} BERTH_LINE_ALIGNED;

struct berth__heap {
    /* Read by every thread that frees to the heap, and never written: a line of its own. */
    struct berth__arena *arena BERTH_LINE_ALIGNED;
    struct berth__arenas *arenas; /* of its pool */
    uint64_t mark;                /* BERTH_HEAP_MARK */
    uint32_t number;
    struct berth__heap *older; /* made before this one in the arena; see arena->newest_heap */
    struct berth__heap_totals *totals;
    struct berth__heap_mixed *_Atomic mixed; /* NULL: never had a mixed slab (mixed.h) */

    struct berth__lock lock BERTH_LINE_ALIGNED;
    struct berth__list link;                               /* in arena->heaps */
    struct berth__list orphan_link;                        /* in arena->orphans */
    struct berth__list purge_queue BERTH_GUARDED_BY(lock); /* slabs with free pages, oldest first */

    struct berth__heap_class classes[BERTH_SMALL_CLASS_COUNT] BERTH_LINE_ALIGNED;
    struct berth__heap_traffic traffic[BERTH_SMALL_CLASS_COUNT];
};

/* By number; NULL for numbers not in use. */
extern _Atomic(struct berth__heap *) berth__heaps[BERTH_HEAPS_MAX];

/* Of the heap with that number, whether it is in use or not; NULL if no heap near it ever was. So
 * many lie behind each other, from a multiple on. */
enum { BERTH_TOTALS_AT_ONCE = 64 };
struct berth__heap_totals *berth__heap_totals_of(uint32_t number);

/* Numbers in use are below this: no more than there were heaps at a time. */
uint32_t berth__heap_numbers(void);

BERTH_INLINE struct berth__heap *berth__heap_of_entry(uint64_t entry) {
    return berth__load_acquire(&berth__heaps[BERTH_ENTRY_HEAP(entry)]);
}

/* A new heap in the arena's list; NULL if there is no memory or no number left. */
struct berth__heap *berth__heap_create(struct berth__arena *arena);
/* At the end of a pool: gives the number and the memory back. */
void berth__heap_destroy(struct berth__heap *heap);

/* An orphan of the arena, or a new heap; NULL if neither can be had. */
struct berth__heap *berth__heap_adopt(struct berth__arena *arena);
void berth__heap_orphan(struct berth__heap *heap);

/* The heap that the arena's threads with little traffic share. */
struct berth__heap *berth__heap_shared(struct berth__arena *arena);

/* The heap of the arena for blocks that a profile follows. Nobody owns it, and no other heap takes
 * its slabs. NULL if there is no memory for it. */
struct berth__heap *berth__heap_sampled(struct berth__arena *arena);

/* Lends up to `count` blocks of a class into out[0..]: ready ones of the densest slabs first, then
 * cold ones; if there are none at all, of a unit from the arena, or, with `anywhere`, from any
 * arena of the pool. Returns how many; 0 means that the arena must grow. */
unsigned berth__heap_lend_locked(struct berth__heap *heap, unsigned small_class, unsigned count,
                                 void **out, bool anywhere) BERTH_REQUIRES(heap->lock);

/* Counts blocks that programs allocated and freed. */
void berth__heap_count_locked(struct berth__heap *heap, unsigned small_class, uint64_t lends,
                              uint64_t returns) BERTH_REQUIRES(heap->lock);

/* Counts blocks freed elsewhere as they come home, for their class. */
void berth__heap_count_home_locked(struct berth__heap *heap, unsigned small_class, uint64_t blocks)
    BERTH_REQUIRES(heap->lock);

/* Where blocks that are given back come from. */
enum berth__give {
    BERTH_GIVE_CACHE,          /* a cache of this heap, which has counted them as freed */
    BERTH_GIVE_REMOTE,         /* the remote stack */
    BERTH_GIVE_REMOTE_COUNTED, /* likewise, and counted before */
};

/* Takes blocks back, which may be of any class. Those whose slab has moved to another heap are sent
 * on there. Stops the process at a block that is free already or no block at all. */
void berth__heap_give_locked(struct berth__heap *heap, void *const *blocks, unsigned count,
                             enum berth__give from) BERTH_REQUIRES(heap->lock);

/* Takes a slab with free blocks of this class away from an orphan, or, if `from_anyone`, from any
 * heap of the arena that is not busy. False if there is none. */
bool berth__heap_steal(struct berth__heap *heap, unsigned small_class, bool from_anyone);

/* Purges free pages of one slab from the queue, or returns the slab if it is empty. Returns the
 * bytes given back, 0 if nothing was; *more: the queue is not empty. Makes system calls, without
 * the lock. */
size_t berth__heap_purge_some(struct berth__heap *heap, bool *more);

/* Takes in what others have freed to a few of the arena's heaps, in turn: those whose owners sleep
 * or have gone would never do it. */
void berth__heaps_collect(struct berth__arena *arena);

/* Returns all empty slabs to the arena. */
void berth__heap_return_empty(struct berth__heap *heap);

/* In the child of a fork that cut off a change under the heap's lock: its slabs are set aside, and
 * it goes on with none. What was free in them counts as lent; what is freed there is never lent
 * again. */
void berth__heap_mend_in_child(struct berth__heap *heap);
/* The same for an arena's list of heaps. */
void berth__heaps_mend_in_child(struct berth__arena *arena);

/* For audits; takes the lock. */
bool berth__heap_is_valid(struct berth__heap *heap);

#endif
