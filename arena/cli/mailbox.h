/*
 * Requests to a running process, by the mailbox on its stats page.
 *
 * The mailbox holds one request. Askers take turns by a lock on the file that is the process's
 * memory, and none takes the place of a request that was not carried out yet.
 */
#ifndef BERTH_CLI_MAILBOX_H
#define BERTH_CLI_MAILBOX_H

#include "cli/process.h"

/* Leaves a command (enum berth__mail_command) in the mailbox of a process that was read, and waits
 * `wait_ms` at most for its result. 0, with the result; 1, it was not carried out yet; or -errno:
 * -EBUSY, another one before it was not. One that is there already is waited for. */
int berth__mailbox_ask(const struct berth__process *process, uint32_t command, uint64_t argument,
                       unsigned wait_ms, int64_t *result);

/* What a negative outcome means, as a part of a sentence. */
const char *berth__mailbox_error(int outcome);

#endif
