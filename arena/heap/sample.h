/*
 * The sampling profiler, where it meets the heap.
 *
 * A call that is not sampled pays nothing, because caches count nothing: each allocation takes one
 * token from its bin, and which tokens are samples is decided when they get there. A token is a
 * block, which a refill or a free has put into the bin; or a mark, which is what the bin has in
 * place of a block that was drawn: a NULL amid the stack of pointers. To malloc it looks like the
 * end of the bin, so it takes its slow path, which finds the mark, removes it, and takes a block
 * from a slab of samples instead. Whoever allocates at a mark is sampled: so every allocation of a
 * class is as likely as any other, whether its block was refilled or freed just before.
 *
 *     array:   [ .. | 0x40 | NULL | 0x80 | 0xc0 | NULL NULL ]      the third malloc finds 0x80
 *                     top    mark               end of the array
 *
 * Refills draw at which block of their batch they stop, and put a mark behind it. Frees draw how
 * much fuel they give a bin (cache.h): where it ends before its time, the block that is freed then
 * goes home, and a mark takes its place.
 *
 * Slabs of samples are a heap of each arena that no cache owns (kind BERTH_UNIT_SAMPLED): freeing
 * such a block fails the owner check in any case. Few classes, so that small processes have few of
 * them. Normal and huge blocks are drawn as they are requested, by the bytes asked for: a cache
 * counts down to the next sample. They are noted in their chunk.
 *
 * The interval may change at any time. A cache takes note of it on its next slow path: marks that
 * were drawn for another one are removed.
 */
#ifndef BERTH_HEAP_SAMPLE_H
#define BERTH_HEAP_SAMPLE_H

#include "heap/cache.h"
#include "heap/request.h"
#include "heap/sample_table.h"

/* Changes with each setting; 0 before the first. */
extern _Atomic uint64_t berth__sample_epoch;

/* Sets the mean distance of samples in bytes; 0: no more are drawn, those that live are kept. Any
 * thread. */
void berth__sample_set(uint64_t interval);
uint64_t berth__sample_get(void);

/* Whether stacks are read by the C library's unwinder, which needs no frame pointers, but takes
 * microseconds, and may load a library the first time; so this makes it do that. */
void berth__sample_use_unwinder(void);

/* The stack of a request's call, read in that way: how many places, innermost first. Under no lock,
 * because an unwinder may allocate: of that no sample is taken. */
unsigned berth__sample_stack(const struct berth__request *request, void *places[BERTH_SITE_DEPTH]);

/* ---- for caches; owner only ---- */

/* A cache that does not know the present interval takes note of it. */
BERTH_NOINLINE void berth__sample_renew(struct berth__cache *cache);

BERTH_INLINE uint64_t berth__sample_interval_of(struct berth__cache *cache) {
    if (BERTH_UNLIKELY(cache->sample_epoch != berth__load_acquire(&berth__sample_epoch))) {
        berth__sample_renew(cache);
    }
    return cache->sample_interval;
}

/* True if the small block that the thread allocates now is to be sampled: at a mark, which is
 * removed, or where the bin is empty. */
bool berth__sample_is_due(struct berth__cache *cache, unsigned small_class);
bool berth__sample_is_due_uncached(unsigned small_class);

/* Takes the marks out of a bin. */
void berth__sample_unmark(struct berth__bin *bin);

/* The first of the next `count` tokens of a bin that is to be a mark; `count` if none is. */
uint32_t berth__bin_draw(struct berth__cache *cache, const struct berth__bin *bin, uint32_t count);

/* The same for frees: how much fuel of `fuel` the bin gets. BERTH_BIN_DUE tells that a mark is
 * drawn for when it is spent. */
uint32_t berth__bin_draw_fuel(struct berth__cache *cache, struct berth__bin *bin, uint32_t fuel);

/* A stash (stash.h) serves requests as long as it has fuel, which is no more than what is left up
 * to the next sample. The first counts what it has served since the last time; the second bounds
 * the fuel. Both do nothing where there is no stash. */
void berth__sample_count_stash(struct berth__cache *cache);
void berth__sample_bound_stash(struct berth__cache *cache);

/* ---- for requests ---- */

/* A small block that is followed, in place of one of this class; NULL: there is no room for it. */
BERTH_NOINLINE void *berth__sample_small(const struct berth__request *request, unsigned small_class,
                                         unsigned charge_flags);

/* Follows a normal or huge block if it is drawn. */
BERTH_NOINLINE void berth__sample_large(const struct berth__request *request, void *block);

/* Frees a block of a slab of samples. */
void berth__sample_free(void *block, uint64_t entry);

/* Forgets a normal or huge block, if it was followed; which it was. */
bool berth__sample_forget_large(const void *block);

/* The blocks of a pool are gone, at its end. */
void berth__sample_forget_pool(struct berth__arenas *arenas);

BERTH_INLINE bool berth__sample_is_on(void) {
    return BERTH_UNLIKELY(berth__load_relaxed(&berth__sample_epoch) != 0);
}

#endif
