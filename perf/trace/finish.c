/*
 * Makes a trace of what the recorder wrote:
 *
 *     finish RAW TRACE
 *
 * Puts the records of all threads into their one order, follows each address from malloc to free,
 * gives the blocks slots, and writes for each thread what it did and what it has to wait for.
 * Counts on the way what the trace contains.
 */
#include "blocks.h"
#include "format.h"
#include "raw.h"
#include "streams.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NESTED_MAX = 8, UNFINISHED_MAX = 2 };

/* A realloc between its two records. */
struct pending {
    uint64_t address;
    uint32_t slot;
    bool known;
};

struct thread {
    struct pending pending[NESTED_MAX];
    unsigned pending_count;
};

struct raw_file {
    const char *bytes;
    uint64_t length;
    const struct raw_header *header;
    const struct raw_record **ordered; /* by order; NULL where a record was never finished */
    uint64_t records;
    uint32_t threads;
};

static struct trace_header trace = {.magic = TRACE_MAGIC, .version = TRACE_VERSION};
static struct streams all;
static struct blocks blocks;
static struct thread *threads;
static uint64_t live_bytes, live_blocks;

/* ---- reading ---- */

static struct raw_file raw_open(const char *path) {
    struct raw_file raw = {0};
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status))
        fail("the recorder's file cannot be opened");
    raw.length = (uint64_t)status.st_size;
    if (raw.length < RAW_CHUNK_BYTES)
        fail("not a file of the recorder, or cut off");
    void *bytes = mmap(NULL, raw.length, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    close(fd);
    if (bytes == MAP_FAILED)
        fail("the recorder's file cannot be mapped");
    raw.bytes = bytes;
    raw.header = bytes;
    if (memcmp(raw.header->magic, RAW_MAGIC, sizeof raw.header->magic) != 0 ||
        raw.header->version != RAW_VERSION)
        fail("not a file of the recorder, or of another version of it");
    return raw;
}

static const struct raw_chunk *chunk_of(const struct raw_file *raw, const void *record) {
    uint64_t offset = (uint64_t)((const char *)record - raw->bytes);
    return (const struct raw_chunk *)(raw->bytes + offset / RAW_CHUNK_BYTES * RAW_CHUNK_BYTES);
}

/* Returns how many records it has. */
static uint64_t chunk_read(struct raw_file *raw, const struct raw_chunk *chunk) {
    uint64_t count = 0;
    const struct raw_record *record = (const struct raw_record *)chunk + 1;
    const struct raw_record *end = (const struct raw_record *)chunk + RAW_CHUNK_RECORDS;
    if (chunk->thread >= raw->threads)
        return 0;
    for (; record < end && record->op != RAW_NONE; record++)
        if (record->order < raw->records) {
            raw->ordered[record->order] = record;
            count++;
        }
    return count;
}

/* The orders are dense, so that putting each record into its place sorts them. */
static void raw_sort(struct raw_file *raw) {
    uint64_t chunks = atomic_load(&raw->header->chunks);
    uint64_t full = atomic_load(&raw->header->full);
    uint32_t started = atomic_load(&raw->header->threads);
    raw->threads = started < RAW_THREADS_MAX ? started : RAW_THREADS_MAX;
    raw->records = full ? full : atomic_load(&raw->header->order);
    trace.full = full != 0;
    if (chunks > raw->length / RAW_CHUNK_BYTES)
        chunks = raw->length / RAW_CHUNK_BYTES;
    if (raw->records > chunks * RAW_CHUNK_RECORDS)
        fail("the recorder's file is damaged");
    raw->ordered = calloc(raw->records + 1, sizeof *raw->ordered);
    if (!raw->ordered)
        fail("out of memory");
    uint64_t found = 0;
    for (uint64_t i = 1; i < chunks; i++)
        found += chunk_read(raw, (const struct raw_chunk *)(raw->bytes + i * RAW_CHUNK_BYTES));
    /* A thread that was killed may have left one record, and a signal handler's in it. */
    if (found + UNFINISHED_MAX * (uint64_t)raw->threads < raw->records)
        fail("the recorder's file is cut off, or damaged");
}

/* ---- the calls ---- */

