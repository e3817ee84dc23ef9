/*
 * The heap profile of another process: its profiler's tables, copied and checked, with what the
 * places on them are.
 *
 * The tables (heap/sample_format.h) are read through /proc/PID/mem while the process runs. Nothing
 * in them is believed before it was compared with what can be.
 */
#ifndef BERTH_CLI_PROFILE_H
#define BERTH_CLI_PROFILE_H

#include "cli/process.h"
#include "cli/symbols.h"
#include "heap/sample_format.h"

/* What is held or was allocated, at block sizes; estimates. */
struct berth__amount {
    double blocks, bytes;
};

struct berth__profile_site {
    struct berth__amount held, allocated, peak;
    double requested;      /* bytes that the program asked for, of those held */
    uint64_t oldest_ms;    /* age of the oldest sample that counts among `held`; 0: there is none */
    uint64_t samples;      /* that `held` and `allocated` are estimated from */
    unsigned depth;        /* 0: the stack is not known */
    const uint64_t *place; /* return addresses, innermost first, without berth's own */
};

/* Blocks of one size. */
struct berth__profile_class {
    uint64_t bytes; /* of a block */
    struct berth__amount held;
};

/* A sample that counts among what is held. */
struct berth__profile_sample {
    uint64_t block;  /* its address */
    uint64_t bytes;  /* of a block of the size that it stands for */
    uint64_t weight; /* bytes that it stands for */
    uint32_t site;
};

struct berth__profile {
    uint64_t interval; /* bytes; 0: no samples are being taken */
    uint64_t left_out; /* samples for which there was no room */
    uint64_t taken, live_samples;
    uint64_t read_ms; /* coarse clock, when it was read */
    struct berth__profile_site *sites;
    size_t site_count;
    struct berth__profile_class *classes; /* ascending */
    size_t class_count;
    struct berth__profile_sample *samples; /* in no order */
    size_t sample_count;
    struct berth__symbols *symbols;
    /* Of the reader. */
    uint64_t *places;
    struct berth__site *raw;
    size_t raw_count;
};

/* Which samples count among what is held. */
struct berth__profile_filter {
    uint64_t born_from_ms; /* coarse clock; 0: any */
    uint64_t age_ms;       /* at least */
};

enum berth__profile_outcome {
    BERTH_PROFILE_READ,
    BERTH_PROFILE_NONE, /* no sample was ever asked for */
    BERTH_PROFILE_GONE, /* the process has ended */
    BERTH_PROFILE_BAD,  /* another version, or damaged, or no memory */
};

/* Reads the profile of a process that was read. berth__profile_close must follow. */
enum berth__profile_outcome berth__profile_read(struct berth__profile *profile,
                                                const struct berth__process *process,
                                                const struct berth__profile_filter *filter);

/* Takes what was allocated before away: of an earlier reading of the same process. */
void berth__profile_subtract(struct berth__profile *profile, const struct berth__profile *before);

void berth__profile_close(struct berth__profile *profile);

/* The interval of a process's samples; 0: none are taken. */
uint64_t berth__profile_interval(const struct berth__process *process);

#endif
