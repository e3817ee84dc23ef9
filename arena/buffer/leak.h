/*
 * Records of memory that has not been released: who allocated it, and what was done with it.
 *
 * A record is a block of the default pool, in one list of the process in order of allocation. It is
 * made with an owner, if one is due, and ended before the owner is. In between the owner's holders
 * note uses. The list, and what it links, is guarded by one lock, a leaf: nothing is taken or
 * called under it but the name of a pool and its gauges. See docs/concurrency.md, "Buffers".
 *
 * Records also tell how much memory is kept for how little: each knows the sum of what references
 * to its memory view, told as they come, change and go; more than all of it is all of it. What
 * records stand for, 128 each where they are drawn, is added up in two gauges. An estimate: places
 * that are viewed twice count twice, and berth_owner_release does not know what its reference
 * viewed.
 *
 * Whether one is due is counted down per thread, in a slot that the thread's pointer picks: 128
 * draws on average, of 1 to 255 at random, so that no pattern of a program is in step with it.
 * Threads that share a slot lose counts to each other, which is one more chance. A thread-local
 * variable would cost a call in a library that may be loaded late, which is more than all of this.
 */
#ifndef BERTH_BUFFER_LEAK_H
#define BERTH_BUFFER_LEAK_H

#include "base/atomics.h"
#include "os/lock.h"

#include <berth/leak.h>

enum { BERTH_LEAK_SLOTS = 64, BERTH_LEAK_INTERVAL = 128 };

struct BERTH_LINE_ALIGNED berth__leak_slot {
    _Atomic int32_t left; /* until one is due; any thread of the slot */
    _Atomic uint32_t random;
};

struct berth__leak; /* a record */

extern _Atomic uint32_t berth__leak_level; /* enum berth_leak_level */
extern struct berth__leak_slot berth__leak_slots[BERTH_LEAK_SLOTS];

/* Stacks are 4 KiB apart at least. */
BERTH_INLINE struct berth__leak_slot *berth__leak_slot_mine(void) {
    return &berth__leak_slots[(berth__thread_self() >> 12) % BERTH_LEAK_SLOTS];
}

/* True if the memory that is being allocated is to be put on record. */
BERTH_INLINE bool berth__leak_is_due(void) {
    if (BERTH_LIKELY(berth__load_relaxed(&berth__leak_level) == BERTH_LEAK_OFF)) {
        return false;
    }
    struct berth__leak_slot *slot = berth__leak_slot_mine();
    int32_t left = berth__load_relaxed(&slot->left) - 1;
    berth__store_relaxed(&slot->left, left);
    return left < 0;
}

/* A record, when one is due; NULL if there is no memory for it. Keeps errno. */
struct berth__leak *berth__leak_begin(berth_pool *pool, const void *data, size_t bytes, void *site);

/* Notes a use, if the record has room for uses. Keeps errno. */
void berth__leak_note(struct berth__leak *leak, const char *what, const char *hint, void *site);

/* References view so many bytes more than before, or fewer. */
void berth__leak_view(struct berth__leak *leak, int64_t more);

/* The memory is released. */
void berth__leak_end(struct berth__leak *leak);

/* The text of a record, a line at a time: for stderr. */
void berth__leak_print(void *unused, const struct berth_leak *leak);

#endif
