#include "cli/answers.h"

#include "cli/export_metrics.h"
#include "cli/figures.h"
#include "cli/page.h"
#include "metrics/write.h"
#include "os/clock.h"

#include <berth/version.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void to_file(void *context, const char *text, size_t length) {
    fwrite(text, 1, length, context);
}

static double age_s(const struct berth__surveyed *surveyed) {
    return berth__stats_age_s(&surveyed->process.stats);
}

/* In the order of enum berth__process_outcome; "": not shown. */
static const char *state_of(enum berth__process_outcome outcome) {
    switch (outcome) {
    case BERTH_PROCESS_READ: return "read";
    case BERTH_PROCESS_PAGELESS: return "pageless";
    case BERTH_PROCESS_REFUSED: return "refused";
    case BERTH_PROCESS_BAD_PAGE: return "damaged";
    case BERTH_PROCESS_GONE:
    case BERTH_PROCESS_STRANGER: break;
    }
    return "";
}

/* ---- metrics ---- */

enum { LABELS_BYTES = 192 };

/* A process that can be read, as the writers want it. */
struct exposed {
    struct berth__snapshot snapshot; /* what is to be written of its own */
    char labels[LABELS_BYTES];
    const struct berth__surveyed *surveyed;
};

struct exposure {
    struct exposed *all;
    struct berth__source *sources;
    size_t count;
};

static void write_labels(char *labels, const struct berth__surveyed *surveyed) {
    struct berth__text text;
    berth__text_init(&text, labels, LABELS_BYTES);
    berth__text_format(&text, "pid=\"%d\",comm=\"", (int)surveyed->pid);
    for (const char *at = surveyed->process.command; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\') {
            berth__text_char(&text, '\\');
        }
        berth__text_char(&text, *at);
    }
    berth__text_char(&text, '"');
}

static bool expose(struct exposure *exposure, const struct berth__survey *survey, unsigned levels) {
    exposure->all = calloc(survey->count + 1, sizeof(*exposure->all));
    exposure->sources = calloc(survey->count + 1, sizeof(*exposure->sources));
    if (exposure->all == NULL || exposure->sources == NULL) {
        return false;
    }
    for (size_t i = 0; i < survey->count; i++) {
        if (survey->all[i].outcome != BERTH_PROCESS_READ) {
            continue;
        }
        struct exposed *one = &exposure->all[exposure->count];
        one->surveyed = &survey->all[i];
        one->snapshot = survey->all[i].process.stats.snapshot;
        for (unsigned level = 0; level < BERTH_LEVEL_COUNT; level++) {
            if (!berth__level_is_wanted((enum berth__level)level, levels)) {
                one->snapshot.count[level] = 0;
            }
        }
        write_labels(one->labels, one->surveyed);
        exposure->sources[exposure->count++] =
            (struct berth__source){.snapshot = &one->snapshot, .labels = one->labels};
    }
    return true;
}

/* A number with three digits behind the point, without the locale's. */
static void write_thousandths(struct berth__text *text, double value) {
    uint64_t thousandths = (uint64_t)(value * 1000);
    unsigned rest = (unsigned)(thousandths % 1000);
    berth__text_uint(text, thousandths / 1000);
    berth__text_format(text, ".%u%u%u", rest / 100, rest / 10 % 10, rest % 10);
}

static void own_sample(struct berth__output *out, const struct exposed *one, const char *name,
                       unsigned index) {
    struct berth__text *text = berth__output_line(out);
    berth__text_format(text, "%s{%s} ", name, one->labels);
    switch (index) {
    case 0: berth__text_uint(text, one->surveyed->process.resident_bytes); break;
    case 1: write_thousandths(text, age_s(one->surveyed)); break;
    default: berth__text_uint(text, one->surveyed->process.stats.rows_left_out); break;
    }
    berth__text_char(text, '\n');
}

/* How many processes there are of each state: all states always, so that no series vanishes. */
static void state_samples(struct berth__output *out, const struct berth__survey *survey,
                          const char *name) {
    for (unsigned outcome = 0; outcome <= BERTH_PROCESS_BAD_PAGE; outcome++) {
        unsigned count = 0;
        const char *state = state_of(outcome);
        for (size_t i = 0; i < survey->count; i++) {
            count += survey->all[i].outcome == outcome && berth__survey_shows(&survey->all[i]);
        }
        if (*state != '\0') {
            berth__text_format(berth__output_line(out), "%s{state=\"%s\"} %u\n", name, state,
                               count);
        }
    }
}

