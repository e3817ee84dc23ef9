/*
 * memcpy and memmove that count. An executable's own come before those of libc for all libraries
 * that it is linked with.
 */
#include "adapt.h"

_Atomic uint64_t adapt_copied_bytes;

#if !UNIT_SANITIZED
enum { PAYLOAD_MIN = 256 };

static void count(size_t bytes) {
    if (bytes >= PAYLOAD_MIN) {
        atomic_fetch_add_explicit(&adapt_copied_bytes, bytes, memory_order_relaxed);
    }
}

__attribute__((visibility("default"))) void *memcpy(void *restrict to, const void *restrict from,
                                                    size_t bytes) {
    unsigned char *at = to;
    const unsigned char *source = from;
    count(bytes);
    for (size_t i = 0; i < bytes; i++) {
        at[i] = source[i];
    }
    return to;
}

__attribute__((visibility("default"))) void *memmove(void *to, const void *from, size_t bytes) {
    unsigned char *at = to;
    const unsigned char *source = from;
    count(bytes);
    if ((uintptr_t)to - (uintptr_t)from >= bytes) {
        for (size_t i = 0; i < bytes; i++) {
            at[i] = source[i];
        }
        return to;
    }
    for (size_t i = bytes; i-- > 0;) {
        at[i] = source[i];
    }
    return to;
}
#endif
