#include "heap/sample.h"

#include "base/check.h"
#include "chunk/wait.h"
#include "heap/bins.h"
#include "heap/decay.h"
#include "heap/misuse.h"
#include "heap/sample_draw.h"
#include "heap/sample_probe.h"
#include "heap/stash.h"
#include "os/clock.h"
#include "os/dynamic.h"

#include <errno.h>

_Atomic uint64_t berth__sample_epoch;
static _Atomic uint64_t interval_now;
static _Atomic uint64_t shared_random; /* of threads without a cache */
static _Atomic bool unwinds;

/* ---- settings ---- */

void berth__sample_set(uint64_t interval) {
    berth__store_relaxed(&interval_now, interval);
    berth__samples_note_interval(interval);
    berth__add_acq_rel(&berth__sample_epoch, 1);
}

uint64_t berth__sample_get(void) {
    return berth__load_relaxed(&interval_now);
}

void berth__sample_use_unwinder(void) {
    void *places[4];
    (void)berth__dynamic_stack(places, BERTH_ARRAY_COUNT(places));
    berth__store_relaxed(&unwinds, true);
}

/* ---- marks ---- */

static uint64_t seed(const void *of) {
    uint64_t mixed = (berth__clock_ns() ^ (uintptr_t)of) * UINT64_C(0x9e3779b97f4a7c15);
    return (mixed ^ mixed >> 32) | 1;
}

/* Blocks move towards the bin's end. */
void berth__sample_unmark(struct berth__bin *bin) {
    void **end = berth__bin_end(bin);
    void **to = end;
    for (void **from = end; from > bin->top;) {
        if (*--from != NULL) {
            *--to = *from;
        }
    }
    bin->settled = (uint16_t)(bin->settled - (to - bin->top));
    bin->top = to;
}

void berth__sample_renew(struct berth__cache *cache) {
    bool before = berth__cache_busy(cache);
    cache->sample_epoch = berth__load_acquire(&berth__sample_epoch);
    cache->sample_interval = berth__sample_get();
    if (cache->sample_random == 0) {
        cache->sample_random = seed(cache);
    }
    if (cache->sample_interval != 0) {
        cache->sample_left = berth__sample_distance(&cache->sample_random, cache->sample_interval);
    }
    berth__sample_bound_stash(cache);
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        struct berth__bin *bin = &cache->bins[c];
        berth__sample_unmark(bin);
        bin->batch &= (uint16_t)~BERTH_BIN_DUE;
        if (bin->fuel > 0) {
            int32_t used = bin->fuel_start - bin->fuel;
            bin->fuel = (int32_t)berth__bin_draw_fuel(cache, bin, (uint32_t)bin->fuel);
            bin->fuel_start = (uint16_t)(bin->fuel + used);
        }
    }
    berth__cache_idle(cache, before);
}

uint32_t berth__bin_draw(struct berth__cache *cache, const struct berth__bin *bin, uint32_t count) {
    uint64_t interval = cache->sample_interval;
    return BERTH_LIKELY(interval == 0)
               ? count
               : berth__sample_draw(&cache->sample_random, interval,
                                    berth__bin_class_size(berth__bin_class(cache, bin)), count);
}

uint32_t berth__bin_draw_fuel(struct berth__cache *cache, struct berth__bin *bin, uint32_t fuel) {
    uint32_t drawn = berth__bin_draw(cache, bin, fuel);
    bin->batch &= (uint16_t)~BERTH_BIN_DUE;
    bin->batch |= drawn < fuel ? BERTH_BIN_DUE : 0;
    return drawn;
}

bool berth__sample_is_due(struct berth__cache *cache, unsigned small_class) {
    uint64_t interval = berth__sample_interval_of(cache);
    struct berth__bin *bin = &cache->bins[small_class];
    if (bin->top == berth__bin_end(bin)) {
        return interval != 0 && berth__bin_draw(cache, bin, 1) == 0;
    }
    if (*bin->top != NULL) {
        return false;
    }
    bool before = berth__cache_busy(cache);
    bin->top++;
    bin->settled--;
    berth__cache_idle(cache, before);
    return true;
}

/* ---- following ---- */

