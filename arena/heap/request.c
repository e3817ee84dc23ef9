#include "heap/request.h"

#include "base/check.h"
#include "chunk/meta.h"
#include "heap/decay.h"
#include "heap/emergency.h"
#include "heap/engine.h"
#include "heap/fork.h"
#include "heap/io.h"
#include "heap/misuse.h"
#include "heap/mixed.h"
#include "heap/observer.h"
#include "heap/sample.h"
#include "heap/trace.h"

#include <errno.h>
#include <string.h>

/* ---- small blocks ---- */

void *berth__heap_lend_one(struct berth__heap *heap, unsigned small_class, bool anywhere) {
    void *block = NULL;
    berth__lock_acquire(&heap->lock);
    if (berth__remote_pending(heap)) {
        berth__remote_drain_locked(heap, NULL, BERTH_REMOTE_STEP);
    }
    if (berth__heap_lend_locked(heap, small_class, 1, &block, anywhere) == 1) {
        berth__heap_count_locked(heap, small_class, 1, 0);
        berth__handed_out(block);
        berth__unpoison(block, berth__classes[small_class].size);
    }
    berth__lock_release(&heap->lock);
    return block;
}

/* For a thread that has no cache: it has ended, or there was no memory for one. */
static void *lend_uncached(struct berth__arenas *arenas, unsigned small_class, bool anywhere) {
    struct berth__arena *arena = berth__arenas_here(arenas);
    struct berth__heap *heap = arena == NULL ? NULL : berth__heap_shared(arena);
    return heap == NULL ? NULL : berth__heap_lend_one(heap, small_class, anywhere);
}

static unsigned small_class_of(const struct berth__request *request) {
    return request->alignment <= BERTH_GRANULE
               ? berth__class_of_size(request->size)
               : berth__class_of_aligned(request->size, request->alignment);
}

static struct berth__heap *heap_for(struct berth__cache *cache, struct berth__arenas *arenas) {
    if (cache != NULL) {
        return cache->heap;
    }
    struct berth__arena *arena = berth__arenas_here(arenas);
    return arena == NULL ? NULL : berth__heap_shared(arena);
}

/* A block for the profiler to follow, if one is due; NULL: the request is served as ever. */
static void *attempt_sampled(const struct berth__request *request, struct berth__cache *cache,
                             unsigned small_class, unsigned charge_flags) {
    bool due = cache != NULL ? berth__sample_is_due(cache, small_class)
                             : berth__sample_is_due_uncached(small_class);
    void *block = due ? berth__sample_small(request, small_class, charge_flags) : NULL;
    if (due && block == NULL && cache != NULL) {
        berth__sample_unmark(&cache->bins[small_class]);
    }
    return block;
}

void *berth__small_attempt(const struct berth__request *request, unsigned charge_flags,
                           bool anywhere) {
    unsigned small_class = small_class_of(request);
    struct berth__cache *cache = berth__cache_get(request->arenas);
    void *sampled =
        berth__sample_is_on() ? attempt_sampled(request, cache, small_class, charge_flags) : NULL;
    if (sampled != NULL) {
        return sampled;
    }
    uint64_t meta_failures = berth__meta_failures();
    do { /* what one round makes room for, another thread may take */
        void *block =
            cache == NULL ? NULL : berth__cache_pop(cache, berth__classes[small_class].size);
        if (block == NULL) {
            block = cache != NULL ? berth__cache_refill(cache, small_class, anywhere)
                                  : lend_uncached(request->arenas, small_class, anywhere);
        }
        if (block != NULL) {
            return block;
        }
        struct berth__heap *heap = heap_for(cache, request->arenas);
        if (heap == NULL) {
            return NULL;
        }
        if (berth__heap_steal(heap, small_class, anywhere)) {
            continue;
        }
        if (berth__arena_grow(heap->arena, BERTH_UNIT_PAGES, BERTH_UNIT_PAGES, charge_flags,
                              request) != 0) {
            return NULL;
        }
    } while (berth__meta_failures() == meta_failures); /* else a slab may lack its bitmaps */
    return NULL;
}

/* ---- any block ---- */

static berth__attempt *attempt_for(const struct berth__request *request) {
    const struct berth__policy *policy = &request->arenas->policy;
    if (request->size <= BERTH_SMALL_MAX && request->alignment <= BERTH_PAGE &&
        small_class_of(request) < BERTH_SMALL_CLASS_COUNT) {
        return berth__small_attempt;
    }
    size_t most = berth__max(request->size, request->alignment);
    return most <= policy->chunk_bytes && most <= BERTH_CHUNK ? berth__run_attempt
                                                              : berth__huge_attempt;
}

