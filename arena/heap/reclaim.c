/*
 * The ladder: what is done before a request fails.
 *
 * In order of cost to others; after each step the request is tried again:
 *  - own cache: the caller's caches are emptied into their heaps;
 *  - caches: the CPUs' caches of runs, everybody's remote stacks, empty slabs; and from here on any
 *    arena of the pool may serve the request, and slabs are taken from other heaps;
 *  - parked: the caches of threads that sleep;
 *  - return: memory that is mapped but unused: unused slots, chunk ends, of every pool; and what
 *    other threads are moving just then is waited for (chunk/transit.h);
 *  - callbacks: the application is asked to free some, or another thread's run of them is waited
 *    for;
 *  - wait: in the queues (chunk/wait.h), until the deadline.
 *
 * No lock is held between the steps.
 */
#include "heap/request.h"

#include "chunk/retained.h"
#include "chunk/transit.h"
#include "chunk/wait.h"
#include "heap/decay.h"
#include "heap/engine.h"
#include "heap/fork.h"
#include "heap/trace.h"
#include "heap/vacant.h"
#include "os/pages.h"
#include "os/probe.h"
#include "os/slow.h"

_Atomic uint64_t berth__ladder_counts[BERTH_LADDER_STEPS];
berth__pressure_ask *_Atomic berth__pressure_hook;
const struct berth__event_hooks *_Atomic berth__event_hooks;

static void flush_own_cache(struct berth__arenas *arenas) {
    struct berth__cache *cache = berth__cache_peek(arenas);
    if (cache != NULL) {
        berth__cache_flush(cache, true);
    }
}

/* Remote stacks and empty slabs of every heap. Blocks of slabs that have moved are sent on to
 * another heap, so a further round looks whether there are any. */
static void drain_heaps(struct berth__arena *arena) {
    enum { ROUNDS_MAX = 3 };
    bool again = true;
    berth__lock_acquire(&arena->heaps_lock);
    for (unsigned round = 0; again && round < ROUNDS_MAX; round++) {
        again = false;
        for (struct berth__list *at = arena->heaps.next; at != &arena->heaps; at = at->next) {
            struct berth__heap *heap = BERTH_LIST_ENTRY(at, struct berth__heap, link);
            if (berth__remote_pending(heap)) {
                again = true;
                berth__lock_acquire(&heap->lock);
                berth__remote_drain_locked(heap, NULL, BERTH_REMOTE_ALL);
                berth__lock_release(&heap->lock);
            }
            berth__heap_return_empty(heap);
        }
    }
    berth__lock_release(&arena->heaps_lock);
}

static void empty_caches(struct berth__arenas *arenas) {
    berth__vacant_end(arenas, 0);
    berth__run_caches_flush(arenas);
    struct berth__arena *arena;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        drain_heaps(arena);
    }
}

static size_t trim_arenas(struct berth__arenas *arenas, size_t bytes) {
    size_t returned = 0;
    struct berth__arena *arena;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        if (returned < bytes) {
            returned += berth__arena_trim(arena, bytes - returned, BERTH_MAPPINGS_TO_SERVE);
        }
    }
    return returned;
}

/* Bytes that the ledger must get back: what the request needs, and what is over the limit. */
static size_t wanted(const struct berth__request *request) {
    size_t least = berth__max(request->size + request->alignment, BERTH_UNIT);
    size_t excess = (size_t)berth__ledger_excess(request->arenas->ledger);
    return least > SIZE_MAX - excess ? SIZE_MAX : least + excess;
}

/* First what costs nobody anything; then the ends of this pool's chunks; then, with `everywhere`,
 * of other pools', if it is the process's limit that is short. */
static void return_memory(const struct berth__request *request, bool everywhere) {
    size_t bytes = wanted(request);
    size_t returned = berth__retained_uncharge(bytes);
    if (returned < bytes) {
        returned += trim_arenas(request->arenas, bytes - returned);
    }
    struct berth__arenas *other = NULL;
    while (everywhere && (other = berth__engine_next(other)) != NULL) {
        if (other != request->arenas && returned < bytes) {
            flush_own_cache(other);
            berth__caches_claim_parked(other);
            empty_caches(other);
            returned += trim_arenas(other, bytes - returned);
        }
    }
    berth__retained_uncharge(bytes); /* chunks that became empty meanwhile */
}

