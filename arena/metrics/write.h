/*
 * Writing a snapshot, of this process or of another one, as text, JSON and OpenMetrics.
 */
#ifndef BERTH_METRICS_WRITE_H
#define BERTH_METRICS_WRITE_H

#include "metrics/snapshot.h"

/* What is written when `levels` (BERTH_METRICS_POOLS and so on) are asked for: in JSON, arenas and
 * classes hang below their pools. */
BERTH_INLINE unsigned berth__levels_written(enum berth_metrics_format format, unsigned levels) {
    unsigned of_pools = BERTH_METRICS_ARENAS | BERTH_METRICS_CLASSES;
    bool below = format == BERTH_METRICS_JSON && (levels & of_pools) != 0;
    return below ? levels | BERTH_METRICS_POOLS : levels;
}

/* The snapshot has no rows of levels that are not to be written. */
void berth__snapshot_write(const struct berth__snapshot *snapshot, enum berth_metrics_format format,
                           unsigned levels, berth_metrics_sink *sink, void *context);

#endif
