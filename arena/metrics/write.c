#include "metrics/write.h"

#include "base/text.h"
#include "pool/api.h"
#include "pool/pool.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- output ---- */

struct output {
    berth_metrics_sink *sink;
    void *context;
    struct berth__text text;
    char buffer[4096];
};

static void flush(struct output *out) {
    out->sink(out->context, out->text.buffer, out->text.length);
    berth__text_init(&out->text, out->buffer, sizeof(out->buffer));
}

/* The text to add a line of moderate length to. */
static struct berth__text *line(struct output *out) {
    if (out->text.length > sizeof(out->buffer) / 2) {
        flush(out);
    }
    return &out->text;
}

/* A name as a string of JSON or a label's value: both escape these two alike. */
static void quoted(struct berth__text *text, const char *name) {
    berth__text_char(text, '"');
    for (; *name != '\0'; name++) {
        if (*name == '"' || *name == '\\') {
            berth__text_char(text, '\\');
        }
        berth__text_char(text, *name);
    }
    berth__text_char(text, '"');
}

/* ---- histograms ---- */

/* What a bucket's name says: "within_512_ns". 0: no bound. */
static uint64_t bound_ns(const struct berth__metric *metric) {
    uint64_t bound = 0;
    for (const char *at = metric->name; *at != '\0'; at++) {
        bound = *at >= '0' && *at <= '9' ? bound * 10 + (uint64_t)(*at - '0') : bound;
    }
    return bound;
}

/* Of the largest bucket that is not empty; 0 if that has none. */
static uint64_t most_ns(const struct berth__level_info *level, const struct berth__row *row) {
    uint64_t most = 0;
    for (unsigned i = 0; i < level->count; i++) {
        if (level->metrics[i].kind == BERTH_METRIC_BUCKET && row->of.value[i] > 0) {
            most = bound_ns(&level->metrics[i]);
        }
    }
    return most;
}

