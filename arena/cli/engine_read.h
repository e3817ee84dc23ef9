/*
 * An engine in another process, seen through its memory: pools, classes, thread caches.
 *
 * The stats page says where its records lie and how they are laid out (metrics/layout_format.h).
 * They change while they are read, and may be anything: every number is compared with what it may
 * be, every loop and every allocation has a bound, and what makes no sense is left out and counted.
 */
#ifndef BERTH_CLI_ENGINE_READ_H
#define BERTH_CLI_ENGINE_READ_H

#include "cli/page_read.h"
#include "metrics/layout_format.h"

/* How memory is read: false if it is not all there. */
struct berth__memory {
    bool (*read)(void *context, uint64_t address, void *to, size_t bytes);
    void *context;
};

struct berth__seen_class {
    uint32_t size, blocks, words;
};

struct berth__seen_pool {
    uint64_t arenas; /* its address there; 0: there is no pool of this number */
    char name[BERTH_ROW_POOL_BYTES];
};

/* A thread's cache of a pool. */
struct berth__seen_cache {
    uint64_t owner; /* the thread's pointer */
    uint32_t pool, heap;
    bool owns_heap, parked;
    uint64_t granted_bytes, cached_bytes, cached_blocks;
    uint64_t stash_bytes, stash_blocks;   /* normal blocks */
    uint64_t remote_bytes, remote_blocks; /* of others' heaps, not sent home yet */
};

struct berth__seen {
    struct berth__memory memory;
    uint64_t layout[BERTH_LAYOUT_COUNT];
    struct berth__seen_class *classes;
    unsigned class_count;
    struct berth__seen_pool *pools;
    unsigned pool_count;
    struct berth__seen_cache *caches;
    size_t cache_count, cache_capacity;
    uint64_t *cached; /* addresses of the blocks in them, ascending */
    size_t cached_count, cached_capacity;
    uint64_t torn;   /* records that made no sense */
    const char *why; /* if it cannot be read */
};

/* Reads pools and classes. False, with engine->why; berth__seen_close must follow in any case. */
bool berth__seen_read(struct berth__seen *engine, const struct berth__stats *stats,
                      struct berth__memory memory);

/* Reads the caches of all threads, and the addresses of the blocks in them. False: no memory. */
bool berth__seen_read_caches(struct berth__seen *engine);
void berth__seen_close(struct berth__seen *engine);

/* Addresses that are reserved in spans. */
uint64_t berth__seen_reserved(const struct berth__seen *engine);

/* The number of a pool by the address of its arenas; pool_count if there is none. */
unsigned berth__seen_pool_of(const struct berth__seen *engine, uint64_t arenas);

/* A number of 1, 2, 4 or 8 bytes at an address there, or in a copy of `count` bytes; `otherwise` if
 * it is not there. */
uint64_t berth__seen_number(const struct berth__seen *engine, uint64_t address, size_t bytes,
                            uint64_t otherwise);
uint64_t berth__number_in(const void *copy, size_t count, uint64_t offset, size_t bytes,
                          uint64_t otherwise);

/* How many of the cached blocks lie in [from, end); the first of them is engine->cached[*first]. */
size_t berth__seen_cached_in(const struct berth__seen *engine, uint64_t from, uint64_t end,
                             size_t *first);

#endif
