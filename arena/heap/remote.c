#include "heap/remote.h"

#include "base/poison.h"

#include "heap/arenas.h"
#include "heap/cache.h"
#include "heap/misuse.h"
#include "heap/mixed.h"
#include "os/clock.h"
#include "os/fault.h"
#include "os/probe.h"

#include <string.h>

static const uint64_t COUNTED = 1; /* in a message's own word, not in the one on the stack */

struct message {
    uint64_t next; /* the stack's word below this one */
    int32_t others[];
};

static struct message *top_of(uint64_t word) {
    return (struct message *)(uintptr_t)(word & ~COUNTED);
}

static uint64_t word_of(const struct message *top) {
    return (uintptr_t)top;
}

static uint64_t entry_of(const void *block) {
    return berth__plain_entry(block, berth__load_relaxed(berth__entry_find(block)));
}

static uint32_t size_of(const void *block) {
    return berth__classes[BERTH_ENTRY_BIN(entry_of(block)) / BERTH_BIN_BYTES].size;
}

static unsigned capacity_of(uint32_t size) {
    return (size - (uint32_t)sizeof(struct message)) / (uint32_t)sizeof(int32_t);
}

static bool is_block(const void *at) {
    berth__entry *place = berth__entry_find(at);
    uint64_t entry = place == NULL ? 0 : berth__load_relaxed(place);
    if (entry == 0 || !BERTH_ENTRY_IS_SLAB(entry)) {
        return false;
    }
    if (BERTH_UNLIKELY(BERTH_ENTRY_KIND(entry) == BERTH_UNIT_MIXED)) {
        return berth__mixed_entry(at) != 0;
    }
    return berth__divides((uint32_t)((uintptr_t)at % BERTH_UNIT),
                          berth__classes[BERTH_ENTRY_BIN(entry) / BERTH_BIN_BYTES].reciprocal);
}

/* What is read from a block that a message is said to lie in may be anything, if the program freed
 * it twice and writes to it. */
static void check_message(const struct message *message) {
    if (BERTH_UNLIKELY(!is_block(message))) {
        berth__misuse("double free, or a write to a freed block", message);
    }
}

/* Distance in granules, or 0 if it does not fit (spans far apart). Both are aligned to them. */
static int32_t distance(const struct message *carrier, const void *block) {
    int64_t granules = (int64_t)((uintptr_t)block - (uintptr_t)carrier) >> BERTH_GRANULE_SHIFT;
    return granules == (int32_t)granules ? (int32_t)granules : 0;
}

/* A chain of messages, linked from `first` to `last`, whose own word is still to be set. */
struct chain {
    struct message *first, *last;
    uint64_t carriers; /* a bit, by hash, for each message's address */
};

static void link_message(struct chain *chain, struct message *carrier, bool counted) {
    carrier->next = word_of(chain->first) | (counted ? COUNTED : 0);
    chain->first = carrier;
    chain->last = chain->last == NULL ? carrier : chain->last;
}

/* A block that was freed twice, and carries a message already, must not be written to again. Other
 * blocks that are named twice may be found when they are taken back. */
static void check_carrier(struct chain *chain, const struct message *carrier) {
    uint64_t hash = (uintptr_t)carrier / BERTH_GRANULE * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t bit = UINT64_C(1) << (hash >> 58);
    if ((chain->carriers & bit) != 0) {
        for (struct message *at = chain->first; at != NULL; at = top_of(at->next)) {
            if (BERTH_UNLIKELY(at == carrier)) {
                berth__misuse("double free", carrier);
            }
        }
    }
    chain->carriers |= bit;
}

/* Packs the last of items[0..count), and as many of those before it as fit behind it. Returns how
 * many are left. */
