/*
 * The public calls, one declaration each, behind a table: one engine per process.
 *
 * libberth and the malloc door both contain the engine. Where both are loaded (a program links
 * libberth, and the door is preloaded), there must be one ledger and one set of pools; so each
 * public call goes through `berth__engine`, which points to the table of the one that serves this
 * process: the door's, since it has served malloc before anything else could run; else the first
 * loaded. The table is found by the exported symbol `berth_engine`; a table of another version
 * stops the process with both paths named.
 */
#ifndef BERTH_POOL_API_H
#define BERTH_POOL_API_H

#include "base/compiler.h"

#include <berth/event.h>
#include <berth/limit.h>
#include <berth/metrics.h>
#include <berth/pool.h>
#include <berth/tag.h>

/* Is told of every attempt to end or reset a pool, with what the attempt returns, when no lock is
 * held and the pool's name is still there. For what keeps records of a pool's blocks elsewhere. */
typedef void berth__pool_end_hook(berth_pool *pool, int error);

struct berth__io_chunk;

/* What a record comes with. */
struct berth__described {
    void *block;
    bool one_thread; /* the pool's option */
};

enum { BERTH_DESCRIBED_BYTES = 64 };

/* X(result, name, parameters, arguments) */
#define BERTH_PUBLIC_CALLS(X)                                                                      \
    X(berth_pool *, pool_default, (void), ())                                                      \
    X(berth_pool *, pool_create, (const char *name, const struct berth_pool_options *options),     \
      (name, options))                                                                             \
    X(int, pool_destroy, (berth_pool * pool, unsigned flags), (pool, flags))                       \
    X(int, pool_reset, (berth_pool * pool, unsigned flags), (pool, flags))                         \
    X(const char *, pool_name, (const berth_pool *pool), (pool))                                   \
    X(berth_pool *, pool_find, (const char *name), (name))                                         \
    X(berth_pool *, pool_of, (const void *block), (block))                                         \
    X(void *, alloc, (berth_pool * pool, size_t size), (pool, size))                               \
    X(void *, alloc_flags, (berth_pool * pool, size_t size, unsigned flags), (pool, size, flags))  \
    X(void *, alloc_aligned, (berth_pool * pool, size_t alignment, size_t size),                   \
      (pool, alignment, size))                                                                     \
    X(size_t, alloc_batch, (berth_pool * pool, size_t size, size_t count, void **blocks),          \
      (pool, size, count, blocks))                                                                 \
    X(void, free, (void *block), (block))                                                          \
    X(void, free_batch, (void *const *blocks, size_t count), (blocks, count))                      \
    X(void, free_sized, (void *block, size_t size), (block, size))                                 \
    X(void *, realloc, (berth_pool * pool, void *block, size_t size), (pool, block, size))         \
    X(size_t, usable_size, (const void *block), (block))                                           \
    X(size_t, good_size, (size_t size), (size))                                                    \
    X(void *, map_file, (berth_pool * pool, int fd, int64_t offset, size_t length, bool writable), \
      (pool, fd, offset, length, writable))                                                        \
    X(size_t, trim, (berth_pool * pool), (pool))                                                   \
    X(void, thread_idle, (void), ())                                                               \
    X(void, thread_flush, (void), ())                                                              \
    X(int, limit_set, (uint64_t bytes), (bytes))                                                   \
    X(uint64_t, limit_get, (void), ())                                                             \
    X(uint64_t, limit_used, (void), ())                                                            \
    X(int, pool_limit_set, (berth_pool * pool, uint64_t bytes), (pool, bytes))                     \
    X(uint64_t, pool_limit_get, (const berth_pool *pool), (pool))                                  \
    X(uint64_t, pool_limit_used, (const berth_pool *pool), (pool))                                 \
    X(int, limit_reserve, (size_t bytes), (bytes))                                                 \
    X(void, limit_release, (size_t bytes), (bytes))                                                \
    X(int, pressure_add, (berth_pressure_callback * callback, void *context, unsigned flags),      \
      (callback, context, flags))                                                                  \
    X(int, pressure_remove, (berth_pressure_callback * callback, void *context),                   \
      (callback, context))                                                                         \
    X(int, metrics_read, (struct berth_process_metrics * metrics, size_t size), (metrics, size))   \
    X(int, metrics_read_pool,                                                                      \
      (const berth_pool *pool, struct berth_pool_metrics *metrics, size_t size),                   \
      (pool, metrics, size))                                                                       \
    X(int, metrics_read_arena,                                                                     \
      (const berth_pool *pool, unsigned index, struct berth_arena_metrics *metrics, size_t size),  \
      (pool, index, metrics, size))                                                                \
    X(int, metrics_read_class,                                                                     \
      (const berth_pool *pool, unsigned index, struct berth_class_metrics *metrics, size_t size),  \
      (pool, index, metrics, size))                                                                \
    X(int, metrics_write,                                                                          \
      (enum berth_metrics_format format, unsigned levels, berth_metrics_sink *sink,                \
       void *context),                                                                             \
      (format, levels, sink, context))                                                             \
    X(int, metrics_write_fd, (int fd, enum berth_metrics_format format, unsigned levels),          \
      (fd, format, levels))                                                                        \
    X(const char *, version, (void), ())                                                           \
    X(bool, pool_is_one_thread, (const berth_pool *pool), (pool))                                  \
    X(bool, extend, (void *block, size_t size), (block, size))                                     \
    X(void, pin, (const void *block), (block))                                                     \
    X(void, unpin, (const void *block), (block))                                                   \
    X(void, pool_free, (berth_pool * pool, void *block), (pool, block))                            \
    X(void, pool_hook_end, (berth__pool_end_hook * hook), (hook))                                  \
    X(uint64_t, pool_io_changes, (berth_pool * pool), (pool))                                      \
    X(size_t, pool_io_list, (berth_pool * pool, struct berth__io_chunk * chunks, size_t capacity), \
      (pool, chunks, capacity))                                                                    \
    X(int, pool_io_hold, (berth_pool * pool, void *at), (pool, at))                                \
    X(void, pool_io_let_go, (void *at), (at))                                                      \
    X(bool, pool_flight_begin, (berth_pool * pool, uint64_t bytes), (pool, bytes))                 \
    X(void, pool_flight_end, (berth_pool * pool, uint64_t bytes), (pool, bytes))                   \
    X(int, pool_memfd, (berth_pool * pool, const void **at, size_t *bytes), (pool, at, bytes))     \
    X(void, gauge_add, (unsigned gauge, int64_t more), (gauge, more))                              \
    X(int, metrics_read_tag, (const char *tag, struct berth_tag_metrics *metrics, size_t size),    \
      (tag, metrics, size))                                                                        \
    X(int, metrics_read_slow, (const char *path, struct berth_slow_metrics *metrics, size_t size), \
      (path, metrics, size))                                                                       \
    X(int, tag_push, (const char *name), (name))                                                   \
    X(int, tag_pop, (void), ())                                                                    \
    X(int, event_add, (unsigned kinds, berth_event_callback *callback, void *context),             \
      (kinds, callback, context))                                                                  \
    X(int, event_remove, (berth_event_callback * callback, void *context), (callback, context))    \
    X(int, soft_limit_set, (uint64_t bytes), (bytes))                                              \
    X(uint64_t, soft_limit_get, (void), ())                                                        \
    X(void *, pool_alloc_described,                                                                \
      (berth_pool * pool, size_t size, struct berth__described * described),                       \
      (pool, size, described))                                                                     \
    X(void, pool_free_described, (berth_pool * pool, void *record, void *block),                   \
      (pool, record, block))

