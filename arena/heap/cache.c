#include "heap/cache.h"

#include "base/check.h"
#include "chunk/wait.h"
#include "heap/bins.h"
#include "heap/decay.h"
#include "heap/misuse.h"
#include "heap/sample.h"
#include "heap/stash.h"
#include "os/clock.h"
#include "os/probe.h"
#include "os/topology.h"

#include <string.h>

enum {
    PROMOTE_REFILLS = 64, /* refills within PROMOTE_MS that earn a thread a heap of its own */
    PROMOTE_MS = 1000,
    SWEEP_MS = 500,
    TAKEN_IN = BERTH_HARDENED ? BERTH_REMOTE_ALL : BERTH_REMOTE_STEP, /* of what others freed */
};

/* ---- counting ---- */

static void refuel(struct berth__cache *cache, struct berth__bin *bin) {
    uint32_t fuel = berth__decay_in_debt(cache->arena) ? BERTH_FUEL_IN_DEBT : BERTH_FUEL;
    (void)berth__sample_interval_of(cache);
    fuel = berth__bin_draw_fuel(cache, bin, fuel);
    bin->fuel = (int32_t)fuel;
    bin->fuel_start = (uint16_t)fuel;
}

/* Adds what the bin did since the last time to its heap's counts. Where free was refused for lack
 * of fuel, fuel is -1 for none left. */
static void settle_bin_locked(struct berth__cache *cache, struct berth__bin *bin)
    BERTH_REQUIRES(cache->heap->lock) {
    unsigned count = berth__bin_count(bin);
    int32_t left = bin->fuel < 0 ? 0 : bin->fuel;
    uint64_t freed = (uint64_t)(bin->fuel_start - left);
    uint64_t allocated = bin->settled + freed - count;
    if (allocated != 0 || freed != 0) {
        berth__heap_count_locked(cache->heap, berth__bin_class(cache, bin), allocated, freed);
    }
    bin->settled = (uint16_t)count;
    bin->fuel = left;
    bin->fuel_start = (uint16_t)left;
}

/* ---- moving blocks ---- */

void berth__cache_send_remote(struct berth__cache *cache) {
    unsigned count = cache->remote_count;
    if (count == 0) {
        return;
    }
    bool before = berth__cache_busy(cache);
    cache->remote_count = 0;
    cache->remote_bytes = 0;
    cache->remote_sends++;
    berth__remote_send(cache->remote, count, false);
    berth__cache_idle(cache, before);
}

/* Gives the `count` oldest blocks of a bin back. Marks among them are dropped. */
static void give_oldest_locked(struct berth__cache *cache, struct berth__bin *bin, unsigned count)
    BERTH_REQUIRES(cache->heap->lock) {
    void **end = berth__bin_end(bin);
    void **to = end - count;
    for (void **from = to; from < end; from++) {
        *to = *from;
        to += *from != NULL;
    }
    berth__heap_give_locked(cache->heap, end - count, (unsigned)(to - (end - count)),
                            BERTH_GIVE_CACHE);
    berth__count_add(&cache->heap->totals->flushes, 1);
    memmove(bin->top + count, bin->top, (berth__bin_count(bin) - count) * sizeof(void *));
    bin->top += count;
    bin->settled = (uint16_t)berth__bin_count(bin);
}

static void flush_bin_locked(struct berth__cache *cache, struct berth__bin *bin)
    BERTH_REQUIRES(cache->heap->lock) {
    settle_bin_locked(cache, bin);
    unsigned count = berth__bin_count(bin);
    if (count > 0) {
        give_oldest_locked(cache, bin, count);
    }
}

/* `more`: 1, or -1 to take it back. */
static void count_vacant_locked(struct berth__cache *cache, int64_t more)
    BERTH_REQUIRES(cache->heap->lock) {
    struct berth__heap *heap = cache->heap;
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        uint64_t blocks = (uint64_t)more * berth__bin_blocks(&cache->bins[c]); /* modulo 2^64 */
        berth__count_add(&heap->traffic[c].vacant, blocks);
        berth__count_add(&heap->totals->vacant_bytes, blocks * berth__bin_class_size(c));
    }
}

void berth__cache_settle(struct berth__cache *cache) {
    berth__lock_acquire(&cache->heap->lock);
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        settle_bin_locked(cache, &cache->bins[c]);
    }
    count_vacant_locked(cache, 1);
    berth__lock_release(&cache->heap->lock);
    berth__sub_relaxed(&cache->arenas->cached_bound, cache->reserved);
}

