/*
 * Metrics: what the memory is doing, in figures.
 *
 * Each metric is declared once, in a table below; the structures, the text, JSON and OpenMetrics
 * forms and docs/metrics.md come from it. Reading takes no lock, allocates nothing, and may be done
 * in a signal handler.
 *
 * What balances. At rest (no other thread allocates or frees, this one has flushed its cache):
 *   chunk_bytes = slab_lent_bytes + remote_bytes + slab_free_bytes + slab_tail_bytes
 *               + run_lent_bytes + run_cached_bytes + run_free_bytes
 *   mapped_bytes = chunk_bytes + huge_bytes + file_bytes + retained_bytes + metadata_bytes
 *   limit_used_bytes = chunk_bytes + huge_bytes + file_bytes + retained_bytes + reserved_bytes
 *   live_low_bytes = live_high_bytes = slab_lent_bytes + run_lent_bytes + huge_bytes + file_bytes
 * While threads run, what the program holds lies between live_low_bytes and live_high_bytes: blocks
 * in thread caches are lent, but not in use. Memory that a pool was given by its creator is in that
 * pool's figures and not in the process's.
 *
 * Counters of the process and of tags go on when a pool is destroyed or reset; those of a pool that
 * is reset begin anew.
 */
#ifndef BERTH_METRICS_H
#define BERTH_METRICS_H

#include <berth/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The metrics of the process, as X(name, kind, unit, help).
 *
 * kind: GAUGE goes up and down, COUNTER only up, BUCKET is of a histogram. unit: BYTES or NONE.
 * Tables grow at their ends only, so that a structure's fields keep their places.
 */
#define BERTH_PROCESS_METRICS(X)                                                                   \
    X(limit_bytes, GAUGE, BYTES, "Limit on mapped memory; the largest number if there is none.")   \
    X(limit_used_bytes, GAUGE, BYTES, "Bytes charged to the limit.")                               \
    X(limit_peak_bytes, GAUGE, BYTES, "The most that was charged to the limit at once.")           \
    X(limit_refusals, COUNTER, NONE,                                                               \
      "Charges that the limit refused, before memory was reclaimed.")                              \
    X(mapped_bytes, GAUGE, BYTES, "Mapped by berth, usable: all kinds, metadata included.")        \
    X(chunk_bytes, GAUGE, BYTES, "Mapped in chunks.")                                              \
    X(huge_bytes, GAUGE, BYTES, "Mapped in huge blocks.")                                          \
    X(file_bytes, GAUGE, BYTES, "Mapped files.")                                                   \
    X(retained_bytes, GAUGE, BYTES, "Mapped in address space that nobody uses; goes back first.")  \
    X(metadata_bytes, GAUGE, BYTES, "Mapped for berth's own records; not charged to the limit.")   \
    X(reserved_bytes, GAUGE, BYTES, "Counted for memory mapped elsewhere (berth_limit_reserve).")  \
    X(live_low_bytes, GAUGE, BYTES, "At least this much is held by the program, at block sizes.")  \
    X(live_high_bytes, GAUGE, BYTES, "At most this much is held by the program, at block sizes.")  \
    X(cache_budget_bytes, GAUGE, BYTES, "What all thread caches together may hold.")               \
    X(cache_granted_bytes, GAUGE, BYTES, "The part of the budget that threads have taken.")        \
    X(allocations, COUNTER, NONE, "Blocks allocated, those served by caches included.")            \
    X(frees, COUNTER, NONE, "Blocks freed, those taken by caches included.")                       \
    X(failures, COUNTER, NONE, "Requests that failed.")                                            \
    X(ladder_own_cache, COUNTER, NONE, "Reclaims: the caller's own cache was emptied.")            \
    X(ladder_caches, COUNTER, NONE, "Reclaims: shared caches and remote frees were collected.")    \
    X(ladder_parked, COUNTER, NONE, "Reclaims: caches of idle threads were emptied.")              \
    X(ladder_return, COUNTER, NONE, "Reclaims: unused mapped memory was unmapped.")                \
    X(ladder_callbacks, COUNTER, NONE, "Reclaims: pressure callbacks were asked.")                 \
    X(ladder_waits, COUNTER, NONE, "Reclaims: the request waited for memory.")                     \
    X(pools, GAUGE, NONE, "Pools, the default one included.")                                      \
    X(mappings, GAUGE, NONE, "Mappings that the kernel keeps for berth's memory, at most.")        \
    X(pinned_blocks, GAUGE, NONE, "Pins of blocks that the kernel may be using.")                  \
    X(pinned_bytes, GAUGE, BYTES, "In slices that are pinned, each pin counted.")                  \
    X(in_flight_bytes, GAUGE, BYTES,                                                               \
      "Given to the kernel without copying, and not given back yet.")                              \
    X(returning_bytes, GAUGE, BYTES,                                                               \
      "Charged to the limit, unused, and registered with rings, which were asked for them.")       \
    X(sample_bytes, GAUGE, BYTES, "Mean distance of the heap profile's samples; 0: none.")         \
    X(sampled_blocks, GAUGE, NONE, "Samples that live.")                                           \
    X(samples, COUNTER, NONE, "Samples taken.")                                                    \
    X(samples_left_out, COUNTER, NONE, "Samples for which the profile's tables had no room.")      \
    X(slices_held_bytes, GAUGE, BYTES,                                                             \
      "Memory that slices and buffers keep: an estimate, made while leak_detect is on.")           \
    X(slices_viewed_bytes, GAUGE, BYTES,                                                           \
      "Of that, what they view. Small slices that keep large blocks make it much less.")

