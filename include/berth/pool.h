/*
 * Pools: named allocators with options, an optional limit, and metrics of their own.
 *
 * The default pool needs no creation; it is also what serves malloc where libberth-malloc.so is
 * loaded. A block knows its pool: freeing and resizing need no pool argument.
 */
#ifndef BERTH_POOL_H
#define BERTH_POOL_H

#include <berth/version.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A pool; what it is made of is not for users. */
typedef struct berth_pool berth_pool;

/** No limit; also what berth_limit_get answers then. */
#define BERTH_UNLIMITED UINT64_MAX

/** Whether huge pages are asked for. */
enum berth_thp {
    BERTH_THP_AS_CONFIGURED = 0, /* as the option `thp` says */
    BERTH_THP_OFF = 1,           /* never */
    BERTH_THP_WHERE_IT_PAYS = 2, /* the engine decides */
    BERTH_THP_ON = 3             /* always */
};

/**
 * How a pool behaves. Begin with BERTH_POOL_OPTIONS_INIT, which means "as the process's options
 * say", and change what matters.
 */
struct berth_pool_options {
    size_t struct_size; /* sizeof(struct berth_pool_options), for later versions */
    uint64_t limit;     /* bytes of chunks and huge blocks; 0: the process's limit alone */
    size_t chunk;    /* bytes, 256 KiB to 4 MiB, a power of two; 0: default. A run is not longer */
    unsigned arenas; /* at most, 1 to 64; 0: by the CPUs that may be used */
    int decay_ms;    /* unused memory goes back to the kernel over this time; -1: default */
    int wait_ms;     /* how long an allocation waits at the limit; -1: default, 0: never */
    int reclaim;     /* pressure callbacks are asked at the limit: 1 yes, 0 no, -1: default */
    int thp;         /* enum berth_thp */
    void *memory;    /* memory to live on instead of mapping any; NULL: map. Borrowed until the
                        pool is destroyed. Never charged to a limit, purged or unmapped. Not berth's
                        own: no block of a pool, nor of malloc where libberth-malloc.so serves it */
    size_t memory_size; /* bytes of it; at least 256 KiB after rounding both ends to 64 KiB. No
                           block in it is longer than a chunk */
    int one_thread; /* 1: buffers of this pool (slice.h) are used by one thread each, the one that
                       made them, for all of their life: counting needs no atomics. Blocks do not
                       mind. Debug builds stop who breaks the promise */
    int io; /* 1: memory for the kernel to read and write by itself (uring.h, io.h): chunks, of
               2 MiB by default, are committed whole, of huge pages, and stay as they are while
               anything in them lives, is pinned or registered. No block is longer than a chunk. Not
               together with `memory`. In the child of a fork all calls for such a pool, and for
               blocks of it, answer EOWNERDEAD; frees do nothing, and the memory reads as zero */
    uint64_t in_flight; /* bytes that the kernel may hold of all that is sent by senders of this
                           pool; beyond it they copy (io.h), or have at most 16 KiB each in flight
                           (uring.h). 0: no bound */
    int backing; /* enum berth_backing. BERTH_BACKING_MEMFD: the pool lives on memory_size bytes of
                    a memfd (`memory` is NULL), so that slices of it can be given to other processes
                    (share.h). All of them are counted against the process's limit, as reserved,
                    from its creation on; in the child of a fork it is as with `io` */
    const char *tag; /* what its memory is accounted to (tag.h), copied; NULL: nothing */
};

/** What a pool's memory is. */
enum berth_backing {
    BERTH_BACKING_PRIVATE = 0, /* the process's own */
    BERTH_BACKING_MEMFD = 1    /* a file without a name */
};

#define BERTH_POOL_OPTIONS_INIT                                                                    \
    { sizeof(struct berth_pool_options), 0, 0, 0, -1, -1, -1, 0, NULL, 0, 0, 0, 0, 0, NULL }

/**
 * The default pool.
 *
 * Errors: NULL with ENOMEM if not even the first metadata can be mapped. Threads: any. Owns:
 * nothing to release. Blocks: may make system calls the first time. Since: 0.1.
 */
BERTH_API berth_pool *berth_pool_default(void);

/**
 * Creates a pool.
 *
 * The name (at most 31 characters of A-Z a-z 0-9 _ . -) appears in the metrics; it is copied, and
 * must not be in use. options may be NULL for the defaults.
 *
 * Errors: NULL with EINVAL (an option or the name is out of range), EEXIST (the name is taken),
 * ENOMEM (no metadata memory), ENOSPC (1024 pools exist, or 255 tags and not this one). Threads:
 * any. Owns: the caller, until berth_pool_destroy; options->memory is borrowed. Blocks: may lock,
 * may make system calls. Since: 0.1.
 */
BERTH_API berth_pool *berth_pool_create(const char *name, const struct berth_pool_options *options);