/* In the table, but in no public header and not exported: there is one hook, of buffers; and what
 * they and sockets count (pool/gauge.h). */
void berth_pool_hook_end(berth__pool_end_hook *hook);
void berth_gauge_add(unsigned gauge, int64_t more);

/* A block and a record for it, of BERTH_DESCRIBED_BYTES: the record, or NULL with errno if there is
 * no memory for both. The thread's cache is looked for once. */
void *berth_pool_alloc_described(berth_pool *pool, size_t size, struct berth__described *described);
/* As berth_pool_free of the record, then of the block. */
void berth_pool_free_described(berth_pool *pool, void *record, void *block);

/* Chunks of a pool with the option io, for rings of io_uring that register them (heap/io.h). How
 * often they changed: 0 in other pools, whose lists are empty. */
uint64_t berth_pool_io_changes(berth_pool *pool);
size_t berth_pool_io_list(berth_pool *pool, struct berth__io_chunk *chunks, size_t capacity);
/* 0, -ENOENT (no chunk of the pool begins there), or -EOWNERDEAD. */
int berth_pool_io_hold(berth_pool *pool, void *at);
void berth_pool_io_let_go(void *at);

/* Bytes that the kernel holds of what senders of a pool sent, if that is bounded (the option
 * in_flight). False: it holds too many; nothing is counted then. */
bool berth_pool_flight_begin(berth_pool *pool, uint64_t bytes);
void berth_pool_flight_end(berth_pool *pool, uint64_t bytes);

/* The descriptor of the memfd that a pool lives on, and where that is mapped; -ENOTSUP if on none,
 * or -EOWNERDEAD. */
int berth_pool_memfd(berth_pool *pool, const void **at, size_t *bytes);

/* What this copy of the engine does for each call. */
#define BERTH_X(result, name, parameters, arguments) result berth__do_##name parameters;
BERTH_PUBLIC_CALLS(BERTH_X)
#undef BERTH_X

/* Grows at its end only; a change of what is there is a new ABI. */
enum { BERTH_ENGINE_ABI = 1 };

struct berth__engine_table {
    uint32_t abi;
    uint32_t size; /* bytes of the table */
    uint32_t door; /* 1: the malloc door's */
    uint32_t unused;
#define BERTH_X(result, name, parameters, arguments) result(*name) parameters;
    BERTH_PUBLIC_CALLS(BERTH_X)
#undef BERTH_X
};

/* This copy's table, exported by both libraries under one name, so that each finds the other's. */
BERTH_EXPORT extern const struct berth__engine_table berth_engine;

/* What a table of this copy's calls holds. */
#define BERTH_ENGINE_ENTRY_(result, name, parameters, arguments) .name = berth__do_##name,
#define BERTH_ENGINE_TABLE                                                                         \
    {                                                                                              \
        .abi = BERTH_ENGINE_ABI, .size = sizeof(struct berth__engine_table), .door = BERTH_DOOR,   \
        BERTH_PUBLIC_CALLS(BERTH_ENGINE_ENTRY_)                                                    \
    }

/* Only the door has this one (malloc/engine.c). libberth refers to it weakly, so that a program
 * that is linked to both, to the door statically, exports it. */
BERTH_EXPORT extern const struct berth__engine_table berth_door_engine
#if !BERTH_DOOR
    __attribute__((weak))
#endif
    ;

#endif
