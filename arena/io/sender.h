/*
 * A socket that sends from the memory of chains, without copying; see berth/io.h. When it tries is
 * the business of io/pace.h (whether the kernel can) and io/ways.h (whether it pays).
 */
#ifndef BERTH_IO_SENDER_H
#define BERTH_IO_SENDER_H

#include "io/flights.h"
#include "io/pace.h"
#include "io/ways.h"

#include <berth/io.h>

/* First what a short send needs, so that it lies in one cache line: the kernel's work between two
 * sends leaves few. */
struct berth_sender {
    int fd;
    bool is_shut; /* for sending */
    struct berth__flights flights;
    struct berth__pace pace;
    struct berth__ways ways; /* `least` of it */
    struct {
        uint32_t number; /* of its flight */
        bool has_landed, was_copied;
    } timed; /* the send in place that is to be compared */
    berth_pool *pool;
};
_Static_assert(offsetof(struct berth_sender, ways) + sizeof(size_t) <= 64, "a line");

/* What one notification says. */
void berth__sender_notified(berth_sender *sender, uint32_t first, uint32_t last, bool copied);

#endif
