/*
 * Events: what a program is told of when memory becomes short.
 *
 * A soft limit below the limit says that it comes near; a failure, that it was met in vain;
 * pressure, that the machine or the control group is short of memory. None of them changes what
 * berth does: to give memory back for a request, there are pressure callbacks (limit.h).
 */
#ifndef BERTH_EVENT_H
#define BERTH_EVENT_H

#include <berth/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What there is to be told of; combine with |. */
enum {
    BERTH_EVENT_SOFT_LIMIT =
        1,                   /* what is charged to the process's limit has crossed the soft limit */
    BERTH_EVENT_FAILURE = 2, /* a request has failed, after all that the limit allows */
    BERTH_EVENT_PRESSURE = 4, /* the kernel, or systemd, says that memory is short: berth has given
                                 back what it could. Needs the option maintenance:true */
    /* With these: may run inside malloc, where libberth-malloc.so serves it: it calls nothing that
       could wait for a lock that a caller of malloc may hold. */
    BERTH_EVENT_MALLOC_SAFE = 256
};

/** One event. */
struct berth_event {
    size_t struct_size;   /* bytes that are filled in; later versions may add to the end */
    unsigned kind;        /* one of the above */
    berth_pool *pool;     /* FAILURE: whose request it was; else NULL */
    size_t bytes;         /* FAILURE: that were asked for; PRESSURE: that were given back */
    uint64_t used_bytes;  /* charged to the process's limit */
    uint64_t limit_bytes; /* that limit; BERTH_UNLIMITED: none */
};

/**
 * Is told of an event. It runs without any lock of berth, on the thread that the event happened to:
 * for a failure the one whose request failed, before its call returns. It may allocate and free,
 * and is told of no further event meanwhile. It must return.
 */
typedef void berth_event_callback(void *context, const struct berth_event *event);

/**
 * Has a callback told of events of some kinds.
 *
 * A crossing of the soft limit by a thread inside malloc is told to callbacks that are not
 * malloc-safe by the next call that is not: an allocation from a pool, berth_thread_idle,
 * berth_trim, or the maintenance thread. Of failures inside malloc, they are not told.
 *
 * Errors: -EINVAL (no callback, no kind, unknown flags), -EEXIST (the pair is there already),
 * -ENOSPC (32 are), -EAGAIN (in a child whose fork interrupted the engine). Threads: any; callbacks
 * may run in several threads at once. Blocks: may lock. Since: 0.1.
 */
BERTH_API int berth_event_add(unsigned kinds, berth_event_callback *callback, void *context);

/**
 * Removes a callback; when this returns, it is not running and will not be called again. Called by
 * a callback, it does not wait.
 *
 * Errors: -ENOENT, -EAGAIN. Threads: any. Blocks: may lock, and waits for a running callback.
 * Since: 0.1.
 */
BERTH_API int berth_event_remove(berth_event_callback *callback, void *context);

/**
 * Sets the soft limit in bytes, as the option soft_limit does; BERTH_UNLIMITED for none.
 *
 * Crossing it upwards is an event, once: again only after a sixteenth less than it was in use. If
 * more is in use already, that is a crossing.
 *
 * Errors: -EINVAL for 0, -ENOMEM. Threads: any. Blocks: lock-free, but for the first call into the
 * library. Since: 0.1.
 */
BERTH_API int berth_soft_limit_set(uint64_t bytes);

/** The soft limit, or BERTH_UNLIMITED. Threads: any. Blocks: wait-free. Since: 0.1. */
BERTH_API uint64_t berth_soft_limit_get(void);

#ifdef __cplusplus
}
#endif

#endif
