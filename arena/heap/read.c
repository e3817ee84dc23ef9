#include "heap/read.h"

#include "heap/heap.h"
#include "heap/mixed.h"
#include "heap/request.h"

#include <string.h>

static uint64_t minus(uint64_t a, uint64_t b) { /* torn reads may cross */
    return a > b ? a - b : 0;
}

static void add_heap(const struct berth__heap_totals *totals, struct berth__arena_counts *counts) {
    counts->heaps++;
    counts->slabs += berth__load_relaxed(&totals->slabs);
    counts->slab_tail += berth__load_relaxed(&totals->tail_bytes);
    counts->free_slab +=
        berth__load_relaxed(&totals->free_bytes) + berth__load_relaxed(&totals->vacant_bytes);
    counts->lends += berth__load_relaxed(&totals->lends);
    counts->returns +=
        berth__load_relaxed(&totals->returns) + berth__load_relaxed(&totals->remote_freed);
    counts->refills += berth__load_relaxed(&totals->refills);
    counts->flushes += berth__load_relaxed(&totals->flushes);
    counts->remote_batches += berth__load_relaxed(&totals->remote_batches);
    counts->remote_blocks += berth__load_relaxed(&totals->remote_blocks);
    counts->slabs_made += berth__load_relaxed(&totals->slabs_made);
    counts->slabs_returned += berth__load_relaxed(&totals->slabs_returned);
    uint64_t drained = berth__load_relaxed(&totals->remote_drained);
    counts->remote += minus(berth__load_relaxed(&totals->remote_sent), drained);
    counts->contended += berth__load_relaxed(&totals->contended);
}

/* Has the processor fetch what add_heap will read. Nothing is wrong if the place is. */
static void fetch(const struct berth__heap_totals *totals) {
    const char *lines = (const char *)totals;
    __builtin_prefetch(lines);
    __builtin_prefetch(lines + BERTH_CACHE_LINE);
    __builtin_prefetch(lines + (size_t)2 * BERTH_CACHE_LINE);
}

/* By number: what the processor waits for is then not the heaps themselves, one after the other.
 * Where threads came to their arenas in turn, the numbers of an arena's heaps are equally far
 * apart: so those that come later are guessed, and fetched meanwhile. */
static void add_heaps(struct berth__arena *arena, struct berth__arena_counts *counts) {
    struct berth__heap *newest = berth__load_acquire(&arena->newest_heap);
    uint32_t number = newest == NULL ? 0 : newest->number;
    while (number != 0) {
        enum { AHEAD = 12 };
        const struct berth__heap_totals *totals = berth__heap_totals_of(number);
        uint32_t distance = AHEAD * (number - totals->older);
        if (distance < number) {
            fetch(berth__heap_totals_of(number - distance));
        }
        add_heap(totals, counts);
        number = totals->older;
    }
}

/* Calls add for each heap of an arena. */
static void each_heap(struct berth__arena *arena, void (*add)(struct berth__heap *, void *),
                      void *context) {
    for (struct berth__heap *heap = berth__load_acquire(&arena->newest_heap); heap != NULL;
         heap = heap->older) {
        add(heap, context);
    }
}

/* Without its heaps. */
static void read_arena(struct berth__arena *arena, struct berth__arena_counts *counts) {
    memset(counts, 0, sizeof(*counts));
    counts->chunks = berth__load_relaxed(&arena->chunk_count);
    counts->chunk = berth__load_relaxed(&arena->chunk_bytes);
    counts->free_run =
        berth__load_relaxed(&arena->free_bytes) + berth__load_relaxed(&arena->twin_bytes);
    counts->dirty_run = berth__load_relaxed(&arena->dirty_bytes);
    counts->run_lent = berth__load_relaxed(&arena->run_bytes);
    counts->lends = berth__load_relaxed(&arena->run_lends);
    counts->returns = berth__load_relaxed(&arena->run_returns);
    counts->chunk_maps = berth__load_relaxed(&arena->chunk_maps);
    counts->chunk_unmaps = berth__load_relaxed(&arena->chunk_unmaps);
    counts->purged =
        berth__load_relaxed(&arena->purged_bytes) + berth__load_relaxed(&arena->slab_purged_bytes);
    counts->purge_calls =
        berth__load_relaxed(&arena->purge_calls) + berth__load_relaxed(&arena->slab_purge_calls);
    counts->contended = berth__load_relaxed(&arena->lock.contended) +
                        berth__load_relaxed(&arena->grow_lock.contended);
}

/* Of all heaps together: what lies on one's stack may be of a slab that another has taken. */
static void settle_lent(struct berth__arena_counts *counts) {
    counts->slab_lent =
        minus(counts->slabs * BERTH_UNIT, counts->free_slab + counts->slab_tail + counts->remote);
}

void berth__arena_read(struct berth__arena *arena, struct berth__arena_counts *counts) {
    read_arena(arena, counts);
    add_heaps(arena, counts);
    settle_lent(counts);
}

