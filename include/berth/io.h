/*
 * Chains to and from sockets.
 *
 *   struct berth_receiver receiver;
 *   berth_receiver_init(&receiver, 0, 0);
 *   got = berth_io_receive(fd, &in, &receiver);        into new memory of the chain's pool
 *   sent = berth_io_send(fd, &out, UINT64_MAX);        what was sent has left the chain
 *
 * These calls are for sockets of streams (TCP, AF_UNIX), best non-blocking. They return bytes, or a
 * negative errno value; errno itself stays as it was. SIGPIPE is not raised: a peer that has gone
 * is -EPIPE or -ECONNRESET. A call that a signal interrupts goes on. After an error a chain holds
 * exactly what was not sent, or what it held before.
 *
 * They are part of libberth, not of libberth-malloc.
 */
#ifndef BERTH_IO_H
#define BERTH_IO_H

#include <berth/chain.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Sends a chain from its beginning: slices by sendmsg, up to 1024 in one call, regions of files by
 * sendfile. What was sent is consumed. It ends when the chain is empty, when `most` bytes were
 * sent, or when the socket takes no more.
 *
 * Returns the bytes that were sent. If they are fewer than both `most` and the chain's, the socket
 * has no room, and says when it has some (EPOLLOUT); or an error came after them, which the next
 * call returns. `most` keeps one connection from holding up all others: UINT64_MAX is no bound.
 * Bytes of a file must not change before the peer has them: the kernel does not copy them.
 *
 * Errors: nothing was sent and the chain is as it was: -EAGAIN (no room), -EPIPE, -ECONNRESET,
 * -ENODATA (a file ends before its region), and what sendmsg and sendfile give. Threads: one at a
 * time per chain. Owns: borrows the descriptor. Blocks: makes system calls; waits for the peer if
 * the socket is a blocking one. Since: 0.1.
 */
BERTH_API int64_t berth_io_send(int fd, struct berth_chain *chain, uint64_t most);

/**
 * How much memory a connection's next bytes get. It follows what arrives: filled memory makes the
 * next piece four times as large, two calls in a row that would have fit into half of it make it
 * half as large. One for each connection; what it is made of is for the calls.
 */
struct berth_receiver {
    uint32_t next_;
    uint32_t least_, most_;
    uint32_t small_; /* calls in a row that used no more than half */
};

/** The bounds of a receiver's pieces in bytes, where berth_receiver_init is given 0. */
enum { BERTH_RECEIVE_LEAST = 512, BERTH_RECEIVE_MOST = 65536 };

/**
 * Begins with pieces of 2 KiB, or the nearest size within the bounds. The bounds (0: the defaults)
 * are made powers of two: up for `least`, down for `most`, from 64 bytes to 1 GiB.
 *
 * Errors: -EINVAL: they are not in order, or out of range. Threads: any. Owns: nothing to release.
 * Blocks: wait-free. Since: 0.1.
 */
BERTH_API int berth_receiver_init(struct berth_receiver *receiver, size_t least, size_t most);

/**
 * The size in bytes of the receiver's next piece.
 *
 * Threads: one at a time per receiver. Blocks: wait-free. Since: 0.1.
 */
BERTH_API size_t berth_receiver_next(const struct berth_receiver *receiver);

/**
 * Receives once, by readv, to the end of a chain: into room behind its last slice that nobody else
 * can see, and new memory of the chain's pool. Bytes that would fill less than a quarter of that
 * memory move to a block of their size.
 *
 * Returns bytes, and 0 when the peer will send no more. With fewer bytes than berth_receiver_next
 * said before the call, nothing more had arrived. It reads pipes, too.
 *
 * Errors: the chain holds what it held: -EAGAIN (nothing has arrived), -ECONNRESET, -ENOMEM (no
 * memory: nothing was received), and what readv gives. Threads: one at a time per chain and
 * receiver. Owns: borrows the descriptor. Blocks: as berth_alloc, and makes system calls; waits for
 * the peer if the socket is a blocking one. Since: 0.1.
 */
BERTH_API int64_t berth_io_receive(int fd, struct berth_chain *chain,
                                   struct berth_receiver *receiver);

#ifdef __cplusplus
}
#endif

#endif
