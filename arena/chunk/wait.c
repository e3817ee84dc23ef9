#include "chunk/wait.h"

#include "chunk/transit.h"
#include "os/clock.h"
#include "os/fault.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WAITING, WOKEN };

struct berth__lock berth__wait_lock;
_Atomic uint64_t berth__waiter_count BERTH_LINE_ALIGNED; /* read by every thread that frees runs */
_Atomic uint64_t berth__wait_returns;
static struct berth__list queues BERTH_GUARDED_BY(berth__wait_lock) = {&queues, &queues};
static _Atomic uint64_t next_age;

void berth__wait_init(void) {
    berth__lock_init(&berth__wait_lock, BERTH_RANK_WAITERS);
}

/* ---- places ---- */

static void place_init(struct berth__wait_place *place, struct berth__waiter *waiter) {
    berth__list_init(&place->link);
    place->queue = NULL;
    place->waiter = waiter;
}

static struct berth__wait_place *place_of(struct berth__list *link) {
    return BERTH_LIST_ENTRY(link, struct berth__wait_place, link);
}

static bool is_first_locked(const struct berth__wait_place *place)
    BERTH_REQUIRES(berth__wait_lock) {
    return place->queue == NULL || place->queue->places.next == &place->link;
}

/* Called with the lock held, so that the head cannot leave, and its stack vanish, meanwhile. */
static void wake_head_locked(struct berth__wait_queue *queue) BERTH_REQUIRES(berth__wait_lock) {
    struct berth__waiter *head = place_of(queue->places.next)->waiter; /* there is one */
    int saved_errno = errno;
    berth__store_release(&head->word, WOKEN);
    syscall(SYS_futex, &head->word, BERTH_FUTEX_WAKE, 1, NULL, NULL, 0);
    errno = saved_errno;
}

/* Behind all who have waited for longer. */
static void enter_locked(struct berth__wait_place *place, struct berth__wait_queue *queue)
    BERTH_REQUIRES(berth__wait_lock) {
    if (place->queue == queue) {
        return;
    }
    if (berth__load_relaxed(&queue->count) == 0) {
        berth__list_init(&queue->places);
        berth__list_push_back(&queues, &queue->link);
    }
    struct berth__list *at = queue->places.prev;
    while (at != &queue->places && place_of(at)->waiter->age > place->waiter->age) {
        at = at->prev;
    }
    berth__list_push_front(at, &place->link);
    place->queue = queue;
    berth__add_relaxed(&queue->count, 1);
    berth__store_relaxed(&place->waiter->word, WOKEN);
}

/* What is left over may serve the next. */
static void leave_locked(struct berth__wait_place *place) BERTH_REQUIRES(berth__wait_lock) {
    struct berth__wait_queue *queue = place->queue;
    if (queue == NULL) {
        return;
    }
    berth__list_remove(&place->link);
    place->queue = NULL;
    if (berth__sub_relaxed(&queue->count, 1) > 1) {
        wake_head_locked(queue);
    } else {
        berth__list_remove(&queue->link);
    }
}

/* ---- a waiter ---- */

void berth__wait_end(struct berth__waiter *waiter) {
    berth__lock_acquire(&berth__wait_lock);
    leave_locked(&waiter->own);
    leave_locked(&waiter->parent);
    berth__lock_release(&berth__wait_lock);
    berth__sub_relaxed(&berth__waiter_count, 1);
    *berth__waiter_of_thread() = NULL;
}

void berth__wait_stand(struct berth__waiter *waiter, struct berth__wait_queue *own) {
    berth__lock_acquire(&berth__wait_lock);
    enter_locked(&waiter->own, own);
    if (waiter->refused_by != NULL && waiter->refused_by != own) {
        enter_locked(&waiter->parent, waiter->refused_by);
    } else {
        leave_locked(&waiter->parent);
    }
    berth__lock_release(&berth__wait_lock);
}

void berth__wait_begin(struct berth__waiter *waiter, uint64_t wait_ms,
                       struct berth__wait_queue *own) {
    place_init(&waiter->own, waiter);
    place_init(&waiter->parent, waiter);
    waiter->refused_by = NULL;
    waiter->age = berth__add_relaxed(&next_age, 1);
    waiter->deadline_ns = berth__clock_ns() + wait_ms * 1000000;
    *berth__waiter_of_thread() = waiter;
    berth__wait_stand(waiter, own);
    berth__add_relaxed(&berth__waiter_count, 1);
}

static bool is_first(struct berth__waiter *waiter) {
    berth__lock_acquire(&berth__wait_lock);
    bool first = is_first_locked(&waiter->own) && is_first_locked(&waiter->parent);
    berth__lock_release(&berth__wait_lock);
    return first;
}

static void futex_wait(_Atomic uint32_t *word, uint64_t nanoseconds) {
    struct timespec limit = {.tv_sec = (time_t)(nanoseconds / 1000000000),
                             .tv_nsec = (long)(nanoseconds % 1000000000)};
    int saved_errno = errno;
    syscall(SYS_futex, word, BERTH_FUTEX_WAIT, WAITING, &limit, NULL, 0);
    errno = saved_errno;
}

bool berth__wait_sleep(struct berth__waiter *waiter) {
    const uint64_t slice_ns = BERTH_WAIT_SLICE_MS * UINT64_C(1000000);
    for (;;) {
        uint64_t now = berth__clock_ns();
        if (now >= waiter->deadline_ns) {
            return false;
        }
        bool first = is_first(waiter);
        uint64_t left = waiter->deadline_ns - now;
        if (berth__load_acquire(&waiter->word) == WAITING) {
            futex_wait(&waiter->word, first && left > slice_ns ? slice_ns : left);
        }
        berth__store_relaxed(&waiter->word, WAITING);
        berth__delay_point();
        if (first || is_first(waiter)) {
            waiter->refused_by = NULL;
            return true;
        }
    }
}

/* ---- seen from the ledger ---- */

bool berth__wait_may_pass_slow(const struct berth__wait_queue *queue) {
    struct berth__waiter *waiter = *berth__waiter_of_thread();
    if (waiter == NULL) {
        return false;
    }
    berth__lock_acquire(&berth__wait_lock);
    bool may = berth__load_relaxed(&queue->count) == 0 ||
               place_of(queue->places.next)->waiter->age >= waiter->age;
    berth__lock_release(&berth__wait_lock);
    return may;
}

void berth__wait_note_refusal(struct berth__wait_queue *queue) {
    struct berth__waiter *mine = *berth__waiter_of_thread();
    if (mine != NULL) {
        mine->refused_by = queue;
    }
}

void berth__wait_wake_heads(void) {
    berth__lock_acquire(&berth__wait_lock);
    for (struct berth__list *at = queues.next; at != &queues; at = at->next) {
        wake_head_locked(BERTH_LIST_ENTRY(at, struct berth__wait_queue, link));
    }
    berth__lock_release(&berth__wait_lock);
}

void berth__wait_reset_in_child(void) BERTH_NO_TSA {
    for (struct berth__list *at = queues.next; at != &queues; at = at->next) {
        struct berth__wait_queue *queue = BERTH_LIST_ENTRY(at, struct berth__wait_queue, link);
        berth__store_relaxed(&queue->count, 0);
    }
    berth__list_init(&queues);
    berth__transit_reset_in_child();
    struct berth__waiter *mine = *berth__waiter_of_thread();
    berth__store_relaxed(&berth__waiter_count, mine != NULL);
    if (mine != NULL) {
        place_init(&mine->own, mine);
        place_init(&mine->parent, mine);
    }
}
