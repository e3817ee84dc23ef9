/*
 * Memory that nobody uses and that is still committed, and charged to the process's ledger alone:
 *  - retained slots, given back with memory in them (berth__slots_give);
 *  - tails: what a huge block's last slot holds behind the block's end, from a longer use before.
 *  - mapped files that were freed when the kernel would not unmap them; these are not used again.
 * It is used again before new memory is mapped, and released when the decay says so or when the
 * limit is reached.
 *
 * A tail belongs to the head record of its block. It comes into being and is taken away by who
 * holds the block alone (allocating, freeing, resizing), or is trimmed by anyone; the lock of tails
 * is held for all of that, the trimmer's system call included, so that nobody unmaps what was just
 * given to another use. Lock order: tails, then slots.
 */
#ifndef BERTH_CHUNK_RETAINED_H
#define BERTH_CHUNK_RETAINED_H

#include "chunk/chunk.h"

extern struct berth__lock berth__tails_lock;

void berth__retained_init(void);

/* Enters a slot that became free, or takes one out that will be used. */
void berth__retained_add_locked(struct berth__chunk *slot) BERTH_REQUIRES(berth__slots_lock);
void berth__retained_remove_locked(struct berth__chunk *slot) BERTH_REQUIRES(berth__slots_lock);

/* Bytes in all of that. */
uint64_t berth__retained_bytes(void);

/* Unmaps memory retained for at least `age_ms`, oldest first, slots before tails before files,
 * until `bytes` are returned to the ledger or there is no more. Returns how many were. Makes system
 * calls. */
size_t berth__retained_release(size_t bytes, uint32_t age_ms);

/* Keeps `bytes` of a mapped file in slots that nobody uses, until they can be unmapped. */
void berth__retained_add_file(struct berth__chunk *first, size_t bytes);

/* Keeps `bytes` behind the end of the huge block of `first`, whose last slot is `last`. */
void berth__tail_keep(struct berth__chunk *first, struct berth__chunk *last, size_t bytes);

/* Ends that: what is left of the tail is the caller's again, still committed and charged. Returns
 * its bytes. */
size_t berth__tail_take(struct berth__chunk *first);

#endif
