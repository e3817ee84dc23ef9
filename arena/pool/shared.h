/*
 * Pools that live on a memfd: the file and its mapping, and their charge.
 */
#ifndef BERTH_POOL_SHARED_H
#define BERTH_POOL_SHARED_H

#include "os/memfd.h"

#include <berth/pool.h>

/* Makes the memory that options ask for, charges it, and names it in them; false with errno. */
bool berth__shared_begin(struct berth_pool_options *options, struct berth__memfd *memfd);

/* Gives it back, if there is any. Not in the child of a fork. */
void berth__shared_end(const struct berth__memfd *memfd);

#endif
