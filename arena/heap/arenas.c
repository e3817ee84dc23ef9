#include "heap/arenas.h"

#include "base/check.h"
#include "chunk/meta.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/read.h"
#include "heap/request.h"
#include "heap/sample.h"
#include "os/cgroup.h"
#include "os/topology.h"

struct berth__arenas *berth__arenas_create(const struct berth__policy *policy, uint32_t number,
                                           uint64_t serial) {
    struct berth__arenas *arenas = berth__meta_alloc(sizeof(*arenas));
    if (arenas == NULL) {
        return NULL;
    }
    arenas->ledger = &berth__ledger;
    berth__ledger_init(&arenas->own_ledger, &berth__ledger);
    arenas->policy = *policy;
    arenas->number = number;
    arenas->serial = serial;
    berth__lock_init(&arenas->lock, BERTH_RANK_POOLS);
    berth__lock_init(&arenas->huge_lock, BERTH_RANK_ARENA);
    berth__list_init(&arenas->caches);
    berth__list_init(&arenas->vacant);
    berth__list_init(&arenas->huge_blocks);
    return arenas;
}

/* How many arenas pay: as many as the CPUs that we may really use, and with a small limit no more
 * than leave each arena some chunks. */
static unsigned arena_limit(struct berth__arenas *arenas) {
    enum { CHUNKS_PER_ARENA = 6 };
    unsigned limit = arenas->policy.arena_count;
    if (limit == 0) {
        unsigned cpus = berth__cpus_allowed;
        unsigned quota = cpus > 1 ? berth__cgroup_cpus() : 0;
        limit = quota != 0 && quota < cpus ? quota : cpus;
    }
    for (struct berth__ledger *at = arenas->ledger; at != NULL; at = at->parent) {
        uint64_t bytes = berth__load_relaxed(&at->limit);
        uint64_t fit = bytes / (CHUNKS_PER_ARENA * arenas->policy.chunk_bytes);
        limit = (unsigned)berth__min(limit, berth__max(fit, 1));
    }
    return (unsigned)berth__min(limit, BERTH_ARENAS_MAX);
}

void berth__arenas_settle(struct berth__arenas *arenas) {
    if (berth__load_relaxed(&arenas->arena_limit) == 0) {
        berth__store_relaxed(&arenas->arena_limit, arena_limit(arenas));
    }
}

/* The first arena of a domain, or NULL. */
static struct berth__arena *first_of(struct berth__arenas *arenas, struct berth__place place) {
    struct berth__arena *arena;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        if (arena->domain == place.domain && arena->node == place.node) {
            return arena;
        }
    }
    return NULL;
}

/* The first arena needs no answer to how many there may be, and most small processes have just
 * one. */
static bool may_have_another(struct berth__arenas *arenas) {
    unsigned count = berth__load_relaxed(&arenas->arena_count);
    if (count > 0) {
        berth__arenas_settle(arenas);
    }
    return count == 0 || count < berth__load_relaxed(&arenas->arena_limit);
}

/* NULL if there is no metadata memory. */
static struct berth__arena *make_locked(struct berth__arenas *arenas, unsigned domain,
                                        unsigned node) BERTH_REQUIRES(arenas->lock) {
    struct berth__arena *arena = berth__meta_alloc(sizeof(*arena));
    if (arena == NULL) {
        return NULL;
    }
    unsigned index = berth__load_relaxed(&arenas->arena_count);
    berth__arena_init(arena, arenas, index, domain, node);
    if (arenas->lent != NULL && index == 0) {
        berth__arena_lend_span(arena, arenas->lent);
    }
    berth__store_release(&arenas->arena[index], arena);
    berth__store_release(&arenas->arena_count, index + 1);
    return arena;
}

/* Where there can be no more arenas, threads of the domains that have none share those there are.
 */
static struct berth__arena *substitute(struct berth__arenas *arenas, unsigned domain) {
    unsigned count = berth__load_acquire(&arenas->arena_count);
    return count == 0 ? NULL : berth__arenas_at(arenas, domain % count);
}

struct berth__arena *berth__arenas_here(struct berth__arenas *arenas) {
    struct berth__place place = berth__topology_here();
    struct berth__arena *arena = first_of(arenas, place);
    if (BERTH_LIKELY(arena != NULL)) {
        return arena;
    }
    if (may_have_another(arenas)) { /* may read files: without the lock */
        berth__lock_acquire(&arenas->lock);
        arena = first_of(arenas, place);
        if (arena == NULL && may_have_another(arenas)) {
            arena = make_locked(arenas, place.domain, place.node);
        }
        berth__lock_release(&arenas->lock);
    }
    return arena != NULL ? arena : substitute(arenas, place.domain);
}

/* A domain may have as many as it has CPUs; what domains there are have them in equal parts, so
 * that the first does not leave the others without. */
static unsigned arenas_per_domain(struct berth__arenas *arenas) {
    unsigned limit = berth__load_relaxed(&arenas->arena_limit);
    return (unsigned)berth__max(limit / berth__topology_domain_count(), 1);
}

