/*
 * The heaps there are: making, finding, leaving and sharing them.
 */
#include "heap/heap.h"

#include "base/check.h"
#include "chunk/meta.h"
#include "heap/arenas.h"
#include "heap/mixed.h"
#include "heap/remote.h"
#include "os/cpu.h"
#include "os/pages.h"

#include <string.h>

_Atomic(struct berth__heap *) berth__heaps[BERTH_HEAPS_MAX];
static _Atomic uint32_t numbers_end = 1;   /* numbers in use are below */
static _Atomic uint32_t lowest_number = 1; /* where to look for one that is not; a hint */

static void raise_to(_Atomic uint32_t *value, uint32_t least) {
    uint32_t now = berth__load_relaxed(value);
    while (now < least && !berth__cas_weak_relaxed(value, &now, least)) {
    }
}

static void lower_to(_Atomic uint32_t *value, uint32_t most) {
    uint32_t now = berth__load_relaxed(value);
    while (now > most && !berth__cas_weak_relaxed(value, &now, most)) {
    }
}

static uint32_t claim_from(uint32_t first, struct berth__heap *heap) {
    for (uint32_t number = first; number < BERTH_HEAPS_MAX; number++) {
        struct berth__heap *nobody = NULL;
        if (berth__load_relaxed(&berth__heaps[number]) == NULL &&
            berth__cas_acq_rel(&berth__heaps[number], &nobody, heap)) {
            raise_to(&numbers_end, number + 1);
            return number;
        }
    }
    return 0;
}

/* The lowest free number, so that who looks at all of them has few to look at. A destroyed heap
 * leaves no entry behind that has its number. 0: all are in use. */
static uint32_t claim_number(struct berth__heap *heap) {
    uint32_t hint = berth__load_relaxed(&lowest_number);
    uint32_t number = claim_from(hint, heap);
    if (number == 0) {
        return claim_from(1, heap);
    }
    (void)berth__cas_acquire(&lowest_number, &hint, number + 1); /* lowered meanwhile: leave it */
    return number;
}

/* ---- totals ---- */

/* By number; some pages' worth at a time, which stay. */
static _Atomic(struct berth__heap_totals *) totals[BERTH_HEAPS_MAX / BERTH_TOTALS_AT_ONCE];
enum { TOTALS_BYTES = BERTH_TOTALS_AT_ONCE * sizeof(struct berth__heap_totals) };
_Static_assert(sizeof(struct berth__heap_totals) == 3 * BERTH_CACHE_LINE, "three lines");
_Static_assert(TOTALS_BYTES % BERTH_PAGE == 0, "whole pages");

struct berth__heap_totals *berth__heap_totals_of(uint32_t number) {
    struct berth__heap_totals *first = berth__load_acquire(&totals[number / BERTH_TOTALS_AT_ONCE]);
    return first == NULL ? NULL : first + number % BERTH_TOTALS_AT_ONCE;
}

/* NULL if there is no memory. */
static struct berth__heap_totals *make_totals(uint32_t number) {
    _Atomic(struct berth__heap_totals *) *place = &totals[number / BERTH_TOTALS_AT_ONCE];
    if (berth__load_acquire(place) == NULL) {
        struct berth__heap_totals *nobodys = NULL;
        struct berth__heap_totals *fresh = berth__meta_alloc(TOTALS_BYTES);
        if (fresh != NULL && !berth__cas_acq_rel(place, &nobodys, fresh)) {
            berth__meta_free(fresh, TOTALS_BYTES); /* another thread was first */
        } else if (fresh == NULL) {
            return NULL;
        }
    }
    struct berth__heap_totals *made = berth__heap_totals_of(number);
    memset((void *)made, 0, sizeof(*made)); /* of one that had the number before */
    return made;
}

uint32_t berth__heap_numbers(void) {
    return berth__load_relaxed(&numbers_end);
}

static void give_number_back(const struct berth__heap *heap) {
    berth__store_release(&berth__heaps[heap->number], NULL);
    lower_to(&lowest_number, heap->number);
}

/* Of a heap that has no slab. */
static void init_lists(struct berth__heap *heap) BERTH_NO_TSA {
    berth__list_init(&heap->purge_queue);
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        for (unsigned l = 0; l < BERTH_SLAB_LISTS - 1; l++) {
            berth__list_init(&heap->classes[c].lists[l]);
        }
    }
}