static unsigned bucket_of(uint64_t number) {
    return number > 1 ? 63 - (unsigned)__builtin_clzl(number) : 0;
}

static void live_change(uint32_t thread, int64_t bytes, int64_t count) {
    live_bytes += (uint64_t)bytes;
    live_blocks += (uint64_t)count;
    if (live_blocks > trace.live_peak_blocks)
        trace.live_peak_blocks = live_blocks;
    if (live_bytes > trace.live_peak_bytes) {
        trace.live_peak_bytes = live_bytes;
        trace.peak_thread = thread;
        trace.peak_position = all.streams[thread].count;
    }
}

static void count_allocation(uint64_t size) {
    trace.sizes[bucket_of(size)]++;
    trace.requested_bytes += size;
}

static void release(const struct raw_record *record, uint32_t thread, uint32_t slot) {
    struct slot *used = &all.slots[slot];
    trace.calls[TRACE_FREE]++;
    trace.crossed += used->owner != thread;
    trace.lifetimes[bucket_of(all.calls - used->birth)]++;
    stream_call(&all, thread, record->time_ms, TRACE_FREE, slot, 0, 0);
    live_change(thread, -(int64_t)used->size, -1);
    slot_give(&all, thread, slot);
}

static void on_free(const struct raw_record *record, uint32_t thread) {
    uint32_t slot;
    if (!blocks_take(&blocks, record->address, &slot))
        trace.inherited++;
    else if (slot != BLOCK_HIDDEN)
        release(record, thread, slot);
}

static void on_allocation(const struct raw_record *record, uint32_t thread, enum trace_op op) {
    uint32_t slot;
    if (blocks_take(&blocks, record->address, &slot) && slot != BLOCK_HIDDEN)
        release(record, thread, slot); /* by a way that the recorder does not see */
    if (record->hidden) {
        blocks_add(&blocks, record->address, BLOCK_HIDDEN);
        return;
    }
    slot = slot_take(&all, thread);
    blocks_add(&blocks, record->address, slot);
    all.slots[slot].size = record->size;
    all.slots[slot].birth = all.calls;
    all.slots[slot].owner = thread;
    trace.calls[op]++;
    count_allocation(record->size);
    stream_call(&all, thread, record->time_ms, op, slot, record->size, record->align_log2);
    live_change(thread, (int64_t)record->size, 1);
}

static void on_realloc_from(const struct raw_record *record, uint32_t thread) {
    struct thread *state = &threads[thread];
    if (state->pending_count == NESTED_MAX)
        fail("reallocs within reallocs");
    struct pending *pending = &state->pending[state->pending_count++];
    pending->address = record->address;
    pending->known = blocks_take(&blocks, record->address, &pending->slot);
}

static void realloc_done(const struct raw_record *record, uint32_t thread, uint32_t slot) {
    struct slot *used = &all.slots[slot];
    int64_t more = (int64_t)(record->size - used->size);
    used->size = record->size;
    blocks_add(&blocks, record->address, slot);
    trace.calls[TRACE_REALLOC]++;
    count_allocation(record->size);
    stream_call(&all, thread, record->time_ms, TRACE_REALLOC, slot, record->size, 0);
    live_change(thread, more, 0);
}

static void on_realloc_to(const struct raw_record *record, uint32_t thread) {
    struct thread *state = &threads[thread];
    if (!state->pending_count) /* its beginning was not recorded */
        return;
    struct pending *pending = &state->pending[--state->pending_count];
    bool seen = pending->known && pending->slot != BLOCK_HIDDEN;
    if (!record->address && record->size) { /* it failed */
        if (pending->known)
            blocks_add(&blocks, pending->address, pending->slot);
    } else if (!record->address) { /* realloc(block, 0) as a free */
        if (seen)
            release(record, thread, pending->slot);
    } else if (seen) {
        realloc_done(record, thread, pending->slot);
    } else if (pending->known) {
        blocks_add(&blocks, record->address, BLOCK_HIDDEN);
    } else {
        trace.inherited++;
        on_allocation(record, thread, TRACE_MALLOC);
    }
}

