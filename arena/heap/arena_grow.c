/* How an arena comes by memory, and returns it. */
#include "heap/arena.h"

#include "base/check.h"
#include "base/poison.h"
#include "chunk/transit.h"
#include "heap/arena_inside.h"
#include "heap/arenas.h"
#include "heap/decay.h"
#include "heap/io.h"
#include "heap/trace.h"
#include "os/probe.h"
#include "os/slow.h"

#include <errno.h>

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
    if (arena->arenas->policy.io) {
        struct berth__chunk *chunk = berth__chunk_of(at);
        chunk->wiped = berth__pages_wipe_on_fork(at, bytes) || chunk->wiped;
    }
}

bool berth__arena_take_slot(const struct berth__arena *arena, struct berth__chunk *slot) {
    bool fits = slot->node == arena->node && !arena->arenas->policy.io;
    if (fits || slot->committed == 0) {
        return false;
    }
    bool purged = berth__pages_purge(slot->at, slot->committed) == 0;
    berth__arena_prepare_pages(arena, slot->at, slot->committed);
    berth__mappings_change_kind(slot->at, berth__arena_kind(arena));
    slot->node = arena->node;
    return purged;
}

uint32_t berth__arena_kind_of_slots(const struct berth__arena *arena) {
    enum { POLICIES = 8 };
    uint32_t node = arena->node == BERTH_NODE_ANY ? 0 : arena->node + 1;
    return node * POLICIES + (uint32_t)arena->arenas->policy.thp;
}

uint32_t berth__arena_kind(const struct berth__arena *arena) {
    enum { WIPED = 4 };
    return berth__arena_kind_of_slots(arena) + (arena->arenas->policy.io ? WIPED : 0u);
}

static int extend_chunk(struct berth__arena *arena, struct berth__chunk *chunk, size_t need,
                        unsigned charge_flags, struct berth__taking *taking) {
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
    BERTH_PROBE3(chunk_map, at, bytes, arena->arenas->number);
    berth__arena_prepare_pages(arena, at, bytes);
    berth__poison(at, bytes);
    berth__mappings_set(chunk->at, 1, chunk->committed + bytes, berth__arena_kind(arena));
    berth__lock_acquire(&arena->lock);
    struct berth__page_counts before = berth__arena_counts_of(chunk);
    berth__count_add(&arena->chunk_bytes, bytes);
    berth__count_add(&arena->chunk_maps, 1);
    if (BERTH_LIKELY(!berth__chunk_is_set_aside(chunk))) {
        berth__chunk_extend(chunk, bytes);
    } else { /* meanwhile, so that the caller looks again, in vain, and starts another */
        chunk->committed += bytes;
        berth__count_add(&arena->run_bytes, bytes);
    }
    if (chunk->committed >= arena->arenas->policy.chunk_bytes) {
        arena->open = NULL;
    }
    berth__arena_settle_locked(arena, chunk, before);
    berth__lock_release(&arena->lock);
    *taking = (struct berth__taking){BERTH_TRACE_CHUNK_MORE, at, bytes, bytes, 0};
    return 0;
}

