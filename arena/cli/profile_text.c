/*
 * Profiles as text: for jeprof and google-pprof, as folded stacks, and as tables for people.
 */
#include "cli/profile_write.h"

#include "base/bits.h"
#include "cli/figures.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct berth__amount berth__profile_amount(const struct berth__profile_site *site,
                                           enum berth__profile_measure measure) {
    switch (measure) {
    case BERTH_PROFILE_ALLOCATED: return site->allocated;
    case BERTH_PROFILE_PEAK: return site->peak;
    case BERTH_PROFILE_HELD: break;
    }
    return site->held;
}

/* ---- jeprof ---- */

static uint64_t whole(double value) {
    return value <= 0 ? 0 : (uint64_t)(value + 0.5);
}

/* A count of 0 with bytes is an error to readers. */
static uint64_t at_least_one(double blocks, uint64_t bytes) {
    uint64_t count = whole(blocks);
    return count == 0 && bytes != 0 ? 1 : count;
}

static void write_amounts(FILE *to, const struct berth__amount *held,
                          const struct berth__amount *allocated) {
    uint64_t bytes = whole(held->bytes);
    uint64_t all = whole(allocated->bytes);
    fprintf(to, "%6" PRIu64 ": %8" PRIu64 " [%6" PRIu64 ": %8" PRIu64 "] @",
            at_least_one(held->blocks, bytes), bytes, at_least_one(allocated->blocks, all), all);
}

static void add(struct berth__amount *sum, struct berth__amount amount) {
    sum->blocks += amount.blocks;
    sum->bytes += amount.bytes;
}

void berth__profile_write_text(FILE *to, struct berth__profile *profile,
                               enum berth__profile_measure measure) {
    struct berth__amount held = {0, 0};
    struct berth__amount allocated = {0, 0};
    enum berth__profile_measure first =
        measure == BERTH_PROFILE_PEAK ? BERTH_PROFILE_PEAK : BERTH_PROFILE_HELD;
    for (size_t i = 0; i < profile->site_count; i++) {
        add(&held, berth__profile_amount(&profile->sites[i], first));
        add(&allocated, profile->sites[i].allocated);
    }
    fputs("heap profile: ", to);
    write_amounts(to, &held, &allocated);
    fputs(" heapprofile\n", to);
    for (size_t i = 0; i < profile->site_count; i++) {
        const struct berth__profile_site *site = &profile->sites[i];
        struct berth__amount amount = berth__profile_amount(site, first);
        if (site->depth == 0 || (amount.bytes < 1 && site->allocated.bytes < 1)) {
            continue;
        }
        write_amounts(to, &amount, &site->allocated);
        for (unsigned d = 0; d < site->depth; d++) {
            fprintf(to, " 0x%" PRIx64, site->place[d]);
        }
        fputc('\n', to);
    }
    fprintf(to, "\nMAPPED_LIBRARIES:\n%s", berth__symbols_maps(profile->symbols));
}

/* ---- folded ---- */

void berth__profile_write_folded(FILE *to, struct berth__profile *profile,
                                 enum berth__profile_measure measure) {
    for (size_t i = 0; i < profile->site_count; i++) {
        const struct berth__profile_site *site = &profile->sites[i];
        struct berth__amount amount = berth__profile_amount(site, measure);
        if (amount.bytes < 1) {
            continue;
        }
        for (unsigned d = site->depth; d > 0; d--) {
            const char *name = berth__symbols_find(profile->symbols, site->place[d - 1])->function;
            for (; *name != '\0'; name++) {
                fputc(*name == ';' || *name == '\n' ? '_' : *name, to);
            }
            fputs(d > 1 ? ";" : "", to);
        }
        fprintf(to, "%s %" PRIu64 "\n", site->depth == 0 ? "[unknown]" : "", whole(amount.bytes));
    }
}

/* ---- tables ---- */

static bool is_runtime(const char *library) {
    static const char *const runtimes[] = {"libc.so", "libc-", "libstdc++", "libc++", "ld-linux"};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(runtimes); i++) {
        if (strncmp(library, runtimes[i], strlen(runtimes[i])) == 0) {
            return true;
        }
    }
    return false;
}

uint64_t berth__profile_place(struct berth__profile *profile,
                              const struct berth__profile_site *site) {
    for (unsigned d = 0; d < site->depth; d++) {
        if (!is_runtime(berth__symbols_library(profile->symbols, site->place[d]))) {
            return site->place[d];
        }
    }
    return site->depth > 0 ? site->place[0] : 0;
}

const char *berth__profile_library(struct berth__profile *profile, uint64_t place) {
    return place == 0 ? "[unknown]" : berth__symbols_library(profile->symbols, place);
}

/* What a stack has in the table by libraries. */
static char *library_text(struct berth__profile *profile, const struct berth__profile_site *site) {
    return strdup(berth__profile_library(profile, berth__profile_place(profile, site)));
}

/* Of a site, or of what goes by one name. */
struct row {
    char *name;
    struct berth__amount amount;
    double requested, held;
    uint64_t oldest_ms;
};

struct rows {
    struct row *row;
    size_t count;
    bool failed; /* no memory */
};

static int by_amount(const void *a, const void *b) {
    const struct row *x = a;
    const struct row *y = b;
    return (x->amount.bytes < y->amount.bytes) - (x->amount.bytes > y->amount.bytes);
}

static int by_name(const void *a, const void *b) {
    const struct row *x = a;
    const struct row *y = b;
    return strcmp(x->name, y->name);
}

