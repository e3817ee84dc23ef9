#include "metrics/write.h"

#include "metrics/exposition.h"
#include "pool/api.h"
#include "pool/pool.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Of the largest bucket that is not empty; 0 if that has none. */
static uint64_t most_ns(const struct berth__level_info *level, const struct berth__row *row) {
    uint64_t most = 0;
    for (unsigned i = 0; i < level->count; i++) {
        if (level->metrics[i].kind == BERTH_METRIC_BUCKET && row->of.value[i] > 0) {
            most = berth__bucket_bound_ns(&level->metrics[i]);
        }
    }
    return most;
}

/* ---- text ---- */

/* "12345", or "12.1 MiB" for bytes; the largest number stands for "none". */
static void text_value(struct berth__text *text, const struct berth__metric *metric,
                       uint64_t value) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    if (value == UINT64_MAX) {
        berth__text_string(text, "none");
        return;
    }
    unsigned unit = 0;
    uint64_t tenths = value * 10;
    while (metric->unit == BERTH_METRIC_BYTES && tenths >= 10240 && unit < 4 &&
           value < UINT64_MAX / 10) {
        tenths /= 1024;
        unit++;
    }
    berth__text_uint(text, unit > 0 ? tenths / 10 : value);
    if (unit > 0) {
        berth__text_format(text, ".%u", (unsigned)(tenths % 10));
    }
    if (metric->unit == BERTH_METRIC_BYTES) {
        berth__text_format(text, " %s", units[unit]);
    }
}

static void pad_to(struct berth__text *text, size_t start, size_t width) {
    do {
        berth__text_char(text, ' ');
    } while (text->length - start < width);
}

static void text_row(struct berth__output *out, const struct berth__level_info *level,
                     const struct berth__row *row) {
    for (unsigned i = 0; i < level->count; i++) {
        struct berth__text *text = berth__output_line(out);
        size_t start = text->length;
        berth__text_format(text, "  %s", level->metrics[i].name);
        pad_to(text, start, 24);
        text_value(text, &level->metrics[i], row->of.value[i]);
        berth__text_char(text, '\n');
    }
}

static void text_heading(struct berth__output *out, const struct berth__level_info *level,
                         const struct berth__row *row) {
    if (level->name == NULL) {
        berth__text_string(berth__output_line(out), "process\n");
    } else {
        berth__text_format(berth__output_line(out), "%s %s\n", level->name, row->pool);
    }
}

/* The rows of a level one below the other. */
static void text_rows(struct berth__output *out, enum berth__level level,
                      const struct berth__snapshot *snapshot) {
    for (size_t r = 0; r < snapshot->count[level]; r++) {
        text_heading(out, &snapshot->levels[level], &snapshot->rows[level][r]);
        text_row(out, &snapshot->levels[level], &snapshot->rows[level][r]);
    }
}

/* "chunk_map   12 times, 3400 ns on average, 16384 ns at most" */
static void text_slow(struct berth__output *out, const struct berth__snapshot *snapshot) {
    const struct berth__level_info *level = &snapshot->levels[BERTH_LEVEL_SLOW];
    for (size_t r = 0; r < snapshot->count[BERTH_LEVEL_SLOW]; r++) {
        const struct berth__row *row = &snapshot->rows[BERTH_LEVEL_SLOW][r];
        uint64_t count = berth__row_value(level, row, "count");
        struct berth__text *text = berth__output_line(out);
        berth__text_string(text, r == 0 ? "slow paths\n" : "");
        size_t start = text->length;
        berth__text_format(text, "  %s", row->pool);
        pad_to(text, start, 24);
        berth__text_format(text, "%lu times", (unsigned long)count);
        if (count > 0) {
            uint64_t most = most_ns(level, row);
            berth__text_format(text, ", %lu ns on average",
                               (unsigned long)(berth__row_value(level, row, "total_ns") / count));
            if (most > 0) {
                berth__text_format(text, ", within %lu ns", (unsigned long)most);
            }
        }
        berth__text_char(text, '\n');
    }
}

