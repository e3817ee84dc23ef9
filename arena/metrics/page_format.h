/*
 * The stats page: how a process's figures lie in memory for `berth stat` to read from outside.
 *
 *     head | mailbox | levels | layout | fields of each level | texts | rows of each level
 *
 * All but the rows and the mailbox is written once. A level (process, pool, arena, class) has a
 * table of fields: name, meaning, kind, unit, from the tables of <berth/metrics.h>; and rows of a
 * fixed length, with a number for each field. So a reader needs to know this file only, and shows
 * fields that are newer than itself. Offsets are bytes from the start of the page; offset 0 is
 * none. The byte order is the machine's, as the magic number shows.
 *
 * Each structure's length is on the page: what is added to its end is skipped by older readers.
 * BERTH_STATS_VERSION changes when anything else does.
 */
#ifndef BERTH_METRICS_PAGE_FORMAT_H
#define BERTH_METRICS_PAGE_FORMAT_H

#include "base/atomics.h"

#define BERTH_STATS_MAGIC UINT64_C(0x7374736874726562) /* "berthsts" */

enum {
    BERTH_STATS_VERSION = 1,
    BERTH_STATS_BYTES_LEAST = 64 << 10, /* of a page; a power of two */
    BERTH_STATS_BYTES_MOST = 4 << 20,
};

struct berth__stats_head {
    _Atomic uint64_t magic; /* written last when the page is made */
    uint32_t version;
    uint32_t head_bytes;
    uint32_t page_bytes;
    uint32_t levels; /* offset of the first */
    uint32_t level_count;
    uint32_t level_bytes;
    uint32_t mail; /* offset of the mailbox */
    uint32_t mail_bytes;
    char berth_version[16];
    uint64_t made_ns; /* CLOCK_MONOTONIC */
    /* Changed with each snapshot. */
    _Atomic uint64_t sequence; /* odd: a snapshot is being written */
    _Atomic uint64_t taken_ns; /* CLOCK_MONOTONIC */
    _Atomic uint64_t cost_ns;  /* what the one before took */
    _Atomic uint64_t used_bytes;
    _Atomic uint64_t rows_left_out; /* there was no room for them */
    /* Written once. */
    uint32_t layout, layout_count; /* offset of the first; numbers of metrics/layout_format.h */
    /* Address of a struct berth__sample_root, if that has its magic number. */
    _Atomic uint64_t samples;
    uint64_t trace; /* address of a struct berth__trace_root */
};

/* Commands from outside. Who may write a process's memory may do anything with it; so this needs no
 * guard. The asker chooses a ticket that nobody else has, writes `ticket`, `command` and
 * `argument`, and then `asked`; the process carries out what it finds under the ticket that was
 * asked, once, and writes `result`, and then `answered`. Askers take turns, and none writes while
 * `asked` is not `answered` (cli/mailbox.h). */
struct berth__stats_mail {
    uint64_t ticket;
    uint32_t command; /* enum berth__mail_command */
    uint32_t reserved;
    uint64_t argument;
    _Atomic uint64_t asked;
    _Atomic int64_t result; /* 0 or more, or -errno */
    _Atomic uint64_t answered;
};

enum berth__mail_command {
    BERTH_MAIL_TRIM = 1, /* result: bytes that went back to the kernel */
    BERTH_MAIL_LIMIT,    /* argument: bytes; the largest number for none */
    BERTH_MAIL_DECAY_MS, /* argument: for all pools */
    BERTH_MAIL_SAMPLE,   /* argument: bytes between samples; 0: none */
};

struct berth__stats_level {
    uint32_t prefix, label; /* texts: as in struct berth__level_info */
    uint32_t fields, field_count, field_bytes;
    uint32_t row_bytes;
    _Atomic uint64_t rows, row_count;
};

/* kind and unit: enum berth__metric_kind, enum berth__metric_unit. */
struct berth__stats_field {
    uint32_t name, help;
    uint32_t kind, unit;
};

struct berth__stats_row {
    char pool[32];
    uint64_t index;
    uint64_t value[];
};

#endif