static struct berth__heap *create(struct berth__arena *arena, enum berth__unit_kind kind) {
    struct berth__heap *heap = berth__meta_alloc(sizeof(*heap));
    if (heap == NULL) {
        return NULL;
    }
    berth__lock_init(&heap->lock, BERTH_RANK_HEAP);
    heap->arena = arena;
    heap->arenas = arena->arenas;
    init_lists(heap);
    heap->number = claim_number(heap);
    heap->totals = heap->number == 0 ? NULL : make_totals(heap->number);
    if (heap->totals == NULL) {
        if (heap->number != 0) {
            give_number_back(heap);
        }
        berth__meta_free(heap, sizeof(*heap));
        return NULL;
    }
    heap->lock.tally = &heap->totals->contended;
    heap->mark = BERTH_HEAP_MARK(heap->number, kind);
    berth__list_init(&heap->orphan_link);
    berth__lock_acquire(&arena->heaps_lock);
    berth__list_push_back(&arena->heaps, &heap->link);
    heap->older = berth__load_relaxed(&arena->newest_heap);
    heap->totals->older = heap->older == NULL ? 0 : heap->older->number;
    berth__store_release(&arena->newest_heap, heap);
    berth__lock_release(&arena->heaps_lock);
    berth__add_relaxed(&arena->arenas->heap_count, 1);
    berth__store_release(&heap->totals->pool, arena->arenas->number + 1); /* H1 */
    return heap;
}

struct berth__heap *berth__heap_create(struct berth__arena *arena) {
    return create(arena, arena->arenas->number == 0 ? BERTH_UNIT_SLAB : BERTH_UNIT_POOL_SLAB);
}

void berth__heap_destroy(struct berth__heap *heap) {
    struct berth__heap_mixed *mixed = berth__load_relaxed(&heap->mixed);
    berth__store_relaxed(&heap->totals->pool, 0);
    give_number_back(heap);
    if (mixed != NULL) {
        berth__meta_free(mixed, sizeof(*mixed));
    }
    berth__meta_free(heap, sizeof(*heap));
}

struct berth__heap *berth__heap_adopt(struct berth__arena *arena) {
    struct berth__heap *heap = NULL;
    berth__lock_acquire(&arena->heaps_lock);
    struct berth__list *first = berth__list_first(&arena->orphans);
    if (first != NULL) {
        heap = BERTH_LIST_ENTRY(first, struct berth__heap, orphan_link);
        berth__list_remove(&heap->orphan_link);
    }
    berth__lock_release(&arena->heaps_lock);
    return heap != NULL ? heap : berth__heap_create(arena);
}

void berth__heap_orphan(struct berth__heap *heap) {
    berth__lock_acquire(&heap->lock);
    berth__remote_drain_locked(heap, NULL, BERTH_REMOTE_ALL);
    berth__lock_release(&heap->lock);
    berth__heap_return_empty(heap);
    struct berth__arena *arena = heap->arena;
    berth__lock_acquire(&arena->heaps_lock);
    if (berth__list_empty(&heap->orphan_link)) { /* else a fork has made it one already */
        berth__list_push_front(&arena->orphans, &heap->orphan_link);
    }
    berth__lock_release(&arena->heaps_lock);
}

/* Of two that are made at once, one stays empty for good: it can be nobody's own. */
struct berth__heap *berth__heap_sampled(struct berth__arena *arena) {
    struct berth__heap *heap = berth__load_acquire(&arena->sampled);
    if (heap != NULL) {
        return heap;
    }
    struct berth__heap *fresh = create(arena, BERTH_UNIT_SAMPLED);
    return fresh == NULL || berth__cas_acq_rel(&arena->sampled, &heap, fresh) ? fresh : heap;
}

struct berth__heap *berth__heap_shared(struct berth__arena *arena) {
    _Atomic(struct berth__heap *) *shared =
        &arena->shared[berth__cpu_current() % BERTH_SHARED_HEAPS];
    struct berth__heap *heap = berth__load_acquire(shared);
    if (heap != NULL) {
        return heap;
    }
    struct berth__heap *fresh = berth__heap_create(arena);
    if (fresh != NULL && !berth__cas_acq_rel(shared, &heap, fresh)) {
        berth__heap_orphan(fresh); /* another thread was first: somebody will adopt ours */
        return heap;
    }
    return fresh;
}

