/*
 * Memory on its way: for a moment in nobody's hands, while a thread purges or unmaps it, moves it
 * from one store to another, or charges one of two ledgers before it is refused by the other.
 *
 * It will be free again, or its bytes uncharged, but a request that looks just then does not find
 * it. So a request that fails asks whether anything was on its way while it looked, and if so,
 * looks again when that has arrived. Whoever moves memory counts it as begun before it hides it
 * (X1), and as ended after it can be found (X2):
 *
 *     on its way = begun - ended
 *
 * Counts of all threads together: what ends meanwhile may be another's, so one look more may be too
 * early; it is repeated, a bounded number of times.
 *
 * Each count is a sum of shares, one per CPU and modulo BERTH_TRANSIT_SHARES: threads that give
 * blocks on all the time would pass one word around. Who is moved in between counts the end in
 * another share than the beginning. A sum is not read at one moment, but each share only grows, so
 * two sums are the same only if nothing was added between the two readings.
 */
#ifndef BERTH_CHUNK_TRANSIT_H
#define BERTH_CHUNK_TRANSIT_H

#include "base/atomics.h"

enum { BERTH_TRANSIT_SHARES = 32 };

/* Around hiding memory and making it findable; never around waiting for others. */
void berth__transit_begin(void);
void berth__transit_end(void);

/* What had begun, and ended, before a look for memory. */
struct berth__transit {
    uint64_t begun, ended;
};

struct berth__transit berth__transit_look(void);

/* True if memory was on its way after `before`; it has arrived then, or takes too long. */
bool berth__transit_settled(struct berth__transit before);

/* In the child of a fork: what other threads had begun does not end. */
void berth__transit_reset_in_child(void);

#endif
