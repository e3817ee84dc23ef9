#include "heap/heap.h"

#include "base/check.h"
#include "chunk/transit.h"
#include "chunk/wait.h"
#include "heap/arenas.h"
#include "heap/decay.h"
#include "heap/heap_inside.h"
#include "heap/misuse.h"
#include "heap/mixed.h"
#include "heap/remote.h"
#include "os/fault.h"

#include <string.h>

/* ---- lists of slabs ---- */

static struct berth__slab_record *record_of(struct berth__slab *slab) {
    return BERTH_CONTAINER_OF(slab, struct berth__slab_record, slab);
}

static uint16_t *purge_from(const struct berth__slab *slab) {
    struct berth__chunk *chunk = berth__chunk_of(slab->base);
    return &chunk->purge_from[(size_t)(slab->base - chunk->at) / BERTH_UNIT];
}

/* Free blocks below which no whole page is likely to be free: one where a page holds one or two
 * blocks, else half of the slab. */
static uint16_t purge_worthwhile(const struct berth__class *class) {
    return (uint16_t)(class->size >= BERTH_PAGE / 2 ? 1 : class->blocks / 2);
}

static enum berth__slab_list list_for(const struct berth__slab *slab) {
    if (slab->ready_count == 0) {
        return slab->cold_count == 0 ? BERTH_SLAB_FULL : BERTH_SLAB_COLD;
    }
    bool sparse = 2 * berth__slab_free_count(slab) > berth__slab_class(slab)->blocks;
    return sparse ? BERTH_SLAB_SPARSE : BERTH_SLAB_DENSE;
}

void berth__heap_relist_locked(struct berth__heap *heap, struct berth__slab *slab) {
    if (BERTH_UNLIKELY(slab->mixed)) {
        berth__mixed_relist_locked(heap, slab);
    }
    enum berth__slab_list list = list_for(slab);
    if (list == slab->list) {
        return;
    }
    berth__list_remove(&slab->link);
    slab->list = list & 0x7fu;
    if (list != BERTH_SLAB_FULL) {
        struct berth__list *head = &heap->classes[slab->small_class].lists[list - 1];
        if (slab->mixed) { /* where who looks for a plain one comes last */
            berth__list_push_back(head, &slab->link);
        } else {
            berth__list_push_front(head, &slab->link);
        }
    }
}

struct berth__slab *berth__heap_first_slab(struct berth__heap_class *class,
                                           enum berth__slab_list list) {
    struct berth__list *first = berth__list_first(&class->lists[list - 1]);
    return first == NULL ? NULL : BERTH_LIST_ENTRY(first, struct berth__slab, link);
}

void berth__heap_count_free_locked(struct berth__heap *heap, unsigned small_class, int64_t blocks) {
    uint64_t more = (uint64_t)blocks; /* modulo 2^64 */
    berth__count_add(&heap->classes[small_class].free_blocks, more);
    berth__count_add(&heap->totals->free_bytes, more * berth__classes[small_class].size);
}

/* Slabs of a class appear or disappear, with the tail of each. */
static void count_slabs_locked(struct berth__heap *heap, unsigned small_class, int32_t slabs)
    BERTH_REQUIRES(heap->lock) {
    const struct berth__class *class = &berth__classes[small_class];
    uint64_t more = (uint64_t)slabs;
    berth__add_relaxed(&heap->classes[small_class].slabs, (uint32_t)slabs);
    berth__count_add(&heap->totals->slabs, more);
    berth__count_add(&heap->totals->tail_bytes,
                     more * (BERTH_UNIT - (uint64_t) class->blocks * class->size));
}

static void adopt_slab_locked(struct berth__heap *heap, struct berth__slab *slab)
    BERTH_REQUIRES(heap->lock) {
    berth__store_relaxed(&slab->heap, heap);
    berth__entries_set(slab->base, 1, berth__slab_entry(heap, slab));
    count_slabs_locked(heap, slab->small_class, 1);
    if (slab->mixed) {
        berth__mixed_join_locked(heap, slab);
    }
    berth__heap_count_free_locked(heap, slab->small_class, berth__slab_free_count(slab));
    slab->list = BERTH_SLAB_FULL;
    berth__heap_relist_locked(heap, slab);
}