static unsigned pack_last(struct chain *chain, const struct berth__remote_block *items,
                          unsigned count, bool counted) {
    struct message *carrier = (struct message *)(void *)items[--count].block;
    unsigned capacity = capacity_of(items[count].size);
    check_carrier(chain, carrier);
    berth__unpoison(carrier, items[count].size);
    const struct berth__remote_block *end = items + count;
    int32_t *other = carrier->others;
    int32_t *const others_end = other + capacity;
    for (; other < others_end && end > items; end--) {
        int32_t to = distance(carrier, end[-1].block);
        if (BERTH_UNLIKELY(to == 0)) {
            break;
        }
        *other++ = to;
    }
    if (other < others_end) {
        *other = 0;
    }
    link_message(chain, carrier, counted);
    return (unsigned)(end - items);
}

/* The largest block names the most others. */
static void move_largest_last(struct berth__remote_block *items, unsigned count) {
    unsigned largest = 0;
    for (unsigned i = 1; i < count; i++) {
        largest = items[i].size > items[largest].size ? i : largest;
    }
    struct berth__remote_block item = items[largest];
    items[largest] = items[count - 1];
    items[count - 1] = item;
}

static struct chain pack(struct berth__remote_block *items, unsigned count, bool counted,
                         bool alike) {
    struct chain chain = {NULL, NULL, 0};
    while (count > 0) {
        if (!alike) {
            move_largest_last(items, count);
        }
        count = pack_last(&chain, items, count, counted);
    }
    return chain;
}

/* Bytes that may wait for a heap's owner. */
static uint64_t bound_of(const struct berth__heap *heap) {
    uint32_t absent_ms =
        (uint32_t)berth__clock_coarse_ms() - berth__load_relaxed(&heap->owner_seen_ms);
    uint64_t half = berth__load_relaxed(&heap->totals->slabs) * (BERTH_UNIT / 2);
    return absent_ms > BERTH_REMOTE_ABSENT_MS ? 0 : berth__min(half, BERTH_REMOTE_PILE_MAX);
}

/* A heap whose owner does not come round: whoever finds much on its stack drains it. */
static void help(struct berth__heap *heap) {
    int64_t pile = (int64_t)(berth__load_relaxed(&heap->remote_sent) -
                             berth__load_relaxed(&heap->remote_drained));
    if (pile > BERTH_REMOTE_PILE_MIN && pile > (int64_t)bound_of(heap) &&
        berth__try_lock(&heap->lock)) {
        berth__remote_drain_locked(heap, NULL, BERTH_REMOTE_STEP);
        berth__lock_release(&heap->lock);
    }
}

/* Items from the first on that are of one heap and one size: most often all. */
static unsigned count_alike(const struct berth__remote_block *items, unsigned count) {
    unsigned alike = 1;
    while (alike < count && items[alike].heap == items[0].heap &&
           items[alike].size == items[0].size) {
        alike++;
    }
    return alike;
}

static uint64_t bytes_of(const struct berth__remote_block *items, unsigned count) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        bytes += items[i].size;
    }
    return bytes;
}

static void push(struct berth__heap *heap, struct berth__remote_block *items, unsigned count,
                 bool alike, bool counted) {
    uint64_t bytes = alike ? (uint64_t)count * items[0].size : bytes_of(items, count);
    berth__add_relaxed(&heap->remote_sent, bytes);
    struct chain chain = pack(items, count, counted, alike);
    uint64_t below = berth__load_relaxed(&heap->remote);
    do {
        chain.last->next = below | (counted ? COUNTED : 0);
        berth__delay_point();
    } while (!berth__cas_weak_release(&heap->remote, &below, word_of(chain.first))); /* R1 */
}

/* Moves the items of the first one's heap to the front; returns how many they are. */
static unsigned gather_one_heap(struct berth__remote_block *items, unsigned count) {
    unsigned same = 1;
    for (unsigned i = 1; i < count; i++) {
        if (items[i].heap == items[0].heap) {
            struct berth__remote_block item = items[i];
            items[i] = items[same];
            items[same++] = item;
        }
    }
    return same;
}

