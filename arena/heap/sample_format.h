/*
 * The tables of the sampling profiler, as they lie in memory: `berth prof` reads them from outside.
 *
 *     root -> blocks of sites, blocks of samples
 *
 * A site is a stack of calls with its sums. A sample is a block that lives and was drawn. Both are
 * numbered; number n lies in block n / per_block. What a number stands for changes (samples) or
 * grows (sites), but no block is ever freed or moved.
 *
 * One writer at a time, under the lock of heap/sample_table.c. Readers outside of the process take
 * no lock. Each record begins with a sequence:
 *     T1  odd, acquiring, so that what is stored next stays behind it
 *     T2  even, release
 *     T3  (reader) copy the block, copy it again, copy it once more: a record of the second copy is
 *         whole if its sequence is the same even number in the first and the third
 *
 * Sums of a site are estimates, unbiased: a sample of a block of S bytes, drawn with the
 * probability p = 1 - exp(-S / interval), stands for 1 / p blocks. The peak of a site is what it
 * held when all sites together held most: `peak_bytes` if its `peak_number` is the root's or later,
 * else `live_bytes`, which has not changed since. See docs/decisions/0017-sampling.md.
 */
#ifndef BERTH_HEAP_SAMPLE_FORMAT_H
#define BERTH_HEAP_SAMPLE_FORMAT_H

#include "base/atomics.h"

#define BERTH_SAMPLES_MAGIC UINT64_C(0x73706d7368747262) /* "brthsmps" */

enum {
    BERTH_SAMPLES_VERSION = 1,
    BERTH_SITE_DEPTH = 32,
    BERTH_SAMPLE_BLOCK_BYTES = 64 << 10,
    BERTH_SITE_BLOCKS_MAX = 48,
    BERTH_SAMPLE_BLOCKS_MAX = 256,
    BERTH_SAMPLE_ONE = 1024, /* counts of blocks are in 1024ths */
};

/* Site 0 has no stack: it stands for all for which there was no room. */
struct berth__site {
    _Atomic uint64_t sequence;
    uint64_t hash;
    uint32_t depth;
    uint32_t next; /* in its bucket; of the writer */
    uint64_t allocated_count, allocated_bytes;
    uint64_t live_count, live_bytes;
    uint64_t live_requested;         /* bytes that the program had asked for */
    uint64_t peak_count, peak_bytes; /* as of peak_number */
    uint64_t peak_number;
    uint64_t lifetime_ms;           /* sum over samples that were freed, each as one */
    uint64_t samples, live_samples; /* drawn */
    uint64_t first_ms, last_ms;     /* coarse clock */
    void *place[BERTH_SITE_DEPTH];  /* return addresses, innermost first */
};

struct berth__sample {
    _Atomic uint64_t sequence;
    uint64_t block;   /* address; 0: the record is not in use */
    uint64_t born_ms; /* coarse clock */
    uint32_t site;
    uint32_t next;      /* in its bucket, or of the unused; of the writer */
    uint64_t requested; /* bytes asked for */
    uint64_t bytes;     /* of a block of its class */
    uint64_t count;     /* blocks that it stands for, in 1024ths */
    uint64_t weight;    /* bytes that it stands for */
};
_Static_assert(sizeof(struct berth__sample) == 64, "a cache line");

enum {
    BERTH_SITES_PER_BLOCK = BERTH_SAMPLE_BLOCK_BYTES / sizeof(struct berth__site),
    BERTH_SAMPLES_PER_BLOCK = BERTH_SAMPLE_BLOCK_BYTES / sizeof(struct berth__sample),
    BERTH_SITES_MAX = BERTH_SITES_PER_BLOCK * BERTH_SITE_BLOCKS_MAX,
    BERTH_SAMPLES_MAX = BERTH_SAMPLES_PER_BLOCK * BERTH_SAMPLE_BLOCKS_MAX,
};

struct berth__sample_root {
    _Atomic uint64_t magic; /* written last */
    uint32_t version;
    uint32_t root_bytes;
    uint32_t site_bytes, sites_per_block;
    uint32_t sample_bytes, samples_per_block;
    _Atomic uint64_t interval;     /* bytes, mean; 0: off */
    _Atomic uint64_t site_count;   /* numbers below are in use */
    _Atomic uint64_t sample_count; /* numbers below have been in use */
    _Atomic uint64_t live_samples;
    _Atomic uint64_t taken;    /* samples, ever */
    _Atomic uint64_t left_out; /* drawn, but there was no room */
    _Atomic uint64_t live_bytes, peak_bytes, peak_number;
    _Atomic uint64_t site_block[BERTH_SITE_BLOCKS_MAX]; /* addresses */
    _Atomic uint64_t sample_block[BERTH_SAMPLE_BLOCKS_MAX];
};

#endif
