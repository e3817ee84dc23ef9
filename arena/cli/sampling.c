#include "cli/sampling.h"

#include "cli/mailbox.h"
#include "cli/profile.h"

#include <signal.h>
#include <time.h>

enum { INTERVAL = 512 << 10, WAIT_MS = 1000, PENDING = 3 };

static int ask(const struct berth__sampling *sampling, uint64_t interval) {
    int64_t result = 0;
    int outcome =
        berth__mailbox_ask(sampling->process, BERTH_MAIL_SAMPLE, interval, WAIT_MS, &result);
    return outcome != 0 ? outcome : result < 0 ? (int)result : 0;
}

int berth__sampling_begin(struct berth__sampling *sampling, const struct berth__command *command,
                          struct berth__process *process) {
    *sampling = (struct berth__sampling){.command = command, .process = process};
    if (berth__profile_interval(process) != 0) {
        return BERTH_EXIT_DONE;
    }
    int pid = (int)process->pid;
    int outcome = ask(sampling, INTERVAL);
    if (outcome == 1) {
        berth__cli_error(command,
                         "process %d was asked to take samples, but has allocated nothing since: "
                         "it will when it does; try again then",
                         pid);
        return PENDING;
    }
    if (outcome < 0) {
        berth__cli_error(command, "samples of process %d cannot be switched on: %s", pid,
                         berth__mailbox_error(outcome));
        return BERTH_EXIT_FAILED;
    }
    sampling->switched = true;
    berth__cli_error(command, "samples of process %d are on for this time, every 512 KiB", pid);
    return BERTH_EXIT_DONE;
}

static void interrupt(int signal) {
    (void)signal; /* it ends the wait */
}

void berth__sampling_wait(struct berth__sampling *sampling, double seconds) {
    struct sigaction action = {.sa_handler = interrupt};
    struct sigaction before;
    struct timespec pause = {.tv_sec = (time_t)seconds};
    pause.tv_nsec = (long)((seconds - (double)pause.tv_sec) * 1e9);
    (void)sampling;
    sigaction(SIGINT, &action, &before);
    nanosleep(&pause, NULL);
    sigaction(SIGINT, &before, NULL);
}

void berth__sampling_end(struct berth__sampling *sampling) {
    bool left_on = sampling->switched && ask(sampling, 0) != 0;
    if (left_on && !berth__process_has_ended(sampling->process)) {
        berth__cli_error(sampling->command,
                         "process %d has not switched its samples off yet: `berth ctl %d sample=0` "
                         "does",
                         (int)sampling->process->pid, (int)sampling->process->pid);
    }
}
