#include "os/streams.h"

#include "base/atomics.h"

#include <stddef.h>

/* Of glibc; the last since 2.32. */
/* NOLINTBEGIN(bugprone-reserved-identifier) */
__attribute__((weak)) extern void _IO_list_lock(void);
__attribute__((weak)) extern void _IO_list_unlock(void);
__attribute__((weak)) extern void _IO_list_resetlock(void);
__attribute__((weak)) extern char __libc_single_threaded;
/* NOLINTEND(bugprone-reserved-identifier) */

/* 1 + how often the lock was freed in a child. A signal handler may fork in the midst of a fork: in
 * its child the outer one goes on, and no longer has the lock. */
static _Atomic uint64_t generation = 1;

/* A process without threads is left as it is, as fork leaves it: its signal handlers may fork while
 * they interrupt the list's user, who goes on in the child. */
uint64_t berth__streams_lock(void) {
    if (_IO_list_lock == NULL || _IO_list_unlock == NULL || _IO_list_resetlock == NULL ||
        (&__libc_single_threaded != NULL && __libc_single_threaded != 0)) {
        return 0;
    }
    _IO_list_lock();
    return berth__load_relaxed(&generation);
}

void berth__streams_unlock(uint64_t ticket) {
    if (ticket != 0 && ticket == berth__load_relaxed(&generation)) {
        _IO_list_unlock();
    }
}

void berth__streams_reset(uint64_t ticket) {
    if (ticket != 0) {
        berth__store_relaxed(&generation, berth__load_relaxed(&generation) + 1);
        _IO_list_resetlock();
    }
}
