/*
 * The words of a trace while it is being made: a stream for each thread, slots, and what has to be
 * waited for. For finish.c.
 */
#ifndef BERTH_PERF_TRACE_STREAMS_H
#define BERTH_PERF_TRACE_STREAMS_H

#include "format.h"

#include <stdbool.h>
#include <stddef.h>

enum { WINDOWS_KEPT = 4 };

struct slot {
    uint64_t size;
    uint64_t birth;         /* which call it was lent by */
    uint32_t owner;         /* the thread that allocated the block */
    uint32_t last_thread;   /* who used the slot last, .. */
    uint64_t last_position; /* .. and had reached this position then */
};

struct stream {
    uint64_t *words;
    uint64_t count;
    uint64_t capacity;
    uint32_t *free_slots; /* lent again to this thread only */
    size_t free_count;
    size_t free_capacity;
    uint32_t fresh_next; /* slots that nobody has used yet, taken some at a time */
    uint32_t fresh_end;
    uint32_t *seen; /* by thread: the position that it surely has reached when we are here */
    uint64_t window;
    uint64_t window_counts[WINDOWS_KEPT]; /* positions at the beginnings of the last windows */
    bool spawned;
    bool ended;
};

struct streams {
    struct stream *streams;
    uint32_t threads;
    struct slot *slots;
    size_t slots_capacity;
    uint32_t slots_used;
    uint64_t window_calls; /* a window is so many calls long at most, and so much time */
    uint64_t window_ms;
    uint64_t window;
    uint64_t window_first_call;
    uint64_t window_began_ms;
    uint32_t *paced; /* the threads that a window's beginning waits for */
    uint32_t paced_count;
    uint64_t calls;
    uint64_t waits;
};

struct streams streams_new(uint32_t threads, uint64_t calls_expected, uint64_t duration_ms);

/* Not a call: TRACE_SPAWN. */
void stream_note(struct streams *all, uint32_t thread, enum trace_op op, uint64_t slot,
                 uint64_t size);

/* A call on a slot, with whatever has to come before it. */
void stream_call(struct streams *all, uint32_t thread, uint32_t time_ms, enum trace_op op,
                 uint32_t slot, uint64_t size, unsigned align_log2);

uint32_t slot_take(struct streams *all, uint32_t thread);
void slot_give(struct streams *all, uint32_t thread, uint32_t slot);

#endif