void berth__heaps_collect(struct berth__arena *arena) {
    enum { AT_ONCE = 8, STEPS = 8 }; /* heaps; holds of the lock */
    struct berth__heap *heaps[AT_ONCE];
    unsigned count = 0;
    berth__lock_acquire(&arena->heaps_lock);
    for (unsigned i = 0; i < AT_ONCE && !berth__list_empty(&arena->heaps); i++) {
        struct berth__heap *heap = BERTH_LIST_ENTRY(arena->heaps.next, struct berth__heap, link);
        berth__list_remove(&heap->link);
        berth__list_push_back(&arena->heaps, &heap->link);
        if (berth__remote_pending(heap)) {
            heaps[count++] = heap;
        }
    }
    berth__lock_release(&arena->heaps_lock);
    for (unsigned i = 0; i < count * STEPS; i++) {
        struct berth__heap *heap = heaps[i / STEPS];
        if (berth__remote_pending(heap) && berth__try_lock(&heap->lock)) {
            berth__remote_drain_locked(heap, NULL, BERTH_REMOTE_STEP);
            berth__lock_release(&heap->lock);
        }
    }
}

/* ---- in the child of a fork that cut off a change ---- */

/* By what was there before: a heap is published last, when it is whole. Orphans are made anew when
 * the threads that are gone are buried. */
void berth__heaps_mend_in_child(struct berth__arena *arena) BERTH_NO_TSA {
    berth__list_init(&arena->heaps);
    berth__list_init(&arena->orphans);
    struct berth__heap *heap = berth__load_relaxed(&arena->newest_heap);
    for (; heap != NULL; heap = heap->older) {
        berth__list_push_front(&arena->heaps, &heap->link);
        berth__list_init(&heap->orphan_link);
    }
}

/* A heap that nobody can lock, for the slabs of one that was cut off. What is freed to it lies on
 * its stack. In pages of its own: the call that the fork interrupted may hold the lock of metadata.
 */
struct set_aside {
    struct berth__heap heap;
    struct berth__heap_totals totals;
    uint32_t of_number;
};

static struct set_aside *make_set_aside(const struct berth__heap *of) {
    size_t bytes = berth__round_up(sizeof(struct set_aside), berth__page_bytes);
    struct set_aside *made = berth__pages_reserve(bytes, berth__page_bytes);
    BERTH_CHECK(made != NULL && berth__pages_commit(made, bytes) == 0,
                "no memory in the child of a fork");
    berth__meta_count(bytes);
    struct berth__heap *heap = &made->heap;
    berth__lock_init(&heap->lock, BERTH_RANK_HEAP);
    berth__store_relaxed(&heap->lock.holder, BERTH_LOCK_NOBODY);
    heap->arena = of->arena;
    heap->arenas = of->arenas;
    heap->totals = &made->totals;
    init_lists(heap);
    berth__list_init(&heap->link);
    berth__list_init(&heap->orphan_link);
    heap->number = claim_number(heap);
    BERTH_CHECK(heap->number != 0, "too many heaps in the child of a fork");
    heap->mark = BERTH_HEAP_MARK(heap->number, BERTH_ENTRY_KIND(of->mark));
    made->of_number = of->number;
    return made;
}

static void move_slabs(void *context, struct berth__chunk *record) {
    struct set_aside *to = context;
    if (berth__load_acquire(&record->use) != BERTH_SLOT_CHUNK) {
        return;
    }
    berth__entry *entries = berth__entry_find(record->at);
    for (size_t unit = 0; unit < berth__chunk_units(record); unit++) {
        uint64_t entry = berth__load_relaxed(&entries[unit]);
        if (entry == 0 || !BERTH_ENTRY_IS_SLAB(entry) || BERTH_ENTRY_HEAP(entry) != to->of_number) {
            continue;
        }
        struct berth__slab *slab = &record->slabs[unit].slab;
        if (berth__load_relaxed(&slab->heap) != NULL) { /* else it was about to go back */
            berth__store_relaxed(&slab->heap, &to->heap);
        }
        berth__store_relaxed(&entries[unit], BERTH_HEAP_MARK(to->heap.number, 0) | (uint32_t)entry);
    }
}

void berth__heap_mend_in_child(struct berth__heap *heap) BERTH_NO_TSA {
    berth__slots_visit(move_slabs, make_set_aside(heap));
    init_lists(heap);
    struct berth__heap_mixed *mixed = berth__load_relaxed(&heap->mixed);
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        berth__store_relaxed(&heap->classes[c].free_blocks, 0);
        if (mixed != NULL) {
            berth__list_init(&mixed->open[c]);
        }
    }
    berth__store_relaxed(&heap->totals->free_bytes, 0);
}
