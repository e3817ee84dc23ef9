/*
 * What each thread of a process holds in its caches, for `berth stat --threads`.
 */
#ifndef BERTH_CLI_THREADS_H
#define BERTH_CLI_THREADS_H

#include "cli/process.h"

/* Prints a line for each thread and pool, those that hold most first. NULL, or why it cannot be
 * told. */
const char *berth__threads_print(const struct berth__process *process);

#endif
