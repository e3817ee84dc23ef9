/*
 * How every server begins and is told to end.
 */
#ifndef BERTH_PERF_SERVERS_PORT_H
#define BERTH_PERF_SERVERS_PORT_H

#include <stdint.h>

/* Returns a descriptor that is readable from SIGTERM or SIGINT on: a handler's flag would be missed
 * by a wait that begins between the look at it and the signal. */
int port_begin(void);

/* A socket, with these flags besides SOCK_CLOEXEC, that listens on a port of the loopback interface
 * (0: any), which it prints. */
int port_listen(uint16_t port, int flags);

/* Says what failed, with the error's text, and exits. */
_Noreturn void port_die(const char *what, int error);

#endif