/* "f (file.c:12) < g (libx.so) < main"; NULL without memory. */
static char *stack_text(struct berth__profile *profile, const struct berth__profile_site *site) {
    enum { PLACES = 6 };
    char *text = NULL;
    size_t length = 0;
    FILE *to = open_memstream(&text, &length);
    if (to == NULL) {
        return NULL;
    }
    for (unsigned d = 0; d < site->depth && d < PLACES; d++) {
        fputs(d == 0 ? "" : " < ", to);
        berth__symbols_write(to, profile->symbols, site->place[d]);
    }
    fputs(site->depth == 0 ? "[unknown]" : site->depth > PLACES ? " < ..." : "", to);
    return fclose(to) == 0 ? text : NULL;
}

static void add_row(struct rows *rows, char *name, const struct row *figures) {
    if (name == NULL) {
        rows->failed = true;
        return;
    }
    rows->row[rows->count] = *figures;
    rows->row[rows->count++].name = name;
}

/* Rows with one name become one; the largest come first. */
static void merge(struct rows *rows) {
    struct row *row = rows->row;
    size_t kept = 0;
    qsort(row, rows->count, sizeof(*row), by_name);
    for (size_t i = 0; i < rows->count; i++) {
        if (kept > 0 && strcmp(row[kept - 1].name, row[i].name) == 0) {
            struct row *sum = &row[kept - 1];
            add(&sum->amount, row[i].amount);
            sum->requested += row[i].requested;
            sum->held += row[i].held;
            sum->oldest_ms = berth__max(sum->oldest_ms, row[i].oldest_ms);
            free(row[i].name);
        } else {
            row[kept++] = row[i];
        }
    }
    rows->count = kept;
    qsort(row, kept, sizeof(*row), by_amount);
}

static struct rows rows_of(struct berth__profile *profile, enum berth__profile_measure measure,
                           enum berth__profile_by by) {
    size_t most = berth__max(profile->site_count, profile->class_count);
    struct rows rows = {.row = calloc(most + 1, sizeof(*rows.row))};
    rows.failed = rows.row == NULL;
    for (size_t i = 0; !rows.failed && by != BERTH_BY_CLASS && i < profile->site_count; i++) {
        const struct berth__profile_site *site = &profile->sites[i];
        struct row row = {.amount = berth__profile_amount(site, measure),
                          .requested = site->requested,
                          .held = site->held.bytes,
                          .oldest_ms = site->oldest_ms};
        if (row.amount.bytes >= 1) {
            add_row(&rows,
                    by == BERTH_BY_SITE ? stack_text(profile, site) : library_text(profile, site),
                    &row);
        }
    }
    for (size_t i = 0; !rows.failed && by == BERTH_BY_CLASS && i < profile->class_count; i++) {
        char size[BERTH_SIZE_TEXT];
        struct row row = {.amount = profile->classes[i].held};
        add_row(&rows, strdup(berth__long_size(size, (double)profile->classes[i].bytes)), &row);
    }
    if (!rows.failed) {
        merge(&rows);
    }
    return rows;
}

static void free_rows(struct rows *rows) {
    for (size_t i = 0; i < rows->count; i++) {
        free(rows->row[i].name);
    }
    free(rows->row);
}

static void write_row(FILE *to, const struct row *row, double total) {
    char size[BERTH_SIZE_TEXT];
    char waste[16] = "-";
    if (row->held > 0) {
        double wasted = 1 - row->requested / row->held;
        snprintf(waste, sizeof(waste), "%.0f %%", 100 * (wasted > 0 ? wasted : 0));
    }
    fprintf(to, "%12s %5.1f %% %12.0f %6s  %s\n", berth__long_size(size, row->amount.bytes),
            100 * row->amount.bytes / total, row->amount.blocks, waste, row->name);
}

bool berth__profile_write_table(FILE *to, struct berth__profile *profile,
                                enum berth__profile_measure measure, enum berth__profile_by by,
                                unsigned most) {
    char size[BERTH_SIZE_TEXT];
    struct berth__amount total = {0, 0};
    struct rows rows = rows_of(profile, measure, by);
    for (size_t i = 0; i < rows.count; i++) {
        add(&total, rows.row[i].amount);
    }
    fprintf(to, "%12s %7s %12s %6s%s\n", "bytes", "", "blocks", "waste",
            by == BERTH_BY_CLASS ? "  size of a block" : "");
    for (size_t i = 0; i < rows.count && i < most; i++) {
        write_row(to, &rows.row[i], total.bytes);
    }
    fprintf(to, "%12s %7s %12.0f %6s  all together\n", berth__long_size(size, total.bytes), "",
            total.blocks, "");
    free_rows(&rows);
    return !rows.failed;
}

/* ---- ages ---- */

static const char *age_text(char text[24], uint64_t ms) {
    uint64_t s = ms / 1000;
    if (s < 120) {
        snprintf(text, 24, "%" PRIu64 ".%" PRIu64 " s", s, ms / 100 % 10);
    } else if (s < 7200) {
        snprintf(text, 24, "%" PRIu64 " min", s / 60);
    } else {
        snprintf(text, 24, "%" PRIu64 " h", s / 3600);
    }
    return text;
}

bool berth__profile_write_ages(FILE *to, struct berth__profile *profile, unsigned most) {
    struct rows rows = rows_of(profile, BERTH_PROFILE_HELD, BERTH_BY_SITE);
    fprintf(to, "%12s %12s %8s\n", "bytes", "blocks", "oldest");
    for (size_t i = 0; i < rows.count && i < most; i++) {
        char size[BERTH_SIZE_TEXT];
        char age[24];
        const struct row *row = &rows.row[i];
        fprintf(to, "%12s %12.0f %8s  %s\n", berth__long_size(size, row->amount.bytes),
                row->amount.blocks, age_text(age, row->oldest_ms), row->name);
    }
    free_rows(&rows);
    return !rows.failed;
}
