#include "metrics/snapshot.h"

#include "base/bits.h"
#include "heap/engine.h"
#include "metrics/read.h"
#include "os/pages.h"
#include "pool/api.h"

#include <unistd.h>

bool berth__level_is_wanted(enum berth__level level, unsigned levels) {
    static const unsigned flag[] = {[BERTH_LEVEL_POOL] = BERTH_METRICS_POOLS,
                                    [BERTH_LEVEL_ARENA] = BERTH_METRICS_ARENAS,
                                    [BERTH_LEVEL_CLASS] = BERTH_METRICS_CLASSES,
                                    [BERTH_LEVEL_TAG] = BERTH_METRICS_TAGS,
                                    [BERTH_LEVEL_SLOW] = BERTH_METRICS_SLOW};
    return level == BERTH_LEVEL_PROCESS || (levels & flag[level]) != 0;
}

bool berth__row_is_empty(enum berth__level level, const struct berth__row *row) {
    const struct berth_class_metrics *class = &row->of.class_metrics;
    return level == BERTH_LEVEL_CLASS && class->allocations == 0 && class->slabs == 0;
}

/* Reads all rows of a level into rows[0..most), or only counts them where rows is NULL. */
static size_t read_level(enum berth__level level, struct berth__row *rows, size_t most) {
    size_t count = 0;
    unsigned pools = berth__level_is_of_pools(level) ? BERTH_POOLS_MAX : 1;
    for (unsigned pool = 0; pool < pools; pool++) {
        struct berth__row row;
        for (unsigned i = 0; berth__row_read(&row, level, pool, i); i++) {
            if (rows != NULL && count < most && !berth__row_is_empty(level, &row)) {
                rows[count] = row;
            }
            count += rows == NULL || !berth__row_is_empty(level, &row);
        }
    }
    return rows == NULL ? count : berth__min(count, most);
}

bool berth__snapshot_take(struct berth__snapshot *snapshot, unsigned levels) {
    size_t most[BERTH_LEVEL_COUNT] = {0};
    size_t total = 0;
    *snapshot = (struct berth__snapshot){
        .version = berth__do_version(), .pid = (unsigned)getpid(), .levels = berth__levels};
    for (unsigned level = 0; level < BERTH_LEVEL_COUNT; level++) {
        most[level] = berth__level_is_wanted(level, levels) ? read_level(level, NULL, 0) : 0;
        total += most[level];
    }
    snapshot->bytes = berth__round_up(total * sizeof(struct berth__row), berth__page_bytes);
    snapshot->pages = berth__pages_reserve(snapshot->bytes, berth__page_bytes);
    if (snapshot->pages == NULL || berth__pages_commit(snapshot->pages, snapshot->bytes) != 0) {
        return false;
    }
    struct berth__row *at = snapshot->pages;
    for (unsigned level = 0; level < BERTH_LEVEL_COUNT; level++) {
        snapshot->rows[level] = at;
        if (most[level] > 0) {
            snapshot->count[level] = read_level(level, at, most[level]);
        }
        at += most[level];
    }
    return true;
}

void berth__snapshot_release(struct berth__snapshot *snapshot) {
    berth__pages_unreserve(snapshot->pages, snapshot->bytes);
}
