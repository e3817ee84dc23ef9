/*
 * Which CPU we run on, and which CPUs we may run on.
 */
#ifndef BERTH_OS_CPU_H
#define BERTH_OS_CPU_H

#include "base/compiler.h"

enum { BERTH_CPUS_MAX = 4096 };

struct berth__cpu_set {
    uint64_t bits[BERTH_CPUS_MAX / 64];
};

/* The CPU that runs this thread, at this moment. From glibc's rseq area where there is one (two
 * loads), else from getcpu. */
unsigned berth__cpu_current(void);

/* The NUMA node of the CPU that runs this thread; 0 if unknown. */
unsigned berth__cpu_current_node(void);

/* The CPUs that this process may use; all of the first one's word if the kernel does not say.
 * Returns how many. One system call. */
unsigned berth__cpu_allowed(struct berth__cpu_set *set);

#endif
