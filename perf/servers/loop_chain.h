/*
 * Chains to and from the connections of a loop: by system calls on epoll (loop_chain.c), or by a
 * ring of io_uring, which is another loop under the same calls (loop_ring.c).
 */
#ifndef BERTH_PERF_SERVERS_LOOP_CHAIN_H
#define BERTH_PERF_SERVERS_LOOP_CHAIN_H

#include "loop.h"

#include <berth/berth.h>

/* Between loop_begin and loop_listen: the pool that bytes are received into. */
void loop_memory(berth_pool *pool);

/* After loop_run. */
void loop_memory_end(void);

/* What has arrived, to the end of a chain: bytes; 0: the peer has ended; -EAGAIN; -errno. */
int64_t loop_receive(struct watch *watch, struct berth_chain *chain);

/* Sends from the beginning of a chain: bytes that have left it; or -errno. What is left in it is on
 * its way, or waits for room: then `ready` is called with EPOLLOUT, if loop_want has asked for
 * that. Things may be put at the chain's end meanwhile. */
int64_t loop_send(struct watch *watch, struct berth_chain *chain);

#endif
