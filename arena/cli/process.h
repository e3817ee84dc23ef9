/*
 * Other processes: finding their stats pages and copying them, without stopping anybody.
 *
 * A page is private memory of its process. /proc/PID/maps tells where memory of the right size
 * lies, /proc/PID/mem what is in it. Both are for root, and for who runs as the same user, unless
 * the process is not dumpable; the second also as a debugger would be let in
 * (kernel.yama.ptrace_scope).
 */
#ifndef BERTH_CLI_PROCESS_H
#define BERTH_CLI_PROCESS_H

#include "cli/page_read.h"

#include <sys/types.h>

enum berth__process_outcome {
    BERTH_PROCESS_READ,
    BERTH_PROCESS_GONE,
    BERTH_PROCESS_STRANGER, /* does not run on berth */
    BERTH_PROCESS_PAGELESS, /* runs on berth, and has no page */
    BERTH_PROCESS_REFUSED,  /* the kernel does not let us look */
    BERTH_PROCESS_BAD_PAGE,
};

struct berth__process {
    pid_t pid;
    uid_t uid;
    char command[64];        /* its name; characters that a terminal might act on are '?' */
    uint64_t resident_bytes; /* of the whole process, by the kernel's account */
    struct berth__stats stats;
    bool torn;     /* it stands still amid writing: figures may be of two different times */
    char why[256]; /* unless it was read: a sentence without a full stop */
    /* Of the reader. */
    bool sees_maps;
    bool on_berth; /* where it sees them: a library of ours is among them */
    int memory;    /* /proc/PID/mem, or -1 */
    void *copy;
    uint64_t page; /* its address there */
};

/* Which program it is: another one has the number, or the process has begun another program, if
 * this differs. */
struct berth__identity {
    uint64_t start_ticks; /* since the machine was started */
    char name[32];
};

/* The numbers of all processes in ascending order, to be freed; NULL with errno. */
pid_t *berth__process_list(size_t *count);

/* False if there is no such process. All bytes of *identity are set. */
bool berth__process_identify(pid_t pid, struct berth__identity *identity);

/* Reads a process's page. berth__process_close must follow. */
enum berth__process_outcome berth__process_read(struct berth__process *process, pid_t pid);

/* Whether a process that was read has ended since, or begun another program: what may be said of it
 * where its memory cannot be read. */
bool berth__process_has_ended(const struct berth__process *process);

void berth__process_close(struct berth__process *process);

#endif
