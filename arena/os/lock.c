#include "os/lock.h"

#include "base/check.h"
#include "os/fault.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SPINS_BEFORE_SLEEP = 200 }; /* some 5 us of pause instructions: longer than any section */

/* Sleeps until the holder's word changes or 50 us have passed. The low half of the word is what the
 * kernel compares; nobody wakes us, the time limit does. */
static void sleep_a_little(struct berth__lock *lock, uint64_t holder) {
    static const struct timespec limit = {.tv_sec = 0, .tv_nsec = 50 * 1000};
    const uint32_t *half = (const uint32_t *)(const void *)&lock->holder;
    if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) {
        half++;
    }
    int saved_errno = errno; /* free() keeps it */
    syscall(SYS_futex, half, FUTEX_WAIT_PRIVATE, (uint32_t)holder, &limit, NULL, 0);
    errno = saved_errno;
}

void berth__lock_slow(struct berth__lock *lock) {
    uint64_t self = berth__thread_self();
    berth__store_relaxed(&lock->contended, berth__load_relaxed(&lock->contended) + 1);
    for (unsigned spins = 0;; spins++) {
        uint64_t holder = berth__load_relaxed(&lock->holder);
        if (holder == 0) {
            if (berth__cas_acquire(&lock->holder, &holder, self)) { /* L1 */
                return;
            }
            continue;
        }
        BERTH_CHECK(holder != self, "a thread waits for its own lock");
        if (spins < SPINS_BEFORE_SLEEP) {
            berth__pause();
            berth__delay_point();
        } else {
            sleep_a_little(lock, holder);
        }
    }
}

#if BERTH_DEBUG
/* How many locks of each rank this thread holds. */
static _Thread_local uint32_t held[BERTH_RANK_COUNT];

void berth__lock_rank_push(const struct berth__lock *lock, bool ordered) {
    unsigned rank = berth__load_relaxed(&lock->rank);
    for (unsigned above = rank; ordered && above < BERTH_RANK_COUNT; above++) {
        BERTH_CHECK(held[above] == 0, "locks taken out of order");
    }
    held[rank]++;
}

void berth__lock_rank_pop(const struct berth__lock *lock) {
    unsigned rank = berth__load_relaxed(&lock->rank);
    BERTH_CHECK(held[rank] > 0, "a lock released that was not held");
    BERTH_CHECK(berth__lock_is_mine(lock), "a lock released by another thread");
    held[rank]--;
}
#endif