/** The metrics of a pool. Sums over its arenas, and what belongs to no arena. */
#define BERTH_POOL_METRICS(X)                                                                      \
    X(limit_bytes, GAUGE, BYTES, "The pool's own limit; the largest number if it has none.")       \
    X(limit_used_bytes, GAUGE, BYTES, "Charged to the pool's own limit; 0 if it has none.")        \
    X(count, GAUGE, NONE, "Blocks that the program holds, as far as settled.")                     \
    X(used_bytes, GAUGE, BYTES, "What the program holds, at block sizes: live_high_bytes.")        \
    X(capacity_bytes, GAUGE, BYTES, "Mapped for the pool: chunks, huge blocks, files.")            \
    X(live_low_bytes, GAUGE, BYTES, "At least this much is held by the program.")                  \
    X(live_high_bytes, GAUGE, BYTES, "At most this much is held by the program.")                  \
    X(chunk_bytes, GAUGE, BYTES, "In chunks.")                                                     \
    X(huge_bytes, GAUGE, BYTES, "In huge blocks.")                                                 \
    X(huge_blocks, GAUGE, NONE, "Huge blocks.")                                                    \
    X(file_bytes, GAUGE, BYTES, "Mapped files.")                                                   \
    X(slab_lent_bytes, GAUGE, BYTES, "Small blocks that are with threads.")                        \
    X(remote_bytes, GAUGE, BYTES, "Small blocks freed elsewhere, on their way home.")              \
    X(slab_free_bytes, GAUGE, BYTES, "Free small blocks.")                                         \
    X(slab_tail_bytes, GAUGE, BYTES, "Ends of slabs, too short for a block.")                      \
    X(run_lent_bytes, GAUGE, BYTES, "Normal blocks that the program holds.")                       \
    X(run_cached_bytes, GAUGE, BYTES, "Normal blocks in CPU caches.")                              \
    X(run_free_bytes, GAUGE, BYTES, "Free page runs in chunks.")                                   \
    X(run_dirty_bytes, GAUGE, BYTES, "Of those, what still holds old data.")                       \
    X(arenas, GAUGE, NONE, "Arenas.")                                                              \
    X(heaps, GAUGE, NONE, "Heaps: owners of slabs.")                                               \
    X(threads, GAUGE, NONE, "Threads that have a cache of the pool.")                              \
    X(allocations, COUNTER, NONE, "Blocks allocated, those served by caches included.")            \
    X(frees, COUNTER, NONE, "Blocks freed, those taken by caches included.")                       \
    X(failures, COUNTER, NONE, "Requests that failed.")                                            \
    X(waits, COUNTER, NONE, "Requests that waited for memory.")                                    \
    X(wait_failures, COUNTER, NONE, "Requests that waited in vain.")                               \
    X(refills, COUNTER, NONE, "Times that a thread cache took blocks from a heap.")                \
    X(flushes, COUNTER, NONE, "Times that a thread cache gave blocks back.")                       \
    X(remote_batches, COUNTER, NONE, "Batches of remote frees taken in.")                          \
    X(remote_frees, COUNTER, NONE, "Blocks in those.")                                             \
    X(slabs_made, COUNTER, NONE, "Slabs cut from chunks.")                                         \
    X(slabs_returned, COUNTER, NONE, "Slabs given back.")                                          \
    X(chunk_maps, COUNTER, NONE, "Times that chunk memory was mapped.")                            \
    X(chunk_unmaps, COUNTER, NONE, "Chunks given back.")                                           \
    X(purged_bytes, COUNTER, BYTES, "Unused memory inside chunks that went back to the kernel.")   \
    X(purges, COUNTER, NONE, "System calls for that.")                                             \
    X(contended, COUNTER, NONE, "Times that a lock was found taken.")

