/*
 * Caches whose threads have ended, with their heaps: the next threads of the pool go on with them.
 *
 * Where threads come and go, each would fill its bins from nothing, move to a heap of its own, and
 * empty all that again at its end. So a cache that owns a heap is left as it is, settled, in its
 * pool's list `vacant`, as many as the process has CPUs. The latest is taken first. What nobody
 * takes within BERTH_VACANT_MS is ended by whoever makes the next tick, of whatever pool; sooner by
 * a trim or the ladder.
 *
 * Protocol. A vacant cache is PARKED (cache.h), its owner is 0, and it stays in `caches`, so that
 * whoever empties or reads those finds it. Joining and leaving the list is under the pool's lock,
 * which claims hold as well: who has taken a cache off the list finds it PARKED and its own. A fork
 * in a handler of the thread that leaves it finds it busy up to the moment when that thread is done
 * with it.
 */
#ifndef BERTH_HEAP_VACANT_H
#define BERTH_HEAP_VACANT_H

#include "heap/cache.h"

enum { BERTH_VACANT_MS = 500 };

/* At the end of its thread, within the pool: leaves the cache to others, or ends it. */
void berth__vacant_leave(struct berth__cache *cache);

/* A cache on an arena near that one for the calling thread, which counts as its owner from now on
 * and finds it busy; NULL if there is none. */
struct berth__cache *berth__vacant_take(struct berth__arenas *arenas,
                                        const struct berth__arena *near);

/* Ends those that are as old as that, or older; 0: all. */
void berth__vacant_end(struct berth__arenas *arenas, uint32_t ms);

/* Takes one off the list: from now on nobody else meets it but a fork, to which it is busy. */
void berth__vacant_take_off_locked(struct berth__arenas *arenas, struct berth__cache *cache)
    BERTH_REQUIRES(arenas->lock);

/* Those of all pools that are BERTH_VACANT_MS old, unless the caller visits a pool (engine.h). */
void berth__vacant_end_old(void);

/* In the child of a fork, when its caches are buried: the pool has none. */
void berth__vacant_forget_in_child(struct berth__arenas *arenas) BERTH_NO_TSA;

#endif