static void add_counts(struct berth__arena_counts *sum, const struct berth__arena_counts *more) {
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)more;
    for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++) {
        to[i] += from[i];
    }
}

/* All heaps there are, in the order in which their totals lie in memory. */
static void add_heaps_in_order(const struct berth__arenas *arenas,
                               struct berth__arena_counts *counts) {
    enum { AHEAD = 8 };
    uint32_t end = berth__heap_numbers();
    uint32_t pool = arenas->number + 1;
    for (uint32_t first = 0; first < end; first += BERTH_TOTALS_AT_ONCE) {
        const struct berth__heap_totals *totals = berth__heap_totals_of(first);
        if (totals == NULL) {
            continue;
        }
        for (unsigned i = 0; i < BERTH_TOTALS_AT_ONCE; i++, totals++) {
            fetch(totals + AHEAD); /* beyond the last one there is nothing wrong, nor to be had */
            if (berth__load_acquire(&totals->pool) == pool) { /* H1 */
                add_heap(totals, counts);
            }
        }
    }
}

/* True if the pool has half of all heaps, and these are many. */
static bool has_most_heaps(const struct berth__arenas *arenas) {
    enum { MANY = 64 };
    uint32_t heaps = berth__load_relaxed(&arenas->heap_count);
    return heaps >= MANY && heaps >= berth__heap_numbers() / 2;
}

static void read_arenas(struct berth__arenas *arenas, struct berth__arenas_counts *counts) {
    struct berth__arena *arena;
    bool in_order = has_most_heaps(arenas);
    for (BERTH_EACH_ARENA(arena, arenas)) {
        struct berth__arena_counts of_arena;
        read_arena(arena, &of_arena);
        if (!in_order) {
            add_heaps(arena, &of_arena);
        }
        add_counts(&counts->sum, &of_arena);
        counts->arenas++;
    }
    if (in_order) {
        add_heaps_in_order(arenas, &counts->sum);
    }
    settle_lent(&counts->sum);
}

void berth__arenas_read(struct berth__arenas *arenas, struct berth__arenas_counts *counts) {
    memset(counts, 0, sizeof(*counts));
    read_arenas(arenas, counts);
    counts->threads = berth__load_relaxed(&arenas->thread_count);
    counts->huge = berth__load_relaxed(&arenas->huge_bytes);
    counts->huge_blocks = berth__load_relaxed(&arenas->huge_count);
    counts->file = berth__load_relaxed(&arenas->file_bytes);
    struct berth__run_cache_counts cached;
    berth__run_caches_read(arenas, &cached);
    counts->cached_run = cached.bytes;
    counts->sum.lends += berth__load_relaxed(&arenas->huge_lends) + cached.lends;
    counts->sum.returns += berth__load_relaxed(&arenas->huge_returns) + cached.returns;
    counts->cached_bound = berth__load_relaxed(&arenas->cached_bound);
    uint64_t lent = counts->sum.slab_lent + minus(counts->sum.run_lent, cached.bytes);
    uint64_t mapped = counts->huge + counts->file;
    counts->live_high_bytes = lent + mapped;
    counts->live_low_bytes = minus(lent, counts->cached_bound) + mapped;
    counts->failures = berth__load_relaxed(&arenas->failures);
    counts->waits = berth__load_relaxed(&arenas->waits);
    counts->waits_failed = berth__load_relaxed(&arenas->waits_failed);
    counts->ladder_runs = berth__load_relaxed(&arenas->ladder_runs);
}

struct class_sum {
    unsigned small_class;
    struct berth__class_counts *counts;
    uint64_t blocks;
};

static void add_class(struct berth__heap *heap, void *context) {
    struct class_sum *sum = context;
    struct berth__heap_class *class = &heap->classes[sum->small_class];
    uint64_t slabs = berth__load_relaxed(&class->slabs);
    sum->blocks += slabs * berth__classes[sum->small_class].blocks +
                   berth__mixed_extra(heap, sum->small_class);
    sum->counts->slabs += slabs;
    sum->counts->free += berth__load_relaxed(&class->free_blocks) +
                         berth__load_relaxed(&heap->traffic[sum->small_class].vacant);
    sum->counts->lends += berth__load_relaxed(&heap->traffic[sum->small_class].lends);
    sum->counts->returns += berth__load_relaxed(&heap->traffic[sum->small_class].returns);
}

void berth__class_read(struct berth__arenas *arenas, unsigned small_class,
                       struct berth__class_counts *counts) {
    memset(counts, 0, sizeof(*counts));
    struct class_sum sum = {.small_class = small_class, .counts = counts};
    struct berth__arena *arena;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        each_heap(arena, add_class, &sum);
    }
    /* Of all heaps together: what a cache has may be of a slab that another has taken. */
    int64_t lent = (int64_t)(sum.blocks - counts->free);
    counts->lent = lent > 0 ? (uint64_t)lent : 0;
}
