#include "heap/visit.h"

#include "base/atomics.h"
#include "os/fault.h"

#include <time.h>

static _Atomic uint32_t visits[2];
static _Atomic uint32_t phase;

unsigned berth__visit_begin(void) {
    for (;;) {
        unsigned now = berth__load_relaxed(&phase) % 2;
        berth__add_relaxed(&visits[now], 1);
        atomic_thread_fence(memory_order_seq_cst); /* V1 */
        if (berth__load_relaxed(&phase) % 2 == now) {
            berth__delay_point();
            return now;
        }
        berth__visit_end(now);
    }
}

/* A fork in a signal handler may have reset the count in the child. */
void berth__visit_end(unsigned visit) {
    if (berth__load_relaxed(&visits[visit]) > 0) {
        atomic_fetch_sub_explicit(&visits[visit], 1, memory_order_release);
    }
}

void berth__visits_wait(void) {
    const struct timespec pause = {.tv_nsec = 20000};
    atomic_thread_fence(memory_order_seq_cst); /* V2 */
    unsigned old = berth__add_relaxed(&phase, 1) % 2;
    atomic_thread_fence(memory_order_seq_cst);
    while (berth__load_acquire(&visits[old]) != 0) {
        nanosleep(&pause, NULL);
    }
}

void berth__visits_reset_in_child(void) {
    berth__store_relaxed(&visits[0], 0);
    berth__store_relaxed(&visits[1], 0);
}