void berth__cache_unsettle(struct berth__cache *cache) {
    berth__add_relaxed(&cache->arenas->cached_bound, cache->reserved);
    berth__lock_acquire(&cache->heap->lock);
    count_vacant_locked(cache, -1);
    berth__lock_release(&cache->heap->lock);
}

void berth__cache_flush(struct berth__cache *cache, bool grant) {
    bool before = berth__cache_busy(cache);
    berth__lock_acquire(&cache->heap->lock);
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        flush_bin_locked(cache, &cache->bins[c]);
    }
    berth__lock_release(&cache->heap->lock);
    berth__cache_send_remote(cache);
    berth__stash_flush(cache);
    if (grant) {
        berth__stash_strip(cache);
        berth__remote_strip(cache);
        for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
            berth__bin_strip(cache, &cache->bins[c]);
        }
        berth__grant_return(cache, berth__load_relaxed(&cache->granted));
        cache->inline_used = 0;
    }
    berth__cache_idle(cache, before);
}

/* A thread that the scheduler has moved for good is served by the arena where it runs now. */
static void follow(struct berth__cache *cache) {
    enum { STRAYS_MAX = 3 };
    if (berth__topology_domain_count() < 2) {
        return;
    }
    struct berth__arena *here = berth__arenas_here(cache->arenas);
    bool near = here == NULL || berth__arena_is_near(here, cache->arena);
    cache->strays = near ? 0 : cache->strays + 1;
    if (cache->strays == STRAYS_MAX) {
        cache->strays = 0;
        berth__cache_flush(cache, false);
        (void)berth__cache_join(cache, here); /* else it stays where it is */
    }
}

/* Every so often, bins that were not used since the last look lose half of what they hold, and
 * their capacity goes back for others to use. */
static void sweep(struct berth__cache *cache, const struct berth__bin *in_use) {
    uint32_t now = (uint32_t)berth__clock_coarse_ms();
    if (now - cache->swept_ms < SWEEP_MS) {
        return;
    }
    cache->swept_ms = now;
    berth__lock_acquire(&cache->heap->lock);
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        struct berth__bin *bin = &cache->bins[c];
        bool used =
            bin == in_use || bin->fuel != bin->fuel_start || bin->settled != berth__bin_count(bin);
        if (bin->capacity > 0 && !used) {
            flush_bin_locked(cache, bin);
            berth__bin_strip(cache, bin);
        } else if (used) {
            settle_bin_locked(cache, bin);
        }
    }
    berth__lock_release(&cache->heap->lock);
    if (cache->remote_sends == 0 && cache->remote_max != 0) {
        berth__cache_send_remote(cache);
        berth__remote_strip(cache);
    }
    cache->remote_sends = 0;
    berth__stash_sweep(cache);
    follow(cache);
    uint64_t needed = berth__max(cache->reserved, cache->allowance) - cache->allowance;
    uint64_t granted = berth__load_relaxed(&cache->granted);
    if (granted > needed + BERTH_GRANT_STEP) {
        berth__grant_return(cache, granted - needed);
    }
}

void berth__cache_look_around(struct berth__cache *cache) {
    bool before = berth__cache_busy(cache);
    sweep(cache, NULL);
    berth__cache_idle(cache, before);
}

/* What every slow path does besides its own work, without a lock. */
static void pay_dues(struct berth__cache *cache, const struct berth__bin *in_use) {
    enum { EVERY = 8 }; /* looking at the clocks costs as much as a small refill */
    if (++cache->slow_calls % EVERY != 0 && !berth__decay_owes(cache->arena)) {
        return;
    }
    berth__decay_step(cache->arena);
    sweep(cache, in_use);
}

void berth__cache_pay_dues(struct berth__cache *cache) {
    bool before = berth__cache_busy(cache);
    pay_dues(cache, NULL);
    berth__cache_idle(cache, before);
}

/* ---- a heap of its own ---- */

/* `owned`: the thread is counted as an owner of the arena. */
static void use_heap(struct berth__cache *cache, struct berth__heap *heap, bool owned) {
    cache->heap = heap;
    cache->mark = heap->mark;
    cache->owns_heap = owned;
    cache->arena = heap->arena;
    if (berth__tls.cache == cache) {
        berth__tls.mark = heap->mark;
    }
}

/* A fork may have set the count to none. */
static void discount_owner(struct berth__arena *arena) {
    uint32_t owners = berth__load_relaxed(&arena->owners);
    while (owners > 0 && !berth__cas_weak_relaxed(&arena->owners, &owners, owners - 1)) {
    }
}

