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
    char command[64]; /* its name; characters that a terminal might act on are '?' */
    struct berth__stats stats;
    char why[256]; /* unless it was read: a sentence without a full stop */
    /* Of the reader. */
    bool sees_maps;
    int memory; /* /proc/PID/mem, or -1 */
    void *copy;
    uint64_t page; /* its address there */
};

/* Reads a process's page. berth__process_close must follow. */
enum berth__process_outcome berth__process_read(struct berth__process *process, pid_t pid);

/* Leaves a command (enum berth__mail_command) in the mailbox of a process that was read, and waits
 * `wait_ms` at most for its result. 0, with the result; 1, it was not taken; or -errno. */
int berth__process_ask(struct berth__process *process, uint32_t command, uint64_t argument,
                       unsigned wait_ms, int64_t *result);
void berth__process_close(struct berth__process *process);

#endif
