/*
 * Allocating and freeing anything: the slow paths above the caches, and the ladder.
 *
 * A request is served by the first of these that can:
 *   1. the thread's cache or the CPU's cache of runs;
 *   2. free memory of its arena;
 *   3. memory newly taken from the ledger;
 * and if the ledger refuses, by the ladder (reclaim.c): everything of the engine that holds free
 * memory gives it up, the application is asked, and then the request may wait.
 */
#ifndef BERTH_HEAP_REQUEST_H
#define BERTH_HEAP_REQUEST_H

#include "heap/cache.h"

enum berth__request_flags {
    BERTH_REQUEST_ZERO = 1,    /* the block must read as zero */
    BERTH_REQUEST_NOWAIT = 2,  /* no waiting at the limit */
    BERTH_REQUEST_RESERVE = 4, /* may use the reserve of the limit */
    BERTH_REQUEST_MALLOC = 8,  /* from the malloc door: only callbacks that are safe there */
};

struct berth__request {
    struct berth__arenas *arenas;
    size_t size;       /* bytes asked for */
    size_t alignment;  /* power of two; 16 or less for ordinary blocks */
    unsigned flags;    /* enum berth__request_flags */
    const void *frame; /* of the program's call, where its stack is read from; or NULL */
};

/* Allocates; NULL when there is no memory. Makes system calls, may call callbacks, may wait. */
BERTH_NOINLINE void *berth__request_serve(const struct berth__request *request);

/* How a request may charge the ledger (enum berth__charge). */
unsigned berth__request_charge_flags(const struct berth__request *request);

/* Frees any block, in any thread. NULL is allowed. */
BERTH_NOINLINE void berth__block_free(void *block);

/* Usable bytes of a block; stops the process if it is none. */
size_t berth__block_size(const void *block);

/* Makes a block hold `size` bytes where it lies; false if that cannot be, and nothing changed. */
bool berth__block_resize(void *block, size_t size);

/* The same for a request, whose size counts, and of which a profile is told. */
bool berth__block_extend(void *block, struct berth__request *request);

/* Makes a block hold request->size bytes, moving it if need be, with its content; NULL: there is no
 * memory, and the block is as it was. */
void *berth__block_realloc(void *block, const struct berth__request *request);

/* The arenas of the pool that a block is of; NULL if it is no block. */
struct berth__arenas *berth__block_arenas(const void *block);

/* ---- parts; each in the file of its name ---- */

/* One attempt to serve a request, without the ladder. `anywhere`: from any arena of the pool. */
typedef void *berth__attempt(const struct berth__request *request, unsigned charge_flags,
                             bool anywhere);

void *berth__small_attempt(const struct berth__request *request, unsigned charge_flags,
                           bool anywhere);
/* A block from a heap, past all caches; NULL as in berth__heap_lend_locked. */
void *berth__heap_lend_one(struct berth__heap *heap, unsigned small_class, bool anywhere);

void *berth__run_attempt(const struct berth__request *request, unsigned charge_flags,
                         bool anywhere);
void *berth__huge_attempt(const struct berth__request *request, unsigned charge_flags,
                          bool anywhere);

void berth__run_free(void *block);
void berth__huge_free(void *block);
bool berth__huge_resize(void *block, size_t size);
/* Makes a huge block longer, where it lies or elsewhere: *block is where it is then, and *mapped
 * the bytes that were mapped for it. -ENOMEM, or -ENOTSUP if it must be copied; nothing has changed
 * then. */
int berth__huge_grow(void **block, size_t size, unsigned charge_flags, size_t *mapped);
/* In the child of a fork that cut off a change of the list of a pool's huge blocks. */
void berth__huge_mend_in_child(struct berth__arenas *arenas);

/* The arena that serves the calling thread; NULL if there is no memory for one. */
struct berth__arena *berth__arena_of_thread(struct berth__arenas *arenas);

