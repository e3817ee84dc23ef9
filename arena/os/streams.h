/*
 * The lock on libc's list of open streams, over a fork.
 *
 * fork() takes it once the handlers that prepare have run. Who holds it already, in fflush(NULL),
 * may wait for a stream whose user is in malloc, as getline is. So a handler that takes an
 * allocator's locks takes this one before them, or fork, fflush and malloc wait for each other in a
 * circle. It counts how often its owner has taken it: fork takes it once more. glibc exports it;
 * other libcs have their allocator's locks in order themselves, and nothing is done here.
 */
#ifndef BERTH_OS_STREAMS_H
#define BERTH_OS_STREAMS_H

#include <stdint.h>

/* Takes the lock, if there are threads. What it returns is for one of the other two. */
uint64_t berth__streams_lock(void);

/* In the parent. */
void berth__streams_unlock(uint64_t ticket);

/* In the child: frees the lock, whoever has it. */
void berth__streams_reset(uint64_t ticket);

#endif
