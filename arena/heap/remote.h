/*
 * Freeing blocks of another thread's heap.
 *
 * The freeing thread gathers such blocks (cache.h), groups them by heap, packs each group into
 * messages, and pushes them with one compare-and-set on the heap's stack. Whoever holds the heap's
 * lock may drain the stack with one exchange; the owner does so when it refills or flushes.
 *
 * A message lies in one of the freed blocks, the carrier, and names others of its group: so a batch
 * costs the heap's owner one cache miss per carrier, not one per block.
 *     word 0: the next message on the stack; bit 0 says that the blocks count as freed already.
 *     Then 32-bit signed distances, in granules of 16 bytes, from the carrier to the other blocks;
 *     0 ends the list early. A carrier of `size` bytes names up to (size - 8) / 4 others.
 *
 * Protocol. The stack's word holds the address of the top message.
 *   R1 push: write the messages, then compare-and-set the word (release).
 *   A1 take: exchange the word with 0 (acquire), under the heap's lock; reads what R1 wrote.
 * A push whose top was taken and pushed again in between (ABA) is harmless: it links to the word
 * it compared, which is the stack's present content by definition. There is no moment between two
 * steps at which a pushed message cannot be reached, so a thread may die, or fork, at any point:
 * before its compare-and-set nothing happened, after it everything did. What was taken and not
 * looked at yet hangs on a word of its own, under the lock, and comes first the next time: so no
 * slow path takes in more than it has time for.
 * Memory stays valid: a carrier is lent until the drainer gives it back, and its slab cannot be
 * returned before.
 *
 * Bounds. A thread gathers at most BERTH_REMOTE_BYTES. A pusher that finds about
 * BERTH_REMOTE_PILE_MIN waiting drains, if it gets the lock, unless the owner was here within
 * BERTH_REMOTE_ABSENT_MS: it is better left to the owner then, whose cache has use for the blocks,
 * up to half of what the heap's slabs have, or BERTH_REMOTE_PILE_MAX.
 */
#ifndef BERTH_HEAP_REMOTE_H
#define BERTH_HEAP_REMOTE_H

#include "heap/heap.h"

enum {
    BERTH_REMOTE_BLOCKS = 128,     /* gathered per thread before they are sent */
    BERTH_REMOTE_BYTES = 32 << 10, /* likewise, in bytes */
    BERTH_REMOTE_BYTES_MIN = 1 << 10,
    BERTH_REMOTE_STEP = 512, /* blocks that a slow path takes in */
    BERTH_REMOTE_ALL = INT32_MAX,
    BERTH_REMOTE_PILE_MIN = 256 << 10, /* bytes that may wait */
    BERTH_REMOTE_PILE_MAX = 4 << 20,
    BERTH_REMOTE_ABSENT_MS = 10,
};

/* A block to send, with what the address table said of it. */
struct berth__remote_block {
    char *block;
    uint32_t heap; /* number */
    uint32_t size;
};

BERTH_INLINE struct berth__remote_block berth__remote_block(void *block, uint64_t entry) {
    return (struct berth__remote_block){
        .block = block,
        .heap = BERTH_ENTRY_HEAP(entry),
        .size = berth__classes[BERTH_ENTRY_BIN(entry) / BERTH_BIN_BYTES].size,
    };
}

/* Sends at most BERTH_REMOTE_BLOCKS blocks of slabs home, each to its heap; changes their order.
 * `counted`: the heap's count of freed blocks has them already. */
void berth__remote_send(struct berth__remote_block *blocks, unsigned count, bool counted);

/* Sends one block on, under the lock of the heap that it was sent to first. */
void berth__remote_forward(struct berth__remote_block block, bool counted);

/* Takes blocks back that others freed, `blocks_max` of them, or some more that came with them: what
 * it has room for, into the cache, if one is given, which must be the calling thread's and of this
 * heap. */
struct berth__cache;
void berth__remote_drain_locked(struct berth__heap *heap, struct berth__cache *cache,
                                unsigned blocks_max) BERTH_REQUIRES(heap->lock);

BERTH_INLINE bool berth__remote_pending(struct berth__heap *heap) {
    return berth__load_relaxed(&heap->totals->remote) != 0 ||
           berth__load_relaxed(&heap->totals->remote_rest) != 0;
}

#endif
