/*
 * Owners: the records of memory that slices share.
 *
 * A record is a block of 64 bytes of the pool that the memory is of, apart from it, so that a
 * buffer of 16 KiB is four pages. It comes from and goes to the thread's cache like any block, goes
 * home from other threads by the engine's remote frees, is charged to the pool's limit, and is gone
 * with the pool: records need no protocol of their own. Each has a cache line to itself.
 *
 * Everything here asks the engine through the public calls, so that it works on the engine that
 * serves the process, whichever copy that is.
 *
 * States of `count`:
 *   1       unique: who holds the reference may write, and counts without read-modify-writes
 *   n > 1   shared
 *   0       dead: the record is being freed. `generation` differs from that of all slices
 *
 * A reference is used by one thread at a time. So if a holder reads 1, nobody else can be counting:
 * nobody else has a reference to count with. See docs/concurrency.md, "Buffers"; labels B1 to B3.
 */
#ifndef BERTH_BUFFER_OWNER_H
#define BERTH_BUFFER_OWNER_H

#include "base/atomics.h"
#include "base/check.h"
#include "os/fault.h"
#include "os/lock.h"

#include <berth/slice.h>

enum berth__owner_kind {
    BERTH_OWNER_BLOCK,  /* a block of a pool: the slices' own, all of it */
    BERTH_OWNER_MAPPED, /* a file that is mapped: what no slice views is not theirs to write */
    BERTH_OWNER_WRAPPED,
    BERTH_OWNER_FILE, /* no memory: a descriptor, for regions of files in chains */
    BERTH_OWNER_FILE_TO_CLOSE,
};

struct berth_owner {
    _Atomic uint32_t count;
    uint16_t generation; /* never 0; another one for each life of the record */
    uint8_t kind;        /* enum berth__owner_kind */
    bool one_thread;     /* of a pool that promised it */
    _Atomic uint32_t pins;
    int fd;                        /* FILE */
    unsigned char *memory;         /* BLOCK, MAPPED: what is freed */
    size_t bytes;                  /* of memory */
    uint64_t thread;               /* one_thread: who made it. For debug builds */
    berth_pool *pool;              /* that the record is of, and a BLOCK */
    berth_slice_callback *release; /* WRAPPED */
    void *context;
};
_Static_assert(sizeof(struct berth_owner) > 48 && sizeof(struct berth_owner) <= 64,
               "of the class of 64 bytes, whose blocks are cache lines");

/* In a slice's flags_. */
enum {
    BERTH_SLICE_READ_ONLY = 1,
    BERTH_SLICE_PINNED = 2,
    BERTH_SLICE_FILE = 4, /* in chains only: `data` is an offset in the owner's file */
};

enum { BERTH_OWNER_COUNT_MAX = 1 << 30 };

/* A record with one reference, for memory that its kind says; NULL if there is no memory for it. */
struct berth_owner *berth__owner_new(berth_pool *pool, enum berth__owner_kind kind, void *memory,
                                     size_t bytes);

/* The same with a block of at least `bytes` bytes; `bytes` is what was asked for. */
struct berth_owner *berth__owner_alloc(berth_pool *pool, size_t bytes);

/* The last reference has gone. */
BERTH_NOINLINE void berth__owner_end(struct berth_owner *owner);

/* One line, and the end of the process. */
BERTH_NORETURN BERTH_COLD void berth__owner_misuse(const char *fault, const void *data,
                                                   const struct berth_owner *owner);

BERTH_INLINE void berth__owner_check_thread(const struct berth_owner *owner) {
    if (BERTH_DEBUG && owner->thread != berth__thread_self()) {
        berth__owner_misuse("a buffer of a pool with one_thread is used by another thread",
                            owner->memory, owner);
    }
}

/* By who holds a reference. */
BERTH_INLINE void berth__owner_retain(struct berth_owner *owner) {
    uint32_t count = berth__load_acquire(&owner->count); /* B2 */
    if (BERTH_UNLIKELY(count - 1 >= BERTH_OWNER_COUNT_MAX)) {
        berth__owner_misuse(count == 0 ? "retaining a slice that was released"
                                       : "more references than can be counted",
                            owner->memory, owner);
    }
    if (owner->one_thread) {
        berth__owner_check_thread(owner);
        berth__store_relaxed(&owner->count, count + 1);
        return;
    }
    berth__delay_point();
    if (count != 1) {
        berth__add_relaxed(&owner->count, 1);
    } else if (!BERTH_DEBUG) {
        berth__store_relaxed(&owner->count, 2); /* B1 */
    } else if (!berth__cas_acq_rel(&owner->count, &count, 2)) {
        berth__owner_misuse("a reference is used by two threads at once", owner->memory, owner);
    }
}

/* True if it was the last one, so that the caller must call berth__owner_end. */
BERTH_INLINE bool berth__owner_drop(struct berth_owner *owner) {
    uint32_t count = berth__load_acquire(&owner->count); /* B2 */
    berth__delay_point();
    if (count == 1) {
        if (BERTH_DEBUG && !owner->one_thread && !berth__cas_acq_rel(&owner->count, &count, 0)) {
            berth__owner_misuse("a reference is used by two threads at once", owner->memory, owner);
        }
        if (owner->one_thread) {
            berth__owner_check_thread(owner);
        }
        return true;
    }
    if (owner->one_thread) {
        berth__owner_check_thread(owner);
        berth__store_relaxed(&owner->count, count - 1);
    } else {
        count = berth__sub_acq_rel(&owner->count, 1); /* B3 */
    }
    if (BERTH_UNLIKELY(count == 0)) {
        berth__owner_misuse("releasing a slice that was released", owner->memory, owner);
    }
    return count == 1;
}

BERTH_INLINE void berth__owner_release(struct berth_owner *owner) {
    if (berth__owner_drop(owner)) {
        berth__owner_end(owner);
    }
}

BERTH_INLINE bool berth__owner_is_unique(struct berth_owner *owner) {
    return berth__load_acquire(&owner->count) == 1; /* B2 */
}

/* Nobody else may see the memory. By who holds a reference. */
BERTH_INLINE bool berth__owner_may_write(struct berth_owner *owner) {
    return berth__owner_is_unique(owner) && berth__load_relaxed(&owner->pins) == 0;
}

/* A slice of the owner's memory that takes over a reference. */
BERTH_INLINE struct berth_slice berth__owner_slice(struct berth_owner *owner, size_t offset,
                                                   size_t length) {
    return (struct berth_slice){.data = owner->memory + offset,
                                .owner_ = owner,
                                .length = (uint32_t)length,
                                .generation_ = owner->generation};
}

/* The owner of a slice, NULL if there is none; stops the process if the slice was released. */
BERTH_INLINE struct berth_owner *berth__slice_owner(const struct berth_slice *slice) {
    struct berth_owner *owner = slice->owner_;
    if (owner != NULL && BERTH_UNLIKELY(owner->generation != slice->generation_)) {
        berth__owner_misuse("use of a slice that was released", slice->data, owner);
    }
    return owner;
}

#endif
