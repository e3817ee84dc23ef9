#include "heap/bins.h"

#include "chunk/meta.h"

#include <string.h>

_Atomic int64_t berth__cache_budget BERTH_LINE_ALIGNED;
uint64_t berth__cache_budget_total;

enum {
    SMALL_ARRAY_SLOTS = 8,
    REMOTE_ARRAY_BYTES = BERTH_REMOTE_BLOCKS * sizeof(struct berth__remote_block),
};

/* Most blocks that a bin may hold: a few of the largest, many of the smallest. */
static unsigned capacity_max(unsigned small_class) {
    uint32_t size = berth__bin_class_size(small_class);
    size_t blocks =
        (size <= BERTH_TINY_MAX ? BERTH_BIN_TINY_BYTES_MAX : BERTH_BIN_BYTES_MAX) / size;
    return (unsigned)berth__min(berth__max(blocks, 4), BERTH_BIN_BLOCKS_MAX);
}

/* Slots of the array that holds `capacity` blocks and the two NULLs: a power of two. */
static unsigned array_slots(unsigned capacity) {
    unsigned needed = capacity + BERTH_BIN_ENDS;
    return capacity == 0                 ? 0
           : needed <= SMALL_ARRAY_SLOTS ? SMALL_ARRAY_SLOTS
                                         : 1u << (berth__highest_bit(needed - 1) + 1);
}

/* Takes at least `bytes` from the budget for this cache. Nobody takes more than a quarter of what
 * is left, so there is always some for a thread that comes later. */
static bool obtain_grant(struct berth__cache *cache, uint64_t bytes) {
    int64_t wish = (int64_t)berth__max(bytes, BERTH_GRANT_STEP);
    int64_t left = berth__load_relaxed(&berth__cache_budget);
    do {
        if (wish > left / 4) {
            wish = (int64_t)bytes;
        }
        if (wish > left / 4) {
            return false;
        }
    } while (!berth__cas_weak_relaxed(&berth__cache_budget, &left, left - wish));
    berth__add_relaxed(&cache->granted, (uint64_t)wish);
    return true;
}

void berth__grant_return(struct berth__cache *cache, uint64_t bytes) {
    berth__sub_relaxed(&cache->granted, bytes);
    berth__add_relaxed(&berth__cache_budget, (int64_t)bytes);
}

bool berth__cache_reserve(struct berth__cache *cache, uint64_t bytes) {
    uint64_t allowed = cache->allowance + berth__load_relaxed(&cache->granted);
    if (cache->reserved + bytes > allowed &&
        !obtain_grant(cache, cache->reserved + bytes - allowed)) {
        return false;
    }
    cache->reserved += bytes;
    berth__add_relaxed(&cache->arenas->cached_bound, bytes);
    return true;
}

void berth__cache_unreserve(struct berth__cache *cache, uint64_t bytes) {
    cache->reserved -= bytes;
    berth__sub_relaxed(&cache->arenas->cached_bound, bytes);
}

static void **new_array(struct berth__cache *cache, unsigned slots) {
    if (slots == SMALL_ARRAY_SLOTS &&
        cache->inline_used + slots <= BERTH_ARRAY_COUNT(cache->inline_slots)) {
        void **array = cache->inline_slots + cache->inline_used;
        cache->inline_used += slots;
        return array;
    }
    return berth__meta_alloc(slots * sizeof(void *));
}

static void free_array(struct berth__cache *cache, void **array, unsigned slots) {
    bool is_inline = array >= cache->inline_slots &&
                     array < cache->inline_slots + BERTH_ARRAY_COUNT(cache->inline_slots);
    if (!is_inline && slots > 0) { /* inline slots are few, and live as long as the cache */
        berth__meta_free(array, slots * sizeof(void *));
    }
}

/* Moves a bin's blocks to an array for `capacity` blocks, not fewer than it has now. */
static bool set_capacity(struct berth__cache *cache, struct berth__bin *bin, unsigned capacity) {
    uint32_t size = berth__bin_class_size(berth__bin_class(cache, bin));
    unsigned old_slots = array_slots(bin->capacity);
    unsigned slots = array_slots(capacity);
    unsigned count = berth__bin_count(bin);
    if (!berth__cache_reserve(cache, (uint64_t)(capacity - bin->capacity) * size)) {
        return false;
    }
    void **end = berth__bin_end(bin);
    if (slots != old_slots) {
        void **array = new_array(cache, slots);
        if (array == NULL) {
            berth__cache_unreserve(cache, (uint64_t)(capacity - bin->capacity) * size);
            return false;
        }
        void **new_end = array + slots - BERTH_BIN_ENDS;
        memcpy(new_end - count, bin->top, count * sizeof(void *));
        new_end[0] = new_end[1] = NULL;
        if (old_slots > 0) {
            free_array(cache, end + BERTH_BIN_ENDS - old_slots, old_slots);
        }
        end = new_end;
    }
    bin->top = end - count;
    bin->low = end - capacity;
    bin->capacity = (uint16_t)capacity;
    return true;
}

bool berth__bin_grow(struct berth__cache *cache, struct berth__bin *bin, bool by_turns) {
    unsigned most = capacity_max(berth__bin_class(cache, bin));
    if (!by_turns) {
        most = (unsigned)berth__min(most, BERTH_BIN_BLOCKS_ONE_WAY);
    }
    if (bin->capacity >= most) {
        return false;
    }
    bin->batch &= (uint16_t)~BERTH_BIN_OVERFLOWED;
    unsigned first = berth__bin_class_size(berth__bin_class(cache, bin)) <= BERTH_GRANULE ? 6 : 2;
    unsigned wish = bin->capacity == 0 ? first : 2u * (bin->capacity + 1u);
    return set_capacity(cache, bin, (unsigned)berth__min(wish, most)) ||
           (bin->capacity == 0 && set_capacity(cache, bin, 1));
}

void berth__bin_strip(struct berth__cache *cache, struct berth__bin *bin) {
    unsigned small_class = berth__bin_class(cache, bin);
    if (bin->capacity == 0) {
        return;
    }
    unsigned slots = array_slots(bin->capacity);
    berth__cache_unreserve(cache, (uint64_t)bin->capacity * berth__bin_class_size(small_class));
    free_array(cache, berth__bin_end(bin) + BERTH_BIN_ENDS - slots, slots);
    *bin = berth__no_cache.bins[small_class];
}

void berth__remote_strip(struct berth__cache *cache) {
    if (cache->remote_max != 0) {
        cache->remote_max = 0;
        berth__cache_unreserve(cache, cache->remote_limit);
        cache->remote_limit = 0;
        berth__meta_free(cache->remote, REMOTE_ARRAY_BYTES);
        cache->remote = NULL;
    }
}

bool berth__remote_make(struct berth__cache *cache) {
    uint32_t limit = berth__cache_reserve(cache, BERTH_REMOTE_BYTES)       ? BERTH_REMOTE_BYTES
                     : berth__cache_reserve(cache, BERTH_REMOTE_BYTES_MIN) ? BERTH_REMOTE_BYTES_MIN
                                                                           : 0;
    cache->remote = limit == 0 ? NULL : berth__meta_alloc(REMOTE_ARRAY_BYTES);
    if (cache->remote == NULL) {
        berth__cache_unreserve(cache, limit);
        return false;
    }
    cache->remote_limit = limit;
    cache->remote_max = BERTH_REMOTE_BLOCKS;
    return true;
}
