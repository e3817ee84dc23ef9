#include "heap/fork.h"
#include "os/clock.h"
#include "pool/api.h"
#include "pool/init.h"
#include "pool/pool.h"

#include <berth/limit.h>

#include <errno.h>

/*
 * Pressure callbacks, asked by the ladder.
 *
 * One thread at a time runs them: `running` is its thread pointer, set by compare-and-set (P1) and
 * cleared after `runs` was counted up (P2), so whoever sees another count knows that the run it met
 * has ended, even if the next one has begun. The list is changed under `lock`, which is not held
 * while a callback runs: the runner copies an entry out, and goes on with the latest one added
 * before it, so callbacks may add and remove others, and themselves, meanwhile. Removing waits for
 * the run that may still call the removed one, and for no later one: those do not find it.
 */
enum { CALLBACKS_MAX = 64 };

struct callback {
    berth_pressure_callback *call;
    void *context;
    unsigned flags;
    uint64_t number; /* in the order of adding */
};

static struct berth__lock lock = {.rank = BERTH_RANK_POOLS};
static struct callback callbacks[CALLBACKS_MAX] BERTH_GUARDED_BY(lock);
static unsigned callback_count BERTH_GUARDED_BY(lock);
static uint64_t next_number BERTH_GUARDED_BY(lock);
static _Atomic uint64_t running; /* 0, or the runner's thread pointer */
static _Atomic uint64_t runs;    /* that have ended */

/* Waits until the run that goes on in another thread, if there is one, has ended. False: it has not
 * by then. */
static bool wait_for_run(uint64_t deadline_ns) {
    uint64_t before = berth__load_acquire(&runs); /* acquires P2 */
    for (unsigned turn = 0;; turn++) {
        uint64_t runner = berth__load_acquire(&running);
        if (runner == 0 || runner == berth__thread_self() || berth__load_acquire(&runs) != before) {
            return true;
        }
        if (berth__clock_ns() >= deadline_ns) {
            return false;
        }
        berth__spin(turn);
    }
}

static unsigned find_locked(berth_pressure_callback *call, void *context) BERTH_REQUIRES(lock) {
    unsigned i = 0;
    while (i < callback_count && (callbacks[i].call != call || callbacks[i].context != context)) {
        i++;
    }
    return i;
}

int berth__do_pressure_add(berth_pressure_callback *callback, void *context, unsigned flags) {
    if (callback == NULL || (flags & ~(unsigned)BERTH_PRESSURE_MALLOC_SAFE) != 0) {
        return -EINVAL;
    }
    if (berth__fork_must_detour()) {
        return -EAGAIN;
    }
    int error = 0;
    berth__lock_acquire(&lock);
    if (find_locked(callback, context) < callback_count) {
        error = -EEXIST;
    } else if (callback_count == CALLBACKS_MAX) {
        error = -ENOSPC;
    } else {
        callbacks[callback_count++] = (struct callback){
            .call = callback, .context = context, .flags = flags, .number = next_number++};
    }
    berth__lock_release(&lock);
    return error;
}

int berth__do_pressure_remove(berth_pressure_callback *callback, void *context) {
    if (berth__fork_must_detour()) {
        return -EAGAIN;
    }
    berth__lock_acquire(&lock);
    unsigned i = find_locked(callback, context);
    int error = i < callback_count ? 0 : -ENOENT;
    if (error == 0) {
        callback_count--;
        for (; i < callback_count; i++) {
            callbacks[i] = callbacks[i + 1];
        }
    }
    berth__lock_release(&lock);
    if (error == 0) {
        (void)wait_for_run(UINT64_MAX);
    }
    return error;
}

/* Copies the latest callback that may run here, of those that were added before the one with this
 * number: callbacks may add and remove others, and themselves, meanwhile. */
static bool latest_before(uint64_t number, bool from_malloc, struct callback *callback) {
    bool found = false;
    berth__lock_acquire(&lock);
    for (unsigned at = callback_count; !found && at-- > 0;) {
        bool allowed = !from_malloc || (callbacks[at].flags & BERTH_PRESSURE_MALLOC_SAFE) != 0;
        if (allowed && callbacks[at].number < number) {
            *callback = callbacks[at];
            found = true;
        }
    }
    berth__lock_release(&lock);
    return found;
}

static enum berth__asked ask(struct berth__arenas *arenas, size_t bytes, bool from_malloc,
                             uint64_t deadline_ns) {
    struct callback callback = {.number = UINT64_MAX};
    if (!latest_before(callback.number, from_malloc, &callback)) {
        return BERTH_ASKED_NOBODY;
    }
    uint64_t nobody = 0;
    if (!berth__cas_acq_rel(&running, &nobody, berth__thread_self())) { /* P1 */
        return wait_for_run(deadline_ns) ? BERTH_ASKED_BY_ANOTHER : BERTH_ASKED_NOBODY;
    }
    callback.number = UINT64_MAX;
    while (latest_before(callback.number, from_malloc, &callback)) {
        callback.call(callback.context, berth__pool_of_arenas(arenas), bytes);
    }
    berth__add_acq_rel(&runs, 1); /* P2 */
    berth__store_release(&running, 0);
    return BERTH_ASKED;
}

void berth__pressure_reset_in_child(void) {
    if (berth__load_relaxed(&running) != berth__thread_self()) {
        berth__store_relaxed(&running, 0);
    }
}

void berth__pressure_register_lock(void) {
    berth__fork_add_lock(&lock, NULL);
}

void berth__pressure_init(void) {
    berth__store_release(&berth__pressure_hook, ask);
}