void berth__remote_send(struct berth__remote_block *items, unsigned count, bool counted) {
    for (unsigned from = 0; from < count;) {
        unsigned alike = count_alike(items + from, count - from);
        unsigned same = alike;
        if (alike < count - from) {
            same = gather_one_heap(items + from, count - from);
            alike = count_alike(items + from, same);
        }
        struct berth__heap *heap = berth__load_acquire(&berth__heaps[items[from].heap]);
        push(heap, items + from, same, alike == same, counted);
        help(heap);
        from += same;
    }
}

void berth__remote_forward(struct berth__remote_block block, bool counted) {
    push(berth__load_acquire(&berth__heaps[block.heap]), &block, 1, true, counted);
}

/* Reads a message out; its carrier comes first. Returns the number of blocks. */
static unsigned unpack(struct message *message, void **blocks) {
    unsigned capacity = (unsigned)berth__min(capacity_of(size_of(message)), BERTH_REMOTE_BLOCKS);
    unsigned count = 0;
    blocks[count++] = message;
    for (unsigned i = 0; i < capacity && message->others[i] != 0; i++) {
        blocks[count++] = (char *)message + (ptrdiff_t)message->others[i] * BERTH_GRANULE;
    }
    return count;
}

/* What a drainer has read out and is to give to the heap, or to keep. */
struct drain {
    struct berth__cache *cache; /* that keeps some; or NULL */
    unsigned left;              /* blocks to read out yet */
    unsigned count;
    bool counted;
    void *blocks[2 * BERTH_REMOTE_BLOCKS + 1];
};

static void give_locked(struct berth__heap *heap, struct drain *drain) BERTH_REQUIRES(heap->lock) {
    unsigned count = drain->count;
    berth__count_add(&heap->totals->remote_batches, 1);
    berth__count_add(&heap->totals->remote_blocks, count);
    BERTH_PROBE2(remote_batch, heap->arenas->number, count);
    if (drain->cache != NULL) {
        count = berth__cache_keep_locked(drain->cache, drain->blocks, count, drain->counted);
    }
    berth__heap_give_locked(heap, drain->blocks, count,
                            drain->counted ? BERTH_GIVE_REMOTE_COUNTED : BERTH_GIVE_REMOTE);
    drain->count = 0;
}

/* Returns the word of the message where it stopped; 0 at the end. */
static uint64_t walk_locked(struct berth__heap *heap, struct drain *drain, uint64_t word)
    BERTH_REQUIRES(heap->lock) {
    while (drain->left > 0 && top_of(word) != NULL) {
        struct message *message = top_of(word);
        check_message(message);
        word = message->next;
        __builtin_prefetch(top_of(word));
        bool counted = (word & COUNTED) != 0;
        if (drain->count > 0 && (counted != drain->counted || drain->count > BERTH_REMOTE_BLOCKS)) {
            give_locked(heap, drain);
        }
        drain->counted = counted;
        unsigned unpacked = unpack(message, drain->blocks + drain->count);
        drain->count += unpacked;
        drain->left -= (unsigned)berth__min(unpacked, drain->left);
        berth__poison(message, size_of(message));
    }
    return word_of(top_of(word));
}

void berth__remote_drain_locked(struct berth__heap *heap, struct berth__cache *cache,
                                unsigned blocks_max) {
    struct drain drain;
    drain.cache = cache;
    if (cache != NULL) {
        berth__store_relaxed(&heap->owner_seen_ms, (uint32_t)berth__clock_coarse_ms());
    }
    drain.left = blocks_max;
    drain.count = 0;
    uint64_t word = walk_locked(heap, &drain, berth__load_relaxed(&heap->remote_rest));
    if (drain.left > 0 && berth__load_relaxed(&heap->remote) != 0) {
        word = walk_locked(heap, &drain, berth__exchange_acquire(&heap->remote, 0)); /* A1 */
    }
    berth__store_relaxed(&heap->remote_rest, word);
    if (drain.count > 0) {
        give_locked(heap, &drain);
    }
}
