/*
 * Who takes memory from the kernel, and what happens at the limit: noted, with stacks, as long as
 * somebody outside looks (`berth trace`). Off, it costs a load and a branch on these slow paths.
 *
 * Any thread, under no lock: an unwinder that reads the stack may allocate.
 */
#ifndef BERTH_HEAP_TRACE_H
#define BERTH_HEAP_TRACE_H

#include "heap/request.h"
#include "heap/trace_format.h"

extern struct berth__trace_root berth__trace_root;

/* What a request has taken, or been through. */
struct berth__taking {
    enum berth__trace_kind kind;
    const void *at;
    size_t bytes, mapped; /* as in struct berth__trace_record */
    unsigned step;        /* enum berth__ladder_step */
};

/* Notes it, if the trace is on. */
BERTH_NOINLINE void berth__trace_note(const struct berth__request *request,
                                      const struct berth__taking *taking);

BERTH_INLINE bool berth__trace_is_on(void) {
    return BERTH_UNLIKELY(berth__load_relaxed(&berth__trace_root.until_ms) != 0);
}

/* In the child of a fork: who looks, looks at the parent. */
void berth__trace_end(void);

/* Has the lock held over a fork. When the library is loaded. */
void berth__trace_init(void);

#endif
