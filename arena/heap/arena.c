#include "heap/arena.h"

#include "base/check.h"
#include "chunk/transit.h"
#include "chunk/wait.h"
#include "heap/arenas.h"
#include "heap/decay.h"

#include <errno.h>

static unsigned bucket_of(const struct berth__chunk *chunk) {
    unsigned units = berth__bit_count(chunk->free_units);
    return units == 0 ? 0 : berth__highest_bit(units) + 1;
}

/* Dirty pages that may be purged: the caller's memory is not. */
static uint32_t purgeable_pages(const struct berth__chunk *chunk) {
    return chunk->span->lent ? 0 : chunk->dirty_pages;
}

/* A chunk's page counts before a change, to keep the arena's sums by difference. */
struct page_counts {
    uint32_t free, dirty;
};

static struct page_counts counts_of(const struct berth__chunk *chunk) {
    return (struct page_counts){.free = chunk->free_pages, .dirty = purgeable_pages(chunk)};
}

static void count_pages(berth__count *count, uint32_t before, uint32_t after) {
    berth__count_add(count, ((uint64_t)after - before) * BERTH_PAGE);
}

/* After a chunk's maps changed: sums, bucket, dirty queue. */
static void settle_locked(struct berth__arena *arena, struct berth__chunk *chunk,
                          struct page_counts before) BERTH_REQUIRES(arena->lock) {
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

void berth__arena_init(struct berth__arena *arena, struct berth__arenas *arenas, unsigned index,
                       unsigned domain, unsigned node) BERTH_NO_TSA {
    berth__lock_init(&arena->lock, BERTH_RANK_ARENA);
    berth__lock_init(&arena->grow_lock, BERTH_RANK_GROW);
    berth__lock_init(&arena->heaps_lock, BERTH_RANK_HEAPS);
    berth__run_bins_init(&arena->bins);
    berth__twins_init(&arena->twins);
    for (unsigned i = 0; i < BERTH_ARENA_BUCKETS; i++) {
        berth__list_init(&arena->buckets[i]);
    }
    berth__list_init(&arena->chunks);
    berth__list_init(&arena->dirty);
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
    struct page_counts before = counts_of(chunk);
    *zero = berth__chunk_lend_run(chunk, page, pages);
    settle_locked(arena, chunk, before);
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
        struct page_counts before = counts_of(chunk);
        int unit = berth__chunk_lend_unit(chunk, resident);
        settle_locked(arena, chunk, before);
        berth__count_add(&arena->slab_bytes, BERTH_UNIT);
        *base = chunk->at + (size_t)unit * BERTH_UNIT;
        record = &chunk->slabs[unit];
    }
    berth__lock_release(&arena->lock);
    return record;
}

/* ---- taking back ---- */

static void unlink_chunk_locked(struct berth__arena *arena, struct berth__chunk *chunk)
    BERTH_REQUIRES(arena->lock) {
    berth__count_sub(&arena->free_bytes, (uint64_t)chunk->free_pages * BERTH_PAGE);
    berth__count_sub(&arena->dirty_bytes, (uint64_t)purgeable_pages(chunk) * BERTH_PAGE);
    berth__count_sub(&arena->chunk_bytes, chunk->committed);
    berth__count_sub(&arena->chunk_count, 1);
    berth__count_add(&arena->chunk_unmaps, 1);
    berth__chunk_retire(chunk);
    berth__list_remove(&chunk->link);
    berth__list_remove(&chunk->dirty_link);
    berth__list_remove(&chunk->owner_link);
    if (arena->open == chunk) {
        arena->open = NULL;
    }
    berth__entries_set(chunk->at, berth__chunk_units(chunk), 0);
}

/* After pages were given back: lets the chunk go if it is empty, and releases the lock. Its slot
 * keeps the memory, charged to the process and no longer to a pool. A chunk that is being extended
 * (grow_lock) is not let go: `open` is only emptied under that lock. */