static void drop_slab_locked(struct berth__heap *heap, struct berth__slab *slab)
    BERTH_REQUIRES(heap->lock) {
    berth__list_remove(&slab->link);
    if (slab->purge_link.next != &slab->purge_link) {
        berth__list_remove(&slab->purge_link);
        berth__sub_relaxed(&heap->arena->decay.queued_slabs, 1);
    }
    if (slab->mixed) {
        berth__mixed_leave_locked(heap, slab);
    }
    count_slabs_locked(heap, slab->small_class, -1);
    berth__heap_count_free_locked(heap, slab->small_class, -(int64_t)berth__slab_free_count(slab));
}

/* A unit of the heap's arena, or of one that has plenty; `anywhere`: of whichever has one. */
static struct berth__slab_record *lend_unit(struct berth__arena *arena, bool anywhere, char **base,
                                            uint16_t *resident) {
    struct berth__slab_record *record = berth__arena_lend_unit(arena, base, resident);
    struct berth__arena *other;
    unsigned turn = 0;
    while (record == NULL &&
           (other = berth__arenas_next_lender(arena, BERTH_UNIT, anywhere, &turn)) != NULL) {
        record = berth__arena_lend_unit(other, base, resident);
    }
    return record;
}

static struct berth__slab *new_slab_locked(struct berth__heap *heap, unsigned small_class,
                                           bool anywhere) BERTH_REQUIRES(heap->lock) {
    char *base = NULL;
    uint16_t resident = 0;
    struct berth__slab_record *record = lend_unit(heap->arena, anywhere, &base, &resident);
    if (record == NULL) {
        return NULL;
    }
    if (!berth__slab_init(record, heap, base, small_class, resident)) {
        berth__arena_take_unit(base, resident);
        return NULL;
    }
    *purge_from(&record->slab) = purge_worthwhile(&berth__classes[small_class]);
    adopt_slab_locked(heap, &record->slab);
    berth__count_add(&heap->totals->slabs_made, 1);
    return &record->slab;
}

static void return_slab_locked(struct berth__heap *heap, struct berth__slab *slab)
    BERTH_REQUIRES(heap->lock) {
    char *base = slab->base;
    uint16_t resident = slab->resident;
    drop_slab_locked(heap, slab);
    berth__slab_retire(record_of(slab));
    berth__count_add(&heap->totals->slabs_returned, 1);
    berth__arena_take_unit(base, resident);
}

/* ---- lending ---- */

void berth__heap_count_locked(struct berth__heap *heap, unsigned small_class, uint64_t lends,
                              uint64_t returns) {
    struct berth__heap_traffic *traffic = &heap->traffic[small_class];
    berth__count_add(&traffic->lends, lends);
    berth__count_add(&traffic->returns, returns);
    berth__count_add(&heap->totals->lends, lends);
    berth__count_add(&heap->totals->returns, returns);
}

void berth__heap_count_home_locked(struct berth__heap *heap, unsigned small_class,
                                   uint64_t blocks) {
    berth__count_add(&heap->traffic[small_class].returns, blocks);
}

/* Makes cold blocks of a slab ready: those of one page of the machine. What is not wanted yet is
 * not faulted in. */
static void warm_locked(struct berth__heap *heap, struct berth__slab *slab)
    BERTH_REQUIRES(heap->lock) {
    uint16_t fresh = berth__slab_warm(slab, (unsigned)(berth__page_bytes / BERTH_PAGE));
    *purge_from(slab) = purge_worthwhile(berth__slab_class(slab));
    berth__decay_demand(&heap->arena->decay, (uint64_t)berth__bit_count(fresh) * BERTH_PAGE, true);
}

static struct berth__slab *ready_slab(struct berth__heap_class *class) {
    struct berth__slab *slab = berth__heap_first_slab(class, BERTH_SLAB_DENSE);
    return slab != NULL ? slab : berth__heap_first_slab(class, BERTH_SLAB_SPARSE);
}