static void spawn(uint32_t by, uint32_t thread) {
    if (thread == 0 || thread >= all.threads || all.streams[thread].spawned)
        return;
    all.streams[thread].spawned = true;
    stream_note(&all, by, TRACE_SPAWN, thread, 0);
}

static void on_record(const struct raw_record *record, uint32_t thread) {
    spawn(0, thread); /* if it was started in a way that the recorder does not see */
    trace.duration_ms = record->time_ms;
    switch ((enum raw_op)record->op) {
    case RAW_MALLOC: on_allocation(record, thread, TRACE_MALLOC); break;
    case RAW_CALLOC: on_allocation(record, thread, TRACE_CALLOC); break;
    case RAW_ALIGNED: on_allocation(record, thread, TRACE_ALIGNED); break;
    case RAW_FREE: on_free(record, thread); break;
    case RAW_REALLOC_FROM: on_realloc_from(record, thread); break;
    case RAW_REALLOC_TO: on_realloc_to(record, thread); break;
    case RAW_SPAWN: spawn(thread, (uint32_t)record->address); break;
    case RAW_END: all.streams[thread].ended = true; break;
    case RAW_NONE:
    case RAW_VOID: break;
    }
}

static uint64_t duration_ms(const struct raw_file *raw) {
    uint64_t last = raw->records;
    while (last > 0 && !raw->ordered[last - 1])
        last--;
    return last ? raw->ordered[last - 1]->time_ms : 0;
}

static void follow(const struct raw_file *raw) {
    all = streams_new(raw->threads, raw->records, duration_ms(raw));
    threads = calloc(raw->threads, sizeof *threads);
    if (!threads)
        fail("out of memory");
    for (uint64_t i = 0; i < raw->records; i++)
        if (raw->ordered[i])
            on_record(raw->ordered[i], chunk_of(raw, raw->ordered[i])->thread);
}

/* ---- writing ---- */

static void header_fill(const struct raw_file *raw) {
    trace.threads = all.threads;
    trace.slots = all.slots_used;
    trace.waits = all.waits;
    trace.live_end_bytes = live_bytes;
    trace.live_end_blocks = live_blocks;
    trace.pid = raw->header->pid;
    memcpy(trace.program, raw->header->program, sizeof trace.program - 1);
    for (uint32_t i = 0; i < all.threads; i++)
        trace.words += all.streams[i].count;
}

static struct trace_thread *table_new(void) {
    struct trace_thread *table = calloc(all.threads, sizeof *table);
    if (!table)
        fail("out of memory");
    uint64_t first = 0;
    for (uint32_t i = 0; i < all.threads; i++) {
        const struct stream *stream = &all.streams[i];
        table[i] = (struct trace_thread){first, stream->count, stream->ended};
        first += stream->count;
    }
    return table;
}

static uint64_t checksum(const struct trace_thread *table) {
    uint64_t sum = trace_checksum(0, (const uint64_t *)&trace, sizeof trace / 8);
    sum = trace_checksum(sum, (const uint64_t *)table, all.threads * sizeof *table / 8);
    for (uint32_t i = 0; i < all.threads; i++)
        sum = trace_checksum(sum, all.streams[i].words, all.streams[i].count);
    return sum;
}

static void write_all(FILE *out, const void *bytes, size_t size) {
    if (size && fwrite(bytes, size, 1, out) != 1)
        fail("the trace cannot be written");
}

static void trace_write(const char *path) {
    struct trace_thread *table = table_new();
    trace.checksum = checksum(table);
    FILE *out = fopen(path, "we");
    if (!out)
        fail("the trace cannot be created");
    write_all(out, &trace, sizeof trace);
    write_all(out, table, all.threads * sizeof *table);
    for (uint32_t i = 0; i < all.threads; i++)
        write_all(out, all.streams[i].words, all.streams[i].count * 8);
    if (fclose(out))
        fail("the trace cannot be written");
    free(table);
}

int main(int argc, char **argv) {
    if (argc != 3)
        fail("usage: finish RAW TRACE");
    struct raw_file raw = raw_open(argv[1]);
    raw_sort(&raw);
    if (!raw.threads)
        fail("nothing was recorded");
    follow(&raw);
    header_fill(&raw);
    trace_write(argv[2]);
    return 0;
}
