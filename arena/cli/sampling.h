/*
 * Switching another process's samples on for a while.
 */
#ifndef BERTH_CLI_SAMPLING_H
#define BERTH_CLI_SAMPLING_H

#include "cli/command.h"
#include "cli/process.h"

struct berth__sampling {
    const struct berth__command *command;
    struct berth__process *process;
    bool switched; /* and so it is to be switched off */
};

/* Switches samples on if they are off, and says so on stderr. Else than BERTH_EXIT_DONE: that could
 * not be done, which was said as well. */
int berth__sampling_begin(struct berth__sampling *sampling, const struct berth__command *command,
                          struct berth__process *process);

/* An interrupt (Ctrl-C) ends it early. */
void berth__sampling_wait(struct berth__sampling *sampling, double seconds);

/* As it was before. */
void berth__sampling_end(struct berth__sampling *sampling);

#endif
