/*
 * An arena: chunks that some threads share, and the page runs in them.
 *
 * `struct berth__arenas` is what one pool has: its arenas, its ledger, its threads' caches. An
 * arena lends runs of pages (for normal blocks) and units (for slabs) from its chunks, fullest
 * first, and takes memory from the ledger only when none of them has room.
 *
 * Locks: `lock` guards the chunks; nothing under it makes a system call. `grow_lock` is held by the
 * one thread that maps more memory, so that others wait for its result instead of mapping theirs.
 *
 * Dirty pages: free pages that still hold data are queued by chunk and purged by decay.c.
 */
#ifndef BERTH_HEAP_ARENA_H
#define BERTH_HEAP_ARENA_H

#include "base/atomics.h"
#include "base/list.h"
#include "chunk/chunk.h"
#include "chunk/ledger.h"
#include "chunk/mappings.h"
#include "chunk/twins.h"
#include "os/lock.h"
#include "os/pages.h"
#include "os/topology.h"

enum {
    BERTH_ARENAS_MAX = 64,
    BERTH_SHARED_HEAPS = 8,         /* per arena */
    BERTH_ARENA_BUCKETS = 8,        /* none, 1, 2-3, 4-7 .. 64 free units */
    BERTH_FIRST_COMMIT = 256 << 10, /* bytes a chunk starts with; doubles */
};

struct berth__heap;
struct berth__cache;

/* What decides how much unused memory an arena keeps; see decay.h. Any thread. */
struct berth__decay {
    _Atomic uint64_t demand;        /* bytes of pages put to use lately */
    _Atomic uint64_t regret;        /* bytes put to use soon after they, or others, were purged */
    _Atomic uint64_t purged_lately; /* bytes purged that have not been wanted again yet */
    _Atomic uint64_t seen_bytes;    /* memory in use when the observer was last told */
    _Atomic uint64_t owed;          /* bytes that are due to be purged by the next slow paths */
    _Atomic uint64_t tick_ms;       /* coarse clock of the last tick */
    _Atomic uint32_t paying;        /* 1 while a thread purges */
    _Atomic uint32_t slab_yield;    /* bytes that looking at a queued slab gives back, on average */
    _Atomic uint64_t queued_slabs;  /* in the purge queues of the arena's heaps */
};

struct berth__arena {
    struct berth__lock lock BERTH_LINE_ALIGNED;
    struct berth__run_bins bins BERTH_GUARDED_BY(lock);
    struct berth__twins twins BERTH_GUARDED_BY(lock);
    struct berth__list buckets[BERTH_ARENA_BUCKETS] BERTH_GUARDED_BY(
        lock);                                        /* chunks by free units */
    struct berth__list chunks BERTH_GUARDED_BY(lock); /* all, by owner_link */
    struct berth__list dirty BERTH_GUARDED_BY(lock);  /* chunks with dirty pages, oldest first */
    struct berth__chunk *open BERTH_GUARDED_BY(lock); /* the chunk that can still be extended */
    size_t next_commit BERTH_GUARDED_BY(lock);        /* bytes to ask for next */

    struct berth__lock grow_lock BERTH_LINE_ALIGNED;
    struct berth__arenas *arenas; /* whose it is */
    unsigned index;               /* in that */
    unsigned domain;              /* the CPUs it is near; see topology.h */
    unsigned node;                /* NUMA node its chunks are bound to, or BERTH_NODE_ANY */

    struct berth__lock heaps_lock;                           /* BERTH_RANK_HEAPS */
    struct berth__list heaps BERTH_GUARDED_BY(heaps_lock);   /* all heaps */
    struct berth__list orphans BERTH_GUARDED_BY(heaps_lock); /* those whose thread has gone */
    _Atomic(struct berth__heap *) newest_heap; /* all heaps, without a lock; by heap->older */
    /* For threads with little traffic, by the CPU they started on: so that a holder of the lock who
     * is preempted keeps few others waiting. */
    _Atomic(struct berth__heap *) shared[BERTH_SHARED_HEAPS];
    _Atomic(struct berth__heap *) sampled; /* slabs of blocks that a profile follows */
    _Atomic uint32_t owners;               /* threads with a heap of their own */

    struct berth__decay decay BERTH_LINE_ALIGNED;

