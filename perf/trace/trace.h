/*
 * A trace file in memory, checked: its sum is right, and every word names slots, threads and
 * positions that there are. For the replay.
 */
#ifndef BERTH_PERF_TRACE_TRACE_H
#define BERTH_PERF_TRACE_TRACE_H

#include "format.h"

struct trace {
    const struct trace_header *header;
    const struct trace_thread *threads;
    const uint64_t *words; /* of all threads */
};

/* Maps the file. Ends the process with a line that says why, if it is no whole trace. */
struct trace trace_open(const char *path);

#endif
