/*
 * A process that was read, opened for looking into its memory: /proc/PID/mem and /proc/PID/pagemap.
 */
#ifndef BERTH_CLI_OUTSIDE_H
#define BERTH_CLI_OUTSIDE_H

#include "cli/map_read.h"
#include "cli/process.h"

struct berth__outside {
    int memory,
        pagemap;       /* descriptors; the first is the process's. The second: -1, not to be had */
    size_t page_bytes; /* of the machine */
};

/* As long as the process is not closed. berth__outside_close must follow. */
void berth__outside_open(struct berth__outside *outside, const struct berth__process *process);
void berth__outside_close(struct berth__outside *outside);

struct berth__memory berth__outside_memory(struct berth__outside *outside);
struct berth__residency berth__outside_residency(struct berth__outside *outside);

/* Addresses that a process has reserved for berth; 0 if it does not say. */
uint64_t berth__outside_reserved(const struct berth__process *process);

#endif
