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

static uint64_t begun_sum(void) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < BERTH_TRANSIT_SHARES; i++) {
        sum += berth__load_acquire(&shares[i].begun);
    }
    return sum;
}

static uint64_t ended_sum(void) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < BERTH_TRANSIT_SHARES; i++) {
        sum += berth__load_acquire(&shares[i].ended);
    }
    return sum;
}

struct berth__transit berth__transit_look(void) {
    /* In this order: an end that is not seen is one that was not there. */
    uint64_t ended = ended_sum();
    return (struct berth__transit){begun_sum(), ended};
}

bool berth__transit_settled(struct berth__transit before) {
    uint64_t begun = begun_sum();
    if (begun == before.begun && before.begun == before.ended) {
        return false;
    }
    uint64_t deadline_ns = berth__clock_ns() + PATIENCE_MS * UINT64_C(1000000);
    for (unsigned turn = 0; ended_sum() < begun && berth__clock_ns() < deadline_ns; turn++) {
        berth__spin(turn);
    }
    return true;
}

void berth__transit_reset_in_child(void) {
    for (unsigned i = 0; i < BERTH_TRANSIT_SHARES; i++) {
        berth__store_relaxed(&shares[i].ended, berth__load_relaxed(&shares[i].begun));
    }
}