/* The families of export_metrics.h, in its order. */
static void own_families(struct berth__output *out, enum berth__dialect dialect,
                         const struct berth__survey *survey, const struct exposure *exposure) {
    static const struct {
        const char *name, *labels, *unit, *help;
    } families[] = {
#define BERTH_X(name, labels, unit, help) {"berth_" #name, labels, unit, help},
        BERTH_EXPORT_METRICS(BERTH_X)
#undef BERTH_X
    };
    for (unsigned f = 0; f < BERTH_ARRAY_COUNT(families); f++) {
        const char *unit = *families[f].unit == '\0' ? NULL : families[f].unit;
        berth__family_head(out, dialect, families[f].name, BERTH_METRIC_GAUGE, unit,
                           families[f].help);
        if (*families[f].labels != '\0') {
            state_samples(out, survey, families[f].name);
        }
        for (size_t i = 0; *families[f].labels == '\0' && i < exposure->count; i++) {
            own_sample(out, &exposure->all[i], families[f].name, f);
        }
    }
}

bool berth__answer_metrics(FILE *to, const struct berth__survey *survey,
                           enum berth__dialect dialect, unsigned levels) {
    struct exposure exposure = {.count = 0};
    bool made = expose(&exposure, survey, levels);
    if (made) {
        struct berth__output out;
        berth__output_init(&out, to_file, to);
        berth__exposition_write(&out, dialect, berth__levels, exposure.sources, exposure.count);
        own_families(&out, dialect, survey, &exposure);
        berth__exposition_end(&out, dialect);
    }
    free(exposure.all);
    free(exposure.sources);
    return made;
}

/* ---- JSON ---- */

static void json_number(FILE *to, uint64_t value) {
    if (value == UINT64_MAX) {
        fputs("null", to);
    } else {
        fprintf(to, "%" PRIu64, value);
    }
}

static void json_milliseconds(FILE *to, double seconds) {
    json_number(to, (uint64_t)(seconds * 1000));
}

/* The members that every process has: number, name, state, and what goes with that. */
static void json_head(FILE *to, const struct berth__surveyed *surveyed) {
    const struct berth__process *process = &surveyed->process;
    fprintf(to, "{\"pid\":%d,\"command\":", (int)surveyed->pid);
    berth__json_string(to, process->command);
    fprintf(to, ",\"state\":\"%s\",\"resident_bytes\":%" PRIu64, state_of(surveyed->outcome),
            process->resident_bytes);
    if (surveyed->outcome == BERTH_PROCESS_READ) {
        fputs(",\"age_ms\":", to);
        json_milliseconds(to, age_s(surveyed));
        fprintf(to, ",\"left_out\":%" PRIu64, process->stats.rows_left_out);
    } else {
        fputs(",\"why\":", to);
        berth__json_string(to, process->why);
    }
}

static void json_figure(FILE *to, const struct berth__surveyed *surveyed, const char *name) {
    fprintf(to, ",\"%s\":", name);
    json_number(to, berth__stats_figure(&surveyed->process.stats, name, 0));
}

static void json_opening(FILE *to) {
    fprintf(to, "{\"version\":\"%d.%d.%d\",\"processes\":[", BERTH_VERSION_MAJOR,
            BERTH_VERSION_MINOR, BERTH_VERSION_PATCH);
}

void berth__answer_list(FILE *to, const struct berth__survey *survey) {
    json_opening(to);
    bool first = true;
    for (size_t i = 0; i < survey->count; i++) {
        const struct berth__surveyed *surveyed = &survey->all[i];
        if (!berth__survey_shows(surveyed)) {
            continue;
        }
        fputs(first ? "\n" : ",\n", to);
        first = false;
        json_head(to, surveyed);
        if (surveyed->outcome == BERTH_PROCESS_READ) {
            json_figure(to, surveyed, "limit_bytes");
            json_figure(to, surveyed, "limit_used_bytes");
            json_figure(to, surveyed, "mapped_bytes");
            json_figure(to, surveyed, "live_high_bytes");
        }
        fputc('}', to);
    }
    fputs("]}\n", to);
}

