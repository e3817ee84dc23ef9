/*
 * The writer of the stats page.
 *
 * The page is private memory of the process, made at the first tick of the engine's clock: a
 * process that lives for some milliseconds has none. It is found by its magic number, among the
 * mappings of the right size, by who may read the process's memory. No descriptor, no name, no
 * system call that an allocation would not make; docs/decisions/0015-stats-page.md has the reasons.
 * It is a mapping between two inaccessible pages, so that it merges with no other.
 *
 * Snapshots are taken by slow paths, as they come by: 20 ms apart or more, and 2000 times what one
 * takes (0.05 % of a CPU); and out of turn when the memory in use has changed by an eighth, as long
 * as all of them have taken less than 0.1 % of the time. So a snapshot is older only if there was
 * little to tell.
 *
 * One writer: `writer` goes from 0 to a thread by compare-and-set (S1, acquire) and back (S2,
 * release). Who finds it taken goes on: there is nothing to wait for, not even in a signal handler
 * that interrupted the writer. Readers of other processes follow `sequence`:
 *
 *     S3  sequence = odd, relaxed, then each word of the snapshot, release
 *     S4  sequence = even, release
 *     S5  (reader) copy the head, copy the page, copy the head: the same even sequence in both?
 *
 * docs/concurrency.md argues it. In the child of a fork the page is empty (wiped by the kernel, or
 * where it cannot, by the child) and made anew at the next tick; the parent's is out of its reach,
 * like all memory of the parent.
 */
#ifndef BERTH_METRICS_PAGE_H
#define BERTH_METRICS_PAGE_H

#include "metrics/page_format.h"

/* Has the engine call what follows. When the library is loaded. */
void berth__stats_init(void);

/* Takes a snapshot if one is due. Any thread, no lock held; wait-free but for visits (engine.h). */
bool berth__stats_tick(bool early);

/* The page; NULL before it is made. */
const struct berth__stats_head *berth__stats_page(void);

#endif
