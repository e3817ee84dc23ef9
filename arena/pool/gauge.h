/*
 * What is counted outside of the engine: buffers and sockets are in libberth, whichever engine
 * serves the process, so they say it through a call of the engine's table.
 */
#ifndef BERTH_POOL_GAUGE_H
#define BERTH_POOL_GAUGE_H

#include "base/atomics.h"

enum berth__gauge {
    BERTH_GAUGE_PINNED_BLOCKS,
    BERTH_GAUGE_PINNED_BYTES,    /* of slices */
    BERTH_GAUGE_IN_FLIGHT_BYTES, /* that the kernel was given without copying */
    BERTH_GAUGE_HELD_BYTES,      /* of memory that slices keep: an estimate, by records of leaks */
    BERTH_GAUGE_VIEWED_BYTES,    /* of these, what slices view */
    BERTH_GAUGE_COUNT
};

/* Any thread; wait-free. What others have not yet taken back may show as less than nothing: then it
 * is 0. */
int64_t berth__gauge_read(enum berth__gauge gauge);

#endif
