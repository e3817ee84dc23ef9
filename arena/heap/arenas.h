/*
 * The arenas of one pool, with the ledger they charge and the policy they follow.
 *
 * Created once per pool; the default pool's serves malloc. Fields without a comment on threads are
 * set before the pool is used, and only read afterwards.
 *
 * Which arena serves a thread: the first one of the domain that its CPU belongs to (topology.h),
 * which is where all threads with little traffic meet. A thread with real traffic moves to the
 * arena of its domain that serves the fewest such threads; a domain has as many arenas as it has
 * CPUs, made when they are needed. So a program with one busy thread has one arena, and threads
 * that are all busy have one each.
 */
#ifndef BERTH_HEAP_ARENAS_H
#define BERTH_HEAP_ARENAS_H

#include "heap/arena.h"

enum {
    BERTH_CPU_CACHES = 128,      /* per pool; CPUs beyond share */
    BERTH_WAIT_MS_DEFAULT = 511, /* 1 + 2 + 4 .. + 256: how long the JDK's direct memory waits */
};

struct berth__cpu_cache;

struct berth__policy {
    size_t chunk_bytes;      /* 256 KiB to 4 MiB: how far a chunk grows; runs are not longer */
    unsigned arena_count;    /* 0: by topology */
    uint32_t decay_ms;       /* unused memory older than this goes back; 0: at once */
    uint32_t wait_ms;        /* how long a request waits for memory at the limit */
    uint32_t malloc_wait_ms; /* the same for requests of the malloc door */
    size_t run_cache_bytes;  /* that a CPU may keep of free runs */
    bool reclaim;            /* pressure callbacks are called */
    bool io;                 /* memory for the kernel (heap/io.h) */
    bool shared;             /* in a memfd: a child of a fork does not have it, either */
    enum berth__thp thp;
};

struct berth__arenas {
    struct berth__ledger *ledger;    /* &own_ledger, or the process's */
    struct berth__ledger own_ledger; /* used if the pool has a limit of its own */
    struct berth__policy policy;
    uint32_t number; /* index in the table of pools; 0: the default pool */
    uint64_t serial; /* never reused and never 0; tells a stale thread cache. Changed by a reset */
    struct berth__span *lent; /* the caller's memory, or NULL */
    uint8_t tag;              /* what the pool is accounted to; 0: nothing */
    bool serves_scopes;       /* of that tag, instead of the default pool */

    _Atomic(struct berth__arena *) arena[BERTH_ARENAS_MAX]; /* in the order they were made */
    _Atomic unsigned arena_count;                           /* of those */
    _Atomic unsigned arena_limit; /* how many there may be; 0: not decided yet */

    _Atomic(struct berth__cpu_cache *) cpu_caches[BERTH_CPU_CACHES]; /* by CPU; made when needed */
    _Atomic uint32_t heap_count;                                     /* of all arenas */
    _Atomic uint64_t run_caches_trimmed_ms;
    _Atomic uint64_t stash_lends, stash_returns; /* as the threads' stashes settled them */

    struct berth__lock lock;                                    /* BERTH_RANK_POOLS */
    struct berth__list caches BERTH_GUARDED_BY(lock);           /* of all threads */
    struct berth__list vacant BERTH_GUARDED_BY(lock);           /* of none; heap/vacant.h */
    struct berth__lock huge_lock;                               /* BERTH_RANK_ARENA */
    struct berth__list huge_blocks BERTH_GUARDED_BY(huge_lock); /* by owner_link */

    berth__count huge_bytes, huge_count; /* under huge_lock */
    berth__count file_bytes, file_count; /* mapped files; not in the two above */
    berth__count huge_lends, huge_returns;
    _Atomic uint64_t ladder_runs, waits, waits_failed, failures;
    _Atomic uint64_t thread_count;
    _Atomic uint32_t caches_made; /* wraps */
    _Atomic uint32_t vacant_count;
    _Atomic uint32_t collect_turn; /* wraps; of the arenas, at each tick of any */
    _Atomic uint64_t io_changes;   /* chunks that came, or that are asked for (heap/io.h) */
    _Atomic bool inherited;        /* in the child of a fork, a pool for the kernel */
    _Atomic uint64_t cached_bound; /* bytes that threads may have cached, at most */
    uint64_t left_bytes; /* in caches that a fork made the child leave as they are; under lock */
};

/* Decides how many arenas there may be, unless that has been done. Reads files of the cgroup. */
void berth__arenas_settle(struct berth__arenas *arenas);

/* NULL if there is no metadata memory. */
struct berth__arenas *berth__arenas_create(const struct berth__policy *policy, uint32_t number,
                                           uint64_t serial);

/* The first arena near the CPU that runs the calling thread. Makes it if there is none yet; where
 * there may be no more arenas, one of the others. NULL without metadata memory. */
struct berth__arena *berth__arenas_here(struct berth__arenas *arenas);

/* The arena for a thread that is to have a heap of its own, among those of `near`'s domain. Counts
 * the thread as its owner. */
struct berth__arena *berth__arenas_admit(struct berth__arenas *arenas, struct berth__arena *near);

/* Who may lend so many bytes to an arena before that takes more from the kernel: others nearby that
 * have plenty, or are no larger than it; `anywhere`: all others. It does not live on them: their
 * lock would serve the threads of both. The search goes on from *turn, 0 at first, and begins with
 * the next one, so that not all take from the first; NULL after the last. */
struct berth__arena *berth__arenas_next_lender(const struct berth__arena *here, size_t bytes,
                                               bool anywhere, unsigned *turn);

/* The arena with this index; NULL if there are not so many. */
BERTH_INLINE struct berth__arena *berth__arenas_at(struct berth__arenas *arenas, unsigned i) {
    return i < BERTH_ARENAS_MAX ? berth__load_acquire(&arenas->arena[i]) : NULL;
}

/* for (BERTH_EACH_ARENA(arena, arenas)) ... */
#define BERTH_EACH_ARENA(arena, arenas)                                                            \
    unsigned arena##_i = 0;                                                                        \
    ((arena) = berth__arenas_at((arenas), arena##_i)) != NULL;                                     \
    arena##_i++

/* The end of a pool. Nothing may be concurrent to these: it is closed (engine.h). */

/* True while blocks live that nobody has freed. */
bool berth__arenas_are_in_use(struct berth__arenas *arenas);

/* True while the kernel may be using a block. */
bool berth__arenas_are_held(struct berth__arenas *arenas);

/* Returns everything to the address space, all at once: in time by chunks, not blocks. */
void berth__arenas_destroy(struct berth__arenas *arenas);

/* The same, but the arenas stay, empty, under a new serial. */
void berth__arenas_reset(struct berth__arenas *arenas, uint64_t new_serial);

/* In the child of a fork that cut off a change under the lock of the pool's parts. */
void berth__arenas_mend_in_child(struct berth__arenas *arenas);

#endif
