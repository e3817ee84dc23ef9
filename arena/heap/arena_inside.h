/*
 * What arena.c (lending and taking back) and arena_grow.c (memory from the kernel, and to it)
 * share.
 */
#ifndef BERTH_HEAP_ARENA_INSIDE_H
#define BERTH_HEAP_ARENA_INSIDE_H

#include "heap/arena.h"

/* A chunk's page counts before a change, to keep the arena's sums by difference. */
struct berth__page_counts {
    uint32_t free, dirty;
};

struct berth__page_counts berth__arena_counts_of(const struct berth__chunk *chunk);

/* After a chunk's maps changed: sums, bucket, dirty queue. */
void berth__arena_settle_locked(struct berth__arena *arena, struct berth__chunk *chunk,
                                struct berth__page_counts before) BERTH_REQUIRES(arena->lock);

/* After pages were given back: lets the chunk go if it is empty, and releases the lock. Its slot
 * keeps the memory, charged to the process and no longer to a pool. A chunk that is being extended
 * (grow_lock) is not let go: `open` is only emptied under that lock. */
void berth__arena_settle_unlock(struct berth__arena *arena, struct berth__chunk *chunk,
                                struct berth__page_counts before) BERTH_RELEASES(arena->lock);

/* True if a request would find what it needs. */
bool berth__arena_has_room(struct berth__arena *arena, size_t pages, size_t align_pages);

#endif
