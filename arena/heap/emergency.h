/*
 * A store of last resort for a child that forked inside a signal handler which interrupted the
 * engine under a lock (fork.h).
 *
 * Bumps through mappings of its own, takes no lock but its own, and never reuses: what is freed
 * here stays unused. The time for which it serves is the rest of one signal handler.
 */
#ifndef BERTH_HEAP_EMERGENCY_H
#define BERTH_HEAP_EMERGENCY_H

#include "base/compiler.h"

void *berth__emergency_alloc(size_t size, size_t alignment);

/* True if the block came from here. */
bool berth__emergency_owns(const void *block);
size_t berth__emergency_size(const void *block);

#endif
