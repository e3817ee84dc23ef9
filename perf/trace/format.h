/*
 * A trace: what a process asked of its allocator, thread by thread, ready to be replayed. finish.c
 * writes it, replay.c and tracefile.py read it.
 *
 *     header | thread table | words of thread 0 | words of thread 1 ..
 *
 * All of it little-endian and a multiple of 8 bytes. A word is one call, or what must hold before
 * the next call. Blocks are named by slots: a slot holds one block at a time, and is lent again
 * only by the thread that freed its last block, so that slots bring no order among threads of their
 * own.
 *
 * Positions are numbers of words: thread t has reached position n when it has done its first n.
 */
#ifndef BERTH_PERF_TRACE_FORMAT_H
#define BERTH_PERF_TRACE_FORMAT_H

#include <stdint.h>

#define TRACE_MAGIC "berthtrc"

enum { TRACE_VERSION = 1, TRACE_BUCKETS = 64, TRACE_PROGRAM_MAX = 32, TRACE_MARKS = 256 };

enum trace_op {
    TRACE_MALLOC,             /* slot, size */
    TRACE_CALLOC,             /* slot, size */
    TRACE_ALIGNED,            /* slot, size; a TRACE_MORE before it has the alignment */
    TRACE_REALLOC,            /* slot, new size */
    TRACE_FREE,               /* slot */
    TRACE_CALLS,              /* those before this are calls */
    TRACE_MORE = TRACE_CALLS, /* low 8 bits of slot: log2 of the next call's alignment; size: the
                                 upper half of its size */
    TRACE_SPAWN,              /* starts thread number `slot` */
    TRACE_WAIT,               /* until thread `slot` has reached position `size`: a block passes */
    TRACE_PACE,               /* the same, so that no thread runs far ahead of the record */
    TRACE_TIME, /* window `slot` of the record begins, `size` milliseconds after it did */
    TRACE_OPS,
};

/* op: 4 bits, slot: 28 bits, size: 32 bits. */
enum { TRACE_SLOT_BITS = 28, TRACE_SLOTS_MAX = 1 << TRACE_SLOT_BITS };

static inline uint64_t trace_word(enum trace_op op, uint64_t slot, uint64_t size) {
    return (uint64_t)op | slot << 4 | size << 32;
}

static inline enum trace_op trace_op_of(uint64_t word) {
    return (enum trace_op)(word & 15);
}

static inline uint32_t trace_slot_of(uint64_t word) {
    return (uint32_t)word >> 4;
}

static inline uint32_t trace_size_of(uint64_t word) {
    return (uint32_t)(word >> 32);
}

struct trace_thread {
    uint64_t first; /* word of the file's words */
    uint64_t words;
    uint64_t ended; /* 1: before the process did */
};

struct trace_header {
    char magic[8];
    uint32_t version;
    uint32_t threads;
    uint64_t checksum; /* of the whole file, with 0 in this place */
    uint64_t words;    /* in all threads */
    uint64_t slots;
    uint64_t peak_thread; /* the live bytes were most when this thread was at this position */
    uint64_t peak_position;

    /* What it contains; for people. Bytes are as requested. */
    uint64_t calls[TRACE_CALLS];
    uint64_t live_peak_bytes;
    uint64_t live_peak_blocks;
    uint64_t live_end_bytes;
    uint64_t live_end_blocks;
    uint64_t requested_bytes;
    uint64_t crossed;   /* frees by another thread than the one that allocated */
    uint64_t inherited; /* frees of blocks that were not recorded, from before a fork: left out */
    uint64_t waits;     /* TRACE_WAIT words */
    uint64_t duration_ms;
    uint64_t pid;
    uint64_t full;                     /* 1: the recording stopped before the process did */
    uint64_t sizes[TRACE_BUCKETS];     /* allocations by log2 of the size; 0: of 0 and 1 bytes */
    uint64_t lifetimes[TRACE_BUCKETS]; /* freed blocks by log2 of the calls that they lived for */
    char program[TRACE_PROGRAM_MAX];
};

_Static_assert(sizeof(struct trace_header) % 8 == 0, "the file's layout");

/* The checksum of more words, of which the sum so far is `sum` (Fowler, Noll and Vo's, by words).
 */
static inline uint64_t trace_checksum(uint64_t sum, const uint64_t *words, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        sum = (sum ^ words[i]) * 1099511628211u;
    return sum;
}

#endif
