/*
 * What the compiler can do for us, under one name each.
 *
 * Attributes and hints only: no function, no state. Every feature macro here is always defined, to
 * 0 or 1, so that a misspelt one is an error under -Wundef instead of a silent 0.
 */
#ifndef BERTH_BASE_COMPILER_H
#define BERTH_BASE_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef BERTH_DEBUG
#define BERTH_DEBUG 0 /* 1: assertions, lock ranks and structure audits */
#endif
#ifndef BERTH_FAULTS
#define BERTH_FAULTS                                                                               \
    0 /* 1: system calls can be made to fail, and protocol steps delayed (tests)                   \
       */
#endif
#ifndef BERTH_HARDENED
#define BERTH_HARDENED 0 /* 1: every free is checked at once (chunk/handed.h) */
#endif

#ifndef BERTH_VALGRIND
#define BERTH_VALGRIND 0 /* 1: valgrind is told what is free */
#endif

#if defined(__SANITIZE_ADDRESS__)
#define BERTH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BERTH_ASAN 1
#endif
#endif
#ifndef BERTH_ASAN
#define BERTH_ASAN 0
#endif

#define BERTH_LIKELY(x) __builtin_expect(!!(x), 1)
#define BERTH_UNLIKELY(x) __builtin_expect(!!(x), 0)

#define BERTH_EXPORT __attribute__((visibility("default")))
#define BERTH_NOINLINE __attribute__((noinline))
#define BERTH_INLINE static inline __attribute__((always_inline))
#define BERTH_COLD __attribute__((noinline, cold))
#define BERTH_NORETURN __attribute__((noreturn))
#define BERTH_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define BERTH_MUST_USE __attribute__((warn_unused_result))
#define BERTH_NO_ASAN __attribute__((no_sanitize_address))

/* Two lines, because adjacent-line prefetchers pull them in pairs. */
#define BERTH_CACHE_LINE 64
#define BERTH_LINE_ALIGNED __attribute__((aligned(64)))

#define BERTH_ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define BERTH_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Clang's thread-safety analysis; other compilers see nothing. */
#if defined(__clang__)
#define BERTH_TSA(x) __attribute__((x))
#else
#define BERTH_TSA(x)
#endif
#define BERTH_CAPABILITY(name) BERTH_TSA(capability(name))
/* For the reader alone: the analysis knows a lock by the path that leads to it, and loses it when a
 * list is handed to a helper. BERTH_REQUIRES on the functions is what it checks. */
#define BERTH_GUARDED_BY(lock)
#define BERTH_ACQUIRES(...) BERTH_TSA(acquire_capability(__VA_ARGS__))
#define BERTH_TRY_ACQUIRES(...) BERTH_TSA(try_acquire_capability(true, __VA_ARGS__))
#define BERTH_RELEASES(...) BERTH_TSA(release_capability(__VA_ARGS__))
#define BERTH_REQUIRES(...) BERTH_TSA(requires_capability(__VA_ARGS__))
#define BERTH_EXCLUDES(...) BERTH_TSA(locks_excluded(__VA_ARGS__))
#define BERTH_NO_TSA BERTH_TSA(no_thread_safety_analysis)

#endif
