/*
 * Address space: where chunks and huge blocks live, and how an address finds its description.
 *
 * A span is one reservation: a flat table with an 8-byte entry per unit of 64 KiB, a record of
 * 24 KiB per slot of 4 MiB (struct berth__chunk), and the slots themselves. Table and records
 * become usable as slots do. The first span, the primary, is as large as the kernel lets us have (1
 * TiB of addresses); free() finds its entry with a subtraction, a shift and one load.
 * Where so much cannot be had (RLIMIT_AS, small address spaces), the primary is smaller and
 * further spans follow; memory lent by the caller is a span too. Those are found by a search on the
 * slow path.
 *
 * An entry is read by whoever frees a block and written when a unit changes hands, under the lock
 * of the arena that owns it. Relaxed order is enough: a block's address reaches another thread only
 * after the entry was written, through whatever passed the address on.
 */
#ifndef BERTH_CHUNK_SPACE_H
#define BERTH_CHUNK_SPACE_H

#include "base/atomics.h"
#include "os/lock.h"
#include "size/classes.h"

struct berth__chunk;
struct berth__ledger;

/*
 * Entry of a unit, 64 bits; 0: not ours, or not in use.
 *   bits 0-15   byte offset of the class's bin in a thread cache (a slab's entry)
 *   bits 16-23  tag of the account that the memory is charged to (0: none)
 *   bits 24-31  kind
 *   bits 32-63  number of the heap that owns the slab
 * A slab that is neither tagged nor special differs from its heap's mark (number and kind) by the
 * bin offset alone: one subtraction and one comparison tell a thread that the block is its own.
 */
typedef _Atomic uint64_t berth__entry;

enum berth__unit_kind {
    BERTH_UNIT_SLAB = 0,    /* of the default pool; entry != 0 because heap numbers start at 1 */
    BERTH_UNIT_RUN = 1,     /* page runs, or unused pages of a chunk */
    BERTH_UNIT_HUGE = 2,    /* first unit of a huge block; the others have no entry */
    BERTH_UNIT_SAMPLED = 4, /* a slab of blocks that a profile follows */
    BERTH_UNIT_POOL_SLAB = 5,
    BERTH_UNIT_MIXED = 6, /* a slab of whichever pool, of which some blocks are cut into parts */
};

#define BERTH_ENTRY_KIND(entry) ((enum berth__unit_kind)(((entry) >> 24) & 0xff))
#define BERTH_ENTRY_HEAP(entry) ((uint32_t)((entry) >> 32))
#define BERTH_ENTRY_BIN(entry) ((entry)&0xffff)
#define BERTH_ENTRY_OF_KIND(kind) ((uint64_t)(kind) << 24)
#define BERTH_HEAP_MARK(number, kind) ((uint64_t)(number) << 32 | BERTH_ENTRY_OF_KIND(kind))
#define BERTH_ENTRY_IS_SLAB(entry)                                                                 \
    (BERTH_ENTRY_KIND(entry) == BERTH_UNIT_SLAB ||                                                 \
     BERTH_ENTRY_KIND(entry) == BERTH_UNIT_POOL_SLAB ||                                            \
     BERTH_ENTRY_KIND(entry) == BERTH_UNIT_SAMPLED || BERTH_ENTRY_KIND(entry) == BERTH_UNIT_MIXED)

enum { BERTH_RECORD_BYTES = 24576, BERTH_SPANS_MAX = 256 };

struct berth__span {
    char *base;   /* what entry 0 describes */
    size_t units; /* entries */
    berth__entry *entries;
    char *records; /* one of BERTH_RECORD_BYTES per slot */
    char *slots;   /* the first slot, aligned to a unit; to a chunk in our own spans */
    size_t slot_count;
    size_t entries_ready;      /* bytes of the table that may be written; grows */
    size_t records_ready;      /* bytes of the records that are usable; grows */
    _Atomic size_t slots_open; /* slots below this one have a usable record; grows */
    size_t lowest_free;        /* no free slot below */
    uint64_t *used;            /* bitmap over slots: handed out */
    bool lent; /* the caller's memory: never mapped, committed or given back by us */
};

/* What free() needs of the primary span, in one line. units == 0 before the first allocation, so
 * that every address is foreign then. */
struct berth__primary {
    char *base;
    size_t units;
    char *slots;
    size_t slots_bytes; /* 0 until the span exists */
    char *records;
};
extern struct berth__primary berth__primary BERTH_LINE_ALIGNED;

extern struct berth__lock berth__slots_lock;

/* Reserves the primary span. reserve_bytes: 0 for as much as can be had. False if not even the
 * smallest span can be had. */
bool berth__space_init(size_t reserve_bytes);

/* Gives back addresses of the primary span, down to about `reserve_bytes`, that no slot was ever
 * opened for; for a limit on addresses that a running program sets. What it needs beyond comes from
 * further spans. Addresses that were never lent turn foreign: only the free of a bad pointer may
 * meet them at that moment, and be stopped by a fault. */
void berth__space_shrink(size_t reserve_bytes);

BERTH_NOINLINE berth__entry *berth__entry_find_slow(const void *address);

/* The entry that describes an address, or NULL if it is foreign. */
BERTH_INLINE berth__entry *berth__entry_find(const void *address) {
    char *base = berth__primary.base;
    size_t unit = ((uintptr_t)address - (uintptr_t)base) / BERTH_UNIT;
    if (BERTH_LIKELY(unit < berth__primary.units)) {
        return (berth__entry *)(void *)base + unit;
    }
    return berth__entry_find_slow(address);
}

/* The span that an address lies in; NULL if it is foreign. */
struct berth__span *berth__span_find(const void *address);

/* The record of the slot that an address lies in; NULL if foreign, or if the slot was never used.
 */
struct berth__chunk *berth__chunk_find(const void *address);

/* The same for an address of ours that is in use. */
BERTH_INLINE struct berth__chunk *berth__chunk_of(const void *address) {
    size_t offset = (uintptr_t)address - (uintptr_t)berth__primary.slots;
    if (BERTH_LIKELY(offset < berth__primary.slots_bytes)) {
        char *record = berth__primary.records + offset / BERTH_CHUNK * BERTH_RECORD_BYTES;
        return (struct berth__chunk *)(void *)record;
    }
    return berth__chunk_find(address);
}

/* Writes the entries of `units` units from a unit-aligned address of ours. */
void berth__entries_set(const void *at, size_t units, uint64_t entry);

/* No request for more addresses than these, or for a coarser alignment, can be served: half of what
 * x86-64 has. And metadata goes with the addresses that an alignment skips (0.6 % of them). */
enum { BERTH_ADDRESSES_SHIFT = 46, BERTH_ALIGNMENT_SHIFT = 32 };
#define BERTH_ADDRESSES_MAX ((size_t)1 << BERTH_ADDRESSES_SHIFT)
#define BERTH_ALIGNMENT_MAX ((size_t)1 << BERTH_ALIGNMENT_SHIFT)

/* Reserves `count` consecutive slots, the first one aligned, lowest addresses first; returns where
 * they are, or NULL. Nothing is written: slots that were never used have no record yet, and get one
 * when they are opened, which is for when their memory is charged and committed. What is left
 * committed in a slot, and charged, stays so (berth__slots_give). */
char *berth__slots_reserve(size_t count, size_t alignment);
/* Tries to reserve the `count` slots that begin at `at`. */
bool berth__slots_reserve_at(const void *at, size_t count);

/* Bytes that are committed in a reserved slot. */
size_t berth__slot_committed(const void *at);

/* Makes the records of reserved slots usable; the caller owns them from then on. Returns the
 * first one's, or NULL if there is no metadata memory. */
struct berth__chunk *berth__slots_open(const void *at, size_t count);

/* Reserves and opens. */
struct berth__chunk *berth__slots_take(size_t count);

/* Gives slots back, opened or not. The memory that is still committed in them stays, charged to the
 * process's ledger alone, and is reused before new memory is mapped, or released
 * (chunk/retained.h). */
void berth__slots_give_at(const void *at, size_t count);
void berth__slots_give(struct berth__chunk *first, size_t count);

/* Takes slots that are known to be free. */
void berth__slots_mark_locked(struct berth__span *span, size_t slot, size_t count)
    BERTH_REQUIRES(berth__slots_lock);

BERTH_INLINE struct berth__chunk *berth__slot_record(const struct berth__span *span, size_t slot) {
    return (struct berth__chunk *)(void *)(span->records + slot * BERTH_RECORD_BYTES);
}

BERTH_INLINE size_t berth__slot_of(const struct berth__span *span, const void *address) {
    return (size_t)((const char *)address - span->slots) / BERTH_CHUNK;
}

/* The record of the slot after this one, in the same span. */
struct berth__chunk *berth__chunk_next(const struct berth__chunk *chunk);

/* True if memory of the caller holds a whole unit, and no part of it is in a span. One thread at a
 * time asks and lends. */
bool berth__span_can_be_lent(const void *memory, size_t bytes);

/* Makes a span of memory that the caller lends; NULL if that cannot be, or we are out of metadata.
 * The records of its slots are usable at once. */
struct berth__span *berth__span_lend(void *memory, size_t bytes);
void berth__span_return(struct berth__span *span);

/* Where the table of spans is, an array of pointers, and the number of those in use: for readers of
 * other processes (metrics/layout_format.h). */
void berth__spans_where(const void **table, const void **count);

/* Calls visit(context, record) for every slot that was ever used, without a lock. */
void berth__slots_visit(void (*visit)(void *context, struct berth__chunk *record), void *context);

/* In the child of a fork that cut off a change under the lock of slots. */
void berth__slots_mend_in_child(void);

#endif
