#include "os/lock.h"

#include "base/check.h"
#include "os/fault.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    SPINS_BEFORE_SLEEP = 400, /* pause instructions: some ten microseconds, two sleeps and wakes */
    /* How long a sleeper that is overlooked sleeps: the first time, and at most. Longer each time,
     * because a thousand that wake every millisecond leave the holder no processor. */
    SLEEP_FIRST_NS = 500 * 1000,
    SLEEP_LAST_NS = 64 * 1000 * 1000,
    SPIN_SLEEP_NS = 50 * 1000,
};

/* The half of the word that the kernel compares. */
static const uint32_t *futex_word(const struct berth__lock *lock) {
    const uint32_t *half = (const uint32_t *)(const void *)&lock->holder;
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? half + 1 : half;
}

/* Not below 0: in the child of a fork the count began anew, and a signal handler that interrupted
 * this sleep may have forked. */
static void count_out(struct berth__lock *lock) {
    uint32_t sleepers = berth__load_relaxed(&lock->sleepers);
    while (sleepers > 0 && !berth__cas_weak_relaxed(&lock->sleepers, &sleepers, sleepers - 1)) {
    }
}

static void sleep_on(struct berth__lock *lock, uint64_t holder, long *sleep_ns) {
    struct timespec limit = {.tv_sec = 0, .tv_nsec = *sleep_ns};
    *sleep_ns = 2 * *sleep_ns < SLEEP_LAST_NS ? 2 * *sleep_ns : SLEEP_LAST_NS;
    int saved_errno = errno; /* free() keeps it */
    berth__add_relaxed(&lock->sleepers, 1);
    syscall(SYS_futex, futex_word(lock), BERTH_FUTEX_WAIT, (uint32_t)holder, &limit, NULL, 0);
    berth__store_relaxed(&lock->waking, 0);
    count_out(lock);
    errno = saved_errno;
}

static bool wake_one(struct berth__lock *lock) {
    int saved_errno = errno;
    long woken = syscall(SYS_futex, futex_word(lock), BERTH_FUTEX_WAKE, 1, NULL, NULL, 0);
    errno = saved_errno;
    return woken > 0;
}

/* Who was counted but does not sleep yet is not woken, and will not clear `waking`: left set, it
 * would keep every later release from waking anybody. A thread that fell asleep before it was
 * cleared, and whose holder's release saw it set, is woken by a second look. */
void berth__lock_wake(struct berth__lock *lock) {
    if (berth__exchange_relaxed(&lock->waking, 1) != 0 || wake_one(lock)) {
        return;
    }
    (void)berth__exchange_acquire(&lock->waking, 0); /* before the loads below */
    if (berth__load_relaxed(&lock->sleepers) != 0 && berth__load_relaxed(&lock->holder) == 0) {
        (void)wake_one(lock);
    }
}

void berth__lock_forget_sleepers(struct berth__lock *lock) {
    berth__store_relaxed(&lock->sleepers, 0);
    berth__store_relaxed(&lock->waking, 0);
}

void berth__lock_slow(struct berth__lock *lock) {
    uint64_t self = berth__thread_self();
    long sleep_ns = SLEEP_FIRST_NS;
    berth__add_relaxed(&lock->contended, 1); /* readers count on it to grow */
    if (lock->tally != NULL) {
        berth__add_relaxed(lock->tally, 1);
    }
    for (unsigned spins = 0;; spins++) {
        uint64_t holder = berth__load_relaxed(&lock->holder);
        if (holder == 0) {
            if (berth__cas_acquire(&lock->holder, &holder, self)) { /* L1 */
                return;
            }
            continue;
        }
        if (holder == self && berth__load_relaxed(&lock->fork_state) >= BERTH_LOCK_FORKED) {
            berth__add_relaxed(&lock->fork_state, 1); /* a handler of somebody's, in a fork */
            return;
        }
        BERTH_CHECK(holder != self, "a thread waits for its own lock");
        if (spins < SPINS_BEFORE_SLEEP) {
            berth__pause();
            berth__delay_point();
        } else {
            sleep_on(lock, holder, &sleep_ns);
        }
    }
}

void berth__spin(unsigned turn) {
    if (turn < SPINS_BEFORE_SLEEP) {
        berth__pause();
        berth__delay_point();
        return;
    }
    static const uint32_t nobody_wakes_this = 0; /* a system call that the lock makes as well */
    struct timespec limit = {.tv_sec = 0, .tv_nsec = SPIN_SLEEP_NS};
    int saved_errno = errno;
    syscall(SYS_futex, &nobody_wakes_this, BERTH_FUTEX_WAIT, 0, &limit, NULL, 0);
    errno = saved_errno;
}

#if BERTH_DEBUG
/* How many locks of each rank this thread holds. */
static _Thread_local uint32_t held[BERTH_RANK_COUNT];

void berth__lock_rank_push(const struct berth__lock *lock, bool ordered) {
    unsigned rank = berth__load_relaxed(&lock->rank);
    ordered = ordered && held[BERTH_RANK_FORK] == 0; /* a fork has them all */
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
