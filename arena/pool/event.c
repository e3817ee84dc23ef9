#include "pool/event.h"

#include "heap/fork.h"
#include "heap/request.h"
#include "pool/api.h"
#include "pool/init.h"
#include "pool/pool.h"

#include <berth/event.h>

#include <errno.h>

/*
 * The table is changed under `lock`, which is not held while a callback runs. Who tells makes
 * itself one of the entry's `tellers`, under the lock, calls, and goes on with the latest entry
 * added before it: so callbacks may add and remove others, and themselves. An entry that is removed
 * gets no kinds any more, so that nobody begins to tell it; its place is free when the last teller
 * has left. Who removes waits for that, but within a callback, where it could be waiting for
 * itself. In the child of a fork nobody is telling any more: a callback that forked returns to an
 * entry that does not count it.
 */
enum { CALLBACKS_MAX = 32 };

enum {
    KINDS = BERTH_EVENT_SOFT_LIMIT | BERTH_EVENT_FAILURE | BERTH_EVENT_PRESSURE,
    /* Of berth__soft_due: to whom a crossing is still to be told. */
    DUE_TO_SAFE = 1,
    DUE_TO_OTHERS = 2,
};
_Static_assert((DUE_TO_SAFE | DUE_TO_OTHERS) == BERTH_SOFT_DUE, "a crossing is due to all");

struct callback {
    berth_event_callback *call; /* NULL: a free place */
    void *context;
    unsigned kinds;   /* and BERTH_EVENT_MALLOC_SAFE; 0: removed */
    unsigned tellers; /* threads that are calling it */
    uint64_t number;  /* in the order of adding, from 1 */
};

static struct berth__lock lock = {.rank = BERTH_RANK_POOLS};
static struct callback callbacks[CALLBACKS_MAX] BERTH_GUARDED_BY(lock);
static uint64_t last_number BERTH_GUARDED_BY(lock);

void berth__events_register_lock(void) {
    berth__fork_add_lock(&lock, NULL);
}

/* The lock is held by who forked, or free. */
void berth__events_reset_in_child(void) BERTH_NO_TSA {
    for (unsigned i = 0; i < CALLBACKS_MAX; i++) {
        callbacks[i].tellers = 0;
        if (callbacks[i].kinds == 0) {
            callbacks[i].call = NULL;
        }
    }
}

/* The place of a pair that was not removed; of NULL, a free one. NULL: there is none. */
static struct callback *find_locked(berth_event_callback *call, void *context)
    BERTH_REQUIRES(lock) {
    for (unsigned i = 0; i < CALLBACKS_MAX; i++) {
        struct callback *at = &callbacks[i];
        if (at->call == call && (call == NULL || (at->context == context && at->kinds != 0))) {
            return at;
        }
    }
    return NULL;
}

int berth__do_event_add(unsigned kinds, berth_event_callback *callback, void *context) {
    if (callback == NULL || (kinds & KINDS) == 0 ||
        (kinds & ~(unsigned)(KINDS | BERTH_EVENT_MALLOC_SAFE)) != 0) {
        return -EINVAL;
    }
    if (berth__fork_must_detour()) {
        return -EAGAIN;
    }
    berth__lock_acquire(&lock);
    bool is_there = find_locked(callback, context) != NULL;
    struct callback *place = find_locked(NULL, NULL);
    if (!is_there && place != NULL) {
        *place = (struct callback){
            .call = callback, .context = context, .kinds = kinds, .number = ++last_number};
    }
    berth__lock_release(&lock);
    return is_there ? -EEXIST : place == NULL ? -ENOSPC : 0;
}

static void free_if_unused_locked(struct callback *place) BERTH_REQUIRES(lock) {
    if (place->kinds == 0 && place->tellers == 0) {
        place->call = NULL;
    }
}

/* True while the entry with that number is there. */
static bool is_told(const struct callback *place, uint64_t number) {
    berth__lock_acquire(&lock);
    bool told = place->number == number && place->tellers > 0;
    berth__lock_release(&lock);
    return told;
}

int berth__do_event_remove(berth_event_callback *callback, void *context) {
    if (callback == NULL) {
        return -ENOENT;
    }
    if (berth__fork_must_detour()) {
        return -EAGAIN;
    }
    berth__lock_acquire(&lock);
    struct callback *place = find_locked(callback, context);
    uint64_t number = place == NULL ? 0 : place->number;
    if (place != NULL) {
        place->kinds = 0;
        free_if_unused_locked(place);
    }
    berth__lock_release(&lock);
    for (unsigned turn = 0; place != NULL && !berth__tls.reclaiming && is_told(place, number);
         turn++) {
        berth__spin(turn);
    }
    return place == NULL ? -ENOENT : 0;
}

