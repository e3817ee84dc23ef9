/* What the files of a heap share. All of it under the heap's lock. */
#ifndef BERTH_HEAP_HEAP_INSIDE_H
#define BERTH_HEAP_HEAP_INSIDE_H

#include "heap/heap.h"

/* The first slab in one of a class's lists, or NULL. */
struct berth__slab *berth__heap_first_slab(struct berth__heap_class *class,
                                           enum berth__slab_list list);

/* Free blocks of a class appear, or, less than 0, disappear. */
void berth__heap_count_free_locked(struct berth__heap *heap, unsigned small_class, int64_t blocks)
    BERTH_REQUIRES(heap->lock);

/* Puts a slab into the list that its counts ask for. */
void berth__heap_relist_locked(struct berth__heap *heap, struct berth__slab *slab)
    BERTH_REQUIRES(heap->lock);

#endif
