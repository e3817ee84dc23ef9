/*
 * What the tests of pools, heaps and metrics share: figures, what must balance in them, threads,
 * and patterns in blocks.
 */
#ifndef BERTH_UNIT_FIGURES_H
#define BERTH_UNIT_FIGURES_H

#include "unit.h"

#include <berth/berth.h>

#include <pthread.h>
#include <string.h>
#include <time.h>

#define MiB ((size_t)1 << 20)
#define KiB ((size_t)1 << 10)

static inline struct berth_pool_metrics figures_of(const berth_pool *pool) {
    struct berth_pool_metrics figures;
    UNIT_CHECK(berth_metrics_read_pool(pool, &figures, sizeof(figures)) == 0);
    return figures;
}

static inline struct berth_process_metrics figures(void) {
    struct berth_process_metrics all;
    UNIT_CHECK(berth_metrics_read(&all, sizeof(all)) == 0);
    return all;
}

/* What <berth/metrics.h> says holds at rest, for a pool. */
static inline void check_balance_of(const berth_pool *pool) {
    struct berth_pool_metrics p = figures_of(pool);
    UNIT_CHECK(p.chunk_bytes == p.slab_lent_bytes + p.remote_bytes + p.slab_free_bytes +
                                    p.slab_tail_bytes + p.run_lent_bytes + p.run_cached_bytes +
                                    p.run_free_bytes);
    UNIT_CHECK(p.capacity_bytes == p.chunk_bytes + p.huge_bytes + p.file_bytes);
    UNIT_CHECK(p.live_high_bytes ==
               p.slab_lent_bytes + p.run_lent_bytes + p.huge_bytes + p.file_bytes);
    UNIT_CHECK(p.live_low_bytes <= p.live_high_bytes && p.run_dirty_bytes <= p.run_free_bytes);
}

/* And for the process. */
static inline void check_balance(const berth_pool *pool) {
    check_balance_of(pool);
    struct berth_process_metrics all = figures();
    UNIT_CHECK(all.mapped_bytes == all.chunk_bytes + all.huge_bytes + all.file_bytes +
                                       all.retained_bytes + all.metadata_bytes);
    UNIT_CHECK(all.limit_used_bytes == all.chunk_bytes + all.huge_bytes + all.file_bytes +
                                           all.retained_bytes + all.reserved_bytes);
}

/* After everything was freed, by this thread or by threads that have ended or flushed. */
static inline void check_nothing_lives(berth_pool *pool) {
    berth_thread_flush();
    berth_trim(pool);
    check_balance(pool);
    struct berth_pool_metrics p = figures_of(pool);
    UNIT_CHECK(p.live_low_bytes == 0 && p.live_high_bytes == 0);
    UNIT_CHECK(p.allocations == p.frees && p.count == 0);
}

static inline pthread_t start_thread(void *(*run)(void *), void *argument) {
    pthread_t thread;
    UNIT_CHECK(pthread_create(&thread, NULL, run, argument) == 0);
    return thread;
}

static inline void join_thread(pthread_t thread) {
    UNIT_CHECK(pthread_join(thread, NULL) == 0);
}

/* Runs a function in `count` threads (at most 64) at once, each with the argument. */
static inline void run_threads(unsigned count, void *(*run)(void *), void *argument) {
    pthread_t threads[64];
    UNIT_CHECK(count <= 64);
    for (unsigned i = 0; i < count; i++) {
        threads[i] = start_thread(run, argument);
    }
    for (unsigned i = 0; i < count; i++) {
        join_thread(threads[i]);
    }
}

static inline void sleep_ms(unsigned ms) {
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

/* Allocates blocks, holds them for longer than what was put to use lately is kept, and frees them.
 * Returns how much then is unused and resident. */
static inline uint64_t unused_after_freeing(berth_pool *pool, unsigned count, size_t size) {
    enum { BLOCKS_MAX = 10000, HELD_MS = 500 };
    static void *blocks[BLOCKS_MAX];
    UNIT_CHECK(count <= BLOCKS_MAX);
    for (unsigned i = 0; i < count; i++) {
        blocks[i] = berth_alloc(pool, size);
        UNIT_CHECK(blocks[i] != NULL);
        memset(blocks[i], 1, size);
    }
    sleep_ms(HELD_MS);
    for (unsigned i = 0; i < count; i++) {
        berth_free(blocks[i]);
    }
    struct berth_pool_metrics p = figures_of(pool);
    return p.run_dirty_bytes + p.run_cached_bytes + figures().retained_bytes;
}

static inline unsigned char pattern_at(const void *block, size_t i) {
    return (unsigned char)(((uintptr_t)block >> 4) + i * 7 + 1);
}

static inline void fill(void *block, size_t size) {
    for (size_t i = 0; i < size; i++) {
        ((unsigned char *)block)[i] = pattern_at(block, i);
    }
}

/* True if the first `size` bytes are as fill() left them when the block lay at `was_at`. */
static inline bool is_filled(const void *block, const void *was_at, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (((const unsigned char *)block)[i] != pattern_at(was_at, i)) {
            return false;
        }
    }
    return true;
}

static inline bool is_zero(const void *block, size_t size) {
    const unsigned char *bytes = block;
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

#endif
