/*
 * A socket that sends from the memory of chains, without copying; see berth/io.h.
 *
 *   trying    copies_left == 0: sends that are long enough do not copy
 *   pausing   copies_left > 0: so many long sends copy before one is tried again. The kernel said
 *             that it had copied, or that it had no room for more (`crowded`); then a notification
 *             ends the pause, too
 */
#ifndef BERTH_IO_SENDER_H
#define BERTH_IO_SENDER_H

#include "io/flights.h"

#include <berth/io.h>

enum {
    BERTH_PAUSE_CROWDED = 64, /* sends, unless a notification comes */
    BERTH_PAUSE_COPIED = 256, /* the first time; each further time twice as many */
    BERTH_PAUSE_COPIED_MAX = 65536,
};

struct berth_sender {
    berth_pool *pool;
    size_t threshold_bytes;
    int fd;
    bool zero_copy; /* the socket can */
    bool is_shut;   /* for sending */
    bool crowded;
    uint32_t copies_left;
    uint32_t pause_copied;
    struct berth__flights flights;
};

/* What one notification says. */
void berth__sender_notified(berth_sender *sender, uint32_t first, uint32_t last, bool copied);

#endif
