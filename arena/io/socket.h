/*
 * The system calls of sockets. Each returns what the kernel's does, or -errno; keeps errno; goes on
 * after a signal; and raises no SIGPIPE.
 *
 * They are here, not in os/, because that is also in libberth-malloc, which has no sockets.
 */
#ifndef BERTH_IO_SOCKET_H
#define BERTH_IO_SOCKET_H

#include "os/fault.h"

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

/* sendmsg, or send, with further flags, such as MSG_MORE. */
ssize_t berth__socket_send(int fd, struct iovec *entries, unsigned count, int flags);

/* sendfile of at most `length` bytes from `offset`; 0: the file ends before them. */
ssize_t berth__socket_send_file(int fd, int file, int64_t offset, size_t length);

/* SIGPIPE is ignored by the process: no need to hold it back. */
void berth__socket_ignore_sigpipe(void);

/* readv, or read; 0: the peer has ended. */
ssize_t berth__socket_receive(int fd, const struct iovec *entries, unsigned count);

/* ---- sends that do not copy ---- */

/* What the kernel says of sends [first, last]. */
struct berth__notification {
    uint32_t first, last;
    bool copied;
};

/* Lets sends have MSG_ZEROCOPY: 0 or -errno. */
int berth__socket_enable_zero_copy(int fd);

/* Takes an entry of the error queue: 0; -EAGAIN if there is none; -ENOMSG if it was of another
 * kind; or -errno. */
int berth__socket_notification(int fd, struct berth__notification *notification);

/* ---- the end ---- */

/* No more is sent. */
void berth__socket_shut(int fd);

/* Resets a connection; what was queued leaves the kernel's hands. The descriptor, and with it the
 * error queue, stays. */
void berth__socket_disconnect(int fd);

/* Waits until there is something in the error queue, at most so long. A socket that has an error or
 * an end counts as ready: then it waits a moment. */
void berth__socket_wait(int fd, uint64_t wait_ms);

#endif
