/*
 * `berth baseline`: keeps a process's figures, for `berth diff` to compare with later ones.
 */
#include "cli/baseline_file.h"
#include "cli/command.h"
#include "cli/outside.h"

#include <stdio.h>

static bool keep(const struct berth__command *command, const struct berth__process *process,
                 const char *file) {
    struct berth__baseline baseline;
    char path[BERTH_PATH_BYTES];
    if (file == NULL) {
        if (!berth__baseline_path(&baseline, process->pid, path, sizeof(path))) {
            berth__cli_error(command, "%s", baseline.why);
            return false;
        }
        file = path;
    }
    if (!berth__baseline_write(&baseline, process, berth__outside_reserved(process), file)) {
        berth__cli_error(command, "%s", baseline.why);
        return false;
    }
    printf("baseline of process %d, %s: %s\n", (int)process->pid, process->command, file);
    return true;
}

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0,
     "instead of berth/PID.baseline in XDG_RUNTIME_DIR, or, without that, "
     "/tmp/berth-UID/PID.baseline",
     0},
    {NULL, 0, NULL, 0, NULL, 0}};

static bool take(void *file, int key, const char *value) {
    (void)key;
    *(const char **)file = value;
    return true;
}

static int baseline_command(const struct berth__command *command, int argc, char **argv) {
    const char *file = NULL;
    int status = BERTH_EXIT_DONE;
    int first = berth__cli_parse(command, argc, argv, &file, &status);
    if (first < 0) {
        return status;
    }
    pid_t pid = berth__cli_only_pid(command, argc - first, argv + first);
    if (pid < 0) {
        return BERTH_EXIT_USAGE;
    }
    struct berth__process process;
    bool kept = false;
    if (berth__process_read(&process, pid) == BERTH_PROCESS_READ) {
        kept = keep(command, &process, file);
    } else {
        berth__cli_error(command, "%s", process.why);
    }
    berth__process_close(&process);
    return kept ? BERTH_EXIT_DONE : BERTH_EXIT_FAILED;
}

const struct berth__command berth__command_baseline = {
    .name = "baseline",
    .arguments = "PID",
    .summary = "Keep the figures of a process, to compare later ones with",
    .details = "`berth diff PID` shows what has changed since.",
    .options = options,
    .take = take,
    .run = baseline_command,
};