/* A slab with cold blocks, or a new one, of which some were made ready. */
static struct berth__slab *warm_slab_locked(struct berth__heap *heap, unsigned small_class,
                                            bool anywhere) BERTH_REQUIRES(heap->lock) {
    struct berth__slab *slab = berth__heap_first_slab(&heap->classes[small_class], BERTH_SLAB_COLD);
    if (slab == NULL) {
        slab = new_slab_locked(heap, small_class, anywhere);
    }
    if (slab != NULL) {
        warm_locked(heap, slab);
    }
    return slab;
}

/* To have some more blocks at hand is no reason for a new slab. */
static bool is_enough(struct berth__heap_class *class, unsigned lent, unsigned count) {
    return lent == count || (lent > 0 && berth__heap_first_slab(class, BERTH_SLAB_COLD) == NULL);
}

unsigned berth__heap_lend_locked(struct berth__heap *heap, unsigned small_class, unsigned count,
                                 void **out, bool anywhere) {
    struct berth__heap_class *class = &heap->classes[small_class];
    unsigned lent = 0;
    while (lent < count) {
        struct berth__slab *slab = ready_slab(class);
        if (slab == NULL) {
            lent += berth__mixed_lend_locked(heap, small_class, count - lent, out + lent);
            slab = is_enough(class, lent, count) ? NULL
                                                 : warm_slab_locked(heap, small_class, anywhere);
        }
        if (slab == NULL) {
            break;
        }
        lent += berth__slab_lend(slab, count - lent, out + lent);
        berth__heap_relist_locked(heap, slab);
    }
    berth__heap_count_free_locked(heap, small_class, -(int64_t)lent);
    return lent;
}

/* ---- taking back ---- */

static bool is_never_purged(const struct berth__slab *slab) {
    const struct berth__chunk *chunk = berth__chunk_of(slab->base);
    return chunk->span->lent || chunk->arena->arenas->policy.io;
}

/* In the caller's memory, and in what is for the kernel, nothing is purged; only an empty slab goes
 * back to the arena from there.
 */
static void queue_for_purge_locked(struct berth__heap *heap, struct berth__slab *slab)
    BERTH_REQUIRES(heap->lock) {
    if (slab->purge_link.next == &slab->purge_link &&
        (!is_never_purged(slab) || berth__slab_is_empty(slab))) {
        berth__list_push_back(&heap->purge_queue, &slab->purge_link);
        berth__add_relaxed(&heap->arena->decay.queued_slabs, 1);
    }
}

/* An empty slab goes back, unless it is the class's last one to lend from: a program that allocates
 * and frees around that boundary would make and return it each time. The purge queue has it then.
 */
static void after_give_locked(struct berth__heap *heap, struct berth__slab *slab)
    BERTH_REQUIRES(heap->lock) {
    struct berth__heap_class *class = &heap->classes[slab->small_class];
    unsigned free_count = berth__slab_free_count(slab);
    if (BERTH_UNLIKELY(berth__slab_is_empty(slab))) {
        unsigned capacity = berth__slab_class(slab)->blocks;
        bool others = berth__load_relaxed(&class->free_blocks) > capacity;
        if (others || berth__ledger_is_short()) {
            return_slab_locked(heap, slab);
            return;
        }
    }
    berth__heap_relist_locked(heap, slab);
    if (free_count >= *purge_from(slab)) {
        queue_for_purge_locked(heap, slab);
    }
}

/* Not a lent block of a slab of ours. */
BERTH_NOINLINE static void bad_block(const struct berth__slab *slab, const void *block) {
    if (slab == NULL) {
        berth__misuse("free of a pointer that is not a block", block);
    }
    bool start = slab->ready == NULL || /* its slab has gone back meanwhile */
                 berth__divides((uint32_t)((const char *)block - slab->base),
                                berth__slab_class(slab)->reciprocal);
    berth__misuse(start ? "double free" : "free of a pointer inside a block", block);
}

/* The record of the unit that a block lies in: the slab's, if it is one. */
BERTH_INLINE struct berth__slab *slab_of(const void *block) {
    struct berth__chunk *chunk = berth__chunk_of(block);
    if (BERTH_UNLIKELY(chunk == NULL)) {
        bad_block(NULL, block);
    }
    return &chunk->slabs[(size_t)((const char *)block - chunk->at) / BERTH_UNIT].slab;
}

