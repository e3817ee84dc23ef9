/*
 * Records of a trace as lines for people, or as JSON, an object a line.
 */
#ifndef BERTH_CLI_TRACE_WRITE_H
#define BERTH_CLI_TRACE_WRITE_H

#include "cli/engine_read.h"
#include "cli/outside.h"
#include "cli/symbols.h"
#include "heap/trace_format.h"

#include <stdio.h>

struct berth__trace_writer {
    const struct berth__process *process;
    struct berth__symbols *symbols;
    struct berth__outside outside;
    struct berth__seen seen; /* for the names of pools */
    int64_t clock_ns;        /* from the process's clock to the time of day */
    uint64_t records, bytes; /* written; taken by these */
    FILE *to;
    bool json;
    bool renewed; /* symbols were read again for this batch */
};

/* 0, or -errno: the process's mappings could not be read. berth__trace_writer_close must follow. */
int berth__trace_writer_open(struct berth__trace_writer *writer,
                             const struct berth__process *process, FILE *to, bool json);

/* Before some records are written: what the process has loaded since is looked at again if they
 * name places that are in nothing known. */
void berth__trace_writer_begin(struct berth__trace_writer *writer);

/* A berth__trace_taker. */
void berth__trace_write(void *writer, const struct berth__trace_record *record);

void berth__trace_writer_close(struct berth__trace_writer *writer);

#endif
