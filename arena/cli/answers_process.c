#include "cli/answers_process.h"

#include "base/bits.h"
#include "cli/answers.h"
#include "cli/figures.h"
#include "cli/map_process.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct berth__profile_filter all = {0, 0};

/* ---- why there is none ---- */

/* Without a full stop: pages and terminals put it into sentences of their own. */
static void say_none(FILE *to, pid_t pid) {
    fprintf(to,
            "process %d takes no samples: switch them on by `berth ctl %d sample=512K`, or start "
            "it with BERTH_CONF=sample:512K",
            (int)pid, (int)pid);
}

static void say_bad(FILE *to, pid_t pid) {
    fprintf(to,
            "the profile of process %d cannot be read: it is of another version of berth, or "
            "damaged",
            (int)pid);
}

static void say_gone(FILE *to, pid_t pid) {
    fprintf(to, "process %d has ended", (int)pid);
}

/* ---- profile.proto ---- */

static enum berth__answered write_pprof(FILE *to, const struct berth__process *process,
                                        enum berth__profile_measure measure) {
    struct berth__profile profile;
    enum berth__answered answered = BERTH_ANSWERED_WHY_NOT;
    switch (berth__profile_read(&profile, process, &all)) {
    case BERTH_PROFILE_READ:
        answered =
            berth__profile_write_pprof(to, &profile, measure) ? BERTH_ANSWERED : BERTH_ANSWERED_NOT;
        break;
    case BERTH_PROFILE_NONE: say_none(to, process->pid); break;
    case BERTH_PROFILE_GONE: say_gone(to, process->pid); break;
    case BERTH_PROFILE_BAD: say_bad(to, process->pid); break;
    }
    berth__profile_close(&profile);
    return answered;
}

enum berth__answered berth__answer_pprof(FILE *to, pid_t pid, enum berth__profile_measure measure) {
    struct berth__process process;
    enum berth__answered answered = BERTH_ANSWERED_WHY_NOT;
    if (berth__process_read(&process, pid) == BERTH_PROCESS_READ) {
        answered = write_pprof(to, &process, measure);
    } else {
        fputs(process.why, to);
    }
    if (answered == BERTH_ANSWERED_WHY_NOT) {
        fputs(".\n", to);
    }
    berth__process_close(&process);
    return answered;
}

/* ---- top sites ---- */

/* All stacks that are put down to one line of one function. */
struct top_site {
    const char *function, *library;
    const char *file; /* "" if unknown */
    unsigned line;
    struct berth__amount held, allocated;
    uint64_t oldest_ms;
};

static int by_name(const void *a, const void *b) {
    const struct top_site *x = a;
    const struct top_site *y = b;
    int order = strcmp(x->function, y->function);
    order = order != 0 ? order : strcmp(x->file, y->file);
    order = order != 0 ? order : strcmp(x->library, y->library);
    return order != 0 ? order : (x->line > y->line) - (x->line < y->line);
}

/* Most held first; of what holds nothing any more, most allocated. */
static int by_bytes(const void *a, const void *b) {
    const struct top_site *x = a;
    const struct top_site *y = b;
    int order = (x->held.bytes < y->held.bytes) - (x->held.bytes > y->held.bytes);
    return order != 0 ? order
                      : (x->allocated.bytes < y->allocated.bytes) -
                            (x->allocated.bytes > y->allocated.bytes);
}

static void add(struct berth__amount *sum, struct berth__amount amount) {
    sum->blocks += amount.blocks;
    sum->bytes += amount.bytes;
}

static struct top_site top_site_of(struct berth__profile *profile,
                                   const struct berth__profile_site *site) {
    uint64_t place = berth__profile_place(profile, site);
    struct top_site top = {.function = "[unknown]",
                           .library = berth__profile_library(profile, place),
                           .file = "",
                           .held = site->held,
                           .allocated = site->allocated,
                           .oldest_ms = site->oldest_ms};
    if (place != 0) {
        const struct berth__symbol_at *symbol = berth__symbols_find(profile->symbols, place);
        top.function = symbol->function;
        top.file = symbol->file == NULL ? "" : symbol->file;
        top.line = symbol->line;
    }
    return top;
}

/* Those of one name become one. */
static size_t merge(struct top_site *top, size_t count) {
    size_t kept = 0;
    qsort(top, count, sizeof(*top), by_name);
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && by_name(&top[kept - 1], &top[i]) == 0) {
            struct top_site *sum = &top[kept - 1];
            add(&sum->held, top[i].held);
            add(&sum->allocated, top[i].allocated);
            sum->oldest_ms = berth__max(sum->oldest_ms, top[i].oldest_ms);
        } else {
            top[kept++] = top[i];
        }
    }
    return kept;
}

/* To be freed; NULL without memory. */
static struct top_site *top_sites(struct berth__profile *profile, size_t *count) {
    struct top_site *top = calloc(profile->site_count + 1, sizeof(*top));
    *count = 0;
    for (size_t i = 0; top != NULL && i < profile->site_count; i++) {
        const struct berth__profile_site *site = &profile->sites[i];
        if (site->held.bytes >= 1 || site->allocated.bytes >= 1) {
            top[(*count)++] = top_site_of(profile, site);
        }
    }
    if (top != NULL) {
        *count = merge(top, *count);
        qsort(top, *count, sizeof(*top), by_bytes);
    }
    return top;
}

