#include "heap/fork.h"

#include "base/check.h"
#include "chunk/meta.h"
#include "chunk/retained.h"
#include "chunk/wait.h"
#include "heap/decay.h"
#include "heap/engine.h"
#include "heap/fork_mend.h"
#include "heap/io.h"
#include "heap/observer.h"
#include "heap/request.h"
#include "heap/sample.h"
#include "heap/vacant.h"
#include "os/clock.h"
#include "os/streams.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PATIENCE_MS = 20, LEAST_TURNS = 440 /* of berth__spin: some milliseconds */ };

/* A lock's fork_state, beside its holder:
 *   holder is self, TAKEN      taken by this thread's preparation
 *   holder is self, otherwise  held by the call that our signal handler interrupted
 *   held by another, TAKEN     by another thread that prepares a fork: what it guards is whole
 *   held by another, otherwise what it guards may be half done */
enum { TAKEN = BERTH_LOCK_FORKED };

_Atomic bool berth__fork_interrupted;

static void (*tell_child)(void);
static pid_t process; /* as the fork handlers know it */

/* In a child whose fork interrupted a slow path: the thread that goes on with it. */
static uint64_t interrupted_thread;
static bool waits_to_reset; /* by then */

/* One thread at a time prepares a fork, and one that interrupted a slow path: that one does not
 * wait for the other, which may be waiting for what it holds. It does with the locks that the other
 * has taken already: while it holds its own, the other cannot finish. */
enum { PLAIN, NESTED };
static struct berth__lock preparing[] = {{.rank = BERTH_RANK_FORK}, {.rank = BERTH_RANK_FORK}};
static uint64_t signals_before[2]; /* the preparing threads' masks */
static uint64_t streams[2];        /* their tickets for the lock on libc's streams */

/* ---- all locks, in order of rank ---- */

typedef void lock_visitor(struct berth__lock *lock, void *context);

struct walk {
    lock_visitor *visit;
    void *context;
    struct berth__arenas *const *pools; /* by number; NULL: those that there are now */
};

static struct berth__arenas *pool_at(const struct walk *walk, unsigned number) {
    return walk->pools != NULL ? walk->pools[number] : berth__engine_arenas(number);
}

/* Calls visit for one lock of each pool, chosen by `pick`. */
static void visit_pool_locks(const struct walk *walk,
                             struct berth__lock *(*pick)(struct berth__arenas *)) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = pool_at(walk, i);
        if (arenas != NULL) {
            walk->visit(pick(arenas), walk->context);
        }
    }
}

static struct berth__lock *pick_parts(struct berth__arenas *arenas) {
    return &arenas->lock;
}

static struct berth__lock *pick_huge(struct berth__arenas *arenas) {
    return &arenas->huge_lock;
}

/* The same for each arena. */
static void visit_arena_locks(const struct walk *walk,
                              struct berth__lock *(*pick)(struct berth__arena *)) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = pool_at(walk, i);
        struct berth__arena *arena;
        if (arenas == NULL) {
            continue;
        }
        for (BERTH_EACH_ARENA(arena, arenas)) {
            walk->visit(pick(arena), walk->context);
        }
    }
}

static struct berth__lock *pick_heaps(struct berth__arena *arena) {
    return &arena->heaps_lock;
}

static struct berth__lock *pick_grow(struct berth__arena *arena) {
    return &arena->grow_lock;
}

static struct berth__lock *pick_runs(struct berth__arena *arena) {
    return &arena->lock;
}

static void visit_heap_locks(const struct walk *walk) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = pool_at(walk, i);
        struct berth__arena *arena;
        if (arenas == NULL) {
            continue;
        }
        for (BERTH_EACH_ARENA(arena, arenas)) {
            struct berth__heap *heap = berth__load_acquire(&arena->newest_heap);
            for (; heap != NULL; heap = heap->older) {
                walk->visit(&heap->lock, walk->context);
            }
        }
    }
}

static void visit_cpu_locks(const struct walk *walk) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = pool_at(walk, i);
        if (arenas != NULL) {
            berth__run_caches_visit_locks(arenas, walk->visit, walk->context);
        }
    }
}

static void visit_outer(const struct walk *walk) {
    walk->visit(berth__engine_start_lock(), walk->context);
    berth__fork_visit_extra_locks(walk->visit, walk->context);
    walk->visit(berth__engine_lock(), walk->context);
}

/* Those of pools, and those that are taken while these are held. */
static void visit_inner(const struct walk *walk) {
    visit_pool_locks(walk, pick_parts);
    visit_arena_locks(walk, pick_heaps);
    visit_arena_locks(walk, pick_grow);
    visit_heap_locks(walk);
    visit_cpu_locks(walk);
    visit_arena_locks(walk, pick_runs);
    visit_pool_locks(walk, pick_huge);
    walk->visit(&berth__tails_lock, walk->context);
    walk->visit(&berth__slots_lock, walk->context);
    walk->visit(&berth__wait_lock, walk->context);
    walk->visit(&berth__meta_lock, walk->context);
}

