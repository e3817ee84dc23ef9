/*
 * Handles of pools that have ended.
 *
 * A program that goes on with such a handle is to be stopped with one line. So a record outlives
 * its pool: it refers to arenas whose number is no pool's, and for which therefore no thread has a
 * cache. Allocating with it takes the slow path, which finds out; the fast one knows nothing of
 * this. Records serve further pools, the one that ended first before others, and only while more
 * than BERTH_ENDED_KEPT have ended: so a stale handle is nobody's for a while.
 *
 * Nothing is ever given back, which is bounded: by the number of pools that there were at once, and
 * BERTH_ENDED_KEPT.
 */
#ifndef BERTH_POOL_ENDED_H
#define BERTH_POOL_ENDED_H

#include "pool/pool.h"

enum { BERTH_ENDED_KEPT = 64 };

/* A record for a new pool, zeroed; NULL without metadata memory. One call of these at a time. */
berth_pool *berth__ended_reuse(void);

/* Takes the record of a pool whose arenas are gone, or never came to be. */
void berth__ended_keep(berth_pool *pool);

#endif