void berth__cache_release_heap(struct berth__cache *cache) {
    if (cache->owns_heap) {
        discount_owner(cache->arena);
        berth__heap_orphan(cache->heap);
    }
    cache->owns_heap = false;
    cache->heap = NULL;
}

void berth__cache_forgo_grant(struct berth__cache *cache) {
    berth__grant_return(cache, berth__load_relaxed(&cache->granted));
}

void berth__cache_abandon(struct berth__cache *cache) {
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        berth__bin_strip(cache, &cache->bins[c]);
    }
    berth__remote_strip(cache);
    berth__stash_strip(cache);
    berth__grant_return(cache, berth__load_relaxed(&cache->granted));
    cache->remote_count = 0;
    berth__store_release(&cache->serial, 0); /* D1 */
}

/* For a thread that is counted as an owner; NULL: it is not any more. */
static struct berth__heap *adopt_heap(struct berth__arena *arena) {
    struct berth__heap *heap = berth__heap_adopt(arena);
    if (heap == NULL) {
        discount_owner(arena);
    }
    return heap;
}

bool berth__cache_join(struct berth__cache *cache, struct berth__arena *arena) {
    uint32_t nobody = 0;
    bool owned = berth__cas_acq_rel(&arena->owners, &nobody, 1);
    struct berth__heap *heap = owned ? adopt_heap(arena) : NULL;
    owned = heap != NULL;
    heap = owned ? heap : berth__heap_shared(arena);
    if (heap == NULL) {
        return false;
    }
    if (cache->heap != NULL) {
        berth__cache_release_heap(cache);
    }
    use_heap(cache, heap, owned);
    return true;
}

void berth__cache_count_refill(struct berth__cache *cache) {
    if (cache->owns_heap) {
        return;
    }
    uint32_t now = (uint32_t)berth__clock_coarse_ms();
    if (now - cache->refills_since_ms > PROMOTE_MS) {
        cache->refills_since_ms = now;
        cache->refills = 0;
    }
    if (++cache->refills < PROMOTE_REFILLS) {
        return;
    }
    struct berth__heap *heap = adopt_heap(berth__arenas_admit(cache->arenas, cache->arena));
    if (heap == NULL) {
        cache->refills = 0;
        return;
    }
    bool before = berth__cache_busy(cache);
    berth__cache_flush(cache, false);
    use_heap(cache, heap, true);
    berth__cache_idle(cache, before);
}

/* ---- slow paths ---- */

/* Blocks to ask for: 1, 2, 4 .. half of the capacity; of the smallest, at least a cache line's
 * worth, so that two threads do not share one. */
static unsigned batch_of(struct berth__bin *bin, uint32_t size) {
    unsigned line = BERTH_CACHE_LINE / size;
    unsigned flags = bin->batch & BERTH_BIN_FLAGS;
    unsigned batch = bin->batch ^ flags;
    batch = (unsigned)berth__max(batch, berth__max(line, 1));
    bin->batch = (uint16_t)(berth__min((size_t)batch * 2, bin->capacity / 2 + 1) | flags);
    return (unsigned)berth__min(batch, bin->capacity);
}

/* The bin for blocks of this unit; NULL: its slab is not of the cache's heap, or there is none. */
static struct berth__bin *bin_of_unit(struct berth__cache *cache, const void *block) {
    berth__entry *at = berth__entry_find(block);
    uint64_t entry = at == NULL ? 0 : berth__load_relaxed(at);
    return entry - cache->mark < sizeof(cache->bins) ? berth__bin_of_entry(cache, entry) : NULL;
}

/* Up to here others' frees fill a bin. A quarter, and the slot of a free that is under way, are
 * left for its own thread. */
static void **keep_limit(const struct berth__bin *bin) {
    return bin->low + 1 + bin->capacity / 4;
}

/* Keeps those of blocks[*from..count) that lie in the first one's unit, up to the first that finds
 * no room; moves others of them to blocks[rest..). Returns how many it kept. */
