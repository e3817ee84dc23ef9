/*
 * Memory that nobody uses and that is still committed, and charged to the process's ledger alone:
 *  - retained slots, given back with memory in them (berth__slots_give);
 *  - tails: what a huge block's last slot holds behind the block's end, from a longer use before;
 *  - stuck: slots with what the kernel would not unmap though it had to be: mapped files that were
 *    freed, and what a failure was to undo. Nobody uses these slots until it can be.
 * Slots and tails are used again before new memory is mapped, and released when the decay says so
 * or when the limit is reached.
 *
 * Released means unmapped, and uncharged, if the number of mappings allows it (chunk/mappings.h);
 * else the memory is returned to the kernel, but the addresses stay committed, and charged: such a
 * slot or tail is hollow. It is unmapped when bytes of the ledger are wanted, or all that there is,
 * and the number of mappings allows it then.
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

/* Bytes in all of that, as they are charged; and without what is hollow or stuck. */
uint64_t berth__retained_charged(void);
uint64_t berth__retained_bytes(void);

/* Returns memory retained for at least `age_ms` to the kernel, oldest first, slots before tails,
 * until `bytes` were returned or there are no more. Returns how many were, unmapped or not. With
 * SIZE_MAX, what is hollow or stuck is unmapped too, as far as possible. Makes system calls. */
size_t berth__retained_release(size_t bytes, uint32_t age_ms);

/* The same for who needs bytes of the ledger: counts, and returns, only what was uncharged. */
size_t berth__retained_uncharge(size_t bytes);

/* Keeps `slots` slots, in which `bytes` are charged, until the kernel unmaps them. */
void berth__retained_add_stuck(struct berth__chunk *first, size_t slots, size_t bytes);

/* Counts `bytes` that the kernel would not unmap, and that nobody can find again: they stay
 * charged for good. */
void berth__retained_lose(size_t bytes);

/* Keeps `bytes` behind the end of the huge block of `first`, whose last slot is `last`. */
void berth__tail_keep(struct berth__chunk *first, struct berth__chunk *last, size_t bytes);

/* Ends that: what is left of the tail is the caller's again, still committed and charged. Returns
 * its bytes. */
size_t berth__tail_take(struct berth__chunk *first);

/* In the child of a fork that cut off a change under the lock of slots, or of tails. */
void berth__retained_mend_in_child(void);
void berth__tails_mend_in_child(void);

#endif