/* Arenas and classes as tables, a row each. */
static void text_table(struct berth__output *out, enum berth__level level,
                       const struct berth__snapshot *snapshot) {
    const struct berth__level_info *info = &snapshot->levels[level];
    const char *pool = "";
    for (size_t r = 0; r < snapshot->count[level]; r++) {
        const struct berth__row *row = &snapshot->rows[level][r];
        if (strcmp(row->pool, pool) != 0) {
            pool = row->pool;
            berth__text_format(berth__output_line(out), "%s of pool %s\n ",
                               level == BERTH_LEVEL_ARENA ? "arenas" : "classes", pool);
            for (unsigned i = 0; i < info->count; i++) {
                berth__text_format(berth__output_line(out), " %s", info->metrics[i].name);
            }
            berth__text_char(berth__output_line(out), '\n');
        }
        berth__text_char(berth__output_line(out), ' ');
        for (unsigned i = 0; i < info->count; i++) {
            struct berth__text *text = berth__output_line(out);
            size_t start = text->length;
            berth__text_char(text, ' ');
            if (row->of.value[i] == UINT64_MAX) {
                berth__text_char(text, '-');
            } else {
                berth__text_uint(text, row->of.value[i]);
            }
            pad_to(text, start, strlen(info->metrics[i].name));
        }
        berth__text_char(berth__output_line(out), '\n');
    }
}

static void write_text(struct berth__output *out, const struct berth__snapshot *snapshot) {
    berth__text_format(berth__output_line(out), "berth %s, process %u\n", snapshot->version,
                       snapshot->pid);
    text_rows(out, BERTH_LEVEL_PROCESS, snapshot);
    text_rows(out, BERTH_LEVEL_POOL, snapshot);
    text_rows(out, BERTH_LEVEL_TAG, snapshot);
    text_table(out, BERTH_LEVEL_ARENA, snapshot);
    text_table(out, BERTH_LEVEL_CLASS, snapshot);
    text_slow(out, snapshot);
}

/* ---- JSON ---- */

/* Members of a row, without braces. The largest number, which no reader of JSON keeps exactly, is
 * null. */
static void json_members(struct berth__output *out, const struct berth__level_info *level,
                         const struct berth__row *row) {
    for (unsigned i = 0; i < level->count; i++) {
        struct berth__text *text = berth__output_line(out);
        berth__text_format(text, "%s\"%s\":", i == 0 ? "" : ",", level->metrics[i].name);
        if (row->of.value[i] == UINT64_MAX) {
            berth__text_string(text, "null");
        } else {
            berth__text_uint(text, row->of.value[i]);
        }
    }
}

/* The rows of one pool at a level, as an array member. */
static void json_array(struct berth__output *out, const char *name, enum berth__level level,
                       const struct berth__snapshot *snapshot, const char *pool) {
    bool first = true;
    berth__text_format(berth__output_line(out), ",\"%s\":[", name);
    for (size_t r = 0; r < snapshot->count[level]; r++) {
        const struct berth__row *row = &snapshot->rows[level][r];
        if (strcmp(row->pool, pool) == 0) {
            berth__text_string(berth__output_line(out), first ? "{" : ",{");
            json_members(out, &snapshot->levels[level], row);
            berth__text_char(berth__output_line(out), '}');
            first = false;
        }
    }
    berth__text_char(berth__output_line(out), ']');
}

/* The rows of what is of no pool, as an array member. */
static void json_named(struct berth__output *out, const char *name, enum berth__level level,
                       const struct berth__snapshot *snapshot) {
    berth__text_format(berth__output_line(out), ",\"%s\":[", name);
    for (size_t r = 0; r < snapshot->count[level]; r++) {
        const struct berth__row *row = &snapshot->rows[level][r];
        berth__text_string(berth__output_line(out), r == 0 ? "{\"name\":" : ",{\"name\":");
        berth__text_quoted(berth__output_line(out), row->pool);
        berth__text_char(berth__output_line(out), ',');
        json_members(out, &snapshot->levels[level], row);
        berth__text_char(berth__output_line(out), '}');
    }
    berth__text_char(berth__output_line(out), ']');
}

