/*
 * All processes that may be looked at.
 */
#ifndef BERTH_CLI_PROCESSES_H
#define BERTH_CLI_PROCESSES_H

#include "cli/process.h"

/* Reads one process after the other, in the order of their numbers, and calls visit for each with
 * what came of it; what it holds is given back when visit returns. -errno if /proc cannot be
 * read. */
int berth__processes_each(void (*visit)(void *context, struct berth__process *process,
                                        enum berth__process_outcome outcome),
                          void *context);

#endif