/** Flags of berth_pool_destroy and berth_pool_reset. */
enum {
    BERTH_FORCE = 1 /* even while blocks live */
};

/**
 * Ends a pool and returns its memory.
 *
 * Without BERTH_FORCE it is refused while blocks live. With it, every block of the pool becomes
 * invalid, in time that depends on the number of chunks, not of blocks. Who goes on with the handle
 * is stopped with one line, until 64 further pools have ended and it is another one's.
 *
 * Errors: -EBUSY (blocks live; or, even when forced, the kernel may be using memory of the pool),
 * -EINVAL (the default pool, one that serves a tag, one that has ended, or NULL). Threads: any, but
 * nothing else may use the pool at the same time or afterwards. Threads that used it before may
 * sleep, flush their caches and end at any time, and what concerns all pools (metrics, trimming,
 * the limit, a fork) needs no care either. Owns: takes the pool; gives options->memory back.
 * Blocks: may lock, may make system calls, and waits until no other thread is looking into the pool
 * for such a purpose. Since: 0.1.
 */
BERTH_API int berth_pool_destroy(berth_pool *pool, unsigned flags);

/**
 * Makes a pool empty again, as after its creation: a request's or a connection's heap in one call.
 *
 * Errors and the rest as berth_pool_destroy; the pool stays usable, its options unchanged. Since:
 * 0.1.
 */
BERTH_API int berth_pool_reset(berth_pool *pool, unsigned flags);

/**
 * The name of a pool ("default" for the default one).
 *
 * Threads: any, while the pool lives. Owns: the pool, as long as it lives. Blocks: wait-free.
 * Since: 0.1.
 */
BERTH_API const char *berth_pool_name(const berth_pool *pool);

/**
 * Whether a pool was created with the option one_thread.
 *
 * Threads: any, while the pool lives. Blocks: wait-free. Since: 0.1.
 */
BERTH_API bool berth_pool_is_one_thread(const berth_pool *pool);

/**
 * The pool with this name.
 *
 * Errors: NULL with ENOENT. Threads: any, but the answer is of use only while nobody destroys the
 * pool. Owns: nothing new; the pool is still its creator's. Blocks: may lock. Since: 0.1.
 */
BERTH_API berth_pool *berth_pool_find(const char *name);

/**
 * The pool that a block belongs to. The process is stopped if the pointer is no block.
 *
 * Threads: any, while the block lives. Owns: nothing new. Blocks: wait-free. Since: 0.1.
 */
BERTH_API berth_pool *berth_pool_of(const void *block);

/**
 * Allocates size bytes, aligned to 16. A size of 0 gets a block of the smallest class.
 *
 * Errors: NULL with ENOMEM when the limit, or the kernel, has no more after everything unused was
 * reclaimed, pressure callbacks were asked and the pool's wait_ms have passed. Threads: any. Owns:
 * the caller, until berth_free. Blocks: not at all when the thread's cache has a block; else may
 * lock, make system calls, run pressure callbacks on this thread, and wait. Since: 0.1.
 */
BERTH_API void *berth_alloc(berth_pool *pool, size_t size);

/** Flags of berth_alloc_flags; combine with |. */
enum {
    BERTH_ZERO = 1,   /* the block reads as zero; pages known to be zero are not written */
    BERTH_NOWAIT = 2, /* do not wait at the limit */
    BERTH_UNWINDING =
        4, /* may use what limit_reserve keeps back: the caller is handling a failure */
    BERTH_ALIGN_SHIFT_ = 8
};

/** Alignment of 1 << log2 bytes, as a flag: berth_alloc_flags(pool, size, BERTH_ALIGN_LOG2(12)). */
#define BERTH_ALIGN_LOG2(log2) ((unsigned)(log2) << BERTH_ALIGN_SHIFT_)

/**
 * Allocates with flags.
 *
 * Errors: NULL with ENOMEM as berth_alloc; EINVAL for unknown flags. Otherwise as berth_alloc.
 * Since: 0.1.
 */
BERTH_API void *berth_alloc_flags(berth_pool *pool, size_t size, unsigned flags);

/**
 * Allocates with an alignment, a power of two of any size.
 *
 * Errors: NULL with EINVAL if the alignment is no power of two; ENOMEM. Otherwise as berth_alloc.
 * Since: 0.1.
 */
BERTH_API void *berth_alloc_aligned(berth_pool *pool, size_t alignment, size_t size);

/**
 * Allocates `count` blocks of one size into blocks[0..count).
 *
 * Returns how many were allocated: fewer than count only when memory ran out (errno is ENOMEM
 * then); those are valid. Otherwise as berth_alloc. Since: 0.1.
 */
BERTH_API size_t berth_alloc_batch(berth_pool *pool, size_t size, size_t count, void **blocks);

/**
 * Frees `count` blocks, of any sizes and pools; NULLs among them are skipped.
 *
 * Otherwise as berth_free. Since: 0.1.
 */
