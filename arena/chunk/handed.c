#include "chunk/handed.h"

#if BERTH_HARDENED

#include "base/atomics.h"
#include "chunk/meta.h"
#include "chunk/space.h"
#include "os/pages.h"
#include "os/warn.h"

#include <stdint.h>

enum { WORD_BITS = 64, OPEN_STEP = 64 << 10 };
_Static_assert((int)BERTH_HANDED_BYTES_PER_SLOT == (int)BERTH_CHUNK / (int)BERTH_GRANULE / 8,
               "a bit for each granule");

static _Atomic uint64_t *words; /* NULL: no addresses were left for them */
static size_t reserved_bytes;
static size_t open_bytes; /* of them, that can be used; both by the lock on slots */

void berth__handed_init(void) {
    size_t bytes = berth__primary.slots_bytes / BERTH_CHUNK * BERTH_HANDED_BYTES_PER_SLOT;
    reserved_bytes = berth__round_up(bytes, OPEN_STEP);
    words = berth__pages_reserve(reserved_bytes, OPEN_STEP);
    if (words == NULL) {
        berth__warn("no addresses to keep track of free blocks in: double frees are found later");
    }
}

bool berth__handed_open_locked(size_t slot_end) {
    size_t bytes = berth__round_up(slot_end * BERTH_HANDED_BYTES_PER_SLOT, OPEN_STEP);
    if (words == NULL || bytes <= open_bytes) {
        return true;
    }
    char *at = (char *)words + open_bytes;
    if (berth__pages_commit(at, bytes - open_bytes) != 0) {
        return false;
    }
    berth__meta_count(bytes - open_bytes);
    open_bytes = bytes;
    return true;
}

void berth__handed_cut_locked(size_t slot_end) {
    size_t bytes = berth__round_up(slot_end * BERTH_HANDED_BYTES_PER_SLOT, OPEN_STEP);
    bytes = berth__max(bytes, open_bytes);
    if (words != NULL && bytes < reserved_bytes) {
        berth__pages_unreserve((char *)words + bytes, reserved_bytes - bytes);
        reserved_bytes = bytes;
    }
}

/* The word that a block's bit is in; NULL if there is none. */
static _Atomic uint64_t *find(const void *block, uint64_t *bit) {
    size_t offset = (uintptr_t)block - (uintptr_t)berth__primary.slots;
    if (words == NULL || offset >= berth__primary.slots_bytes) {
        return NULL;
    }
    size_t number = offset / BERTH_GRANULE;
    *bit = UINT64_C(1) << (number % WORD_BITS);
    return &words[number / WORD_BITS];
}

void berth__handed_clear(const void *unit) {
    uint64_t bit;
    _Atomic uint64_t *first = find(unit, &bit);
    for (size_t i = 0; first != NULL && i < BERTH_UNIT / BERTH_GRANULE / WORD_BITS; i++) {
        berth__store_relaxed(&first[i], 0);
    }
}

void berth__handed_out(const void *block) {
    uint64_t bit;
    _Atomic uint64_t *word = find(block, &bit);
    if (word != NULL) {
        (void)atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
    }
}

bool berth__handed_in(const void *block) {
    uint64_t bit;
    _Atomic uint64_t *word = find(block, &bit);
    return word == NULL || (atomic_fetch_and_explicit(word, ~bit, memory_order_relaxed) & bit) != 0;
}

#endif
