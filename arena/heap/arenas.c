#include "heap/arenas.h"

#include "base/check.h"
#include "chunk/meta.h"
#include "heap/cache.h"
#include "heap/heap.h"
#include "heap/read.h"
#include "heap/request.h"
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
    berth__list_init(&arenas->huge_blocks);
    return arenas;
}

/* How many arenas pay: one per domain, but no more than the CPUs that we may really use, and with a
 * small limit no more than leave each arena some chunks. */
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

/* The first arena needs no answer to that, and most small processes have just one. */
static unsigned index_here(struct berth__arenas *arenas) {
    unsigned domain = berth__topology_domain_here();
    if (berth__load_relaxed(&arenas->arena_count) == 0 ||
        berth__load_relaxed(&arenas->arena[domain]) != NULL) {
        return domain;
    }
    berth__arenas_settle(arenas);
    if (berth__load_relaxed(&arenas->arena_count) < berth__load_relaxed(&arenas->arena_limit)) {
        return domain;
    }
    unsigned nth = domain % berth__load_relaxed(&arenas->arena_count);
    unsigned i = 0;
    while (berth__arenas_next(arenas, &i) != NULL && nth > 0) {
        nth--;
        i++;
    }
    return i < BERTH_ARENAS_MAX ? i : domain;
}

static struct berth__arena *make_locked(struct berth__arenas *arenas, unsigned index)
    BERTH_REQUIRES(arenas->lock) {
    struct berth__arena *arena = berth__load_relaxed(&arenas->arena[index]);
    if (arena != NULL) {
        return arena;
    }
    arena = berth__meta_alloc(sizeof(*arena));
    if (arena == NULL) {
        unsigned i = 0;
        return berth__arenas_next(arenas, &i);
    }
    unsigned node = berth__topology_node_of(index);
    berth__arena_init(arena, arenas, index, node == BERTH_NODE_UNKNOWN ? BERTH_NODE_ANY : node);
    if (arenas->lent != NULL && berth__load_relaxed(&arenas->arena_count) == 0) {
        berth__arena_lend_span(arena, arenas->lent);
    }
    berth__store_release(&arenas->arena[index], arena);
    berth__add_relaxed(&arenas->arena_count, 1);
    return arena;
}

struct berth__arena *berth__arenas_here(struct berth__arenas *arenas) {
    unsigned index = index_here(arenas);
    struct berth__arena *arena = berth__load_acquire(&arenas->arena[index]);
    if (BERTH_LIKELY(arena != NULL)) {
        return arena;
    }
    berth__lock_acquire(&arenas->lock);
    arena = make_locked(arenas, index);
    berth__lock_release(&arenas->lock);
    return arena;
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
    berth__caches_disown(arenas);
    while (!berth__list_empty(&arenas->huge_blocks)) {
        struct berth__list *first = arenas->huge_blocks.next;
        berth__huge_free(BERTH_LIST_ENTRY(first, struct berth__chunk, owner_link)->at);
    }
    struct berth__arena *arena;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        destroy_heaps(arena);
        berth__arena_release_all(arena);
        berth__run_caches_free(arena);
        berth__store_relaxed(&arenas->arena[arena_i], NULL);
        berth__meta_free(arena, sizeof(*arena));
    }
    berth__store_relaxed(&arenas->arena_count, 0);
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
