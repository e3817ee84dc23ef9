/*
 * The C++ allocation operators, by their mangled names (Itanium C++ ABI), in C. The forms of
 * `new` that do not throw are in cxx_nothrow.c.
 *
 * A C program must not need the C++ runtime because of them, so everything of it is referred to
 * weakly: it is there whenever somebody calls `new`. When memory runs out, `new` calls the
 * handler of std::set_new_handler as long as there is one, then throws std::bad_alloc; both as the
 * standard says.
 */
#include "malloc/door.h"

#include <errno.h>

#define WEAK __attribute__((weak))

typedef void new_handler(void);
WEAK new_handler *_ZSt15get_new_handlerv(void); /* std::get_new_handler() */
WEAK void *__cxa_allocate_exception(size_t size);
WEAK void __cxa_throw(void *object, void *type, void (*destroy)(void *)) BERTH_NORETURN;
WEAK extern void *_ZTISt9bad_alloc[];        /* typeinfo for std::bad_alloc */
WEAK extern void *_ZTVSt9bad_alloc[];        /* vtable for std::bad_alloc */
WEAK void _ZNSt9bad_allocD1Ev(void *object); /* its destructor */

/* An object of std::bad_alloc is its vtable pointer alone, which points behind the table's
 * two-word header. */
static BERTH_NORETURN BERTH_COLD void throw_bad_alloc(void) {
    if (__cxa_allocate_exception == NULL || __cxa_throw == NULL || _ZTVSt9bad_alloc == NULL) {
        berth__fatal("operator new failed, and there is no C++ runtime to throw std::bad_alloc");
    }
    void ***object = __cxa_allocate_exception(sizeof(void *));
    *object = _ZTVSt9bad_alloc + 2;
    __cxa_throw(object, (void *)_ZTISt9bad_alloc, _ZNSt9bad_allocD1Ev);
}

/* A handler may throw: no lock is held here. */
BERTH_COLD void *berth__door_retry(size_t size, size_t alignment) {
    for (;;) {
        new_handler *handler = _ZSt15get_new_handlerv == NULL ? NULL : _ZSt15get_new_handlerv();
        if (handler == NULL) {
            return NULL;
        }
        handler();
        void *block = berth__door_serve(size, alignment, 0);
        if (block != NULL) {
            return block;
        }
    }
}

/* Where there was no memory at first. */
static BERTH_COLD void *new_again(size_t size, size_t alignment) {
    void *block = berth__door_retry(size, alignment);
    if (block == NULL) {
        throw_bad_alloc();
    }
    return block;
}

static BERTH_NOINLINE void *new_slow(size_t size) {
    void *block = berth__door_alloc_from(BERTH_FRAME, size);
    return BERTH_LIKELY(block != NULL) ? block : new_again(size, BERTH_GRANULE);
}

BERTH_INLINE void *new_or_throw(size_t size) {
    void *block = berth__door_pop(size);
    return BERTH_LIKELY(block != NULL) ? block : new_slow(size);
}

static BERTH_NOINLINE void *new_aligned_or_throw(size_t size, size_t alignment) {
    alignment = berth__max(alignment, BERTH_GRANULE);
    void *block = berth__door_aligned_from(BERTH_FRAME, size, alignment);
    return BERTH_LIKELY(block != NULL) ? block : new_again(size, alignment);
}

/* new, new[] */
BERTH_EXPORT void *_Znwm(size_t size) {
    return new_or_throw(size);
}
BERTH_EXPORT void *_Znam(size_t size) {
    return new_or_throw(size);
}
/* new(std::align_val_t), new[](std::align_val_t) */
BERTH_EXPORT void *_ZnwmSt11align_val_t(size_t size, size_t alignment) {
    return new_aligned_or_throw(size, alignment);
}
BERTH_EXPORT void *_ZnamSt11align_val_t(size_t size, size_t alignment) {
    return new_aligned_or_throw(size, alignment);
}

/* delete, delete[]: plain, nothrow, sized, aligned, and combinations */
BERTH_EXPORT void _ZdlPv(void *block) {
    berth__door_free(block);
}
BERTH_EXPORT void _ZdaPv(void *block) {
    berth__door_free(block);
}
BERTH_EXPORT void _ZdlPvRKSt9nothrow_t(void *block, const void *tag) {
    (void)tag;
    berth__door_free(block);
}
BERTH_EXPORT void _ZdaPvRKSt9nothrow_t(void *block, const void *tag) {
    (void)tag;
    berth__door_free(block);
}
BERTH_EXPORT void _ZdlPvm(void *block, size_t size) {
    berth__door_free_sized(block, size);
}
BERTH_EXPORT void _ZdaPvm(void *block, size_t size) {
    berth__door_free_sized(block, size);
}
BERTH_EXPORT void _ZdlPvSt11align_val_t(void *block, size_t alignment) {
    (void)alignment;
    berth__door_free(block);
}
BERTH_EXPORT void _ZdaPvSt11align_val_t(void *block, size_t alignment) {
    (void)alignment;
    berth__door_free(block);
}
BERTH_EXPORT void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment,
                                                      const void *tag) {
    (void)alignment, (void)tag;
    berth__door_free(block);
}
BERTH_EXPORT void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment,
                                                      const void *tag) {
    (void)alignment, (void)tag;
    berth__door_free(block);
}
BERTH_EXPORT void _ZdlPvmSt11align_val_t(void *block, size_t size, size_t alignment) {
    (void)alignment;
    berth__door_free_sized(block, size);
}
BERTH_EXPORT void _ZdaPvmSt11align_val_t(void *block, size_t size, size_t alignment) {
    (void)alignment;
    berth__door_free_sized(block, size);
}
