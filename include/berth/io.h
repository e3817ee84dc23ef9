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
 * has no room, and says when it has some (EPOLLOUT); or, if it is a blocking one, a signal came
 * after them; or an error did, which the next call returns. `most` keeps one connection from
 * holding up all others: UINT64_MAX is no bound. Bytes of a file must not change before the peer
 * has them: the kernel does not copy them.
 *
 * Errors: nothing was sent and the chain is as it was: -EAGAIN (no room), -EPIPE, -ECONNRESET,
 * -ENODATA (a file ends before its region), and what sendmsg and sendfile give. Threads: one at a
 * time per chain. Owns: borrows the descriptor. Blocks: makes system calls; waits for the peer if
 * the socket is a blocking one. Since: 0.1.
 */
BERTH_API int64_t berth_io_send(int fd, struct berth_chain *chain, uint64_t most);

/**
 * Ignores SIGPIPE in this process, as servers do, and lets berth know: for sendfile the signal is
 * otherwise held back around each call, by two system calls more.
 *
 * Threads: any; nobody may handle SIGPIPE afterwards. Blocks: makes
 * a system call. Since: 0.1.
 */
BERTH_API void berth_io_ignore_sigpipe(void);

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

/** Bytes of the blocks that connections share, where berth_io_renew is told 0. */
enum { BERTH_RECEIVE_SHARED = 65536 };

/**
 * Makes sure that a piece, which begins empty, has room: for who receives in other ways than by
 * berth_io_receive_shared, which does it itself. If nobody views what was cut from its block, all
 * of that is free again; else, with less than a quarter of `bytes` left (0: 64 KiB), there is a new
 * block of as many bytes from the pool.
 *
 * Errors: -ENOMEM, -EINVAL (more bytes than a slice may have): *piece is unchanged. Threads: one at
 * a time per piece. Owns: the caller ends with berth_slice_release of *piece. Blocks: as
 * berth_alloc, when a block is needed. Since: 0.1.
 */
BERTH_API int berth_io_renew(berth_pool *pool, struct berth_slice *piece, size_t bytes);

/**
 * Receives once to the end of a chain, into a block that a thread's connections share: what was
 * filled of `piece` becomes a slice, and the rest waits for whoever receives next; berth_io_renew
 * says when there is another block. So nothing is copied, connections that wait hold nothing, and
 * short messages cost no block each. A slice keeps its whole block: berth_slice_compact for those
 * that stay.
 *
 * Returns bytes, and 0 when the peer will send no more. Errors: the chain holds what it held:
 * -EAGAIN (nothing has arrived), -ECONNRESET, -ENOMEM, -EINVAL (more bytes than a slice may have),
 * and what readv gives. Threads: one at a time per chain and piece. Owns: borrows the descriptor;
 * the caller ends with berth_slice_release of *piece. Blocks: as berth_io_receive. Since: 0.1.
 */
BERTH_API int64_t berth_io_receive_shared(int fd, struct berth_chain *chain,
                                          struct berth_slice *piece, size_t bytes);

/**
 * A TCP socket that sends without copying where that pays (MSG_ZEROCOPY): the kernel reads the
 * chain's memory until it says otherwise, and until then the sender holds references that nobody
 * can write through (pins). What such a handle is made of is not for users.
 *
 * The kernel says it in the socket's error queue, which makes epoll report EPOLLERR:
 * berth_sender_collect reads that. Nobody else may read it, or send with MSG_ZEROCOPY on the
 * socket, or close it. One thread at a time uses a sender, and a forked child none of its parent's.
 *
 * It copies where it must or should: short sends; sockets that cannot do without (AF_UNIX), or
 * where the kernel says that it copied all the same (loopback and others), which are tried again
 * ever more rarely; and when the kernel can hold no more, or holds as much as the pool's in_flight
 * says, until it has given something back. What is short, a sender finds out by itself unless it is
 * told: from 16 KiB on it does not copy at first, and then compares a send of each way, by the
 * time that its calls take, now and then (for each size, a power of two, one of 64 at most).
 */
typedef struct berth_sender berth_sender;

/**
 * Makes a sender for a connected socket on which nothing was sent with MSG_ZEROCOPY before. Sends
 * of fewer than `threshold` bytes (0: the option zerocopy_min, or, if that is not set, what it
 * finds out) copy, as do those of slices shorter than 2 KiB on average.
 *
 * Errors: NULL with ENOMEM. Threads: any. Owns: the caller, until berth_sender_try_close or
 * berth_sender_close; takes the descriptor, if it succeeds. Blocks: as berth_alloc. Since: 0.1.
 */
BERTH_API berth_sender *berth_sender_create(berth_pool *pool, int fd, size_t threshold);

/**
 * The socket, for receiving and waiting.
 *
 * Errors: none. Threads: any. Blocks: wait-free. Since: 0.1.
 */
BERTH_API int berth_sender_fd(const berth_sender *sender);

/**
 * Sends a chain as berth_io_send does. What was sent has left the chain; its memory may still be
 * held.
 *
 * Errors and the rest as berth_io_send: with too little memory it copies. Threads: one at a time
 * per sender. Since: 0.1.
 */
BERTH_API int64_t berth_sender_send(berth_sender *sender, struct berth_chain *chain, uint64_t most);

/**
 * Reads what the kernel has given back, and releases it: to be called upon EPOLLERR. Callbacks of
 * wrapped memory run in it; they must not end this sender.
 *
 * Returns by how many the sends in flight are fewer. Errors: none; an error of the connection is
 * for the next send or receive to tell. Threads: one at a time per sender. Blocks: as berth_free,
 * and makes system calls. Since: 0.1.
 */
BERTH_API int berth_sender_collect(berth_sender *sender);

/**
 * How many sends the kernel has not given back. Threads: one at a time per sender. Blocks:
 * wait-free. Since: 0.1.
 */
BERTH_API unsigned berth_sender_in_flight(const berth_sender *sender);

/**
 * Ends a sender and closes its socket, if the kernel has given all memory back. If not, it says to
 * the peer that no more follows, and is to be called again upon EPOLLERR.
 *
 * A socket that is closed while memory is in flight can never tell when that is free.
 *
 * Errors: -EBUSY: memory is in flight, the sender lives. Threads: one at a time per sender. Owns:
 * takes the sender unless -EBUSY. Blocks: as berth_free, and makes system calls. Since: 0.1.
 */
BERTH_API int berth_sender_try_close(berth_sender *sender);

/**
 * Resets the connection, so that the kernel gives up what the peer has not taken: for peers that
 * stall. The sender is still to be ended, which then is a matter of moments.
 *
 * Threads: one at a time per sender. Blocks: makes system calls. Since: 0.1.
 */
BERTH_API void berth_sender_reset(berth_sender *sender);

/**
 * Ends a sender: waits for the peer to take what was sent, at most `wait_ms`, then resets the
 * connection.
 *
 * Errors: -ETIMEDOUT: it was reset, and has ended; -EBUSY: a device has not let go of memory within
 * a second after that, and the sender lives. Threads: one at a time per sender. Owns: takes the
 * sender unless -EBUSY. Blocks: makes system calls, and waits. Since: 0.1.
 */
BERTH_API int berth_sender_close(berth_sender *sender, unsigned wait_ms);

#ifdef __cplusplus
}
#endif

#endif