static void visit_all(lock_visitor *visit, void *context) {
    const struct walk walk = {.visit = visit, .context = context};
    visit_outer(&walk);
    visit_inner(&walk);
}

/* ---- signals ---- */

/* A handler that forked while the locks are being taken or released would release what the outer
 * fork has taken, or wait for what it released already in an order that nobody else keeps. So
 * signals wait, but for those that a thread causes itself: their handlers may be what makes a
 * system call work. By the kernel's own call, whose set fits a word. Returns the mask before. */
static uint64_t hold_signals(void) {
#define BIT(number) (UINT64_C(1) << ((number)-1))
    static const uint64_t all_but_own = ~(BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGILL) |
                                          BIT(SIGTRAP) | BIT(SIGABRT) | BIT(SIGSYS));
#undef BIT
    uint64_t before = 0;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all_but_own, &before, sizeof(before));
    return before;
}

static void let_signals_go(uint64_t before) {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(before));
}

/* ---- taking and releasing ---- */

static void count_if_mine(struct berth__lock *lock, void *count) {
    *(unsigned *)count += berth__lock_is_mine(lock);
}

static unsigned locks_of_mine(void) {
    unsigned count = 0;
    visit_all(count_if_mine, &count);
    return count;
}

/* Forks that are going on in handlers which interrupted a holder of locks. */
static _Atomic uint32_t nested_forks;

/* Forks that are letting go of what they have taken. */
static _Atomic uint32_t releasing;

/* The pools whose locks a preparation takes. One that is being ended is out of the table for a
 * moment (C3 in engine.h), but not gone while the fork visits it. */
static struct berth__arenas *pools_taken[2][BERTH_POOLS_MAX];

static void note_pools(unsigned kind) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        pools_taken[kind][i] = berth__engine_arenas(i);
    }
}

struct taking {
    uint64_t give_up_ms; /* of a nested fork; else 0 */
    bool gives_way;      /* holds libc's streams, too, which a nested fork will wait for */
    bool gave_way;       /* and so does without the rest */
};

/* True if waiting may be in vain: only forks in handlers that interrupted a slow path may each have
 * interrupted what the other needs, or what others wait for with their locks held. Then waiting is
 * bounded, for all locks together, but for the little that an ordinary holder takes. */
static bool should_give_up(const struct taking *taking, struct berth__lock *lock, unsigned turn) {
    if (taking->give_up_ms == 0) {
        return false;
    }
    bool whole = berth__load_relaxed(&lock->fork_state) == TAKEN;
    return (whole && berth__load_relaxed(&releasing) == 0) ||
           (turn >= LEAST_TURNS && berth__clock_coarse_ms() > taking->give_up_ms);
}

/* Several locks of one rank are taken here, which nobody else does but by trying; so there is no
 * order among them to violate. Whoever holds a lock lets it go in the end, however long it may be
 * off the processor. */
static void take(struct berth__lock *lock, void *context) BERTH_NO_TSA {
    struct taking *taking = context;
    for (unsigned turn = 0; !taking->gave_way && !berth__lock_is_mine(lock); turn++) {
        if (berth__try_lock(lock)) {
            berth__store_relaxed(&lock->fork_state, TAKEN);
            return;
        }
        if (should_give_up(taking, lock, turn)) {
            return;
        }
        taking->gave_way = taking->gives_way && berth__load_relaxed(&nested_forks) != 0;
        berth__spin(turn);
    }
}

static void release(struct berth__lock *lock, void *context) BERTH_NO_TSA {
    (void)context;
    if (berth__lock_is_mine(lock) && berth__load_relaxed(&lock->fork_state) == TAKEN) {
        berth__store_relaxed(&lock->fork_state, 0);
        berth__lock_release(lock);
    }
}

static void take_all(unsigned kind, struct taking *taking) {
    const struct walk walk = {.visit = take, .context = taking, .pools = pools_taken[kind]};
    visit_outer(&walk);
    note_pools(kind);
    visit_inner(&walk);
}

/* While the outer locks are held, no pool can be closed. A pool that is closed is not visited any
 * more: its locks would stay held. */
static void release_all(unsigned kind) {
    const struct walk walk = {.visit = release, .pools = pools_taken[kind]};
    berth__add_relaxed(&releasing, 1);
    visit_inner(&walk);
    visit_outer(&walk);
    (void)berth__sub_acq_rel(&releasing, 1);
}

