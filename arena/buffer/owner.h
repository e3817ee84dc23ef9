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
#include "buffer/leak.h"
#include "os/fault.h"
#include "os/lock.h"
#include "pool/api.h"

#include <berth/slice.h>

#include <errno.h>

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
    uint8_t traits;      /* what few have, in one byte, so that counting looks at it once */
    _Atomic uint32_t pins;
    uint32_t thread;       /* ONE_THREAD: who made it, as berth__owner_thread. For debug builds */
    unsigned char *memory; /* BLOCK, MAPPED: what is freed */
    size_t bytes;          /* of memory */
    struct berth__leak *leak; /* ON_RECORD */
    berth_pool *pool;         /* that the record is of, and a BLOCK */
    union {
        void *context; /* of release */
        intptr_t fd;   /* FILE */
    };
    berth_slice_callback *release; /* WRAPPED */
};
_Static_assert(sizeof(struct berth_owner) > 48 &&
                   sizeof(struct berth_owner) <= BERTH_DESCRIBED_BYTES,
               "of the class of 64 bytes, whose blocks are cache lines");

/* In an owner's traits. */
enum {
    BERTH_OWNER_ONE_THREAD = 1, /* of a pool that promised it */
    BERTH_OWNER_ON_RECORD = 2,  /* buffer/leak.h */
};

/* In a slice's flags_. */
enum {
    BERTH_SLICE_READ_ONLY = 1,
    BERTH_SLICE_PINNED = 2,
    BERTH_SLICE_FILE = 4, /* in chains only: `data` is an offset in the owner's file */
};

enum { BERTH_OWNER_COUNT_MAX = 1 << 30 };

/* Where the public call that this is expanded in was called from. */
#define BERTH_CALLER __builtin_return_address(0)

/* A record with one reference, for memory that its kind says; NULL if there is no memory for it.
 * Who calls this, or the next, calls berth__owner_made then. */
struct berth_owner *berth__owner_new(berth_pool *pool, enum berth__owner_kind kind, void *memory,
                                     size_t bytes);

/* The same with a block of at least `bytes` bytes; `bytes` is what was asked for. */
struct berth_owner *berth__owner_alloc(berth_pool *pool, size_t bytes);

/* berth_slice_alloc on behalf of who called from `site`. */
int berth__slice_alloc(berth_pool *pool, size_t length, struct berth_slice *slice, void *site);

/* The last reference has gone. */
BERTH_NOINLINE void berth__owner_end(struct berth_owner *owner);

/* One line, and the end of the process. */
BERTH_NORETURN BERTH_COLD void berth__owner_misuse(const char *fault, const void *data,
                                                   const struct berth_owner *owner);

/* Threads differ in these bits, if their control blocks are less than 256 GiB apart. */
BERTH_INLINE uint32_t berth__owner_thread(void) {
    return (uint32_t)(berth__thread_self() >> 6);
}

BERTH_INLINE void berth__owner_check_thread(const struct berth_owner *owner) {
    if (BERTH_DEBUG && owner->thread != berth__owner_thread()) {
        berth__owner_misuse("a buffer of a pool with one_thread is used by another thread",
                            owner->memory, owner);
    }
}

BERTH_INLINE bool berth__owner_is_one_thread(const struct berth_owner *owner) {
    return (owner->traits & BERTH_OWNER_ONE_THREAD) != 0;
}

BERTH_NOINLINE int berth__owner_put_on_record(struct berth_owner *owner, void *site);

/* Puts a new owner on record, if one is due. `site` is where the program asked for it. Here, and
 * not in berth__owner_new, because passing it on would cost all that have no record. Returns 0, so
 * that it can be the last call of a function, which costs those least. */
BERTH_INLINE int berth__owner_made(struct berth_owner *owner, void *site) {
    return BERTH_UNLIKELY(berth__leak_is_due()) ? berth__owner_put_on_record(owner, site) : 0;
}

/* The same for an owner on record. */
BERTH_NOINLINE void berth__owner_retain_noted(struct berth_owner *owner, size_t viewed, void *site);
BERTH_NOINLINE bool berth__owner_drop_noted(struct berth_owner *owner, size_t viewed, void *site);
BERTH_NOINLINE void berth__owner_view_noted(struct berth_owner *owner, int64_t more);

