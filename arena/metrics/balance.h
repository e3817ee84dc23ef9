/*
 * Which metrics add up to mapped_bytes: what a picture of the memory through time is made of.
 *
 * X(LEVEL, metric, GROUP, label), in the order in which they lie upon each other. Those of pools
 * are summed over the pools. LENT: held by the program (blocks in thread caches included); KEPT:
 * unused, for what comes next; OWN: berth's records.
 */
#ifndef BERTH_METRICS_BALANCE_H
#define BERTH_METRICS_BALANCE_H

#define BERTH_BALANCE(X)                                                                           \
    X(POOL, slab_lent_bytes, LENT, "small blocks")                                                 \
    X(POOL, run_lent_bytes, LENT, "normal blocks")                                                 \
    X(PROCESS, huge_bytes, LENT, "huge blocks")                                                    \
    X(PROCESS, file_bytes, LENT, "mapped files")                                                   \
    X(POOL, remote_bytes, KEPT, "freed, on their way")                                             \
    X(POOL, slab_free_bytes, KEPT, "free in slabs")                                                \
    X(POOL, slab_tail_bytes, KEPT, "slab tails")                                                   \
    X(POOL, run_cached_bytes, KEPT, "cached by CPU")                                               \
    X(POOL, run_free_bytes, KEPT, "free runs")                                                     \
    X(PROCESS, retained_bytes, KEPT, "retained")                                                   \
    X(PROCESS, metadata_bytes, OWN, "metadata")

enum berth__balance_group { BERTH_BALANCE_LENT, BERTH_BALANCE_KEPT, BERTH_BALANCE_OWN };

#endif
