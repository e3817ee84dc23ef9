/*
 * A socket that sends from the memory of chains, without copying; see berth/io.h. When it tries is
 * the business of io/pace.h.
 */
#ifndef BERTH_IO_SENDER_H
#define BERTH_IO_SENDER_H

#include "io/flights.h"
#include "io/pace.h"

#include <berth/io.h>

struct berth_sender {
    berth_pool *pool;
    size_t threshold_bytes;
    int fd;
    bool is_shut; /* for sending */
    struct berth__pace pace;
    struct berth__flights flights;
};

/* What one notification says. */
void berth__sender_notified(berth_sender *sender, uint32_t first, uint32_t last, bool copied);

#endif
