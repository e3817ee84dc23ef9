/*
 * The forms of operator new that return NULL instead of throwing, for the shared door.
 *
 * They must catch what a handler of std::set_new_handler throws, which C cannot do. The C++
 * runtime's own such operators can: they call the throwing form, which is ours, and catch. So they
 * are asked where there is a handler; and libberth-malloc.a, where there is no way to ask, goes
 * without this file and leaves the forms to the runtime altogether.
 */
#include "malloc/door.h"
#include "os/dynamic.h"

typedef void new_handler(void);
__attribute__((weak)) new_handler *_ZSt15get_new_handlerv(void); /* std::get_new_handler() */

static const void *next_operator(const char *name) {
    bool handled = _ZSt15get_new_handlerv != NULL && _ZSt15get_new_handlerv() != NULL;
    return handled ? berth__dynamic_find_next(name) : NULL;
}

static BERTH_COLD void *ask_runtime(const char *name, size_t size, const void *tag) {
    typedef void *nothrow_new(size_t, const void *);
    nothrow_new *next = (nothrow_new *)(uintptr_t)next_operator(name);
    return next == NULL ? berth__door_retry(size, BERTH_GRANULE) : next(size, tag);
}

static BERTH_COLD void *ask_runtime_aligned(const char *name, size_t size, size_t alignment,
                                            const void *tag) {
    typedef void *nothrow_new(size_t, size_t, const void *);
    nothrow_new *next = (nothrow_new *)(uintptr_t)next_operator(name);
    return next == NULL ? berth__door_retry(size, alignment) : next(size, alignment, tag);
}

static BERTH_NOINLINE void *new_or_null_slow(const char *name, size_t size, const void *tag) {
    void *block = berth__door_alloc_from(BERTH_FRAME, size);
    return BERTH_LIKELY(block != NULL) ? block : ask_runtime(name, size, tag);
}

BERTH_INLINE void *new_or_null(const char *name, size_t size, const void *tag) {
    void *block = berth__door_pop(size);
    return BERTH_LIKELY(block != NULL) ? block : new_or_null_slow(name, size, tag);
}

static BERTH_NOINLINE void *new_aligned_or_null(const char *name, size_t size, size_t alignment,
                                                const void *tag) {
    alignment = berth__max(alignment, BERTH_GRANULE);
    void *block = berth__door_aligned_from(BERTH_FRAME, size, alignment);
    return BERTH_LIKELY(block != NULL) ? block : ask_runtime_aligned(name, size, alignment, tag);
}

/* new(std::nothrow), new[](std::nothrow), new(std::align_val_t, std::nothrow), and its array form
 */
BERTH_EXPORT void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag) {
    return new_or_null("_ZnwmRKSt9nothrow_t", size, tag);
}
BERTH_EXPORT void *_ZnamRKSt9nothrow_t(size_t size, const void *tag) {
    return new_or_null("_ZnamRKSt9nothrow_t", size, tag);
}
BERTH_EXPORT void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment,
                                                      const void *tag) {
    return new_aligned_or_null("_ZnwmSt11align_val_tRKSt9nothrow_t", size, alignment, tag);
}
BERTH_EXPORT void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment,
                                                      const void *tag) {
    return new_aligned_or_null("_ZnamSt11align_val_tRKSt9nothrow_t", size, alignment, tag);
}
