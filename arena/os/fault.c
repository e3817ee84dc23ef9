#include "os/fault.h"

#if BERTH_FAULTS
#include "base/atomics.h"

#include <errno.h>
#include <sched.h>

struct fault {
    _Atomic uint64_t calls; /* made so far */
    _Atomic uint64_t from;  /* the first call that fails */
    _Atomic uint64_t until; /* the first one after that which passes */
};

static struct fault faults[BERTH_OS_CALL_COUNT];
static _Atomic unsigned delay_one_in;

bool berth__os_fails(enum berth__os_call call) {
    struct fault *fault = &faults[call];
    uint64_t n = berth__add_relaxed(&fault->calls, 1);
    bool fails = n >= berth__load_relaxed(&fault->from) && n < berth__load_relaxed(&fault->until);
    if (fails) {
        errno = ENOMEM;
    }
    return fails;
}

void berth__os_fail_after(enum berth__os_call call, uint64_t skip, uint64_t fail) {
    uint64_t now = berth__load_relaxed(&faults[call].calls);
    berth__store_relaxed(&faults[call].from, now + skip);
    berth__store_relaxed(&faults[call].until,
                         fail > UINT64_MAX - now - skip ? UINT64_MAX : now + skip + fail);
}

uint64_t berth__os_calls(enum berth__os_call call) {
    return berth__load_relaxed(&faults[call].calls);
}

void berth__delay_set(unsigned one_in) {
    berth__store_relaxed(&delay_one_in, one_in);
}

void berth__delay_point(void) {
    static _Thread_local uint64_t state;
    unsigned one_in = berth__load_relaxed(&delay_one_in);
    if (one_in == 0) {
        return;
    }
    if (state == 0) {
        state = (uintptr_t)&state | 1;
    }
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    if ((state >> 33) % one_in == 0) {
        sched_yield();
    } else {
        for (unsigned i = (unsigned)(state >> 58); i > 0; i--) {
            berth__pause();
        }
    }
}
#else
typedef int berth__fault_unit_is_not_empty;
#endif
