#include "metrics/exposition.h"

#include <string.h>

enum { NAME_BYTES = 128 };

/* What a family is called: a gauge must not end in "_count", which is a part of a histogram. */
static const char *exposed(const struct berth__metric *metric) {
    return strcmp(metric->name, "count") == 0 ? "blocks" : metric->name;
}

/* In the classic format a counter's family has the name of its samples. */
static const char *suffix(enum berth__dialect dialect, enum berth__metric_kind kind) {
    return dialect == BERTH_CLASSIC && kind == BERTH_METRIC_COUNTER ? "_total" : "";
}

void berth__family_head(struct berth__output *out, enum berth__dialect dialect, const char *name,
                        enum berth__metric_kind kind, const char *unit, const char *help) {
    const char *end = suffix(dialect, kind);
    const char *type = kind == BERTH_METRIC_COUNTER ? "counter" : "gauge";
    berth__text_format(berth__output_line(out), "# TYPE %s%s %s\n", name, end, type);
    if (unit != NULL && dialect == BERTH_OPENMETRICS) {
        berth__text_format(berth__output_line(out), "# UNIT %s %s\n", name, unit);
    }
    berth__text_format(berth__output_line(out), "# HELP %s%s %s\n", name, end, help);
}

uint64_t berth__bucket_bound_ns(const struct berth__metric *metric) {
    uint64_t bound = 0;
    for (const char *at = metric->name; *at != '\0'; at++) {
        bound = *at >= '0' && *at <= '9' ? bound * 10 + (uint64_t)(*at - '0') : bound;
    }
    return bound;
}

uint64_t berth__row_value(const struct berth__level_info *level, const struct berth__row *row,
                          const char *name) {
    for (unsigned i = 0; i < level->count; i++) {
        if (strcmp(level->metrics[i].name, name) == 0) {
            return row->of.value[i];
        }
    }
    return 0;
}

/* ---- samples ---- */

/* The index of a metric in the tables of a source, which mostly are the same; or count. */
static unsigned place_in(const struct berth__level_info *level, const struct berth__metric *metric,
                         unsigned guess) {
    if (guess < level->count && strcmp(level->metrics[guess].name, metric->name) == 0) {
        return guess;
    }
    for (unsigned i = 0; i < level->count; i++) {
        if (strcmp(level->metrics[i].name, metric->name) == 0) {
            return i;
        }
    }
    return level->count;
}

/* "{...}", or nothing where there is nothing to say. */
static void labels_of(struct berth__text *text, const struct berth__source *source,
                      const struct berth__level_info *level, const struct berth__row *row) {
    bool any = *source->labels != '\0';
    if (!any && level->name == NULL) {
        return;
    }
    berth__text_format(text, "{%s", source->labels);
    if (level->name != NULL) {
        berth__text_format(text, "%s%s=", any ? "," : "", level->name);
        berth__text_quoted(text, row->pool);
        if (level->label != NULL) {
            berth__text_format(text, ",%s=\"%lu\"", level->label, (unsigned long)row->index);
        }
    }
    berth__text_char(text, '}');
}

static void sample(struct berth__text *text, uint64_t value) {
    berth__text_char(text, ' ');
    if (value == UINT64_MAX) {
        berth__text_string(text, "+Inf");
    } else {
        berth__text_uint(text, value);
    }
    berth__text_char(text, '\n');
}

static void samples_of(struct berth__output *out, const struct berth__source *source,
                       enum berth__level number, const struct berth__level_info *level,
                       unsigned index) {
    const struct berth__snapshot *snapshot = source->snapshot;
    const struct berth__metric *metric = &level->metrics[index];
    unsigned place = place_in(&snapshot->levels[number], metric, index);
    for (size_t r = 0; r < snapshot->count[number] && place < snapshot->levels[number].count; r++) {
        const struct berth__row *row = &snapshot->rows[number][r];
        struct berth__text *text = berth__output_line(out);
        berth__text_format(text, "%s%s%s", level->prefix, exposed(metric),
                           metric->kind == BERTH_METRIC_COUNTER ? "_total" : "");
        labels_of(text, source, level, row);
        sample(text, row->of.value[place]);
    }
}

/* ---- histograms ---- */

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

/* "NAME_bucket{labels,path="..."", for what follows. */
static void part_of_histogram(struct berth__text *text, const struct berth__source *source,
                              const struct berth__row *row, const char *part) {
    berth__text_format(text, "berth_slow_path_seconds_%s{%s%spath=", part, source->labels,
                       *source->labels != '\0' ? "," : "");
    berth__text_quoted(text, row->pool);
}