static void json_process(FILE *to, const struct berth__surveyed *surveyed) {
    json_head(to, surveyed);
    if (surveyed->outcome == BERTH_PROCESS_READ) {
        fputs(",\"metrics\":", to);
        berth__snapshot_write(&surveyed->process.stats.snapshot, BERTH_METRICS_JSON,
                              BERTH_METRICS_ALL, to_file, to);
    }
    fputc('}', to);
}

void berth__answer_json(FILE *to, const struct berth__survey *survey, pid_t pid) {
    json_opening(to);
    bool first = true;
    for (size_t i = 0; i < survey->count; i++) {
        const struct berth__surveyed *surveyed = &survey->all[i];
        if (berth__survey_shows(surveyed) && (pid == 0 || pid == surveyed->pid)) {
            fputs(first ? "\n" : ",\n", to);
            first = false;
            json_process(to, surveyed);
        }
    }
    fputs("]}\n", to);
}

static void json_series(FILE *to) {
    for (unsigned i = 0; i < BERTH_HISTORY_SERIES; i++) {
        const struct berth__history_series *series = &berth__history_series[i];
        fprintf(to, "%s{\"name\":\"%s\"", i == 0 ? "" : ",", series->name);
        if (*series->group != '\0') {
            fprintf(to, ",\"group\":\"%s\",\"label\":\"%s\"", series->group, series->label);
        }
        fputc('}', to);
    }
}

void berth__answer_history(FILE *to, const struct berth__surveyed *surveyed, uint64_t after_ms) {
    const struct berth__history *history = surveyed->history;
    size_t count = history == NULL ? 0 : history->count;
    bool first = true;
    fprintf(to, "{\"pid\":%d,\"pause_ms\":%d,\"points_max\":%d,\"series\":[", (int)surveyed->pid,
            BERTH_HISTORY_PAUSE_MS, BERTH_HISTORY_POINTS);
    json_series(to);
    fputs("],\"points\":[", to);
    for (size_t i = 0; i < count; i++) {
        const struct berth__history_point *point = berth__history_at(history, i);
        if (point->at_ms <= after_ms) {
            continue;
        }
        fprintf(to, "%s[%" PRIu64, first ? "\n" : ",\n", point->at_ms);
        first = false;
        for (unsigned s = 0; s < BERTH_HISTORY_SERIES; s++) {
            fputc(',', to);
            json_number(to, point->value[s]);
        }
        fputc(']', to);
    }
    fputs("]}\n", to);
}

void berth__answer_tables(FILE *to) {
    static const char *const names[] = {"process", "pool", "arena", "class", "tag", "slow"};
    _Static_assert(BERTH_ARRAY_COUNT(names) == BERTH_LEVEL_COUNT, "each level has a name");
    static const char *const kinds[] = {[BERTH_METRIC_GAUGE] = "gauge",
                                        [BERTH_METRIC_COUNTER] = "counter",
                                        [BERTH_METRIC_BUCKET] = "bucket"};
    fputc('{', to);
    for (unsigned l = 0; l < BERTH_LEVEL_COUNT; l++) {
        const struct berth__level_info *level = &berth__levels[l];
        fprintf(to, "%s\"%s\":[", l == 0 ? "" : ",", names[l]);
        for (unsigned i = 0; i < level->count; i++) {
            const struct berth__metric *metric = &level->metrics[i];
            fprintf(to, "%s\n{\"name\":\"%s\",\"kind\":\"%s\",\"unit\":\"%s\",\"help\":",
                    i == 0 ? "" : ",", metric->name, kinds[metric->kind],
                    metric->unit == BERTH_METRIC_BYTES ? "bytes" : "");
            berth__json_string(to, metric->help);
            fputc('}', to);
        }
        fputc(']', to);
    }
    fputs("}\n", to);
}

/* ---- the page ---- */

void berth__answer_page(FILE *to, const char *nonce) {
    static const char mark[] = "@NONCE@";
    const char *at = (const char *)berth__page;
    for (const char *next; (next = strstr(at, mark)) != NULL; at = next + strlen(mark)) {
        fwrite(at, 1, (size_t)(next - at), to);
        fputs(nonce, to);
    }
    fputs(at, to);
}
