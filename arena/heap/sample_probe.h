/*
 * Probes for tracers (bpftrace, perf, the eBPF profiler of OpenTelemetry) on samples:
 *
 *     otel_memory:alloc(block, bytes asked for, bytes that it stands for)
 *     otel_memory:free(block)                    of a block that had an alloc
 *
 * Each is a nop and a note in the library, as <sys/sdt.h> makes them; without that header
 * (BERTH_USDT 0) there are none. They are in functions of their own, so that the arguments are
 * where the calling convention has them, and after the sample is noted, or forgotten.
 */
#ifndef BERTH_HEAP_SAMPLE_PROBE_H
#define BERTH_HEAP_SAMPLE_PROBE_H

#include "base/compiler.h"

#if BERTH_USDT
#include <sys/sdt.h>

static BERTH_NOINLINE void berth__probe_alloc(const void *block, size_t requested,
                                              uint64_t weight) {
    DTRACE_PROBE3(otel_memory, alloc, block, requested, weight);
}

static BERTH_NOINLINE void berth__probe_free(const void *block) {
    DTRACE_PROBE1(otel_memory, free, block);
}
#else
BERTH_INLINE void berth__probe_alloc(const void *block, size_t requested, uint64_t weight) {
    (void)block, (void)requested, (void)weight;
}

BERTH_INLINE void berth__probe_free(const void *block) {
    (void)block;
}
#endif

#endif
