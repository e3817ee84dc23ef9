/*
 * How every server begins and is told to end.
 */
#ifndef BERTH_PERF_SERVERS_PORT_H
#define BERTH_PERF_SERVERS_PORT_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

/* Returns a descriptor that is readable from SIGTERM or SIGINT on: a handler's flag would be missed
 * by a wait that begins between the look at it and the signal. */
int port_begin(void);

/* A socket, with these flags besides SOCK_CLOEXEC, that listens on a port of the loopback interface
 * (0: any), which it prints. */
int port_listen(uint16_t port, int flags);

/* How long a server that could not accept for want of descriptors or memory leaves that: what waits
 * there is ready all the time. */
enum { PORT_PAUSE_MS = 50 };

static inline bool port_is_short(int error) {
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* Says what failed, with the error's text, and exits. */
_Noreturn void port_die(const char *what, int error);

#endif
