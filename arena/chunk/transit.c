#include "chunk/transit.h"

#include "os/clock.h"
#include "os/cpu.h"
#include "os/lock.h"

/* Unmapping a gigabyte takes about so long. */
enum { PATIENCE_MS = 100 };

static struct { _Atomic uint64_t begun, ended; } BERTH_LINE_ALIGNED shares[BERTH_TRANSIT_SHARES];

void berth__transit_begin(void) {
    berth__add_acq_rel(&shares[berth__cpu_current() % BERTH_TRANSIT_SHARES].begun, 1); /* X1 */
}

void berth__transit_end(void) {
    berth__add_acq_rel(&shares[berth__cpu_current() % BERTH_TRANSIT_SHARES].ended, 1); /* X2 */
}

struct berth__transit berth__transit_look(void) {
    struct berth__transit sums = {0, 0};
    /* In this order: of what is counted as ended, the beginning is counted, too. */
    for (unsigned i = 0; i < BERTH_TRANSIT_SHARES; i++) {
        sums.ended += berth__load_acquire(&shares[i].ended);
    }
    for (unsigned i = 0; i < BERTH_TRANSIT_SHARES; i++) {
        sums.begun += berth__load_acquire(&shares[i].begun);
    }
    return sums;
}

bool berth__transit_settled(struct berth__transit before) {
    uint64_t begun = berth__transit_look().begun;
    if (begun == before.begun && before.begun == before.ended) {
        return false;
    }
    uint64_t deadline_ns = berth__clock_ns() + PATIENCE_MS * UINT64_C(1000000);
    for (unsigned turn = 0; berth__transit_look().ended < begun && berth__clock_ns() < deadline_ns;
         turn++) {
        berth__spin(turn);
    }
    return true;
}

void berth__transit_reset_in_child(void) {
    for (unsigned i = 0; i < BERTH_TRANSIT_SHARES; i++) {
        berth__store_relaxed(&shares[i].ended, berth__load_relaxed(&shares[i].begun));
    }
}