unsigned berth__request_charge_flags(const struct berth__request *request) {
    bool reserve = (request->flags & BERTH_REQUEST_RESERVE) != 0 || berth__tls.reclaiming;
    bool from_malloc = (request->flags & BERTH_REQUEST_MALLOC) != 0;
    return (reserve ? BERTH_CHARGE_RESERVE : 0u) | (from_malloc ? BERTH_CHARGE_MALLOC : 0u);
}

/* A thread whose last request failed is handling that: what it needs meanwhile is small, and may
 * come from the reserve. That ends with a request that is served without. */
static void *attempt_first(const struct berth__request *request, berth__attempt *attempt) {
    unsigned charge_flags = berth__request_charge_flags(request);
    void *block = attempt(request, charge_flags, false);
    if (BERTH_LIKELY(!berth__tls.unwinding)) {
        return block;
    }
    if (block != NULL && (charge_flags & BERTH_CHARGE_RESERVE) == 0) {
        berth__tls.unwinding = false;
    } else if (block == NULL && request->size <= BERTH_SMALL_MAX) {
        block = attempt(request, charge_flags | BERTH_CHARGE_RESERVE, true);
    }
    return block;
}

static BERTH_NOINLINE void tell_of_soft_limit(const struct berth__request *request) {
    const struct berth__event_hooks *hooks = berth__load_acquire(&berth__event_hooks);
    if (hooks != NULL) {
        hooks->soft_limit((request->flags & BERTH_REQUEST_MALLOC) != 0);
    }
}

/* Within one arena, memory that is mapped but elsewhere is used before more is mapped only by the
 * ladder: so that arenas stay apart while there is no need. */
static void *serve(const struct berth__request *request, bool climbs) {
    if (request->size > PTRDIFF_MAX) {
        return NULL;
    }
    if (berth__fork_must_detour()) {
        return berth__emergency_alloc(request->size, request->alignment); /* fresh pages: zero */
    }
    if (berth__io_is_inherited(request->arenas)) {
        return NULL;
    }
    berth__attempt *attempt = attempt_for(request);
    if (attempt == berth__huge_attempt && request->arenas->policy.io) {
        return NULL; /* its memory is whole chunks */
    }
    void *block = attempt_first(request, attempt);
    if (block == NULL && climbs) {
        block = berth__reclaim(request, attempt);
    }
    if (block != NULL && attempt == berth__small_attempt &&
        (request->flags & BERTH_REQUEST_ZERO) != 0) {
        memset(block, 0, request->size);
    }
    if (attempt != berth__small_attempt && block != NULL && berth__sample_is_on()) {
        berth__sample_large(request, block);
    }
    if (attempt == berth__huge_attempt) {
        (void)berth__tick(true);
    }
    if (BERTH_UNLIKELY(berth__load_relaxed(&berth__soft_due) != 0)) {
        tell_of_soft_limit(request);
    }
    return block;
}

void *berth__request_serve(const struct berth__request *request) {
    return serve(request, true);
}

/* ---- freeing ---- */

/* 0: no block of an arena. */
static uint64_t entry_of(const void *block) {
    berth__entry *entry = berth__entry_find(block);
    return BERTH_LIKELY(entry != NULL) ? berth__load_relaxed(entry) : 0;
}

static uint64_t entry_or_misuse(const void *block) {
    uint64_t entry = entry_of(block);
    if (BERTH_UNLIKELY(entry == 0)) {
        berth__misuse_of_no_block("use", block);
    }
    return entry;
}

static bool is_small(uint64_t entry) {
    return entry != 0 && BERTH_ENTRY_IS_SLAB(entry);
}

static void send_uncached(void *block, uint64_t entry) {
    berth__misuse_if_free(block);
    struct berth__remote_block item = berth__remote_block(block, entry);
    berth__poison(block, item.size);
    berth__remote_send(&item, 1, false);
}

static void free_uncached(void *block, uint64_t entry) {
    const struct berth__class *class = &berth__classes[BERTH_ENTRY_BIN(entry) / BERTH_BIN_BYTES];
    if (!berth__divides((uint32_t)((uintptr_t)block % BERTH_UNIT), class->reciprocal)) {
        berth__misuse("free of a pointer inside a block", block);
    }
    send_uncached(block, entry);
}

