#include "os/pages.h"

#include "base/bits.h"
#include "base/check.h"
#include "os/fault.h"
#include "os/probe.h"
#include "os/slow.h"

#include <errno.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the oldest headers that we build with. */
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
enum { MPOL_PREFERRED_POLICY = 1 };

/* Reserved addresses are charged to nobody, in no overcommit mode: they cannot be written. */
enum { RESERVED_FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE };

size_t berth__page_bytes = 4096;

void berth__pages_init(size_t page_bytes) {
    size_t real = getauxval(AT_PAGESZ);
    berth__page_bytes = page_bytes > real ? page_bytes : real != 0 ? real : 4096;
}

/* Turns the -1 of a call into -errno, and leaves errno as it was. */
static int result(int call_result, int errno_before) {
    int error = call_result == 0 ? 0 : -errno;
    errno = errno_before;
    return error;
}

/* What is only reserved is none of a core file's business: gdb writes all of it, and a TiB of
 * zeros fills disks. It must be marked again whenever it becomes so, or mappings would not merge. A
 * kernel that cannot does no harm. */
static void *map_reserved(void *at, size_t bytes, int flags) {
    void *reserved = mmap(at, bytes, PROT_NONE, RESERVED_FLAGS | flags, -1, 0);
    if (reserved != MAP_FAILED) {
        (void)madvise(reserved, bytes, MADV_DONTDUMP);
    }
    return reserved;
}

static void *reserve_anywhere(size_t bytes) {
    int saved_errno = errno;
    void *at = berth__os_fails(BERTH_OS_RESERVE) ? MAP_FAILED : map_reserved(NULL, bytes, 0);
    errno = saved_errno;
    return at == MAP_FAILED ? NULL : at;
}

void *berth__pages_reserve(size_t bytes, size_t alignment) {
    if (alignment <= berth__page_bytes) {
        return reserve_anywhere(bytes);
    }
    if (bytes > SIZE_MAX - alignment) {
        return NULL;
    }
    char *at = reserve_anywhere(bytes + alignment);
    if (at == NULL) {
        return NULL;
    }
    size_t before = berth__round_up((uintptr_t)at, alignment) - (uintptr_t)at;
    if (before > 0) {
        berth__pages_unreserve(at, before);
    }
    berth__pages_unreserve(at + before + bytes, alignment - before);
    return at + before;
}

void berth__pages_unreserve(void *at, size_t bytes) {
    int saved_errno = errno;
    if (!berth__os_fails(BERTH_OS_RELEASE)) {
        (void)munmap(at, bytes); /* a failure leaks addresses, never memory */
    }
    errno = saved_errno;
}

/* Over several mappings the kernel may refuse with a part of them done: that is undone. */
static int protect(void *at, size_t bytes, int protection) {
    int saved_errno = errno;
    if (berth__os_fails(BERTH_OS_COMMIT)) {
        return result(-1, saved_errno);
    }
    int error = result(mprotect(at, bytes, protection), saved_errno);
    if (error != 0) {
        const void *undone = map_reserved(at, bytes, MAP_FIXED);
        (void)undone; /* if that fails too, there is no more to do */
        errno = saved_errno;
    }
    return error;
}

int berth__pages_commit(void *at, size_t bytes) {
    int saved_errno = errno;
    int error = protect(at, bytes, PROT_READ | PROT_WRITE);
    if (error == 0) {
        (void)madvise(at, bytes, MADV_DODUMP);
    }
    errno = saved_errno;
    return error;
}

int berth__pages_commit_readable(void *at, size_t bytes) {
    return protect(at, bytes, PROT_READ);
}

static bool maps(size_t bytes, int flags) {
    void *at =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return at != MAP_FAILED && munmap(at, bytes) == 0;
}

/* What fails in both ways lacks something else: addresses, or room below a resource limit, of which
 * what is committed already may have enough. In strict mode the kernel ignores the flag. */
bool berth__pages_exceed_machine(size_t bytes) {
    static const size_t looked_at = (size_t)1 << 30;
    if (BERTH_LIKELY(bytes < looked_at)) {
        return false;
    }
    int saved_errno = errno;
    bool exceeds = !maps(bytes, 0) && maps(bytes, MAP_NORESERVE);
    errno = saved_errno;
    return exceeds;
}

