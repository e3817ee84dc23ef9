/*
 * How the servers on berth end: nothing may be left in their pool, and the last line says what was
 * allocated.
 */
#ifndef BERTH_PERF_SERVERS_BERTH_END_H
#define BERTH_PERF_SERVERS_BERTH_END_H

#include "loop.h"

#include <berth/berth.h>

#include <stdio.h>

/* The exit status of the server. */
static inline int berth_end(berth_pool *pool) {
    struct berth_pool_metrics metrics;
    char more[200];
    berth_thread_flush();
    if (berth_metrics_read_pool(pool, &metrics, sizeof(metrics)) != 0) {
        return 1;
    }
    snprintf(more, sizeof(more), "\"pool_allocations\": %ju, \"pool_live\": %ju",
             (uintmax_t)metrics.allocations, (uintmax_t)metrics.live_high_bytes);
    loop_report(more);
    return berth_pool_destroy(pool, 0) == 0 ? 0 : 1;
}

#endif
