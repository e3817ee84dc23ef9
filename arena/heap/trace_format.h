/*
 * The trace of who takes memory, as it lies in memory: `berth trace` reads it from outside.
 *
 *     root -> a ring of records
 *
 * It is off unless the root's `until_ms` lies in the future. That number is the reader's: it writes
 * it, a few seconds ahead, again and again as long as it looks, so that a reader that died leaves
 * nothing switched on, and a process that is silent needs not be woken. The ring is made with the
 * first record, and stays.
 *
 * One writer at a time, under the lock of heap/trace.c. Record n lies at n % record_count, and
 * begins with a sequence:
 *     Q1  2n + 1, acquiring, so that what is stored next stays behind it
 *     Q2  2n + 2, release; then the root's `written` is n + 1, release
 *     Q3  (reader) read `written`, copy the ring, copy it again: a record below `written` of the
 *         first copy is whole if its sequence is 2n + 2 in the second copy
 */
#ifndef BERTH_HEAP_TRACE_FORMAT_H
#define BERTH_HEAP_TRACE_FORMAT_H

#include "base/atomics.h"

#define BERTH_TRACE_MAGIC UINT64_C(0x6563617274687262) /* "brhtrace" */

enum {
    BERTH_TRACE_VERSION = 1,
    BERTH_TRACE_RING_BYTES = 64 << 10,
    BERTH_TRACE_DEPTH = 24,
};

enum berth__trace_kind {
    BERTH_TRACE_CHUNK,       /* an arena has one more */
    BERTH_TRACE_CHUNK_MORE,  /* an arena's latest chunk has become longer */
    BERTH_TRACE_HUGE,        /* a block longer than a chunk */
    BERTH_TRACE_HUGE_MORE,   /* such a block has become longer */
    BERTH_TRACE_LADDER_STEP, /* the limit refused, and something is tried */
    BERTH_TRACE_FAILURE,     /* a request got nothing */
    BERTH_TRACE_KINDS
};

struct berth__trace_record {
    _Atomic uint64_t sequence;
    uint64_t time_ns;   /* CLOCK_MONOTONIC */
    uint64_t requested; /* bytes that the program asked for */
    uint64_t address;   /* of what was taken; 0: nothing was */
    uint64_t bytes;     /* taken */
    uint64_t mapped;    /* of these, from the kernel; the others were mapped, and unused */
    uint32_t thread;    /* its number in the kernel */
    uint16_t pool;      /* its number */
    uint8_t kind;       /* enum berth__trace_kind */
    uint8_t step;       /* enum berth__ladder_step */
    uint32_t depth;
    uint32_t reserved;
    void *place[BERTH_TRACE_DEPTH]; /* return addresses, innermost first */
};
_Static_assert(sizeof(struct berth__trace_record) == 256, "whole cache lines");

enum { BERTH_TRACE_RECORDS = BERTH_TRACE_RING_BYTES / sizeof(struct berth__trace_record) };

struct berth__trace_root {
    uint64_t magic;
    uint32_t version;
    uint32_t root_bytes;
    uint32_t record_bytes, record_count;
    _Atomic uint64_t until_ms; /* coarse clock; 0: off */
    _Atomic uint64_t ring;     /* address; 0: not made yet */
    _Atomic uint64_t written;  /* records, ever */
    _Atomic uint64_t left_out; /* there was no memory for the ring */
};

#endif
