/*
 * How long slow paths take: a histogram for each, by powers of two.
 *
 * Timed is what makes system calls or waits. Refilling a cache from its heap is not: the looks at
 * the clock would be 7 % of it and more (docs/decisions/0020-tags.md). Any thread.
 */
#ifndef BERTH_OS_SLOW_H
#define BERTH_OS_SLOW_H

#include "base/atomics.h"
#include "os/clock.h"

/* X(name, help) */
#define BERTH_SLOW_PATHS(X)                                                                        \
    X(chunk_map, "Mapping memory for chunks.")                                                     \
    X(huge_map, "Mapping memory for a huge block.")                                                \
    X(unmap, "Unmapping memory.")                                                                  \
    X(purge, "Giving the memory of unused pages back to the kernel.")                              \
    X(reclaim, "Making room at the limit, but for the wait.")                                      \
    X(limit_wait, "Waiting for memory at the limit.")

enum berth__slow_path {
#define BERTH_X(name, help) BERTH_SLOW_##name,
    BERTH_SLOW_PATHS(BERTH_X)
#undef BERTH_X
        BERTH_SLOW_PATH_COUNT
};

/* Bucket i counts what took up to 2^(9 + i) ns and more than the one before; the last, all that
 * took longer. */
enum { BERTH_SLOW_FIRST_BIT = 9, BERTH_SLOW_BUCKETS = 25 };

struct berth__slow_times {
    _Atomic uint64_t total_ns;
    _Atomic uint64_t buckets[BERTH_SLOW_BUCKETS];
};

extern struct berth__slow_times berth__slow_times[BERTH_SLOW_PATH_COUNT];

/* Counts one that began at `start_ns` of berth__clock_ns. */
void berth__slow_note(enum berth__slow_path path, uint64_t start_ns);

#endif
