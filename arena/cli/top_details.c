/*
 * What `berth top` shows of one process: its pools, arenas and classes, the largest first.
 */
#include "cli/figures.h"
#include "cli/top.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINES_MAX = 100000 };

static void add(struct berth__top_details *details, const char *format, ...) BERTH_PRINTF(2, 3);

static void add(struct berth__top_details *details, const char *format, ...) {
    if (details->count == details->capacity) {
        size_t capacity = details->capacity * 2 + 64;
        void *lines = capacity > LINES_MAX
                          ? NULL
                          : realloc(details->lines, capacity * sizeof(*details->lines));
        if (lines == NULL) {
            return;
        }
        details->lines = lines;
        details->capacity = capacity;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(details->lines[details->count++], sizeof(*details->lines), format, args);
    va_end(args);
}

/* A row with the figure that it is sorted by. */
struct ranked {
    const struct berth__row *row;
    uint64_t bytes;
};

static int by_bytes(const void *a, const void *b) {
    uint64_t left = ((const struct ranked *)a)->bytes;
    uint64_t right = ((const struct ranked *)b)->bytes;
    return (left < right) - (left > right);
}

static uint64_t figure(const struct berth__stats *stats, enum berth__level level,
                       const struct berth__row *row, const char *name) {
    return berth__stats_row_figure(stats, level, row, name);
}

static uint64_t rank_of(const struct berth__stats *stats, enum berth__level level,
                        const struct berth__row *row) {
    switch (level) {
    case BERTH_LEVEL_POOL: return figure(stats, level, row, "capacity_bytes");
    case BERTH_LEVEL_ARENA: return figure(stats, level, row, "chunk_bytes");
    case BERTH_LEVEL_CLASS: return figure(stats, level, row, "slabs");
    case BERTH_LEVEL_PROCESS:
    case BERTH_LEVEL_TAG:
    case BERTH_LEVEL_SLOW:
    case BERTH_LEVEL_COUNT: break;
    }
    return 0;
}

static void put_pool(struct berth__top_details *details, const struct berth__stats *stats,
                     const struct berth__row *row) {
    static const char *const names[] = {"capacity_bytes", "live_high_bytes", "slab_free_bytes",
                                        "run_free_bytes", "huge_bytes"};
    char text[BERTH_ARRAY_COUNT(names)][BERTH_SIZE_TEXT];
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(names); i++) {
        berth__short_size(text[i], figure(stats, BERTH_LEVEL_POOL, row, names[i]));
    }
    add(details, "%-20.20s %9s %9s %9s %9s %9s %5" PRIu64, row->pool, text[0], text[1], text[2],
        text[3], text[4], figure(stats, BERTH_LEVEL_POOL, row, "threads"));
}

static void put_arena(struct berth__top_details *details, const struct berth__stats *stats,
                      const struct berth__row *row) {
    static const char *const names[] = {"chunk_bytes", "slab_lent_bytes", "slab_free_bytes",
                                        "run_lent_bytes", "run_free_bytes"};
    char text[BERTH_ARRAY_COUNT(names)][BERTH_SIZE_TEXT];
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(names); i++) {
        berth__short_size(text[i], figure(stats, BERTH_LEVEL_ARENA, row, names[i]));
    }
    add(details, "%-14.14s %5" PRIu64 " %9s %9s %9s %9s %9s %5" PRIu64, row->pool, row->index,
        text[0], text[1], text[2], text[3], text[4],
        figure(stats, BERTH_LEVEL_ARENA, row, "heaps"));
}

