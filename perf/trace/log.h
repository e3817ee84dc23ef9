/*
 * The recorder's log: where the records of this process and thread go. Used by recorder.c only.
 *
 * The file is mapped whole and shared at the first record and then closed, so that nothing that the
 * server does later (closing all descriptors, changing its root or its user) stops the recording,
 * and nothing is lost if it is killed. It calls no allocator.
 */
#ifndef BERTH_PERF_TRACE_LOG_H
#define BERTH_PERF_TRACE_LOG_H

#include "raw.h"

#include <stddef.h>

/* One record of the calling thread; nothing happens if this process is not recorded. Keeps errno.
   Returns the record, or NULL. */
struct raw_record *log_write(enum raw_op op, const void *address, size_t size, unsigned align_log2);

/* Before a thread is started: a number for it and its first chunk, or NULL. */
struct raw_chunk *log_thread_new(void *(*start)(void *), void *argument, struct raw_record **spawn);

/* In the new thread, first. */
void log_thread_begin(struct raw_chunk *chunk);

/* What the calling thread records between the two is hidden. */
void log_hide(void);
void log_show(void);

#endif
