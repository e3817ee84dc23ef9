#include "heap/remote.h"

#include "base/poison.h"

#include "heap/misuse.h"
#include "os/fault.h"

#include <string.h>

enum { DEPTH_SHIFT = 48, DEPTH_MAX = 0xffff };
static const uint64_t ADDRESS_MASK = ((UINT64_C(1) << DEPTH_SHIFT) - 1) & ~UINT64_C(1);
static const uint64_t COUNTED = 1; /* in a message's own word, not in the one on the stack */

struct message {
    uint64_t next; /* the stack's word below this one */
    int32_t others[];
};

static struct message *top_of(uint64_t word) {
    return (struct message *)(uintptr_t)(word & ADDRESS_MASK);
}

static unsigned depth_of(uint64_t word) {
    return (unsigned)(word >> DEPTH_SHIFT);
}

static uint64_t word_of(struct message *top, unsigned depth) {
    uint64_t bounded = berth__min(depth, DEPTH_MAX);
    return (uint64_t)(uintptr_t)top | bounded << DEPTH_SHIFT;
}

static uint64_t entry_of(const void *block) {
    return berth__load_relaxed(berth__entry_find(block));
}

static uint32_t size_of(const void *block) {
    return berth__classes[BERTH_ENTRY_BIN(entry_of(block)) / BERTH_BIN_BYTES].size;
}

static unsigned capacity_of(uint32_t size) {
    return (size - (uint32_t)sizeof(struct message)) / (uint32_t)sizeof(int32_t);
}

/* Distance in granules, or 0 if it does not fit (spans far apart). */
static int32_t distance(const struct message *carrier, const void *block) {
    ptrdiff_t granules = ((const char *)block - (const char *)carrier) / BERTH_GRANULE;
    return granules == (int32_t)granules ? (int32_t)granules : 0;
}

/* Packs as many of items[0..count) as fit behind the largest of them, and leaves the others at the
 * front of the array. Returns how many are left. */
static unsigned pack_one(struct berth__remote_block *items, unsigned count, unsigned largest,
                         struct message **packed) {
    struct message *carrier = (struct message *)(void *)items[largest].block;
    unsigned capacity = capacity_of(items[largest].size);
    berth__unpoison(carrier, items[largest].size);
    items[largest] = items[--count];
    unsigned named = 0;
    unsigned i = 0;
    for (; i < count && named < capacity; i++) {
        int32_t to = distance(carrier, items[i].block);
        if (BERTH_UNLIKELY(to == 0)) {
            break;
        }
        carrier->others[named++] = to;
    }
    if (named < capacity) {
        carrier->others[named] = 0;
    }
    unsigned left = 0;
    for (; i < count; i++) {
        if (BERTH_UNLIKELY(items[i].block == (char *)carrier)) {
            berth__misuse("double free", carrier);
        }
        items[left++] = items[i];
    }
    *packed = carrier;
    return left;
}

/* The place of the largest block: it names the most others. */
static unsigned largest_of(const struct berth__remote_block *items, unsigned count) {
    unsigned largest = 0;
    for (unsigned i = 1; i < count; i++) {
        largest = items[i].size > items[largest].size ? i : largest;
    }
    return largest;
}

/* A chain of messages, linked from `first` to `last`, whose own word is still to be set. */
struct chain {
    struct message *first, *last;
    unsigned messages;
};

static struct chain pack(struct berth__remote_block *items, unsigned count, bool counted) {
    struct chain chain = {NULL, NULL, 0};
    while (count > 0) {
        struct message *packed = NULL;
        count = pack_one(items, count, largest_of(items, count), &packed);
        packed->next = word_of(chain.first, 0) | (counted ? COUNTED : 0);
        chain.first = packed;
        chain.last = chain.last == NULL ? packed : chain.last;
        chain.messages++;
    }
    return chain;
}

/* A heap whose owner does not come round: whoever finds much on its stack drains it. */
static void help(struct berth__heap *heap, unsigned depth) {
    uint64_t pile =
        berth__load_relaxed(&heap->remote_sent) - berth__load_relaxed(&heap->remote_drained);
    if ((depth >= BERTH_REMOTE_DEEP || (int64_t)pile > BERTH_REMOTE_PILE) &&
        berth__try_lock(&heap->lock)) {
        berth__remote_drain_locked(heap);
        berth__lock_release(&heap->lock);
    }
}

/* Returns the depth of the stack now. */
static unsigned push(struct berth__heap *heap, struct berth__remote_block *items, unsigned count,
                     bool counted) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        bytes += items[i].size;
    }
    berth__add_relaxed(&heap->remote_sent, bytes);
    struct chain chain = pack(items, count, counted);
    uint64_t below = berth__load_relaxed(&heap->remote);
    uint64_t above;
    do {
        chain.last->next = below | (counted ? COUNTED : 0);
        above = word_of(chain.first, depth_of(below) + chain.messages);
        berth__delay_point();
    } while (!berth__cas_weak_release(&heap->remote, &below, above)); /* R1 */
    return depth_of(above);
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
        unsigned same = gather_one_heap(items + from, count - from);
        struct berth__heap *heap = berth__load_acquire(&berth__heaps[items[from].heap]);
        help(heap, push(heap, items + from, same, counted));
        from += same;
    }
}

void berth__remote_forward(struct berth__remote_block block, bool counted) {
    (void)push(berth__load_acquire(&berth__heaps[block.heap]), &block, 1, counted);
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

static void give_locked(struct berth__heap *heap, void *const *blocks, unsigned count, bool counted)
    BERTH_REQUIRES(heap->lock) {
    berth__count_add(&heap->remote_batches, 1);
    berth__count_add(&heap->remote_blocks, count);
    berth__heap_give_locked(heap, blocks, count,
                            counted ? BERTH_GIVE_REMOTE_COUNTED : BERTH_GIVE_REMOTE);
}

void berth__remote_drain_locked(struct berth__heap *heap) {
    uint64_t word = berth__exchange_acquire(&heap->remote, 0); /* A1 */
    void *blocks[2 * BERTH_REMOTE_BLOCKS + 1];
    unsigned count = 0;
    bool counted = false;
    while (top_of(word) != NULL) {
        struct message *message = top_of(word);
        word = message->next;
        bool next_counted = (word & COUNTED) != 0;
        if (count > 0 && (next_counted != counted || count > BERTH_REMOTE_BLOCKS)) {
            give_locked(heap, blocks, count, counted);
            count = 0;
        }
        counted = next_counted;
        count += unpack(message, blocks + count);
        berth__poison(message, size_of(message));
    }
    if (count > 0) {
        give_locked(heap, blocks, count, counted);
    }
}
