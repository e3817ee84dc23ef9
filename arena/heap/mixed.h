/*
 * Mixed slabs: holes of one class that serve another (chunk/parts.h).
 *
 * A class that has no ready block left, and would touch fresh memory, takes parts instead if
 * another class of its heap has many ready ones: first from slabs that are mixed for it already,
 * then from another slab of that class. So what is mixed stays a small and dense set of slabs,
 * whose holes are used before those of others; and the others can become empty.
 *
 * The unit's entry says that it is mixed. Fast paths know no such kind; slow paths ask
 * berth__mixed_entry for the entry that a block would have in a slab of its own class, and then
 * treat it as any other: it goes through the same bins of caches and the same remote stacks.
 *
 * Protocol. A slab becomes mixed, and plain again, under its heap's lock, while threads hold and
 * free blocks of it:
 *   M1 writes the entry (release), before the first part is lent, after the last was taken back;
 *   M2 reads the entry (acquire), then whether the block is cut.
 * Whoever holds a part got it from somebody after M1, and as long as it is held the slab stays
 * mixed, and the block cut. Whoever holds a whole block may read the old entry or the new one: both
 * say what the block is, for its bit among the cut ones is zero from the slab's beginning on, and
 * M2 orders it behind that.
 */
#ifndef BERTH_HEAP_MIXED_H
#define BERTH_HEAP_MIXED_H

#include "chunk/parts.h"
#include "heap/heap.h"

/* When parts are worth it. Written by tests only. */
struct berth__mixed_policy {
    uint32_t free_bytes; /* that must be free in a class that gives parts, */
    uint32_t free_share; /* and one in so many of its slabs' bytes */
    uint32_t slabs;      /* that a class has before it takes parts */
};
extern struct berth__mixed_policy berth__mixed_policy;

/* Made when the first slab of a heap becomes mixed, and part of it from then on. */
struct berth__heap_mixed {
    struct berth__list open[BERTH_SMALL_CLASS_COUNT]; /* slabs that can give parts of a class */
    berth__count extra[BERTH_SMALL_CLASS_COUNT];      /* parts of a class less blocks cut of it */
};

/* The entry that a block would have if its slab were of its class; 0: no block starts there. */
uint64_t berth__mixed_entry(const void *block);

/* The same for any entry of a slab. */
BERTH_INLINE uint64_t berth__plain_entry(const void *block, uint64_t entry) {
    bool mixed = BERTH_UNLIKELY(BERTH_ENTRY_KIND(entry) == BERTH_UNIT_MIXED);
    return mixed ? berth__mixed_entry(block) : entry;
}

/* What the entry of a heap's slab has to be. */
uint64_t berth__slab_entry(const struct berth__heap *heap, const struct berth__slab *slab);

/* Lends up to `count` parts into out[0..]; returns how many. */
unsigned berth__mixed_lend_locked(struct berth__heap *heap, unsigned small_class, unsigned count,
                                  void **out) BERTH_REQUIRES(heap->lock);

/* Takes a block or a part of a mixed slab back; returns its class. The caller puts the slab where
 * it belongs then. Stops the process if it is free already, or no block. */
unsigned berth__mixed_take_back_locked(struct berth__heap *heap, struct berth__slab *slab,
                                       void *block) BERTH_REQUIRES(heap->lock);

/* Keeps a mixed slab listed while it can give parts. */
void berth__mixed_relist_locked(struct berth__heap *heap, struct berth__slab *slab)
    BERTH_REQUIRES(heap->lock);

/* A mixed slab joins a heap, or leaves it. False if there is no memory to join. */
bool berth__mixed_prepare_locked(struct berth__heap *heap) BERTH_REQUIRES(heap->lock);
void berth__mixed_join_locked(struct berth__heap *heap, struct berth__slab *slab)
    BERTH_REQUIRES(heap->lock);
void berth__mixed_leave_locked(struct berth__heap *heap, struct berth__slab *slab)
    BERTH_REQUIRES(heap->lock);

/* A mixed slab that can give parts of a class, or NULL. */
struct berth__slab *berth__mixed_first_locked(struct berth__heap *heap, unsigned small_class)
    BERTH_REQUIRES(heap->lock);

/* Parts of a class less the blocks of it that are cut, modulo 2^64. */
uint64_t berth__mixed_extra(struct berth__heap *heap, unsigned small_class);

/* For audits: free parts of a class, or UINT64_MAX if a slab is wrong. */
uint64_t berth__mixed_audit_locked(struct berth__heap *heap, unsigned small_class)
    BERTH_REQUIRES(heap->lock);

#endif