static void adopt_chunk(struct berth__arena *arena, struct berth__chunk *chunk, size_t committed,
                        bool clean) {
    berth__poison(chunk->at, committed);
    berth__lock_acquire(&arena->lock);
    /* First, so that in the child of a fork that comes between, what the bins have can be freed. */
    berth__entries_set(chunk->at, berth__chunk_units(chunk), BERTH_ENTRY_OF_KIND(BERTH_UNIT_RUN));
    berth__chunk_init(chunk, arena, &arena->bins, committed, clean);
    berth__list_push_back(&arena->chunks, &chunk->owner_link);
    berth__count_add(&arena->chunk_bytes, committed);
    berth__count_add(&arena->chunk_count, 1);
    berth__count_add(&arena->chunk_maps, 1);
    if (committed < arena->arenas->policy.chunk_bytes && !chunk->span->lent) {
        arena->open = chunk;
    }
    berth__arena_settle_locked(arena, chunk, (struct berth__page_counts){0, 0});
    berth__lock_release(&arena->lock);
    berth__add_relaxed(&arena->arenas->io_changes, 1);
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

static int start_chunk(struct berth__arena *arena, size_t need, unsigned charge_flags,
                       struct berth__taking *taking) BERTH_REQUIRES(arena->grow_lock) {
    struct berth__chunk *chunk = berth__slots_take(1);
    if (chunk == NULL) {
        return -ENOMEM;
    }
    size_t retained = chunk->committed;
    if (!berth__ledger_may_reuse(retained, charge_flags)) {
        berth__slots_give(chunk, 1);
        return -ENOMEM;
    }
    size_t wish = berth__mappings_are_many() && !arena->arenas->policy.io ? BERTH_CHUNK
                  : retained > 0                                          ? 0
                                                                          : arena->next_commit;
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
    BERTH_PROBE3(chunk_map, chunk->at, total, arena->arenas->number);
    chunk->node = arena->node;
    berth__decay_demand(&berth__slots_decay, total, retained == 0);
    adopt_chunk(arena, chunk, total, clean);
    *taking = (struct berth__taking){BERTH_TRACE_CHUNK, chunk->at, total, total - retained, 0};
    return 0;
}

static bool may_extend(struct berth__arena *arena, const struct berth__chunk *chunk, size_t bytes) {
    return berth__mappings_allow(chunk->at, 1, chunk->committed + bytes, berth__arena_kind(arena),
                                 BERTH_MAPPINGS_TO_SERVE);
}

static int grow_locked(struct berth__arena *arena, size_t pages, size_t align_pages,
                       unsigned charge_flags, struct berth__taking *taking)
    BERTH_REQUIRES(arena->grow_lock) {
    size_t chunk_bytes = arena->arenas->policy.chunk_bytes;
    size_t need = arena->arenas->policy.io ? chunk_bytes
                                           : berth__round_up(pages * BERTH_PAGE, berth__page_bytes);
    struct berth__chunk *open = arena->open;
    size_t missing = open == NULL ? SIZE_MAX : missing_in(arena, open, pages, align_pages);
    int error;
    if (missing == 0) {
        return 0; /* freed meanwhile */
    }
    if (missing != SIZE_MAX && may_extend(arena, open, missing)) {
        error = extend_chunk(arena, open, missing, charge_flags, taking);
    } else {
        error = start_chunk(arena, berth__min(need, chunk_bytes), charge_flags, taking);
    }
    if (error == 0) {
        arena->next_commit = berth__min(2 * arena->next_commit, chunk_bytes);
    }
    return error;
}

int berth__arena_grow(struct berth__arena *arena, size_t pages, size_t align_pages,
                      unsigned charge_flags, const struct berth__request *request) {
    if (arena->arenas->lent != NULL) {
        return -ENOMEM; /* it has what it was given */
    }
    berth__limit_look(BERTH_LIMIT_AGE_MS);
    int error = 0;
    struct berth__taking taking = {.bytes = 0};
    berth__lock_acquire(&arena->grow_lock);
    if (!berth__arena_has_room(arena, pages, align_pages)) {
        uint64_t start_ns = berth__clock_ns();
        error = grow_locked(arena, pages, align_pages, charge_flags, &taking);
        if (error == 0) {
            berth__slow_note(BERTH_SLOW_chunk_map, start_ns);
        }
    }
    berth__lock_release(&arena->grow_lock);
    if (taking.bytes > 0 && berth__trace_is_on() && request != NULL) {
        berth__trace_note(request, &taking);
    }
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
    if (arena->arenas->policy.io) {
        return NULL; /* whole chunks only */
    }
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
    struct berth__page_counts before = berth__arena_counts_of(chunk);
    size_t page = (chunk->committed - tail) / BERTH_PAGE;
    berth__chunk_hide(chunk, page, tail / BERTH_PAGE);
    berth__arena_settle_locked(arena, chunk, before);
    berth__lock_release(&arena->lock);

    bool unmapped = berth__pages_decommit(chunk->at + page * BERTH_PAGE, tail) == 0;
    if (unmapped) {
        BERTH_PROBE3(chunk_unmap, chunk->at + page * BERTH_PAGE, tail, arena->arenas->number);
        berth__mappings_set(chunk->at, 1, page * BERTH_PAGE, 0);
    }

    berth__lock_acquire(&arena->lock);
    before = berth__arena_counts_of(chunk);
    if (unmapped) {
        berth__chunk_drop_tail(chunk, tail);
        berth__count_sub(&arena->chunk_bytes, tail);
    }
    if (BERTH_UNLIKELY(berth__chunk_is_set_aside(chunk))) { /* meanwhile */
        berth__count_sub(&arena->run_bytes, unmapped ? tail : 0);
    } else if (!unmapped) {
        berth__chunk_show(chunk, page, tail / BERTH_PAGE, false);
    } else if (arena->open == NULL) {
        arena->open = chunk;
    }
    berth__arena_settle_unlock(arena, chunk, before);
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
        berth__arena_settle_unlock(arena, empty, berth__arena_counts_of(empty));
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
    if (returned < bytes && arena->arenas->policy.io) {
        berth__io_ask(arena);
    }
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
    struct berth__page_counts before = berth__arena_counts_of(chunk);
    berth__chunk_hide(chunk, page, pages);
    berth__arena_settle_locked(arena, chunk, before);
    berth__lock_release(&arena->lock);

    bool purged = berth__pages_purge(chunk->at + page * BERTH_PAGE, pages * BERTH_PAGE) == 0;

    berth__lock_acquire(&arena->lock);
    before = berth__arena_counts_of(chunk);
    if (BERTH_LIKELY(!berth__chunk_is_set_aside(chunk))) {
        berth__chunk_show(chunk, page, pages, purged);
    }
    if (purged) {
        berth__count_add(&arena->purged_bytes, pages * BERTH_PAGE);
        berth__count_add(&arena->purge_calls, 1);
    }
    berth__arena_settle_unlock(arena, chunk, before);
    berth__transit_end();
    return purged ? pages * BERTH_PAGE : 0;
}