/* Locks that are held by threads that are gone are free again; those under which something may be
 * half done are nobody's, until it is mended, and *cut_off is true. */
static void release_in_child(struct berth__lock *lock, void *cut_off) BERTH_NO_TSA {
    berth__lock_forget_sleepers(lock);
    bool held = berth__load_relaxed(&lock->holder) != 0;
    if (held && !berth__lock_is_mine(lock)) {
        bool whole = berth__load_relaxed(&lock->fork_state) == TAKEN;
        berth__store_relaxed(&lock->fork_state, 0);
        berth__store_relaxed(&lock->holder, whole ? 0 : BERTH_LOCK_NOBODY);
        *(bool *)cut_off |= !whole;
    }
    release(lock, NULL);
}

static bool any_mended;

static void release_all_in_child(unsigned kind) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = pools_taken[kind][i];
        if (arenas != NULL) {
            berth__engine_put_back_in_child(arenas);
        }
    }
    bool cut_off = false;
    visit_all(release_in_child, &cut_off);
    if (cut_off) {
        berth__fork_mend();
        any_mended = true;
    }
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(preparing); i++) {
        release_in_child(&preparing[i], &cut_off);
        (void)berth__fork_open_nobodys(&preparing[i]);
    }
    berth__store_relaxed(&releasing, 0);
}

/* ---- the threads that are gone ---- */

/* What the cache holds goes back, unless it may be half done, because its thread was on a slow
 * path, or another one was emptying it: then its blocks stay lent. */
static void bury_cache(struct berth__cache *cache) {
    bool half_done = berth__load_relaxed(&cache->busy) ||
                     berth__load_relaxed(&cache->state) == BERTH_CACHE_CLAIMED;
    berth__list_remove(&cache->link);
    if (half_done) {
        berth__cache_forgo_grant(cache);
    } else {
        if (cache->owner == 0) {
            berth__cache_unsettle(cache);
        }
        berth__cache_flush(cache, true);
        berth__meta_free(cache, BERTH_CACHE_BYTES);
    }
}

/* The forking thread's own cache is let go of, but stays as it is: the call that the signal handler
 * interrupted, if there is one, goes on with it when the handler returns, at whatever point it
 * was. */
static void leave_own_cache(struct berth__cache *cache) {
    if (berth__load_relaxed(&cache->busy)) {
        berth__list_remove(&cache->link);
    } else {
        berth__cache_leave(cache);
        berth__cache_forgo_grant(cache);
    }
    cache->owns_heap = false;
}

static bool is_shared(const struct berth__arena *arena, const struct berth__heap *heap) {
    bool shared = BERTH_ENTRY_KIND(heap->mark) == BERTH_UNIT_SAMPLED;
    for (unsigned i = 0; i < BERTH_SHARED_HEAPS; i++) {
        shared = shared || berth__load_relaxed(&arena->shared[i]) == heap;
    }
    return shared;
}

/* All heaps but the shared ones: no cache is left to own one. Those of threads that were about to
 * link a cache that owns one, or had just unlinked it, are among them. Two caches may own a heap
 * from then on, if the interrupted call goes on with its own: it is locked for each use. */
static void orphan_heaps(struct berth__arena *arena) BERTH_NO_TSA {
    for (struct berth__list *at = arena->heaps.next; at != &arena->heaps; at = at->next) {
        struct berth__heap *heap = BERTH_LIST_ENTRY(at, struct berth__heap, link);
        if (!is_shared(arena, heap)) {
            berth__heap_orphan(heap);
        }
    }
    berth__store_relaxed(&arena->owners, 0);
}

/* Without slabs that are set aside: who pays would look for them for ever. */
static void count_queued_slabs(struct berth__arena *arena) BERTH_NO_TSA {
    uint64_t count = 0;
    for (struct berth__list *at = arena->heaps.next; at != &arena->heaps; at = at->next) {
        struct berth__list *queue = &BERTH_LIST_ENTRY(at, struct berth__heap, link)->purge_queue;
        for (struct berth__list *slab = queue->next; slab != queue; slab = slab->next) {
            count++;
        }
    }
    berth__store_relaxed(&arena->decay.queued_slabs, count);
}

static void bury_threads(struct berth__arenas *arenas) BERTH_NO_TSA {
    uint64_t self = berth__thread_self();
    struct berth__list *next;
    berth__vacant_forget_in_child(arenas);
    for (struct berth__list *at = arenas->caches.next; at != &arenas->caches; at = next) {
        struct berth__cache *cache = BERTH_LIST_ENTRY(at, struct berth__cache, link);
        next = at->next;
        if (cache->owner == self) {
            leave_own_cache(cache);
        } else {
            bury_cache(cache);
        }
    }
    berth__store_relaxed(&arenas->thread_count, 0);
    struct berth__arena *arena;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        orphan_heaps(arena);
        if (any_mended) {
            count_queued_slabs(arena);
        }
        berth__store_relaxed(&arena->decay.paying, 0);
    }
    berth__store_relaxed(&berth__slots_decay.paying, 0);
}