/** The metrics of one arena of a pool. */
#define BERTH_ARENA_METRICS(X)                                                                     \
    X(node, GAUGE, NONE, "NUMA node of its chunks; the largest number if any.")                    \
    X(chunks, GAUGE, NONE, "Chunks.")                                                              \
    X(chunk_bytes, GAUGE, BYTES, "In chunks.")                                                     \
    X(slabs, GAUGE, NONE, "Slabs.")                                                                \
    X(slab_lent_bytes, GAUGE, BYTES, "Small blocks that are with threads.")                        \
    X(remote_bytes, GAUGE, BYTES, "Small blocks freed elsewhere, on their way home.")              \
    X(slab_free_bytes, GAUGE, BYTES, "Free small blocks.")                                         \
    X(slab_tail_bytes, GAUGE, BYTES, "Ends of slabs, too short for a block.")                      \
    X(run_lent_bytes, GAUGE, BYTES, "Normal blocks, those in CPU caches included.")                \
    X(run_free_bytes, GAUGE, BYTES, "Free page runs in chunks.")                                   \
    X(run_dirty_bytes, GAUGE, BYTES, "Of those, what still holds old data.")                       \
    X(heaps, GAUGE, NONE, "Heaps: owners of slabs.")                                               \
    X(purged_bytes, COUNTER, BYTES, "Unused memory that went back to the kernel.")                 \
    X(contended, COUNTER, NONE, "Times that a lock was found taken.")

/** The metrics of one class of small blocks, over all arenas of a pool. */
#define BERTH_CLASS_METRICS(X)                                                                     \
    X(size_bytes, GAUGE, BYTES, "Size of a block.")                                                \
    X(slabs, GAUGE, NONE, "Slabs of the class.")                                                   \
    X(lent_blocks, GAUGE, NONE, "Blocks that are with threads.")                                   \
    X(free_blocks, GAUGE, NONE, "Free blocks in slabs.")                                           \
    X(allocations, COUNTER, NONE, "Blocks allocated.")                                             \
    X(frees, COUNTER, NONE, "Blocks freed, as far as their heaps took them home.")

/**
 * The metrics of a tag (tag.h), over its scopes and the pools that have it.
 *
 * What the program holds lies between live_low_bytes and live_high_bytes; when all threads have
 * flushed their caches, both are exact.
 */