static struct berth__arena *least_used_locked(struct berth__arenas *arenas,
                                              const struct berth__arena *near)
    BERTH_REQUIRES(arenas->lock) {
    struct berth__arena *best = NULL;
    struct berth__arena *arena;
    unsigned of_domain = 0;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        if (!berth__arena_is_near(arena, near)) {
            continue;
        }
        of_domain++;
        if (best == NULL ||
            berth__load_relaxed(&arena->owners) < berth__load_relaxed(&best->owners)) {
            best = arena;
        }
    }
    bool crowded = best == NULL || berth__load_relaxed(&best->owners) > 0;
    if (crowded && may_have_another(arenas) && of_domain < arenas_per_domain(arenas)) {
        arena = make_locked(arenas, near->domain, near->node);
        best = arena != NULL ? arena : best;
    }
    return best;
}

struct berth__arena *berth__arenas_admit(struct berth__arenas *arenas, struct berth__arena *near) {
    berth__arenas_settle(arenas); /* reads files: without the lock */
    berth__lock_acquire(&arenas->lock);
    struct berth__arena *arena = least_used_locked(arenas, near);
    arena = arena != NULL ? arena : near;
    berth__add_relaxed(&arena->owners, 1);
    berth__lock_release(&arenas->lock);
    return arena;
}

/* What changes in arenas far away is not even read. */
static bool may_take_from(const struct berth__arena *here, const struct berth__arena *other,
                          size_t bytes) {
    enum { PLENTY = 4 }; /* a quarter of all it has */
    if (!berth__arena_is_near(here, other)) {
        return false;
    }
    uint64_t all = berth__load_relaxed(&other->chunk_bytes);
    uint64_t free_bytes =
        berth__load_relaxed(&other->free_bytes) + berth__load_relaxed(&other->twin_bytes);
    return free_bytes >= bytes &&
           (all <= berth__load_relaxed(&here->chunk_bytes) || free_bytes > all / PLENTY);
}

struct berth__arena *berth__arenas_next_lender(const struct berth__arena *here, size_t bytes,
                                               bool anywhere, unsigned *turn) {
    unsigned count = berth__load_acquire(&here->arenas->arena_count);
    while (++*turn < count) {
        struct berth__arena *other = berth__arenas_at(here->arenas, (here->index + *turn) % count);
        if (anywhere || may_take_from(here, other, bytes)) {
            return other;
        }
    }
    return NULL;
}

/* What is lent is live or cached: with nobody in the pool, no purge hides anything. */
bool berth__arenas_are_in_use(struct berth__arenas *arenas) {
    struct berth__arenas_counts counts;
    berth__arenas_read(arenas, &counts);
    return counts.live_high_bytes > berth__caches_bytes(arenas);
}

bool berth__arenas_are_held(struct berth__arenas *arenas) BERTH_NO_TSA {
    struct berth__list *at;
    struct berth__arena *arena;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        for (at = arena->chunks.next; at != &arena->chunks; at = at->next) {
            if (berth__chunk_is_held(BERTH_LIST_ENTRY(at, struct berth__chunk, owner_link))) {
                return true;
            }
        }
    }
    for (at = arenas->huge_blocks.next; at != &arenas->huge_blocks; at = at->next) {
        if (berth__chunk_is_held(BERTH_LIST_ENTRY(at, struct berth__chunk, owner_link))) {
            return true;
        }
    }
    return false;
}

static void destroy_heaps(struct berth__arena *arena) {
    struct berth__heap *older;
    for (struct berth__heap *heap = berth__load_relaxed(&arena->newest_heap); heap != NULL;
         heap = older) {
        older = heap->older;
        berth__heap_destroy(heap);
    }
}

/* Everything but the structure itself goes. */
static void empty(struct berth__arenas *arenas) BERTH_NO_TSA {
    berth__sample_forget_pool(arenas);
    berth__caches_disown(arenas);
    berth__store_relaxed(&arenas->stash_lends, 0);
    berth__store_relaxed(&arenas->stash_returns, 0);
    while (!berth__list_empty(&arenas->huge_blocks)) {
        struct berth__list *first = arenas->huge_blocks.next;
        berth__huge_free(BERTH_LIST_ENTRY(first, struct berth__chunk, owner_link)->at);
    }
    struct berth__arena *arena;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        destroy_heaps(arena);
        berth__arena_release_all(arena);
        berth__store_relaxed(&arenas->arena[arena_i], NULL);
        berth__meta_free(arena, sizeof(*arena));
    }
    berth__run_caches_free(arenas);
    berth__store_relaxed(&arenas->arena_count, 0);
    berth__store_relaxed(&arenas->heap_count, 0);
    arenas->left_bytes = 0;
}

void berth__arenas_destroy(struct berth__arenas *arenas) {
    empty(arenas);
    if (arenas->lent != NULL) {
        berth__span_return(arenas->lent);
    }
    berth__ledger_settle(arenas->ledger);
    berth__meta_free(arenas, sizeof(*arenas));
}

void berth__arenas_reset(struct berth__arenas *arenas, uint64_t new_serial) {
    empty(arenas);
    arenas->serial = new_serial;
}

void berth__arenas_mend_in_child(struct berth__arenas *arenas) BERTH_NO_TSA {
    berth__list_mend(&arenas->caches);
    berth__list_mend(&arenas->vacant);
    unsigned count = 0;
    while (berth__arenas_at(arenas, count) != NULL) {
        count++;
    }
    berth__store_relaxed(&arenas->arena_count, count);
}
