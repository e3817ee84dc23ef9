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

/* sendmsg with further flags, such as MSG_MORE. */
ssize_t berth__socket_send(int fd, struct iovec *entries, unsigned count, int flags);

/* sendfile of at most `length` bytes from `offset`; 0: the file ends before them. */
ssize_t berth__socket_send_file(int fd, int file, int64_t offset, size_t length);

/* readv; 0: the peer has ended. */
ssize_t berth__socket_receive(int fd, const struct iovec *entries, unsigned count);

#endif