/* The place that a frame returns to is the first. The unwinder begins within berth. */
static unsigned unwind(const void *frame, void **places) {
    enum { OWN_MAX = 12 };
    void *all[BERTH_SITE_DEPTH + OWN_MAX];
    unsigned depth = berth__dynamic_stack(all, BERTH_ARRAY_COUNT(all));
    const void *site = ((void *const *)frame)[1];
    unsigned first = 0;
    while (first < depth && all[first] != site) {
        first++;
    }
    unsigned kept = 0;
    for (unsigned i = first; i < depth && kept < BERTH_SITE_DEPTH; i++) {
        places[kept++] = all[i];
    }
    return kept;
}

unsigned berth__sample_stack(const struct berth__request *request, void *places[BERTH_SITE_DEPTH]) {
    struct berth__cache *cache = berth__cache_peek(request->arenas);
    struct berth__stack unknown = {0, 0};
    unsigned depth = 0;
    if (request->frame == NULL) {
        return 0;
    }
    if (berth__load_relaxed(&unwinds)) {
        int saved_errno = errno;
        berth__tls.sampling = true;
        depth = unwind(request->frame, places);
        berth__tls.sampling = false;
        errno = saved_errno;
    }
    return depth != 0 ? depth
                      : berth__stack_walk(cache == NULL ? &unknown : &cache->stack, request->frame,
                                          places, BERTH_SITE_DEPTH);
}

/* `bytes`: of the block that the request would have had without this; `drawn`: by which it was
 * drawn. */
static bool follow(const struct berth__request *request, const void *block, size_t bytes,
                   size_t drawn) {
    void *places[BERTH_SITE_DEPTH];
    struct berth__cache *cache = berth__cache_peek(request->arenas);
    struct berth__sampled sampled = {
        .block = block,
        .requested = request->size,
        .bytes = bytes,
        .drawn = drawn,
        .interval = cache == NULL ? berth__sample_get() : cache->sample_interval,
        .places = places,
        .depth = berth__sample_stack(request, places),
    };
    uint64_t weight = sampled.interval == 0 ? 0 : berth__samples_add(&sampled);
    if (weight != 0) {
        berth__probe_alloc(block, request->size, weight);
    }
    return weight != 0;
}

/* ---- small blocks ---- */

/* Four sizes to a quarter each: what is lost by it is little, as there are few such blocks, and
 * each size needs a slab. */
static unsigned class_of(const struct berth__request *request, unsigned small_class) {
    enum { LEAST = 256, FACTOR = 4 };
    size_t size = LEAST;
    while (size < berth__classes[small_class].size) {
        size *= FACTOR;
    }
    unsigned coarse = berth__class_of_aligned(size, request->alignment);
    return coarse < BERTH_SMALL_CLASS_COUNT ? coarse : small_class;
}

static void *lend_or_grow(const struct berth__request *request, unsigned small_class,
                          unsigned charge_flags) {
    struct berth__cache *cache = berth__cache_peek(request->arenas);
    struct berth__arena *arena = cache != NULL ? cache->arena : berth__arenas_here(request->arenas);
    struct berth__heap *heap = arena == NULL ? NULL : berth__heap_sampled(arena);
    if (heap == NULL) {
        return NULL;
    }
    void *block = berth__heap_lend_one(heap, small_class, false);
    if (block == NULL && !berth__ledger_is_short() &&
        berth__arena_grow(arena, BERTH_UNIT_PAGES, BERTH_UNIT_PAGES, charge_flags, request) == 0) {
        block = berth__heap_lend_one(heap, small_class, false);
    }
    return block;
}

void *berth__sample_small(const struct berth__request *request, unsigned small_class,
                          unsigned charge_flags) {
    const struct berth__arenas *arenas = request->arenas;
    bool scarce = arenas->lent != NULL || arenas->policy.io || arenas->policy.shared;
    if (berth__tls.sampling || scarce) {
        return NULL;
    }
    void *block = lend_or_grow(request, class_of(request, small_class), charge_flags);
    size_t bytes = berth__classes[small_class].size;
    if (block != NULL && !follow(request, block, bytes, bytes)) {
        berth__sample_free(block, berth__load_relaxed(berth__entry_find(block)));
        block = NULL;
    }
    return block;
}

