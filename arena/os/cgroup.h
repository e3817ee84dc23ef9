/*
 * What the container grants: memory and CPUs, from the cgroup files, versions 1 and 2.
 */
#ifndef BERTH_OS_CGROUP_H
#define BERTH_OS_CGROUP_H

#include "base/compiler.h"

#define BERTH_CGROUP_UNLIMITED UINT64_MAX

/* The tightest memory limit of this process's cgroup and its ancestors, in bytes;
 * BERTH_CGROUP_UNLIMITED if there is none. Reads files; not for fast paths. */
uint64_t berth__cgroup_memory_limit(void);

/* CPUs that the tightest CPU quota amounts to, rounded up; 0 if there is none. */
unsigned berth__cgroup_cpus(void);

/* Opens the file that tells of pressure on memory, of the cgroup (version 2) or of the machine, for
 * reading and writing. A descriptor that is closed on exec, or -errno. */
int berth__cgroup_open_pressure(void);

/* For tests: a directory in the place of "/" for the files read above; NULL for "/". */
void berth__cgroup_set_root(const char *root);

#endif
