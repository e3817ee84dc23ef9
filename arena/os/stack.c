#include "os/stack.h"

#include "base/bits.h"
#include "os/lock.h"
#include "os/pages.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

enum {
    FRAME_BYTES = 2 * sizeof(uintptr_t), /* the caller's frame, and the place returned to */
    LEAST_PLACE = 1 << 16,               /* nothing is mapped below */
    DEPTH_BYTES_MOST = 8 << 20,          /* from a frame to its stack's top */
};

#if defined(DLFO_STRUCT_HAS_EH_DBASE)
/* NOLINTNEXTLINE(readability-redundant-declaration) */
__attribute__((weak)) extern __typeof__(_dl_find_object) _dl_find_object;

static bool is_in_object(uintptr_t place) {
    struct dl_find_object object;
    return _dl_find_object == NULL || _dl_find_object((void *)place, &object) == 0;
}
#else
static bool is_in_object(uintptr_t place) {
    (void)place;
    return true;
}
#endif

static uintptr_t first_top; /* of the first thread's stack; 0: not known */

/* What `environ` points to lies at the base of the first thread's stack, as the kernel made it. */
void berth__stack_init(void) {
    uintptr_t frame = (uintptr_t)BERTH_FRAME;
    uintptr_t base = (uintptr_t)environ;
    if (getpid() == gettid() && base > frame && base - frame < DEPTH_BYTES_MOST) {
        first_top = base;
    }
}

static uintptr_t page_of(uintptr_t at) {
    return berth__round_down(at, berth__page_bytes);
}

/* Where the stack that holds a frame may end: 0 if it is not the thread's own. */
static uintptr_t top_above(uintptr_t frame) {
    uintptr_t self = (uintptr_t)berth__thread_self();
    if (frame < first_top && first_top - frame <= DEPTH_BYTES_MOST) {
        return first_top;
    }
    return frame < self && self - frame <= DEPTH_BYTES_MOST ? self : 0;
}

static bool is_readable(uintptr_t from, uintptr_t to) {
    int saved_errno = errno;
    bool readable = from >= to || madvise((void *)from, to - from, MADV_POPULATE_READ) == 0;
    errno = saved_errno;
    return readable;
}

/* Up to where frames may be read, from this one on. */
static uintptr_t end_of_walk(struct berth__stack *stack, uintptr_t frame) {
    uintptr_t top = top_above(frame);
    if (top == 0) {
        return page_of(frame) + berth__page_bytes;
    }
    uintptr_t low = page_of(frame);
    uintptr_t known = stack->top == top ? stack->low : page_of(top);
    if (low < known && !is_readable(low, known)) {
        return low + berth__page_bytes;
    }
    *stack = (struct berth__stack){.low = berth__min(low, known), .top = top};
    return top;
}

unsigned berth__stack_walk(struct berth__stack *stack, const void *frame, void **places,
                           unsigned most) {
    uintptr_t at = (uintptr_t)frame;
    uintptr_t end = end_of_walk(stack, at);
    unsigned count = 0;
    while (count < most && at % sizeof(uintptr_t) == 0 && at <= end - FRAME_BYTES) {
        const uintptr_t *words = (const uintptr_t *)at;
        uintptr_t caller = words[0];
        uintptr_t place = words[1];
        if (count > 0 && (place < LEAST_PLACE || !is_in_object(place))) {
            break;
        }
        places[count++] = (void *)place;
        if (caller <= at) {
            break;
        }
        at = caller;
    }
    return count;
}
