#include "heap/mixed.h"

#include "chunk/chunk.h"
#include "chunk/meta.h"
#include "heap/heap_inside.h"
#include "heap/misuse.h"

struct berth__mixed_policy berth__mixed_policy = {
    .free_bytes = 4 << 20,
    .free_share = 16,
    .slabs = 16,
};

static struct berth__slab *slab_at(const void *block) {
    struct berth__chunk *chunk = berth__chunk_of(block);
    return &chunk->slabs[(size_t)((const char *)block - chunk->at) / BERTH_UNIT].slab;
}

static struct berth__slab *slab_of(struct berth__list *link) {
    struct berth__parts *parts = BERTH_LIST_ENTRY(link, struct berth__parts, link);
    return &BERTH_CONTAINER_OF(parts, struct berth__slab_record, parts)->slab;
}

/* ---- entries ---- */

uint64_t berth__slab_entry(const struct berth__heap *heap, const struct berth__slab *slab) {
    enum berth__unit_kind kind = slab->mixed ? BERTH_UNIT_MIXED : BERTH_ENTRY_KIND(heap->mark);
    return BERTH_HEAP_MARK(heap->number, kind) + (uint64_t)slab->small_class * BERTH_BIN_BYTES;
}

uint64_t berth__mixed_entry(const void *block) {
    uint64_t entry = berth__load_acquire(berth__entry_find(block)); /* M2 */
    if (!BERTH_ENTRY_IS_SLAB(entry)) {
        return 0;
    }
    struct berth__part part = {.small_class = (unsigned)(BERTH_ENTRY_BIN(entry) / BERTH_BIN_BYTES)};
    if (BERTH_ENTRY_KIND(entry) == BERTH_UNIT_MIXED) {
        part = berth__part_find(berth__parts_of(slab_at(block)), part.small_class, block);
    } else { /* it became plain just now */
        part.is_start = berth__divides((uint32_t)((uintptr_t)block % BERTH_UNIT),
                                       berth__classes[part.small_class].reciprocal);
    }
    const struct berth__heap *heap = berth__heap_of_entry(entry);
    return part.is_start ? heap->mark + (uint64_t)part.small_class * BERTH_BIN_BYTES : 0;
}

/* ---- counts and lists ---- */

uint64_t berth__mixed_extra(struct berth__heap *heap, unsigned small_class) {
    const struct berth__heap_mixed *mixed = berth__load_acquire(&heap->mixed);
    return mixed == NULL ? 0 : berth__load_relaxed(&mixed->extra[small_class]);
}

/* Blocks of a slab are cut, or, less than 0, joined; what is over counts as a tail. */
static void count_cut_locked(struct berth__heap *heap, struct berth__slab *slab, int64_t blocks)
    BERTH_REQUIRES(heap->lock) {
    const struct berth__parts *parts = berth__parts_of(slab);
    struct berth__heap_mixed *mixed = berth__load_relaxed(&heap->mixed);
    uint64_t more = (uint64_t)blocks; /* modulo 2^64 */
    uint32_t over =
        berth__slab_class(slab)->size - parts->per_block * berth__classes[parts->small_class].size;
    berth__count_add(&mixed->extra[slab->small_class], -more);
    berth__count_add(&mixed->extra[parts->small_class], more * parts->per_block);
    berth__count_add(&heap->totals->tail_bytes, more * over);
}

bool berth__mixed_prepare_locked(struct berth__heap *heap) {
    struct berth__heap_mixed *mixed = berth__load_relaxed(&heap->mixed);
    if (mixed == NULL) {
        mixed = berth__meta_alloc(sizeof(*mixed));
        for (unsigned c = 0; mixed != NULL && c < BERTH_SMALL_CLASS_COUNT; c++) {
            berth__list_init(&mixed->open[c]);
        }
        berth__store_release(&heap->mixed, mixed);
    }
    return mixed != NULL;
}

