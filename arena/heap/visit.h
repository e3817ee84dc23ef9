/*
 * Visits: looking at pools that one does not use, while somebody may end them.
 *
 * Who walks over all pools (a trim, the ladder, the metrics), or touches its own cache of a pool
 * without using the pool (an idle thread, a thread that ends), does so in a visit. Who ends a pool
 * first hides it (engine.h), then waits until every visit that may have seen it is over.
 *
 *   V1 begin: count this visit in the current phase; fence; then look at the table of pools.
 *   V2 wait: after hiding; fence; begin another phase; wait until the old phase's count is 0.
 * Either the visit sees that the pool is hidden, or the wait sees the visit. A visit that counts
 * itself in a phase that has just gone by takes that back and begins again.
 *
 * Lock-free but for the wait. Visits may be nested, and may be made in signal handlers. The wait
 * must not be made in a visit, nor by two threads at once.
 */
#ifndef BERTH_HEAP_VISIT_H
#define BERTH_HEAP_VISIT_H

#include "base/compiler.h"

/* Returns what the end of the visit must be told. */
unsigned berth__visit_begin(void);
void berth__visit_end(unsigned visit);

void berth__visits_wait(void);

/* In the child of a fork: the other threads' visits are over. */
void berth__visits_reset_in_child(void);

#endif
