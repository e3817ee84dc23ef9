/*
 * A ring for a server of one thread.
 */
#ifndef BERTH_PERF_SERVERS_RING_H
#define BERTH_PERF_SERVERS_RING_H

#include <liburing.h>
#include <stdint.h>

extern struct io_uring ring;
extern uint64_t ring_overruns; /* times that entries were submitted because the queue was full */

/* Makes it, or exits; a completion with this mark comes when the descriptor is readable. */
void ring_begin(int descriptor, unsigned mark);

/* An entry. */
struct io_uring_sqe *ring_entry(void);

/* A completion with this mark comes after PORT_PAUSE_MS. */
void ring_pause(unsigned mark);

/* Has its completion name who asked, and, in the lowest bits, of what kind it is. */
static inline void ring_mark(struct io_uring_sqe *sqe, void *whose, unsigned kind) {
    sqe->user_data = (uint64_t)(uintptr_t)whose | kind;
}

#endif
