#include "heap/arena.h"

#include "base/check.h"
#include "base/poison.h"
#include "chunk/retained.h"
#include "chunk/transit.h"
#include "chunk/wait.h"
#include "heap/arena_inside.h"
#include "heap/arenas.h"
#include "heap/decay.h"
#include "heap/io.h"
#include "os/probe.h"

static unsigned bucket_of(const struct berth__chunk *chunk) {
    unsigned units = berth__bit_count(chunk->free_units);
    return units == 0 ? 0 : berth__highest_bit(units) + 1;
}

/* Dirty pages that may be purged: memory of the caller, and for the kernel, is not. */
static uint32_t purgeable_pages(const struct berth__chunk *chunk) {
    return chunk->span->lent || chunk->arena->arenas->policy.io ? 0 : chunk->dirty_pages;
}

struct berth__page_counts berth__arena_counts_of(const struct berth__chunk *chunk) {
    return (struct berth__page_counts){.free = chunk->free_pages, .dirty = purgeable_pages(chunk)};
}

static void count_pages(berth__count *count, uint32_t before, uint32_t after) {
    berth__count_add(count, ((uint64_t)after - before) * BERTH_PAGE);
}

void berth__arena_settle_locked(struct berth__arena *arena, struct berth__chunk *chunk,
                                struct berth__page_counts before) {
    count_pages(&arena->free_bytes, before.free, chunk->free_pages);
    uint32_t dirty = purgeable_pages(chunk);
    count_pages(&arena->dirty_bytes, before.dirty, dirty);
    unsigned bucket = bucket_of(chunk);
    if (bucket != chunk->bucket) {
        berth__list_remove(&chunk->link);
        berth__list_push_front(&arena->buckets[bucket], &chunk->link);
        chunk->bucket = bucket;
    }
    if (dirty == 0) {
        berth__list_remove(&chunk->dirty_link);
    } else if (before.dirty == 0) {
        berth__list_push_back(&arena->dirty, &chunk->dirty_link);
    }
}

/* Of an arena that has no chunk. */
static void init_lists(struct berth__arena *arena) BERTH_NO_TSA {
    berth__run_bins_init(&arena->bins);
    berth__twins_init(&arena->twins);
    for (unsigned i = 0; i < BERTH_ARENA_BUCKETS; i++) {
        berth__list_init(&arena->buckets[i]);
    }
    berth__list_init(&arena->chunks);
    berth__list_init(&arena->dirty);
    arena->open = NULL;
}

void berth__arena_init(struct berth__arena *arena, struct berth__arenas *arenas, unsigned index,
                       unsigned domain, unsigned node) BERTH_NO_TSA {
    berth__lock_init(&arena->lock, BERTH_RANK_ARENA);
    berth__lock_init(&arena->grow_lock, BERTH_RANK_GROW);
    berth__lock_init(&arena->heaps_lock, BERTH_RANK_HEAPS);
    init_lists(arena);
    berth__list_init(&arena->heaps);
    berth__list_init(&arena->orphans);
    arena->arenas = arenas;
    arena->index = index;
    arena->domain = domain;
    arena->node = node;
    arena->next_commit = BERTH_FIRST_COMMIT;
    berth__decay_init(&arena->decay);
}

static size_t page_of(const struct berth__chunk *chunk, const void *address) {
    return (size_t)((const char *)address - chunk->at) / BERTH_PAGE;
}

/* ---- lending ---- */

static void *lend_run_locked(struct berth__arena *arena, size_t pages, size_t align_pages,
                             bool *zero) BERTH_REQUIRES(arena->lock) {
    size_t page = 0;
    struct berth__chunk *chunk = berth__run_bins_find(&arena->bins, pages, align_pages, &page);
    if (chunk == NULL) {
        return NULL;
    }
    struct berth__page_counts before = berth__arena_counts_of(chunk);
    *zero = berth__chunk_lend_run(chunk, page, pages);
    berth__arena_settle_locked(arena, chunk, before);
    return chunk->at + page * BERTH_PAGE;
}

static void count_lent_locked(struct berth__arena *arena, size_t bytes)
    BERTH_REQUIRES(arena->lock) {
    berth__count_add(&arena->run_bytes, bytes);
    berth__count_add(&arena->run_lends, 1);
}