static void free_small(void *block, uint64_t entry) {
    struct berth__arenas *arenas = berth__heap_of_entry(entry)->arenas;
    struct berth__cache *cache = berth__cache_get(arenas);
    if (BERTH_UNLIKELY(cache == NULL)) {
        free_uncached(block, entry);
    } else if (cache == berth__tls.cache || !berth__cache_push(&cache, &cache->mark, block)) {
        berth__cache_take(cache, block, entry); /* if it serves malloc, it was tried before */
    }
}

/* What lies in a mixed slab may not start on a multiple of its size. */
static void free_mixed(void *block) {
    uint64_t entry = berth__mixed_entry(block);
    if (BERTH_UNLIKELY(entry == 0)) {
        berth__misuse("free of a pointer inside a block", block);
    }
    struct berth__cache *cache = berth__cache_get(berth__heap_of_entry(entry)->arenas);
    if (BERTH_UNLIKELY(cache == NULL)) {
        send_uncached(block, entry);
        return;
    }
    uint64_t offset = entry - cache->mark;
    struct berth__bin *bin = berth__bin_of_entry(cache, entry);
    if (offset >= sizeof(cache->bins) || !berth__bin_push(cache, bin, block)) {
        berth__cache_take_block(cache, block, entry);
    }
}

/* What lies in no unit of ours. */
static void free_elsewhere(void *block) {
    if (block != NULL && !berth__emergency_owns(block)) {
        berth__misuse_of_no_block("free", block);
    }
}

static void forget_large(const void *block) {
    if (berth__sample_is_on()) {
        (void)berth__sample_forget_large(block);
    }
}

static BERTH_NOINLINE void free_by_kind(void *block, uint64_t entry) {
    if (BERTH_UNLIKELY(berth__load_relaxed(&berth__io_any_inherited)) &&
        berth__io_is_inherited(berth__block_arenas(block))) {
        return; /* it is the parent's */
    }
    switch (BERTH_ENTRY_KIND(entry)) {
    case BERTH_UNIT_SLAB:
    case BERTH_UNIT_POOL_SLAB: free_small(block, entry); break;
    case BERTH_UNIT_HUGE:
        forget_large(block);
        berth__huge_free(block);
        (void)berth__tick(true);
        break;
    case BERTH_UNIT_SAMPLED: berth__sample_free(block, entry); break;
    case BERTH_UNIT_MIXED: free_mixed(block); break;
    case BERTH_UNIT_RUN: /* not here */
    default: berth__misuse("free of a pointer inside a block", block);
    }
}

/* A small block of another thread's heap, as the malloc door meets them; false: nothing was done.
 * While the thread is in a scope of a tag, its cache is another pool's. */
BERTH_INLINE bool gather(void *block, uint64_t entry) {
    struct berth__cache *cache = berth__tls.cache;
    return entry - cache->mark >= sizeof(cache->bins) && cache->of_default &&
           berth__divides((uint32_t)((uintptr_t)block % BERTH_UNIT),
                          berth__bin_of_entry(cache, entry)->reciprocal) &&
           berth__cache_gather(cache, block, entry);
}

static BERTH_NOINLINE void free_any(void *block) {
    uint64_t entry = entry_of(block);
    if (BERTH_UNLIKELY(entry == 0)) {
        free_elsewhere(block);
        return;
    }
    if (berth__fork_must_detour()) {
        return; /* in the child of a fork that interrupted us, frees are dropped for the moment */
    }
    if (BERTH_LIKELY(BERTH_ENTRY_KIND(entry) == BERTH_UNIT_RUN)) {
        forget_large(block);
        berth__run_free(block);
        return;
    }
    struct berth__cache *cache = berth__tls.cache;
    if (BERTH_LIKELY(BERTH_ENTRY_KIND(entry) == BERTH_UNIT_SLAB && cache->of_default)) {
        berth__cache_take(cache, block, entry);
    } else {
        free_by_kind(block, entry);
    }
}

/* A small block of a pool, most often of the thread's own heap there. */
static BERTH_NOINLINE void free_of_pool(void *block, uint64_t entry) {
    struct berth__cache *cache = berth__cache_peek(berth__heap_of_entry(entry)->arenas);
    if (BERTH_UNLIKELY(cache == NULL || !berth__cache_push(&cache, &cache->mark, block))) {
        free_any(block);
    }
}

