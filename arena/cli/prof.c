/*
 * `berth prof`: who holds a running process's memory, and who allocates it.
 */
#include "base/bits.h"
#include "cli/command.h"
#include "cli/figures.h"
#include "cli/profile_write.h"
#include "cli/sampling.h"
#include "os/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum format { TABLE, PPROF, TEXT, FOLDED, SVG };

struct request {
    const struct berth__command *command;
    pid_t pid;
    double seconds; /* 0: since the process began, or samples were first taken */
    enum berth__profile_measure measure;
    enum berth__profile_by by;
    enum format format;
    bool format_set;
    unsigned rows;
    const char *file; /* NULL: stdout */
};

/* ---- the command line ---- */

static bool choose(const struct request *request, const char *what, const char *text,
                   const char *const *words, unsigned *number) {
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0) {
            *number = i;
            return true;
        }
    }
    berth__cli_error(request->command, "\"%s\" is no %s", text, what);
    return false;
}

static bool parse_rows(struct request *request, const char *text) {
    char *end = NULL;
    unsigned long rows = strtoul(text, &end, 10);
    if (*end != '\0' || *text < '0' || *text > '9' || rows == 0 || rows > 100000) {
        berth__cli_error(request->command, "\"%s\" is no number of rows", text);
        return false;
    }
    request->rows = (unsigned)rows;
    return true;
}

static const struct argp_option options[] = {
    {"seconds", 's', "N", 0,
     "of what is allocated in the next N seconds; samples are switched on for that time if they "
     "are off",
     0},
    {"inuse", BERTH_LONG_ONLY('i'), NULL, 0, "what is held (as long as nothing else is said)", 0},
    {"alloc", BERTH_LONG_ONLY('a'), NULL, 0, "what was allocated, freed since or not", 0},
    {"peak", BERTH_LONG_ONLY('p'), NULL, 0, "what was held when all together held most", 0},
    {"by", 'b', "ORDER", 0, "rows of the table: site, library or class (block sizes)", 0},
    {"rows", 'n', "N", 0, "that many rows at most; 20 if nothing is said", 0},
    {"format", 'f', "FORMAT", 0,
     "table; pprof (`go tool pprof FILE`); text (jeprof, google-pprof); folded (a stack a line); "
     "svg (a flame graph)",
     0},
    {"output", 'o', "FILE", 0,
     "writes there; the format follows from the name (.pb.gz, .svg, .folded, else text)", 0},
    {NULL, 0, NULL, 0, NULL, 0}};

static bool take(void *context, int key, const char *value) {
    struct request *request = context;
    static const char *const formats[] = {"table", "pprof", "text", "folded", "svg", NULL};
    static const char *const orders[] = {"site", "library", "class", NULL};
    unsigned number = 0;
    switch (key) {
    case 's': return berth__cli_seconds(request->command, value, &request->seconds);
    case 'n': return parse_rows(request, value);
    case BERTH_LONG_ONLY('i'): request->measure = BERTH_PROFILE_HELD; return true;
    case BERTH_LONG_ONLY('a'): request->measure = BERTH_PROFILE_ALLOCATED; return true;
    case BERTH_LONG_ONLY('p'): request->measure = BERTH_PROFILE_PEAK; return true;
    case 'o': request->file = value; return true;
    case 'f':
        request->format_set = true;
        if (!choose(request, "format: table, pprof, text, folded or svg", value, formats,
                    &number)) {
            return false;
        }
        request->format = (enum format)number;
        return true;
    case 'b':
        if (!choose(request, "order: site, library or class", value, orders, &number)) {
            return false;
        }
        request->by = (enum berth__profile_by)number;
        return true;
    default: return false; /* there are no others */
    }
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text);
    size_t end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* By the name of the file, unless it was said. */
static void settle_format(struct request *request) {
    if (request->file == NULL || request->format_set) {
        return;
    }
    request->format = ends_with(request->file, ".svg")      ? SVG
                      : ends_with(request->file, ".folded") ? FOLDED
                      : ends_with(request->file, ".pb.gz") || ends_with(request->file, ".pprof")
                          ? PPROF
                          : TEXT;
}

/* ---- writing ---- */

static const char *measure_text(const struct request *request) {
    switch (request->measure) {
    case BERTH_PROFILE_ALLOCATED: return "allocated";
    case BERTH_PROFILE_PEAK: return "held at the peak";
    case BERTH_PROFILE_HELD: break;
    }
    return request->seconds > 0 ? "allocated meanwhile, and still held" : "held";
}

static bool write_table(const struct request *request, const struct berth__process *process,
                        struct berth__profile *profile, FILE *to) {
    char size[BERTH_SIZE_TEXT];
    fprintf(to, "%s, process %d: %s. Estimates, from samples", process->command, (int)process->pid,
            measure_text(request));
    if (profile->interval != 0) {
        fprintf(to, " every %s", berth__long_size(size, (double)profile->interval));
    }
    fputs("\n", to);
    return berth__profile_write_table(to, profile, request->measure, request->by, request->rows);
}