void *berth__arena_lend_run(struct berth__arena *arena, size_t pages, size_t align_pages,
                            bool *zero) {
    berth__lock_acquire(&arena->lock);
    void *run = lend_run_locked(arena, pages, align_pages, zero);
    if (run != NULL) {
        count_lent_locked(arena, pages * BERTH_PAGE);
    }
    berth__lock_release(&arena->lock);
    if (run != NULL) {
        berth__decay_demand(&arena->decay, pages * BERTH_PAGE, *zero);
    }
    return run;
}

static void *cut_twins_locked(struct berth__arena *arena, unsigned twin_class, bool *zero)
    BERTH_REQUIRES(arena->lock) {
    void *run = lend_run_locked(arena, berth__twin_pages(twin_class), 1, zero);
    if (run != NULL) {
        struct berth__chunk *chunk = berth__chunk_of(run);
        berth__twins_cut(&arena->twins, chunk, page_of(chunk, run), twin_class, *zero);
        berth__count_add(&arena->twin_bytes, berth__twin_bytes(twin_class));
    }
    return run;
}

void *berth__arena_lend_twin(struct berth__arena *arena, unsigned twin_class, bool *zero) {
    size_t bytes = berth__twin_bytes(twin_class);
    berth__lock_acquire(&arena->lock);
    void *twin = berth__twins_lend(&arena->twins, twin_class, zero);
    if (twin != NULL) {
        berth__count_sub(&arena->twin_bytes, bytes);
    } else {
        twin = cut_twins_locked(arena, twin_class, zero);
    }
    if (twin != NULL) {
        count_lent_locked(arena, bytes);
    }
    berth__lock_release(&arena->lock);
    if (twin != NULL) {
        berth__decay_demand(&arena->decay, bytes, *zero);
    }
    return twin;
}

/* The chunk with the fewest free units, roughly, so that the others can become empty. */
static struct berth__chunk *chunk_with_unit_locked(struct berth__arena *arena)
    BERTH_REQUIRES(arena->lock) {
    for (unsigned b = 1; b < BERTH_ARENA_BUCKETS; b++) {
        struct berth__list *first = berth__list_first(&arena->buckets[b]);
        if (first != NULL) {
            return BERTH_LIST_ENTRY(first, struct berth__chunk, link);
        }
    }
    return NULL;
}

struct berth__slab_record *berth__arena_lend_unit(struct berth__arena *arena, char **base,
                                                  uint16_t *resident) {
    struct berth__slab_record *record = NULL;
    berth__lock_acquire(&arena->lock);
    struct berth__chunk *chunk = chunk_with_unit_locked(arena);
    if (chunk != NULL) {
        struct berth__page_counts before = berth__arena_counts_of(chunk);
        int unit = berth__chunk_lend_unit(chunk, resident);
        berth__arena_settle_locked(arena, chunk, before);
        berth__count_add(&arena->slab_bytes, BERTH_UNIT);
        *base = chunk->at + (size_t)unit * BERTH_UNIT;
        record = &chunk->slabs[unit];
    }
    berth__lock_release(&arena->lock);
    return record;
}

bool berth__arena_has_room(struct berth__arena *arena, size_t pages, size_t align_pages) {
    size_t page = 0;
    berth__lock_acquire(&arena->lock);
    bool unit = pages == BERTH_UNIT_PAGES && align_pages == BERTH_UNIT_PAGES;
    bool room = unit ? chunk_with_unit_locked(arena) != NULL
                     : berth__run_bins_find(&arena->bins, pages, align_pages, &page) != NULL;
    berth__lock_release(&arena->lock);
    return room;
}

/* ---- taking back ---- */

static void unlink_chunk_locked(struct berth__arena *arena, struct berth__chunk *chunk)
    BERTH_REQUIRES(arena->lock) {
    berth__count_sub(&arena->free_bytes, (uint64_t)chunk->free_pages * BERTH_PAGE);
    berth__count_sub(&arena->dirty_bytes, (uint64_t)purgeable_pages(chunk) * BERTH_PAGE);
    berth__count_sub(&arena->chunk_bytes, chunk->committed);
    berth__count_sub(&arena->chunk_count, 1);
    berth__count_add(&arena->chunk_unmaps, 1);
    BERTH_PROBE3(chunk_unmap, chunk->at, chunk->committed, arena->arenas->number);
    berth__unpoison(chunk->at, chunk->committed); /* it may be its lender's again */
    berth__chunk_retire(chunk);
    berth__list_remove(&chunk->link);
    berth__list_remove(&chunk->dirty_link);
    berth__list_remove(&chunk->owner_link);
    if (arena->open == chunk) {
        arena->open = NULL;
    }
    berth__entries_set(chunk->at, berth__chunk_units(chunk), 0);
}

