/*
 * A lock that knows its owner, for short critical sections.
 *
 * Not recursive, not fair, not for waiting on conditions. One 64-bit word: 0 when free, else the
 * holder's thread pointer, so that
 *  - unlocking is one plain store (half the price of a lock that must look for waiters);
 *  - a fork inside a signal handler that interrupted the holder can see that the lock is its own,
 *    and does not wait for itself.
 * Critical sections are below a few microseconds and make no system call, so a waiter spins for
 * about as long, and then sleeps in the kernel: the holder was preempted, or there is a crowd. Who
 * unlocks looks at the number of sleepers, without the fence that would make this exact: a
 * sleeper that is overlooked wakes by itself after a while. One sleeper at a time is
 * woken: a crowd of thousands would otherwise pass every release through the kernel. `waking` is
 * set by who wakes one, and cleared by the one that woke, or by who found nobody to wake.
 *
 * Order: locks are taken in ascending rank (enum berth__lock_rank), checked in debug builds; locks
 * of one rank are never nested except by try_lock.
 *
 * L1: locking acquires what unlocking (L2) released.
 */
#ifndef BERTH_OS_LOCK_H
#define BERTH_OS_LOCK_H

#include "base/atomics.h"

#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#endif

/* FUTEX_WAIT_PRIVATE and FUTEX_WAKE_PRIVATE of the kernel's headers, which musl does without. */
enum { BERTH_FUTEX_WAIT = 128, BERTH_FUTEX_WAKE = 129 };

enum berth__lock_rank {
    BERTH_RANK_FORK,    /* one fork at a time prepares */
    BERTH_RANK_START,   /* the engine's start */
    BERTH_RANK_NAMES,   /* the table of pools */
    BERTH_RANK_POOLS,   /* a pool's threads and arenas */
    BERTH_RANK_HEAPS,   /* an arena's list of heaps */
    BERTH_RANK_GROW,    /* one thread at a time grows an arena */
    BERTH_RANK_HEAP,    /* slabs of a heap */
    BERTH_RANK_CPU,     /* one CPU's cache of runs */
    BERTH_RANK_ARENA,   /* page runs of an arena */
    BERTH_RANK_TAILS,   /* memory behind huge blocks */
    BERTH_RANK_SLOTS,   /* address space */
    BERTH_RANK_WAITERS, /* who waits for the limit */
    BERTH_RANK_LEAKS,   /* records of buffers; nothing is taken under it */
    BERTH_RANK_SAMPLES, /* the profiler's tables */
    BERTH_RANK_META,    /* metadata memory; innermost */
    BERTH_RANK_COUNT
};

struct BERTH_CAPABILITY("lock") berth__lock {
    _Atomic uint64_t holder;     /* 0, or the holder's thread pointer */
    _Atomic uint32_t contended;  /* times that a thread found it taken */
    _Atomic uint32_t sleepers;   /* threads that sleep, or are about to */
    _Atomic uint32_t waking;     /* 1 from a wake-up until the woken thread runs */
    _Atomic uint16_t rank;       /* enum berth__lock_rank; checked in debug builds */
    _Atomic uint16_t fork_state; /* heap/fork.c; only while a fork is being prepared */
    _Atomic uint32_t *tally;     /* counts what `contended` does, where it is read; or NULL */
};

/* A fork_state: taken for a fork. Handlers of others, which run before the fork, or in the child
 * before ours, may allocate: so the thread that forks may take the lock again, and each time adds
 * one. What the lock guards is whole then, whoever else looks at it waits. */
enum { BERTH_LOCK_FORKED = 1 };

/* A holder that is no thread's number, since those are addresses: of a lock whose holder was cut
 * off by a fork, and that nobody is to have. */
enum { BERTH_LOCK_NOBODY = 1 };

/* Unique among live threads, the same after fork for the thread that forked, never 0. */
BERTH_INLINE uint64_t berth__thread_self(void) {
#if defined(__x86_64__)
    uint64_t self;
    __asm__("mov %%fs:0, %0" : "=r"(self)); /* the thread control block's first word is itself */
    return self;
#else
    return (uint64_t)(uintptr_t)__builtin_thread_pointer();
#endif
}

