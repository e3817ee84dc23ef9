/*
 * `berth stat`: the figures of a running process, or which processes of the user run on berth.
 */
#include "cli/command.h"
#include "cli/figures.h"
#include "cli/processes.h"
#include "cli/threads.h"
#include "metrics/write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct request {
    const struct berth__command *command;
    enum berth_metrics_format format;
    unsigned levels;
    bool threads;
    double watch_s; /* 0: once */
    pid_t pid;      /* 0: all of them */
};

/* ---- one process ---- */

static void to_stdout(void *context, const char *text, size_t length) {
    (void)context;
    fwrite(text, 1, length, stdout);
}

/* In the forms for programs nothing is added: they are what the process itself would write. */
static void print(const struct request *request, struct berth__process *process) {
    struct berth__stats *stats = &process->stats;
    if (request->format == BERTH_METRICS_TEXT) {
        printf("%s, %.2f s ago\n", process->command, berth__stats_age_s(stats));
    }
    if (process->torn) {
        berth__cli_error(request->command,
                         "process %d stands still while it writes its figures: some are older than "
                         "others",
                         (int)process->pid);
    }
    if (stats->rows_left_out != 0) {
        berth__cli_error(request->command, "%lu pools, arenas or classes had no room on the page",
                         (unsigned long)stats->rows_left_out);
    }
    unsigned levels = berth__levels_written(request->format, request->levels);
    for (unsigned level = 0; level < BERTH_LEVEL_COUNT; level++) {
        if (!berth__level_is_wanted((enum berth__level)level, levels)) {
            stats->snapshot.count[level] = 0;
        }
    }
    berth__snapshot_write(&stats->snapshot, request->format, levels, to_stdout, NULL);
}

/* NULL, or why not. */
static const char *print_threads(struct berth__process *process) {
    printf("process %d, %s: ", (int)process->pid, process->command);
    return berth__threads_print(process);
}

static int show(const struct request *request) {
    struct berth__process process;
    bool read = berth__process_read(&process, request->pid) == BERTH_PROCESS_READ;
    const char *why = read && request->threads ? print_threads(&process) : NULL;
    if (why != NULL) {
        berth__cli_error(request->command, "process %d: %s", (int)request->pid, why);
        read = false;
    } else if (read && !request->threads) {
        print(request, &process);
    } else if (!read) {
        berth__cli_error(request->command, "%s", process.why);
    }
    berth__process_close(&process);
    return read ? BERTH_EXIT_DONE : BERTH_EXIT_FAILED;
}

/* ---- all processes ---- */

static void print_line(const struct berth__process *process) {
    char used[BERTH_SIZE_TEXT];
    char live[BERTH_SIZE_TEXT];
    char limit[BERTH_SIZE_TEXT];
    const struct berth__stats *stats = &process->stats;
    printf("%7d %9s %9s %9s %9.2f  %s\n", (int)process->pid,
           berth__short_size(used, berth__stats_figure(stats, "limit_used_bytes", 0)),
           berth__short_size(live, berth__stats_figure(stats, "live_high_bytes", 0)),
           berth__short_size(limit, berth__stats_figure(stats, "limit_bytes", UINT64_MAX)),
           berth__stats_age_s(stats), process->command);
}

/* One without a page is shown if it surely runs on berth. */
static void list_one(void *unused, struct berth__process *process,
                     enum berth__process_outcome outcome) {
    (void)unused;
    if (outcome == BERTH_PROCESS_READ) {
        print_line(process);
    } else if (outcome == BERTH_PROCESS_PAGELESS) {
        printf("%7d %9s %9s %9s %9s  %s\n", (int)process->pid, "-", "-", "-", "-",
               process->command);
    }
}

static int list(const struct request *request) {
    printf("%7s %9s %9s %9s %9s  %s\n", "PID", "USED", "LIVE", "LIMIT", "AGE (s)", "COMMAND");
    int error = berth__processes_each(list_one, NULL);
    if (error != 0) {
        berth__cli_error(request->command, "/proc: %s", strerror(-error));
        return BERTH_EXIT_FAILED;
    }
    return BERTH_EXIT_DONE;
}

/* ---- again and again ---- */

static int show_or_list(const struct request *request) {
    return request->pid != 0 ? show(request) : list(request);
}

