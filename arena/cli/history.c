#include "cli/history.h"

#include <stdlib.h>
#include <string.h>

#define GROUP_LENT "lent"
#define GROUP_KEPT "kept"
#define GROUP_OWN "own"

const struct berth__history_series berth__history_series[BERTH_HISTORY_SERIES] = {
#define BERTH_X(level, name, group, label) {BERTH_LEVEL_##level, #name, GROUP_##group, label},
    BERTH_BALANCE(BERTH_X)
#undef BERTH_X
#define BERTH_X(name) {BERTH_LEVEL_PROCESS, #name, "", ""},
        BERTH_HISTORY_MORE(BERTH_X)
#undef BERTH_X
            {BERTH_LEVEL_PROCESS, "resident_bytes", "", ""},
};

struct berth__history *berth__history_make(size_t points_max) {
    struct berth__history *history =
        calloc(1, sizeof(*history) + points_max * sizeof(history->points[0]));
    if (history != NULL) {
        history->points_max = points_max;
    }
    return history;
}

/* A sum over the rows of a level; 0 if the process knows no such metric. */
static uint64_t figure(const struct berth__stats *stats,
                       const struct berth__history_series *series) {
    const struct berth__level_info *level = &stats->levels[series->level];
    uint64_t sum = 0;
    for (unsigned i = 0; i < level->count; i++) {
        if (strcmp(level->metrics[i].name, series->name) == 0) {
            for (size_t r = 0; r < stats->snapshot.count[series->level]; r++) {
                sum += stats->snapshot.rows[series->level][r].of.value[i];
            }
            break;
        }
    }
    return sum;
}

void berth__history_add(struct berth__history *history, const struct berth__stats *stats,
                        uint64_t resident_bytes, uint64_t at_ms) {
    struct berth__history_point *point = &history->points[history->next];
    point->at_ms = at_ms;
    point->value[BERTH_HISTORY_RESIDENT] = resident_bytes;
    for (unsigned i = 0; i < BERTH_HISTORY_RESIDENT; i++) {
        point->value[i] = figure(stats, &berth__history_series[i]);
    }
    history->next = (history->next + 1) % history->points_max;
    history->count += history->count < history->points_max;
}

const struct berth__history_point *berth__history_at(const struct berth__history *history,
                                                     size_t index) {
    size_t oldest = history->next + history->points_max - history->count;
    return &history->points[(oldest + index) % history->points_max];
}
