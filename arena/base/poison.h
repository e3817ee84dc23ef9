/*
 * Telling AddressSanitizer and valgrind which memory a program may touch.
 *
 * In ordinary builds these are nothing. Memory is poisoned as a chunk gets it, and blocks while
 * they are free or cached, so that in a test a use after free, or behind a block's end where no
 * other block is, is reported where it happens. Under valgrind (builds with BERTH_VALGRIND; a few
 * instructions where the program runs by itself) all of a lent block counts as written: the engine
 * knows what is lent, not what is in it.
 */
#ifndef BERTH_BASE_POISON_H
#define BERTH_BASE_POISON_H

#include "base/compiler.h"

#if BERTH_ASAN
#include <sanitizer/asan_interface.h>
BERTH_INLINE void berth__poison(const void *at, size_t bytes) {
    __asan_poison_memory_region(at, bytes);
}
BERTH_INLINE void berth__unpoison(const void *at, size_t bytes) {
    __asan_unpoison_memory_region(at, bytes);
}
#elif BERTH_VALGRIND
#include <valgrind/memcheck.h>
BERTH_INLINE void berth__poison(const void *at, size_t bytes) {
    (void)VALGRIND_MAKE_MEM_NOACCESS(at, bytes);
}
BERTH_INLINE void berth__unpoison(const void *at, size_t bytes) {
    (void)VALGRIND_MAKE_MEM_DEFINED(at, bytes);
}
#else
BERTH_INLINE void berth__poison(const void *at, size_t bytes) {
    (void)at, (void)bytes;
}
BERTH_INLINE void berth__unpoison(const void *at, size_t bytes) {
    (void)at, (void)bytes;
}
#endif

#endif
