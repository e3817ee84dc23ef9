/*
 * Twins: two blocks of the same size that share a run of an odd number of pages (size/classes.h).
 *
 * The first begins where the run does, the second in the middle of a page. `run_pages` marks the
 * page that each begins in:
 *
 *     lent                TWIN            or TWIN | PARKED, in a CPU's cache
 *     free, other lent    TWIN | FREE     linked in the list of its class; CLEAN: reads as zero
 *     both free           0               the run is the chunk's again
 *
 * with SECOND for the second, and the length of the run for both. One link of the run's pages is
 * enough, as one twin at most is listed.
 *
 * Guarded by the lock of the arena that owns the chunk. Who holds a lent twin may read its mark,
 * and park it, without.
 */
#ifndef BERTH_CHUNK_TWINS_H
#define BERTH_CHUNK_TWINS_H

#include "chunk/chunk.h"

/* Twins that are free while the other is lent. */
struct berth__twins {
    struct berth__list free[BERTH_TWIN_CLASS_COUNT];
};

void berth__twins_init(struct berth__twins *twins);

/* A free twin, the one listed last, or NULL. */
void *berth__twins_lend(struct berth__twins *twins, unsigned twin_class, bool *zero);

/* Makes twins of a run that was just lent, `zero` if it reads as such. The first is the caller's,
 * the second is listed. */
void berth__twins_cut(struct berth__twins *twins, struct berth__chunk *chunk, size_t page,
                      unsigned twin_class, bool zero);

/* Takes a lent twin back. True if both are free: they are forgotten, and the run that begins at
 * *page is the caller's to give back. */
bool berth__twins_take(struct berth__twins *twins, struct berth__chunk *chunk, void *block,
                       size_t *page);

/* Where the run or twin would begin that a pointer into its first page, if it is that, is into. */
BERTH_INLINE void *berth__run_begin_at(const struct berth__chunk *chunk, const void *pointer) {
    size_t page = (size_t)((const char *)pointer - chunk->at) / BERTH_PAGE;
    unsigned mark = berth__load_relaxed(&chunk->run_pages[page]);
    return chunk->at + page * BERTH_PAGE + ((mark & BERTH_RUN_SECOND) != 0 ? BERTH_PAGE / 2 : 0);
}

/* Bytes of the lent block that begins at an address of the chunk, run or twin; 0 if none does. */
BERTH_INLINE size_t berth__run_bytes_at(const struct berth__chunk *chunk, const void *block) {
    size_t offset = (size_t)((const char *)block - chunk->at);
    unsigned mark = berth__load_relaxed(&chunk->run_pages[offset / BERTH_PAGE]);
    if (BERTH_LIKELY(mark <= BERTH_RUN_LENGTH)) {
        return offset % BERTH_PAGE == 0 ? (size_t)mark * BERTH_PAGE : 0;
    }
    size_t begin = (mark & BERTH_RUN_SECOND) != 0 ? BERTH_PAGE / 2 : 0;
    if ((mark & (BERTH_RUN_PARKED | BERTH_RUN_FREE)) != 0 || offset % BERTH_PAGE != begin) {
        return 0;
    }
    return (size_t)(mark & BERTH_RUN_LENGTH) * BERTH_PAGE / 2; /* a twin */
}

#endif