/* Sends on a block of a slab that has moved to another heap. Returns its bytes. */
static uint64_t send_on(const struct berth__slab *slab, void *block, enum berth__give from) {
    if (berth__load_relaxed(&slab->heap) == NULL) {
        bad_block(slab, block);
    }
    uint64_t entry = berth__load_relaxed(berth__entry_find(block));
    entry = berth__plain_entry(block, entry);
    if (entry == 0) {
        berth__misuse("free of a pointer inside a block", block);
    }
    struct berth__remote_block item = berth__remote_block(block, entry);
    berth__remote_forward(item, from != BERTH_GIVE_REMOTE);
    return item.size;
}

/* True if a slab with one free block more may have to move or go. */
BERTH_INLINE bool changes_place(const struct berth__slab *slab) {
    return slab->list != list_for(slab) || berth__slab_is_empty(slab) ||
           (slab->purge_link.next == &slab->purge_link &&
            berth__slab_free_count(slab) >= *purge_from(slab));
}

/* Returns its bytes. */
static BERTH_NOINLINE uint64_t give_mixed_locked(struct berth__heap *heap, struct berth__slab *slab,
                                                 void *block, enum berth__give from)
    BERTH_REQUIRES(heap->lock) {
    unsigned small_class = berth__mixed_take_back_locked(heap, slab, block);
    if (from == BERTH_GIVE_REMOTE) {
        berth__heap_count_home_locked(heap, small_class, 1);
    }
    after_give_locked(heap, slab);
    return berth__classes[small_class].size;
}

void berth__heap_give_locked(struct berth__heap *heap, void *const *blocks, unsigned count,
                             enum berth__give from) {
    uint64_t bytes = 0;
    for (void *const *const end = blocks + count; blocks < end;) {
        struct berth__slab *slab = slab_of(*blocks);
        unsigned small_class = slab->small_class;
        if (BERTH_UNLIKELY(berth__load_relaxed(&slab->heap) != heap)) {
            bytes += send_on(slab, *blocks++, from);
            continue;
        }
        if (BERTH_UNLIKELY(slab->mixed)) {
            bytes += give_mixed_locked(heap, slab, *blocks++, from);
            continue;
        }
        unsigned taken = berth__slab_take_back(slab, blocks, (unsigned)(end - blocks));
        if (BERTH_UNLIKELY(taken == 0)) {
            bad_block(slab, *blocks);
        }
        blocks += taken;
        berth__heap_count_free_locked(heap, small_class, taken);
        if (from == BERTH_GIVE_REMOTE) {
            berth__heap_count_home_locked(heap, small_class, taken);
        }
        bytes += taken * (uint64_t)berth__classes[small_class].size;
        if (changes_place(slab)) {
            after_give_locked(heap, slab);
        }
    }
    if (from != BERTH_GIVE_CACHE) {
        berth__count_add(&heap->totals->remote_drained, bytes);
    }
}

/* ---- moving slabs between heaps ---- */

static bool take_slab_from(struct berth__heap *heap, struct berth__heap *victim,
                           unsigned small_class) {
    bool sampled = BERTH_ENTRY_KIND(victim->mark) == BERTH_UNIT_SAMPLED;
    if (victim == heap || sampled ||
        berth__load_relaxed(&victim->classes[small_class].free_blocks) == 0 ||
        !berth__try_lock(&victim->lock)) {
        return false;
    }
    bool moved = false;
    if (berth__try_lock(&heap->lock)) {
        struct berth__heap_class *class = &victim->classes[small_class];
        struct berth__slab *slab = NULL;
        for (unsigned l = BERTH_SLAB_DENSE; slab == NULL && l < BERTH_SLAB_LISTS; l++) {
            slab = berth__heap_first_slab(class, l);
        }
        slab = slab != NULL ? slab : berth__mixed_first_locked(victim, small_class);
        if (slab != NULL && (!slab->mixed || berth__mixed_prepare_locked(heap))) {
            drop_slab_locked(victim, slab);
            adopt_slab_locked(heap, slab);
            moved = true;
        }
        berth__lock_release(&heap->lock);
    }
    berth__lock_release(&victim->lock);
    return moved;
}

