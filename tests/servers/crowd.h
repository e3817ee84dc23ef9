/*
 * A server and its clients in one process: connections that come, stall, reset and go while memory
 * runs short and system calls fail.
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
    uint64_t end_ms;      /* when clients come no more */
    _Atomic bool clients_gone;
};

/* What the clients saw, by kinds of what they do. */
struct crowd_counts {
    _Atomic uint64_t come, ended_by_server, stalled, reset, half_closed, verified_bytes;
};
extern struct crowd_counts crowd_counts;

static inline uint64_t crowd_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Threads; both take a struct crowd. */
void *crowd_serve(void *crowd);
void *crowd_visit(void *crowd);

#endif