static void json_pools(struct berth__output *out, const struct berth__snapshot *snapshot,
                       unsigned levels) {
    berth__text_string(berth__output_line(out), ",\"pools\":[");
    for (size_t r = 0; r < snapshot->count[BERTH_LEVEL_POOL]; r++) {
        const struct berth__row *row = &snapshot->rows[BERTH_LEVEL_POOL][r];
        berth__text_string(berth__output_line(out), r == 0 ? "{\"name\":" : ",{\"name\":");
        berth__text_quoted(berth__output_line(out), row->pool);
        berth__text_char(berth__output_line(out), ',');
        json_members(out, &snapshot->levels[BERTH_LEVEL_POOL], row);
        if ((levels & BERTH_METRICS_ARENAS) != 0) {
            json_array(out, "arena", BERTH_LEVEL_ARENA, snapshot, row->pool);
        }
        if ((levels & BERTH_METRICS_CLASSES) != 0) {
            json_array(out, "class", BERTH_LEVEL_CLASS, snapshot, row->pool);
        }
        berth__text_char(berth__output_line(out), '}');
    }
    berth__text_char(berth__output_line(out), ']');
}

static void write_json(struct berth__output *out, const struct berth__snapshot *snapshot,
                       unsigned levels) {
    berth__text_format(berth__output_line(out), "{\"version\":\"%s\",\"pid\":%u,\"process\":{",
                       snapshot->version, snapshot->pid);
    json_members(out, &snapshot->levels[BERTH_LEVEL_PROCESS], snapshot->rows[BERTH_LEVEL_PROCESS]);
    berth__text_char(berth__output_line(out), '}');
    if ((levels & BERTH_METRICS_POOLS) != 0) {
        json_pools(out, snapshot, levels);
    }
    if ((levels & BERTH_METRICS_TAGS) != 0) {
        json_named(out, "tags", BERTH_LEVEL_TAG, snapshot);
    }
    if ((levels & BERTH_METRICS_SLOW) != 0) {
        json_named(out, "slow", BERTH_LEVEL_SLOW, snapshot);
    }
    berth__text_string(berth__output_line(out), "}\n");
}

/* ---- any snapshot, and this process's ---- */

void berth__snapshot_write(const struct berth__snapshot *snapshot, enum berth_metrics_format format,
                           unsigned levels, berth_metrics_sink *sink, void *context) {
    struct berth__output out;
    struct berth__source source = {.snapshot = snapshot, .labels = ""};
    berth__output_init(&out, sink, context);
    switch (format) {
    case BERTH_METRICS_TEXT: write_text(&out, snapshot); break;
    case BERTH_METRICS_JSON: write_json(&out, snapshot, levels); break;
    case BERTH_METRICS_OPENMETRICS:
        berth__exposition_write(&out, BERTH_OPENMETRICS, snapshot->levels, &source, 1);
        berth__exposition_end(&out, BERTH_OPENMETRICS);
        return;
    }
    berth__output_flush(&out);
}

int berth__do_metrics_write(enum berth_metrics_format format, unsigned levels,
                            berth_metrics_sink *sink, void *context) {
    if (sink == NULL || format > BERTH_METRICS_OPENMETRICS ||
        (levels & ~(unsigned)BERTH_METRICS_ALL) != 0) {
        return -EINVAL;
    }
    levels = berth__levels_written(format, levels);
    struct berth__snapshot snapshot;
    if (!berth__start() || !berth__snapshot_take(&snapshot, levels)) {
        return -ENOMEM;
    }
    berth__snapshot_write(&snapshot, format, levels, sink, context);
    berth__snapshot_release(&snapshot);
    return 0;
}

struct fd_sink {
    int fd, error;
};

static void write_to_fd(void *context, const char *text, size_t length) {
    struct fd_sink *sink = context;
    while (length > 0 && sink->error == 0) {
        ssize_t done = write(sink->fd, text, length);
        if (done < 0) {
            sink->error = errno == EINTR ? 0 : -errno;
        } else {
            text += done;
            length -= (size_t)done;
        }
    }
}

int berth__do_metrics_write_fd(int fd, enum berth_metrics_format format, unsigned levels) {
    struct fd_sink sink = {.fd = fd};
    int error = berth__do_metrics_write(format, levels, write_to_fd, &sink);
    return error != 0 ? error : sink.error;
}