static bool write_to(const struct request *request, const struct berth__process *process,
                     struct berth__profile *profile, FILE *to) {
    char title[200];
    switch (request->format) {
    case PPROF: return berth__profile_write_pprof(to, profile, request->measure);
    case TEXT: berth__profile_write_text(to, profile, request->measure); return true;
    case FOLDED: berth__profile_write_folded(to, profile, request->measure); return true;
    case SVG:
        snprintf(title, sizeof(title), "%s, process %d: memory %s", process->command,
                 (int)process->pid, measure_text(request));
        return berth__profile_write_svg(to, profile, request->measure, title);
    case TABLE: break;
    }
    return write_table(request, process, profile, to);
}

static int write_profile(const struct request *request, const struct berth__process *process,
                         struct berth__profile *profile) {
    if (profile->left_out != 0) {
        berth__cli_error(request->command,
                         "%lu samples found no room in the process's tables: the figures are low; "
                         "a longer interval helps",
                         (unsigned long)profile->left_out);
    }
    FILE *to = request->file == NULL ? stdout : fopen(request->file, "we");
    if (to == NULL) {
        berth__cli_error(request->command, "cannot write %s: %s", request->file, strerror(errno));
        return BERTH_EXIT_FAILED;
    }
    bool done = write_to(request, process, profile, to);
    if (to != stdout && fclose(to) != 0) {
        berth__cli_error(request->command, "cannot write %s: %s", request->file, strerror(errno));
        return BERTH_EXIT_FAILED;
    }
    if (!done) {
        berth__cli_error(request->command, "there is not enough memory");
    }
    return done ? BERTH_EXIT_DONE : BERTH_EXIT_FAILED;
}

/* ---- reading ---- */

/* Says what is wrong, and returns what the command is to end with. */
static int say_why(const struct request *request, const struct berth__process *process,
                   enum berth__profile_outcome outcome) {
    if (outcome == BERTH_PROFILE_NONE) {
        berth__cli_error(request->command,
                         "process %d takes no samples: ask with --seconds, or switch them on by "
                         "`berth ctl %d sample=512K`, or start it with BERTH_CONF=sample:512K",
                         (int)process->pid, (int)process->pid);
    } else if (outcome == BERTH_PROFILE_GONE) {
        berth__cli_error(request->command, "process %d has ended", (int)process->pid);
    } else {
        berth__cli_error(request->command,
                         "the profile of process %d cannot be read: it is of another version of "
                         "berth, or damaged",
                         (int)process->pid);
    }
    return BERTH_EXIT_FAILED;
}

static int show_all(const struct request *request, const struct berth__process *process) {
    static const struct berth__profile_filter all = {0, 0};
    struct berth__profile profile;
    enum berth__profile_outcome outcome = berth__profile_read(&profile, process, &all);
    int status = outcome == BERTH_PROFILE_READ ? write_profile(request, process, &profile)
                                               : say_why(request, process, outcome);
    if (outcome == BERTH_PROFILE_READ && profile.interval == 0) {
        berth__cli_error(request->command,
                         "process %d takes no samples now: this is of those it took before",
                         (int)process->pid);
    }
    berth__profile_close(&profile);
    return status;
}

/* What was allocated meanwhile, and what of it is still held. */
static int show_window(const struct request *request, struct berth__process *process) {
    static const struct berth__profile_filter all = {0, 0};
    struct berth__sampling sampling;
    struct berth__profile before = {0};
    struct berth__profile after = {0};
    int status = berth__sampling_begin(&sampling, request->command, process);
    if (status != BERTH_EXIT_DONE) {
        return status;
    }
    struct berth__profile_filter window = {.born_from_ms = berth__clock_coarse_ms()};
    enum berth__profile_outcome outcome = berth__profile_read(&before, process, &all);
    if (outcome == BERTH_PROFILE_READ) {
        berth__sampling_wait(&sampling, request->seconds);
        outcome = berth__profile_read(&after, process, &window);
    }
    berth__sampling_end(&sampling);
    if (outcome == BERTH_PROFILE_READ) {
        berth__profile_subtract(&after, &before);
        status = write_profile(request, process, &after);
    } else {
        status = say_why(request, process, outcome);
    }
    berth__profile_close(&before);
    berth__profile_close(&after);
    return status;
}

static int prof(const struct berth__command *command, int argc, char **argv) {
    struct request request = {.command = command, .rows = 20};
    int status = BERTH_EXIT_DONE;
    int first = berth__cli_parse(command, argc, argv, &request, &status);
    if (first < 0) {
        return status;
    }
    request.pid = berth__cli_only_pid(command, argc - first, argv + first);
    if (request.pid < 0) {
        return BERTH_EXIT_USAGE;
    }
    settle_format(&request);
    struct berth__process process;
    if (berth__process_read(&process, request.pid) != BERTH_PROCESS_READ) {
        berth__cli_error(command, "%s", process.why);
        status = BERTH_EXIT_FAILED;
    } else {
        status =
            request.seconds > 0 ? show_window(&request, &process) : show_all(&request, &process);
    }
    berth__process_close(&process);
    return status;
}

const struct berth__command berth__command_prof = {
    .name = "prof",
    .arguments = "PID",
    .summary = "Say which calls hold and allocate a process's memory",
    .details =
        "Samples are taken every so many bytes on average: `berth ctl PID sample=512K`, or "
        "BERTH_CONF=sample:512K. Without frame pointers in the program, a stack is its innermost "
        "call alone; BERTH_CONF=sample_stack:unwind has whole ones of any program.",
    .options = options,
    .take = take,
    .run = prof,
};
