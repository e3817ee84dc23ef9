/*
 * Slices to and from other processes.
 *
 * A message names the bytes by their place in the memfd, and carries two descriptors: that, and an
 * end of a pipe. Nothing ever goes through the pipe. Its other end stays here, and says when nobody
 * has the first one any more: when the other process has closed it, or has ended in whatever way.
 * The children that it may have hold it as well, as they hold the mapping; and so does a child of
 * this process, if it is forked while the message is sent, until it ends or runs another program.
 */
#include "base/bits.h"
#include "buffer/owner.h"
#include "io/rights.h"
#include "os/file.h"
#include "os/memfd.h"
#include "pool/api.h"

#include <berth/share.h>

#include <errno.h>

enum { MAGIC = 0x62736c31 }; /* "bsl1": the layout below */

struct message {
    uint32_t magic;
    uint32_t length;
    uint64_t offset;
};

struct berth_export {
    struct berth_slice slice; /* pinned */
    berth_pool *memfd_pool;   /* that the slice is of */
    int tether;
};

/* ---- giving ---- */

static int send_slice(int socket, int memfd, uint64_t offset, const struct berth_slice *slice,
                      int *tether) {
    int ends[2];
    int error = berth__tether_make(ends);
    if (error != 0) {
        return error;
    }
    const struct message message = {.magic = MAGIC, .length = slice->length, .offset = offset};
    const int fds[BERTH_RIGHTS_COUNT] = {memfd, ends[1]};
    error = berth__rights_send(socket, &message, sizeof(message), fds);
    berth__file_close(ends[1]);
    if (error != 0) {
        berth__file_close(ends[0]);
        return error;
    }
    *tether = ends[0];
    return 0;
}

/* Handles are of the default pool: what is of the slice's own would be shown to the other side. */
int berth_export_send(int socket, const struct berth_slice *slice, berth_export **handle) {
    const struct berth_owner *owner = slice->owner_;
    const void *base;
    size_t bytes;
    *handle = NULL;
    if (owner == NULL) {
        return -ENOTSUP;
    }
    berth_pool *pool = berth_pool_of(owner);
    int memfd = berth_pool_memfd(pool, &base, &bytes);
    if (memfd < 0) {
        return memfd;
    }
    uint64_t offset = (uint64_t)((uintptr_t)slice->data - (uintptr_t)base);
    if (berth__slice_owner(slice)->kind != BERTH_OWNER_BLOCK || offset >= bytes) {
        return -ENOTSUP; /* a record here, of memory from elsewhere */
    }
    berth_export *made = berth_alloc(berth_pool_default(), sizeof(*made));
    if (made == NULL) {
        return -ENOMEM;
    }
    made->memfd_pool = pool;
    made->slice = berth_slice_pin(slice);
    int error = send_slice(socket, memfd, offset, slice, &made->tether);
    if (error != 0) {
        berth_slice_unpin(&made->slice);
        berth_free(made);
        return error;
    }
    *handle = made;
    return 0;
}

static int fault_of(const berth_export *handle) {
    const void *base;
    size_t bytes;
    int memfd = berth_pool_memfd(handle->memfd_pool, &base, &bytes);
    return memfd < 0 ? memfd : 0;
}

int berth_export_fd(const berth_export *handle) {
    int error = fault_of(handle);
    return error != 0 ? error : handle->tether;
}

int berth_export_end(berth_export *handle, unsigned flags) {
    int error = (flags & ~(unsigned)BERTH_FORCE) != 0 ? -EINVAL : fault_of(handle);
    if (error == 0 && (flags & BERTH_FORCE) == 0 && !berth__tether_is_cut(handle->tether)) {
        error = -EBUSY;
    }
    if (error != 0) {
        return error;
    }
    berth_slice_unpin(&handle->slice);
    berth__file_close(handle->tether);
    berth_free(handle);
    return 0;
}

/* ---- taking ---- */

struct import {
    void *mapping;
    int tether;
};

static void let_go(void *context, void *data, size_t length) {
    struct import *import = context;
    (void)data, (void)length;
    berth_free(import->mapping);
    berth__file_close(import->tether);
    berth_free(import);
}

/* The descriptors stay the caller's unless it succeeds; then the tether is the slice's. */
static int map_slice(berth_pool *pool, const struct message *message, int memfd, int tether,
                     struct berth_slice *slice) {
    enum { WHOLE_PAGES = 65536 };
    size_t before = (size_t)(message->offset % WHOLE_PAGES);
    struct import *import = berth_alloc(pool, sizeof(*import));
    if (import == NULL) {
        return -ENOMEM;
    }
    int saved_errno = errno;
    import->tether = tether;
    import->mapping = berth_map_file(pool, memfd, (int64_t)(message->offset - before),
                                     before + message->length, false);
    int error = import->mapping == NULL ? -errno : 0;
    errno = saved_errno;
    if (error == 0) {
        error = berth_slice_wrap(pool, (char *)import->mapping + before, message->length, let_go,
                                 import, slice);
    }
    if (error != 0) {
        berth_free(import->mapping);
        berth_free(import);
        return error;
    }
    berth_slice_set_read_only(slice);
    return 0;
}

static int check_message(const struct message *message, ssize_t got, int memfd) {
    bool whole = got == (ssize_t)sizeof(*message) && message->magic == MAGIC &&
                 message->length > 0 && message->offset <= INT64_MAX - UINT32_MAX;
    if (!whole) {
        return -EPROTO;
    }
    return berth__memfd_is_sealed(memfd, message->offset + message->length) ? 0 : -EPERM;
}

int berth_import_receive(int socket, berth_pool *pool, struct berth_slice *slice) {
    struct message message = {0};
    int fds[BERTH_RIGHTS_COUNT];
    *slice = (struct berth_slice)BERTH_SLICE_EMPTY;
    ssize_t got = berth__rights_receive(socket, &message, sizeof(message), fds);
    if (got <= 0) {
        return got == 0 ? -ENODATA : (int)got;
    }
    int error = check_message(&message, got, fds[0]);
    error = error != 0 ? error : map_slice(pool, &message, fds[0], fds[1], slice);
    berth__file_close(fds[0]);
    if (error != 0) {
        berth__file_close(fds[1]);
    }
    return error;
}
