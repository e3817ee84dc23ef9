/*
 * A server and its clients: connections that come, stall, reset and go while memory runs short and
 * system calls fail.
 */
#ifndef BERTH_TESTS_SERVERS_CROWD_H
#define BERTH_TESTS_SERVERS_CROWD_H

#include "unit/io/sockets.h"

#include <stdatomic.h>
#include <sys/epoll.h>

enum { SERVER_THREADS = 2, CLIENT_THREADS = 2, EVENTS_MAX = 256 };

struct crowd {
    berth_pool *pool;
    int listener;
    struct sockaddr_in address;
    unsigned connections; /* at once */
    uint64_t end_ms;      /* when clients come no more, if they have seen what there is to see */
    _Atomic bool clients_gone;
};

static inline uint64_t crowd_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A thread of the server's; takes a struct crowd. */
void *crowd_serve(void *crowd);

/* Has the clients come and go until the end, in threads; then says what they saw, and checks that
 * it was all there is to see. */
void crowd_visit_all(struct crowd *crowd);

#endif