/* Of an empty chunk that has left. */
static void give_slot(struct berth__chunk *chunk) {
    struct berth__arena *arena = chunk->arena;
    berth__ledger_uncharge_own(arena->arenas->ledger, chunk->committed);
    if (chunk->wiped && !berth__io_unwipe(chunk)) {
        size_t bytes = chunk->committed;
        chunk->committed = 0; /* as it will be when the slot can be used again */
        chunk->wiped = false;
        berth__retained_add_stuck(chunk, 1, bytes);
        return;
    }
    if (arena->arenas->policy.io) {
        berth__mappings_change_kind(chunk->at, berth__arena_kind_of_slots(arena));
    }
    berth__slots_give(chunk, 1);
}

void berth__arena_settle_unlock(struct berth__arena *arena, struct berth__chunk *chunk,
                                struct berth__page_counts before) {
    berth__arena_settle_locked(arena, chunk, before);
    bool leaves = berth__chunk_is_empty(chunk) && chunk != arena->open && !chunk->span->lent &&
                  !berth__chunk_is_held(chunk);
    if (leaves) {
        berth__transit_begin();
        unlink_chunk_locked(arena, chunk);
    }
    berth__lock_release(&arena->lock);
    if (leaves) {
        give_slot(chunk);
        berth__transit_end();
    }
    berth__wait_notify();
}

/* Gives a twin back to the other, or the pages of both to the chunk. */
static void take_twin_locked(struct berth__arena *arena, struct berth__chunk *chunk, void *twin,
                             size_t bytes) BERTH_REQUIRES(arena->lock) {
    size_t page = 0;
    if (berth__twins_take(&arena->twins, chunk, twin, &page)) {
        berth__chunk_take_run(chunk, page, 2 * bytes / BERTH_PAGE, true);
        berth__count_sub(&arena->twin_bytes, bytes);
    } else {
        berth__count_add(&arena->twin_bytes, bytes);
    }
}

void berth__arena_take_run(void *run, size_t bytes, unsigned freed) {
    struct berth__chunk *chunk = berth__chunk_of(run);
    struct berth__arena *arena = chunk->arena;
    berth__lock_acquire(&arena->lock);
    if (BERTH_UNLIKELY(berth__chunk_is_set_aside(chunk))) {
        berth__chunk_park_run(chunk, page_of(chunk, run)); /* freeing it again is still found */
        berth__lock_release(&arena->lock);
        return;
    }
    struct berth__page_counts before = berth__arena_counts_of(chunk);
    if (bytes % BERTH_PAGE == 0) {
        berth__chunk_take_run(chunk, page_of(chunk, run), bytes / BERTH_PAGE, true);
    } else {
        take_twin_locked(arena, chunk, run, bytes);
    }
    berth__count_sub(&arena->run_bytes, bytes);
    berth__count_add(&arena->run_returns, freed);
    berth__arena_settle_unlock(arena, chunk, before);
}

void berth__arena_take_unit(char *base, uint16_t resident) {
    struct berth__chunk *chunk = berth__chunk_of(base);
    struct berth__arena *arena = chunk->arena;
    berth__lock_acquire(&arena->lock);
    berth__entries_set(base, 1, BERTH_ENTRY_OF_KIND(BERTH_UNIT_RUN));
    berth__count_sub(&arena->slab_bytes, BERTH_UNIT);
    if (BERTH_UNLIKELY(berth__chunk_is_set_aside(chunk))) {
        berth__count_add(&arena->run_bytes, BERTH_UNIT);
        berth__lock_release(&arena->lock);
        return;
    }
    struct berth__page_counts before = berth__arena_counts_of(chunk);
    berth__chunk_take_unit(chunk, (unsigned)(page_of(chunk, base) / BERTH_UNIT_PAGES), resident);
    berth__arena_settle_unlock(arena, chunk, before);
}