static unsigned keep_of_unit(struct berth__bin *bin, void **blocks, unsigned *from, unsigned count,
                             unsigned *rest) {
    const uintptr_t unit = (uintptr_t)blocks[*from] / BERTH_UNIT;
    void **const limit = keep_limit(bin);
    void **const before = bin->top;
    void **top = before;
    unsigned i = *from;
    for (; i < count && (uintptr_t)blocks[i] / BERTH_UNIT == unit; i++) {
        void *block = blocks[i];
        if (BERTH_UNLIKELY(top[0] == block || top[1] == block)) {
            berth__misuse("double free", block); /* its slab knows it as lent */
        }
        bool start = berth__divides((uint32_t)((uintptr_t)block % BERTH_UNIT), bin->reciprocal);
        if (BERTH_LIKELY(start && top > limit)) {
            *--top = block;
        } else {
            blocks[(*rest)++] = block;
        }
    }
    *from = i;
    bin->top = top;
    return (unsigned)(before - top);
}

BERTH_NO_TSA
unsigned berth__cache_keep_locked(struct berth__cache *cache, void **blocks, unsigned count,
                                  bool counted) {
    if (BERTH_HARDENED || cache->sample_interval != 0 || berth__wait_anyone()) {
        return count;
    }
    unsigned rest = 0;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count;) {
        struct berth__bin *bin = bin_of_unit(cache, blocks[i]);
        if (BERTH_UNLIKELY(bin == NULL)) {
            blocks[rest++] = blocks[i++];
            continue;
        }
        unsigned kept = keep_of_unit(bin, blocks, &i, count, &rest);
        unsigned small_class = berth__bin_class(cache, bin);
        bin->settled = (uint16_t)(bin->settled + kept);
        berth__heap_count_home_locked(cache->heap, small_class, counted ? 0 : kept);
        bytes += (uint64_t)kept * berth__bin_class_size(small_class);
    }
    berth__count_add(&cache->heap->totals->remote_drained, bytes);
    return rest;
}

/* Lends into the bin, and hands the first block out. If one of the others is drawn for a sample,
 * lending ends there, a mark takes its place, and it goes back. Only a block that came is marked:
 * where the heap ran out, the next one is drawn anew, whatever was drawn for it here. The bin has
 * room for them. */
static void *lend_to_bin_locked(struct berth__cache *cache, struct berth__bin *bin, unsigned batch,
                                bool anywhere) BERTH_REQUIRES(cache->heap->lock) {
    unsigned small_class = berth__bin_class(cache, bin);
    void *single = NULL;
    unsigned unmarked = batch > 1 ? 1 + berth__bin_draw(cache, bin, batch - 1) : 1;
    unsigned wanted = unmarked + (unmarked < batch);
    void **end = bin->top;
    void **out = wanted > 1 ? end - wanted : &single;
    unsigned lent = berth__heap_lend_locked(cache->heap, small_class, wanted, out, anywhere);
    if (lent == 0) {
        return NULL;
    }
    void *block = out[0];
    if (lent > unmarked) {
        berth__heap_give_locked(cache->heap, out + unmarked, 1, BERTH_GIVE_CACHE);
        out[unmarked] = NULL;
    }
    if (wanted > 1) {
        bin->top = end - (lent - 1);
        memmove(bin->top, out + 1, (lent - 1) * sizeof(void *));
    }
    berth__heap_count_locked(cache->heap, small_class, 1, 0);
    bin->settled = (uint16_t)berth__bin_count(bin);
    return block;
}

/* The next block of a bin that holds what was kept of a drain, or nothing. It holds `batch` after
 * this, if the heap has so many. */
static void *fill_locked(struct berth__cache *cache, struct berth__bin *bin, unsigned batch,
                         bool anywhere) BERTH_REQUIRES(cache->heap->lock) {
    unsigned kept = berth__bin_count(bin);
    void *block = NULL;
    if (kept == 0 || kept < batch) {
        block = lend_to_bin_locked(cache, bin, batch - kept, anywhere);
    }
    if (block == NULL && kept > 0) {
        block = *bin->top++;
        berth__heap_count_locked(cache->heap, berth__bin_class(cache, bin), 1, 0);
        bin->settled = (uint16_t)berth__bin_count(bin);
    }
    return block;
}

/* The lock is known as the heap's here, as the cache's heap's in what is called. */
BERTH_NO_TSA
void *berth__cache_refill(struct berth__cache *cache, unsigned small_class, bool anywhere) {
    bool before = berth__cache_busy(cache);
    struct berth__bin *bin = &cache->bins[small_class];
    berth__cache_count_refill(cache);
    berth__bin_grow(cache, bin, (bin->batch & BERTH_BIN_OVERFLOWED) != 0);
    unsigned batch = batch_of(bin, berth__bin_class_size(small_class));
    struct berth__heap *heap = cache->heap;
    berth__lock_acquire(&heap->lock);
    if (berth__remote_pending(heap)) {
        berth__remote_drain_locked(heap, cache, TAKEN_IN);
    }
    settle_bin_locked(cache, bin);
    void *block = fill_locked(cache, bin, batch, anywhere);
    berth__count_add(&heap->totals->refills, 1);
    berth__lock_release(&heap->lock);
    BERTH_PROBE3(refill, cache->arenas->number, berth__bin_class_size(small_class),
                 berth__bin_count(bin) + (block != NULL));
    refuel(cache, bin);
    pay_dues(cache, bin);
    berth__cache_idle(cache, before);
    if (block != NULL) {
        berth__handed_out(block);
        berth__unpoison(block, berth__bin_class_size(small_class));
    }
    return block;
}

