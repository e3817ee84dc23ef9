/*
 * The queues of threads that wait for memory to come back.
 *
 * One queue for each ledger: who waits for a pool's own limit holds up nobody who has another. A
 * waiter lies on its thread's stack and stands in the queue of its own ledger, and, while it was
 * the parent's bytes that it was refused last, in that one's too. A queue is in the order in which
 * its waiters began to wait, whenever they came to stand in it: so whoever has waited longest of
 * all is the first wherever it stands, and no two wait for each other.
 *
 * Whoever gives bytes or runs back calls berth__wait_notify, which costs one load while nobody
 * waits; otherwise it wakes the heads of all queues, of which there is mostly one. A waiter that is
 * the first in all the queues where it stands tries its allocation again, and ends its wait when it
 * succeeded or its time is up; that wakes the next. Of a ledger with waiters nobody takes bytes but
 * its queue's head (berth__wait_may_pass).
 *
 * States of a waiter's word: WOKEN (by itself when it comes to stand in a queue, so that it looks
 * at what came back just before; by a notifier holding the lock, while it is a head) -> WAITING (by
 * itself, before it tries again). Becoming head is signalled under the lock and is never lost.
 * Memory coming back is signalled by a plain load of the count after the memory was given back,
 * without the full fence that would order the two: that fence would cost every large free. What
 * its absence loses (on no machine where an atomic subtraction is a fence) is found by the head,
 * which looks again by itself every BERTH_WAIT_SLICE_MS. Whether it has to look everywhere then it
 * can tell from a count of what came back while somebody waited.
 *
 * A waiting thread holds no lock and may be forked away from: the child has empty queues. A handler
 * may interrupt a waiter and fork; then the child's thread stands nowhere, and queues up again when
 * it has looked once more.
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
    struct berth__list places BERTH_GUARDED_BY(berth__wait_lock); /* by age of their waiters */
    struct berth__list link
        BERTH_GUARDED_BY(berth__wait_lock); /* of the queues that have waiters */
    _Atomic uint64_t count;
};

/* A waiter's place in a queue. */
struct berth__wait_place {
    struct berth__list link;
    struct berth__wait_queue *queue; /* NULL: it stands in none */
    struct berth__waiter *waiter;
};

struct berth__waiter {
    struct berth__wait_place own, parent;
    struct berth__wait_queue *refused_by; /* whose ledger's bytes were missing last */
    uint64_t age;                         /* lower: waits for longer */
    uint64_t deadline_ns;                 /* berth__clock_ns; when to give up */
    _Atomic uint32_t word;                /* enum in wait.c; the futex */
};

/* Where the calling thread's waiter is kept; NULL there while it does not wait. Defined by the
 * layer that has a place in each thread: static thread-local storage is scarce. */
struct berth__waiter **berth__waiter_of_thread(void);

extern _Atomic uint64_t berth__waiter_count; /* from berth__wait_begin to berth__wait_end */

/* True while somebody waits. */
BERTH_INLINE bool berth__wait_anyone(void) {
    return BERTH_UNLIKELY(berth__load_relaxed(&berth__waiter_count) != 0);
}

void berth__wait_init(void);

/* From now on the calling thread waits, until berth__wait_end, in the queue of its own ledger. */
void berth__wait_begin(struct berth__waiter *waiter, uint64_t wait_ms,
                       struct berth__wait_queue *own);
void berth__wait_end(struct berth__waiter *waiter);

/* After an attempt failed: stands in the queue of its own ledger, and in that of the parent's only
 * if this was who refused it. */
void berth__wait_stand(struct berth__waiter *waiter, struct berth__wait_queue *own);

/* Sleeps until this waiter is the first wherever it stands and there is a reason to look again;
 * false when the deadline has passed. */
bool berth__wait_sleep(struct berth__waiter *waiter);

BERTH_NOINLINE bool berth__wait_may_pass_slow(const struct berth__wait_queue *queue);

/* True if the calling thread may take bytes of the queue's ledger: nobody waits, or nobody for
 * longer than this thread does. */
BERTH_INLINE bool berth__wait_may_pass(const struct berth__wait_queue *queue) {
    return BERTH_LIKELY(berth__load_relaxed(&queue->count) == 0) ||
           berth__wait_may_pass_slow(queue);
}

/* Tells the calling thread's waiter, if there is one, whose bytes were refused. */
void berth__wait_note_refusal(struct berth__wait_queue *queue);

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

/* In the child of a fork: the other waiters were other threads. */
void berth__wait_reset_in_child(void);

#endif
