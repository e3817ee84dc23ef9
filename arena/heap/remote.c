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

/* Packs as many of blocks[0..count) as fit behind the largest of them, and leaves the others at the
 * front of the array. Returns how many are left. */
static unsigned pack_one(void **blocks, unsigned count, struct message **packed) {
    unsigned largest = 0;
    for (unsigned i = 1; i < count; i++) {
        largest = size_of(blocks[i]) > size_of(blocks[largest]) ? i : largest;
    }
    struct message *carrier = blocks[largest];
    berth__unpoison(carrier, size_of(carrier));
    blocks[largest] = blocks[--count];
    unsigned capacity = capacity_of(size_of(carrier));
    unsigned named = 0;
    unsigned left = 0;
    for (unsigned i = 0; i < count; i++) {
        if (BERTH_UNLIKELY(blocks[i] == (void *)carrier)) {
            berth__misuse("double free", carrier);
        }
        int32_t to = named < capacity ? distance(carrier, blocks[i]) : 0;
        if (to != 0) {
            carrier->others[named++] = to;
        } else {
            blocks[left++] = blocks[i];
        }
    }
    if (named < capacity) {
        carrier->others[named] = 0;
    }
    *packed = carrier;
    return left;
}

/* Makes a chain of messages of blocks that belong to one heap, newest first. */
static struct message *pack(void **blocks, unsigned count, bool counted, struct message **last,
                            unsigned *messages) {
    struct message *first = NULL;
    *messages = 0;
    while (count > 0) {
        struct message *packed = NULL;
        count = pack_one(blocks, count, &packed);
        if (first == NULL) {
            *last = packed;
        }
        packed->next = word_of(first, 0) | (counted ? COUNTED : 0);
        first = packed;
        ++*messages;
    }
    return first;
}

/* A heap whose owner does not come round: whoever finds its stack deep drains it. */
static void help_if_deep(struct berth__heap *heap, unsigned depth) {
    if (depth >= BERTH_REMOTE_DEEP && berth__try_lock(&heap->lock)) {
        berth__remote_drain_locked(heap);
        berth__lock_release(&heap->lock);
    }
}

static uint64_t bytes_of(void *const *blocks, unsigned count) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        bytes += size_of(blocks[i]);
    }
    return bytes;
}

static void push(struct berth__heap *heap, void **blocks, unsigned count, bool counted) {
    berth__add_relaxed(&heap->remote_sent, bytes_of(blocks, count));
    struct message *last = NULL;
    unsigned messages = 0;
    struct message *first = pack(blocks, count, counted, &last, &messages);
    uint64_t below = berth__load_relaxed(&heap->remote);
    uint64_t above;
    do {
        last->next = below | (counted ? COUNTED : 0);
        above = word_of(first, depth_of(below) + messages);
        berth__delay_point();
    } while (!berth__cas_weak_release(&heap->remote, &below, above)); /* R1 */
    help_if_deep(heap, depth_of(above));
}

void berth__remote_send(void **blocks, unsigned count, bool counted) {
    while (count > 0) { /* blocks[0..same) become those of one heap */
        uint32_t number = BERTH_ENTRY_HEAP(entry_of(blocks[0]));
        unsigned same = 0;
        for (unsigned i = 0; i < count; i++) {
            void *block = blocks[i];
            if (BERTH_ENTRY_HEAP(entry_of(block)) == number) {
                blocks[i] = blocks[same];
                blocks[same++] = block;
            }
        }
        push(berth__load_acquire(&berth__heaps[number]), blocks, same, counted);
        blocks += same;
        count -= same;
    }
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
    berth__count_add(&heap->remote_drained, bytes_of(blocks, count));
    berth__count_add(&heap->remote_batches, 1);
    berth__count_add(&heap->remote_blocks, count);
    berth__heap_give_locked(heap, blocks, count, !counted);
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
