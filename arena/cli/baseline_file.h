/*
 * Baselines: what a process's stats page said at one time, kept in a file for `berth diff`.
 *
 * The file is a head and the copy of the page, which is read again as it was the first time
 * (page_read.h): nothing in it is believed. It belongs to one process, by number, start time and
 * boot of the machine, so that another one that got the number is not compared with it.
 */
#ifndef BERTH_CLI_BASELINE_FILE_H
#define BERTH_CLI_BASELINE_FILE_H

#include "cli/process.h"

#define BERTH_BASELINE_MAGIC UINT64_C(0x6573616274726562) /* "bertbase" */

enum { BERTH_BASELINE_VERSION = 1, BERTH_PATH_BYTES = 4096 };

struct berth__baseline_head {
    uint64_t magic;
    uint32_t version, head_bytes;
    uint64_t pid, started;   /* the latter in clock ticks after the machine's start */
    uint64_t wall_s;         /* when it was made */
    uint64_t reserved_bytes; /* addresses that the process had reserved for berth; 0: not known */
    uint64_t page_bytes;     /* of the copy that follows */
    char boot[40];           /* of the machine */
    char command[64];
};

struct berth__baseline {
    struct berth__baseline_head head;
    struct berth__stats stats;
    void *page;
    bool missing;   /* there is no such file */
    char why[5120]; /* why it could not be read or written: a sentence without a full stop */
};

/* Where the baseline of a process is kept unless the user says otherwise: in a folder that is the
 * user's alone, made if need be. False, with baseline->why. */
bool berth__baseline_path(struct berth__baseline *baseline, pid_t pid, char *path, size_t capacity);

/* Writes the baseline of a process that was read, whole or not at all. */
bool berth__baseline_write(struct berth__baseline *baseline, const struct berth__process *process,
                           uint64_t reserved_bytes, const char *path);

/* Understands a file's bytes; the stats lie in them. False, with baseline->why, if they are none
 * that this tool reads. berth__baseline_free must follow, which leaves the bytes alone. */
bool berth__baseline_understand(struct berth__baseline *baseline, const void *bytes, size_t count);

/* Reads a file. berth__baseline_free must follow. */
bool berth__baseline_read(struct berth__baseline *baseline, const char *path);

/* True if it is of that process, which runs now. */
bool berth__baseline_is_of(struct berth__baseline *baseline, pid_t pid);
void berth__baseline_free(struct berth__baseline *baseline);

#endif
