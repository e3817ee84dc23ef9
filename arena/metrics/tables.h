/*
 * The tables of metrics as data, for the writers.
 */
#ifndef BERTH_METRICS_TABLES_H
#define BERTH_METRICS_TABLES_H

#include "base/compiler.h"

#include <berth/metrics.h>

enum berth__metric_kind { BERTH_METRIC_GAUGE, BERTH_METRIC_COUNTER };
enum berth__metric_unit { BERTH_METRIC_NONE, BERTH_METRIC_BYTES };

struct berth__metric {
    const char *name;
    const char *help;
    enum berth__metric_kind kind;
    enum berth__metric_unit unit;
};

enum berth__level {
    BERTH_LEVEL_PROCESS,
    BERTH_LEVEL_POOL,
    BERTH_LEVEL_ARENA,
    BERTH_LEVEL_CLASS,
    BERTH_LEVEL_COUNT
};

struct berth__level_info {
    const char *prefix; /* of OpenMetrics names */
    const char *label;  /* of its index within a pool; NULL if it has none */
    const struct berth__metric *metrics;
    unsigned count;
};

extern const struct berth__level_info berth__levels[BERTH_LEVEL_COUNT];

enum { BERTH_ROW_POOL_BYTES = 32 };

/* The values of one thing at one level. Its structure is an array of 64-bit numbers in the order of
 * the table. */
struct berth__row {
    char pool[BERTH_ROW_POOL_BYTES]; /* a copy: the pool may end meanwhile; "": the process */
    uint64_t index;                  /* of the arena; the block size of a class */
    union {
        struct berth_process_metrics process;
        struct berth_pool_metrics pool_metrics;
        struct berth_arena_metrics arena;
        struct berth_class_metrics class_metrics;
        uint64_t value[64];
    } of;
};

#endif
