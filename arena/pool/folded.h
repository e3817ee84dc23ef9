/*
 * What pools had counted before they were ended or reset.
 *
 * The process's counters and those of tags are sums over pools, and must not fall when one of these
 * goes: who scrapes them takes that for a restart. So what a pool had counted is kept. Between the
 * moment in which a pool leaves the engine's table and the one in which its counts are here, a sum
 * lacks them; then the sum before is told once more.
 */
#ifndef BERTH_POOL_FOLDED_H
#define BERTH_POOL_FOLDED_H

#include "heap/arenas.h"
#include "heap/read.h"

struct berth__folded_counts {
    uint64_t allocations, frees, failures;
};

/* Keeps what a pool that nobody can enter counted before it was emptied, and does not count any
 * more. Blocks that it dropped count as freed. One caller at a time. */
void berth__folded_keep(unsigned tag, const struct berth__arenas_counts *before,
                        const struct berth__arenas_counts *after);

/* Adds to the sums over the pools of a tag, or, for 0, over all. Wait-free but for others that do
 * the same. */
void berth__folded_add(unsigned tag, struct berth__folded_counts *sums);

#endif