BERTH_INLINE void berth__owner_count_up(struct berth_owner *owner, uint32_t count) {
    if (berth__owner_is_one_thread(owner)) {
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

/* What the record's place held before is read on purpose: after a life as a record, its last
 * generation plus one. */
BERTH_INLINE struct berth_owner *berth__owner_begin(void *record, berth_pool *pool,
                                                    enum berth__owner_kind kind, bool one_thread,
                                                    void *memory, size_t bytes) {
    struct berth_owner *owner = record;
    uint16_t generation = owner->generation;
    *owner = (struct berth_owner){
        .generation = generation == 0 ? 1 : generation,
        .kind = (uint8_t)kind,
        .traits = one_thread ? BERTH_OWNER_ONE_THREAD : 0,
        .memory = memory,
        .bytes = bytes,
        .thread = BERTH_DEBUG ? berth__owner_thread() : 0,
        .pool = pool,
    };
    berth__store_relaxed(&owner->count, 1);
    return owner;
}

BERTH_INLINE struct berth_owner *berth__owner_alloc_inline(berth_pool *pool, size_t bytes) {
    struct berth__described described;
    void *record = berth_pool_alloc_described(pool, bytes, &described);
    return BERTH_UNLIKELY(record == NULL)
               ? NULL
               : berth__owner_begin(record, pool, BERTH_OWNER_BLOCK, described.one_thread,
                                    described.block, bytes);
}

/* By who holds a reference. The new one views so many bytes. */
BERTH_INLINE void berth__owner_retain(struct berth_owner *owner, size_t viewed) {
    uint32_t count = berth__load_acquire(&owner->count); /* B2 */
    if (BERTH_UNLIKELY(count - 1 >= BERTH_OWNER_COUNT_MAX)) {
        berth__owner_misuse(count == 0 ? "retaining a slice that was released"
                                       : "more references than can be counted",
                            owner->memory, owner);
    }
    if (BERTH_UNLIKELY((owner->traits & BERTH_OWNER_ON_RECORD) != 0)) {
        berth__owner_retain_noted(owner, viewed, BERTH_CALLER);
    } else {
        berth__owner_count_up(owner, count);
    }
}

/* Another reference than the last is given up; true if it was the last after all. */
BERTH_INLINE bool berth__owner_count_down(struct berth_owner *owner, uint32_t count) {
    if (berth__owner_is_one_thread(owner)) {
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

/* True if it was the last one, so that the caller must call berth__owner_end. It viewed so many
 * bytes. */
BERTH_INLINE bool berth__owner_drop(struct berth_owner *owner, size_t viewed) {
    uint32_t count = berth__load_acquire(&owner->count); /* B2 */
    berth__delay_point();
    if (count != 1) {
        return BERTH_UNLIKELY((owner->traits & BERTH_OWNER_ON_RECORD) != 0)
                   ? berth__owner_drop_noted(owner, viewed, BERTH_CALLER)
                   : berth__owner_count_down(owner, count);
    }
    if (berth__owner_is_one_thread(owner)) {
        berth__owner_check_thread(owner);
    } else if (BERTH_DEBUG && !berth__cas_acq_rel(&owner->count, &count, 0)) {
        berth__owner_misuse("a reference is used by two threads at once", owner->memory, owner);
    }
    return true;
}

BERTH_INLINE void berth__owner_release(struct berth_owner *owner, size_t viewed) {
    if (berth__owner_drop(owner, viewed)) {
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

/* A slice's reference views another number of bytes from now on: what is kept for how little is
 * known by that. */
BERTH_INLINE void berth__slice_resize(struct berth_slice *slice, uint32_t length) {
    struct berth_owner *owner = slice->owner_;
    if (owner != NULL && BERTH_UNLIKELY((owner->traits & BERTH_OWNER_ON_RECORD) != 0)) {
        berth__owner_view_noted(owner, (int64_t)length - slice->length);
    }
    slice->length = length;
}

/* What the engine said, in errno, when it had no block. */
BERTH_INLINE int berth__no_block(void) {
    return errno == EOWNERDEAD ? -EOWNERDEAD : -ENOMEM;
}

/* One line for a slice whose record is another one's by now, or nobody's. */
BERTH_NORETURN BERTH_COLD void berth__slice_misuse(const struct berth_slice *slice);

/* The owner of a slice, NULL if there is none; stops the process if the slice was released. */
BERTH_INLINE struct berth_owner *berth__slice_owner(const struct berth_slice *slice) {
    struct berth_owner *owner = slice->owner_;
    if (owner != NULL && BERTH_UNLIKELY(owner->generation != slice->generation_)) {
        berth__slice_misuse(slice);
    }
    return owner;
}

#endif