bool berth__arena_grow_run(void *run, size_t more_pages, bool *zero) {
    struct berth__chunk *chunk = berth__chunk_of(run);
    struct berth__arena *arena = chunk->arena;
    berth__lock_acquire(&arena->lock);
    struct berth__page_counts before = berth__arena_counts_of(chunk);
    bool grown = berth__chunk_grow_run(chunk, page_of(chunk, run), more_pages, zero);
    if (grown) {
        berth__count_add(&arena->run_bytes, more_pages * BERTH_PAGE);
        berth__arena_settle_locked(arena, chunk, before);
    }
    berth__lock_release(&arena->lock);
    return grown;
}

void berth__arena_shrink_run(void *run, size_t keep_pages) {
    struct berth__chunk *chunk = berth__chunk_of(run);
    struct berth__arena *arena = chunk->arena;
    berth__lock_acquire(&arena->lock);
    if (BERTH_UNLIKELY(berth__chunk_is_set_aside(chunk))) {
        berth__lock_release(&arena->lock); /* it stays as long as it is */
        return;
    }
    struct berth__page_counts before = berth__arena_counts_of(chunk);
    size_t page = page_of(chunk, run);
    size_t pages = berth__chunk_run_pages(chunk, page);
    berth__chunk_shrink_run(chunk, page, keep_pages);
    berth__count_sub(&arena->run_bytes, (pages - keep_pages) * BERTH_PAGE);
    berth__arena_settle_unlock(arena, chunk, before);
}

/* The slabs of a chunk, whatever is lent of them, lose what metadata they have elsewhere. */
static void forget_slabs(struct berth__chunk *chunk) {
    for (size_t unit = 0; unit < berth__chunk_units(chunk); unit++) {
        uint64_t entry = berth__load_relaxed(berth__entry_find(chunk->at + unit * BERTH_UNIT));
        bool retired = berth__load_relaxed(&chunk->slabs[unit].slab.heap) == NULL; /* by halves */
        if (entry != 0 && BERTH_ENTRY_IS_SLAB(entry) && !retired) {
            berth__slab_retire(&chunk->slabs[unit]);
        }
    }
}

/* ---- in the child of a fork that cut off a change ---- */

static bool is_chunk_of(const struct berth__chunk *record, const struct berth__arena *arena) {
    return berth__load_acquire(&record->use) == BERTH_SLOT_CHUNK && record->arena == arena;
}

/* But for one that has left already, and that the call which the fork interrupted gives away. */
static void set_chunk_aside(void *context, struct berth__chunk *record) BERTH_NO_TSA {
    struct berth__arena *arena = context;
    if (is_chunk_of(record, arena) && !berth__list_empty(&record->owner_link)) {
        berth__chunk_set_aside(record);
        berth__list_push_back(&arena->chunks, &record->owner_link);
        berth__count_add(&arena->chunk_bytes, record->committed);
        berth__count_add(&arena->chunk_count, 1);
    }
}

void berth__arena_mend_in_child(struct berth__arena *arena) {
    init_lists(arena);
    berth__store_relaxed(&arena->free_bytes, 0);
    berth__store_relaxed(&arena->twin_bytes, 0);
    berth__store_relaxed(&arena->dirty_bytes, 0);
    berth__store_relaxed(&arena->chunk_bytes, 0);
    berth__store_relaxed(&arena->chunk_count, 0);
    berth__slots_visit(set_chunk_aside, arena);
    uint64_t slabs = berth__load_relaxed(&arena->slab_bytes);
    uint64_t all = berth__load_relaxed(&arena->chunk_bytes);
    berth__store_relaxed(&arena->run_bytes, all - berth__min(slabs, all));
}

/* A tail may be unmapped, and not taken off its chunk yet: it stays hidden, but when the pool ends,
 * the whole slot serves others. */
static void commit_again(void *context, struct berth__chunk *record) {
    if (is_chunk_of(record, context) && !record->span->lent &&
        berth__pages_commit(record->at, record->committed) != 0) {
        berth__add_acq_rel(&record->pins, 1); /* so the pool does not end */
    }
}

void berth__arena_mend_growth_in_child(struct berth__arena *arena) {
    berth__slots_visit(commit_again, arena);
}

/* ---- the end of a pool ---- */

void berth__arena_release_all(struct berth__arena *arena) BERTH_NO_TSA {
    while (!berth__list_empty(&arena->chunks)) {
        struct berth__chunk *chunk =
            BERTH_LIST_ENTRY(arena->chunks.next, struct berth__chunk, owner_link);
        forget_slabs(chunk);
        unlink_chunk_locked(arena, chunk);
        if (!chunk->span->lent) {
            give_slot(chunk);
        }
    }
}
