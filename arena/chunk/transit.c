#include "chunk/transit.h"

#include "os/clock.h"

#include <errno.h>
#include <time.h>

/* Unmapping a gigabyte takes about so long. */
enum { PATIENCE_MS = 100, NAP_US = 20 };

_Atomic uint64_t berth__transit_begun, berth__transit_ended;

static void nap(void) {
    int saved_errno = errno;
    nanosleep(&(struct timespec){.tv_nsec = NAP_US * 1000}, NULL);
    errno = saved_errno;
}

bool berth__transit_settled(struct berth__transit before) {
    uint64_t begun = berth__load_acquire(&berth__transit_begun);
    if (begun == before.begun && before.begun == before.ended) {
        return false;
    }
    uint64_t deadline_ns = berth__clock_ns() + PATIENCE_MS * UINT64_C(1000000);
    while (berth__load_acquire(&berth__transit_ended) < begun && berth__clock_ns() < deadline_ns) {
        nap();
    }
    return true;
}

void berth__transit_reset_in_child(void) {
    berth__store_relaxed(&berth__transit_ended, berth__load_relaxed(&berth__transit_begun));
}
