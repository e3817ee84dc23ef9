/*
 * The profiler's tables: which blocks are followed, and what each site holds.
 *
 * Metadata memory, bounded: 8,160 sites and 262,144 living samples (at 512 KiB, those of 128 GiB).
 * What finds no room is counted as left out. Any thread; takes one lock, under which nothing but
 * metadata memory is asked for. The lock is held over a fork.
 */
#ifndef BERTH_HEAP_SAMPLE_TABLE_H
#define BERTH_HEAP_SAMPLE_TABLE_H

#include "heap/sample_format.h"

/* A block to follow, and where it came from. */
struct berth__sampled {
    const void *block;
    size_t requested, bytes;
    size_t drawn;      /* bytes by which it was drawn */
    uint64_t interval; /* with which it was drawn */
    void *const *places;
    unsigned depth;
};

/* Bytes that it stands for; 0: there is no room, which is counted. */
uint64_t berth__samples_add(const struct berth__sampled *sampled);

/* Forgets a block, which is about to be freed. False: it is not followed. */
bool berth__samples_remove(const void *block);

/* Bytes that a followed block would have otherwise; 0: it is not followed. */
size_t berth__samples_size(const void *block);

/* Forgets the blocks for which is_gone(context, block) holds. */
void berth__samples_forget(bool (*is_gone)(void *context, const void *block), void *context);

/* Tells readers of a new interval. */
void berth__samples_note_interval(uint64_t interval);

/* Where the tables are, or will be: readers look for the magic number. */
const struct berth__sample_root *berth__samples_place(void);

/* NULL before the first sample is taken or asked for. */
const struct berth__sample_root *berth__samples_root(void);

/* A copy of a site, as it is at one moment; false: there are not so many. */
bool berth__samples_copy_site(uint32_t number, struct berth__site *copy);

/* Has the lock held over a fork. When the library is loaded. */
void berth__samples_init(void);

#endif