static void settle_unlock(struct berth__arena *arena, struct berth__chunk *chunk,
                          struct page_counts before) BERTH_RELEASES(arena->lock) {
    settle_locked(arena, chunk, before);
    bool leaves = berth__chunk_is_empty(chunk) && chunk != arena->open && !chunk->span->lent &&
                  !berth__chunk_is_held(chunk);
    if (leaves) {
        berth__transit_begin();
        unlink_chunk_locked(arena, chunk);
    }
    berth__lock_release(&arena->lock);
    if (leaves) {
        berth__ledger_uncharge_own(arena->arenas->ledger, chunk->committed);
        berth__slots_give(chunk, 1);
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

void berth__arena_take_run(void *run, size_t bytes) {
    struct berth__chunk *chunk = berth__chunk_of(run);
    struct berth__arena *arena = chunk->arena;
    berth__lock_acquire(&arena->lock);
    struct page_counts before = counts_of(chunk);
    if (bytes % BERTH_PAGE == 0) {
        berth__chunk_take_run(chunk, page_of(chunk, run), bytes / BERTH_PAGE, true);
    } else {
        take_twin_locked(arena, chunk, run, bytes);
    }
    berth__count_sub(&arena->run_bytes, bytes);
    berth__count_add(&arena->run_returns, 1);
    settle_unlock(arena, chunk, before);
}

void berth__arena_take_unit(char *base, uint16_t resident) {
    struct berth__chunk *chunk = berth__chunk_of(base);
    struct berth__arena *arena = chunk->arena;
    berth__lock_acquire(&arena->lock);
    berth__entries_set(base, 1, BERTH_ENTRY_OF_KIND(BERTH_UNIT_RUN));
    struct page_counts before = counts_of(chunk);
    berth__chunk_take_unit(chunk, (unsigned)(page_of(chunk, base) / BERTH_UNIT_PAGES), resident);
    berth__count_sub(&arena->slab_bytes, BERTH_UNIT);
    settle_unlock(arena, chunk, before);
}

bool berth__arena_grow_run(void *run, size_t more_pages, bool *zero) {
    struct berth__chunk *chunk = berth__chunk_of(run);
    struct berth__arena *arena = chunk->arena;
    berth__lock_acquire(&arena->lock);
    struct page_counts before = counts_of(chunk);
    bool grown = berth__chunk_grow_run(chunk, page_of(chunk, run), more_pages, zero);
    if (grown) {
        berth__count_add(&arena->run_bytes, more_pages * BERTH_PAGE);
        settle_locked(arena, chunk, before);
    }
    berth__lock_release(&arena->lock);
    return grown;
}

void berth__arena_shrink_run(void *run, size_t keep_pages) {
    struct berth__chunk *chunk = berth__chunk_of(run);
    struct berth__arena *arena = chunk->arena;
    berth__lock_acquire(&arena->lock);
    struct page_counts before = counts_of(chunk);
    size_t page = page_of(chunk, run);
    size_t pages = berth__chunk_run_pages(chunk, page);
    berth__chunk_shrink_run(chunk, page, keep_pages);
    berth__count_sub(&arena->run_bytes, (pages - keep_pages) * BERTH_PAGE);
    settle_unlock(arena, chunk, before);
}

/* ---- growing ---- */

/* Bytes from the chunk's committed end to where a run of `pages`, starting in its free tail, would
 * end; SIZE_MAX if the slot is too short. */
static size_t missing_in(struct berth__arena *arena, const struct berth__chunk *chunk, size_t pages,
                         size_t align_pages) {
    berth__lock_acquire(&arena->lock);
    size_t tail = berth__bits_clear_before(chunk->used, berth__chunk_pages(chunk));
    berth__lock_release(&arena->lock);
    size_t end = (berth__round_up(tail, align_pages) + pages) * BERTH_PAGE;
    end = berth__round_up(end, berth__page_bytes);
    if (end > arena->arenas->policy.chunk_bytes) {
        return SIZE_MAX;
    }
    return end > chunk->committed ? end - chunk->committed : 0;
}

/* Charges `wish` bytes, or at least `need`; what was charged, 0 if nothing could be. `retained`
 * bytes of them are mapped already, and charged to the process. */
static size_t charge(struct berth__arena *arena, size_t need, size_t wish, size_t retained,
                     unsigned charge_flags) {
    struct berth__ledger *ledger = arena->arenas->ledger;
    const size_t tries[] = {berth__max(wish, need), need};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(tries); i++) {
        size_t total = berth__max(tries[i], retained);
        if (berth__ledger_charge_split(ledger, ledger->parent == NULL ? total - retained : total,
                                       total - retained, charge_flags)) {
            return total;
        }
    }
    return 0;
}

static void uncharge(struct berth__arena *arena, size_t total, size_t retained) {
    struct berth__ledger *ledger = arena->arenas->ledger;
    berth__ledger_uncharge_own(ledger, retained);
    berth__ledger_uncharge(ledger, total - retained);
}

void berth__arena_prepare_pages(const struct berth__arena *arena, char *at, size_t bytes) {
    if (arena->node != BERTH_NODE_ANY) {
        berth__pages_prefer_node(at, bytes, arena->node);
    }
    if (arena->arenas->policy.thp != BERTH_THP_AUTO) {
        berth__pages_want_huge(at, bytes, arena->arenas->policy.thp == BERTH_THP_ALWAYS);
    }
}

bool berth__arena_take_slot(const struct berth__arena *arena, struct berth__chunk *slot) {
    if (slot->node == arena->node || slot->committed == 0) {
        return false;
    }
    bool purged = berth__pages_purge(slot->at, slot->committed) == 0;
    berth__arena_prepare_pages(arena, slot->at, slot->committed);
    berth__mappings_set(slot->at, 1, 0, 0);
    berth__mappings_set(slot->at, 1, slot->committed, berth__arena_kind(arena));
    slot->node = arena->node;
    return purged;
}

uint32_t berth__arena_kind(const struct berth__arena *arena) {
    enum { POLICIES = 4 };
    uint32_t node = arena->node == BERTH_NODE_ANY ? 0 : arena->node + 1;
    return node * POLICIES + (uint32_t)arena->arenas->policy.thp;
}

static int extend_chunk(struct berth__arena *arena, struct berth__chunk *chunk, size_t need,
                        unsigned charge_flags) {
    size_t room = arena->arenas->policy.chunk_bytes - chunk->committed;
    size_t bytes = charge(arena, need, berth__min(arena->next_commit, room), 0, charge_flags);
    if (bytes == 0) {
        return -ENOMEM;
    }
    char *at = chunk->at + chunk->committed;
    if (berth__pages_commit(at, bytes) != 0) {
        uncharge(arena, bytes, 0);
        return -ENOMEM;
    }
    berth__arena_prepare_pages(arena, at, bytes);
    berth__mappings_set(chunk->at, 1, chunk->committed + bytes, berth__arena_kind(arena));
    berth__lock_acquire(&arena->lock);
    struct page_counts before = counts_of(chunk);
    berth__chunk_extend(chunk, bytes);
    berth__count_add(&arena->chunk_bytes, bytes);
    berth__count_add(&arena->chunk_maps, 1);
    if (chunk->committed >= arena->arenas->policy.chunk_bytes) {
        arena->open = NULL;
    }
    settle_locked(arena, chunk, before);
    berth__lock_release(&arena->lock);
    return 0;
}

static void adopt_chunk(struct berth__arena *arena, struct berth__chunk *chunk, size_t committed,
                        bool clean) {
    berth__lock_acquire(&arena->lock);
    berth__chunk_init(chunk, arena, &arena->bins, committed, clean);
    berth__entries_set(chunk->at, berth__chunk_units(chunk), BERTH_ENTRY_OF_KIND(BERTH_UNIT_RUN));
    berth__list_push_back(&arena->chunks, &chunk->owner_link);
    berth__count_add(&arena->chunk_bytes, committed);
    berth__count_add(&arena->chunk_count, 1);
    berth__count_add(&arena->chunk_maps, 1);
    if (committed < arena->arenas->policy.chunk_bytes && !chunk->span->lent) {
        arena->open = chunk;
    }
    settle_locked(arena, chunk, (struct page_counts){0, 0});
    berth__lock_release(&arena->lock);
}

/* What a slot holds beyond `keep` goes: a pool with a small limit has no room for it. */
static bool shorten_retained(struct berth__chunk *slot, size_t keep) {
    size_t excess = slot->committed - keep;
    if (berth__mappings_decommit(slot->at, 1, keep, slot->committed, BERTH_MAPPINGS_TO_SERVE) !=
        BERTH_UNMAPPED) {
        return false;
    }
    slot->committed = keep;
    berth__ledger_uncharge(&berth__ledger, excess);
    return true;
}

/* Makes the slot hold `total` bytes, which are charged. */
static bool commit_chunk(struct berth__arena *arena, const struct berth__chunk *slot,
                         size_t total) {
    size_t retained = slot->committed;
    uint32_t kind = berth__arena_kind(arena);
    if (total == retained) {
        return true;
    }
    if (!berth__mappings_allow(slot->at, 1, total, kind, BERTH_MAPPINGS_TO_SERVE) ||
        berth__pages_commit(slot->at + retained, total - retained) != 0) {
        return false;
    }
    berth__arena_prepare_pages(arena, slot->at + retained, total - retained);
    berth__mappings_set(slot->at, 1, total, kind);
    return true;
}

static int start_chunk(struct berth__arena *arena, size_t need, unsigned charge_flags)
    BERTH_REQUIRES(arena->grow_lock) {
    struct berth__chunk *chunk = berth__slots_take(1);
    if (chunk == NULL) {
        return -ENOMEM;
    }
    size_t retained = chunk->committed;
    size_t wish = berth__mappings_are_many() ? BERTH_CHUNK : retained > 0 ? 0 : arena->next_commit;
    size_t total = charge(arena, need, wish, retained, charge_flags);
    if (total == 0 && retained > need && shorten_retained(chunk, need)) {
        retained = need;
        total = charge(arena, need, need, retained, charge_flags);
    }
    if (total == 0) {
        berth__slots_give(chunk, 1);
        return -ENOMEM;
    }
    bool clean = berth__arena_take_slot(arena, chunk) || retained == 0;
    if (!commit_chunk(arena, chunk, total)) {
        uncharge(arena, total, retained);
        berth__slots_give(chunk, 1);
        return -ENOMEM;
    }
    chunk->node = arena->node;
    berth__decay_demand(&berth__slots_decay, total, retained == 0);
    adopt_chunk(arena, chunk, total, clean);
    return 0;
}

static bool may_extend(struct berth__arena *arena, const struct berth__chunk *chunk, size_t bytes) {
    return berth__mappings_allow(chunk->at, 1, chunk->committed + bytes, berth__arena_kind(arena),
                                 BERTH_MAPPINGS_TO_SERVE);
}

/* True if another thread made room while we waited for grow_lock. */
static bool has_room(struct berth__arena *arena, size_t pages, size_t align_pages) {
    size_t page = 0;
    berth__lock_acquire(&arena->lock);
    bool unit = pages == BERTH_UNIT_PAGES && align_pages == BERTH_UNIT_PAGES;
    bool room = unit ? chunk_with_unit_locked(arena) != NULL
                     : berth__run_bins_find(&arena->bins, pages, align_pages, &page) != NULL;
    berth__lock_release(&arena->lock);
    return room;
}

static int grow_locked(struct berth__arena *arena, size_t pages, size_t align_pages,
                       unsigned charge_flags) BERTH_REQUIRES(arena->grow_lock) {
    size_t chunk_bytes = arena->arenas->policy.chunk_bytes;
    size_t need = berth__round_up(pages * BERTH_PAGE, berth__page_bytes);
    struct berth__chunk *open = arena->open;
    size_t missing = open == NULL ? SIZE_MAX : missing_in(arena, open, pages, align_pages);
    int error;
    if (missing == 0) {
        return 0; /* freed meanwhile */
    }
    if (missing != SIZE_MAX && may_extend(arena, open, missing)) {
        error = extend_chunk(arena, open, missing, charge_flags);
    } else {
        error = start_chunk(arena, berth__min(need, chunk_bytes), charge_flags);
    }
    if (error == 0) {
        arena->next_commit = berth__min(2 * arena->next_commit, chunk_bytes);
    }
    return error;
}

int berth__arena_grow(struct berth__arena *arena, size_t pages, size_t align_pages,
                      unsigned charge_flags) {
    if (arena->arenas->lent != NULL) {
        return -ENOMEM; /* it has what it was given */
    }
    berth__limit_look(BERTH_LIMIT_AGE_MS);
    berth__lock_acquire(&arena->grow_lock);
    int error = has_room(arena, pages, align_pages)
                    ? 0
                    : grow_locked(arena, pages, align_pages, charge_flags);
    berth__lock_release(&arena->grow_lock);
    return error;
}

void berth__arena_lend_span(struct berth__arena *arena, struct berth__span *span) {
    struct berth__chunk *chunk = berth__chunk_find(span->slots);
    for (size_t slot = 0; slot < span->slot_count; slot++) {
        adopt_chunk(arena, chunk, chunk->committed, false);
        chunk = slot + 1 < span->slot_count ? berth__chunk_next(chunk) : NULL;
    }
}

/* ---- giving back ---- */

/* The first chunk whose end can be unmapped. */
static struct berth__chunk *next_with_tail_locked(struct berth__arena *arena,
                                                  enum berth__mappings_purpose purpose,
                                                  size_t *tail) BERTH_REQUIRES(arena->lock) {
    for (struct berth__list *at = arena->chunks.next; at != &arena->chunks; at = at->next) {
        struct berth__chunk *chunk = BERTH_LIST_ENTRY(at, struct berth__chunk, owner_link);
        *tail = berth__chunk_free_tail(chunk);
        if (*tail > 0 && *tail < chunk->committed && !chunk->span->lent &&
            !berth__chunk_is_held(chunk) &&
            berth__mappings_allow(chunk->at, 1, chunk->committed - *tail, 0, purpose)) {
            return chunk;
        }
    }
    return NULL;
}

static size_t unmap_tail(struct berth__arena *arena, enum berth__mappings_purpose purpose)
    BERTH_REQUIRES(arena->grow_lock) {
    size_t tail = 0;
    berth__lock_acquire(&arena->lock);
    struct berth__chunk *chunk = next_with_tail_locked(arena, purpose, &tail);
    if (chunk == NULL) {
        berth__lock_release(&arena->lock);
        return 0;
    }
    berth__transit_begin();
    struct page_counts before = counts_of(chunk);
    size_t page = (chunk->committed - tail) / BERTH_PAGE;
    berth__chunk_hide(chunk, page, tail / BERTH_PAGE);
    settle_locked(arena, chunk, before);
    berth__lock_release(&arena->lock);

    bool unmapped = berth__pages_decommit(chunk->at + page * BERTH_PAGE, tail) == 0;
    if (unmapped) {
        berth__mappings_set(chunk->at, 1, page * BERTH_PAGE, 0);
    }

    berth__lock_acquire(&arena->lock);
    before = counts_of(chunk);
    if (unmapped) {
        berth__chunk_drop_tail(chunk, tail);
        berth__count_sub(&arena->chunk_bytes, tail);
        arena->open = arena->open == NULL ? chunk : arena->open;
    } else {
        berth__chunk_show(chunk, page, tail / BERTH_PAGE, false);
    }
    settle_unlock(arena, chunk, before);
    if (unmapped) {
        berth__ledger_uncharge(arena->arenas->ledger, tail);
    }
    berth__transit_end();
    return unmapped ? tail : 0;
}

static struct berth__chunk *first_empty_locked(struct berth__arena *arena)
    BERTH_REQUIRES(arena->lock) {
    for (struct berth__list *at = arena->chunks.next; at != &arena->chunks; at = at->next) {
        struct berth__chunk *chunk = BERTH_LIST_ENTRY(at, struct berth__chunk, owner_link);
        if (berth__chunk_is_empty(chunk) && !chunk->span->lent && !berth__chunk_is_held(chunk)) {
            return chunk;
        }
    }
    return NULL;
}

/* A chunk leaves with the last free, but not one that is open, nor one that was mapped for a
 * request which then found room elsewhere. At a trim they go, too. */
static void let_empty_go(struct berth__arena *arena) BERTH_REQUIRES(arena->grow_lock) {
    for (;;) {
        berth__lock_acquire(&arena->lock);
        arena->open = NULL;
        struct berth__chunk *empty = first_empty_locked(arena);
        if (empty == NULL) {
            berth__lock_release(&arena->lock);
            return;
        }
        settle_unlock(arena, empty, counts_of(empty));
    }
}

size_t berth__arena_trim(struct berth__arena *arena, size_t bytes,
                         enum berth__mappings_purpose purpose) {
    size_t returned = 0;
    berth__lock_acquire(&arena->grow_lock);
    let_empty_go(arena);
    for (size_t tail = 1; returned < bytes && tail != 0; returned += tail) {
        tail = unmap_tail(arena, purpose);
    }
    arena->next_commit = BERTH_FIRST_COMMIT;
    berth__lock_release(&arena->grow_lock);
    return returned;
}

/* The oldest dirty chunk with a stretch that can be purged; others go to the end of the queue. */
static struct berth__chunk *next_dirty_locked(struct berth__arena *arena, size_t *page,
                                              size_t *pages) BERTH_REQUIRES(arena->lock) {
    for (unsigned tries = 0; tries < 8 && !berth__list_empty(&arena->dirty); tries++) {
        struct berth__chunk *chunk =
            BERTH_LIST_ENTRY(arena->dirty.next, struct berth__chunk, dirty_link);
        if (!berth__chunk_is_held(chunk) && berth__chunk_next_dirty(chunk, 0, page, pages)) {
            return chunk;
        }
        berth__list_remove(&chunk->dirty_link);
        berth__list_push_back(&arena->dirty, &chunk->dirty_link);
    }
    return NULL;
}

size_t berth__arena_purge_some(struct berth__arena *arena, size_t bytes) {
    size_t page = 0;
    size_t pages = 0;
    berth__lock_acquire(&arena->lock);
    struct berth__chunk *chunk = next_dirty_locked(arena, &page, &pages);
    if (chunk == NULL) {
        berth__lock_release(&arena->lock);
        return 0;
    }
    pages = berth__min(pages, berth__max(bytes, berth__page_bytes) / BERTH_PAGE);
    pages = berth__round_down(pages, berth__page_bytes / BERTH_PAGE);
    berth__transit_begin();
    struct page_counts before = counts_of(chunk);
    berth__chunk_hide(chunk, page, pages);
    settle_locked(arena, chunk, before);
    berth__lock_release(&arena->lock);

    bool purged = berth__pages_purge(chunk->at + page * BERTH_PAGE, pages * BERTH_PAGE) == 0;

    berth__lock_acquire(&arena->lock);
    before = counts_of(chunk);
    berth__chunk_show(chunk, page, pages, purged);
    if (purged) {
        berth__count_add(&arena->purged_bytes, pages * BERTH_PAGE);
        berth__count_add(&arena->purge_calls, 1);
    }
    settle_unlock(arena, chunk, before);
    berth__transit_end();
    return purged ? pages * BERTH_PAGE : 0;
}

/* The slabs of a chunk, whatever is lent of them, lose what metadata they have elsewhere. */
static void forget_slabs(struct berth__chunk *chunk) {
    for (size_t unit = 0; unit < berth__chunk_units(chunk); unit++) {
        uint64_t entry = berth__load_relaxed(berth__entry_find(chunk->at + unit * BERTH_UNIT));
        if (entry != 0 && BERTH_ENTRY_IS_SLAB(entry)) {
            berth__slab_retire(&chunk->slabs[unit]);
        }
    }
}

void berth__arena_release_all(struct berth__arena *arena) BERTH_NO_TSA {
    while (!berth__list_empty(&arena->chunks)) {
        struct berth__chunk *chunk =
            BERTH_LIST_ENTRY(arena->chunks.next, struct berth__chunk, owner_link);
        forget_slabs(chunk);
        unlink_chunk_locked(arena, chunk);
        if (!chunk->span->lent) {
            berth__ledger_uncharge_own(arena->arenas->ledger, chunk->committed);
            berth__slots_give(chunk, 1);
        }
    }
}