/* A callback that allocates does not come back here. */
static enum berth__asked ask_application(const struct berth__request *request,
                                         uint64_t deadline_ns) {
    berth__pressure_ask *hook = berth__load_acquire(&berth__pressure_hook);
    struct berth__tls *tls = &berth__tls;
    if (hook == NULL || tls->reclaiming || !request->arenas->policy.reclaim) {
        return BERTH_ASKED_NOBODY;
    }
    tls->reclaiming = true;
    enum berth__asked asked = hook(request->arenas, request->size,
                                   (request->flags & BERTH_REQUEST_MALLOC) != 0, deadline_ns);
    tls->reclaiming = false;
    return asked;
}

static void count_step(const struct berth__request *request, enum berth__ladder_step step) {
    berth__add_relaxed(&berth__ladder_counts[step], 1);
    if (berth__trace_is_on()) {
        struct berth__taking taking = {.kind = BERTH_TRACE_LADDER_STEP, .step = step};
        berth__trace_note(request, &taking);
    }
    BERTH_PROBE3(limit_step, (unsigned)step, request->size, request->arenas->number);
}

/* The last attempt before a request fails: what was on its way meanwhile is waited for. */
static void *attempt_settled(const struct berth__request *request, berth__attempt *attempt,
                             unsigned charge_flags) {
    enum { LOOKS_MAX = 16 };
    void *block = NULL;
    bool again = true;
    for (unsigned look = 0; again && look < LOOKS_MAX; look++) {
        struct berth__transit before = berth__transit_look();
        block = attempt(request, charge_flags, true);
        again = block == NULL && berth__transit_settled(before);
    }
    return block;
}

/* The steps that need no waiting. NULL if none of them helped. `everywhere`: in other pools, too.
 */
static void *climb(const struct berth__request *request, berth__attempt *attempt,
                   unsigned charge_flags, bool everywhere) {
    struct berth__arenas *arenas = request->arenas;
    count_step(request, BERTH_LADDER_OWN_CACHE);
    flush_own_cache(arenas);
    void *block = attempt(request, charge_flags, false);
    if (block == NULL) {
        count_step(request, BERTH_LADDER_CACHES);
        empty_caches(arenas);
        block = attempt(request, charge_flags, true);
    }
    if (block == NULL) {
        count_step(request, BERTH_LADDER_PARKED);
        berth__caches_claim_parked(arenas);
        empty_caches(arenas);
        block = attempt(request, charge_flags, true);
    }
    if (block == NULL) {
        if (everywhere) {
            count_step(request, BERTH_LADDER_RETURN);
        }
        return_memory(request, everywhere);
        block = attempt_settled(request, attempt, charge_flags);
    }
    return block;
}

/* If another thread asks the application just then, what that frees may be taken by others: it is
 * asked again, until it was for this request. */
static void *climb_and_ask(const struct berth__request *request, berth__attempt *attempt,
                           unsigned charge_flags, uint64_t deadline_ns) {
    void *block = climb(request, attempt, charge_flags, true);
    enum berth__asked asked = BERTH_ASKED_BY_ANOTHER;
    while (block == NULL && asked == BERTH_ASKED_BY_ANOTHER) {
        asked = ask_application(request, deadline_ns);
        if (asked != BERTH_ASKED_NOBODY) {
            count_step(request, BERTH_LADDER_CALLBACKS);
            block = climb(request, attempt, charge_flags, true);
        }
    }
    return block;
}

static uint32_t wait_ms_of(const struct berth__request *request) {
    const struct berth__policy *policy = &request->arenas->policy;
    return (request->flags & BERTH_REQUEST_MALLOC) != 0 ? policy->malloc_wait_ms : policy->wait_ms;
}

static bool may_wait(const struct berth__request *request) {
    bool limited = berth__load_relaxed(&berth__ledger.limit) != BERTH_NO_LIMIT ||
                   berth__load_relaxed(&request->arenas->ledger->limit) != BERTH_NO_LIMIT;
    return limited && wait_ms_of(request) > 0 && (request->flags & BERTH_REQUEST_NOWAIT) == 0 &&
           !berth__tls.reclaiming;
}

/* How long a request waits while another thread's callbacks run. Who does not queue up waits for
 * that run as well, because what it frees was there to be had; but a callback may itself be waiting
 * for something that this thread holds. */
static uint64_t asking_deadline_ns(const struct berth__request *request) {
    enum { RUN_MS = 100 };
    uint64_t ms = may_wait(request) ? wait_ms_of(request) : RUN_MS;
    return berth__clock_ns() + ms * UINT64_C(1000000);
}

/* Where a request queues up. Lent memory takes no ledger's bytes: who waits for it is in nobody's
 * way. */
static struct berth__wait_queue *own_queue(struct berth__arenas *arenas) {
    return arenas->lent != NULL ? &arenas->own_ledger.queue : &arenas->ledger->queue;
}

