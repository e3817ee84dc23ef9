#include "metrics/tables.h"

#define DESCRIBE(metric, which, measured_in, text)                                                 \
    {.name = #metric,                                                                              \
     .help = text,                                                                                 \
     .kind = BERTH_METRIC_##which,                                                                 \
     .unit = BERTH_METRIC_##measured_in},

static const struct berth__metric process_metrics[] = {BERTH_PROCESS_METRICS(DESCRIBE)};
static const struct berth__metric pool_metrics[] = {BERTH_POOL_METRICS(DESCRIBE)};
static const struct berth__metric arena_metrics[] = {BERTH_ARENA_METRICS(DESCRIBE)};
static const struct berth__metric class_metrics[] = {BERTH_CLASS_METRICS(DESCRIBE)};
static const struct berth__metric tag_metrics[] = {BERTH_TAG_METRICS(DESCRIBE)};
static const struct berth__metric slow_metrics[] = {BERTH_SLOW_METRICS(DESCRIBE)};

_Static_assert(sizeof(struct berth_pool_metrics) <= sizeof(((struct berth__row *)0)->of.value),
               "the longest row");

const struct berth__level_info berth__levels[BERTH_LEVEL_COUNT] = {
    {"berth_", NULL, NULL, process_metrics, BERTH_ARRAY_COUNT(process_metrics)},
    {"berth_pool_", NULL, "pool", pool_metrics, BERTH_ARRAY_COUNT(pool_metrics)},
    {"berth_arena_", "arena", "pool", arena_metrics, BERTH_ARRAY_COUNT(arena_metrics)},
    {"berth_class_", "size", "pool", class_metrics, BERTH_ARRAY_COUNT(class_metrics)},
    {"berth_tag_", NULL, "tag", tag_metrics, BERTH_ARRAY_COUNT(tag_metrics)},
    {"berth_slow_", NULL, "path", slow_metrics, BERTH_ARRAY_COUNT(slow_metrics)},
};
