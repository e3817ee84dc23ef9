/*
 * The engine: one per process, made by the first call that needs memory; and the table of pools.
 *
 * Who ends or resets a pool is alone with it as far as the program is concerned: that is what the
 * public calls ask for. But the engine looks into pools that the calling thread does not use: the
 * ladder takes back what other pools hold unused, the maintenance thread pays their debts, metrics
 * are read, a thread that goes to sleep, flushes or ends has caches of several pools. These are
 * visits, announced in a table of records that is never freed:
 *
 *     record: visitor == 0                  nobody's
 *             visitor != 0, pool == NONE    that thread's, about to visit or on its way out
 *             visitor != 0, otherwise       the thread is in that pool, or, if ALL, in the table
 *
 * A pool has two places in the table. `made` holds it from its making to its end; a fork walks
 * these. `open` holds it while it may be visited.
 *
 *     visit   V1 write the record, V2 read `open` (`made` if the record says ALL): NULL, and the
 *             pool is left alone; else V3 erase the record (release) when done
 *     end     C1 clear `open`, C2 wait until no record names the pool or ALL (acquire, of V3);
 *             then, under the lock that a fork takes before all others: C3 clear `made`, C4 look
 *             again for records; if there is one, a fork is about to walk: put it back, wait again
 *
 * V1, V2, C1 to C4 are sequentially consistent, so of a visitor and a closer at least one sees the
 * other. Entering takes a bounded number of steps while fewer than BERTH_VISITS_MAX threads are
 * visiting; only who ends a pool waits. It waits without a lock, for threads that hold no lock
 * between their steps and wait for nothing but locks.
 *
 * A visit is not interrupted by another one of the same thread, but a signal handler may fork in
 * it. In the child, only records of the forking thread are kept: the interrupted visit goes on when
 * the handler returns, and ends as it would have; those of threads that are gone are erased, so
 * that nobody waits for them. Pools that were closed but not yet taken out of the table are whole,
 * since C3 and what follows exclude a fork; they are opened again.
 */
#ifndef BERTH_HEAP_ENGINE_H
#define BERTH_HEAP_ENGINE_H

#include "heap/cache.h"

enum {
    BERTH_POOLS_MAX = 1024,
    BERTH_VISITS_MAX = 56, /* at a time; more wait */
};

/* What the engine starts with; see the table of options. */
struct berth__engine_config {
    size_t reserve_bytes;        /* addresses of the primary span; 0: as much as can be had */
    size_t page_bytes;           /* 0: the machine's */
    uint64_t mappings;           /* bound on them; 0: the default */
    uint64_t cache_bytes;        /* budget of all threads' caches; 0: by the number of CPUs */
    struct berth__policy policy; /* of the default pool */
};

/* Starts the engine if it does not run yet. Any thread; false if there is no memory for it. The
 * hook below is asked for the configuration. */
bool berth__engine_start(void);

/* The process's limit on addresses has changed: where it is lower now, so are those that are
 * reserved. Any thread. */
void berth__engine_follow_address_limit(void);

/* Fills in the configuration before the engine starts; set by the layer that reads options. */
extern void (*_Atomic berth__engine_configure)(struct berth__engine_config *config);

/* ---- the table of pools; number 0 is the default pool's ---- */

/* The arenas of the pool with this number; NULL if there is none. For a fork, which has entered all
 * pools, and its child. */
struct berth__arenas *berth__engine_arenas(unsigned number);

/* Visits a pool that others may be ending; NULL: there is none, or it is being ended. Any thread;
 * leave it soon, and visit no other one meanwhile: there are BERTH_VISITS_MAX visits at a time, and
 * threads that each hold one would wait for another for ever. */
struct berth__arenas *berth__engine_enter(unsigned number);
void berth__engine_leave(struct berth__arenas *arenas);

/* Whether the calling thread visits a pool. */
bool berth__engine_visits(void);

/* Leaves a pool and enters the next one: from NULL to NULL, this visits every pool. */
struct berth__arenas *berth__engine_next(struct berth__arenas *arenas);

/* The same for all pools at once: none of them is taken out of the table meanwhile. */
void berth__engine_enter_all(void);
void berth__engine_leave_all(void);

/* In the child of a fork. First, a pool that the fork has visited from its preparation on is put
 * back: who was about to end it had not looked for visitors yet. */
void berth__engine_put_back_in_child(struct berth__arenas *arenas);
void berth__engine_visits_reset_in_child(void);

extern _Atomic(struct berth__arenas *) berth__engine_default;

/* The default pool's; NULL before the engine runs. */
BERTH_INLINE struct berth__arenas *berth__default_arenas(void) {
    return berth__load_acquire(&berth__engine_default);
}

/* Those that serve malloc in the calling thread, once the engine runs. */
BERTH_INLINE struct berth__arenas *berth__malloc_arenas(void) {
    unsigned scope = berth__tls.scope;
    return BERTH_LIKELY(scope == 0) ? berth__default_arenas() : berth__engine_arenas(scope);
}

/* Adds a pool's arenas under the lowest free number, closed; NULL if there is no memory, or no
 * number. */
struct berth__arenas *berth__engine_add(const struct berth__policy *policy);
/* Lets visitors in. Also puts back what was taken out. */
void berth__engine_open(struct berth__arenas *arenas);
/* Lets nobody in any more, and waits for nobody: in the child of a fork. */
void berth__engine_shut(struct berth__arenas *arenas);
/* Closes a pool, and returns when nobody visits it. Under no lock. */
void berth__engine_close(struct berth__arenas *arenas);
/* Takes a closed pool out of the table; false: a fork is being prepared, so close it again. Called
 * under a lock that a fork takes first and that pools are added under. */
bool berth__engine_take_out(struct berth__arenas *arenas);
bool berth__engine_is_full(void);
/* The lock under which the engine starts, and that of the table of pools; for fork. */
struct berth__lock *berth__engine_start_lock(void);
struct berth__lock *berth__engine_lock(void);
/* A serial that no pool had. */
uint64_t berth__engine_next_serial(void);

#endif
