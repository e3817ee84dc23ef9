#include "heap/fork.h"

#include "base/check.h"
#include "chunk/meta.h"
#include "chunk/retained.h"
#include "chunk/wait.h"
#include "heap/decay.h"
#include "heap/engine.h"
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

enum { EXTRA_LOCKS_MAX = 8, PATIENCE_MS = 20 };

/* A lock's fork_state, beside its holder:
 *   holder is self, TAKEN      taken by this thread's preparation
 *   holder is self, otherwise  held by the call that our signal handler interrupted
 *   held by another, TAKEN     by another thread that prepares a fork: what it guards is whole
 *   held by another, otherwise what it guards may be half done */
enum { TAKEN = BERTH_LOCK_FORKED };

/* The holder, for ever, of a heap that is set aside. No thread's number: those are addresses. */
enum { NOBODY = 1 };

_Atomic bool berth__fork_interrupted;

static void (*tell_child)(void);
static pid_t process; /* as the fork handlers know it */

static struct berth__lock *extra_locks[EXTRA_LOCKS_MAX];
static unsigned extra_lock_count;

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

void berth__fork_add_lock(struct berth__lock *lock) {
    BERTH_CHECK(extra_lock_count < EXTRA_LOCKS_MAX, "too many locks of higher layers");
    extra_locks[extra_lock_count++] = lock;
}

/* ---- all locks, in order of rank ---- */

typedef void lock_visitor(struct berth__lock *lock, void *context);

static void visit_arenas_locks(lock_visitor *visit, void *context) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = berth__engine_arenas(i);
        if (arenas != NULL) {
            visit(&arenas->lock, context);
        }
    }
}

/* Calls visit for one lock of each arena, chosen by `pick`. */
static void visit_arena_locks(lock_visitor *visit, void *context,
                              struct berth__lock *(*pick)(struct berth__arena *)) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = berth__engine_arenas(i);
        struct berth__arena *arena;
        if (arenas == NULL) {
            continue;
        }
        for (BERTH_EACH_ARENA(arena, arenas)) {
            visit(pick(arena), context);
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

static void visit_heap_locks(lock_visitor *visit, void *context) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = berth__engine_arenas(i);
        struct berth__arena *arena;
        if (arenas == NULL) {
            continue;
        }
        for (BERTH_EACH_ARENA(arena, arenas)) {
            struct berth__heap *heap = berth__load_acquire(&arena->newest_heap);
            for (; heap != NULL; heap = heap->older) {
                visit(&heap->lock, context);
            }
        }
    }
}

static void visit_huge_locks(lock_visitor *visit, void *context) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = berth__engine_arenas(i);
        if (arenas != NULL) {
            visit(&arenas->huge_lock, context);
        }
    }
}

static void visit_cpu_locks(lock_visitor *visit, void *context) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = berth__engine_arenas(i);
        if (arenas != NULL) {
            berth__run_caches_visit_locks(arenas, visit, context);
        }
    }
}

static void visit_outer(lock_visitor *visit, void *context) {
    visit(berth__engine_start_lock(), context);
    for (unsigned i = 0; i < extra_lock_count; i++) {
        visit(extra_locks[i], context);
    }
    visit(berth__engine_lock(), context);
}

/* Those of pools, and those that are taken while these are held. */
static void visit_inner(lock_visitor *visit, void *context) {
    visit_arenas_locks(visit, context);
    visit_arena_locks(visit, context, pick_heaps);
    visit_arena_locks(visit, context, pick_grow);
    visit_heap_locks(visit, context);
    visit_cpu_locks(visit, context);
    visit_arena_locks(visit, context, pick_runs);
    visit_huge_locks(visit, context);
    visit(&berth__tails_lock, context);
    visit(&berth__slots_lock, context);
    visit(&berth__wait_lock, context);
    visit(&berth__meta_lock, context);
}

