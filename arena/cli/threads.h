/*
 * What each thread of a process holds in its caches, for `berth stat --threads`.
 */
#ifndef BERTH_CLI_THREADS_H
#define BERTH_CLI_THREADS_H

#include "cli/process.h"

enum { BERTH_THREAD_NAME = 20 };

/* The name of a thread by its number in the kernel, such that a terminal may have it; "" if there
 * is none. */
void berth__thread_name(pid_t pid, uint32_t tid, char name[BERTH_THREAD_NAME]);

/* Prints a line for each thread and pool, those that hold most first. NULL, or why it cannot be
 * told. */
const char *berth__threads_print(const struct berth__process *process);

#endif
