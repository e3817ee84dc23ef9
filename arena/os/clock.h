/*
 * Time without system calls (vdso).
 */
#ifndef BERTH_OS_CLOCK_H
#define BERTH_OS_CLOCK_H

#include "base/compiler.h"

/* Milliseconds since boot, to the kernel's tick (1-10 ms); a few nanoseconds to read. */
uint64_t berth__clock_coarse_ms(void);

/* Nanoseconds since boot, exact. */
uint64_t berth__clock_ns(void);

#endif