/* ---- telling ---- */

/* Begins to tell the latest callback of that kind that was added before `number`, and is, or is
 * not, malloc-safe, as `audience` says. NULL: there is none. */
static struct callback *begin_before(uint64_t number, unsigned kind, unsigned audience,
                                     struct callback *copy) {
    struct callback *latest = NULL;
    berth__lock_acquire(&lock);
    for (unsigned i = 0; i < CALLBACKS_MAX; i++) {
        struct callback *at = &callbacks[i];
        unsigned due = (at->kinds & BERTH_EVENT_MALLOC_SAFE) != 0 ? DUE_TO_SAFE : DUE_TO_OTHERS;
        if (at->call != NULL && (at->kinds & kind) != 0 && (due & audience) != 0 &&
            at->number < number && (latest == NULL || at->number > latest->number)) {
            latest = at;
        }
    }
    if (latest != NULL) {
        latest->tellers++;
        *copy = *latest;
    }
    berth__lock_release(&lock);
    return latest;
}

/* In the child of a fork the count was set to 0 meanwhile. */
static void end(struct callback *place, uint64_t number) {
    berth__lock_acquire(&lock);
    if (place->number == number && place->tellers > 0) {
        place->tellers--;
        free_if_unused_locked(place);
    }
    berth__lock_release(&lock);
}

/* What a callback allocates may come from the reserve, and makes no further events. */
static void tell(struct berth_event *event, unsigned audience) {
    struct callback copy = {.number = UINT64_MAX};
    struct callback *place;
    event->struct_size = sizeof(*event);
    event->used_bytes = berth__load_relaxed(&berth__ledger.used);
    event->limit_bytes = berth__load_relaxed(&berth__ledger.limit);
    berth__tls.reclaiming = true;
    while ((place = begin_before(copy.number, event->kind, audience, &copy)) != NULL) {
        copy.call(copy.context, event);
        end(place, copy.number);
    }
    berth__tls.reclaiming = false;
}

static void tell_of_soft_limit(bool from_malloc) {
    unsigned audience = from_malloc ? DUE_TO_SAFE : BERTH_SOFT_DUE;
    if (berth__tls.reclaiming || berth__fork_must_detour()) {
        return;
    }
    unsigned due = atomic_fetch_and(&berth__soft_due, ~audience) & audience;
    if (due != 0) {
        struct berth_event event = {.kind = BERTH_EVENT_SOFT_LIMIT};
        tell(&event, due);
    }
}

void (*_Atomic berth__failure_hook)(void);

static void tell_of_failure(struct berth__arenas *arenas, size_t bytes, bool from_malloc) {
    void (*hook)(void) = berth__load_acquire(&berth__failure_hook);
    if (hook != NULL && berth__tls.unwinding) {
        hook();
    }
    struct berth_event event = {
        .kind = BERTH_EVENT_FAILURE, .pool = berth__pool_of_arenas(arenas), .bytes = bytes};
    tell(&event, from_malloc ? DUE_TO_SAFE : BERTH_SOFT_DUE);
}

void berth__events_look(void) {
    if (BERTH_UNLIKELY(berth__load_relaxed(&berth__soft_due) != 0)) {
        tell_of_soft_limit(false);
    }
}

void berth__event_of_pressure(size_t bytes) {
    struct berth_event event = {.kind = BERTH_EVENT_PRESSURE, .bytes = bytes};
    tell(&event, BERTH_SOFT_DUE);
}

void berth__events_init(void) {
    static const struct berth__event_hooks hooks = {.soft_limit = tell_of_soft_limit,
                                                    .failure = tell_of_failure};
    berth__store_release(&berth__event_hooks, &hooks);
}

/* ---- the soft limit ---- */

int berth__do_soft_limit_set(uint64_t bytes) {
    if (bytes == 0) {
        return -EINVAL;
    }
    if (!berth__start()) {
        return -ENOMEM;
    }
    berth__ledger_set_soft_limit(bytes);
    berth__events_look();
    return 0;
}

uint64_t berth__do_soft_limit_get(void) {
    (void)berth__start();
    return berth__load_relaxed(&berth__soft_limit);
}
