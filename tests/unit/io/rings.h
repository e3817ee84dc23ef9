/*
 * What the tests of io_uring share: a ring by liburing, and its completions one by one.
 *
 * Where liburing is missing, or the kernel lets nobody have a ring, RINGS_OR_SKIP ends the program
 * as skipped, with the reason.
 */
#ifndef BERTH_UNIT_RINGS_H
#define BERTH_UNIT_RINGS_H

#include "sockets.h"

#include "io/uring_abi.h"

#include <berth/uring.h>

#if BERTH_LIBURING
#include <liburing.h>

#define RINGS_OR_SKIP()                                                                            \
    do {                                                                                           \
        if (berth_uring_features() == 0) {                                                         \
            puts("skipped: io_uring is not to be had here");                                       \
            return UNIT_SKIPPED;                                                                   \
        }                                                                                          \
    } while (0)

static struct io_uring test_ring;

static inline void ring_begin(void) {
    UNIT_CHECK(io_uring_queue_init(64, &test_ring, 0) == 0);
}

static inline void ring_end(void) {
    io_uring_queue_exit(&test_ring);
}

/* The next completion within some seconds, taken off the ring; false: none came. */
static inline bool ring_next(struct berth__cqe *cqe, unsigned wait_ms) {
    struct __kernel_timespec time = {.tv_sec = wait_ms / 1000,
                                     .tv_nsec = (long long)(wait_ms % 1000) * 1000000};
    struct io_uring_cqe *next = NULL;
    int error;
    do {
        error = io_uring_wait_cqe_timeout(&test_ring, &next, &time);
    } while (error == -EINTR);
    if (error != 0) {
        return false;
    }
    *cqe = (struct berth__cqe){next->user_data, next->res, next->flags};
    io_uring_cqe_seen(&test_ring, next);
    return true;
}

enum { RING_WAIT_MS = 20000 };

static inline struct berth__cqe ring_wait(void) {
    struct berth__cqe cqe;
    UNIT_CHECK(ring_next(&cqe, RING_WAIT_MS));
    return cqe;
}

static inline struct io_uring_sqe *ring_entry(void) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&test_ring);
    UNIT_CHECK(sqe != NULL);
    return sqe;
}

static inline void ring_submit(void) {
    UNIT_CHECK(io_uring_submit(&test_ring) >= 0);
}

static inline void make_blocking(int fd) {
    UNIT_CHECK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) == 0);
}
#endif

#endif
