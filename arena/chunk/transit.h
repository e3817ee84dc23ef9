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
 */
#ifndef BERTH_CHUNK_TRANSIT_H
#define BERTH_CHUNK_TRANSIT_H

#include "base/atomics.h"

extern _Atomic uint64_t berth__transit_begun, berth__transit_ended;

/* Around hiding memory and making it findable; never around waiting for others. */
BERTH_INLINE void berth__transit_begin(void) {
    berth__add_acq_rel(&berth__transit_begun, 1); /* X1 */
}

BERTH_INLINE void berth__transit_end(void) {
    berth__add_acq_rel(&berth__transit_ended, 1); /* X2 */
}

/* What had begun, and ended, before a look for memory. */
struct berth__transit {
    uint64_t begun, ended;
};

BERTH_INLINE struct berth__transit berth__transit_look(void) {
    /* In this order: an end that is not seen is one that was not there. */
    uint64_t ended = berth__load_acquire(&berth__transit_ended);
    return (struct berth__transit){berth__load_acquire(&berth__transit_begun), ended};
}

/* True if memory was on its way after `before`; it has arrived then, or takes too long. */
bool berth__transit_settled(struct berth__transit before);

/* In the child of a fork: what other threads had begun does not end. */
void berth__transit_reset_in_child(void);

#endif
