#include "chunk/transit.h"

#include "os/clock.h"
#include "os/lock.h"

/* Unmapping a gigabyte takes about so long. */
enum { PATIENCE_MS = 100 };

_Atomic uint64_t berth__transit_begun, berth__transit_ended;

bool berth__transit_settled(struct berth__transit before) {
    uint64_t begun = berth__load_acquire(&berth__transit_begun);
    if (begun == before.begun && before.begun == before.ended) {
        return false;
    }
    uint64_t deadline_ns = berth__clock_ns() + PATIENCE_MS * UINT64_C(1000000);
    for (unsigned turn = 0;
         berth__load_acquire(&berth__transit_ended) < begun && berth__clock_ns() < deadline_ns;
         turn++) {
        berth__spin(turn);
    }
    return true;
}

void berth__transit_reset_in_child(void) {
    berth__store_relaxed(&berth__transit_ended, berth__load_relaxed(&berth__transit_begun));
}