int berth__pages_decommit(void *at, size_t bytes) {
    int saved_errno = errno;
    uint64_t start_ns = berth__clock_ns();
    void *mapped =
        berth__os_fails(BERTH_OS_DECOMMIT) ? MAP_FAILED : map_reserved(at, bytes, MAP_FIXED);
    berth__slow_note(BERTH_SLOW_unmap, start_ns);
    return result(mapped == MAP_FAILED ? -1 : 0, saved_errno);
}

int berth__pages_purge(void *at, size_t bytes) {
    int saved_errno = errno;
    uint64_t start_ns = berth__clock_ns();
    int done = berth__os_fails(BERTH_OS_PURGE) ? -1 : madvise(at, bytes, MADV_DONTNEED);
    berth__slow_note(BERTH_SLOW_purge, start_ns);
    int error = result(done, saved_errno);
    BERTH_PROBE3(purge, at, bytes, error);
    return error;
}

static bool advise(void *at, size_t bytes, int advice) {
    int saved_errno = errno;
    bool done = !berth__os_fails(BERTH_OS_ADVISE) && madvise(at, bytes, advice) == 0;
    errno = saved_errno;
    return done;
}

bool berth__pages_wipe_on_fork(void *at, size_t bytes) {
    return advise(at, bytes, MADV_WIPEONFORK);
}

bool berth__pages_keep_on_fork(void *at, size_t bytes) {
    return advise(at, bytes, MADV_KEEPONFORK);
}

void berth__pages_want_huge(void *at, size_t bytes, bool wanted) {
    int saved_errno = errno;
    if (!berth__os_fails(BERTH_OS_ADVISE)) {
        (void)madvise(at, bytes, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    }
    errno = saved_errno;
}

/* Reserves a hole in a reservation again; false if another thread's mapping got there first. */
static bool reserve_again(void *at, size_t bytes) {
    void *again = map_reserved(at, bytes, MAP_FIXED_NOREPLACE);
    if (again != at && again != MAP_FAILED) {
        (void)munmap(again, bytes);
    }
    return again == at;
}

/* The kernel unmaps the target first, and can still refuse after that (an address space that is
 * full, a source of several mappings). Arguments that it does not like it refuses at once. */
static int target_restored(void *to, size_t bytes, int error) {
    return error == -EINVAL || reserve_again(to, bytes) ? error : -EADDRINUSE;
}

/* The old mapping must be gone when the new one is there, or for a moment more would be usable than
 * is charged; so the old addresses are a hole until they are reserved again. (MREMAP_DONTUNMAP
 * would leave them mapped.) */
int berth__pages_move(void *from, void *to, size_t bytes, bool *reserved) {
    int saved_errno = errno;
    *reserved = true;
    if (berth__os_fails(BERTH_OS_MOVE)) {
        return result(-1, saved_errno);
    }
    int error = 0;
    if (mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED) {
        *reserved = reserve_again(from, bytes);
    } else {
        error = target_restored(to, bytes, -errno);
        *reserved = error != -EADDRINUSE;
    }
    errno = saved_errno;
    return error;
}

/* Not mapped in place at once: a driver that refuses leaves a hole there. */
int berth__pages_map_file(void *at, size_t bytes, int fd, int64_t offset, bool writable) {
    int saved_errno = errno;
    int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *mapped = berth__os_fails(BERTH_OS_MAP_FILE)
                       ? MAP_FAILED
                       : mmap(NULL, bytes, protection, MAP_SHARED, fd, offset);
    if (mapped == MAP_FAILED) {
        return result(-1, saved_errno);
    }
    int error = 0;
    if (mremap(mapped, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED) {
        error = target_restored(at, bytes, -errno);
        (void)munmap(mapped, bytes);
    }
    errno = saved_errno;
    return error;
}

void berth__pages_prefer_node(void *at, size_t bytes, unsigned node) {
    unsigned long mask[16] = {0};
    unsigned bits = 8 * sizeof(mask[0]);
    if (node >= bits * BERTH_ARRAY_COUNT(mask)) {
        return;
    }
    mask[node / bits] = 1ul << (node % bits);
    int saved_errno = errno;
    if (!berth__os_fails(BERTH_OS_BIND)) {
        (void)syscall(SYS_mbind, at, bytes, MPOL_PREFERRED_POLICY, mask, sizeof(mask) * 8, 0);
    }
    errno = saved_errno;
}
