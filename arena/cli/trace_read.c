#include "cli/trace_read.h"

#include "base/bits.h"
#include "heap/request.h"
#include "os/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LEASE_MS = 10000 }; /* how long a tool that was killed leaves it on */

static bool copy(const struct berth__trace_reader *reader, uint64_t at, void *to, size_t bytes) {
    return pread(reader->memory, to, bytes, (off_t)at) == (ssize_t)bytes;
}

static uint64_t place_of_until(const struct berth__trace_reader *reader) {
    return reader->root + offsetof(struct berth__trace_root, until_ms);
}

static bool read_root(const struct berth__trace_reader *reader, struct berth__trace_root *root) {
    return copy(reader, reader->root, root, sizeof(*root)) && root->magic == BERTH_TRACE_MAGIC &&
           root->version == BERTH_TRACE_VERSION && root->root_bytes == sizeof(*root) &&
           root->record_bytes == sizeof(struct berth__trace_record) &&
           root->record_count == BERTH_TRACE_RECORDS;
}

int berth__trace_open(struct berth__trace_reader *reader, const struct berth__process *process) {
    char path[64];
    struct berth__trace_root root;
    *reader = (struct berth__trace_reader){.memory = -1, .root = process->stats.trace};
    if (reader->root == 0) {
        return -ENOTSUP;
    }
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)process->pid);
    reader->memory = open(path, O_RDWR | O_CLOEXEC);
    if (reader->memory < 0) {
        return -errno;
    }
    if (!read_root(reader, &root)) {
        return -ENOTSUP;
    }
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(reader->copy); i++) {
        reader->copy[i] = malloc(BERTH_TRACE_RING_BYTES);
        if (reader->copy[i] == NULL) {
            return -ENOMEM;
        }
    }
    reader->next = root.written;
    return berth__trace_renew(reader) ? 0 : -EIO;
}

bool berth__trace_renew(struct berth__trace_reader *reader) {
    uint64_t until = berth__clock_coarse_ms() + LEASE_MS;
    if (pwrite(reader->memory, &until, sizeof(until), (off_t)place_of_until(reader)) !=
        (ssize_t)sizeof(until)) {
        return false;
    }
    reader->until_ms = until;
    return true;
}

/* Q3: both copies are of after `written` was read. */
static void take_record(struct berth__trace_reader *reader, uint64_t number,
                        berth__trace_taker *take, void *context) {
    uint64_t slot = number % BERTH_TRACE_RECORDS;
    struct berth__trace_record *record = &reader->copy[0][slot];
    if (reader->copy[1][slot].sequence != 2 * number + 2) {
        reader->lost++;
        return;
    }
    record->depth = (uint32_t)berth__min(record->depth, BERTH_TRACE_DEPTH);
    record->kind = (uint8_t)berth__min(record->kind, BERTH_TRACE_KINDS - 1);
    record->step = (uint8_t)berth__min(record->step, BERTH_LADDER_STEPS - 1);
    take(context, record);
}

bool berth__trace_read(struct berth__trace_reader *reader, berth__trace_taker *take,
                       void *context) {
    struct berth__trace_root root;
    if (!read_root(reader, &root)) {
        return false;
    }
    uint64_t written = root.written;
    if (written <= reader->next) { /* nothing new; or less, of a process that means it badly */
        reader->next = written;
        return true;
    }
    if (!copy(reader, root.ring, reader->copy[0], BERTH_TRACE_RING_BYTES) ||
        !copy(reader, root.ring, reader->copy[1], BERTH_TRACE_RING_BYTES)) {
        return false;
    }
    uint64_t oldest = written - berth__min(written, BERTH_TRACE_RECORDS);
    reader->lost += oldest > reader->next ? oldest - reader->next : 0;
    for (uint64_t i = berth__max(oldest, reader->next); i < written; i++) {
        take_record(reader, i, take, context);
    }
    reader->next = written;
    return true;
}

void berth__trace_close(struct berth__trace_reader *reader) {
    uint64_t until = 0;
    uint64_t off = 0;
    if (reader->memory >= 0) {
        if (copy(reader, place_of_until(reader), &until, sizeof(until)) && until != 0 &&
            until == reader->until_ms) {
            ssize_t written =
                pwrite(reader->memory, &off, sizeof(off), (off_t)place_of_until(reader));
            (void)written; /* else it is off when the time has passed */
        }
        close(reader->memory);
    }
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(reader->copy); i++) {
        free(reader->copy[i]);
    }
    *reader = (struct berth__trace_reader){.memory = -1};
}
