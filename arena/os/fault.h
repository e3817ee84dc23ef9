/*
 * Test hooks at every system call that can fail and at every step of a lock-free protocol.
 *
 * In ordinary builds both hooks are constants and leave no code. With BERTH_FAULTS=1 a test can
 * make the n-th call of a kind fail, and can have each protocol step yield at random.
 */
#ifndef BERTH_OS_FAULT_H
#define BERTH_OS_FAULT_H

#include "base/compiler.h"

/* The system calls of the engine, as a test names them. */
#define BERTH_OS_CALLS(X)                                                                          \
    X(RESERVE)                                                                                     \
    X(COMMIT)                                                                                      \
    X(DECOMMIT)                                                                                    \
    X(PURGE)                                                                                       \
    X(RELEASE)                                                                                     \
    X(MOVE)                                                                                        \
    X(ADVISE) X(BIND) X(FILE) X(MAP_FILE) X(AFFINITY) X(THREAD) X(SEND) X(SEND_FILE) X(RECEIVE)

enum berth__os_call {
#define BERTH_X(name) BERTH_OS_##name,
    BERTH_OS_CALLS(BERTH_X)
#undef BERTH_X
        BERTH_OS_CALL_COUNT
};

#if BERTH_FAULTS
/* True if this call must fail; errno is then ENOMEM. */
bool berth__os_fails(enum berth__os_call call);
/* Yields or spins at random, so that another thread can come between two steps. */
void berth__delay_point(void);

/* For tests: let `skip` calls of this kind pass, then fail the next `fail` ones; and the number of
 * calls so far. fail == 0 switches it off. */
void berth__os_fail_after(enum berth__os_call call, uint64_t skip, uint64_t fail);
uint64_t berth__os_calls(enum berth__os_call call);
/* Every delay point sleeps with probability 1 / one_in; 0 switches it off. */
void berth__delay_set(unsigned one_in);
#else
BERTH_INLINE bool berth__os_fails(enum berth__os_call call) {
    (void)call;
    return false;
}
BERTH_INLINE void berth__delay_point(void) {
}
#endif

#endif