void berth__mixed_relist_locked(struct berth__heap *heap, struct berth__slab *slab) {
    struct berth__parts *parts = berth__parts_of(slab);
    bool can_give = parts->ready_count > 0 || slab->ready_count > 0;
    bool listed = parts->link.next != &parts->link;
    if (can_give && !listed) {
        struct berth__heap_mixed *mixed = berth__load_relaxed(&heap->mixed);
        berth__list_push_front(&mixed->open[parts->small_class], &parts->link);
    } else if (!can_give && listed) {
        berth__list_remove(&parts->link);
    }
}

void berth__mixed_join_locked(struct berth__heap *heap, struct berth__slab *slab) {
    const struct berth__parts *parts = berth__parts_of(slab);
    count_cut_locked(heap, slab, parts->cut_count);
    berth__heap_count_free_locked(heap, parts->small_class, parts->ready_count);
    berth__mixed_relist_locked(heap, slab);
}

void berth__mixed_leave_locked(struct berth__heap *heap, struct berth__slab *slab) {
    struct berth__parts *parts = berth__parts_of(slab);
    berth__list_remove(&parts->link);
    count_cut_locked(heap, slab, -(int64_t)parts->cut_count);
    berth__heap_count_free_locked(heap, parts->small_class, -(int64_t)parts->ready_count);
}

struct berth__slab *berth__mixed_first_locked(struct berth__heap *heap, unsigned small_class) {
    struct berth__heap_mixed *mixed = berth__load_relaxed(&heap->mixed);
    struct berth__list *first = mixed == NULL ? NULL : berth__list_first(&mixed->open[small_class]);
    return first == NULL ? NULL : slab_of(first);
}

/* ---- lending ---- */

/* Free bytes of a class if they are worth cutting for another, else 0. */
static uint64_t to_spare(struct berth__heap *heap, unsigned small_class, unsigned part_class) {
    const struct berth__heap_class *class = &heap->classes[small_class];
    uint64_t free_bytes =
        berth__load_relaxed(&class->free_blocks) * berth__classes[small_class].size;
    uint64_t slab_bytes = (uint64_t)berth__load_relaxed(&class->slabs) * BERTH_UNIT;
    bool rich = free_bytes >= berth__mixed_policy.free_bytes &&
                free_bytes >= slab_bytes / berth__mixed_policy.free_share &&
                berth__parts_per_block(small_class, part_class) > 0;
    return rich ? free_bytes : 0;
}

/* A plain slab with a ready block, if there is one among the first, where plain ones are. */
static struct berth__slab *plain_ready_slab(struct berth__heap_class *class) {
    enum { LOOKS_MAX = 8 };
    for (unsigned list = BERTH_SLAB_DENSE; list <= BERTH_SLAB_SPARSE; list++) {
        struct berth__list *head = &class->lists[list - 1];
        struct berth__list *at = head->next;
        for (unsigned i = 0; i < LOOKS_MAX && at != head; i++, at = at->next) {
            struct berth__slab *slab = BERTH_LIST_ENTRY(at, struct berth__slab, link);
            if (!slab->mixed) {
                return slab;
            }
        }
    }
    return NULL;
}

/* A slab of the class that has most to spare, of those that have a ready block: cold ones count as
 * free, too. */
static struct berth__slab *slab_to_mix_locked(struct berth__heap *heap, unsigned part_class)
    BERTH_REQUIRES(heap->lock) {
    struct berth__slab *slab = NULL;
    uint64_t most = 0;
    for (unsigned c = part_class + 1; c < BERTH_SMALL_CLASS_COUNT; c++) {
        uint64_t spare = to_spare(heap, c, part_class);
        struct berth__slab *ready = spare > most ? plain_ready_slab(&heap->classes[c]) : NULL;
        if (ready != NULL) {
            most = spare;
            slab = ready;
        }
    }
    return slab;
}

