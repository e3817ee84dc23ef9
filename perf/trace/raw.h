/*
 * What the recorder writes while a program runs, and finish.c reads afterwards: one file for each
 * process, in chunks that belong to one thread each. Addresses are still addresses here.
 *
 * Every record takes a number from one counter. A free takes it before the real free, an allocation
 * after the real malloc; so, in the order of the numbers, a block is freed before its address is
 * lent again, and lent before another thread frees it. That is the one order that the replay needs.
 *
 * Not here: the trace that is replayed, which is format.h.
 */
#ifndef BERTH_PERF_TRACE_RAW_H
#define BERTH_PERF_TRACE_RAW_H

#include <stdatomic.h>
#include <stdint.h>

#define RAW_MAGIC "berthraw"

enum {
    RAW_VERSION = 1,
    RAW_CHUNK_BYTES = 256 * 1024,
    RAW_THREADS_MAX = 65536, /* later threads are not recorded */
    RAW_PROGRAM_MAX = 32,
};

enum raw_op {
    RAW_NONE, /* nothing was written here yet: the chunk ends */
    RAW_VOID, /* a record that turned out not to be */
    RAW_MALLOC,
    RAW_CALLOC,
    RAW_ALIGNED,
    RAW_FREE,
    RAW_REALLOC_FROM, /* before the call: address is the old block */
    RAW_REALLOC_TO,   /* after it: the new one, or 0 */
    RAW_SPAWN,        /* address is the new thread's number */
    RAW_END,          /* the thread's function has returned */
};

struct raw_record {
    uint64_t order;
    uint64_t address;
    uint64_t size;
    uint32_t time_ms; /* since the file was made */
    uint8_t op;       /* written last */
    uint8_t align_log2;
    uint8_t hidden; /* made inside pthread_create, which the replay calls too */
    uint8_t unused;
};

_Static_assert(sizeof(struct raw_record) == 32, "the file's layout");

/* The first record's place in a chunk. start and argument are for a thread that is being started;
   in the file they mean nothing. */
struct raw_chunk {
    uint32_t thread;
    uint32_t unused;
    uint64_t generation;
    void *(*start)(void *);
    void *argument;
};

_Static_assert(sizeof(struct raw_chunk) == sizeof(struct raw_record), "a chunk is cut evenly");

enum { RAW_CHUNK_RECORDS = RAW_CHUNK_BYTES / sizeof(struct raw_record) };

/* Chunk 0 of the file. The file is longer than what was written, with a hole at its end. */
struct raw_header {
    char magic[8];
    uint32_t version;
    uint32_t pid;
    char program[RAW_PROGRAM_MAX];
    _Alignas(64) _Atomic uint64_t order; /* records so far */
    _Alignas(64) _Atomic uint64_t chunks;
    _Atomic uint32_t threads;
    _Atomic uint64_t full; /* if not 0: the order from which on records are missing, because the
                              file's span or the threads ran out */
};

#endif
