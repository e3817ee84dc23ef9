/*
 * What the servers share: one thread, one epoll (or one ring, see loop_chain.h), until SIGTERM or
 * SIGINT.
 *
 * A watch is part of whatever waits for a descriptor. It is not freed while events that were
 * fetched may still name it: loop_end puts that off until they have been handled.
 */
#ifndef BERTH_PERF_SERVERS_LOOP_H
#define BERTH_PERF_SERVERS_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct watch {
    int fd; /* -1: ended */
    uint32_t events;
    void (*ready)(struct watch *watch, uint32_t events); /* EPOLLIN, EPOLLOUT, ... */
    void (*ended)(struct watch *watch);                  /* frees it */
    struct watch *next;                                  /* of all, or of those that have ended */
    struct watch **link;
    void *side; /* what a loop keeps of it */
};

/* The structure that a watch, or whatever else, is a member of. */
#define LOOP_OWNER(pointer, type, member)                                                          \
    ((type *)(void *)((char *)(pointer) - __builtin_offsetof(type, member)))

void loop_begin(void);

/* Listens on a port of the loopback interface (0: any) and prints which. */
void loop_listen(uint16_t port, void (*accepted)(int fd));

/* A connection to a port of the loopback interface, or -1. */
int loop_connect(uint16_t port);

/* Waits for bytes to read, and says so to `ready`. */
void loop_add(struct watch *watch, int fd, void (*ready)(struct watch *, uint32_t),
              void (*ended)(struct watch *));

/* Also, or no longer, waits for bytes to read, or room to write. */
void loop_want(struct watch *watch, bool read, bool write);

/* Closes the descriptor; `ended` is called later. */
void loop_end(struct watch *watch);

/* Returns after a signal, when all watches have ended. */
void loop_run(void);

/* What happened, for the last line: loop_report prints it with the counts of processor time. */
struct loop_counts {
    uint64_t connections, messages, bytes;
};
extern struct loop_counts loop_counts;
void loop_report(const char *more);

#endif
