/*
 * Being woken when the kernel, or who manages services, says that memory is short.
 *
 * What is watched, the first of these that can be opened:
 *   1. what systemd's memory-pressure protocol names: $MEMORY_PRESSURE_WATCH, a file of the
 * kernel's pressure information, a FIFO or a socket; it gets what $MEMORY_PRESSURE_WRITE has in
 * base64. /dev/null there means: nothing;
 *   2. memory.pressure of the process's cgroup, version 2;
 *   3. /proc/pressure/memory.
 * Without any of them nothing is watched. Files of the kernel's get a trigger, after which poll
 * says POLLPRI; it goes with the descriptor.
 *
 * Used by one thread, the maintenance thread.
 */
#ifndef BERTH_POOL_WATCH_H
#define BERTH_POOL_WATCH_H

#include "base/compiler.h"

struct berth__watch {
    int fd; /* -1: nothing is watched */
    short events;
    uint64_t device, inode; /* of what was opened: the program may close what it does not know */
};

void berth__watch_open(struct berth__watch *watch);

/* Sleeps for so long, or until memory is short: then true. */
bool berth__watch_sleep(struct berth__watch *watch, unsigned ms);

#endif