BERTH_API void berth_free_batch(void *const *blocks, size_t count);

/**
 * Changes the size of a block; the content up to the smaller of both sizes is kept.
 *
 * In place where the block's class or the pages behind it allow; huge blocks move by remapping, not
 * copying. block == NULL allocates from pool (NULL: the default pool); otherwise the block stays in
 * its own pool, and pool is ignored. size == 0 gives a block of the smallest class.
 *
 * Errors: NULL with ENOMEM: the old block is unchanged and still the caller's. Owns: takes the
 * block, returns one. Otherwise as berth_alloc. Since: 0.1.
 */
BERTH_API void *berth_realloc(berth_pool *pool, void *block, size_t size);

/**
 * Makes a block longer where it lies, if its class or the free memory behind it allow: true if it
 * holds `size` bytes now. false: nothing changed.
 *
 * Threads: any, one block at a time. Owns: borrows the block. Blocks: may lock and make system
 * calls, does not wait. Since: 0.1.
 */
BERTH_API bool berth_extend(void *block, size_t size);

/**
 * Says that the kernel may be using a block, until as many calls of berth_unpin: its pool is not
 * ended or reset meanwhile, not even by force, nor is anything near it purged or unmapped.
 *
 * It does not keep the block from being freed: who pins a block holds it. Unpinning what is not
 * pinned stops the process. Slices have counts of their own (berth_slice_pin).
 *
 * Threads: any. Owns: borrows the block. Blocks: wait-free. Since: 0.1.
 */
BERTH_API void berth_pin(const void *block);
BERTH_API void berth_unpin(const void *block);

/**
 * Frees a block of any pool; NULL is ignored. Keeps errno.
 *
 * Misuse (a block freed twice, a pointer into a block, foreign memory) stops the process with one
 * line on stderr, at once or when the block is next handled.
 *
 * Threads: any, also others than the one that allocated. Owns: takes the block. Blocks: wait-free
 * while the cache has room; else may lock and make system calls. Since: 0.1.
 */
BERTH_API void berth_free(void *block);

/**
 * Frees a block whose size the caller knows: `size` must be what was asked for, or anything up to
 * berth_usable_size. A size beyond that stops the process.
 *
 * Otherwise as berth_free. Since: 0.1.
 */
BERTH_API void berth_free_sized(void *block, size_t size);

/**
 * Frees a block whose pool the caller knows: as berth_free, but found sooner if it is not the
 * default pool's. A block of another pool is freed there.
 *
 * Otherwise as berth_free. Since: 0.1.
 */
BERTH_API void berth_pool_free(berth_pool *pool, void *block);

/**
 * Bytes of a block, all of which may be written: at least what was asked for. 0 for NULL.
 *
 * Threads: any. Blocks: wait-free. Since: 0.1.
 */
BERTH_API size_t berth_usable_size(const void *block);

/**
 * The size of the block that a request for `size` bytes gets: asking for that instead wastes
 * nothing. In a pool whose chunks are kept shorter than 4 MiB, a block longer than a chunk is whole
 * pages, and may be shorter than this. 0 if no request of that size can succeed.
 *
 * Threads: any. Blocks: wait-free. Since: 0.1.
 */
BERTH_API size_t berth_good_size(size_t size);

/**
 * Maps `length` bytes of a file, from `offset` (a multiple of the page size), as memory of the
 * pool: counted against its limit, shown in the metrics as mapped, released by berth_free.
 *
 * writable: changes reach the file. Errors: NULL with EINVAL, ENOMEM (the limit), or what mmap
 * gives. Threads: any. Owns: the caller; the descriptor may be closed. Blocks: makes system calls.
 * Since: 0.1.
 */
BERTH_API void *berth_map_file(berth_pool *pool, int fd, int64_t offset, size_t length,
                               bool writable);

/**
 * Returns unused memory of a pool (NULL: of all pools) to the kernel, as far as it can be found:
 * cached blocks of this thread and of idle ones, free runs, free pages inside slabs. Returns bytes.
 *
 * Threads: any. Blocks: may lock, makes system calls; time grows with the memory that is given
 * back. Since: 0.1.
 */
BERTH_API size_t berth_trim(berth_pool *pool);

/**
 * Says that this thread is about to sleep: its caches may be emptied by others until it next
 * allocates or frees. For event loops, before each wait.
 *
 * Threads: any, for itself. Blocks: lock-free, and few stores, unless blocks of other threads are
 * gathered in it, which are sent home first; that may lock. Since: 0.1.
 */
BERTH_API void berth_thread_idle(void);

/**
 * Gives back what this thread caches, in all pools, and settles its counters: live bytes in the
 * metrics are exact for it afterwards.
 *
 * Threads: any, for itself. Blocks: may lock and make system calls. Since: 0.1.
 */
BERTH_API void berth_thread_flush(void);

#ifdef __cplusplus
}
#endif

#endif
