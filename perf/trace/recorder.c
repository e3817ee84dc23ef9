/*
 * The recorder: preloaded into a program, it passes every allocation call on to the allocator that
 * the program would have had, and writes down what was asked and what came of it.
 *
 *     BERTH_TRACE=/tmp/name LD_PRELOAD=recorder.so COMMAND     writes /tmp/name.PID.N.raw
 *
 * BERTH_TRACE_MIB bounds the file. A process that allocates from something inside its own program
 * file is not seen, nor are calls beyond the C library's, such as jemalloc's mallocx.
 *
 * The operators of C++ reach malloc through the C++ library.
 */
#include "log.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef void *start_function(void *);

static struct {
    void *(*malloc)(size_t);
    void (*free)(void *);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    int (*pthread_create)(pthread_t *, const pthread_attr_t *, start_function *, void *);
} real;

/* ---- calls that come while the real functions are looked up: dlsym may allocate ---- */

enum { EARLY_BYTES = 32 * 1024, EARLY_ALIGNMENT = 16 };

static _Alignas(EARLY_ALIGNMENT) char early[EARLY_BYTES];
static size_t early_used;
static bool resolving;
static bool resolved;

/* Zeroed, never given back. */
static void *early_alloc(size_t size) {
    size_t bytes = (size + EARLY_ALIGNMENT - 1) & ~(size_t)(EARLY_ALIGNMENT - 1);
    if (bytes < size || bytes > EARLY_BYTES - early_used)
        return NULL;
    void *block = early + early_used;
    early_used += bytes;
    return block;
}

static bool is_early(const void *block) {
    return (const char *)block >= early && (const char *)block < early + EARLY_BYTES;
}

static void find(void *function, const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(function, &found, sizeof found);
}

/* False while a look-up is under way. */
static bool resolve(void) {
    if (resolved)
        return true;
    if (resolving)
        return false;
    resolving = true;
    find(&real.free, "free");
    find(&real.calloc, "calloc");
    find(&real.realloc, "realloc");
    find(&real.memalign, "memalign");
    find(&real.aligned_alloc, "aligned_alloc");
    find(&real.posix_memalign, "posix_memalign");
    find(&real.valloc, "valloc");
    find(&real.pvalloc, "pvalloc");
    find(&real.pthread_create, "pthread_create");
    find(&real.malloc, "malloc");
    resolving = false;
    resolved = true;
    return true;
}

__attribute__((constructor)) static void begin(void) {
    resolve();
}

/* ---- the family ---- */

static unsigned log2_of(size_t alignment) {
    return alignment ? (unsigned)__builtin_ctzl(alignment) : 0;
}

static void *noted(enum raw_op op, void *block, size_t size, unsigned align_log2) {
    if (block)
        log_write(op, block, size, align_log2);
    return block;
}

EXPORT void *malloc(size_t size) {
    if (!resolve())
        return early_alloc(size);
    return noted(RAW_MALLOC, real.malloc(size), size, 0);
}

EXPORT void free(void *block) {
    if (!block || is_early(block))
        return;
    log_write(RAW_FREE, block, 0, 0);
    real.free(block);
}

EXPORT void free_sized(void *block, size_t size);
EXPORT void free_sized(void *block, size_t size) {
    (void)size;
    free(block);
}

EXPORT void free_aligned_sized(void *block, size_t alignment, size_t size);
EXPORT void free_aligned_sized(void *block, size_t alignment, size_t size) {
    (void)alignment;
    (void)size;
    free(block);
}

EXPORT void *calloc(size_t count, size_t size) {
    size_t bytes;
    if (!resolve())
        return __builtin_mul_overflow(count, size, &bytes) ? NULL : early_alloc(bytes);
    return noted(RAW_CALLOC, real.calloc(count, size), count * size, 0);
}

/* An early block is copied whole or up to the buffer's end: its size is not known. */
static void *early_realloc(const void *block, size_t size) {
    void *copy = malloc(size);
    size_t most = (size_t)(early + EARLY_BYTES - (const char *)block);
    if (copy)
        memmove(copy, block, size < most ? size : most);
    return copy;
}

EXPORT void *realloc(void *block, size_t size) {
    if (!block)
        return malloc(size);
    if (is_early(block))
        return early_realloc(block, size);
    log_write(RAW_REALLOC_FROM, block, size, 0);
    void *moved = real.realloc(block, size);
    log_write(RAW_REALLOC_TO, moved, size, 0);
    return moved;
}

EXPORT void *reallocarray(void *block, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, bytes);
}

EXPORT void *memalign(size_t alignment, size_t size) {
    resolve();
    return noted(RAW_ALIGNED, real.memalign(alignment, size), size, log2_of(alignment));
}

EXPORT void *aligned_alloc(size_t alignment, size_t size) {
    resolve();
    return noted(RAW_ALIGNED, real.aligned_alloc(alignment, size), size, log2_of(alignment));
}

EXPORT int posix_memalign(void **block, size_t alignment, size_t size) {
    resolve();
    int error = real.posix_memalign(block, alignment, size);
    if (!error)
        noted(RAW_ALIGNED, *block, size, log2_of(alignment));
    return error;
}

EXPORT void *valloc(size_t size) {
    resolve();
    return noted(RAW_ALIGNED, real.valloc(size), size, log2_of((size_t)getpagesize()));
}

EXPORT void *pvalloc(size_t size) {
    resolve();
    return noted(RAW_ALIGNED, real.pvalloc(size), size, log2_of((size_t)getpagesize()));
}

/* ---- threads ---- */

static void thread_end(void *unused) {
    (void)unused;
    log_write(RAW_END, NULL, 0, 0);
}

/* Ends by returning, by pthread_exit or by being cancelled. */
static void *thread_main(void *argument) {
    struct raw_chunk *chunk = argument;
    start_function *start = chunk->start;
    void *result;
    log_thread_begin(chunk);
    pthread_cleanup_push(thread_end, NULL);
    result = start(chunk->argument);
    pthread_cleanup_pop(1);
    return result;
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          start_function *start, void *argument) {
    resolve();
    struct raw_record *spawn = NULL;
    struct raw_chunk *chunk = log_thread_new(start, argument, &spawn);
    if (!chunk)
        return real.pthread_create(thread, attributes, start, argument);
    log_hide();
    int error = real.pthread_create(thread, attributes, thread_main, chunk);
    log_show();
    if (error && spawn)
        spawn->op = RAW_VOID;
    return error;
}