/* Buckets count what is below their bound, in both formats. */
static void histogram(struct berth__output *out, const struct berth__source *source,
                      const struct berth__row *row) {
    const struct berth__level_info *level = &source->snapshot->levels[BERTH_LEVEL_SLOW];
    uint64_t count = 0;
    for (unsigned i = 0; i < level->count; i++) {
        if (level->metrics[i].kind != BERTH_METRIC_BUCKET) {
            continue;
        }
        uint64_t bound = berth__bucket_bound_ns(&level->metrics[i]);
        struct berth__text *text = berth__output_line(out);
        count += row->of.value[i];
        part_of_histogram(text, source, row, "bucket");
        berth__text_string(text, bound > 0 ? ",le=\"" : ",le=\"+Inf");
        if (bound > 0) {
            seconds(text, bound);
        }
        berth__text_format(text, "\"} %lu\n", (unsigned long)count);
    }
    struct berth__text *text = berth__output_line(out);
    part_of_histogram(text, source, row, "count");
    berth__text_format(text, "} %lu\n", (unsigned long)count);
    part_of_histogram(text, source, row, "sum");
    berth__text_string(text, "} ");
    seconds(text, berth__row_value(level, row, "total_ns"));
    berth__text_char(text, '\n');
}

/* One family: the paths are a label. */
static void write_histograms(struct berth__output *out, enum berth__dialect dialect,
                             const struct berth__source *sources, size_t count) {
    berth__text_string(berth__output_line(out), "# TYPE berth_slow_path_seconds histogram\n");
    if (dialect == BERTH_OPENMETRICS) {
        berth__text_string(berth__output_line(out), "# UNIT berth_slow_path_seconds seconds\n");
    }
    berth__text_string(berth__output_line(out),
                       "# HELP berth_slow_path_seconds How long slow paths took.\n");
    for (size_t s = 0; s < count; s++) {
        const struct berth__snapshot *snapshot = sources[s].snapshot;
        for (size_t r = 0; r < snapshot->count[BERTH_LEVEL_SLOW]; r++) {
            histogram(out, &sources[s], &snapshot->rows[BERTH_LEVEL_SLOW][r]);
        }
    }
}

/* ---- families ---- */

static bool has_rows(const struct berth__source *sources, size_t count, unsigned level) {
    for (size_t s = 0; s < count; s++) {
        if (sources[s].snapshot->count[level] > 0) {
            return true;
        }
    }
    return false;
}

static void write_level(struct berth__output *out, enum berth__dialect dialect,
                        const struct berth__level_info *level, enum berth__level number,
                        const struct berth__source *sources, size_t count) {
    for (unsigned i = 0; i < level->count; i++) {
        const struct berth__metric *metric = &level->metrics[i];
        char name[NAME_BYTES];
        struct berth__text text;
        berth__text_init(&text, name, sizeof(name));
        berth__text_format(&text, "%s%s", level->prefix, exposed(metric));
        berth__family_head(out, dialect, name, metric->kind,
                           metric->unit == BERTH_METRIC_BYTES ? "bytes" : NULL, metric->help);
        for (size_t s = 0; s < count; s++) {
            samples_of(out, &sources[s], number, level, i);
        }
    }
}

/* The classic format has no type for what only informs. */
static void write_build(struct berth__output *out, enum berth__dialect dialect,
                        const struct berth__source *sources, size_t count) {
    const char *what = "The version of berth.";
    bool classic = dialect == BERTH_CLASSIC;
    berth__text_format(berth__output_line(out), "# TYPE berth_build%s\n# HELP berth_build%s %s\n",
                       classic ? "_info gauge" : " info", classic ? "_info" : "", what);
    for (size_t s = 0; s < count; s++) {
        const char *labels = sources[s].labels;
        berth__text_format(berth__output_line(out), "berth_build_info{%s%sversion=\"%s\"} 1\n",
                           labels, *labels != '\0' ? "," : "", sources[s].snapshot->version);
    }
}

void berth__exposition_write(struct berth__output *out, enum berth__dialect dialect,
                             const struct berth__level_info *levels,
                             const struct berth__source *sources, size_t count) {
    if (count == 0) {
        return;
    }
    write_build(out, dialect, sources, count);
    for (unsigned level = 0; level < BERTH_LEVEL_SLOW; level++) {
        if (has_rows(sources, count, level)) {
            write_level(out, dialect, &levels[level], level, sources, count);
        }
    }
    if (has_rows(sources, count, BERTH_LEVEL_SLOW)) {
        write_histograms(out, dialect, sources, count);
    }
}

void berth__exposition_end(struct berth__output *out, enum berth__dialect dialect) {
    if (dialect == BERTH_OPENMETRICS) {
        berth__text_string(berth__output_line(out), "# EOF\n");
    }
    berth__output_flush(out);
}
