/*
 * The limit on mapped memory, and what happens at it.
 *
 * Every chunk and huge block is charged before it is mapped, so the total never exceeds the limit.
 * A request that finds no room makes the engine give up everything unused, then asks the
 * application through pressure callbacks, then waits in a queue for wait_ms; only then does it
 * fail, alone, with ENOMEM.
 */
#ifndef BERTH_LIMIT_H
#define BERTH_LIMIT_H

#include <berth/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Sets the process's limit in bytes; BERTH_UNLIMITED lifts it.
 *
 * Lowering it below what is used succeeds: growth stops at once, what is unused is returned before
 * the call ends, and the rest as it becomes free. With the option limit:auto, the limit follows the
 * cgroup's until it is set here.
 *
 * Errors: -EINVAL for 0. Threads: any. Blocks: may lock, may make system calls. Since: 0.1.
 */
BERTH_API int berth_limit_set(uint64_t bytes);

/**
 * The process's limit in bytes, or BERTH_UNLIMITED.
 *
 * Threads: any. Blocks: wait-free; the first call into the library starts it, which makes system
 * calls. Since: 0.1.
 */
BERTH_API uint64_t berth_limit_get(void);

/** Bytes charged to the process's limit now. Threads: any. Blocks: wait-free. Since: 0.1. */
BERTH_API uint64_t berth_limit_used(void);

/**
 * The same three for one pool's own limit. berth_pool_limit_get answers BERTH_UNLIMITED, and
 * berth_pool_limit_used 0, for a pool without one.
 *
 * Errors: -EINVAL for a limit of 0; -ENOTSUP for a pool that was created without a limit, or the
 * default pool (its limit is the process's). Threads: any. Blocks: setting may lock and make system
 * calls, asking is wait-free. Since: 0.1.
 */
BERTH_API int berth_pool_limit_set(berth_pool *pool, uint64_t bytes);
BERTH_API uint64_t berth_pool_limit_get(const berth_pool *pool);
BERTH_API uint64_t berth_pool_limit_used(const berth_pool *pool);

/**
 * Counts memory that was mapped elsewhere (a library's own mmap, a file, a device) against the
 * limit, before it is mapped. Frees unused memory for it as an allocation would.
 *
 * Errors: -ENOMEM: there is no room, nothing is counted. Threads: any. Blocks: may lock, make
 * system calls, run pressure callbacks; does not wait. Since: 0.1.
 */
BERTH_API int berth_limit_reserve(size_t bytes);

/** Takes back as many bytes as were reserved. Threads: any. Blocks: may lock. Since: 0.1. */
BERTH_API void berth_limit_release(size_t bytes);

/**
 * A callback that is asked to free memory when a request found no room.
 *
 * pool: whose request it is. bytes: how much it needs. Runs on the requesting thread, without any
 * lock of berth; one thread at a time: another that finds no room meanwhile waits until the
 * callbacks have returned, as long as it may wait at the limit, and for up to 100 ms if it may not.
 * It may free anything; what it allocates may come from the part of the limit that limit_reserve
 * keeps back, and does not ask callbacks again. It must return: not leave by longjmp or an
 * exception, nor end its thread.
 */
typedef void berth_pressure_callback(void *context, berth_pool *pool, size_t bytes);

/** Flags of berth_pressure_add. */
enum {
    /* May run inside malloc, where libberth-malloc.so serves it: it calls nothing that could wait
       for a lock that a caller of malloc may hold. */
    BERTH_PRESSURE_MALLOC_SAFE = 1
};

/**
 * Adds a pressure callback; all are asked, the latest first.
 *
 * Errors: -EINVAL (no callback, unknown flags), -EEXIST (the pair is there already), -ENOSPC (64
 * are). Threads: any. Blocks: may lock. Since: 0.1.
 */
BERTH_API int berth_pressure_add(berth_pressure_callback *callback, void *context, unsigned flags);

/**
 * Removes a callback; when this returns, it is not running and will not be called again (unless it
 * removes itself while it runs).
 *
 * Errors: -ENOENT. Threads: any. Blocks: may lock, and waits for a running callback. Since: 0.1.
 */
BERTH_API int berth_pressure_remove(berth_pressure_callback *callback, void *context);

#ifdef __cplusplus
}
#endif

#endif
