/*
 * libevent on berth: slices and chains go to an evbuffer by reference, and come from one without
 * copying.
 *
 *   berth_evbuffer_add_chain(bufferevent_get_output(bev), &chain);
 *   berth_evbuffer_take(bufferevent_get_input(bev), pool, &chain);
 *
 * The references that an evbuffer holds are released on the thread that drains or frees it. Only
 * inline functions: what includes this links with libevent itself. Not part of berth.h. An evbuffer
 * is used by one thread at a time, or has its lock enabled, as libevent says.
 */
#ifndef BERTH_ADAPT_LIBEVENT_H
#define BERTH_ADAPT_LIBEVENT_H

#include <berth/chain.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <event2/buffer.h>

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast" /* C has no other */
#endif
#ifdef __cplusplus
extern "C" {
#endif

/** What libevent calls when it no longer needs a slice. Threads: any. Blocks: as berth_free.
 * Since: 0.1. */
static inline void berth_evbuffer_release_(const void *data, size_t length, void *owner) {
    (void)data;
    (void)length;
    berth_owner_release((struct berth_owner *)owner);
}

/**
 * Puts a slice at the end of an evbuffer, by reference.
 *
 * Errors: -ENOMEM: nothing has changed. Threads: one at a time per evbuffer. Owns: takes the
 * reference; *slice is empty then. Blocks: as malloc. Since: 0.1.
 */
static inline int berth_evbuffer_add_slice(struct evbuffer *to, struct berth_slice *slice) {
    struct berth_slice kept = *slice;
    const void *data = slice->data;
    size_t length = slice->length;
    if (length == 0) {
        berth_slice_release(slice);
        return 0;
    }
    struct berth_owner *owner = berth_slice_detach(slice);
    if (evbuffer_add_reference(to, data, length, berth_evbuffer_release_, owner) != 0) {
        *slice = kept;
        return -ENOMEM;
    }
    return 0;
}

/** Puts a region of a file at the end. Errors: as berth_evbuffer_add_chain. Threads: one at a time
 * per evbuffer. Blocks: makes system calls. Since: 0.1. */
static inline int berth_evbuffer_add_region_(struct evbuffer *to,
                                             const struct berth_segment *region) {
    int fd = fcntl(region->fd, F_DUPFD_CLOEXEC, 0); /* libevent closes it */
    if (fd < 0) {
        return -errno;
    }
    if (evbuffer_add_file(to, fd, region->offset, region->length) != 0) {
        (void)close(fd);
        return -ENOMEM;
    }
    return 0;
}

/**
 * Moves all of a chain to the end of an evbuffer, by reference; regions of files as libevent's file
 * segments, with descriptors of their own.
 *
 * Errors: -ENOMEM, -EMFILE: the chain holds what was not moved. Threads: one at a time per evbuffer
 * and chain. Owns: takes what it moves. Blocks: as malloc, and makes system calls for files. Since:
 * 0.1.
 */
static inline int berth_evbuffer_add_chain(struct evbuffer *to, struct berth_chain *chain) {
    while (berth_chain_count(chain) > 0) {
        struct berth_segment region;
        struct berth_slice slice;
        int error = berth_chain_take_slice(chain, &slice);
        if (error == 0) {
            error = berth_evbuffer_add_slice(to, &slice);
            if (error != 0) {
                (void)berth_chain_prepend(chain, &slice); /* it has just left that place */
            }
        } else if ((error = berth_chain_segment(chain, 0, &region)) == 0 &&
                   (error = berth_evbuffer_add_region_(to, &region)) == 0) {
            error = berth_chain_consume(chain, region.length);
        }
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

/** Memory of an evbuffer that slices view; freed with the last of them. */
struct berth_evbuffer_taken_ {
    struct evbuffer *evbuffer;
    unsigned views; /* changed by whoever releases one; see berth_evbuffer_take */
};

/** What berth calls when nobody views a piece any more. Threads: any. Blocks: as free. Since:
 * 0.1. */
static inline void berth_evbuffer_untake_(void *context, void *data, size_t length) {
    struct berth_evbuffer_taken_ *taken = (struct berth_evbuffer_taken_ *)context;
    (void)data;
    (void)length;
    if (__atomic_sub_fetch(&taken->views, 1, __ATOMIC_ACQ_REL) == 0) {
        evbuffer_free(taken->evbuffer);
        berth_free(taken);
    }
}

/** Puts views of what was taken at the end of a chain. Errors: as berth_evbuffer_take. Threads: one
 * at a time per chain. Blocks: as berth_alloc. Since: 0.1. */
static inline int berth_evbuffer_view_(struct berth_evbuffer_taken_ *taken, berth_pool *pool,
                                       struct berth_chain *to) {
    struct evbuffer_ptr at;
    struct evbuffer_iovec piece;
    size_t left = evbuffer_get_length(taken->evbuffer);
    (void)evbuffer_ptr_set(taken->evbuffer, &at, 0, EVBUFFER_PTR_SET);
    while (left > 0) {
        struct berth_slice view;
        if (evbuffer_peek(taken->evbuffer, -1, &at, &piece, 1) < 1) {
            return -ENOTSUP;
        }
        __atomic_add_fetch(&taken->views, 1, __ATOMIC_RELAXED);
        if (berth_slice_wrap(pool, piece.iov_base, piece.iov_len, berth_evbuffer_untake_, taken,
                             &view) != 0) {
            __atomic_sub_fetch(&taken->views, 1, __ATOMIC_RELAXED);
            return -ENOMEM;
        }
        if (berth_chain_append(to, &view) != 0) {
            berth_slice_release(&view);
            return -ENOMEM;
        }
        left -= piece.iov_len;
        if (left > 0) {
            (void)evbuffer_ptr_set(taken->evbuffer, &at, piece.iov_len, EVBUFFER_PTR_ADD);
        }
    }
    return 0;
}

/**
 * Moves all bytes of an evbuffer to the end of a chain, as slices of libevent's memory, which is
 * given back with the last of them, on the thread that releases that. Records come from the pool.
 *
 * Errors: -ENOMEM: nothing has changed, or what could not be moved is lost and the connection is
 * to end; likewise -ENOTSUP (a file segment that is not mapped). Threads: one at a time per
 * evbuffer and chain; slices then as any. Owns: the chain has the bytes. Blocks: as malloc and
 * berth_alloc. Since: 0.1.
 */
static inline int berth_evbuffer_take(struct evbuffer *from, berth_pool *pool,
                                      struct berth_chain *to) {
    if (evbuffer_get_length(from) == 0) {
        return 0;
    }
    struct berth_evbuffer_taken_ *taken =
        (struct berth_evbuffer_taken_ *)berth_alloc(pool, sizeof(*taken));
    struct evbuffer *evbuffer = evbuffer_new();
    if (taken == NULL || evbuffer == NULL || evbuffer_add_buffer(evbuffer, from) != 0) {
        if (evbuffer != NULL) {
            evbuffer_free(evbuffer);
        }
        berth_free(taken);
        return -ENOMEM;
    }
    taken->evbuffer = evbuffer;
    taken->views = 1; /* our own, until all are made */
    int error = berth_evbuffer_view_(taken, pool, to);
    berth_evbuffer_untake_(taken, NULL, 0);
    return error;
}

#ifdef __cplusplus
}
#endif
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif
