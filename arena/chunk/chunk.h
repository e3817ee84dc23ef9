/*
 * A chunk: one slot of 4 MiB of address space, its pages lent as runs and its units as slabs.
 *
 * The first `committed` bytes of the slot are usable memory, charged to a ledger; the rest is
 * reserved addresses. A chunk grows within its slot, so a small process need not pay for 4 MiB.
 * Pages are counted in 4 KiB whatever the machine's page size; committing and purging go by the
 * machine's pages.
 *
 * Maps, one bit per page: `used` (lent, or not committed) and `dirty` (free and holding old data; a
 * clean free page reads as zero). `run_pages` holds, at the first page of a lent run, its length,
 * with a mark while the run lies in a per-CPU cache: freeing one again is an error that is found at
 * once. Who holds the run may read and mark it without the lock. Two blocks may share a run
 * (chunk/twins.h).
 *
 * Guarded by the lock of the arena that owns the chunk, except where a field says otherwise.
 * Slots that belong to nobody, and those of huge blocks, use the first fields only.
 */
#ifndef BERTH_CHUNK_CHUNK_H
#define BERTH_CHUNK_CHUNK_H

#include "base/atomics.h"
#include "base/list.h"
#include "chunk/slab.h"
#include "chunk/space.h"
#include "size/classes.h"

struct berth__arena;

/* Free runs by length. Guarded by the arena's lock. */
struct berth__run_bins {
    struct berth__list bin[BERTH_RUN_CLASS_COUNT]; /* runs of at least the class's pages */
    uint64_t not_empty;                            /* bit per bin */
};
_Static_assert(BERTH_RUN_CLASS_COUNT <= 64, "one word of bins");

/* The link of a free run. Two runs of 5 pages or more start at least 6 pages apart, so one link per
 * 4 pages is enough. */
enum { BERTH_RUN_LINK_PAGES = 4 };
struct berth__run_link {
    struct berth__list link;
    struct berth__chunk *chunk;
    uint32_t page;
};

enum {
    BERTH_CHUNK_WORDS = BERTH_CHUNK_PAGES / 64,
    /* In run_pages, beside the length: */
    BERTH_RUN_CLEAN = 1 << 11,  /* a free twin that reads as zero */
    BERTH_RUN_SECOND = 1 << 12, /* the twin that begins in the middle of the page */
    BERTH_RUN_FREE = 1 << 13,   /* a free twin, while the other is lent */
    BERTH_RUN_TWIN = 1 << 14,   /* one of two blocks; the length is that of both */
    BERTH_RUN_PARKED = 1 << 15,
    BERTH_RUN_LENGTH = BERTH_RUN_CLEAN - 1,
};
_Static_assert((int)BERTH_CHUNK_PAGES <= (int)BERTH_RUN_LENGTH, "a length and marks");

/* What the count of mappings knows of a slot (chunk/mappings.h). Guarded by the lock of slots. */
struct berth__mapped {
    size_t bytes;         /* committed, from the slot's start on */
    uint32_t first, last; /* kinds of the memory at both ends */
    uint32_t joints;      /* places inside where mappings end, though both sides are committed */
    bool joined;          /* it held memory before what lies left of it did, and now both do */
};

enum berth__slot_use {
    BERTH_SLOT_FREE,
    BERTH_SLOT_CHUNK,
    BERTH_SLOT_HUGE,      /* first slot of a huge block */
    BERTH_SLOT_HUGE_BODY, /* its other slots */
};

struct berth__chunk {
    struct berth__list link;       /* in its arena's bucket; retained slots: in the retained list */
    struct berth__list dirty_link; /* in its arena's queue of chunks with dirty pages */
    struct berth__list
        owner_link;             /* in its arena's list of all chunks, or its pool's huge blocks */
    char *at;                   /* the slot */
    struct berth__arena *arena; /* owner of a chunk or huge block; fixed while in use */
    struct berth__span *span;
    size_t committed;     /* bytes usable, from `at` on, and charged; whole pages */
    uint32_t node;        /* as of the arena that committed it; while anything is committed */
    _Atomic uint32_t use; /* enum berth__slot_use */
    uint32_t free_pages;  /* committed and not lent */
    uint32_t dirty_pages;
    struct berth__run_bins *bins; /* of its arena; NULL: set aside */
    uint32_t bucket;              /* index in its arena's buckets */
    uint64_t free_units;          /* bit per unit: wholly free */
    uint32_t retained_ms;         /* coarse clock when a slot became retained */
    bool hollow;                  /* what is retained here holds no memory (chunk/retained.h) */
    struct berth__mapped mapped;

    /* Memory that the kernel may be using. A chunk with either count above 0 is never purged,
     * unmapped or moved. Any thread. */
    _Atomic uint32_t pins;
    _Atomic uint32_t registrations;
    _Atomic uint32_t generation; /* times that the slot changed hands */
    bool wiped; /* of a pool for the kernel: a child of a fork reads it as zero (heap/io.h) */
    bool asked; /* its registrations are asked to end. Guarded by the arena's lock */

    struct {
        size_t bytes;              /* usable bytes; committed over all slots */
        size_t slots;              /* address space held */
        _Atomic size_t tail;       /* bytes kept behind its end (chunk/retained.h) */
        struct berth__chunk *last; /* the last slot's record; while there is a tail */
        bool file;                 /* a mapped file (berth_map_file) */
    } huge;

    uint64_t used[BERTH_CHUNK_WORDS];
    uint64_t dirty[BERTH_CHUNK_WORDS];
    _Atomic uint16_t run_pages[BERTH_CHUNK_PAGES]; /* 0: no lent run or twin starts here */

    /* Per slab, guarded by its heap's lock: the count of free blocks from which on it is worth
     * looking for whole free pages again. */
    uint16_t purge_from[BERTH_CHUNK_UNITS];
    struct berth__run_link run_links[BERTH_CHUNK_PAGES / BERTH_RUN_LINK_PAGES];
    struct berth__slab_record slabs[BERTH_CHUNK_UNITS];
    _Atomic uint64_t sampled[BERTH_CHUNK_WORDS]; /* a profile follows the block on this page */
};
_Static_assert(sizeof(struct berth__chunk) <= BERTH_RECORD_BYTES, "a record per slot");

void berth__run_bins_init(struct berth__run_bins *bins);

/* Starts a chunk in a slot whose first `committed` bytes are usable; they read as zero if `clean`.
 * Its free runs join the bins. */
void berth__chunk_init(struct berth__chunk *chunk, struct berth__arena *arena,
                       struct berth__run_bins *bins, size_t committed, bool clean);

/* Takes the free runs of an empty chunk out of the bins. */
void berth__chunk_retire(struct berth__chunk *chunk);

/* After `bytes` more were committed at the end; they read as zero. */
void berth__chunk_extend(struct berth__chunk *chunk, size_t bytes);

/* Finds, among all chunks of the bins, `pages` consecutive free pages, the first one aligned to
 * `align_pages` (a power of two). Returns the chunk and the page, or NULL. */
struct berth__chunk *berth__run_bins_find(struct berth__run_bins *bins, size_t pages,
                                          size_t align_pages, size_t *page);

/* Lends pages found by the above. True if all of them are known to read as zero. */
bool berth__chunk_lend_run(struct berth__chunk *chunk, size_t page, size_t pages);

/* Lends a wholly free unit: its index, or -1. *resident: a bit per page that holds old data. */
int berth__chunk_lend_unit(struct berth__chunk *chunk, uint16_t *resident);

/* Takes pages back. `dirty`: they may hold data. Of a unit, `resident` says which do. */
void berth__chunk_take_run(struct berth__chunk *chunk, size_t page, size_t pages, bool dirty);
void berth__chunk_take_unit(struct berth__chunk *chunk, unsigned unit, uint16_t resident);

/* Pages of the run that starts at `page`; 0 if none does, or if it is parked, or two twins. No lock
 * needed by who holds the run. */
BERTH_INLINE size_t berth__chunk_run_pages(const struct berth__chunk *chunk, size_t page) {
    uint16_t pages = berth__load_relaxed(&chunk->run_pages[page]);
    return pages <= BERTH_RUN_LENGTH ? pages : 0;
}

/* True of a run or twin that was freed, as long as its pages are not used otherwise. */
BERTH_INLINE bool berth__chunk_run_is_freed(const struct berth__chunk *chunk, size_t page) {
    return (berth__load_relaxed(&chunk->run_pages[page]) & (BERTH_RUN_PARKED | BERTH_RUN_FREE)) !=
           0;
}

/* Marks a lent run or twin as parked, or takes the mark off. By who holds it. */
BERTH_INLINE void berth__chunk_park_run(struct berth__chunk *chunk, size_t page) {
    uint16_t pages = berth__load_relaxed(&chunk->run_pages[page]);
    berth__store_relaxed(&chunk->run_pages[page], (uint16_t)(pages | BERTH_RUN_PARKED));
}

BERTH_INLINE void berth__chunk_unpark_run(struct berth__chunk *chunk, size_t page) {
    uint16_t pages = berth__load_relaxed(&chunk->run_pages[page]);
    berth__store_relaxed(&chunk->run_pages[page], (uint16_t)(pages & (BERTH_RUN_PARKED - 1)));
}

/* Lengthens a lent run by `more` pages if those are free; false: nothing changed. Shortening gives
 * the tail back as dirty. */
bool berth__chunk_grow_run(struct berth__chunk *chunk, size_t page, size_t more, bool *zero);
void berth__chunk_shrink_run(struct berth__chunk *chunk, size_t page, size_t keep_pages);

/* The next stretch of free dirty pages at or after `from` that covers whole machine pages, as
 * [*page, *page + *pages); false if there is none. */
bool berth__chunk_next_dirty(const struct berth__chunk *chunk, size_t from, size_t *page,
                             size_t *pages);

/* Around purging a stretch from the above without the lock. */
void berth__chunk_hide(struct berth__chunk *chunk, size_t page, size_t pages);
void berth__chunk_show(struct berth__chunk *chunk, size_t page, size_t pages, bool purged);

BERTH_INLINE size_t berth__chunk_pages(const struct berth__chunk *chunk) {
    return chunk->committed / BERTH_PAGE;
}

BERTH_INLINE bool berth__chunk_is_empty(const struct berth__chunk *chunk) {
    return chunk->free_pages == chunk->committed / BERTH_PAGE;
}

/* In the child of a fork that cut off a change of its arena, which may have been one of the chunk's
 * maps: all of it is lent, for good. It is in no list then. */
void berth__chunk_set_aside(struct berth__chunk *chunk);

BERTH_INLINE bool berth__chunk_is_set_aside(const struct berth__chunk *chunk) {
    return chunk->bins == NULL;
}

/* True if the kernel may be using it. */
BERTH_INLINE bool berth__chunk_is_held(struct berth__chunk *chunk) {
    return berth__load_acquire(&chunk->pins) != 0 ||
           berth__load_acquire(&chunk->registrations) != 0;
}

/* Units of the slot: fewer than usual only at the end of lent memory. */
BERTH_INLINE size_t berth__chunk_units(const struct berth__chunk *chunk) {
    return chunk->span->lent ? chunk->committed / BERTH_UNIT : BERTH_CHUNK_UNITS;
}

/* Bytes at the end that are free and could be decommitted. */
size_t berth__chunk_free_tail(const struct berth__chunk *chunk);

/* After the last `bytes`, hidden before, were decommitted. */
void berth__chunk_drop_tail(struct berth__chunk *chunk, size_t bytes);

bool berth__chunk_is_valid(const struct berth__chunk *chunk);

#endif
