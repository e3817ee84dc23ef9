/*
 * Messages that carry descriptors to another process, and what tells that it has let go.
 */
#ifndef BERTH_IO_RIGHTS_H
#define BERTH_IO_RIGHTS_H

#include "os/fault.h"

#include <sys/types.h>

enum { BERTH_RIGHTS_COUNT = 2 };

/* One message, whole: 0 or -errno. */
int berth__rights_send(int socket, const void *bytes, size_t length,
                       const int fds[BERTH_RIGHTS_COUNT]);

/* Bytes, 0 at the end, or -errno. Without exactly so many descriptors: -EPROTO, or -EMFILE if this
 * process may have no more, and none is left open. */
ssize_t berth__rights_receive(int socket, void *bytes, size_t length, int fds[BERTH_RIGHTS_COUNT]);

/* A pipe of which one end is given away, ends[1]: 0 or -errno. */
int berth__tether_make(int ends[2]);

/* True if nobody has the other end of ends[0] any more. */
bool berth__tether_is_cut(int fd);

#endif
