#include "os/probe.h"

/* The kernel, or who traces, writes them. */
#if BERTH_USDT
#define BERTH_X(name, arguments)                                                                   \
    volatile unsigned short berth_##name##_semaphore __attribute__((section(".probes"), used));
BERTH_PROBES(BERTH_X)
#undef BERTH_X
#endif