/* Looking into all pools costs milliseconds where there are hundreds. The head of a queue does it
 * again when memory came back meanwhile; and, at growing intervals, for what came back unnoticed.
 */
static bool should_look_everywhere(unsigned look, uint64_t *returns_seen) {
    uint64_t returns = berth__load_relaxed(&berth__wait_returns);
    bool changed = returns != *returns_seen;
    *returns_seen = returns;
    return changed || berth__is_power_of_2(look);
}

/* The application's callbacks are asked once, before the wait: what they could free is free. */
static void *wait_in_queue(const struct berth__request *request, berth__attempt *attempt) {
    struct berth__arenas *arenas = request->arenas;
    count_step(request, BERTH_LADDER_WAIT);
    berth__add_relaxed(&arenas->waits, 1);
    uint64_t start_ns = berth__clock_ns();
    struct berth__waiter waiter;
    berth__wait_begin(&waiter, wait_ms_of(request), own_queue(arenas));
    void *block = NULL;
    uint64_t returns_seen = berth__load_relaxed(&berth__wait_returns);
    for (unsigned look = 1; block == NULL && berth__wait_sleep(&waiter); look++) {
        bool everywhere = should_look_everywhere(look, &returns_seen);
        block = climb(request, attempt, berth__request_charge_flags(request), everywhere);
        if (block == NULL) {
            berth__wait_stand(&waiter, own_queue(arenas));
        }
    }
    berth__wait_end(&waiter);
    berth__slow_note(BERTH_SLOW_limit_wait, start_ns);
    if (block == NULL) {
        berth__add_relaxed(&arenas->waits_failed, 1);
    }
    return block;
}

/* No wait helps a request that is larger than the limit itself, than the machine, or than all
 * addresses. */
static bool can_ever_fit(const struct berth__request *request) {
    return request->size <= BERTH_ADDRESSES_MAX && request->alignment <= BERTH_ALIGNMENT_MAX &&
           berth__ledger_can_ever_fit(request->arenas->ledger, request->size) &&
           !berth__pages_exceed_machine(request->size);
}

/* Not of what callbacks ask for. */
static void tell_of_failure(const struct berth__request *request) {
    const struct berth__event_hooks *hooks = berth__load_acquire(&berth__event_hooks);
    berth__add_relaxed(&request->arenas->failures, 1);
    if (berth__trace_is_on()) {
        struct berth__taking taking = {.kind = BERTH_TRACE_FAILURE};
        berth__trace_note(request, &taking);
    }
    BERTH_PROBE2(failure, request->size, request->arenas->number);
    if (hooks != NULL && !berth__tls.reclaiming) {
        hooks->failure(request->arenas, request->size,
                       (request->flags & BERTH_REQUEST_MALLOC) != 0);
    }
}

void *berth__reclaim(const struct berth__request *request, berth__attempt *attempt) {
    berth__add_relaxed(&request->arenas->ladder_runs, 1);
    berth__limit_look(BERTH_LIMIT_AGE_AT_LIMIT_MS);
    void *block = NULL;
    bool can_fit = can_ever_fit(request);
    if (can_fit) {
        uint64_t start_ns = berth__clock_ns();
        block = climb_and_ask(request, attempt, berth__request_charge_flags(request),
                              asking_deadline_ns(request));
        berth__slow_note(BERTH_SLOW_reclaim, start_ns);
        if (block == NULL && may_wait(request)) {
            block = wait_in_queue(request, attempt);
        }
    }
    berth__tls.unwinding = block == NULL && can_fit; /* else memory need not be short */
    if (block == NULL) {
        tell_of_failure(request);
    }
    return block;
}

size_t berth__reclaim_all(struct berth__arenas *arenas) {
    if (berth__fork_must_detour()) {
        return 0;
    }
    flush_own_cache(arenas);
    berth__caches_claim_parked(arenas);
    empty_caches(arenas);
    size_t returned = 0;
    struct berth__arena *arena;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        returned += berth__decay_purge_all(arena);
        returned += berth__arena_trim(arena, SIZE_MAX, BERTH_MAPPINGS_TO_SAVE);
    }
    return returned + berth__retained_release(SIZE_MAX, 0);
}

void berth__reclaim_excess(struct berth__arena *arena, bool thoroughly) {
    struct berth__ledger *ledger = arena->arenas->ledger;
    if (thoroughly && berth__ledger_excess(ledger) > 0) {
        berth__run_caches_flush(arena->arenas);
        berth__arena_trim(arena, (size_t)berth__ledger_excess(ledger), BERTH_MAPPINGS_TO_SERVE);
    }
    berth__retained_uncharge((size_t)berth__ledger_excess(&berth__ledger));
    berth__ledger_settle(ledger);
}
