/*
 * The process's limit where it follows the cgroup's, and what its calls count, for the metrics.
 */
#ifndef BERTH_POOL_LIMIT_H
#define BERTH_POOL_LIMIT_H

#include "base/compiler.h"

/* limit:auto. From now on, until a limit is set by a call, the limit is the cgroup's. */
void berth__limit_follow(void);

/* Reads the cgroup's limit again if the process's follows it and was not read for `age_ms`; returns
 * what is unused beyond it. Called by slow paths, once in a while, by the ladder, and by the
 * maintenance thread; under no lock. */
void berth__limit_refresh(uint32_t age_ms);

/* Bytes mapped elsewhere that are reserved against the limit. */
uint64_t berth__reserved_elsewhere(void);

#endif
