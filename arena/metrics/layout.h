/*
 * The layout of this process's records, for its stats page.
 */
#ifndef BERTH_METRICS_LAYOUT_H
#define BERTH_METRICS_LAYOUT_H

#include "base/compiler.h"
#include "metrics/layout_format.h"

/* Fills in all numbers. The engine runs. */
void berth__layout_write(uint64_t values[BERTH_LAYOUT_COUNT]);

#endif