bool berth__heap_steal(struct berth__heap *heap, unsigned small_class, bool from_anyone) {
    struct berth__arena *arena = heap->arena;
    bool stolen = false;
    berth__lock_acquire(&arena->heaps_lock);
    struct berth__list *list = from_anyone ? &arena->heaps : &arena->orphans;
    for (struct berth__list *at = list->next; !stolen && at != list; at = at->next) {
        struct berth__heap *victim = from_anyone
                                         ? BERTH_LIST_ENTRY(at, struct berth__heap, link)
                                         : BERTH_LIST_ENTRY(at, struct berth__heap, orphan_link);
        stolen = take_slab_from(heap, victim, small_class);
    }
    berth__lock_release(&arena->heaps_lock);
    return stolen;
}

/* ---- giving memory back ---- */

/* Leaves only whole pages of the machine in a set of 4 KiB pages. */
static uint16_t whole_machine_pages(uint16_t pages) {
    unsigned step = (unsigned)(berth__page_bytes / BERTH_PAGE);
    uint16_t whole = 0;
    for (unsigned page = 0; page < BERTH_UNIT_PAGES; page += step) {
        uint16_t group = (uint16_t)berth__word_mask(page, page + step);
        whole |= (pages & group) == group ? group : 0;
    }
    return whole;
}

/* Purges stretches of consecutive pages, one call each; false if the kernel refused one. */
static bool purge_pages(char *base, uint16_t pages, uint32_t *calls) {
    while (pages != 0) {
        unsigned first = berth__lowest_bit(pages);
        unsigned end = berth__lowest_bit(~(uint64_t)(pages | ((1u << first) - 1)));
        if (berth__pages_purge(base + (size_t)first * BERTH_PAGE,
                               (size_t)(end - first) * BERTH_PAGE) != 0) {
            return false;
        }
        ++*calls;
        pages &= (uint16_t)~berth__word_mask(first, end);
    }
    return true;
}

/* Locks the heap that owns the slab now. NULL: a fork has set the slab aside. */
static struct berth__heap *lock_owner(struct berth__slab *slab) BERTH_NO_TSA {
    for (;;) {
        struct berth__heap *owner = berth__load_relaxed(&slab->heap);
        if (BERTH_UNLIKELY(berth__lock_is_nobodys(&owner->lock))) {
            return NULL;
        }
        berth__lock_acquire(&owner->lock);
        if (owner == berth__load_relaxed(&slab->heap)) {
            return owner;
        }
        berth__lock_release(&owner->lock);
    }
}

/* Takes the head of the purge queue: returns it, or NULL if it was empty and went back whole. */
static struct berth__slab *next_to_purge_locked(struct berth__heap *heap, size_t *returned)
    BERTH_REQUIRES(heap->lock) {
    struct berth__list *first = berth__list_first(&heap->purge_queue);
    if (first == NULL) {
        return NULL;
    }
    struct berth__slab *slab = BERTH_LIST_ENTRY(first, struct berth__slab, purge_link);
    berth__list_remove(&slab->purge_link);
    berth__sub_relaxed(&heap->arena->decay.queued_slabs, 1);
    if (berth__slab_is_empty(slab)) {
        *returned = (size_t)berth__bit_count(slab->resident) * BERTH_PAGE;
        return_slab_locked(heap, slab);
        return NULL;
    }
    return slab;
}

static void after_purge(struct berth__slab *slab, uint16_t pages, bool purged) BERTH_NO_TSA {
    struct berth__heap *owner = lock_owner(slab);
    if (owner == NULL) {
        return;
    }
    unsigned before = berth__slab_free_count(slab);
    berth__slab_show(slab, pages, purged);
    berth__heap_count_free_locked(owner, slab->small_class, berth__slab_free_count(slab) - before);
    berth__heap_relist_locked(owner, slab);
    if (berth__slab_is_empty(slab)) {
        queue_for_purge_locked(owner, slab);
    }
    berth__lock_release(&owner->lock);
}

