/*
 * USDT probes: places that bpftrace, perf and SystemTap can look at in a running process.
 *
 *     bpftrace -e 'usdt:/usr/lib/libberth-malloc.so.0:berth:chunk_map { @[ustack] = sum(arg1); }'
 *
 * Each has a semaphore, which the kernel counts up while somebody looks: a probe that nobody looks
 * at costs a load and a branch, and stands on slow paths only. Without <sys/sdt.h> there are none.
 */
#ifndef BERTH_OS_PROBE_H
#define BERTH_OS_PROBE_H

#include "base/compiler.h"

/* X(name, arguments) */
#define BERTH_PROBES(X)                                                                            \
    X(refill, "pool number, bytes of a block, blocks: a thread's cache was filled")                \
    X(remote_batch, "pool number, blocks: freed by other threads, taken in")                       \
    X(chunk_map, "address, bytes, pool number")                                                    \
    X(chunk_unmap, "address, bytes, pool number: to the store of unused slots, or to the kernel")  \
    X(purge, "address, bytes, 0 or -errno")                                                        \
    X(limit_step, "step of the ladder, bytes asked for, pool number")                              \
    X(failure, "bytes asked for, pool number")

#if BERTH_USDT

#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

/* sys/sdt.h makes the semaphores' names. */
#define BERTH_X(name, arguments) extern volatile unsigned short berth_##name##_semaphore;
BERTH_PROBES(BERTH_X)
#undef BERTH_X

#define BERTH_PROBE2(name, a, b)                                                                   \
    do {                                                                                           \
        if (BERTH_UNLIKELY(berth_##name##_semaphore != 0)) {                                       \
            STAP_PROBE2(berth, name, a, b);                                                        \
        }                                                                                          \
    } while (0)
#define BERTH_PROBE3(name, a, b, c)                                                                \
    do {                                                                                           \
        if (BERTH_UNLIKELY(berth_##name##_semaphore != 0)) {                                       \
            STAP_PROBE3(berth, name, a, b, c);                                                     \
        }                                                                                          \
    } while (0)

#else

#define BERTH_PROBE2(name, a, b) ((void)(a), (void)(b))
#define BERTH_PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))

#endif

#endif