/* The most common cases, without a frame; all others come from free_any. */
void berth__block_free(void *block) {
    char *base = berth__primary.base;
    size_t unit = ((uintptr_t)block - (uintptr_t)base) / BERTH_UNIT;
    if (BERTH_UNLIKELY(unit >= berth__primary.units) ||
        BERTH_UNLIKELY(berth__load_relaxed(&berth__fork_interrupted))) {
        free_any(block);
        return;
    }
    uint64_t entry = berth__load_relaxed((berth__entry *)(void *)base + unit);
    if (BERTH_ENTRY_KIND(entry) == BERTH_UNIT_RUN && !berth__sample_is_on()) {
        berth__run_free(block);
    } else if (BERTH_ENTRY_KIND(entry) == BERTH_UNIT_SLAB) {
        if (entry == 0 || !gather(block, entry)) {
            free_any(block);
        }
    } else if (BERTH_ENTRY_KIND(entry) == BERTH_UNIT_POOL_SLAB) {
        free_of_pool(block, entry);
    } else {
        free_any(block);
    }
}

/* ---- asking and changing ---- */

static BERTH_NOINLINE uint32_t mixed_size(const void *block, const char *fault) {
    uint64_t entry = berth__mixed_entry(block);
    if (entry == 0) {
        berth__misuse(fault, block);
    }
    return berth__classes[BERTH_ENTRY_BIN(entry) / BERTH_BIN_BYTES].size;
}

/* The size of a small block, which must start where the pointer points. One that is followed lies
 * in a larger block, but is what it would be otherwise: a program that asks, and makes the most of
 * what it has, must not treat it differently, or the samples would not be of what it does. */
static uint32_t small_size(const void *block, uint64_t entry, const char *fault) {
    if (BERTH_UNLIKELY(BERTH_ENTRY_KIND(entry) == BERTH_UNIT_MIXED)) {
        return mixed_size(block, fault);
    }
    const struct berth__class *class = &berth__classes[BERTH_ENTRY_BIN(entry) / BERTH_BIN_BYTES];
    if (BERTH_UNLIKELY(
            !berth__divides((uint32_t)((uintptr_t)block % BERTH_UNIT), class->reciprocal))) {
        berth__misuse(fault, block);
    }
    if (BERTH_UNLIKELY(BERTH_ENTRY_KIND(entry) == BERTH_UNIT_SAMPLED)) {
        size_t bytes = berth__samples_size(block);
        return bytes != 0 && bytes < class->size ? (uint32_t)bytes : class->size;
    }
    return class->size;
}

static size_t huge_size(const void *block) {
    const struct berth__chunk *first = berth__chunk_of(block);
    if (BERTH_UNLIKELY(first->at != (const char *)block)) {
        berth__misuse("size of a pointer inside a block", block);
    }
    return first->huge.bytes;
}

static BERTH_NOINLINE size_t size_by_kind(const void *block) {
    if (BERTH_UNLIKELY(berth__emergency_owns(block))) {
        return berth__emergency_size(block);
    }
    switch (BERTH_ENTRY_KIND(entry_or_misuse(block))) {
    case BERTH_UNIT_RUN: return berth__run_bytes(block);
    case BERTH_UNIT_HUGE: return huge_size(block);
    case BERTH_UNIT_SLAB:
    case BERTH_UNIT_POOL_SLAB:
    case BERTH_UNIT_SAMPLED:
    case BERTH_UNIT_MIXED:
    default: berth__misuse("size of a pointer inside a block", block);
    }
}

size_t berth__block_size(const void *block) {
    uint64_t entry = entry_of(block);
    return BERTH_LIKELY(is_small(entry))
               ? small_size(block, entry, "size of a pointer inside a block")
               : size_by_kind(block);
}

/* True if a block must stay as it is: what describes it is not there, or must not be touched. */
static bool is_fixed(const void *block) {
    return berth__fork_must_detour() || BERTH_UNLIKELY(berth__emergency_owns(block));
}

static bool resize_by_kind(void *block, size_t size) {
    if (is_fixed(block)) {
        return size <= berth__block_size(block);
    }
    switch (BERTH_ENTRY_KIND(entry_or_misuse(block))) {
    case BERTH_UNIT_RUN:
        return size <= berth__chunk_of(block)->arena->arenas->policy.chunk_bytes &&
               berth__run_resize(block, size);
    case BERTH_UNIT_HUGE: return berth__huge_resize(block, size);
    case BERTH_UNIT_SLAB:
    case BERTH_UNIT_POOL_SLAB:
    case BERTH_UNIT_SAMPLED:
    case BERTH_UNIT_MIXED:
    default: berth__misuse("realloc of a pointer inside a block", block);
    }
}

