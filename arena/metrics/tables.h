/*
 * The tables of metrics as data, for the writers.
 */
#ifndef BERTH_METRICS_TABLES_H
#define BERTH_METRICS_TABLES_H

#include "base/compiler.h"

#include <berth/metrics.h>

/* BUCKET: how many took up to the number of nanoseconds that is in the name, and more than the
 * metric before; the last bucket has no number, and takes the rest. */
enum berth__metric_kind { BERTH_METRIC_GAUGE, BERTH_METRIC_COUNTER, BERTH_METRIC_BUCKET };
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
    BERTH_LEVEL_TAG,
    BERTH_LEVEL_SLOW,
    BERTH_LEVEL_COUNT
};

struct berth__level_info {
    const char *prefix; /* of OpenMetrics names */
    const char *label;  /* of its index within a pool; NULL if it has none */
    const char *name;   /* the label of what a row is of; NULL for the process */
    const struct berth__metric *metrics;
    unsigned count;
};

extern const struct berth__level_info berth__levels[BERTH_LEVEL_COUNT];

/* Their rows are of a pool. */
BERTH_INLINE bool berth__level_is_of_pools(enum berth__level level) {
    return level == BERTH_LEVEL_POOL || level == BERTH_LEVEL_ARENA || level == BERTH_LEVEL_CLASS;
}

enum { BERTH_ROW_POOL_BYTES = 32 };

/* The values of one thing at one level. Its structure is an array of 64-bit numbers in the order of
 * the table. */
struct berth__row {
    char pool[BERTH_ROW_POOL_BYTES]; /* a copy: the pool may end meanwhile; "": the process. Of the
                                        levels below classes, the name of the tag or path */
    uint64_t index;                  /* of the arena; the block size of a class */
    union {
        struct berth_process_metrics process;
        struct berth_pool_metrics pool_metrics;
        struct berth_arena_metrics arena;
        struct berth_class_metrics class_metrics;
        struct berth_tag_metrics tag;
        struct berth_slow_metrics slow;
        uint64_t value[64];
    } of;
};

#endif
