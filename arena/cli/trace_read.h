/*
 * The trace of another process (heap/trace_format.h): switched on, read, and switched off again.
 *
 * Nothing that is read is believed before it was compared with what it may be.
 */
#ifndef BERTH_CLI_TRACE_READ_H
#define BERTH_CLI_TRACE_READ_H

#include "cli/process.h"
#include "heap/trace_format.h"

struct berth__trace_reader {
    int memory;    /* /proc/PID/mem, to be written, too; -1: not open */
    uint64_t root; /* its address there */
    struct berth__trace_record *copy[2];
    uint64_t next;     /* number of the record to come */
    uint64_t lost;     /* records that were written over before they were read */
    uint64_t until_ms; /* what the root has of us */
};

/* Of a process that was read; from now on, what it does is recorded. 0, -ENOTSUP if its engine is
 * of another version, -ENOMEM, or why its memory cannot be written. berth__trace_close must follow.
 */
int berth__trace_open(struct berth__trace_reader *reader, const struct berth__process *process);

/* Has it stay on for some seconds more; to be called about once a second. False: the process has
 * ended, or begun another program. */
bool berth__trace_renew(struct berth__trace_reader *reader);

/* Hands over copies of the records since the last time, in order; a record's `depth`, `kind` and
 * `step` are within bounds. False as above. */
typedef void berth__trace_taker(void *context, const struct berth__trace_record *record);
bool berth__trace_read(struct berth__trace_reader *reader, berth__trace_taker *take, void *context);

/* Switches it off, unless somebody else looks, too. */
void berth__trace_close(struct berth__trace_reader *reader);

#endif
