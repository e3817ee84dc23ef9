/*
 * The child of a fork in a handler that interrupted a slow path: what other threads were changing.
 *
 * Such a fork does not wait for ever for a lock whose holder may be stopped in a handler, too. In
 * the child that holder is gone, and what it was changing under the lock is as it was left. Each
 * structure has an answer, chosen so that no call which goes on in the child can meet what is half
 * done:
 *
 *  - what says which memory is free begins anew, empty: an arena's chunks, a heap's slabs, a CPU's
 *    cache, free metadata. What it held stays lent for good: chunks are set aside, slabs go to a
 *    heap that nobody can lock, and what is freed to either is not lent again;
 *  - lists are mended (base/list.h), or made again from what is published last;
 *  - what is published by one store, and counts, are left as they are.
 *
 * Every lock is free then.
 */
#ifndef BERTH_HEAP_FORK_MEND_H
#define BERTH_HEAP_FORK_MEND_H

#include "os/lock.h"

/* Mends what is guarded by locks that are nobody's (os/lock.h), and frees these. */
void berth__fork_mend(void);

/* Frees one. True if it was nobody's. */
bool berth__fork_open_nobodys(struct berth__lock *lock);

/* Calls visit(lock, context) for the locks of higher layers. */
void berth__fork_visit_extra_locks(void (*visit)(struct berth__lock *lock, void *context),
                                   void *context);

#endif