#if BERTH_DEBUG
void berth__lock_rank_push(const struct berth__lock *lock, bool ordered);
void berth__lock_rank_pop(const struct berth__lock *lock);
#else
BERTH_INLINE void berth__lock_rank_push(const struct berth__lock *lock, bool ordered) {
    (void)lock, (void)ordered;
}
BERTH_INLINE void berth__lock_rank_pop(const struct berth__lock *lock) {
    (void)lock;
}
#endif

BERTH_NOINLINE void berth__lock_slow(struct berth__lock *lock) BERTH_NO_TSA;
BERTH_NOINLINE void berth__lock_wake(struct berth__lock *lock);

/* In the child of a fork: the threads that slept are gone. */
void berth__lock_forget_sleepers(struct berth__lock *lock);

/* One turn, counted from 0, of a loop that waits for another thread without a lock: pauses at
 * first, and then sleeps, because that thread may need this processor. */
BERTH_NOINLINE void berth__spin(unsigned turn);

BERTH_INLINE void berth__lock_init(struct berth__lock *lock, enum berth__lock_rank rank) {
    berth__store_relaxed(&lock->holder, 0);
    berth__store_relaxed(&lock->contended, 0);
    berth__store_relaxed(&lock->sleepers, 0);
    berth__store_relaxed(&lock->waking, 0);
    berth__store_relaxed(&lock->rank, (uint16_t)rank);
    berth__store_relaxed(&lock->fork_state, 0);
    lock->tally = NULL;
}

/* Known as long as libc says so: it changes its mind before it makes a thread. */
BERTH_INLINE bool berth__single_threaded(void) {
#if __has_include(<sys/single_threaded.h>)
    return __libc_single_threaded;
#else
    return false;
#endif
}

/* Without other threads, an atomic exchange would only wait for the processor's earlier stores. A
 * signal handler that comes between the load and the store has released the lock when it ends. */
BERTH_INLINE bool berth__lock_take_free(struct berth__lock *lock) {
    uint64_t free_word = 0;
    if (!berth__single_threaded()) {
        return berth__cas_acquire(&lock->holder, &free_word, berth__thread_self()); /* L1 */
    }
    bool free = berth__load_relaxed(&lock->holder) == 0;
    if (BERTH_LIKELY(free)) {
        berth__store_relaxed(&lock->holder, berth__thread_self());
        atomic_signal_fence(memory_order_acquire);
    }
    return free;
}

BERTH_INLINE bool berth__try_lock(struct berth__lock *lock) BERTH_TRY_ACQUIRES(*lock) BERTH_NO_TSA {
    bool taken = berth__load_relaxed(&lock->holder) == 0 && berth__lock_take_free(lock);
    if (taken) {
        berth__lock_rank_push(lock, false);
    }
    return taken;
}

BERTH_INLINE void berth__lock_acquire(struct berth__lock *lock) BERTH_ACQUIRES(*lock) BERTH_NO_TSA {
    if (BERTH_UNLIKELY(!berth__lock_take_free(lock))) {
        berth__lock_slow(lock);
    }
    berth__lock_rank_push(lock, true);
}

BERTH_INLINE void berth__lock_release(struct berth__lock *lock) BERTH_RELEASES(*lock) BERTH_NO_TSA {
    berth__lock_rank_pop(lock);
    uint16_t fork_state = berth__load_relaxed(&lock->fork_state);
    if (BERTH_UNLIKELY(fork_state > BERTH_LOCK_FORKED)) {
        berth__store_relaxed(&lock->fork_state, (uint16_t)(fork_state - 1));
        return;
    }
    berth__store_release(&lock->holder, 0);                          /* L2 */
    if (BERTH_UNLIKELY(berth__load_relaxed(&lock->sleepers) != 0)) { /* see above */
        berth__lock_wake(lock);
    }
}

BERTH_INLINE bool berth__lock_is_mine(const struct berth__lock *lock) {
    return berth__load_relaxed(&lock->holder) == berth__thread_self();
}

BERTH_INLINE bool berth__lock_is_nobodys(const struct berth__lock *lock) {
    return berth__load_relaxed(&lock->holder) == BERTH_LOCK_NOBODY;
}

#endif
