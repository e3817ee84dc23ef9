/*
 * `berth leaks`: what a running process has held for long, by who allocated it.
 */
#include "cli/command.h"
#include "cli/profile_write.h"

#include <stdlib.h>
#include <string.h>

enum { MINUTE_MS = 60000, ROWS = 20 };

/* "90s", "10m", "2h"; seconds without a unit. */
static bool parse_age(const char *text, uint64_t *ms) {
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"", 1000},       {"s", 1000},           {"ms", 1},
                 {"m", MINUTE_MS}, {"h", 60 * MINUTE_MS}, {"d", 24.0 * 60 * MINUTE_MS}};
    char *end = NULL;
    double number = strtod(text, &end);
    for (unsigned i = 0; end != text && i < BERTH_ARRAY_COUNT(units); i++) {
        if (strcmp(end, units[i].unit) == 0 && number >= 0 && number * units[i].ms < 1e13) {
            *ms = (uint64_t)(number * units[i].ms);
            return true;
        }
    }
    return false;
}

static int show(const struct berth__command *command, const struct berth__process *process,
                uint64_t age_ms) {
    struct berth__profile profile;
    struct berth__profile_filter filter = {.age_ms = age_ms};
    enum berth__profile_outcome outcome = berth__profile_read(&profile, process, &filter);
    int status = BERTH_EXIT_FAILED;
    if (outcome == BERTH_PROFILE_NONE) {
        berth__cli_error(command,
                         "process %d takes no samples: switch them on by `berth ctl %d "
                         "sample=512K`, and ask again when they are old enough",
                         (int)process->pid, (int)process->pid);
    } else if (outcome == BERTH_PROFILE_GONE) {
        berth__cli_error(command, "process %d has ended", (int)process->pid);
    } else if (outcome == BERTH_PROFILE_BAD) {
        berth__cli_error(command, "the profile of process %d cannot be read", (int)process->pid);
    } else {
        printf("%s, process %d: held for %.0f s or longer. Estimates, from samples; what was "
               "allocated before\nsamples were taken is not among them\n",
               process->command, (int)process->pid, (double)age_ms / 1000);
        status =
            berth__profile_write_ages(stdout, &profile, ROWS) ? BERTH_EXIT_DONE : BERTH_EXIT_FAILED;
    }
    berth__profile_close(&profile);
    return status;
}

static const struct argp_option options[] = {
    {"older", 'o', "AGE", 0, "such as 90s, 10m or 2h; 10m if nothing is said", 0},
    {NULL, 0, NULL, 0, NULL, 0}};

struct request {
    const struct berth__command *command;
    uint64_t age_ms;
};

static bool take(void *context, int key, const char *value) {
    struct request *request = context;
    (void)key;
    if (!parse_age(value, &request->age_ms)) {
        berth__cli_error(request->command, "\"%s\" is no age such as 90s, 10m or 2h", value);
        return false;
    }
    return true;
}

static int leaks(const struct berth__command *command, int argc, char **argv) {
    struct request request = {command, 10 * MINUTE_MS};
    int status = BERTH_EXIT_DONE;
    int first = berth__cli_parse(command, argc, argv, &request, &status);
    if (first < 0) {
        return status;
    }
    pid_t pid = berth__cli_only_pid(command, argc - first, argv + first);
    if (pid < 0) {
        return BERTH_EXIT_USAGE;
    }
    struct berth__process process;
    if (berth__process_read(&process, pid) == BERTH_PROCESS_READ) {
        status = show(command, &process, request.age_ms);
    } else {
        berth__cli_error(command, "%s", process.why);
        status = BERTH_EXIT_FAILED;
    }
    berth__process_close(&process);
    return status;
}

const struct berth__command berth__command_leaks = {
    .name = "leaks",
    .arguments = "PID",
    .summary = "Say which calls allocated what a process has held for long",
    .details = "From the samples of `berth prof`, which must have been on for as long.",
    .options = options,
    .take = take,
    .run = leaks,
};