/* The metric of that name; 0 if there is none. */
static uint64_t value_of(const struct berth__level_info *level, const struct berth__row *row,
                         const char *name) {
    for (unsigned i = 0; i < level->count; i++) {
        if (strcmp(level->metrics[i].name, name) == 0) {
            return row->of.value[i];
        }
    }
    return 0;
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

static void text_row(struct output *out, const struct berth__level_info *level,
                     const struct berth__row *row) {
    for (unsigned i = 0; i < level->count; i++) {
        struct berth__text *text = line(out);
        size_t start = text->length;
        berth__text_format(text, "  %s", level->metrics[i].name);
        pad_to(text, start, 24);
        text_value(text, &level->metrics[i], row->of.value[i]);
        berth__text_char(text, '\n');
    }
}

static void text_heading(struct output *out, const struct berth__level_info *level,
                         const struct berth__row *row) {
    if (level->name == NULL) {
        berth__text_string(line(out), "process\n");
    } else {
        berth__text_format(line(out), "%s %s\n", level->name, row->pool);
    }
}

/* The rows of a level one below the other. */
static void text_rows(struct output *out, enum berth__level level,
                      const struct berth__snapshot *snapshot) {
    for (size_t r = 0; r < snapshot->count[level]; r++) {
        text_heading(out, &snapshot->levels[level], &snapshot->rows[level][r]);
        text_row(out, &snapshot->levels[level], &snapshot->rows[level][r]);
    }
}

/* "chunk_map   12 times, 3400 ns on average, 16384 ns at most" */
static void text_slow(struct output *out, const struct berth__snapshot *snapshot) {
    const struct berth__level_info *level = &snapshot->levels[BERTH_LEVEL_SLOW];
    for (size_t r = 0; r < snapshot->count[BERTH_LEVEL_SLOW]; r++) {
        const struct berth__row *row = &snapshot->rows[BERTH_LEVEL_SLOW][r];
        uint64_t count = value_of(level, row, "count");
        struct berth__text *text = line(out);
        berth__text_string(text, r == 0 ? "slow paths\n" : "");
        size_t start = text->length;
        berth__text_format(text, "  %s", row->pool);
        pad_to(text, start, 24);
        berth__text_format(text, "%lu times", (unsigned long)count);
        if (count > 0) {
            uint64_t most = most_ns(level, row);
            berth__text_format(text, ", %lu ns on average",
                               (unsigned long)(value_of(level, row, "total_ns") / count));
            if (most > 0) {
                berth__text_format(text, ", within %lu ns", (unsigned long)most);
            }
        }
        berth__text_char(text, '\n');
    }
}

/* Arenas and classes as tables, a row each. */
static void text_table(struct output *out, enum berth__level level,
                       const struct berth__snapshot *snapshot) {
    const struct berth__level_info *info = &snapshot->levels[level];
    const char *pool = "";
    for (size_t r = 0; r < snapshot->count[level]; r++) {
        const struct berth__row *row = &snapshot->rows[level][r];
        if (strcmp(row->pool, pool) != 0) {
            pool = row->pool;
            berth__text_format(line(out), "%s of pool %s\n ",
                               level == BERTH_LEVEL_ARENA ? "arenas" : "classes", pool);
            for (unsigned i = 0; i < info->count; i++) {
                berth__text_format(line(out), " %s", info->metrics[i].name);
            }
            berth__text_char(line(out), '\n');
        }
        berth__text_char(line(out), ' ');
        for (unsigned i = 0; i < info->count; i++) {
            struct berth__text *text = line(out);
            size_t start = text->length;
            berth__text_char(text, ' ');
            if (row->of.value[i] == UINT64_MAX) {
                berth__text_char(text, '-');
            } else {
                berth__text_uint(text, row->of.value[i]);
            }
            pad_to(text, start, strlen(info->metrics[i].name));
        }
        berth__text_char(line(out), '\n');
    }
}

static void write_text(struct output *out, const struct berth__snapshot *snapshot) {
    berth__text_format(line(out), "berth %s, process %u\n", snapshot->version, snapshot->pid);
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
static void json_members(struct output *out, const struct berth__level_info *level,
                         const struct berth__row *row) {
    for (unsigned i = 0; i < level->count; i++) {
        struct berth__text *text = line(out);
        berth__text_format(text, "%s\"%s\":", i == 0 ? "" : ",", level->metrics[i].name);
        if (row->of.value[i] == UINT64_MAX) {
            berth__text_string(text, "null");
        } else {
            berth__text_uint(text, row->of.value[i]);
        }
    }
}

/* The rows of one pool at a level, as an array member. */
static void json_array(struct output *out, const char *name, enum berth__level level,
                       const struct berth__snapshot *snapshot, const char *pool) {
    bool first = true;
    berth__text_format(line(out), ",\"%s\":[", name);
    for (size_t r = 0; r < snapshot->count[level]; r++) {
        const struct berth__row *row = &snapshot->rows[level][r];
        if (strcmp(row->pool, pool) == 0) {
            berth__text_string(line(out), first ? "{" : ",{");
            json_members(out, &snapshot->levels[level], row);
            berth__text_char(line(out), '}');
            first = false;
        }
    }
    berth__text_char(line(out), ']');
}

/* The rows of what is of no pool, as an array member. */
static void json_named(struct output *out, const char *name, enum berth__level level,
                       const struct berth__snapshot *snapshot) {
    berth__text_format(line(out), ",\"%s\":[", name);
    for (size_t r = 0; r < snapshot->count[level]; r++) {
        const struct berth__row *row = &snapshot->rows[level][r];
        berth__text_string(line(out), r == 0 ? "{\"name\":" : ",{\"name\":");
        quoted(line(out), row->pool);
        berth__text_char(line(out), ',');
        json_members(out, &snapshot->levels[level], row);
        berth__text_char(line(out), '}');
    }
    berth__text_char(line(out), ']');
}

static void json_pools(struct output *out, const struct berth__snapshot *snapshot,
                       unsigned levels) {
    berth__text_string(line(out), ",\"pools\":[");
    for (size_t r = 0; r < snapshot->count[BERTH_LEVEL_POOL]; r++) {
        const struct berth__row *row = &snapshot->rows[BERTH_LEVEL_POOL][r];
        berth__text_string(line(out), r == 0 ? "{\"name\":" : ",{\"name\":");
        quoted(line(out), row->pool);
        berth__text_char(line(out), ',');
        json_members(out, &snapshot->levels[BERTH_LEVEL_POOL], row);
        if ((levels & BERTH_METRICS_ARENAS) != 0) {
            json_array(out, "arena", BERTH_LEVEL_ARENA, snapshot, row->pool);
        }
        if ((levels & BERTH_METRICS_CLASSES) != 0) {
            json_array(out, "class", BERTH_LEVEL_CLASS, snapshot, row->pool);
        }
        berth__text_char(line(out), '}');
    }
    berth__text_char(line(out), ']');
}

static void write_json(struct output *out, const struct berth__snapshot *snapshot,
                       unsigned levels) {
    berth__text_format(line(out), "{\"version\":\"%s\",\"pid\":%u,\"process\":{",
                       berth__do_version(), (unsigned)getpid());
    json_members(out, &snapshot->levels[BERTH_LEVEL_PROCESS], snapshot->rows[BERTH_LEVEL_PROCESS]);
    berth__text_char(line(out), '}');
    if ((levels & BERTH_METRICS_POOLS) != 0) {
        json_pools(out, snapshot, levels);
    }
    if ((levels & BERTH_METRICS_TAGS) != 0) {
        json_named(out, "tags", BERTH_LEVEL_TAG, snapshot);
    }
    if ((levels & BERTH_METRICS_SLOW) != 0) {
        json_named(out, "slow", BERTH_LEVEL_SLOW, snapshot);
    }
    berth__text_string(line(out), "}\n");
}

/* ---- OpenMetrics ---- */

static void family_head(struct output *out, const char *prefix,
                        const struct berth__metric *metric) {
    const char *type = metric->kind == BERTH_METRIC_COUNTER ? "counter" : "gauge";
    berth__text_format(line(out), "# TYPE %s%s %s\n", prefix, metric->name, type);
    if (metric->unit == BERTH_METRIC_BYTES) {
        berth__text_format(line(out), "# UNIT %s%s bytes\n", prefix, metric->name);
    }
    berth__text_format(line(out), "# HELP %s%s %s\n", prefix, metric->name, metric->help);
}

static void sample(struct output *out, const struct berth__level_info *level, unsigned i,
                   const struct berth__row *row) {
    const struct berth__metric *metric = &level->metrics[i];
    struct berth__text *text = line(out);
    berth__text_format(text, "%s%s%s", level->prefix, metric->name,
                       metric->kind == BERTH_METRIC_COUNTER ? "_total" : "");
    if (level->name != NULL) {
        berth__text_format(text, "{%s=", level->name);
        quoted(text, row->pool);
        if (level->label != NULL) {
            berth__text_format(text, ",%s=\"%lu\"", level->label, (unsigned long)row->index);
        }
        berth__text_char(text, '}');
    }
    berth__text_char(text, ' ');
    if (row->of.value[i] == UINT64_MAX) {
        berth__text_string(text, "+Inf");
    } else {
        berth__text_uint(text, row->of.value[i]);
    }
    berth__text_char(text, '\n');
}

/* A number of nanoseconds in seconds, without zeros at its end. */
static void seconds(struct berth__text *text, uint64_t ns) {
    char fraction[9];
    uint64_t rest = ns % 1000000000;
    for (size_t i = sizeof(fraction); i-- > 0; rest /= 10) {
        fraction[i] = (char)('0' + rest % 10);
    }
    size_t length = sizeof(fraction);
    while (length > 1 && fraction[length - 1] == '0') {
        length--;
    }
    berth__text_uint(text, ns / 1000000000);
    berth__text_char(text, '.');
    berth__text_bytes(text, fraction, length);
}

/* Buckets count what is below their bound, in OpenMetrics. */
static void histogram(struct output *out, const struct berth__level_info *level,
                      const struct berth__row *row) {
    uint64_t count = 0;
    for (unsigned i = 0; i < level->count; i++) {
        if (level->metrics[i].kind != BERTH_METRIC_BUCKET) {
            continue;
        }
        uint64_t bound = bound_ns(&level->metrics[i]);
        struct berth__text *text = line(out);
        count += row->of.value[i];
        berth__text_string(text, "berth_slow_path_seconds_bucket{path=");
        quoted(text, row->pool);
        berth__text_string(text, bound > 0 ? ",le=\"" : ",le=\"+Inf");
        if (bound > 0) {
            seconds(text, bound);
        }
        berth__text_format(text, "\"} %lu\n", (unsigned long)count);
    }
    struct berth__text *text = line(out);
    berth__text_string(text, "berth_slow_path_seconds_count{path=");
    quoted(text, row->pool);
    berth__text_format(text, "} %lu\nberth_slow_path_seconds_sum{path=", (unsigned long)count);
    quoted(text, row->pool);
    berth__text_string(text, "} ");
    seconds(text, value_of(level, row, "total_ns"));
    berth__text_char(text, '\n');
}

/* One family: the paths are a label. */
static void write_histograms(struct output *out, const struct berth__snapshot *snapshot) {
    if (snapshot->count[BERTH_LEVEL_SLOW] == 0) {
        return;
    }
    berth__text_string(line(out), "# TYPE berth_slow_path_seconds histogram\n"
                                  "# UNIT berth_slow_path_seconds seconds\n"
                                  "# HELP berth_slow_path_seconds How long slow paths took.\n");
    for (size_t r = 0; r < snapshot->count[BERTH_LEVEL_SLOW]; r++) {
        histogram(out, &snapshot->levels[BERTH_LEVEL_SLOW], &snapshot->rows[BERTH_LEVEL_SLOW][r]);
    }
}

static void write_openmetrics(struct output *out, const struct berth__snapshot *snapshot) {
    berth__text_format(line(out),
                       "# TYPE berth_build info\n# HELP berth_build The version of berth.\n"
                       "berth_build_info{version=\"%s\"} 1\n",
                       snapshot->version);
    for (unsigned l = 0; l < BERTH_LEVEL_SLOW; l++) {
        const struct berth__level_info *level = &snapshot->levels[l];
        for (unsigned i = 0; i < level->count && snapshot->count[l] > 0; i++) {
            family_head(out, level->prefix, &level->metrics[i]);
            for (size_t r = 0; r < snapshot->count[l]; r++) {
                sample(out, level, i, &snapshot->rows[l][r]);
            }
        }
    }
    write_histograms(out, snapshot);
    berth__text_string(line(out), "# EOF\n");
}

/* ---- any snapshot, and this process's ---- */

void berth__snapshot_write(const struct berth__snapshot *snapshot, enum berth_metrics_format format,
                           unsigned levels, berth_metrics_sink *sink, void *context) {
    struct output out = {.sink = sink, .context = context};
    berth__text_init(&out.text, out.buffer, sizeof(out.buffer));
    switch (format) {
    case BERTH_METRICS_TEXT: write_text(&out, snapshot); break;
    case BERTH_METRICS_JSON: write_json(&out, snapshot, levels); break;
    case BERTH_METRICS_OPENMETRICS: write_openmetrics(&out, snapshot); break;
    }
    flush(&out);
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