static void bury_all_threads(void) {
    if (waits_to_reset) {
        berth__wait_reset_in_child();
        waits_to_reset = false;
    }
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = berth__engine_arenas(i);
        if (arenas != NULL && (arenas->policy.io || arenas->policy.shared)) {
            berth__engine_shut(arenas);
            berth__io_inherit(arenas);
            berth__sample_forget_pool(arenas);
        } else if (arenas != NULL) {
            bury_threads(arenas);
        }
    }
}

/* ---- the three handlers ---- */

static bool is_nested(void) {
    berth__engine_enter_all();
    bool nested = locks_of_mine() > 0;
    berth__engine_leave_all();
    return nested;
}

/* All locks, with signals held. False: none, because a nested fork needs libc's streams first. */
static bool try_prepare(unsigned kind, uint64_t ticket) BERTH_NO_TSA {
    uint64_t signals = hold_signals();
    berth__engine_enter_all();
    struct taking taking = {.gives_way = ticket != 0};
    take(&preparing[kind], &taking);
    if (kind == NESTED) {
        taking.give_up_ms = berth__clock_coarse_ms() + PATIENCE_MS;
    }
    take_all(kind, &taking);
    if (!taking.gave_way) {
        signals_before[kind] = signals;
        streams[kind] = ticket;
        return true;
    }
    release_all(kind);
    berth__engine_leave_all();
    release(&preparing[kind], NULL);
    let_signals_go(signals);
    return false;
}

/* Signals are held only once libc's streams are locked: that may take as long as a write does. A
 * nested fork does not wait for streams with the locks it interrupted, but libc does so then: who
 * has the streams, and waits for one of those locks, gives way. */
static void before_fork(void) {
    if (is_nested()) {
        berth__add_relaxed(&nested_forks, 1);
        (void)try_prepare(NESTED, 0);
        return;
    }
    for (;;) {
        uint64_t ticket = berth__streams_lock();
        if (try_prepare(PLAIN, ticket)) {
            return;
        }
        berth__streams_unlock(ticket);
        for (unsigned turn = 0; berth__load_relaxed(&nested_forks) != 0; turn++) {
            berth__spin(turn);
        }
    }
}

static void after_fork_in_parent(void) BERTH_NO_TSA {
    unsigned kind = berth__lock_is_mine(&preparing[NESTED]) ? NESTED : PLAIN;
    uint64_t signals = signals_before[kind];
    uint64_t ticket = streams[kind];
    release_all(kind);
    berth__engine_leave_all();
    release(&preparing[kind], NULL);
    berth__streams_unlock(ticket);
    if (kind == NESTED) {
        (void)berth__sub_acq_rel(&nested_forks, 1);
    }
    let_signals_go(signals);
}

static void after_fork_in_child(void) BERTH_NO_TSA {
    process = getpid();
    unsigned kind = berth__lock_is_mine(&preparing[NESTED]) ? NESTED : PLAIN;
    uint64_t signals = signals_before[kind];
    release_all_in_child(kind);
    berth__engine_visits_reset_in_child();
    berth__engine_leave_all();
    berth__streams_reset(streams[kind]);
    berth__store_relaxed(&nested_forks, 0);
    bool interrupted = locks_of_mine() > 0;
    interrupted_thread = berth__thread_self();
    berth__store_relaxed(&berth__fork_interrupted, interrupted);
    waits_to_reset = berth__lock_is_mine(&berth__wait_lock);
    if (!waits_to_reset) {
        berth__wait_reset_in_child(); /* the interrupted call may go on to wait */
    }
    if (!interrupted) {
        bury_all_threads();
    }
    berth__threads_forget_own();
    if (tell_child != NULL) {
        tell_child();
    }
    const struct berth__observer *observer = berth__load_acquire(&berth__observer);
    if (observer != NULL) {
        observer->in_child();
    }
    let_signals_go(signals);
}

/* Once the interrupted call has let its locks go, the child goes on like any other. */
bool berth__fork_still_interrupted(void) {
    if (berth__thread_self() != interrupted_thread || locks_of_mine() > 0) {
        return true;
    }
    bury_all_threads();
    berth__store_relaxed(&berth__fork_interrupted, false);
    return false;
}

bool berth__fork_went_unseen(void) {
    return getpid() != process;
}

void berth__fork_init(void (*in_child)(void)) {
    static _Atomic bool registered;
    process = getpid();
    tell_child = in_child;
    if (!atomic_exchange(&registered, true)) {
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    }
}
