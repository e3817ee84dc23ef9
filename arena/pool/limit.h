/*
 * What the limit's calls count, for the metrics.
 */
#ifndef BERTH_POOL_LIMIT_H
#define BERTH_POOL_LIMIT_H

#include "base/compiler.h"

/* Bytes mapped elsewhere that are reserved against the limit. */
uint64_t berth__reserved_elsewhere(void);

#endif
