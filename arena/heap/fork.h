/*
 * Fork: the child gets a consistent engine, whatever the parent's threads were doing.
 *
 * Before the fork, the forking thread takes every lock of the engine, in order of rank, however
 * long their holders take; so nothing is half done under a lock when the address space is copied.
 * Parent and child release them. Signals wait meanwhile, but for those that a thread causes itself.
 * What can be locked is made known (a pool, an arena, the cache of a CPU; a heap, to those who lock
 * it) only under a lock that comes before its own in that order; the start of the engine is under
 * the first of all.
 *
 * In the child the other threads are gone. What their caches held goes back to their heaps (a bin
 * is consistent between any two instructions of the fast paths; the cache of a thread that was on
 * a slow path is left alone, and its blocks stay lent), and all heaps but the shared ones become
 * orphans. Nobody sleeps on a lock or waits for the limit any more. The forking thread starts with
 * a fresh cache: its old one may have been interrupted by a signal whose handler forked, and the
 * interrupted call, when the handler returns, goes on with the old one, which nobody else touches
 * any more; and with its wait for the limit, if it was in one.
 *
 * A fork in a handler that interrupted a slow path under a lock finds that lock its own. It does
 * not wait for it, and for locks of others only a while: they may be interrupted likewise, and want
 * ours. In the child, until the interrupted call has released it, allocations come from an
 * emergency store (emergency.h), frees are put off, and calls that change pools or limits fail with
 * EAGAIN, so that the structure under the lock is found as it was left; what becomes of the other
 * threads is put off as well. What others were changing under locks that could not be had is mended
 * at once, or set aside (fork_mend.h).
 */
#ifndef BERTH_HEAP_FORK_H
#define BERTH_HEAP_FORK_H

#include "os/lock.h"

/* Registers the fork handlers. Called when libraries are initialised, not inside malloc. After the
 * engine is in order in a child, `in_child` is called. */
void berth__fork_init(void (*in_child)(void));

/* Adds a lock of a higher layer that must be held over a fork. `mend` is called in a child whose
 * fork cut off a change under it (fork_mend.h); NULL: it is as good half done. */
void berth__fork_add_lock(struct berth__lock *lock, void (*mend)(void));

/* True in a child whose fork interrupted a slow path that is not finished: the engine must not
 * be entered. Every public call that may take a lock looks at it first. */
extern _Atomic bool berth__fork_interrupted;
BERTH_NOINLINE bool berth__fork_still_interrupted(void);

/* True in a child that was made without the fork handlers: it shares the parent's memory (vfork),
 * or has it with whatever locks were held. */
bool berth__fork_went_unseen(void);

BERTH_INLINE bool berth__fork_must_detour(void) {
    return BERTH_UNLIKELY(berth__load_relaxed(&berth__fork_interrupted)) &&
           berth__fork_still_interrupted();
}

#endif
