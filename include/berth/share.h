/*
 * Slices that other processes see: of pools that live on a memfd (the option backing).
 *
 *   one process                                    another
 *   options.backing = BERTH_BACKING_MEMFD;         ...
 *   options.memory_size = 256 << 20;
 *   berth_export_send(socket, &slice, &export);    berth_import_receive(socket, pool, &slice);
 *   ... poll(berth_export_fd(export)) ...          berth_slice_release(&slice);
 *   berth_export_end(export, 0);
 *
 * The socket is one of AF_UNIX. Nothing is copied: the other process maps the pages that the slice
 * lies on, to be read; on Linux 5.1 and later it cannot do otherwise. It can read whatever else
 * lies on the pool's memory, too: a pool for whom one trusts with its content. The memory stays
 * pinned until the other process, and any child that inherited the slice from it, has released it
 * or ended. Each export takes two descriptors here and one there. Both sides count: here the slice
 * lives on in its pool, there a mapped file does.
 *
 * Part of libberth, not of libberth-malloc.
 */
#ifndef BERTH_SHARE_H
#define BERTH_SHARE_H

#include <berth/slice.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A slice that was given to another process; what it is made of is not for users. */
typedef struct berth_export berth_export;

/**
 * Gives a slice to the process at the other end of a socket, as one message.
 *
 * Errors: nothing was sent, *handle is NULL: -ENOTSUP (not of a pool with BERTH_BACKING_MEMFD),
 * -EOWNERDEAD (that is the parent's), -ENOMEM, -EMFILE, -EAGAIN (no room), and what sendmsg gives.
 * Threads: one at a time per slice. Owns: borrows the slice; the caller owns *handle, until
 * berth_export_end. Blocks: as berth_alloc, and makes system calls. Since: 0.1.
 */
BERTH_API int berth_export_send(int socket, const struct berth_slice *slice, berth_export **handle);

/**
 * A descriptor that poll reports POLLHUP for when the other process has let go.
 *
 * Errors: -EOWNERDEAD. Threads: any. Blocks: wait-free. Since: 0.1.
 */
BERTH_API int berth_export_fd(const berth_export *handle);

/**
 * Ends an export whose other process has let go. With BERTH_FORCE also if it has not: it then sees
 * whatever comes to lie there.
 *
 * Errors: -EBUSY: the other process may be reading, the export lives; -EINVAL (an unknown flag);
 * -EOWNERDEAD. Threads: one at a time per export. Owns: takes the export unless it fails. Blocks:
 * as berth_free, and makes system calls. Since: 0.1.
 */
BERTH_API int berth_export_end(berth_export *handle, unsigned flags);

/**
 * Takes a slice that another process gives. It is read-only; what it maps is counted against the
 * pool's limit, as by berth_map_file. What the other process writes there is seen.
 *
 * Errors: *slice is empty: -EAGAIN (nothing has arrived), -EPROTO (no message of
 * berth_export_send), -EPERM (the memory could be taken away: it is not sealed), -EMFILE (no
 * descriptors are left for it), -ENOMEM, and what recvmsg and mmap give: a message that has arrived
 * is lost then. -ENODATA: the peer has ended.
 * Threads: any. Owns: the caller, until berth_slice_release, on any thread. Blocks: as berth_alloc,
 * and makes system calls; waits if the socket is a blocking one. Since: 0.1.
 */
BERTH_API int berth_import_receive(int socket, berth_pool *pool, struct berth_slice *slice);

#ifdef __cplusplus
}
#endif

#endif