    /* Written under `lock`, read by anyone. Bytes. */
    berth__count chunk_bytes; /* committed in chunks */
    berth__count free_bytes;  /* in free runs */
    berth__count twin_bytes;  /* in free twins, whose other is lent */
    berth__count dirty_bytes; /* of those, with old data */
    berth__count slab_bytes;  /* lent as units */
    berth__count run_bytes;   /* lent as runs, those in CPU caches included */
    berth__count chunk_count;
    berth__count chunk_maps;   /* times that memory was committed */
    berth__count chunk_unmaps; /* chunks given back */
    berth__count run_lends, run_returns;
    berth__count purged_bytes; /* in free runs, ever */
    berth__count purge_calls;
    _Atomic uint64_t slab_purged_bytes; /* in part-used slabs, ever; any thread */
    _Atomic uint64_t slab_purge_calls;
};

void berth__arena_init(struct berth__arena *arena, struct berth__arenas *arenas, unsigned index,
                       unsigned domain, unsigned node);

/* True if both serve the same CPUs. */
BERTH_INLINE bool berth__arena_is_near(const struct berth__arena *arena,
                                       const struct berth__arena *other) {
    return arena->domain == other->domain && arena->node == other->node;
}

/* Lend from what the arena has; NULL without asking for more. A unit's heap entry is written by the
 * caller, under the heap's lock. */
void *berth__arena_lend_run(struct berth__arena *arena, size_t pages, size_t align_pages,
                            bool *zero);
struct berth__slab_record *berth__arena_lend_unit(struct berth__arena *arena, char **base,
                                                  uint16_t *resident);

void *berth__arena_lend_twin(struct berth__arena *arena, unsigned twin_class, bool *zero);

/* Give back to the arena of the chunk that the memory lies in. A chunk that becomes empty goes
 * back to the address space, still committed. A twin is a run that has less than whole pages.
 * freed: blocks that this counts as freed; 0 if a cache has counted the run when it took it. */
void berth__arena_take_run(void *run, size_t bytes, unsigned freed);
void berth__arena_take_unit(char *base, uint16_t resident);

/* Changes a run in place; false if the pages behind it are not free. */
bool berth__arena_grow_run(void *run, size_t more_pages, bool *zero);
void berth__arena_shrink_run(void *run, size_t keep_pages);

/* Makes room for `pages` more with the given alignment: extends the open chunk, or starts another.
 * At least what is needed is committed, and more if the ledger lets us. -ENOMEM: the ledger or the
 * kernel refused. Makes system calls. For this request, which a trace tells of; or NULL. */
struct berth__request;
int berth__arena_grow(struct berth__arena *arena, size_t pages, size_t align_pages,
                      unsigned charge_flags, const struct berth__request *request);

/* Of pages that were just committed: where they should be, and how large. Hints. */
void berth__arena_prepare_pages(const struct berth__arena *arena, char *at, size_t bytes);

/* The same for a slot whose memory is used again. What is of another node goes back to the kernel:
 * true if all of it now reads as zero. */
bool berth__arena_take_slot(const struct berth__arena *arena, struct berth__chunk *slot);

/* Tells apart memory of arenas that prepare it differently (chunk/mappings.h). */
uint32_t berth__arena_kind(const struct berth__arena *arena);
/* The same once such memory is in nobody's chunk. */
uint32_t berth__arena_kind_of_slots(const struct berth__arena *arena);

/* Returns free bytes at the ends of chunks to the ledger, whole empty chunks first, until `bytes`
 * were or there are no more. Makes system calls. */
size_t berth__arena_trim(struct berth__arena *arena, size_t bytes,
                         enum berth__mappings_purpose purpose);

/* One purge of a stretch of dirty pages, at most `bytes`; returns bytes purged, 0 if none is left.
 */
size_t berth__arena_purge_some(struct berth__arena *arena, size_t bytes);

/* Makes all of a lent span's slots chunks of this arena. */
void berth__arena_lend_span(struct berth__arena *arena, struct berth__span *span);

/* In the child of a fork that cut off a change under the arena's lock: its chunks are set aside.
 * What was free of them, and what is given back later, counts as lent; an arena in the caller's
 * memory has no more. */
void berth__arena_mend_in_child(struct berth__arena *arena);
/* The same for its growing and trimming: what its chunks say is committed is so. */
void berth__arena_mend_growth_in_child(struct berth__arena *arena);

/* Releases every chunk; no block may be in use, and nothing may be concurrent. */
void berth__arena_release_all(struct berth__arena *arena);

#endif
