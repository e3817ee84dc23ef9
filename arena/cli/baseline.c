/*
 * `berth baseline`: keeps a process's figures, for `berth diff` to compare with later ones.
 */
#include "cli/baseline_file.h"
#include "cli/command.h"
#include "cli/outside.h"

#include <getopt.h>
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

static int baseline_command(const struct berth__command *command, int argc, char **argv) {
    static const struct option options[] = {
        {"output", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *file = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
        switch (option) {
        case 'o': file = optarg; break;
        case 'h': return berth__cli_help(command);
        default: return berth__cli_usage_error(command);
        }
    }
    pid_t pid = berth__cli_only_pid(command, argc, argv);
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
    .arguments = "[-o FILE] PID",
    .summary = "Keep the figures of a process, to compare later ones with",
    .details =
        "  -o, --output FILE     instead of berth/PID.baseline in XDG_RUNTIME_DIR, or, without\n"
        "                        that, /tmp/berth-UID/PID.baseline\n"
        "  -h, --help            this text\n\n"
        "`berth diff PID` shows what has changed since.\n",
    .run = baseline_command,
};
