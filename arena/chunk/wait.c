#include "chunk/wait.h"

#include "os/clock.h"
#include "os/fault.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WAITING, WOKEN };

struct berth__lock berth__wait_lock;
_Atomic uint64_t berth__waiter_count;
_Atomic uint64_t berth__wait_returns;
static struct berth__list queues BERTH_GUARDED_BY(berth__wait_lock) = {&queues, &queues};

void berth__wait_init(void) {
    berth__lock_init(&berth__wait_lock, BERTH_RANK_WAITERS);
}

void berth__wait_join(struct berth__waiter *waiter, struct berth__wait_queue *queue,
                      uint64_t wait_ms) {
    waiter->queue = queue;
    waiter->thread = berth__thread_self();
    waiter->deadline_ns = berth__clock_ns() + wait_ms * 1000000;
    berth__store_relaxed(&waiter->word, WAITING);
    berth__lock_acquire(&berth__wait_lock);
    if (!berth__wait_anyone_in(queue)) {
        berth__list_init(&queue->waiters);
        berth__list_push_back(&queues, &queue->link);
    }
    berth__list_push_back(&queue->waiters, &waiter->link);
    berth__add_relaxed(&queue->count, 1);
    berth__add_relaxed(&berth__waiter_count, 1);
    berth__lock_release(&berth__wait_lock);
}

static bool is_head(struct berth__waiter *waiter) {
    berth__lock_acquire(&berth__wait_lock);
    bool head = waiter->queue->waiters.next == &waiter->link;
    berth__lock_release(&berth__wait_lock);
    return head;
}

static void futex_wait(_Atomic uint32_t *word, uint64_t nanoseconds) {
    struct timespec limit = {.tv_sec = (time_t)(nanoseconds / 1000000000),
                             .tv_nsec = (long)(nanoseconds % 1000000000)};
    int saved_errno = errno;
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, WAITING, &limit, NULL, 0);
    errno = saved_errno;
}

bool berth__wait_sleep(struct berth__waiter *waiter) {
    const uint64_t slice_ns = BERTH_WAIT_SLICE_MS * UINT64_C(1000000);
    for (;;) {
        uint64_t now = berth__clock_ns();
        if (now >= waiter->deadline_ns) {
            return false;
        }
        bool head = is_head(waiter);
        uint64_t left = waiter->deadline_ns - now;
        if (berth__load_acquire(&waiter->word) == WAITING) {
            futex_wait(&waiter->word, head && left > slice_ns ? slice_ns : left);
        }
        berth__store_relaxed(&waiter->word, WAITING);
        berth__delay_point();
        if (head || is_head(waiter)) {
            return true;
        }
    }
}

/* Called with the lock held, so that the head cannot leave, and its stack vanish, meanwhile. */
static void wake_head_locked(struct berth__wait_queue *queue) BERTH_REQUIRES(berth__wait_lock) {
    struct berth__waiter *head =
        BERTH_LIST_ENTRY(queue->waiters.next, struct berth__waiter, link); /* not empty */
    int saved_errno = errno;
    berth__store_release(&head->word, WOKEN);
    syscall(SYS_futex, &head->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = saved_errno;
}

void berth__wait_leave(struct berth__waiter *waiter) {
    struct berth__wait_queue *queue = waiter->queue;
    berth__lock_acquire(&berth__wait_lock);
    berth__list_remove(&waiter->link);
    berth__sub_relaxed(&berth__waiter_count, 1);
    berth__sub_relaxed(&queue->count, 1);
    if (berth__wait_anyone_in(queue)) {
        wake_head_locked(queue); /* what is left over may serve the next */
    } else {
        berth__list_remove(&queue->link);
    }
    berth__lock_release(&berth__wait_lock);
}

void berth__wait_wake_heads(void) {
    berth__lock_acquire(&berth__wait_lock);
    for (struct berth__list *at = queues.next; at != &queues; at = at->next) {
        wake_head_locked(BERTH_LIST_ENTRY(at, struct berth__wait_queue, link));
    }
    berth__lock_release(&berth__wait_lock);
}

static void forget_other_threads(struct berth__wait_queue *queue) BERTH_NO_TSA {
    struct berth__list *next;
    for (struct berth__list *at = queue->waiters.next; at != &queue->waiters; at = next) {
        next = at->next;
        if (BERTH_LIST_ENTRY(at, struct berth__waiter, link)->thread != berth__thread_self()) {
            berth__list_remove(at);
            berth__sub_relaxed(&queue->count, 1);
            berth__sub_relaxed(&berth__waiter_count, 1);
        }
    }
}

void berth__wait_reset_in_child(void) BERTH_NO_TSA {
    struct berth__list *next;
    for (struct berth__list *at = queues.next; at != &queues; at = next) {
        struct berth__wait_queue *queue = BERTH_LIST_ENTRY(at, struct berth__wait_queue, link);
        next = at->next;
        forget_other_threads(queue);
        if (!berth__wait_anyone_in(queue)) {
            berth__list_remove(&queue->link);
        }
    }
}