/* Until it fails, which is how it ends when the process does, or by a signal. */
static int watch(const struct request *request) {
    struct timespec pause = {.tv_sec = (time_t)request->watch_s};
    pause.tv_nsec = (long)((request->watch_s - (double)pause.tv_sec) * 1e9);
    bool terminal = isatty(STDOUT_FILENO);
    int status = BERTH_EXIT_DONE;
    for (bool first = true; status == BERTH_EXIT_DONE && !ferror(stdout); first = false) {
        if (!first) {
            nanosleep(&pause, NULL);
        }
        fputs(terminal ? "\033[H\033[2J" : "", stdout);
        status = show_or_list(request);
        if (fflush(stdout) != 0) {
            status = BERTH_EXIT_FAILED;
        }
    }
    return status;
}

/* ---- arguments ---- */

static bool take_interval(struct request *request, const char *text) {
    char *end = NULL;
    request->watch_s = text == NULL ? 2 : strtod(text, &end);
    if (!(request->watch_s >= 0.01 && request->watch_s <= 86400) ||
        (text != NULL && *end != '\0')) {
        berth__cli_error(request->command, "\"%s\" is no interval in seconds", text);
        return false;
    }
    return true;
}

static bool take_operands(struct request *request, int count, char **operands) {
    if (count > 1) {
        berth__cli_error(request->command, "one process at a time: \"%s\"", operands[1]);
        return false;
    }
    if (request->threads && (request->format != BERTH_METRICS_TEXT ||
                             request->levels != (unsigned)BERTH_METRICS_POOLS)) {
        berth__cli_error(request->command, "--threads goes with --watch only");
        return false;
    }
    if (count == 0 && (request->threads || request->format != BERTH_METRICS_TEXT ||
                       request->levels != (unsigned)BERTH_METRICS_POOLS)) {
        berth__cli_error(request->command, "no process is given");
        return false;
    }
    request->pid = count == 0 ? 0 : berth__cli_pid(request->command, operands[0]);
    return request->pid >= 0;
}

static const struct argp_option options[] = {
    {"json", BERTH_LONG_ONLY('j'), NULL, 0, "as berth_metrics_write has it", 0},
    {"openmetrics", BERTH_LONG_ONLY('o'), NULL, 0, "for Prometheus", 0},
    {"arenas", BERTH_LONG_ONLY('a'), NULL, 0, "the arenas of each pool, too", 0},
    {"classes", BERTH_LONG_ONLY('c'), NULL, 0, "the block sizes of each pool, too", 0},
    {"tags", BERTH_LONG_ONLY('t'), NULL, 0, "what is accounted to each tag (berth_tag_push), too",
     0},
    {"slow", BERTH_LONG_ONLY('s'), NULL, 0, "how long slow paths took, too", 0},
    {"threads", BERTH_LONG_ONLY('T'), NULL, 0,
     "what each thread holds in its caches, instead of all that", 0},
    {"watch", BERTH_LONG_ONLY('w'), "SECONDS", OPTION_ARG_OPTIONAL,
     "again and again; every 2 seconds, if no number is given", 0},
    {NULL, 0, NULL, 0, NULL, 0}};

static bool take(void *context, int key, const char *value) {
    struct request *request = context;
    switch (key) {
    case BERTH_LONG_ONLY('j'): request->format = BERTH_METRICS_JSON; return true;
    case BERTH_LONG_ONLY('o'): request->format = BERTH_METRICS_OPENMETRICS; return true;
    case BERTH_LONG_ONLY('a'): request->levels |= BERTH_METRICS_ARENAS; return true;
    case BERTH_LONG_ONLY('c'): request->levels |= BERTH_METRICS_CLASSES; return true;
    case BERTH_LONG_ONLY('t'): request->levels |= BERTH_METRICS_TAGS; return true;
    case BERTH_LONG_ONLY('s'): request->levels |= BERTH_METRICS_SLOW; return true;
    case BERTH_LONG_ONLY('T'): request->threads = true; return true;
    default: return take_interval(request, value);
    }
}

static int stat_command(const struct berth__command *command, int argc, char **argv) {
    struct request request = {
        .command = command, .format = BERTH_METRICS_TEXT, .levels = BERTH_METRICS_POOLS};
    int status = BERTH_EXIT_DONE;
    int first = berth__cli_parse(command, argc, argv, &request, &status);
    if (first < 0) {
        return status;
    }
    if (!take_operands(&request, argc - first, argv + first)) {
        return berth__cli_usage_error(command);
    }
    return request.watch_s > 0 ? watch(&request) : show_or_list(&request);
}

const struct berth__command berth__command_stat = {
    .name = "stat",
    .arguments = "[PID]",
    .summary = "Show the metrics of a running process, or which processes run on berth",
    .details = "Without PID: a line for each process that may be read. The process is not stopped, "
               "and may be. The figures are as old as is said: processes write them down some "
               "20 ms apart while they allocate and free.",
    .options = options,
    .take = take,
    .run = stat_command,
};
