/*
 * When unused memory goes back to the kernel.
 *
 * Three kinds of memory are unused but resident: free runs with old data, free pages in part-used
 * slabs, and slots that were given back whole. Returning a page and faulting it in again costs
 * some ten times what reusing it does, so what will be wanted again soon is kept:
 *
 *     keep = demand + regret
 *
 * demand is what was put to use in about the last tenth of a second, whether old memory or new;
 * regret is memory that was wanted again soon after a purge, remembered for some seconds: it grows
 * when the first estimate proved too low. What is unused beyond `keep` is owed to the kernel:
 *  - eagerly, what exceeds keep by BERTH_DECAY_SLACK: so a program that frees everything and then
 *    falls silent has returned nearly all by its last free; but not what it used within the last
 *    tenth of a second, which was demand, nor all that several threads freed at once, because one
 *    pays at a time;
 *  - by ticks, the rest, over decay_ms. Who falls silent has none: maintenance:true.
 *
 * Nobody is stalled: debts are paid by slow paths, at most a budget per call, one payer at a time,
 * without holding any lock that an allocation waits for. With `maintenance:true` a thread pays
 * while the program is idle.
 */
#ifndef BERTH_HEAP_DECAY_H
#define BERTH_HEAP_DECAY_H

#include "heap/arena.h"

enum {
    BERTH_DECAY_TICK_MS = 20,
    BERTH_DECAY_SLACK = 4 << 20, /* bytes, for each second of decay_ms; in all arenas of a pool, and
                                  * in unused slots */
    BERTH_DECAY_BUDGET = 1 << 20, /* bytes a slow path purges at most */
    BERTH_DECAY_ACTS = 8,         /* stretches of pages, or slabs, that it looks at, */
    BERTH_DECAY_ACTS_DEEP = 32,   /* or, when more than the slack is owed */
};

void berth__decay_init(struct berth__decay *decay);

/* The same account for slots that nobody uses (berth__slots_give); one for the process. Its dirty
 * memory is all that is retained. */
extern struct berth__decay berth__slots_decay;

/* Pages were put to use; `fresh`: they held no memory, and will be faulted in. */
BERTH_INLINE void berth__decay_demand(struct berth__decay *decay, uint64_t bytes, bool fresh) {
    berth__add_relaxed(&decay->demand, bytes);
    uint64_t purged = fresh ? berth__load_relaxed(&decay->purged_lately) : 0;
    while (purged != 0) {
        uint64_t regretted = berth__min(bytes, purged);
        if (berth__cas_weak_relaxed(&decay->purged_lately, &purged, purged - regretted)) {
            berth__add_relaxed(&decay->regret, regretted);
            break;
        }
    }
}

/* Called on slow paths: looks at the clock, and pays a part of the debt if there is one. */
void berth__decay_step(struct berth__arena *arena);

/* The same for a thread that has nothing else to do: pays up to `bytes`. Returns what it paid. */
size_t berth__decay_pay(struct berth__arena *arena, size_t bytes);

/* True if a payment is due now. */
BERTH_INLINE bool berth__decay_owes(struct berth__arena *arena) {
    return (berth__load_relaxed(&arena->decay.owed) |
            berth__load_relaxed(&berth__slots_decay.owed)) != 0;
}

/* True if memory is owed: slow paths should come by more often. */
bool berth__decay_in_debt(struct berth__arena *arena);

/* From now on this is every pool's decay_ms, whatever its options say. */
void berth__decay_set_ms(uint32_t decay_ms);

/* Purges everything that is unused in the arena. Returns bytes. */
size_t berth__decay_purge_all(struct berth__arena *arena);

#endif