static struct berth__slab *mix_another_locked(struct berth__heap *heap, unsigned part_class)
    BERTH_REQUIRES(heap->lock) {
    const struct berth__mixed_policy *policy = &berth__mixed_policy;
    bool sampled = BERTH_ENTRY_KIND(heap->mark) == BERTH_UNIT_SAMPLED;
    if (sampled || berth__load_relaxed(&heap->totals->free_bytes) < policy->free_bytes ||
        berth__load_relaxed(&heap->classes[part_class].slabs) < policy->slabs) {
        return NULL;
    }
    struct berth__slab *slab = slab_to_mix_locked(heap, part_class);
    if (slab == NULL || !berth__mixed_prepare_locked(heap) ||
        !berth__parts_begin(slab, part_class)) {
        return NULL;
    }
    berth__entries_set(slab->base, 1, berth__slab_entry(heap, slab)); /* M1 */
    struct berth__list *head = &heap->classes[slab->small_class].lists[slab->list - 1];
    berth__list_remove(&slab->link);
    berth__list_push_back(head, &slab->link);
    return slab;
}

static void cut_locked(struct berth__heap *heap, struct berth__slab *slab)
    BERTH_REQUIRES(heap->lock) {
    const struct berth__parts *parts = berth__parts_of(slab);
    berth__parts_cut(slab);
    count_cut_locked(heap, slab, 1);
    berth__heap_count_free_locked(heap, slab->small_class, -1);
    berth__heap_count_free_locked(heap, parts->small_class, parts->per_block);
}

unsigned berth__mixed_lend_locked(struct berth__heap *heap, unsigned small_class, unsigned count,
                                  void **out) {
    unsigned lent = 0;
    while (lent < count) {
        struct berth__slab *slab = berth__mixed_first_locked(heap, small_class);
        slab = slab != NULL ? slab : mix_another_locked(heap, small_class);
        if (slab == NULL) {
            break;
        }
        if (berth__parts_of(slab)->ready_count == 0) {
            cut_locked(heap, slab);
        }
        lent += berth__parts_lend(slab, count - lent, out + lent);
        berth__heap_relist_locked(heap, slab);
    }
    return lent;
}

/* ---- taking back ---- */

/* A block is whole again, and ready; the slab perhaps plain. */
static void joined_locked(struct berth__heap *heap, struct berth__slab *slab)
    BERTH_REQUIRES(heap->lock) {
    struct berth__parts *parts = berth__parts_of(slab);
    count_cut_locked(heap, slab, -1);
    berth__heap_count_free_locked(heap, parts->small_class, -(int64_t)parts->per_block);
    berth__heap_count_free_locked(heap, slab->small_class, 1);
    if (parts->cut_count == 0) {
        berth__list_remove(&parts->link);
        berth__parts_end(slab);
        berth__entries_set(slab->base, 1, berth__slab_entry(heap, slab)); /* M1 */
    }
}

unsigned berth__mixed_take_back_locked(struct berth__heap *heap, struct berth__slab *slab,
                                       void *block) {
    struct berth__part part = berth__part_find(berth__parts_of(slab), slab->small_class, block);
    bool joined = false;
    if (BERTH_UNLIKELY(!part.is_start)) {
        berth__misuse("free of a pointer inside a block", block);
    }
    bool taken = part.is_part ? berth__parts_take_back(slab, part, &joined)
                              : berth__slab_take_back(slab, &block, 1) == 1;
    if (BERTH_UNLIKELY(!taken)) {
        berth__misuse("double free", block);
    }
    berth__heap_count_free_locked(heap, part.small_class, 1);
    if (joined) {
        joined_locked(heap, slab);
    }
    return part.small_class;
}

/* ---- audit ---- */

uint64_t berth__mixed_audit_locked(struct berth__heap *heap, unsigned small_class) {
    struct berth__heap_mixed *mixed = berth__load_relaxed(&heap->mixed);
    uint64_t ready = 0;
    if (mixed == NULL) {
        return 0;
    }
    struct berth__list *open = &mixed->open[small_class];
    for (struct berth__list *at = open->next; at != open; at = at->next) {
        const struct berth__slab *slab = slab_of(at);
        if (!slab->mixed || !berth__parts_are_valid(slab)) {
            return UINT64_MAX;
        }
        ready += berth__parts_of(slab_of(at))->ready_count;
    }
    return ready;
}
