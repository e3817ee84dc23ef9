/*
 * The queues of threads that wait for memory to come back.
 *
 * One queue for each ledger, first in first out: who waits for a pool's own limit holds up nobody
 * who has another. A waiter lies on its thread's stack, linked under a lock. Whoever gives bytes or
 * runs back calls berth__wait_notify, which costs one load while nobody waits; otherwise it wakes
 * the heads, of which there is mostly one. The head tries its allocation again, alone entitled
 * to the ledger's bytes (BERTH_CHARGE_HEAD), and leaves the queue when it succeeded or its time is
 * up; leaving wakes the next.
 *
 * States of a waiter's word: WAITING -> WOKEN (by a notifier holding the lock, while it is head) ->
 * WAITING (by itself, before it tries again). Becoming head is signalled under the lock and is
 * never lost. Memory coming back is signalled by a plain load of the count after the memory was
 * given back, without the full fence that would order the two: that fence would cost every
 * large free, and its absence can lose a signal only to a waiter that joins at that very moment.
 * The head therefore looks again by itself every BERTH_WAIT_SLICE_MS. Whether it has to look
 * everywhere then it can tell from a count of what came back while somebody waited.
 *
 * A waiting thread holds no lock and may be forked away from: the child's queues are empty but for
 * a wait of the forking thread itself, in which a signal was handled.
 */
#ifndef BERTH_CHUNK_WAIT_H
#define BERTH_CHUNK_WAIT_H

#include "base/atomics.h"
#include "base/list.h"
#include "os/lock.h"

enum { BERTH_WAIT_SLICE_MS = 4 };

extern struct berth__lock berth__wait_lock;

/* All zero is an empty queue. */
struct berth__wait_queue {
    struct berth__list waiters BERTH_GUARDED_BY(berth__wait_lock);
    struct berth__list link
        BERTH_GUARDED_BY(berth__wait_lock); /* of the queues that have waiters */
    _Atomic uint64_t count;
};

struct berth__waiter {
    struct berth__list link;
    struct berth__wait_queue *queue;
    uint64_t thread;       /* whose stack it lies on; for fork */
    _Atomic uint32_t word; /* enum in wait.c; the futex */
    uint64_t deadline_ns;  /* berth__clock_ns; when to give up */
};

extern _Atomic uint64_t berth__waiter_count; /* in all queues */

/* True while somebody waits. */
BERTH_INLINE bool berth__wait_anyone(void) {
    return BERTH_UNLIKELY(berth__load_relaxed(&berth__waiter_count) != 0);
}

/* The same for one queue. */
BERTH_INLINE bool berth__wait_anyone_in(const struct berth__wait_queue *queue) {
    return berth__load_relaxed(&queue->count) != 0;
}

void berth__wait_init(void);

/* Joins the end of a queue with a deadline from now. */
void berth__wait_join(struct berth__waiter *waiter, struct berth__wait_queue *queue,
                      uint64_t wait_ms);

/* Sleeps until this waiter is the head and there is a reason to look again; false when the deadline
 * has passed. */
bool berth__wait_sleep(struct berth__waiter *waiter);

void berth__wait_leave(struct berth__waiter *waiter);

BERTH_NOINLINE void berth__wait_wake_heads(void);

/* Times that memory came back, or may be taken back from now on, while somebody waited. */
extern _Atomic uint64_t berth__wait_returns;

/* Memory may be taken back from now on: the head need not wake for it, but should look. */
BERTH_INLINE void berth__wait_note(void) {
    if (berth__wait_anyone()) {
        berth__add_relaxed(&berth__wait_returns, 1);
    }
}

/* Memory came back, or the limit was raised. */
BERTH_INLINE void berth__wait_notify(void) {
    if (berth__wait_anyone()) {
        berth__add_relaxed(&berth__wait_returns, 1);
        berth__wait_wake_heads();
    }
}

/* In the child of a fork: other threads do not wait any more. */
void berth__wait_reset_in_child(void);

#endif