size_t berth__heap_purge_some(struct berth__heap *heap, bool *more) {
    size_t returned = 0;
    uint16_t pages = 0;
    if (!berth__try_lock(&heap->lock)) {
        *more = false; /* its owner is at work, and will come by itself */
        return 0;
    }
    struct berth__slab *slab = next_to_purge_locked(heap, &returned);
    if (slab != NULL) {
        unsigned capacity = berth__slab_class(slab)->blocks;
        unsigned before = berth__slab_free_count(slab);
        pages = is_never_purged(slab) ? 0 : whole_machine_pages(berth__slab_purgeable(slab));
        berth__transit_begin();
        berth__slab_hide(slab, pages);
        unsigned hidden = before - berth__slab_free_count(slab);
        if (hidden == 0) {
            pages = 0; /* only pages behind the last block: nothing would keep the slab meanwhile */
        }
        *purge_from(slab) = (uint16_t)berth__min(before + capacity / 8 + 1, capacity);
        berth__heap_count_free_locked(heap, slab->small_class, -(int64_t)hidden);
        berth__heap_relist_locked(heap, slab);
    }
    *more = !berth__list_empty(&heap->purge_queue);
    struct berth__arena *arena = heap->arena;
    berth__lock_release(&heap->lock);
    if (pages == 0) {
        if (slab != NULL) {
            berth__transit_end();
        }
        return returned;
    }
    uint32_t calls = 0;
    berth__delay_point();
    bool purged = !berth__chunk_is_held(berth__chunk_of(slab->base)) &&
                  purge_pages(slab->base, pages, &calls);
    after_purge(slab, pages, purged);
    berth__transit_end();
    size_t bytes = purged ? (size_t)berth__bit_count(pages) * BERTH_PAGE : 0;
    berth__add_relaxed(&arena->slab_purged_bytes, bytes);
    berth__add_relaxed(&arena->slab_purge_calls, calls);
    return bytes;
}

void berth__heap_return_empty(struct berth__heap *heap) {
    berth__lock_acquire(&heap->lock);
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        for (unsigned l = BERTH_SLAB_DENSE; l < BERTH_SLAB_LISTS; l++) {
            struct berth__list *list = &heap->classes[c].lists[l - 1];
            struct berth__list *next;
            for (struct berth__list *at = list->next; at != list; at = next) {
                struct berth__slab *slab = BERTH_LIST_ENTRY(at, struct berth__slab, link);
                next = at->next;
                if (berth__slab_is_empty(slab)) {
                    return_slab_locked(heap, slab);
                }
            }
        }
    }
    berth__lock_release(&heap->lock);
}

/* ---- audit ---- */

static bool class_is_valid_locked(struct berth__heap *heap, unsigned small_class)
    BERTH_REQUIRES(heap->lock) {
    struct berth__heap_class *class = &heap->classes[small_class];
    uint64_t free_blocks = 0;
    for (unsigned l = BERTH_SLAB_DENSE; l < BERTH_SLAB_LISTS; l++) {
        struct berth__list *list = &class->lists[l - 1];
        for (struct berth__list *at = list->next; at != list; at = at->next) {
            struct berth__slab *slab = BERTH_LIST_ENTRY(at, struct berth__slab, link);
            if (!berth__slab_is_valid(slab) || slab->list != l || list_for(slab) != l ||
                slab->small_class != small_class || berth__load_relaxed(&slab->heap) != heap) {
                return false;
            }
            free_blocks += berth__slab_free_count(slab);
        }
    }
    uint64_t parts = berth__mixed_audit_locked(heap, small_class);
    return parts != UINT64_MAX && free_blocks + parts == berth__load_relaxed(&class->free_blocks);
}

bool berth__heap_is_valid(struct berth__heap *heap) {
    berth__lock_acquire(&heap->lock);
    bool valid = true;
    for (unsigned c = 0; valid && c < BERTH_SMALL_CLASS_COUNT; c++) {
        valid = class_is_valid_locked(heap, c);
    }
    berth__lock_release(&heap->lock);
    return valid;
}
