/*
 * Damage to an arena and to a heap, under their locks: what is half done in them is fatal to
 * whoever relies on it.
 */
#ifndef BERTH_UNIT_NESTED_DAMAGE_H
#define BERTH_UNIT_NESTED_DAMAGE_H

#include "heap/nested_forks.h"

static struct berth__arena *arena_of_runs, before;

static inline void damage_arena(void) BERTH_NO_TSA {
    struct berth__arena *arena = arena_of_runs;
    memcpy((void *)&before, (void *)arena, sizeof(before));
    memset((void *)&arena->bins, 0xa5, sizeof(arena->bins));
    memset((void *)&arena->twins, 0xa5, sizeof(arena->twins));
    memset((void *)arena->buckets, 0xa5, sizeof(arena->buckets));
    memset((void *)&arena->chunks, 0xa5, sizeof(arena->chunks));
    memset((void *)&arena->dirty, 0xa5, sizeof(arena->dirty));
}

static inline void repair_arena(void) BERTH_NO_TSA {
    arena_of_runs->bins = before.bins;
    arena_of_runs->twins = before.twins;
    memcpy((void *)arena_of_runs->buckets, (void *)before.buckets, sizeof(before.buckets));
    arena_of_runs->chunks = before.chunks;
    arena_of_runs->dirty = before.dirty;
}

static struct berth__heap *heap_of_smalls, heap_before;
static struct berth__slab slab_before;

static char *block_in_slab;

static inline struct berth__slab *a_slab(void) {
    struct berth__chunk *chunk = berth__chunk_of(block_in_slab);
    return &chunk->slabs[(size_t)(block_in_slab - chunk->at) / BERTH_UNIT].slab;
}

static inline void damage_heap(void) BERTH_NO_TSA {
    memcpy((void *)&heap_before, (void *)heap_of_smalls, sizeof(heap_before));
    memcpy((void *)&slab_before, (void *)a_slab(), sizeof(slab_before));
    memset((void *)&heap_of_smalls->purge_queue, 0xa5, sizeof(heap_before.purge_queue));
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        memset((void *)heap_of_smalls->classes[c].lists, 0xa5,
               sizeof(heap_before.classes[c].lists));
    }
    memset((void *)&a_slab()->link, 0xa5, sizeof(slab_before.link));
    a_slab()->ready_count = 12345;
}

static inline void repair_heap(void) BERTH_NO_TSA {
    memcpy((void *)&heap_of_smalls->purge_queue, (void *)&heap_before.purge_queue,
           sizeof(heap_before.purge_queue));
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        memcpy((void *)heap_of_smalls->classes[c].lists, (void *)heap_before.classes[c].lists,
               sizeof(heap_before.classes[c].lists));
    }
    a_slab()->link = slab_before.link;
    a_slab()->ready_count = slab_before.ready_count;
}

#endif