#define BERTH_TAG_METRICS(X)                                                                       \
    X(live_low_bytes, GAUGE, BYTES, "At least this much is held by the program, at block sizes.")  \
    X(live_high_bytes, GAUGE, BYTES, "At most this much is held by the program, at block sizes.")  \
    X(peak_bytes, GAUGE, BYTES,                                                                    \
      "The most that live_high_bytes was, as often as somebody looked, as the stats page does.")   \
    X(count, GAUGE, NONE, "Blocks that the program holds, as far as settled.")                     \
    X(allocations, COUNTER, NONE, "Blocks allocated, those served by caches included.")            \
    X(frees, COUNTER, NONE, "Blocks freed, those taken by caches included.")                       \
    X(failures, COUNTER, NONE, "Requests that failed.")                                            \
    X(capacity_bytes, GAUGE, BYTES, "Mapped for it: chunks, huge blocks, files.")                  \
    X(pools, GAUGE, NONE, "Pools that are accounted to it, the one of its scopes included.")

/**
 * How long a slow path took: a histogram. docs/metrics.md lists the paths.
 */
#define BERTH_SLOW_METRICS(X)                                                                      \
    X(count, COUNTER, NONE, "How often it was taken.")                                             \
    X(total_ns, COUNTER, NONE, "What that took altogether, in nanoseconds.")                       \
    X(within_512_ns, BUCKET, NONE, "Took up to 512 ns.")                                           \
    X(within_1024_ns, BUCKET, NONE, "Took up to 1024 ns, and more than half of that.")             \
    X(within_2048_ns, BUCKET, NONE, "Took up to 2048 ns, and more than half of that.")             \
    X(within_4096_ns, BUCKET, NONE, "Took up to 4096 ns, and more than half of that.")             \
    X(within_8192_ns, BUCKET, NONE, "Took up to 8192 ns, and more than half of that.")             \
    X(within_16384_ns, BUCKET, NONE, "Took up to 16384 ns, and more than half of that.")           \
    X(within_32768_ns, BUCKET, NONE, "Took up to 32768 ns, and more than half of that.")           \
    X(within_65536_ns, BUCKET, NONE, "Took up to 65536 ns, and more than half of that.")           \
    X(within_131072_ns, BUCKET, NONE, "Took up to 131072 ns, and more than half of that.")         \
    X(within_262144_ns, BUCKET, NONE, "Took up to 262144 ns, and more than half of that.")         \
    X(within_524288_ns, BUCKET, NONE, "Took up to 524288 ns, and more than half of that.")         \
    X(within_1048576_ns, BUCKET, NONE, "Took up to 1048576 ns, and more than half of that.")       \
    X(within_2097152_ns, BUCKET, NONE, "Took up to 2097152 ns, and more than half of that.")       \
    X(within_4194304_ns, BUCKET, NONE, "Took up to 4194304 ns, and more than half of that.")       \
    X(within_8388608_ns, BUCKET, NONE, "Took up to 8388608 ns, and more than half of that.")       \
    X(within_16777216_ns, BUCKET, NONE, "Took up to 16777216 ns, and more than half of that.")     \
    X(within_33554432_ns, BUCKET, NONE, "Took up to 33554432 ns, and more than half of that.")     \
    X(within_67108864_ns, BUCKET, NONE, "Took up to 67108864 ns, and more than half of that.")     \
    X(within_134217728_ns, BUCKET, NONE, "Took up to 134217728 ns, and more than half of that.")   \
    X(within_268435456_ns, BUCKET, NONE, "Took up to 268435456 ns, and more than half of that.")   \
    X(within_536870912_ns, BUCKET, NONE, "Took up to 536870912 ns, and more than half of that.")   \
    X(within_1073741824_ns, BUCKET, NONE, "Took up to 1073741824 ns, and more than half of that.") \
    X(within_2147483648_ns, BUCKET, NONE, "Took up to 2147483648 ns, and more than half of that.") \
    X(within_4294967296_ns, BUCKET, NONE, "Took up to 4294967296 ns, and more than half of that.") \
    X(beyond, BUCKET, NONE, "Took longer.")

#define BERTH_METRIC_FIELD_(name, kind, unit, help) uint64_t name;

