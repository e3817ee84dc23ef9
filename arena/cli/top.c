/*
 * `berth top`: all processes of the user that run on berth, again and again.
 */
#include "cli/top.h"

#include "cli/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

struct request {
    const struct berth__command *command;
    struct berth__top top;
    double interval_s;
    unsigned long batch; /* how often to print; 0: on the screen */
};

/* ---- without a terminal ---- */

static void print_table(const struct berth__top *top) {
    char line[256];
    time_t now = time(NULL);
    struct tm local;
    char clock[16] = "";
    if (localtime_r(&now, &local) != NULL) {
        strftime(clock, sizeof(clock), "%H:%M:%S", &local);
    }
    berth__top_summary(top, line, sizeof(line));
    printf("%s  %s\n", clock, line);
    berth__top_line(NULL, line, sizeof(line));
    puts(line);
    for (size_t i = 0; i < top->count; i++) {
        berth__top_line(&top->rows[i], line, sizeof(line));
        puts(line);
    }
}

static void sleep_s(double seconds) {
    struct timespec pause = {.tv_sec = (time_t)seconds};
    pause.tv_nsec = (long)((seconds - (double)pause.tv_sec) * 1e9);
    nanosleep(&pause, NULL);
}

static int batch(struct request *request) {
    for (unsigned long i = 0; i < request->batch && !ferror(stdout); i++) {
        if (i > 0) {
            sleep_s(request->interval_s);
            putchar('\n');
        }
        int error = berth__top_sample(&request->top);
        if (error != 0) {
            berth__cli_error(request->command, "/proc: %s", strerror(-error));
            return BERTH_EXIT_FAILED;
        }
        print_table(&request->top);
        if (fflush(stdout) != 0) {
            return BERTH_EXIT_FAILED;
        }
    }
    return BERTH_EXIT_DONE;
}

static int screen(struct request *request) {
    char why[128];
    if (!berth__top_screen(&request->top, request->interval_s, why, sizeof(why))) {
        berth__cli_error(request->command, "%s: `berth top --batch 1` prints the table", why);
        return BERTH_EXIT_FAILED;
    }
    return BERTH_EXIT_DONE;
}

/* ---- arguments ---- */

static bool take_number(const struct request *request, const char *text, unsigned long *number) {
    char *end = NULL;
    *number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || *number == 0) {
        berth__cli_error(request->command, "\"%s\" is no number of times", text);
        return false;
    }
    return true;
}

static bool take_interval(struct request *request, const char *text) {
    char *end = NULL;
    request->interval_s = strtod(text, &end);
    if (end == text || *end != '\0' ||
        !(request->interval_s >= 0.1 && request->interval_s <= 86400)) {
        berth__cli_error(request->command, "\"%s\" is no interval in seconds, from 0.1 on", text);
        return false;
    }
    return true;
}

static bool take_sort(struct request *request, const char *text) {
    for (unsigned i = 0; i < BERTH_TOP_COLUMN_COUNT; i++) {
        enum berth__top_column column = (enum berth__top_column)i;
        if (strcasecmp(text, berth__top_heading(column)) == 0 ||
            (text[0] != '\0' && text[1] == '\0' && berth__top_column_of_key(text[0]) == column)) {
            request->top.sort = column;
            return true;
        }
    }
    berth__cli_error(request->command, "\"%s\" is no column", text);
    return false;
}

static const struct argp_option options[] = {
    {"batch", 'b', "N", 0, "prints the table N times, for files and pipes", 0},
    {"delay", 'd', "SECONDS", 0, "between two looks; 2, if not given", 0},
    {"sort", 's', "COLUMN", 0, "by its heading or its key; USED, if not given", 0},
    {"reverse", 'r', NULL, 0, "the smallest first", 0},
    {NULL, 0, NULL, 0, NULL, 0}};

static bool take(void *context, int key, const char *value) {
    struct request *request = context;
    switch (key) {
    case 'b': return take_number(request, value, &request->batch);
    case 'd': return take_interval(request, value);
    case 's': return take_sort(request, value);
    default: request->top.reversed = true; return true;
    }
}

static int top_command(const struct berth__command *command, int argc, char **argv) {
    struct request request = {.command = command, .interval_s = 2, .top = {.sort = BERTH_TOP_USED}};
    int status = BERTH_EXIT_DONE;
    int first = berth__cli_parse(command, argc, argv, &request, &status);
    if (first < 0) {
        return status;
    }
    if (first < argc) {
        berth__cli_error(command, "it looks at all processes: what is \"%s\"?", argv[first]);
        return berth__cli_usage_error(command);
    }
    status = request.batch > 0 ? batch(&request) : screen(&request);
    berth__top_free(&request.top);
    return status;
}

const struct berth__command berth__command_top = {
    .name = "top",
    .summary = "Watch all processes that run on berth, full screen",
    .details =
        "Columns and the keys that sort by them:\n"
        "  PID p      LIVE l   what the program holds, at most\n"
        "  USED u     bytes charged to the limit      IDLE i   those that are not live\n"
        "  LIMIT m    USED% s                         ALLOC/s a   FREE/s f\n"
        "  THR t      threads with a cache            AGE g   of figures, seconds\n"
        "  COMMAND c\n\n"
        "Other keys: arrows, j and k select; Enter shows a process's pools, arenas and classes; "
        "r turns the order round, + and - change the delay, h shows help, q ends. No process is "
        "stopped. Those of the user that cannot be read are listed with the reason.",
    .options = options,
    .take = take,
    .run = top_command,
};