/* What a full bin gives up: half, or a quarter of a large one, which makes batches of a good size
 * and keeps more of what a burst of frees leaves for the burst of requests that follows. */
static unsigned surplus_of(const struct berth__bin *bin) {
    enum { LARGE = 64 };
    return bin->capacity > LARGE ? bin->capacity / 4u : (bin->capacity + 1u) / 2;
}

/* Whether a free that takes the slow path is to leave a mark: when fuel was given for no more, or
 * drawn now. */
static bool free_is_drawn(struct berth__cache *cache, struct berth__bin *bin) {
    (void)berth__sample_interval_of(cache);
    bool due = bin->fuel < 0 && (bin->batch & BERTH_BIN_DUE) != 0;
    return due || berth__bin_draw(cache, bin, 1) == 0;
}

/* A block of this cache's heap that the fast path refused. */
BERTH_NO_TSA
static void take_own(struct berth__cache *cache, struct berth__bin *bin, void *block) {
    if (BERTH_UNLIKELY(bin->top[0] == block || bin->top[1] == block)) {
        berth__misuse("double free", block);
    }
    bool sampled = free_is_drawn(cache, bin);
    bool full = bin->top == bin->low;
    bool grown = full && berth__bin_grow(cache, bin, false);
    bin->batch |= full ? BERTH_BIN_OVERFLOWED : 0;
    struct berth__heap *heap = cache->heap;
    berth__lock_acquire(&heap->lock);
    if (berth__remote_pending(heap)) {
        berth__remote_drain_locked(heap, cache, TAKEN_IN);
    }
    settle_bin_locked(cache, bin);
    if (full && !grown && bin->capacity > 0) {
        give_oldest_locked(cache, bin, surplus_of(bin));
    }
    berth__heap_count_locked(heap, berth__bin_class(cache, bin), 0, 1);
    if (bin->capacity == 0 || sampled) {
        berth__heap_give_locked(heap, &block, 1, BERTH_GIVE_CACHE);
    }
    if (bin->capacity != 0) {
        *--bin->top = sampled ? NULL : block;
        bin->settled = (uint16_t)berth__bin_count(bin);
    }
    berth__lock_release(&heap->lock);
    refuel(cache, bin);
    pay_dues(cache, bin);
}

/* There is no room for another block to be gathered: sends what there is, or makes room. */
static void gather_slow(struct berth__cache *cache, struct berth__remote_block block) {
    berth__cache_send_remote(cache);
    bool room = cache->remote_max != 0 || berth__remote_make(cache);
    if (room && block.size <= cache->remote_limit && !berth__wait_anyone()) {
        cache->remote[0] = block;
        cache->remote_bytes = block.size;
        cache->remote_count = 1;
    } else {
        berth__remote_send(&block, 1, false);
    }
    pay_dues(cache, NULL);
}

void berth__cache_take(struct berth__cache *cache, void *block, uint64_t entry) {
    if (BERTH_UNLIKELY(!berth__divides((uint32_t)((uintptr_t)block % BERTH_UNIT),
                                       berth__bin_of_entry(cache, entry)->reciprocal))) {
        berth__misuse("free of a pointer inside a block", block);
    }
    berth__cache_take_block(cache, block, entry);
}

void berth__cache_take_block(struct berth__cache *cache, void *block, uint64_t entry) {
    bool own = entry - cache->mark < sizeof(cache->bins);
    if (!own && berth__cache_gather(cache, block, entry)) {
        return;
    }
    struct berth__remote_block item = berth__remote_block(block, entry);
    berth__misuse_if_free(block);
    berth__poison(block, item.size);
    bool before = berth__cache_busy(cache);
    if (own) {
        take_own(cache, berth__bin_of_entry(cache, entry), block);
    } else {
        gather_slow(cache, item);
    }
    berth__cache_idle(cache, before);
}