bool berth__block_resize(void *block, size_t size) {
    uint64_t entry = entry_of(block);
    if (BERTH_UNLIKELY(!is_small(entry))) {
        return resize_by_kind(block, size);
    }
    uint32_t have = small_size(block, entry, "realloc of a pointer inside a block");
    return size <= have && (size > have / 2 || have <= 4 * BERTH_GRANULE);
}

/* A huge block that is to become longer: the ladder is climbed for the difference. */
struct growth {
    struct berth__request request;
    void *block;
    size_t size;
    int *error;
};

/* The block, if it needs no further attempt: it has grown, or must be copied. */
static void *grow_attempt(const struct berth__request *request, unsigned charge_flags,
                          bool anywhere) {
    (void)anywhere;
    const struct growth *growth = BERTH_CONTAINER_OF(request, const struct growth, request);
    void *block = growth->block;
    size_t mapped;
    *growth->error = berth__huge_grow(&block, growth->size, charge_flags, &mapped);
    if (*growth->error == 0 && berth__trace_is_on()) {
        size_t bytes = berth__round_up(request->size, berth__page_bytes);
        struct berth__taking taking = {BERTH_TRACE_HUGE_MORE, block, bytes, mapped, 0};
        berth__trace_note(request, &taking);
    }
    return *growth->error == -ENOMEM ? NULL : block;
}

/* After a block was resized where it lies, or by moving its pages: as if it were freed, and
 * allocated by the request. */
static void draw_again(const struct berth__request *request, void *block) {
    if (berth__sample_is_on() && !is_fixed(block) && !is_small(entry_of(block))) {
        (void)berth__sample_forget_large(block);
        berth__sample_large(request, block);
    }
}

bool berth__block_extend(void *block, struct berth__request *request) {
    bool extended = berth__block_resize(block, request->size);
    if (extended) {
        request->arenas = berth__block_arenas(block);
        draw_again(request, block);
    }
    return extended;
}

/* 0, -ENOMEM, or -ENOTSUP if the block must be copied. */
static int grow_huge(void **block, size_t have, const struct berth__request *request) {
    int error = 0;
    struct growth growth = {
        .request = *request, .block = *block, .size = request->size, .error = &error};
    growth.request.size = request->size - have;
    void *grown =
        grow_attempt(&growth.request, berth__request_charge_flags(&growth.request), false);
    if (grown == NULL) {
        grown = berth__reclaim(&growth.request, grow_attempt);
    }
    *block = grown == NULL ? *block : grown;
    return error;
}

static void *move(void *from, size_t have, void *to, size_t size) {
    if (to != NULL) {
        memcpy(to, from, berth__min(have, size));
        berth__block_free(from);
    }
    return to;
}

/* To become smaller must not fail, nor wait, nor bother the application: where there is no room for
 * a smaller block, the one that is there stays, as short as its kind can be. */
static void *move_to_less(void *block, size_t have, const struct berth__request *request) {
    void *moved = move(block, have, serve(request, false), request->size);
    if (moved != NULL) {
        return moved;
    }
    size_t run_max = request->arenas->policy.chunk_bytes;
    size_t least = (have > run_max ? run_max : BERTH_SMALL_MAX) + 1;
    if (have > least && !is_fixed(block)) {
        (void)berth__block_resize(block, least);
    }
    return block;
}

/* Growing huge blocks move by remapping; if that cannot be, everything moves by copying. */
void *berth__block_realloc(void *block, const struct berth__request *request) {
    if (request->size > PTRDIFF_MAX) {
        return NULL;
    }
    size_t have = berth__block_size(block);
    bool huge = have > request->arenas->policy.chunk_bytes && !is_fixed(block);
    if (huge) {
        forget_large(block); /* while nobody else can have its address */
    }
    int error = huge && request->size > have ? grow_huge(&block, have, request) : -ENOTSUP;
    if (error == 0 || (error == -ENOTSUP && berth__block_resize(block, request->size))) {
        draw_again(request, block);
        if (huge) {
            (void)berth__tick(true);
        }
        return block;
    }
    if (error != -ENOTSUP) {
        return NULL;
    }
    return request->size <= have ? move_to_less(block, have, request)
                                 : move(block, have, berth__request_serve(request), request->size);
}

struct berth__arenas *berth__block_arenas(const void *block) {
    if (BERTH_UNLIKELY(berth__emergency_owns(block))) {
        return berth__default_arenas();
    }
    uint64_t entry = entry_or_misuse(block);
    if (BERTH_ENTRY_IS_SLAB(entry)) {
        return berth__heap_of_entry(entry)->arenas;
    }
    return berth__chunk_of(block)->arena->arenas;
}
