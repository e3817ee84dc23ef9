/*
 * libuv on berth: what a stream reads lies in pool memory and becomes slices; chains are written
 * without copying, and released when libuv no longer needs them.
 *
 *   static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *to) {
 *       berth_uv_alloc(&((struct connection *)handle->data)->reader, to);
 *   }
 *   static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *from) {
 *       struct connection *c = stream->data;
 *       if (berth_uv_take(&c->reader, got, &c->chain) < 0) { ... uv_close ... }
 *       berth_uv_write(stream, &c->chain, NULL, NULL);
 *   }
 *   berth_uv_reader_init(&c->reader, pool, 0);     uv_read_start(stream, on_alloc, on_read);
 *   berth_uv_reader_end(&c->reader);               in the callback of uv_close
 *
 * Only inline functions: what includes this links with libuv itself. Not part of berth.h. All calls
 * are for the thread of the stream's loop; the pool may be any.
 */
#ifndef BERTH_ADAPT_LIBUV_H
#define BERTH_ADAPT_LIBUV_H

#include <berth/io.h>

#include <uv.h>

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast" /* C has no other */
#endif
#ifdef __cplusplus
extern "C" {
#endif

/**
 * What streams read into. Reads share a block while it has room: of one stream, or, since libuv
 * reads right after it was given memory (not so on Windows), of all streams of a loop. Then streams
 * that wait hold nothing.
 */
struct berth_uv_reader {
    berth_pool *pool_;
    struct berth_slice piece_; /* not yet filled */
    size_t bytes_;
};

/** Is told that a chain was written (0), or could not be (a negative code of libuv's). */
typedef void berth_uv_done(void *context, int status);

/** A write that is under way; what it is made of is not for users. */
struct berth_uv_writing {
    uv_write_t request_;
    struct berth_chain chain_;
    berth_uv_done *done_;
    void *context_;
};

/** Buffers of one write whose list needs no block. */
enum { BERTH_UV_FEW = 32 };

/**
 * Makes a reader whose blocks have `bytes` bytes (0: 64 KiB). Its memory may be moved.
 *
 * Threads: the loop's. Owns: the caller, who ends with berth_uv_reader_end. Blocks: wait-free.
 * Since: 0.1.
 */
static inline void berth_uv_reader_init(struct berth_uv_reader *reader, berth_pool *pool,
                                        size_t bytes) {
    const struct berth_slice empty = BERTH_SLICE_EMPTY;
    reader->pool_ = pool;
    reader->piece_ = empty;
    reader->bytes_ = bytes;
}

/**
 * Gives back what a reader has not filled, after its streams were closed.
 *
 * Threads: the loop's. Blocks: as berth_free. Since: 0.1.
 */
static inline void berth_uv_reader_end(struct berth_uv_reader *reader) {
    berth_slice_release(&reader->piece_);
}

/**
 * Memory for a stream's next read: for the callback that allocates. Without memory *to is empty,
 * and libuv says UV_ENOBUFS to the callback that reads.
 *
 * Threads: the loop's. Blocks: as berth_alloc. Since: 0.1.
 */
static inline void berth_uv_alloc(struct berth_uv_reader *reader, uv_buf_t *to) {
    if (berth_io_renew(reader->pool_, &reader->piece_, reader->bytes_) != 0) {
        berth_slice_release(&reader->piece_);
    }
    *to = uv_buf_init((char *)(uintptr_t)reader->piece_.data, reader->piece_.length);
}

/**
 * Puts what was read at the end of a chain: for the callback that reads, with the number that it
 * was given. Nothing is copied but slices of up to 512 bytes behind each other.
 *
 * Errors: what it was given, if that is negative; UV_ENOMEM: what was read is lost. Threads: the
 * loop's. Blocks: as berth_alloc. Since: 0.1.
 */
static inline int berth_uv_take(struct berth_uv_reader *reader, ssize_t got,
                                struct berth_chain *to) {
    struct berth_slice filled;
    if (got <= 0) {
        return (int)got; /* 0: there was nothing to read after all */
    }
    if (berth_slice_split(&reader->piece_, (size_t)got, &filled) != 0 ||
        berth_chain_append(to, &filled) != 0) {
        berth_slice_release(&filled);
        return UV_ENOMEM;
    }
    return 0;
}

/** Ends a write. Threads: the loop's. Blocks: as the callback. Since: 0.1. */
static inline void berth_uv_written_(uv_write_t *request, int status) {
    struct berth_uv_writing *writing = (struct berth_uv_writing *)request->data;
    berth_uv_done *done = writing->done_;
    void *context = writing->context_;
    berth_chain_clear(&writing->chain_);
    berth_free(writing);
    if (done != NULL) {
        done(context, status);
    }
}

/** Starts a write. Threads: the loop's. Errors: those of uv_write. Blocks: as uv_write. Since:
 * 0.1. */
static inline int berth_uv_start_(struct berth_uv_writing *writing, uv_stream_t *stream,
                                  struct iovec *list, unsigned room) {
    /* libuv promises that its buffers are as writev's entries are. */
    unsigned count = berth_chain_iovec(&writing->chain_, list, room);
    writing->request_.data = writing;
    return uv_write(&writing->request_, stream, (const uv_buf_t *)(const void *)list, count,
                    berth_uv_written_);
}

/**
 * Writes all of a chain to a stream, and releases it when that is done. `done` (may be NULL) is
 * told then.
 *
 * Errors: nothing has changed: UV_ENOMEM; UV_ENOTSUP (there is a region of a file in it); UV_E2BIG
 * (more than 1024 segments: split it); those of uv_write. Threads: the loop's. Owns: takes what is
 * in the chain, which is empty then. Blocks: as berth_alloc, and makes system calls. Since: 0.1.
 */
static inline int berth_uv_write(uv_stream_t *stream, struct berth_chain *chain,
                                 berth_uv_done *done, void *context) {
    struct iovec few[BERTH_UV_FEW];
    struct iovec *list = few;
    size_t count = berth_chain_count(chain);
    if (count > BERTH_CHAIN_IOVEC_MAX) {
        return UV_E2BIG;
    }
    struct berth_segment segment;
    for (size_t i = 0; i < count; i++) {
        if (berth_chain_segment(chain, i, &segment) == 0 && segment.fd >= 0) {
            return UV_ENOTSUP;
        }
    }
    struct berth_uv_writing *writing =
        (struct berth_uv_writing *)berth_alloc(chain->pool_, sizeof(*writing));
    if (writing != NULL && count > BERTH_UV_FEW) {
        list = (struct iovec *)berth_alloc(chain->pool_, count * sizeof(*list));
    }
    if (writing == NULL || list == NULL) {
        berth_free(writing);
        return UV_ENOMEM;
    }
    writing->chain_ = *chain; /* a chain may be moved */
    writing->done_ = done;
    writing->context_ = context;
    berth_chain_init(chain, writing->chain_.pool_);
    int error = berth_uv_start_(writing, stream, list, (unsigned)count);
    if (list != few) {
        berth_free(list);
    }
    if (error != 0) {
        *chain = writing->chain_;
        berth_free(writing);
    }
    return error;
}

#ifdef __cplusplus
}
#endif
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif
