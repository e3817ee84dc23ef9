/*
 * What lies where in another process's chunks and huge blocks, page by page.
 *
 * Made of the engine's records (cli/engine_read.h) and, where the kernel tells, of which pages hold
 * memory. A process that goes on meanwhile is seen at slightly different times from slot to slot;
 * of one that stands still, the sums are those of its metrics.
 */
#ifndef BERTH_CLI_MAP_READ_H
#define BERTH_CLI_MAP_READ_H

#include "cli/engine_read.h"

/* X(name, letter, what it is): what a page of 4 KiB is. */
#define BERTH_MAP_STATES(X)                                                                        \
    X(SMALL, 'S', "small blocks in use")                                                           \
    X(PART, 'P', "small blocks, some in use")                                                      \
    X(RUN, 'N', "normal blocks in use")                                                            \
    X(HUGE, 'H', "huge blocks")                                                                    \
    X(FILE, 'M', "mapped files")                                                                   \
    X(CACHED, 'C', "in caches of threads and CPUs")                                                \
    X(FREE, 'F', "free, in slabs")                                                                 \
    X(DIRTY, 'D', "free runs with old data")                                                       \
    X(RETAINED, 'R', "retained, in use by nobody")                                                 \
    X(COLD, 'O', "free in slabs, given back or never used")                                        \
    X(CLEAN, 'E', "free runs, given back or never used")                                           \
    X(OTHER, 'X', "changing hands")

enum berth__map_state {
#define BERTH_X(name, letter, meaning) BERTH_MAP_##name,
    BERTH_MAP_STATES(BERTH_X)
#undef BERTH_X
        BERTH_MAP_STATE_COUNT
};
enum { BERTH_MAP_RESIDENT = 0x80, BERTH_MAP_STATE_MASK = 0x7f };

extern const char berth__map_letters[BERTH_MAP_STATE_COUNT + 1];
extern const char *const berth__map_meanings[BERTH_MAP_STATE_COUNT];

enum berth__map_kind {
    BERTH_MAP_A_SLAB,
    BERTH_MAP_A_RUN,
    BERTH_MAP_TWINS,
    BERTH_MAP_A_FREE_RUN,
    BERTH_MAP_A_HUGE,
    BERTH_MAP_A_FILE,
    BERTH_MAP_A_REST /* retained */,
    BERTH_MAP_UNKNOWN
};

/* Pages that belong together. */
struct berth__map_thing {
    uint32_t page, pages; /* in the stretch */
    enum berth__map_kind kind;
    unsigned small_class;               /* of a slab */
    uint32_t heap;                      /* number of its owner; of a slab */
    uint32_t live, cached, ready, cold; /* blocks: of a slab or of runs */
};

/* A chunk, a huge block, or a slot that nobody uses but is committed. */
struct berth__map_stretch {
    uint64_t at;
    uint32_t pages;            /* committed; of 4 KiB */
    uint32_t arena;            /* index */
    unsigned pool;             /* pool_count: none */
    enum berth__map_kind kind; /* A_HUGE, A_FILE, A_REST; A_SLAB for a chunk */
    bool hollow, lent;
    uint32_t pins, registrations, generation;
    uint8_t *states; /* per page: enum berth__map_state, | BERTH_MAP_RESIDENT */
    struct berth__map_thing *things;
    size_t thing_count;
};

/* Sums, named like the metrics (<berth/metrics.h>) where these have them. Bytes. */
/* clang-format off */
#define BERTH_MAP_SUMS(X)                                                                          \
    X(chunk_bytes) X(slab_lent_bytes) X(slab_cached_bytes) X(slab_free_bytes) X(slab_tail_bytes)   \
    X(run_lent_bytes) X(run_stash_bytes) X(run_cached_bytes) X(run_free_bytes) X(run_dirty_bytes)  \
    X(huge_bytes) X(file_bytes) X(retained_bytes) X(resident_bytes)
/* clang-format on */

struct berth__map_sums {
#define BERTH_X(name) uint64_t name;
    BERTH_MAP_SUMS(BERTH_X)
#undef BERTH_X
    uint64_t chunks, huge_blocks, slabs;
};

/* Who allocated what lies in [from, end), where that is known: of samples in it, or else of blocks
 * of that many bytes anywhere (0: of these only). False: it is not known. */
struct berth__map_sites {
    bool (*name)(void *context, uint64_t from, uint64_t end, uint32_t block_bytes, char *text,
                 size_t capacity);
    void *context;
};

struct berth__map {
    struct berth__seen *engine;
    struct berth__map_sites sites;        /* all zero: nobody knows; else set by who does */
    struct berth__map_stretch *stretches; /* by pool, then by address */
    size_t count, capacity;
    struct berth__map_sums *sums; /* per pool; the last one is of memory that no pool has */
    uint64_t state_pages[BERTH_MAP_STATE_COUNT], state_resident[BERTH_MAP_STATE_COUNT];
    uint64_t total_pages;
    bool knows_residency;
    const char *why;
};

/* Tells which machine pages hold memory: of `pages` from an address on, a byte each, 0 or 1. False:
 * it cannot be known. */
struct berth__residency {
    bool (*read)(void *context, uint64_t address, size_t pages, uint8_t *resident);
    void *context;
};

/* Reads it all. The engine was read, with its caches. False, with map->why; berth__map_free must
 * follow in any case. */
bool berth__map_read(struct berth__map *map, struct berth__seen *engine,
                     struct berth__residency residency);
void berth__map_free(struct berth__map *map);

/* What a thing is, in words, with its class and state: for text and for hovering. */
void berth__map_describe(const struct berth__map *map, const struct berth__map_stretch *stretch,
                         const struct berth__map_thing *thing, char *text, size_t capacity);

/* The name of the pool that has it; "" if none. */
const char *berth__map_pool_name(const struct berth__map *map, unsigned pool);

#endif
