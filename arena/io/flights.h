/*
 * Sends whose memory the kernel may still be reading, by the number that the kernel gives them.
 *
 *   numbers [oldest, next) modulo 2^32, next - oldest <= capacity <= BERTH_FLIGHTS_MAX
 *   ring[number & (capacity - 1)] = the pins of that send; NULL when it has landed
 *   ring[oldest] is not NULL, unless oldest == next;  count = those that are not NULL
 *
 * A socket's successful zero-copy sends are numbered from 0, and wrap. Notifications name ranges,
 * in any order. Used by one thread at a time.
 */
#ifndef BERTH_IO_FLIGHTS_H
#define BERTH_IO_FLIGHTS_H

#include "base/compiler.h"

#include <berth/chain.h>

/* With more under way, sends copy: twice what the kernel has memory for where it is not told
 * otherwise (158 notifications). */
enum { BERTH_FLIGHTS_MAX = 256 };

/* One send. */
struct berth__flight {
    uint32_t count;
    uint64_t bytes; /* that the kernel took; counted as in flight, of the pool and of the process */
    struct berth_slice pins[];
};

struct berth__flights {
    berth_pool *pool;
    struct berth__flight **ring; /* NULL before the first */
    uint32_t oldest, next, capacity;
    uint32_t count;
};

/* A flight with room for `slices` pins, and a place for it; NULL: there is no memory, or too many
 * are under way. It is given back by berth_free, or departs. */
struct berth__flight *berth__flights_prepare(struct berth__flights *flights, unsigned slices);

/* The next number's send succeeded: pins the slices of which it took the first `sent` bytes of the
 * chain. They are as many as were prepared for, or fewer. So many bytes are counted in the pool
 * (berth_pool_flight_begin), and not any more when it lands. */
void berth__flights_depart(struct berth__flights *flights, struct berth__flight *flight,
                           const struct berth_chain *chain, uint64_t sent);

/* Numbers [first, last] are out of the kernel's hands: unpins them, and returns how many. Others
 * than those under way are passed over. Callbacks of wrapped memory run. */
uint32_t berth__flights_land(struct berth__flights *flights, uint32_t first, uint32_t last);

/* Frees the ring. Nothing is under way. */
void berth__flights_end(struct berth__flights *flights);

bool berth__flights_are_valid(const struct berth__flights *flights);

#endif
