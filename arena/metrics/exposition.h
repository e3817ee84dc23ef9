/*
 * Snapshots of one process or of several as Prometheus reads them: OpenMetrics 1.0, and the classic
 * text format 0.0.4.
 *
 * All samples of a family stand together, whichever process they are of, as both formats want it.
 * Writes no more than what it is asked for, so that who serves several processes can add families
 * of its own before the end.
 */
#ifndef BERTH_METRICS_EXPOSITION_H
#define BERTH_METRICS_EXPOSITION_H

#include "metrics/output.h"
#include "metrics/snapshot.h"

enum berth__dialect { BERTH_OPENMETRICS, BERTH_CLASSIC };

struct berth__source {
    const struct berth__snapshot *snapshot;
    const char *labels; /* of all its samples, escaped: `pid="7",comm="redis"`; or "" */
};

/* What a bucket's name says: "within_512_ns". 0: no bound. */
uint64_t berth__bucket_bound_ns(const struct berth__metric *metric);

/* The metric of that name; 0 if there is none. */
uint64_t berth__row_value(const struct berth__level_info *level, const struct berth__row *row,
                          const char *name);

/* TYPE, UNIT and HELP of a family. `unit`: as in "bytes", which its name ends in; or NULL. */
void berth__family_head(struct berth__output *out, enum berth__dialect dialect, const char *name,
                        enum berth__metric_kind kind, const char *unit, const char *help);

/* The families of `levels` (BERTH_LEVEL_COUNT of them), in their order. A source that lacks a
 * metric has no sample of it; one that has others has them left out. */
void berth__exposition_write(struct berth__output *out, enum berth__dialect dialect,
                             const struct berth__level_info *levels,
                             const struct berth__source *sources, size_t count);

/* What must come last. */
void berth__exposition_end(struct berth__output *out, enum berth__dialect dialect);

#endif
