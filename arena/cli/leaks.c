/*
 * `berth leaks`: what a running process has held for long, by who allocated it.
 */
#include "cli/command.h"
#include "cli/profile_write.h"

#include <getopt.h>
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

/* True if the command can be carried out; else *status is what it is to end with. */
static bool parse(const struct berth__command *command, int argc, char **argv, uint64_t *age_ms,
                  int *status) {
    static const struct option options[] = {
        {"older", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {0}};
    int option;
    *status = BERTH_EXIT_USAGE;
    while ((option = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
        if (option == 'h') {
            *status = berth__cli_help(command);
            return false;
        }
        if (option == 'o' && !parse_age(optarg, age_ms)) {
            berth__cli_error(command, "\"%s\" is no age such as 90s, 10m or 2h", optarg);
            option = '?';
        }
        if (option != 'o') {
            berth__cli_usage_error(command);
            return false;
        }
    }
    if (argc - optind != 1) {
        berth__cli_error(command, "one process is needed");
        berth__cli_usage_error(command);
        return false;
    }
    return true;
}

static int leaks(const struct berth__command *command, int argc, char **argv) {
    uint64_t age_ms = 10 * MINUTE_MS;
    int status = BERTH_EXIT_DONE;
    if (!parse(command, argc, argv, &age_ms, &status)) {
        return status;
    }
    pid_t pid = berth__cli_pid(command, argv[optind]);
    if (pid < 0) {
        return berth__cli_usage_error(command);
    }
    struct berth__process process;
    if (berth__process_read(&process, pid) == BERTH_PROCESS_READ) {
        status = show(command, &process, age_ms);
    } else {
        berth__cli_error(command, "%s", process.why);
        status = BERTH_EXIT_FAILED;
    }
    berth__process_close(&process);
    return status;
}

const struct berth__command berth__command_leaks = {
    .name = "leaks",
    .arguments = "[--older AGE] PID",
    .summary = "Say which calls allocated what a process has held for long",
    .details = "  -o, --older AGE   such as 90s, 10m or 2h; 10m if nothing is said\n\n"
               "From the samples of `berth prof`, which must have been on for as long.\n",
    .run = leaks,
};
