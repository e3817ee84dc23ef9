/*
 * Stacks of calls, read by frame pointers: places that calls return to, innermost first.
 *
 * Nothing here can fault, whatever the program was compiled with: a frame is read only if it lies
 *  - on the page of the frame that the walk begins with, which is in use; or
 *  - on the calling thread's own stack, between that frame and the stack's top. The top is the
 *    thread's control block, which libc puts there, or for the first thread what was above the
 *    frames of the library's start. That the memory up to there is one readable stretch is asked of
 *    the kernel, once for each part of it (MADV_POPULATE_READ, Linux 5.14; without, the page alone
 *    is read). So a stack that is somebody else's (a signal's, a coroutine's) is not taken for the
 *    thread's: below the thread's own lies its guard page.
 * A chain of frames goes upwards only. Places that are in no loaded object end it, where libc can
 * tell without a lock (glibc 2.35).
 *
 * No allocation, no lock. Any thread, also in signal handlers.
 */
#ifndef BERTH_OS_STACK_H
#define BERTH_OS_STACK_H

#include "base/compiler.h"

/* The part of a thread's stack that was found to be readable. All zero at first. */
struct berth__stack {
    uintptr_t low, top;
};

/* Of the function that this is written in, which has a frame because of it: the frame of its caller
 * is the next one, and it returns to the first place of the walk. */
#define BERTH_FRAME __builtin_frame_address(0)

/* Notes where the first thread's stack is, if it is that which calls. When the library is loaded.
 */
void berth__stack_init(void);

/* Fills in up to `most` places, from a frame of this thread on; returns how many, at least 1 for
 * most >= 1. */
unsigned berth__stack_walk(struct berth__stack *stack, const void *frame, void **places,
                           unsigned most);

#endif