/* Maps a part of a file as a block. 0 or -errno. */
struct berth__file {
    int fd;
    int64_t offset; /* whole pages */
    bool writable;
};
int berth__file_map(struct berth__arenas *arenas, const struct berth__file *file, size_t length,
                    unsigned charge_flags, void **block);

/* Bytes of the normal block; stops the process if it is none. */
size_t berth__run_bytes(const void *block);
bool berth__run_resize(void *block, size_t size);

/* The CPUs' caches of normal blocks, by class. The latest block of a class that this CPU's cache
 * has, or NULL. */
void *berth__run_cache_pop(struct berth__arenas *arenas, unsigned normal_class);

/* Caches a parked block of the arena's. False if the cache is busy, or the block too large for it.
 * The second is for what lay in a thread's stash, which has counted it, and looks after what is due
 * itself. */
bool berth__run_cache_push(struct berth__arena *arena, void *block, unsigned normal_class);
bool berth__run_cache_push_stashed(void *block, unsigned normal_class);

/* Gives a parked block back to its arena; freed: 1 if no cache has counted it as freed, else 0. */
void berth__run_return(void *block, unsigned freed);

/* Those caches: empties them; reads them without a lock; frees them with their pool.
 */
struct berth__run_cache_counts {
    uint64_t bytes, lends, returns;
};
void berth__run_caches_flush(struct berth__arenas *arenas);
/* Takes out what was not needed for a while. Cheap when called too early. */
void berth__run_caches_trim(struct berth__arenas *arenas);
void berth__run_caches_read(struct berth__arenas *arenas, struct berth__run_cache_counts *counts);
void berth__run_caches_free(struct berth__arenas *arenas);
/* In the child of a fork that cut off a change: those whose locks are nobody's start anew. */
void berth__run_caches_mend_in_child(struct berth__arenas *arenas);
void berth__run_caches_visit_locks(struct berth__arenas *arenas,
                                   void (*visit)(struct berth__lock *lock, void *context),
                                   void *context);

/* The ladder. Tries the attempt after each step; NULL after the last. */
void *berth__reclaim(const struct berth__request *request, berth__attempt *attempt);

/* Everything the ladder's first steps do, for a trim: returns bytes given back to the kernel. */
size_t berth__reclaim_all(struct berth__arenas *arenas);

/* While a limit is exceeded because it was lowered: gives back what has become free in an arena and
 * in unused slots, as far as it is beyond the limit. `thoroughly`: chunks' ends as well. */
BERTH_NOINLINE void berth__reclaim_excess(struct berth__arena *arena, bool thoroughly);

/* Asks the application to free memory; set by the layer that knows its callbacks. One thread at a
 * time does: others wait until it has, but not beyond the deadline. */
enum berth__asked {
    BERTH_ASKED_NOBODY, /* there is nobody to ask, or it took too long */
    BERTH_ASKED,
    BERTH_ASKED_BY_ANOTHER, /* another thread had, and has finished */
};
typedef enum berth__asked berth__pressure_ask(struct berth__arenas *arenas, size_t bytes,
                                              bool from_malloc, uint64_t deadline_ns);
extern berth__pressure_ask *_Atomic berth__pressure_hook;

/* Tells the application of events; set by the layer that knows its callbacks. Under no lock. NULL
 * until then. */
struct berth__event_hooks {
    void (*soft_limit)(bool from_malloc); /* while berth__soft_due is not 0 */
    void (*failure)(struct berth__arenas *arenas, size_t bytes, bool from_malloc);
};
extern const struct berth__event_hooks *_Atomic berth__event_hooks;

/* Steps of the ladder that were taken, for the metrics. */
enum berth__ladder_step {
    BERTH_LADDER_OWN_CACHE,
    BERTH_LADDER_CACHES,
    BERTH_LADDER_PARKED,
    BERTH_LADDER_RETURN,
    BERTH_LADDER_CALLBACKS,
    BERTH_LADDER_WAIT,
    BERTH_LADDER_STEPS
};
extern _Atomic uint64_t berth__ladder_counts[BERTH_LADDER_STEPS];

#endif
