#include "ring.h"

#include "port.h"

#include <errno.h>
#include <poll.h>

enum { ENTRIES = 4096 };

struct io_uring ring;
uint64_t ring_overruns;

void ring_begin(int descriptor, unsigned mark) {
    struct io_uring_params parameters = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                                  IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
                                         .cq_entries = 8 * ENTRIES};
    int error = io_uring_queue_init_params(ENTRIES, &ring, &parameters);
    if (error == -EINVAL) { /* before 6.1 */
        parameters.flags = IORING_SETUP_CQSIZE;
        error = io_uring_queue_init_params(ENTRIES, &ring, &parameters);
    }
    if (error != 0) {
        port_die("no ring", -error);
    }
    struct io_uring_sqe *sqe = ring_entry();
    io_uring_prep_poll_add(sqe, descriptor, POLLIN);
    ring_mark(sqe, NULL, mark);
}

struct io_uring_sqe *ring_entry(void) {
    struct io_uring_sqe *sqe;
    while ((sqe = io_uring_get_sqe(&ring)) == NULL) {
        ring_overruns++;
        io_uring_submit(&ring);
    }
    return sqe;
}

void ring_pause(unsigned mark) {
    static struct __kernel_timespec pause = {.tv_nsec = PORT_PAUSE_MS * 1000000};
    struct io_uring_sqe *sqe = ring_entry();
    io_uring_prep_timeout(sqe, &pause, 0, 0);
    ring_mark(sqe, NULL, mark);
}
