/*
 * The engine: one per process, made by the first call that needs memory.
 */
#ifndef BERTH_HEAP_ENGINE_H
#define BERTH_HEAP_ENGINE_H

#include "heap/cache.h"

enum { BERTH_POOLS_MAX = 1024 };

/* What the engine starts with; see the table of options. */
struct berth__engine_config {
    size_t reserve_bytes;        /* addresses of the primary span; 0: as much as can be had */
    size_t page_bytes;           /* 0: the machine's */
    uint64_t cache_bytes;        /* budget of all threads' caches; 0: by the number of CPUs */
    struct berth__policy policy; /* of the default pool */
};

/* Starts the engine if it does not run yet. Any thread; false if there is no memory for it. The
 * hook below is asked for the configuration. */
bool berth__engine_start(void);

/* Fills in the configuration before the engine starts; set by the layer that reads options. */
extern void (*berth__engine_configure)(struct berth__engine_config *config);

/* The arenas of the pool with this number; NULL if there is none. Number 0 is the default pool's.
 */
struct berth__arenas *berth__engine_arenas(unsigned number);

extern _Atomic(struct berth__arenas *) berth__engine_default;

/* The default pool's; NULL before the engine runs. */
BERTH_INLINE struct berth__arenas *berth__default_arenas(void) {
    return berth__load_acquire(&berth__engine_default);
}

/* Adds a pool's arenas under the lowest free number; NULL if there is no memory, or no number. */
struct berth__arenas *berth__engine_add(const struct berth__policy *policy);
void berth__engine_remove(uint32_t number);
bool berth__engine_is_full(void);
/* The lock under which the engine starts, and that of the table of pools; for fork. */
struct berth__lock *berth__engine_start_lock(void);
struct berth__lock *berth__engine_lock(void);
/* A serial that no pool had. */
uint64_t berth__engine_next_serial(void);

#endif
