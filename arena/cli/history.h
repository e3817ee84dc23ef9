/*
 * What a process's figures were over the last minutes: a ring of points, for the web page.
 *
 * A point has the parts of the balance, and what else the page draws through time. The ring is as
 * long as it was made; the oldest point gives way. Of one thread.
 */
#ifndef BERTH_CLI_HISTORY_H
#define BERTH_CLI_HISTORY_H

#include "cli/page_read.h"
#include "metrics/balance.h"

/* Besides the balance: figures of the process. Its resident memory comes after them. */
#define BERTH_HISTORY_MORE(X)                                                                      \
    X(limit_bytes) X(limit_used_bytes) X(live_high_bytes) X(allocations) X(frees) X(failures)

struct berth__history_series {
    enum berth__level level; /* of pools: summed */
    const char *name;
    const char *group; /* "lent", "kept", "own": a part of the balance; "": none */
    const char *label; /* of a part */
};

enum {
#define BERTH_X(level, name, group, label) +1
    BERTH_HISTORY_PARTS = 0 BERTH_BALANCE(BERTH_X),
#undef BERTH_X
#define BERTH_X(name) +1
    BERTH_HISTORY_RESIDENT = BERTH_HISTORY_PARTS BERTH_HISTORY_MORE(BERTH_X),
#undef BERTH_X
    BERTH_HISTORY_SERIES = BERTH_HISTORY_RESIDENT + 1,
};

extern const struct berth__history_series berth__history_series[BERTH_HISTORY_SERIES];

struct berth__history_point {
    uint64_t at_ms; /* since 1970 */
    uint64_t value[BERTH_HISTORY_SERIES];
};

struct berth__history {
    size_t points_max, count, next;
    struct berth__history_point points[];
};

/* NULL if there is no memory; to be freed. */
struct berth__history *berth__history_make(size_t points_max);
void berth__history_add(struct berth__history *history, const struct berth__stats *stats,
                        uint64_t resident_bytes, uint64_t at_ms);

/* The index-th point that there is, from the oldest on. */
const struct berth__history_point *berth__history_at(const struct berth__history *history,
                                                     size_t index);

#endif
