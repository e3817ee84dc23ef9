/*
 * All figures of one process at one time, as rows.
 *
 * OpenMetrics wants all samples of one family together, so the rows of all pools are read first;
 * that also makes each form consistent with itself. The writers take snapshots of any process: the
 * tool makes them from other processes' stats pages.
 */
#ifndef BERTH_METRICS_SNAPSHOT_H
#define BERTH_METRICS_SNAPSHOT_H

#include "metrics/tables.h"

struct berth__snapshot {
    const char *version; /* of berth, in the process */
    unsigned pid;
    const struct berth__level_info *levels; /* BERTH_LEVEL_COUNT of them */
    struct berth__row *rows[BERTH_LEVEL_COUNT];
    size_t count[BERTH_LEVEL_COUNT];
    void *pages; /* of the rows, where berth__snapshot_take took it */
    size_t bytes;
};

/* True if rows of a level are wanted among `levels`, the flags of berth_metrics_write. */
bool berth__level_is_wanted(enum berth__level level, unsigned levels);

/* True for a class that was never used: it would only be noise. */
bool berth__row_is_empty(enum berth__level level, const struct berth__row *row);

/* Reads this process's figures into pages mapped for the purpose; false: there are none to be had.
 */
bool berth__snapshot_take(struct berth__snapshot *snapshot, unsigned levels);
void berth__snapshot_release(struct berth__snapshot *snapshot);

#endif
