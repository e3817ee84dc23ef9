/*
 * Pages from the kernel: reserving addresses, making them usable, giving memory back.
 *
 * Address space and memory are separate things here: a reservation holds addresses and nothing
 * else (PROT_NONE, never charged); committing makes a part readable and writable; purging
 * drops the memory behind committed pages, which read as zero afterwards; decommitting returns
 * a part to the reserved state. Core files have what is committed and can be written. What may be
 * committed is the ledger's business, not ours.
 *
 * Calls return 0 or -errno and keep errno. Only system calls that glibc's malloc itself makes are
 * used on these paths (mmap, munmap, mprotect, mremap, madvise), so that a seccomp filter written
 * for glibc is still satisfied. Any thread; no state but the page size.
 */
#ifndef BERTH_OS_PAGES_H
#define BERTH_OS_PAGES_H

#include "base/compiler.h"

/* Bytes of a page, read at run time: 4, 16 or 64 KiB. Set once, by berth__pages_init. */
extern size_t berth__page_bytes;

enum berth__thp {
    BERTH_THP_NEVER,  /* opt out of huge pages, mapping by mapping */
    BERTH_THP_AUTO,   /* leave it to the system's setting */
    BERTH_THP_ALWAYS, /* ask for huge pages */
};

/* page_bytes: 0 for the machine's, otherwise a larger power of two (tests of 16 and 64 KiB pages
 * on a machine with 4 KiB ones). */
void berth__pages_init(size_t page_bytes);

/* Addresses for `bytes`, aligned, inaccessible; NULL if the kernel refuses. */
void *berth__pages_reserve(size_t bytes, size_t alignment) BERTH_MUST_USE;
void berth__pages_unreserve(void *at, size_t bytes);

/* Whole pages inside a reservation; those to commit were reserved, and are again after a failure.
 */
int berth__pages_commit(void *at, size_t bytes) BERTH_MUST_USE;
int berth__pages_commit_readable(void *at, size_t bytes) BERTH_MUST_USE; /* reads as zero */
int berth__pages_decommit(void *at, size_t bytes) BERTH_MUST_USE;

/* Drops the memory; the pages stay usable and read as zero. */
int berth__pages_purge(void *at, size_t bytes);

/* True if this is more than the machine has memory and swap for, and the kernel's heuristic refuses
 * it to whoever asks for it at once (vm.overcommit_memory 0). Reservations never ask, and so would
 * have it. Few requests are so large that this is worth two system calls: smaller ones are not
 * looked at. */
bool berth__pages_exceed_machine(size_t bytes);

/* In the child of a fork the pages read as zero, where the kernel can (4.14). */
bool berth__pages_wipe_on_fork(void *at, size_t bytes);
/* Ends berth__pages_wipe_on_fork. */
bool berth__pages_keep_on_fork(void *at, size_t bytes) BERTH_MUST_USE;

/* Huge pages wanted (true) or not, for one mapping. A hint: nothing fails. */
void berth__pages_want_huge(void *at, size_t bytes, bool wanted);

/* Moves the memory of a committed range to a reserved one without copying; the old range is
 * reserved again. An error where the kernel cannot: nothing has changed then. *reserved is false if
 * another thread's mapping took what was to be reserved again, `from`, or after -EADDRINUSE `to`:
 * those addresses must never be used again. */
int berth__pages_move(void *from, void *to, size_t bytes, bool *reserved) BERTH_MUST_USE;

/* Maps a part of a file over reserved pages; decommitting ends that. -errno if it cannot be; after
 * -EADDRINUSE the addresses must never be used again. */
int berth__pages_map_file(void *at, size_t bytes, int fd, int64_t offset,
                          bool writable) BERTH_MUST_USE;

/* Prefers a NUMA node for pages that are not yet touched. A hint. */
void berth__pages_prefer_node(void *at, size_t bytes, unsigned node);

#endif
