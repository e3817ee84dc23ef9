/*
 * Streams of words. Two things make a thread of the replay wait for another one:
 *
 * - A block passes: the last call on its slot was another thread's. It is then waited for all that
 *   this thread had done by now, not only for that call, and `seen` keeps what was waited for. So a
 *   hundred blocks in a row from one thread cost one wait instead of a hundred, each of which would
 *   read a cache line that the other thread is writing.
 * - Pace: at the beginning of each window of the record (a 256th of it, or less) a thread waits for
 *   those that were busy in the last windows but one and but two to have come to the end of these.
 *   They did the same before, so nothing older is left. Without it, threads that have nothing to do
 *   with each other would drift apart, and what is live at once would be chance.
 *
 * All waits point backwards in the record, so there is no cycle of them.
 */
#include "streams.h"

#include "blocks.h"

#include <stdlib.h>
#include <string.h>

enum { FRESH_SLOTS = 32, WINDOW_CALLS_MIN = 1024, WORDS_FIRST = 64 };

struct streams streams_new(uint32_t threads, uint64_t calls_expected, uint64_t duration_ms) {
    struct streams all = {.threads = threads};
    all.streams = calloc(threads, sizeof *all.streams);
    all.paced = calloc(threads, sizeof *all.paced);
    if (!all.streams || !all.paced)
        fail("out of memory");
    uint64_t window = calls_expected / TRACE_MARKS;
    all.window_calls = window > WINDOW_CALLS_MIN ? window : WINDOW_CALLS_MIN;
    all.window_ms = duration_ms / TRACE_MARKS + 1;
    for (uint32_t i = 0; i < threads; i++)
        all.streams[i].window = UINT64_MAX;
    return all;
}

static void append(struct stream *stream, uint64_t word) {
    if (stream->count == stream->capacity) {
        stream->capacity = stream->capacity ? 2 * stream->capacity : WORDS_FIRST;
        stream->words = grown(stream->words, stream->capacity * sizeof *stream->words);
    }
    if (stream->count == UINT32_MAX)
        fail("a thread made too many calls");
    stream->words[stream->count++] = word;
}

void stream_note(struct streams *all, uint32_t thread, enum trace_op op, uint64_t slot,
                 uint64_t size) {
    append(&all->streams[thread], trace_word(op, slot, size));
}

/* If it is not known that the other thread has reached a position, waits for that and more. Returns
   whether there was something to wait for. */
static bool wait_for(struct streams *all, uint32_t thread, enum trace_op op, uint32_t other,
                     uint64_t position, uint64_t more) {
    struct stream *stream = &all->streams[thread];
    if (!stream->seen)
        stream->seen = calloc(all->threads, sizeof *stream->seen);
    if (!stream->seen)
        fail("out of memory");
    if (other == thread || stream->seen[other] >= position)
        return false;
    stream->seen[other] = (uint32_t)more;
    append(stream, trace_word(op, other, more));
    return true;
}

static bool window_over(const struct streams *all, uint32_t time_ms) {
    return all->calls - all->window_first_call >= all->window_calls ||
           time_ms >= all->window_began_ms + all->window_ms;
}

static void window_begin(struct streams *all, uint32_t time_ms) {
    all->window++;
    all->window_first_call = all->calls;
    all->window_began_ms = time_ms;
    all->paced_count = 0;
    for (uint32_t i = 0; i < all->threads; i++) {
        uint64_t *counts = all->streams[i].window_counts;
        memmove(counts + 1, counts, (WINDOWS_KEPT - 1) * sizeof *counts);
        counts[0] = all->streams[i].count;
        if (counts[1] > counts[WINDOWS_KEPT - 1])
            all->paced[all->paced_count++] = i;
    }
}

static void window_enter(struct streams *all, uint32_t thread, uint32_t time_ms) {
    all->streams[thread].window = all->window;
    for (uint32_t i = 0; i < all->paced_count; i++) {
        uint32_t other = all->paced[i];
        uint64_t position = all->streams[other].window_counts[1];
        wait_for(all, thread, TRACE_PACE, other, position, position);
    }
    append(&all->streams[thread], trace_word(TRACE_TIME, all->window, time_ms));
}

void stream_call(struct streams *all, uint32_t thread, uint32_t time_ms, enum trace_op op,
                 uint32_t slot, uint64_t size, unsigned align_log2) {
    struct stream *stream = &all->streams[thread];
    struct slot *used = &all->slots[slot];
    if (window_over(all, time_ms))
        window_begin(all, time_ms);
    if (stream->window != all->window)
        window_enter(all, thread, time_ms);
    all->waits += wait_for(all, thread, TRACE_WAIT, used->last_thread, used->last_position,
                           all->streams[used->last_thread].count);
    if (align_log2 || size > UINT32_MAX)
        append(stream, trace_word(TRACE_MORE, align_log2, size >> 32));
    append(stream, trace_word(op, slot, size & UINT32_MAX));
    used->last_thread = thread;
    used->last_position = stream->count;
    all->calls++;
}

uint32_t slot_take(struct streams *all, uint32_t thread) {
    struct stream *stream = &all->streams[thread];
    if (stream->free_count)
        return stream->free_slots[--stream->free_count];
    if (stream->fresh_next == stream->fresh_end) {
        stream->fresh_next = all->slots_used;
        stream->fresh_end = all->slots_used += FRESH_SLOTS;
        if (all->slots_used >= TRACE_SLOTS_MAX)
            fail("too many blocks are live at once");
        if (all->slots_used > all->slots_capacity) {
            all->slots_capacity = 2 * (size_t)all->slots_used;
            all->slots = grown(all->slots, all->slots_capacity * sizeof *all->slots);
        }
    }
    uint32_t slot = stream->fresh_next++;
    all->slots[slot] = (struct slot){.last_thread = thread};
    return slot;
}

void slot_give(struct streams *all, uint32_t thread, uint32_t slot) {
    struct stream *stream = &all->streams[thread];
    if (stream->free_count == stream->free_capacity) {
        stream->free_capacity = stream->free_capacity ? 2 * stream->free_capacity : WORDS_FIRST;
        stream->free_slots =
            grown(stream->free_slots, stream->free_capacity * sizeof *stream->free_slots);
    }
    stream->free_slots[stream->free_count++] = slot;
}