static uint64_t whole(double value) {
    return value <= 0 ? 0 : (uint64_t)(value + 0.5);
}

static void json_amount(FILE *to, const char *prefix, const struct berth__amount *amount) {
    fprintf(to, ",\"%sbytes\":%" PRIu64 ",\"%sblocks\":%" PRIu64, prefix, whole(amount->bytes),
            prefix, whole(amount->blocks));
}

static void json_site(FILE *to, const struct top_site *site) {
    fputs("{\"function\":", to);
    berth__json_string(to, site->function);
    fputs(",\"file\":", to);
    if (*site->file == '\0') {
        fputs("null,\"line\":null", to);
    } else {
        berth__json_string(to, site->file);
        fprintf(to, ",\"line\":%u", site->line);
    }
    fputs(",\"library\":", to);
    berth__json_string(to, site->library);
    json_amount(to, "", &site->held);
    json_amount(to, "allocated_", &site->allocated);
    fprintf(to, ",\"oldest_ms\":%" PRIu64 "}", site->oldest_ms);
}

static bool json_sites(FILE *to, struct berth__profile *profile) {
    size_t count;
    struct top_site *top = top_sites(profile, &count);
    struct berth__amount held = {0, 0};
    struct berth__amount allocated = {0, 0};
    for (size_t i = 0; i < count; i++) {
        add(&held, top[i].held);
        add(&allocated, top[i].allocated);
    }
    fprintf(to, ",\"state\":\"read\",\"interval_bytes\":%" PRIu64 ",\"left_out\":%" PRIu64,
            profile->interval, profile->left_out);
    json_amount(to, "", &held);
    json_amount(to, "allocated_", &allocated);
    fprintf(to, ",\"sites_all\":%zu,\"sites\":[", count);
    for (size_t i = 0; i < count && i < BERTH_TOP_SITES_MAX; i++) {
        fputs(i == 0 ? "\n" : ",\n", to);
        json_site(to, &top[i]);
    }
    fputs("]", to);
    free(top);
    return top != NULL;
}

/* The members behind the number. */
static bool json_profile(FILE *to, const struct berth__process *process) {
    struct berth__profile profile;
    bool made = true;
    switch (berth__profile_read(&profile, process, &all)) {
    case BERTH_PROFILE_READ: made = json_sites(to, &profile); break;
    case BERTH_PROFILE_NONE:
        fputs(",\"state\":\"none\",\"why\":\"", to);
        say_none(to, process->pid);
        fputs("\"", to);
        break;
    case BERTH_PROFILE_GONE:
        fputs(",\"state\":\"gone\",\"why\":\"", to);
        say_gone(to, process->pid);
        fputs("\"", to);
        break;
    case BERTH_PROFILE_BAD:
        fputs(",\"state\":\"damaged\",\"why\":\"", to);
        say_bad(to, process->pid);
        fputs("\"", to);
        break;
    }
    berth__profile_close(&profile);
    return made;
}

enum berth__answered berth__answer_sites(FILE *to, pid_t pid) {
    struct berth__process process;
    bool made = true;
    fprintf(to, "{\"pid\":%d", (int)pid);
    if (berth__process_read(&process, pid) == BERTH_PROCESS_READ) {
        made = json_profile(to, &process);
    } else {
        fputs(",\"state\":\"refused\",\"why\":", to);
        berth__json_string(to, process.why);
    }
    fputs("}\n", to);
    berth__process_close(&process);
    return made ? BERTH_ANSWERED : BERTH_ANSWERED_NOT;
}

/* ---- the map ---- */

/* A picture of more is for nobody's browser, and drawing it would keep others waiting. */
enum { DRAWN_MAX_PAGES = 1 << 20 };
#define DRAWN_MAX_BYTES (UINT64_C(4096) * DRAWN_MAX_PAGES)

static void say_too_large(FILE *to, pid_t pid) {
    fprintf(to,
            "process %d has more than 4 GiB: this is not drawn here, but by "
            "berth map --html --output FILE %d\n",
            (int)pid, (int)pid);
}

static bool draw(FILE *to, const struct berth__process *process) {
    struct berth__process_map map;
    bool drawn = false;
    uint64_t mapped = berth__stats_figure(&process->stats, "mapped_bytes", 0);
    if (mapped > DRAWN_MAX_BYTES) { /* said so itself: not even read */
        say_too_large(to, process->pid);
        return false;
    }
    if (!berth__process_map_read(&map, process)) {
        fprintf(to, "process %d: %s.\n", (int)process->pid, map.why);
    } else if (map.map.total_pages > DRAWN_MAX_PAGES) {
        say_too_large(to, process->pid);
    } else {
        berth__map_write_svg(&map.map, &map.title, to);
        drawn = true;
    }
    berth__process_map_free(&map);
    return drawn;
}

enum berth__answered berth__answer_map(FILE *to, pid_t pid) {
    struct berth__process process;
    bool drawn = false;
    if (berth__process_read(&process, pid) == BERTH_PROCESS_READ) {
        drawn = draw(to, &process);
    } else {
        fprintf(to, "%s.\n", process.why);
    }
    berth__process_close(&process);
    return drawn ? BERTH_ANSWERED : BERTH_ANSWERED_WHY_NOT;
}