static void put_class(struct berth__top_details *details, const struct berth__stats *stats,
                      const struct berth__row *row) {
    uint64_t size = figure(stats, BERTH_LEVEL_CLASS, row, "size_bytes");
    uint64_t lent = figure(stats, BERTH_LEVEL_CLASS, row, "lent_blocks");
    uint64_t unused = figure(stats, BERTH_LEVEL_CLASS, row, "free_blocks");
    double all = (double)lent + (double)unused;
    char lent_text[BERTH_SIZE_TEXT];
    char free_text[BERTH_SIZE_TEXT];
    add(details, "%-14.14s %5" PRIu64 " %7" PRIu64 " %10" PRIu64 " %10" PRIu64 " %9s %9s %4.0f%%",
        row->pool, size, figure(stats, BERTH_LEVEL_CLASS, row, "slabs"), lent, unused,
        berth__short_size(lent_text, lent * size), berth__short_size(free_text, unused * size),
        all > 0 ? (double)lent * 100 / all : 0.0);
}

static void put_level(struct berth__top_details *details, const struct berth__stats *stats,
                      enum berth__level level) {
    size_t count = stats->snapshot.count[level];
    struct ranked *ranked = calloc(count + 1, sizeof(*ranked));
    for (size_t i = 0; ranked != NULL && i < count; i++) {
        ranked[i].row = &stats->snapshot.rows[level][i];
        ranked[i].bytes = rank_of(stats, level, ranked[i].row);
    }
    if (ranked != NULL) {
        qsort(ranked, count, sizeof(*ranked), by_bytes);
    }
    for (size_t i = 0; ranked != NULL && i < count; i++) {
        if (level == BERTH_LEVEL_POOL) {
            put_pool(details, stats, ranked[i].row);
        } else if (level == BERTH_LEVEL_ARENA) {
            put_arena(details, stats, ranked[i].row);
        } else {
            put_class(details, stats, ranked[i].row);
        }
    }
    free(ranked);
}

static void put_process(struct berth__top_details *details, const struct berth__stats *stats) {
    static const char *const names[] = {"limit_used_bytes", "limit_bytes",  "live_low_bytes",
                                        "live_high_bytes",  "mapped_bytes", "retained_bytes",
                                        "metadata_bytes"};
    char text[BERTH_ARRAY_COUNT(names)][BERTH_SIZE_TEXT];
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(names); i++) {
        berth__short_size(text[i], berth__stats_figure(stats, names[i], 0));
    }
    add(details, "used %s of %s, live %s to %s, mapped %s: retained %s, metadata %s", text[0],
        text[1], text[2], text[3], text[4], text[5], text[6]);
}

void berth__top_details_read(struct berth__top_details *details, pid_t pid) {
    struct berth__process process;
    details->count = 0;
    if (berth__process_read(&process, pid) != BERTH_PROCESS_READ) {
        add(details, "%s", process.why);
        berth__process_close(&process);
        return;
    }
    const struct berth__stats *stats = &process.stats;
    add(details, "process %d, %s: figures %.1f s old", (int)pid, process.command,
        berth__stats_age_s(stats));
    put_process(details, stats);
    add(details, "%s", "");
    add(details, "%-20s %9s %9s %9s %9s %9s %5s", "POOL", "MAPPED", "LIVE", "FREE SLAB", "FREE RUN",
        "HUGE", "THR");
    put_level(details, stats, BERTH_LEVEL_POOL);
    add(details, "%s", "");
    add(details, "%-14s %5s %9s %9s %9s %9s %9s %5s", "ARENAS OF", "ARENA", "CHUNKS", "SLAB LENT",
        "SLAB FREE", "RUN LENT", "RUN FREE", "HEAPS");
    put_level(details, stats, BERTH_LEVEL_ARENA);
    add(details, "%s", "");
    add(details, "%-14s %5s %7s %10s %10s %9s %9s %5s", "CLASSES OF", "SIZE", "SLABS", "LENT",
        "FREE", "LENT B", "FREE B", "FULL");
    put_level(details, stats, BERTH_LEVEL_CLASS);
    berth__process_close(&process);
}

void berth__top_details_free(struct berth__top_details *details) {
    free(details->lines);
    memset(details, 0, sizeof(*details));
}
