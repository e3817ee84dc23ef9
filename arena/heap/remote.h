/*
 * Freeing blocks of another thread's heap.
 *
 * The freeing thread gathers such blocks (cache.h), groups them by heap, packs each group into
 * messages, and pushes them with one compare-and-set on the heap's stack. Whoever holds the heap's
 * lock may drain the stack with one exchange; the owner does so when it refills or flushes.
 *
 * A message lies in one of the freed blocks, the carrier, and names others of its group: so a batch
 * costs the heap's owner one cache miss per carrier, not one per block.
 *     word 0: the next message on the stack, with a depth in the upper 16 bits; bit 0 says that the
 *     blocks are counted as freed already
 *     then 32-bit signed distances, in granules of 16 bytes, from the carrier to the other blocks;
 *     0 ends the list early. A carrier of `size` bytes names up to (size - 8) / 4 others.
 *
 * Protocol. The stack's word holds the address of the top message and the depth of the stack.
 *   R1 push: write the messages, then compare-and-set the word (release).
 *   A1 drain: exchange the word with 0 (acquire), under the heap's lock; reads what R1 wrote.
 * A push whose top was drained and pushed again in between (ABA) is harmless: it links to the word
 * it compared, which is the stack's present content by definition. There is no moment between two
 * steps at which a pushed message cannot be reached, so a thread may die, or fork, at any point:
 * before its compare-and-set nothing happened, after it everything did.
 * Memory stays valid: a carrier is lent until the drainer gives it back, and its slab cannot be
 * returned before.
 *
 * Bounds. A thread gathers at most BERTH_REMOTE_BYTES. A heap whose owner does not come round is
 * drained by a pusher that finds the stack deeper than BERTH_REMOTE_DEEP messages: it tries the
 * lock.
 */
#ifndef BERTH_HEAP_REMOTE_H
#define BERTH_HEAP_REMOTE_H

#include "heap/heap.h"

enum {
    BERTH_REMOTE_BLOCKS = 128,     /* gathered per thread before they are sent */
    BERTH_REMOTE_BYTES = 16 << 10, /* likewise, in bytes */
    BERTH_REMOTE_BYTES_MIN = 1 << 10,
    BERTH_REMOTE_DEEP = 64,        /* messages on a stack that its owner leaves lying, */
    BERTH_REMOTE_PILE = 256 << 10, /* or bytes */
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

/* Takes everything on the stack back. */
void berth__remote_drain_locked(struct berth__heap *heap) BERTH_REQUIRES(heap->lock);

BERTH_INLINE bool berth__remote_pending(struct berth__heap *heap) {
    return berth__load_relaxed(&heap->remote) != 0;
}

#endif
