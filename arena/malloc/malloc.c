/*
 * The malloc door: the C allocation functions over the default pool.
 *
 * Their behaviour at the edges is glibc's: a size of 0 gives a block, realloc to 0 frees, memalign
 * rounds an odd alignment up, sizes above PTRDIFF_MAX fail with ENOMEM, free keeps errno.
 */
#include "malloc/door.h"

#include "heap/misuse.h"
#include "heap/stash.h"
#include "pool/api.h"
#include "size/color.h"

#include <errno.h>
#include <string.h>

/* So that a static program takes along what works at load time and at exit, not malloc alone: the
 * public calls, unless libberth has brought them, and the table by which that finds this engine. */
__attribute__((used)) static const struct berth__engine_table *const engines[] = {
    &berth_engine, &berth_door_engine};

void *berth__door_serve_from(const void *frame, size_t size, size_t alignment,
                             unsigned request_flags) {
    void *block = NULL;
    if (berth__start()) {
        struct berth__request request = {.arenas = berth__malloc_arenas(),
                                         .size = size,
                                         .alignment = alignment,
                                         .flags = request_flags | BERTH_REQUEST_MALLOC,
                                         .frame = frame};
        block = berth__request_serve(&request);
    }
    if (block == NULL) {
        errno = ENOMEM;
    }
    return block;
}

void *berth__door_serve(size_t size, size_t alignment, unsigned request_flags) {
    return berth__door_serve_from(BERTH_FRAME, size, alignment, request_flags);
}

/* A stashed block, where it begins for who asks for so many bytes; or NULL. */
BERTH_INLINE void *pop_large(size_t size) {
    void *block = berth__stash_pop(berth__tls.cache, size);
    return BERTH_LIKELY(block != NULL)
               ? berth__colored(block, berth__normal_bytes[berth__normal_class(size)], size)
               : NULL;
}

void *berth__door_alloc_from(const void *frame, size_t size) {
    void *block = size > BERTH_SMALL_MAX ? pop_large(size) : NULL;
    return block != NULL ? block : berth__door_serve_from(frame, size, BERTH_GRANULE, 0);
}

void *berth__door_aligned_from(const void *frame, size_t size, size_t alignment) {
    if (alignment <= BERTH_GRANULE) {
        void *block = berth__door_pop(size);
        return BERTH_LIKELY(block != NULL) ? block : berth__door_alloc_from(frame, size);
    }
    unsigned small_class = berth__class_of_aligned(size, alignment);
    void *block = small_class < BERTH_SMALL_CLASS_COUNT
                      ? berth__cache_pop(berth__tls.cache, berth__classes[small_class].size)
                      : NULL;
    return BERTH_LIKELY(block != NULL) ? block : berth__door_serve_from(frame, size, alignment, 0);
}

void *berth__door_serve_large(size_t size) {
    void *block = pop_large(size);
    return BERTH_LIKELY(block != NULL) ? block : berth__door_serve(size, BERTH_GRANULE, 0);
}

void berth__door_free_sized_slow(void *block, size_t size) {
    if (block != NULL && size > berth__block_size(block)) {
        berth__misuse("free with a size beyond the block's", block);
    }
    berth__block_free(block);
}

BERTH_EXPORT void *malloc(size_t size) {
    return berth__door_alloc(size);
}

BERTH_EXPORT void free(void *block) {
    berth__door_free(block);
}

BERTH_EXPORT void *calloc(size_t count, size_t size) {
    size_t bytes;
    if (BERTH_UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) {
        errno = ENOMEM;
        return NULL;
    }
    if (BERTH_LIKELY(bytes <= BERTH_SMALL_MAX)) {
        void *block = berth__cache_pop(berth__tls.cache, bytes);
        if (BERTH_LIKELY(block != NULL)) {
            return memset(block, 0, bytes);
        }
    }
    return berth__door_serve(bytes, BERTH_GRANULE, BERTH_REQUEST_ZERO);
}

/* Not inlined: valgrind replaces it, but not every version of it reallocarray, which must not then
 * return a block of ours. */
BERTH_EXPORT BERTH_NOINLINE void *realloc(void *block, size_t size) {
    if (block == NULL) {
        return berth__door_alloc(size);
    }
    if (size == 0) {
        berth__door_free(block);
        return NULL;
    }
    struct berth__request request = {.arenas = berth__block_arenas(block),
                                     .size = size,
                                     .alignment = BERTH_GRANULE,
                                     .flags = BERTH_REQUEST_MALLOC,
                                     .frame = BERTH_FRAME};
    void *moved = berth__block_realloc(block, &request);
    if (moved == NULL) {
        errno = ENOMEM;
    }
    return moved;
}

BERTH_EXPORT void *reallocarray(void *block, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, bytes);
}

BERTH_INLINE void *aligned(size_t alignment, size_t size) {
    return berth__door_aligned_from(BERTH_FRAME, size, alignment);
}

BERTH_EXPORT int posix_memalign(void **block, size_t alignment, size_t size) {
    if (!berth__is_power_of_2(alignment) || alignment % sizeof(void *) != 0) {
        return EINVAL;
    }
    int saved_errno = errno;
    void *allocated = aligned(alignment, size);
    if (allocated == NULL) {
        return ENOMEM; /* errno says so as well, as with glibc: some programs look there */
    }
    errno = saved_errno;
    *block = allocated;
    return 0;
}

BERTH_EXPORT void *aligned_alloc(size_t alignment, size_t size) {
    if (!berth__is_power_of_2(alignment)) {
        errno = EINVAL;
        return NULL;
    }
    return aligned(alignment, size);
}

BERTH_EXPORT void *memalign(size_t alignment, size_t size) {
    if (alignment > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t power = BERTH_GRANULE;
    while (power < alignment) {
        power *= 2;
    }
    return aligned(power, size);
}

BERTH_EXPORT void *valloc(size_t size) {
    (void)berth__start();
    return aligned(berth__page_bytes, size);
}

BERTH_EXPORT void *pvalloc(size_t size) {
    (void)berth__start();
    if (size > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    return aligned(berth__page_bytes, berth__round_up(size, berth__page_bytes));
}

BERTH_EXPORT size_t malloc_usable_size(void *block) {
    return block == NULL ? 0 : berth__block_size(block);
}

BERTH_EXPORT void cfree(void *block) {
    berth__door_free(block);
}

BERTH_EXPORT void free_sized(void *block, size_t size) {
    berth__door_free_sized(block, size);
}

BERTH_EXPORT void free_aligned_sized(void *block, size_t alignment, size_t size) {
    bool possible = berth__is_power_of_2(alignment) && (uintptr_t)block % alignment == 0;
    if (BERTH_UNLIKELY(block != NULL && !possible)) {
        berth__misuse("free with an alignment that is not the block's", block);
    }
    berth__door_free_sized(block, size);
}

/* The names by which glibc itself, and programs linked to it statically, reach the same. */
#define ALIAS(of) __attribute__((alias(#of))) BERTH_EXPORT
ALIAS(malloc) void *__libc_malloc(size_t size);
ALIAS(free) void __libc_free(void *block);
ALIAS(calloc) void *__libc_calloc(size_t count, size_t size);
ALIAS(realloc) void *__libc_realloc(void *block, size_t size);
ALIAS(memalign) void *__libc_memalign(size_t alignment, size_t size);
ALIAS(valloc) void *__libc_valloc(size_t size);
ALIAS(pvalloc) void *__libc_pvalloc(size_t size);
ALIAS(posix_memalign) int __posix_memalign(void **block, size_t alignment, size_t size);
