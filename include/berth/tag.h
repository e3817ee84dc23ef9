/*
 * Tags: how much memory the parts of a program use, by name.
 *
 * What a thread allocates by malloc and its kin, or from the default pool, while a tag is pushed is
 * accounted to that tag until it is freed, by whoever frees it and wherever. So is what a pool was
 * created with for (the option `tag` of struct berth_pool_options). The figures are in the metrics:
 * berth_metrics_read_tag, BERTH_METRICS_TAGS, `berth stat --tags`.
 *
 *     berth_tag_push("sessions");
 *     struct session *session = session_new(); // whatever it allocates
 *     berth_tag_pop();
 *
 * Programs that push no tag pay nothing. Each tag has memory of its own: chunks of 256 KiB and
 * more, and caches in the threads that use it. So tags are for a server's parts, not for its
 * objects.
 */
#ifndef BERTH_TAG_H
#define BERTH_TAG_H

#include <berth/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Bounds. */
enum {
    BERTH_TAGS_MAX = 255,    /* names in a process; they are never forgotten */
    BERTH_TAG_NAME_MAX = 27, /* characters */
    BERTH_TAG_DEPTH_MAX = 16 /* tags that a thread may have pushed */
};

/**
 * Accounts what the calling thread allocates from now on to a tag, until berth_tag_pop.
 *
 * Tags nest: the innermost counts. The name is 1 to 27 printable ASCII characters; it is copied.
 * Other pools than the default one are not concerned. Resizing a block does not change its tag.
 * In the child of a fork the forking thread's tags stay pushed.
 *
 * Errors: nothing is pushed, and there is nothing to pop. -EINVAL (the name), -ENOSPC (255 other
 * names are in use, or 1024 pools), -EOVERFLOW (16 are pushed), -ENOMEM, -EAGAIN (in a child whose
 * fork interrupted the engine). Threads: any; concerns the caller's. Owns: borrows the name.
 * Blocks: the first time that a name is used may lock and make system calls, the first time in a
 * thread may lock; later wait-free. Since: 0.1.
 */
BERTH_API int berth_tag_push(const char *name);

/**
 * Ends the latest berth_tag_push of the calling thread.
 *
 * Errors: -EINVAL if none is pushed. Threads: any; concerns the caller's. Blocks: wait-free. Since:
 * 0.1.
 */
BERTH_API int berth_tag_pop(void);

#ifdef __cplusplus
}
#endif

#endif