void berth__sample_free(void *block, uint64_t entry) {
    unsigned small_class = (unsigned)(BERTH_ENTRY_BIN(entry) / BERTH_BIN_BYTES);
    const struct berth__class *class = &berth__classes[small_class];
    struct berth__heap *heap = berth__heap_of_entry(entry);
    if (!berth__divides((uint32_t)((uintptr_t)block % BERTH_UNIT), class->reciprocal)) {
        berth__misuse("free of a pointer inside a block", block);
    }
    berth__misuse_if_free(block);
    berth__poison(block, class->size);
    if (berth__samples_remove(block)) {
        berth__probe_free(block);
    }
    if (!berth__try_lock(&heap->lock)) { /* a fork may have set the heap aside, locked */
        struct berth__remote_block item = berth__remote_block(block, entry);
        berth__remote_send(&item, 1, false);
        return;
    }
    berth__heap_count_locked(heap, small_class, 0, 1);
    berth__heap_give_locked(heap, &block, 1, BERTH_GIVE_CACHE);
    berth__lock_release(&heap->lock);
    berth__decay_step(heap->arena);
}

/* ---- normal and huge blocks ---- */

/* A bit for the page that a block begins on: no other one does. */
static _Atomic uint64_t *word_of(const void *block, uint64_t *bit) {
    struct berth__chunk *chunk = berth__chunk_of(block);
    size_t page = (size_t)((const char *)block - chunk->at) / BERTH_PAGE;
    *bit = UINT64_C(1) << (page % 64);
    return &chunk->sampled[page / 64];
}

void berth__sample_count_stash(struct berth__cache *cache) {
    struct berth__stash *stash = cache->stash;
    if (stash != NULL) {
        cache->sample_left -= stash->fuel_seen - stash->fuel_bytes;
        stash->fuel_seen = stash->fuel_bytes;
    }
}

void berth__sample_bound_stash(struct berth__cache *cache) {
    struct berth__stash *stash = cache->stash;
    if (stash != NULL) {
        if (cache->sample_interval != 0 && stash->fuel_bytes > cache->sample_left) {
            stash->fuel_bytes = cache->sample_left;
        }
        stash->fuel_seen = stash->fuel_bytes;
    }
}

static bool is_drawn(struct berth__cache *cache, uint64_t interval, size_t bytes) {
    if (cache != NULL) {
        berth__sample_count_stash(cache);
        cache->sample_left -= (int64_t)bytes;
        bool drawn = cache->sample_left < 0;
        if (BERTH_UNLIKELY(drawn)) {
            cache->sample_left = berth__sample_distance(&cache->sample_random, interval);
        }
        berth__sample_bound_stash(cache);
        return drawn;
    }
    uint64_t random = berth__load_relaxed(&shared_random);
    random = random == 0 ? seed(&random) : random;
    bool drawn = berth__sample_draw(&random, interval, bytes, 1) == 0;
    berth__store_relaxed(&shared_random, random);
    return drawn;
}

bool berth__sample_is_due_uncached(unsigned small_class) {
    uint64_t interval = berth__sample_get();
    return interval != 0 && is_drawn(NULL, interval, berth__classes[small_class].size);
}

void berth__sample_large(const struct berth__request *request, void *block) {
    struct berth__cache *cache = berth__cache_peek(request->arenas);
    uint64_t interval = cache != NULL ? berth__sample_interval_of(cache) : berth__sample_get();
    size_t drawn = berth__max(request->size, 1);
    if (interval == 0 || berth__tls.sampling || !is_drawn(cache, interval, drawn) ||
        !follow(request, block, berth__block_size(block), drawn)) {
        return;
    }
    uint64_t bit;
    _Atomic uint64_t *word = word_of(block, &bit);
    atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
}

bool berth__sample_forget_large(const void *block) {
    uint64_t bit;
    _Atomic uint64_t *word = word_of(block, &bit);
    if (BERTH_LIKELY((berth__load_relaxed(word) & bit) == 0) || !berth__samples_remove(block)) {
        return false;
    }
    atomic_fetch_and_explicit(word, ~bit, memory_order_relaxed);
    berth__probe_free(block);
    return true;
}

static bool is_of_pool(void *arenas, const void *block) {
    if (berth__chunk_of(block)->arena->arenas != arenas) {
        return false;
    }
    uint64_t bit;
    _Atomic uint64_t *word = word_of(block, &bit);
    atomic_fetch_and_explicit(word, ~bit, memory_order_relaxed);
    return true;
}

void berth__sample_forget_pool(struct berth__arenas *arenas) {
    berth__samples_forget(is_of_pool, arenas);
}