static void visit_all(lock_visitor *visit, void *context) {
    visit_outer(visit, context);
    visit_inner(visit, context);
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

struct taking {
    uint64_t give_up_ms; /* of a nested fork; else 0 */
    bool gives_way;      /* holds libc's streams, too, which a nested fork will wait for */
    bool gave_way;       /* and so does without the rest */
};

/* Several locks of one rank are taken here, which nobody else does but by trying; so there is no
 * order among them to violate. Whoever holds a lock lets it go in the end, however long it may be
 * off the processor. Only forks in handlers that interrupted a slow path may each have interrupted
 * what the other needs, or what others wait for with their locks held: then waiting is bounded, for
 * all locks together. */
static void take(struct berth__lock *lock, void *context) BERTH_NO_TSA {
    struct taking *taking = context;
    bool nested = taking->give_up_ms != 0;
    for (unsigned turn = 0; !taking->gave_way && !berth__lock_is_mine(lock); turn++) {
        if (berth__load_relaxed(&lock->holder) == NOBODY) {
            return;
        }
        if (berth__try_lock(lock)) {
            berth__store_relaxed(&lock->fork_state, TAKEN);
            return;
        }
        bool whole = berth__load_relaxed(&lock->fork_state) == TAKEN;
        if (nested && (whole || berth__clock_coarse_ms() > taking->give_up_ms)) {
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

/* While the outer locks are held, no pool can be closed. A pool that is closed is not visited any
 * more: its locks would stay held. */
static void release_all(void) {
    visit_inner(release, NULL);
    visit_outer(release, NULL);
}

static bool any_set_aside;

bool berth__fork_has_set_aside(const struct berth__heap *heap) {
    return berth__load_relaxed(&heap->lock.holder) == NOBODY;
}

/* A heap whose lock was left out is set aside: nobody meets it any more but by a block of its own,
 * its lock stays held, and what is freed to it lies on its stack. */
static void set_aside(struct berth__lock *lock) BERTH_NO_TSA {
    struct berth__heap *heap = BERTH_CONTAINER_OF(lock, struct berth__heap, lock);
    berth__store_relaxed(&lock->holder, NOBODY);
    berth__list_remove(&heap->link);
    berth__list_remove(&heap->orphan_link);
    any_set_aside = true;
    for (unsigned i = 0; i < BERTH_SHARED_HEAPS; i++) {
        if (berth__load_relaxed(&heap->arena->shared[i]) == heap) {
            berth__store_relaxed(&heap->arena->shared[i], NULL);
        }
    }
    if (berth__load_relaxed(&heap->arena->sampled) == heap) {
        berth__store_relaxed(&heap->arena->sampled, NULL);
    }
}

static void release_in_child(struct berth__lock *lock, void *context) BERTH_NO_TSA {
    berth__lock_forget_sleepers(lock);
    bool held = berth__load_relaxed(&lock->holder) != 0;
    if (held && !berth__lock_is_mine(lock)) {
        bool whole = berth__load_relaxed(&lock->fork_state) == TAKEN;
        berth__store_relaxed(&lock->fork_state, 0);
        if (!whole && berth__load_relaxed(&lock->rank) == BERTH_RANK_HEAP) {
            set_aside(lock);
        } else {
            berth__store_relaxed(&lock->holder, 0); /* its holder is gone */
        }
    }
    release(lock, context);
}

/* ---- the threads that are gone ---- */

/* What the cache holds goes back, unless it may be half done, because its thread was on a slow path
 * or its heap is set aside: then its blocks stay lent. */
static void bury_cache(struct berth__cache *cache) {
    bool half_done = berth__load_relaxed(&cache->busy) || berth__fork_has_set_aside(cache->heap);
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

/* Without the slabs of heaps that are set aside: who pays would look for them for ever. */
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
        if (any_set_aside) {
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
    visit_all(take, &taking);
    if (!taking.gave_way) {
        signals_before[kind] = signals;
        streams[kind] = ticket;
        return true;
    }
    release_all();
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
    release_all();
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
    berth__engine_visits_reset_in_child();
    berth__engine_leave_all();
    visit_all(release_in_child, NULL);
    unsigned kind = berth__lock_is_mine(&preparing[NESTED]) ? NESTED : PLAIN;
    uint64_t signals = signals_before[kind];
    berth__streams_reset(streams[kind]);
    berth__store_relaxed(&nested_forks, 0);
    release_in_child(&preparing[PLAIN], NULL);
    release_in_child(&preparing[NESTED], NULL);
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