/** The figures, each a field with its metric's name, in the order of the tables. */
struct berth_process_metrics {
    BERTH_PROCESS_METRICS(BERTH_METRIC_FIELD_)
};
struct berth_pool_metrics {
    BERTH_POOL_METRICS(BERTH_METRIC_FIELD_)
};
struct berth_arena_metrics {
    BERTH_ARENA_METRICS(BERTH_METRIC_FIELD_)
};
struct berth_class_metrics {
    BERTH_CLASS_METRICS(BERTH_METRIC_FIELD_)
};
struct berth_tag_metrics {
    BERTH_TAG_METRICS(BERTH_METRIC_FIELD_)
};
struct berth_slow_metrics {
    BERTH_SLOW_METRICS(BERTH_METRIC_FIELD_)
};

#undef BERTH_METRIC_FIELD_

/**
 * Reads the figures of the process.
 *
 * size: sizeof(*metrics), so that a program built with other tables is served what it knows.
 * Units: as the names say. Errors: -EINVAL for NULL. Threads: any. Blocks: wait-free; takes
 * time by the number of pools, arenas and heaps. Since: 0.1.
 */
BERTH_API int berth_metrics_read(struct berth_process_metrics *metrics, size_t size);

/** The same for a pool. Errors: -EINVAL for NULLs. Since: 0.1. */
BERTH_API int berth_metrics_read_pool(const berth_pool *pool, struct berth_pool_metrics *metrics,
                                      size_t size);

/** The same for the index-th arena of a pool. Errors: -EINVAL for NULLs, -ENOENT: there are fewer.
 * Since: 0.1. */
BERTH_API int berth_metrics_read_arena(const berth_pool *pool, unsigned index,
                                       struct berth_arena_metrics *metrics, size_t size);

/**
 * The same for the index-th small class of a pool, in ascending size.
 *
 * Errors: -EINVAL for NULLs, -ENOENT: there are fewer classes. Since: 0.1.
 */
BERTH_API int berth_metrics_read_class(const berth_pool *pool, unsigned index,
                                       struct berth_class_metrics *metrics, size_t size);

/** The same for a tag. Errors: -EINVAL for NULLs, -ENOENT: there is no such tag. Since: 0.1. */
BERTH_API int berth_metrics_read_tag(const char *tag, struct berth_tag_metrics *metrics,
                                     size_t size);

/** The same for a slow path, by the name that it has in docs/metrics.md. Errors: -EINVAL for NULLs,
 * -ENOENT. Blocks: wait-free. Since: 0.1. */
BERTH_API int berth_metrics_read_slow(const char *path, struct berth_slow_metrics *metrics,
                                      size_t size);

/** How berth_metrics_write writes. */
enum berth_metrics_format {
    BERTH_METRICS_TEXT,       /* for people */
    BERTH_METRICS_JSON,       /* one object */
    BERTH_METRICS_OPENMETRICS /* OpenMetrics 1.0, as Prometheus reads it */
};

/** What to write besides the process's figures; combine with |. */
enum {
    BERTH_METRICS_POOLS = 1,   /* each pool */
    BERTH_METRICS_ARENAS = 2,  /* the arenas of each pool */
    BERTH_METRICS_CLASSES = 4, /* the classes of each pool that were ever used */
    BERTH_METRICS_TAGS = 8,    /* each tag */
    BERTH_METRICS_SLOW = 16,   /* how long slow paths took */
    BERTH_METRICS_ALL = 31     /* all of these */
};

/** Takes the next piece of text, of `length` bytes without a final zero; it may be cut anywhere. */
typedef void berth_metrics_sink(void *context, const char *text, size_t length);

/**
 * Writes the metrics through a sink.
 *
 * Errors: -EINVAL for an unknown format or level, -ENOMEM if there is no memory for a snapshot of
 * all pools. Threads: any; the sink runs on the caller's. Blocks: may make system calls. Since:
 * 0.1.
 */
BERTH_API int berth_metrics_write(enum berth_metrics_format format, unsigned levels,
                                  berth_metrics_sink *sink, void *context);

/** The same to a file descriptor. Errors: also those of write. Since: 0.1. */
BERTH_API int berth_metrics_write_fd(int fd, enum berth_metrics_format format, unsigned levels);

#ifdef __cplusplus
}
#endif

#endif
