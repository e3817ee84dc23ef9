/*
 * Reading what an engine's structures count, without a lock.
 *
 * Every figure is some value that the counter had; sums are exact when nothing changes meanwhile.
 * Allocates nothing.
 */
#ifndef BERTH_HEAP_READ_H
#define BERTH_HEAP_READ_H

#include "heap/arenas.h"

/* Of one arena, or summed over a pool's. Bytes unless named otherwise. What balances at rest, over
 * a pool's, since an arena's heaps may have slabs in chunks of another:
 *   chunk = slab_lent + run_lent + remote + free_slab + slab_tail + free_run */
struct berth__arena_counts {
    uint64_t chunks, chunk;
    uint64_t free_run, dirty_run;
    uint64_t slabs, slab_lent, remote, free_slab, slab_tail;
    uint64_t run_lent; /* those in CPU caches included */
    uint64_t heaps;
    uint64_t lends, returns; /* blocks allocated and freed by the program, settled so far */
    uint64_t refills, flushes, remote_batches, remote_blocks;
    uint64_t slabs_made, slabs_returned;
    uint64_t chunk_maps, chunk_unmaps;
    uint64_t purged, purge_calls;
    uint64_t contended; /* times that a lock was found taken */
};

struct berth__arenas_counts {
    struct berth__arena_counts sum;
    uint64_t arenas, threads;
    uint64_t huge, huge_blocks, file;
    uint64_t cached_run; /* normal blocks in CPU caches */
    uint64_t cached_bound;
    uint64_t live_low_bytes, live_high_bytes; /* what the program holds, at class sizes */
    uint64_t failures, waits, waits_failed, ladder_runs;
};

struct berth__class_counts {
    uint64_t slabs, lent, free, lends, returns; /* blocks, but for slabs */
};

void berth__arena_read(struct berth__arena *arena, struct berth__arena_counts *counts);
void berth__arenas_read(struct berth__arenas *arenas, struct berth__arenas_counts *counts);
void berth__class_read(struct berth__arenas *arenas, unsigned small_class,
                       struct berth__class_counts *counts);

#endif
