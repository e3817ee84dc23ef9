/*
 * Inside of pools: what the public calls of <berth/pool.h> work on.
 */
#ifndef BERTH_POOL_POOL_H
#define BERTH_POOL_POOL_H

#include "heap/engine.h"
#include "heap/request.h"
#include "os/memfd.h"

#include <berth/pool.h>

enum { BERTH_POOL_NAME_MAX = 31 };

struct berth_pool {
    _Atomic(struct berth__arenas *) arenas;
    struct berth_pool_options options;
    struct berth__memfd memfd;  /* of which options.memory is, if options.backing says so */
    _Atomic uint64_t in_flight; /* bytes; counted if options.in_flight bounds them */
    char name[BERTH_POOL_NAME_MAX + 1];
    berth_pool *ended_next; /* ended.h */
};

/* Starts the engine with the process's options; false if there is no memory for it. */
BERTH_NOINLINE bool berth__start_slow(void);

BERTH_INLINE bool berth__start(void) {
    return BERTH_LIKELY(berth__default_arenas() != NULL) || berth__start_slow();
}

/* What every handle of a pool that has ended refers to (ended.h). */
extern const struct berth__arenas berth__ended_arenas;

/* One line, and the end of the process. */
BERTH_NORETURN BERTH_COLD void berth__pool_has_ended(const berth_pool *pool);

/* For fast paths, which need only look whether there is a cache for their number. */
BERTH_INLINE struct berth__arenas *berth__pool_arenas_or_ended(const berth_pool *pool) {
    return berth__load_relaxed(&((berth_pool *)(uintptr_t)pool)->arenas);
}

BERTH_INLINE struct berth__arenas *berth__pool_arenas(const berth_pool *pool) {
    struct berth__arenas *arenas = berth__pool_arenas_or_ended(pool);
    if (BERTH_UNLIKELY(arenas == &berth__ended_arenas)) {
        berth__pool_has_ended(pool);
    }
    return arenas;
}

/* The pool with a number, or NULL. Valid for who uses or visits it (engine.h). */
berth_pool *berth__pool_at(unsigned number);

/* Where the table of pools is, an array of BERTH_POOLS_MAX pointers: for readers of other processes
 * (metrics/layout_format.h). */
const void *berth__pools_where(void);
/* The pool of a tag's scopes, made if need be; NULL with errno. */
berth_pool *berth__pool_of_scopes(unsigned tag, const char *name);

/* The pool that arenas belong to. */
BERTH_INLINE berth_pool *berth__pool_of_arenas(struct berth__arenas *arenas) {
    return berth__pool_at(arenas->number);
}

/* Lets the ladder call the application. */
void berth__pressure_init(void);

#endif
